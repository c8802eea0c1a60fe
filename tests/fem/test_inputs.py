"""Laws with inputs in boundary-value problems: free expansion, clamped bar, fields of temperature, ranges."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
import ufl
from dolfinx import fem as dfem
from petsc4py import PETSc

from constitutive import INVALID, OUT_OF_RANGE, ParametricLaw
from crystals import PointGroup
from crystals.rotations import random_rotations, rotate_vector, rotation_about
from fem import EquilibriumProblem, OutOfRange, QuadratureMaterial
from fem.dolfinx_versions import compile_form, lagrange_space

TURN = rotation_about([1.0, 2.0, -0.5], 0.7)


def cubic_stiffness() -> np.ndarray:
    stiffness = np.diag([57.0] * 3 + [180.0] * 3)
    stiffness[:3, :3] += 115.0
    return stiffness


def aluminium_like(reference: float = 300.0) -> ParametricLaw:
    return ParametricLaw.thermoelastic(
        "m-3m", cubic_stiffness(), 2e-5, reference=reference, input_range=(100.0, 800.0)
    )  # fmt: skip


def quartz_like() -> ParametricLaw:
    """Trigonal, turned frame, two different expansions, nonlinear in strain and temperature."""
    group = PointGroup("-3m", random_rotations(1, np.random.default_rng(5))[0])
    law = ParametricLaw(group, ("temperature",), [(100.0, 800.0)], order=3, degree=2)
    generator = np.random.default_rng(1)
    law.log_stiffness.copy_(0.05 * torch.from_numpy(generator.normal(size=law.log_stiffness.shape)))
    for k, matrix in enumerate(law.basis):
        law.log_stiffness[0, k] += np.log(80.0) * torch.trace(matrix)
    law.stretch[1] = torch.tensor([0.006, -0.004], dtype=torch.float64)
    law.stretch[2] = torch.tensor([0.001, 0.002], dtype=torch.float64)
    law.coefficients.copy_(50.0 * torch.from_numpy(generator.normal(size=law.coefficients.shape)))
    return law.referred_to(300.0)


def held_free(u):
    """No rigid motion: three corners of the unit cube, six components."""
    space = u.function_space
    bcs = []
    for corner, components in (((0, 0, 0), (0, 1, 2)), ((1, 0, 0), (1, 2)), ((0, 1, 0), (2,))):
        for component in components:
            dofs = dfem.locate_dofs_geometrical(
                (space.sub(component), space.sub(component).collapse()[0]),
                lambda x, corner=corner: np.isclose(x.T, corner).all(axis=1),
            )
            zero = dfem.Function(space.sub(component).collapse()[0])
            bcs.append(dfem.dirichletbc(zero, dofs, space.sub(component)))
    return bcs


@pytest.mark.parametrize(
    ("law", "orientation"), [(aluminium_like(), None), (quartz_like(), TURN)], ids=["cubic", "-3m"]
)
def test_free_expansion_has_no_stress_and_a_linear_displacement(cube, law, orientation):
    u, _, _ = cube(shape=(2, 2, 1))
    temperature = dfem.Constant(u.function_space.mesh, PETSc.ScalarType(300.0))
    material = QuadratureMaterial(law, u, orientation=orientation, inputs=temperature)
    assert np.all(material.second_piola == 0.0)
    problem = EquilibriumProblem(
        material.virtual_work(ufl.TestFunction(u.function_space)), u, [material], bcs=held_free(u),
        petsc_options={"snes_rtol": 1e-14, "snes_atol": 1e-15},
    )  # fmt: skip
    temperature.value = 700.0
    hot = float(np.abs(law.response(np.zeros((1, 6)), inputs=700.0).stress).max())
    problem.solve()
    material.update()
    # relative to the stress that the clamped body would have
    assert np.abs(material.second_piola).max() <= 1e-10 * hot
    free = law.free_strain(700.0)
    free = free if orientation is None else rotate_vector(orientation, free)
    np.testing.assert_allclose(material.strain_sample, np.tile(free, (len(material.strain), 1)), atol=1e-13)
    assert np.linalg.norm(free) > 1e-3
    gradients = material.deformation_gradient()
    assert np.abs(gradients - gradients[0]).max() < 1e-12  # u is linear in x
    # negative control: a body held at its start is under stress
    u.x.array[:] = 0.0
    material.update()
    assert np.abs(material.second_piola).max() > 0.5 * hot


def test_clamped_bar(cube):
    """A bar held along x and free across: S₁₁ is that of the law with E₁₁ = 0, and −E α Δθ for small Δθ."""
    law = aluminium_like()
    u, left, right = cube(shape=(3, 1, 1), size=(3.0, 1.0, 1.0))
    space = u.function_space
    temperature = dfem.Constant(space.mesh, PETSc.ScalarType(300.0))
    material = QuadratureMaterial(law, u, inputs=temperature)
    bcs = []
    for axis, places in ((0, (0.0, 3.0)), (1, (0.0,)), (2, (0.0,))):
        sub = space.sub(axis).collapse()[0]
        for place in places:
            dofs = dfem.locate_dofs_geometrical(
                (space.sub(axis), sub), lambda x, axis=axis, place=place: np.isclose(x[axis], place)
            )
            bcs.append(dfem.dirichletbc(dfem.Function(sub), dofs, space.sub(axis)))
    residual = material.virtual_work(ufl.TestFunction(space))
    problem = EquilibriumProblem(residual, u, [material], bcs=bcs, petsc_options={"snes_rtol": 1e-13})
    c11, c12 = 172.0, 115.0
    young = (c11 - c12) * (c11 + 2 * c12) / (c11 + c12)
    ratios = []
    for step in problem.steps(temperature, targets=[301.0, 310.0, 700.0], progress=False):
        # closed form: E_law = (a, b, b) with S_law,22 = c12 a + (c11 + c12) b = 0 and 1 + 2 E₁₁ = λ² (1 + 2 a) = 1, so
        # that S₁₁ = λ³ λ⁻² young a = −young sinh(α Δθ)
        stretch = np.exp(2e-5 * (step.load - 300.0))
        expected = stretch * young * 0.5 * (stretch**-2 - 1.0)
        assert expected == pytest.approx(-young * np.sinh(2e-5 * (step.load - 300.0)), rel=1e-9)
        np.testing.assert_allclose(material.second_piola[:, 0], expected, rtol=1e-9)
        np.testing.assert_allclose(material.second_piola[:, 1:], 0.0, atol=1e-9 * abs(expected))
        ratios.append(expected / (-young * 2e-5 * (step.load - 300.0)))
        assert problem.reaction(right)[0] == pytest.approx(expected * 1.0, rel=1e-8)  # area 1 of the reference
    assert abs(ratios[0] - 1.0) < 1e-8 and 1e-6 < abs(ratios[2] - 1.0) < 1e-4  # −E α Δθ as Δθ → 0


def test_temperature_field_reaches_every_point(cube):
    """A Function of temperature acts as the law at the temperature of each quadrature point; a mixed-up one does not."""
    law = quartz_like()
    u, _, _ = cube(shape=(2, 2, 2))
    u.x.array[:] = 0.01 * np.random.default_rng(0).standard_normal(len(u.x.array))
    space = lagrange_space(u.function_space.mesh, "CG", 1, ())
    field = dfem.Function(space)
    field.interpolate(lambda x: 300.0 + 200.0 * x[0] - 100.0 * x[1])
    material = QuadratureMaterial(law, u, inputs=field)
    points = material.points()
    at = 300.0 + 200.0 * points[:, 0] - 100.0 * points[:, 1]
    expected = law.response(material.strain, inputs=at)
    scale = np.linalg.norm(law.stiffness())
    np.testing.assert_allclose(material.second_piola, expected.stress, atol=1e-13 * scale)
    assert np.abs(law.response(material.strain, inputs=at[::-1]).stress - expected.stress).max() > 1e-5 * scale
    # the field is read again at every update, and UFL expressions serve as well
    field.x.array[:] += 50.0
    material.update()
    np.testing.assert_allclose(
        material.second_piola, law.response(material.strain, inputs=at + 50.0).stress, atol=1e-13 * scale
    )
    x = ufl.SpatialCoordinate(u.function_space.mesh)
    again = QuadratureMaterial(law, u, inputs=[350.0 + 200.0 * x[0] - 100.0 * x[1]])
    np.testing.assert_allclose(again.second_piola, material.second_piola, atol=1e-12 * scale)


def test_tangent_at_a_temperature_field(cube):
    from dolfinx.fem import petsc

    from fem.residual import tangent_form

    law = quartz_like()
    u, _, _ = cube()
    u.x.array[:] = 0.01 * np.random.default_rng(0).standard_normal(len(u.x.array))
    x = ufl.SpatialCoordinate(u.function_space.mesh)
    material = QuadratureMaterial(law, u, orientation=TURN, inputs=300.0 + 200.0 * x[0])
    residual = material.virtual_work(ufl.TestFunction(u.function_space))
    matrix = petsc.assemble_matrix(compile_form(tangent_form(residual, u, [material])))
    matrix.assemble()
    direction = np.random.default_rng(1).standard_normal(len(u.x.array))
    start, compiled, step = u.x.array.copy(), compile_form(residual), 1e-6
    sides = []
    for sign in (1.0, -1.0):
        u.x.array[:] = start + sign * step * direction
        assert material.update(tangent=False)
        sides.append(petsc.assemble_vector(compiled).array.copy())
    difference = (sides[0] - sides[1]) / (2 * step)
    vector = matrix.createVecRight()
    vector.array[:] = direction
    assert np.abs((matrix * vector).array - difference).max() < 1e-8 * np.abs(difference).max()


def test_inputs_out_of_range_are_named_and_rolled_back(cube):
    u, left, right = cube(shape=(2, 1, 1))
    temperature = dfem.Constant(u.function_space.mesh, PETSc.ScalarType(300.0))
    material = QuadratureMaterial(aluminium_like(), u, inputs=temperature)
    zero = dfem.Function(u.function_space)
    bcs = [dfem.dirichletbc(zero, left), dfem.dirichletbc(zero, right)]
    problem = EquilibriumProblem(
        material.virtual_work(ufl.TestFunction(u.function_space)), u, [material], bcs=bcs
    )  # fmt: skip
    temperature.value = 900.0
    with pytest.raises(
        OutOfRange, match=r"inputs within the trained range, got temperature = 900 \(100 … 800\) at x = "
    ):
        problem.solve()
    material.update()
    assert np.all(material.status == OUT_OF_RANGE)
    temperature.value = np.nan
    assert not material.update() and np.all(material.status == INVALID)


def test_out_of_range_strain_counts_from_the_free_cell(cube):
    """A free body far from the reference cell is within the range; the same strain at the reference input is not."""
    law = aluminium_like()
    law.max_strain = 0.005
    u, _, _ = cube(shape=(1, 1, 1))
    stretch = np.sqrt(1.0 + 2.0 * law.free_strain(700.0)[0])
    u.interpolate(lambda x: (stretch - 1.0) * x)
    assert np.linalg.norm(law.free_strain(700.0)) > 0.01
    assert not np.any(QuadratureMaterial(law, u, inputs=700.0).status)
    assert np.all(QuadratureMaterial(law, u, inputs=300.0).status == OUT_OF_RANGE)


def test_inputs_are_written(cube, tmp_path):
    u, _, _ = cube(shape=(1, 1, 1))
    x = ufl.SpatialCoordinate(u.function_space.mesh)
    material = QuadratureMaterial(aluminium_like(), u, inputs=300.0 + 100.0 * x[2])
    material.write(tmp_path / "points.h5")
    with h5py.File(tmp_path / "points.h5") as file:
        np.testing.assert_allclose(file["inputs"][:, 0], 300.0 + 100.0 * material.points()[:, 2], rtol=1e-12)


def test_acoustic_eigenvalue_at_the_temperature_of_each_point(cube):
    from constitutive.stability import acoustic_eigenvalue

    law = quartz_like()
    u, _, _ = cube(shape=(1, 1, 1))
    x = ufl.SpatialCoordinate(u.function_space.mesh)
    material = QuadratureMaterial(law, u, inputs=300.0 + 400.0 * x[2])
    found = material.acoustic_eigenvalue()
    at = 300.0 + 400.0 * material.points()[:, 2]
    for point in (0, 7):
        alone = acoustic_eigenvalue(law, material.strain[[point]], inputs=at[[point], None])
        np.testing.assert_allclose(found[point], alone[0], rtol=1e-8)
    assert np.ptp(found) > 1e-3 * abs(found).max()


def test_errors(cube, cubic_law):
    u, _, _ = cube(shape=(1, 1, 1))
    with pytest.raises(ValueError, match="expected temperature for this ParametricLaw, got none"):
        QuadratureMaterial(aluminium_like(), u)
    with pytest.raises(ValueError, match="expected none for this CubicLaw, got float"):
        QuadratureMaterial(cubic_law(), u, inputs=300.0)
    with pytest.raises(ValueError, match="one value of each of temperature, got 2"):
        QuadratureMaterial(aluminium_like(), u, inputs=[300.0, 400.0])
    with pytest.raises(ValueError, match="do not depend on the displacement"):
        QuadratureMaterial(aluminium_like(), u, inputs=300.0 + u[0])
