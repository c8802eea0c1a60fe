"""Eigenstrain, stress-free shape and initial stress."""

from __future__ import annotations

import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx.fem import petsc
from plane_problems import assert_matrix_is_the_slope, isotropic, square

from constitutive.laws.neo_hooke import NeoHookeanLaw
from crystals import mandel
from crystals.rotations import rotation_about
from fem import EquilibriumProblem, QuadratureMaterial
from fem.dolfinx_versions import compile_form
from fem.residual import tangent_form

TURN = rotation_about([1.0, 2.0, -0.5], 0.7)
#: not symmetric: a growth with rotation
GROWN = np.eye(3) + np.array([[0.08, 0.03, 0.0], [-0.01, -0.05, 0.02], [0.04, 0.0, 0.06]])


def held(u):
    """No rigid motion, no constraint: displacements of three corners along six components, at the body's own place."""
    space = u.function_space
    bcs = []
    for corner, components in (((0, 0, 0), (0, 1, 2)), ((1, 0, 0), (1, 2)), ((0, 1, 0), (2,))):
        for k in components:
            sub, _ = space.sub(k).collapse()
            dofs = dfem.locate_dofs_geometrical(
                (space.sub(k), sub), lambda x, corner=corner: np.all(np.isclose(x.T, corner), axis=1)
            )
            bcs.append(dfem.dirichletbc(dfem.Function(sub), dofs, space.sub(k)))
    return bcs


@pytest.mark.parametrize("kinematics", ["finite", "small"])
def test_a_free_body_takes_its_stress_free_shape(cube, cubic_law, kinematics):
    u, _, _ = cube()
    law = cubic_law(strain_measure={"finite": "green_lagrange", "small": "small"}[kinematics])
    shape = GROWN if kinematics == "finite" else 0.5 * (GROWN + GROWN.T) - np.eye(3)
    share = dfem.Constant(u.function_space.mesh, 0.0)
    grown = ufl.as_tensor((shape - np.eye(3) * (kinematics == "finite")).tolist())
    rest = ufl.Identity(3) if kinematics == "finite" else 0 * ufl.Identity(3)
    material = QuadratureMaterial(law, u, kinematics=kinematics, orientation=TURN, stress_free=rest + share * grown)
    v = ufl.TestFunction(u.function_space)
    problem = EquilibriumProblem(material.virtual_work(v), u, [material], bcs=held(u))
    list(problem.steps(share, [0.5, 1.0], progress=False))
    expected = mandel.green_lagrange(GROWN) if kinematics == "finite" else mandel.to_mandel(shape)
    np.testing.assert_allclose(material.strain_sample, [expected] * len(material.strain), atol=1e-10)
    np.testing.assert_allclose(material.strain, 0.0, atol=1e-10)
    assert np.abs(material.second_piola).max() < 1e-8


def test_a_clamped_body_presses(cube, cubic_law):
    """u = 0: σ = −C ε_θ at small strain, and its initial stress adds."""
    u, _, _ = cube()
    law = cubic_law(strain_measure="small")
    eigen, initial = np.diag([0.01, 0.0, -0.02]), np.array([[0.0, 0.2, 0.0], [0.2, 1.0, 0.0], [0.0, 0.0, 0.0]])
    material = QuadratureMaterial(law, u, kinematics="small", stress_free=eigen, initial_stress=initial)
    stress = law.response(-mandel.to_mandel(eigen)[None]).stress[0] + mandel.to_mandel(initial)
    np.testing.assert_allclose(material.second_piola, [stress] * len(material.strain), atol=1e-12)


def test_finite_shape_is_the_law_of_the_elastic_part(cube):
    """S = J_θ F_θ⁻¹ S_e F_θ⁻ᵀ with S_e at F F_θ⁻¹; the tangent is its derivative."""
    u, _, _ = cube()
    u.x.array[:] = 0.05 * np.random.default_rng(0).standard_normal(len(u.x.array))
    law = NeoHookeanLaw(40.0, 60.0)
    material = QuadratureMaterial(law, u, stress_free=GROWN)
    total, inverse = material.deformation_gradient(), np.linalg.inv(GROWN)
    elastic = law.response(mandel.green_lagrange(total @ inverse))
    pulled = np.linalg.det(GROWN) * inverse @ mandel.from_mandel(elastic.stress) @ inverse.T
    np.testing.assert_allclose(mandel.from_mandel(material.second_piola), pulled, atol=1e-11)
    np.testing.assert_allclose(material.energy, np.linalg.det(GROWN) * elastic.energy, rtol=1e-11)
    residual = material.virtual_work(ufl.TestFunction(u.function_space))
    matrix = petsc.assemble_matrix(compile_form(tangent_form(residual, u, [material])))
    matrix.assemble()
    assert_matrix_is_the_slope(material, u, residual, matrix)


def test_plane_stress_with_both():
    """A clamped sheet with isotropic eigenstrain: σ11 = σ22 = −E ε/(1 − ν); initial stress through the thickness is
    taken up by the thickness."""
    u = square(2)
    law = isotropic(200.0, 0.3)
    options = {"kinematics": "small", "section": "plane_stress"}
    material = QuadratureMaterial(law, u, stress_free=0.001 * np.eye(3), **options)
    np.testing.assert_allclose(material.second_piola[:, :2], -200.0 * 0.001 / 0.7, rtol=1e-12)
    thickness = (1 + 2 * 0.3 / 0.7) * 0.001
    np.testing.assert_allclose(material.strain_sample[:, 2], thickness, rtol=1e-10)
    pressed = QuadratureMaterial(law, u, initial_stress=np.diag([0.0, 0.0, 1.0]), **options)
    np.testing.assert_allclose(pressed.second_piola[:, 2:5], -0.0, atol=1e-12)
    np.testing.assert_allclose(pressed.second_piola[:, 0], -1.0 * 0.3 / 0.7, rtol=1e-10)


def test_errors(cube, cubic_law):
    u, _, _ = cube(shape=(1, 1, 1))
    law = cubic_law()
    with pytest.raises(ValueError, match=r"expected a tensor of shape \(3, 3\), got \(6,\)"):
        QuadratureMaterial(law, u, stress_free=np.zeros(6))
    with pytest.raises(ValueError, match="expected deformation gradients with det F > 0, got 0"):
        QuadratureMaterial(law, u, stress_free=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="do not depend|does not depend on the displacement"):
        QuadratureMaterial(law, u, stress_free=ufl.Identity(3) + ufl.grad(u))
    with pytest.raises(ValueError, match="expected finite values"):
        QuadratureMaterial(law, u, initial_stress=np.full((3, 3), np.nan))
