"""Mean dilatation (F-bar): consistent symmetric tangent, patch test, and no locking where the plain element locks."""

from __future__ import annotations

import numpy as np
import pytest
import ufl
from dolfinx.fem import petsc
from plane_problems import cook_problem, everywhere, isotropic, square

from constitutive import PolynomialLaw
from constitutive.laws.neo_hooke import NeoHookeanLaw
from crystals import PointGroup
from crystals.rotations import rotation_about
from fem import EquilibriumProblem, QuadratureMaterial
from fem.dolfinx_versions import compile_form

TURN = rotation_about([1.0, 2.0, -0.5], 0.7)


def nearly_incompressible(measure, ratio=1e3):
    """A cubic law with K/G = `ratio`, and C44 twice the other shear modulus."""
    shear, bulk = 1.0, ratio
    stiffness = np.diag([2 * shear] * 3 + [4 * shear] * 3)
    stiffness[:3, :3] += bulk - 2 / 3 * shear
    return PolynomialLaw(PointGroup("m-3m"), 2, stiffness, strain_measure=measure)


@pytest.mark.parametrize(
    ("section", "kinematics"),
    [("solid", "finite"), ("solid", "small"), ("plane_strain", "finite"), ("axisymmetric", "small")],
)
def test_tangent(cube, cubic_law, section, kinematics):
    """The condensed tangent is the derivative of the residual, and symmetric; without its products it is not."""
    u = cube(shape=(2, 1, 1))[0] if section == "solid" else square(2)
    u.x.array[:] = 0.03 * np.random.default_rng(0).standard_normal(len(u.x.array))
    if section == "axisymmetric":
        law, turn = isotropic(200.0, 0.3), None
    else:
        law, turn = cubic_law(strain_measure={"finite": "green_lagrange", "small": "small"}[kinematics]), TURN
    options = {} if section == "solid" else {"section": section}
    material = QuadratureMaterial(law, u, kinematics=kinematics, orientation=turn, mean_dilatation=True, **options)
    residual = 1.5 * material.virtual_work(ufl.TestFunction(u.function_space))
    problem = EquilibriumProblem(residual, u, [material])
    compiled = compile_form(residual)
    direction, start = np.random.default_rng(1).standard_normal(len(u.x.array)), u.x.array.copy()
    problem._update(tangent=True)
    problem._assemble_matrix()
    matrix = problem._matrix
    vector = matrix.createVecRight()
    vector.array[:] = direction
    action = (matrix * vector).array.copy()
    assert matrix.isSymmetric(1e-10 * np.abs(action).max())
    plain = petsc.assemble_matrix(problem._jacobian_form)
    plain.assemble()
    without = (plain * vector).array.copy()

    def at(step):
        u.x.array[:] = start + step * direction
        assert material.update(tangent=False)
        return petsc.assemble_vector(compiled).array.copy()

    difference = (at(1e-6) - at(-1e-6)) / 2e-6
    scale = np.abs(difference).max()
    assert np.abs(action - difference).max() < 1e-8 * scale
    assert np.abs(without - difference).max() > 1e-2 * scale


@pytest.mark.parametrize("kinematics", ["finite", "small"])
def test_patch(cubic_law, kinematics):
    u = square(3)
    gradient = 0.04 * np.random.default_rng(0).standard_normal((2, 2))
    value, bc = everywhere(u, lambda x: gradient @ x[:2])
    law = cubic_law(strain_measure={"finite": "green_lagrange", "small": "small"}[kinematics])
    options = {"kinematics": kinematics, "section": "plane_strain", "orientation": TURN}
    stresses = []
    for mean in (True, False):
        material = QuadratureMaterial(law, u, mean_dilatation=mean, **options)
        u.x.array[:] = 0.0
        v = ufl.TestFunction(u.function_space)
        solution = EquilibriumProblem(material.virtual_work(v), u, [material], bcs=[bc]).solve()
        assert solution.iterations <= 5
        np.testing.assert_allclose(u.x.array, value.x.array, atol=1e-12)
        stresses.append(material.cauchy())
    np.testing.assert_allclose(stresses[0], stresses[1], atol=1e-10)


@pytest.mark.parametrize("kinematics", ["finite", "small"])
def test_cook_membrane_of_a_nearly_incompressible_crystal(kinematics):
    """Coarse bilinear cells with mean dilatation come within 3 % of fine biquadratic ones; without, they lock."""
    measure = {"finite": "green_lagrange", "small": "small"}[kinematics]
    law = nearly_incompressible(measure)
    options = {"kinematics": kinematics, "section": "plane_strain", "orientation": rotation_about([0, 0, 1.0], 0.5)}
    tips = {}
    for name, n, degree, mean in (("fine", 16, 2, False), ("mean", 16, 1, True), ("plain", 16, 1, False)):
        problem, load, tip = cook_problem(law, n, degree, 1.0, mean_dilatation=mean, **options)
        target = float(load.value)
        load.value = 0.0
        list(problem.steps(load, [target], progress=False))
        tips[name] = tip()
    assert tips["fine"] > 1.0
    assert tips["mean"] == pytest.approx(tips["fine"], rel=0.03)
    assert tips["plain"] < 0.7 * tips["fine"]


def test_pressure_of_neo_hooke_is_the_mean(cube):
    """The law sees F̄: its J is the same at all points of a cell, and cauchy() is that of F̄."""
    u, _, _ = cube(shape=(1, 1, 1))
    u.x.array[:] = 0.05 * np.random.default_rng(0).standard_normal(len(u.x.array))
    material = QuadratureMaterial(NeoHookeanLaw(1.0, 1000.0), u, mean_dilatation=True)
    jacobian = np.linalg.det(material.deformation_gradient())
    np.testing.assert_allclose(jacobian, jacobian[0], rtol=1e-13)
    plain = QuadratureMaterial(NeoHookeanLaw(1.0, 1000.0), u)
    varying = np.linalg.det(plain.deformation_gradient())
    assert np.ptp(varying) > 1e-3
    assert jacobian[0] == pytest.approx(varying @ plain.volumes() / plain.volumes().sum(), rel=1e-13)
    with pytest.raises(ValueError, match="neither mean_dilatation nor"):
        QuadratureMaterial(
            isotropic(1.0, 0.3), square(2), section="plane_stress", kinematics="small", mean_dilatation=True
        )
