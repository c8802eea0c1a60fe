"""A law at quadrature points: consistent tangent, orientation, fields, errors."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from dolfinx.fem import petsc
from mpi4py import MPI

from constitutive.laws.law import INVALID, OK
from constitutive.laws.neo_hooke import NeoHookeanLaw
from crystals import mandel
from crystals.rotations import random_rotations, rotate_vector, rotation_about
from fem import EquilibriumProblem, QuadratureMaterial, write_xdmf
from fem.dolfinx_versions import compile_form, lagrange_space
from fem.residual import tangent_form

TURN = rotation_about([1.0, 2.0, -0.5], 0.7)


def wobble(u, amplitude=0.05, seed=0):
    u.x.array[:] = amplitude * np.random.default_rng(seed).standard_normal(len(u.x.array))
    return u


def assembled_and_differenced(u, materials, residual, form):
    """Action of the assembled matrix on a random vector, and the central difference of the residual along it."""
    compiled = compile_form(residual)
    matrix = petsc.assemble_matrix(compile_form(form))
    matrix.assemble()
    direction = np.random.default_rng(1).standard_normal(len(u.x.array))
    start = u.x.array.copy()

    def at(step):
        u.x.array[:] = start + step * direction
        for material in materials:
            assert material.update(tangent=False)
        return petsc.assemble_vector(compiled).array.copy()

    step = 1e-6
    difference = (at(step) - at(-step)) / (2 * step)
    vector = matrix.createVecRight()
    vector.array[:] = direction
    return (matrix * vector).array.copy(), difference


@pytest.mark.parametrize("cell", ["hexahedron", "tetrahedron"])
@pytest.mark.parametrize("kinematics", ["finite", "small"])
@pytest.mark.parametrize("orientation", [None, TURN])
def test_tangent_is_the_derivative_of_whatever_residual(cube, cubic_law, cell, kinematics, orientation):
    u, _, _ = cube(cell=cell)
    measure = {"finite": "green_lagrange", "small": "small"}[kinematics]
    law = cubic_law(strain_measure=measure)
    wobble(u)
    material = QuadratureMaterial(law, u, kinematics=kinematics, orientation=orientation)
    v = ufl.TestFunction(u.function_space)
    # a scaled virtual work, minus another use of the stress, plus a term without material
    residual = 2.5 * material.virtual_work(v) - 0.3 * ufl.inner(material.first_piola_ufl, ufl.grad(v)) * material.dx
    residual += ufl.dot(u, u) * ufl.dot(u, v) * ufl.dx
    action, difference = assembled_and_differenced(u, [material], residual, tangent_form(residual, u, [material]))
    scale = np.abs(difference).max()
    assert np.abs(action - difference).max() < 1e-9 * scale
    # negative control: without the stress's own derivative
    u.x.array[:] = wobble(u).x.array
    material.update()
    partial = tangent_form(residual, u, [])
    action, difference = assembled_and_differenced(u, [material], residual, partial)
    assert np.abs(action - difference).max() > 1e-2 * scale


def test_neo_hooke_tangent(cube):
    u, _, _ = cube()
    wobble(u)
    material = QuadratureMaterial(NeoHookeanLaw(40.0, 60.0), u, orientation=TURN)
    residual = -2.5 * material.virtual_work(ufl.TestFunction(u.function_space))
    action, difference = assembled_and_differenced(u, [material], residual, tangent_form(residual, u, [material]))
    assert np.abs(action - difference).max() < 1e-9 * np.abs(difference).max()


def test_stress_is_the_turned_law(cube, cubic_law):
    """S_sample = R S(Rᵀ E_sample), for one rotation, one per cell and one per point; another rotation is told apart."""
    u, _, _ = cube()
    wobble(u)
    law = cubic_law()
    plain = QuadratureMaterial(law, u)
    strain = plain.strain_sample
    np.testing.assert_allclose(strain, mandel.green_lagrange(plain.deformation_gradient()), atol=1e-15)
    cells, points = len(plain.cells), len(strain)
    per_cell = random_rotations(cells, np.random.default_rng(3))
    for rotation, per_point in [
        (TURN, np.broadcast_to(TURN, (points, 3, 3))),
        (per_cell, np.repeat(per_cell, points // cells, axis=0)),
        (np.repeat(per_cell, points // cells, axis=0), np.repeat(per_cell, points // cells, axis=0)),
    ]:
        material = QuadratureMaterial(law, u, orientation=rotation)
        crystal = rotate_vector(np.swapaxes(per_point, 1, 2), strain)
        stress, tangent = law.stress_and_tangent(crystal)
        scale = np.abs(stress).max()
        np.testing.assert_allclose(material.strain, crystal, atol=1e-14)
        np.testing.assert_allclose(material.second_piola, rotate_vector(per_point, stress), atol=1e-13 * scale)
        # a quadratic law: S = C E holds for the turned tangent
        turned = mandel.unpack_upper(material.tangent.x.array.reshape(-1, 21)[:points])
        product = np.einsum("nij,nj->ni", turned, strain)
        np.testing.assert_allclose(product, material.second_piola, atol=1e-13 * scale)
        assert np.abs(material.second_piola - plain.second_piola).max() > 1e-2 * scale


def test_mirrored_cell_is_invalid(cube):
    """E is blind to a reflection, det F is not."""
    u, _, _ = cube(shape=(1, 1, 1))
    material = QuadratureMaterial(NeoHookeanLaw(1.0, 1.0), u)
    assert material.update() and np.all(material.status == OK)
    u.interpolate(lambda x: np.vstack([-2.0 * x[0], 0 * x[1], 0 * x[2]]))
    assert not material.update()
    assert np.all(material.status == INVALID)
    np.testing.assert_allclose(material.strain, 0.0, atol=1e-15)


def test_fields_and_files(cube, cubic_law, tmp_path):
    """Cell averages of a homogeneous state are that state; the point file holds what the arrays hold."""
    u, _, _ = cube(shape=(2, 1, 1), degree=2)
    gradient = np.array([[0.05, 0.02, 0.0], [0.01, -0.02, 0.0], [0.0, 0.03, 0.01]])
    u.interpolate(lambda x: gradient @ x)
    law = cubic_law()
    material = QuadratureMaterial(law, u, degree=3, orientation=TURN)
    deformation = np.eye(3) + gradient
    strain = rotate_vector(TURN.T, mandel.green_lagrange(deformation))
    stress = rotate_vector(TURN, law.response(strain[None]).stress[0])
    cauchy = mandel.from_mandel(mandel.cauchy_stress(stress, deformation))
    np.testing.assert_allclose(material.project("cauchy").x.array.reshape(-1, 3, 3), [cauchy] * 2, rtol=1e-12)
    np.testing.assert_allclose(material.project("strain_norm").x.array, np.linalg.norm(strain), rtol=1e-12)
    deviator = cauchy - np.trace(cauchy) / 3 * np.eye(3)
    np.testing.assert_allclose(
        material.project("von_mises").x.array, np.sqrt(1.5) * np.linalg.norm(deviator), rtol=1e-12
    )
    assert material.volumes().sum() == pytest.approx(1.0, rel=1e-14)
    with pytest.raises(ValueError, match="expected a field among cauchy"):
        material.project("sigma")
    write_xdmf(tmp_path / "out.xdmf", u, [material.project("cauchy"), material.project("von_mises")])
    assert (tmp_path / "out.h5").exists()
    with pytest.raises(ValueError, match="holds the numbers of 'out.xdmf'"):
        material.write(tmp_path / "out.h5")
    material.write(tmp_path / "points.h5")
    with h5py.File(tmp_path / "points.h5") as file:
        np.testing.assert_array_equal(file["second_piola"], material.second_piola)
        np.testing.assert_array_equal(file["points"], material.points())
        assert file.attrs["units"] == "GPa"
    assert not list(tmp_path.glob("*.part"))


def test_two_materials_on_tagged_cells(cube, cubic_law):
    """Two laws on two halves give the energy of each half; the tangent of the sum is consistent."""
    u, _, _ = cube(shape=(2, 2, 1))
    domain = u.function_space.mesh
    cells = np.arange(4, dtype=np.int32)
    tags = mesh.meshtags(domain, 3, cells, np.array([7, 8, 8, 7], dtype=np.int32))
    wobble(u)
    soft = QuadratureMaterial(cubic_law((17.0, 11.0, 9.0)), u, subdomain=(tags, 7))
    hard = QuadratureMaterial(cubic_law(), u, subdomain=(tags, 8))
    whole = QuadratureMaterial(cubic_law(), u)
    assert set(soft.cells) == {0, 3} and set(hard.cells) == {1, 2}
    v = ufl.TestFunction(u.function_space)
    residual = soft.virtual_work(v) + hard.virtual_work(v)
    form = tangent_form(residual, u, [soft, hard])
    action, difference = assembled_and_differenced(u, [soft, hard], residual, form)
    assert np.abs(action - difference).max() < 1e-9 * np.abs(difference).max()
    wobble(u)
    for material in (soft, hard, whole):
        material.update()
    of_hard = np.isin(whole.point_cells(), hard.cells)
    np.testing.assert_array_equal(whole.second_piola[of_hard], hard.second_piola)


def test_inverted_cell_of_the_mesh(cube, cubic_law):
    """A node pulled through its cell: said before anything is computed."""
    u, _, _ = cube(shape=(2, 1, 1))
    x = u.function_space.mesh.geometry.x
    QuadratureMaterial(cubic_law(), u)
    x[np.all(x == 0.0, axis=1)] = [0.9, 0.9, 0.9]
    with pytest.raises(ValueError, match="got 1 inverted or flat .the first near"):
        QuadratureMaterial(cubic_law(), u)


def test_errors(cube, cubic_law):
    u, _, _ = cube(shape=(1, 1, 1))
    finite, small = cubic_law(), cubic_law(strain_measure="small")
    with pytest.raises(ValueError, match=r"proper rotations \(QᵀQ = 1, det Q = \+1\)"):
        QuadratureMaterial(finite, u, orientation=np.diag([1.0, 1.0, -1.0]))
    with pytest.raises(ValueError, match=r"proper rotations"):
        QuadratureMaterial(finite, u, orientation=1.01 * np.eye(3))
    with pytest.raises(ValueError, match=r"expected shape \(3, 3\), \(1, 3, 3\)"):
        QuadratureMaterial(finite, u, orientation=np.stack([np.eye(3)] * 5))
    with pytest.raises(ValueError, match="kinematics='small'"):
        QuadratureMaterial(small, u)
    with pytest.raises(ValueError, match="Pass kinematics='finite'"):
        QuadratureMaterial(finite, u, kinematics="small")
    with pytest.raises(ValueError, match="'finite' or 'small', got 'large'"):
        QuadratureMaterial(finite, u, kinematics="large")
    with pytest.raises(ValueError, match=r"values of shape \(3,\), got \(\)"):
        QuadratureMaterial(finite, dfem.Function(lagrange_space(u.function_space.mesh, "CG", 1, ())))
    square = mesh.create_unit_square(MPI.COMM_WORLD, 2, 2)
    with pytest.raises(ValueError, match="expected section='plane_strain' or"):
        QuadratureMaterial(finite, dfem.Function(lagrange_space(square, "CG", 1, (2,))))
    with pytest.raises(ValueError, match="expected no section on a mesh of dimension 3"):
        QuadratureMaterial(finite, u, section="plane_strain")
    with pytest.raises(TypeError, match="expected a law, got str"):
        QuadratureMaterial("copper.law", u)
    material, scalar = QuadratureMaterial(finite, u), lagrange_space(u.function_space.mesh, "CG", 1, ())
    for wrong in (u, 1.0, ufl.TestFunction(scalar)):
        with pytest.raises(TypeError, match="expected a test function of the displacement's space"):
            material.virtual_work(wrong)
    material.virtual_work(2.0 * ufl.TestFunction(u.function_space))
    with pytest.raises(ValueError, match="ends in '.h5'"):
        material.write("points.vtk")


def test_a_material_that_is_not_listed_is_refused(cube, cubic_law):
    """Nobody would update its stress: the rest would be called equilibrium."""
    u, _, _ = cube(shape=(1, 1, 1))
    v = ufl.TestFunction(u.function_space)
    first, second = QuadratureMaterial(cubic_law(), u), QuadratureMaterial(cubic_law(), u)
    both = first.virtual_work(v) + second.virtual_work(v)
    for residual, listed in ((both, [first]), (both, []), (first.virtual_work(v), [])):
        with pytest.raises(ValueError, match="expected every material whose virtual work is in the residual"):
            EquilibriumProblem(residual, u, listed)
    assert "2 materials" in repr(EquilibriumProblem(both, u, [first, second]))
    with pytest.raises(TypeError, match=r"Write \[material\]"):
        EquilibriumProblem(first.virtual_work(v), u, first)
    # stress of another problem's displacement is a load like any other
    elsewhere = QuadratureMaterial(cubic_law(), dfem.Function(u.function_space))
    EquilibriumProblem(
        first.virtual_work(v) - ufl.dot(elsewhere.stress, first.strain_variation(v)) * first.dx, u, [first]
    )


@pytest.mark.parametrize("orientation", [None, TURN])
def test_field_of_acoustic_eigenvalues(cube, tmp_path, orientation):
    """Two cells, one stretched beyond the analytical limit s = exp(1 + 2μ/λ) of Neo-Hooke, one short of it.

    For F = diag(s, 1, 1) the smallest eigenvalue is 2μ + λ (1 − ln s) where that is below μ.
    """
    u, _, _ = cube(shape=(2, 1, 1), size=(2.0, 1.0, 1.0))
    mu, lam = 1.0, 20.0
    critical = np.exp(1.0 + 2.0 * mu / lam)
    stretches = np.array([critical - 0.05, critical + 0.05])
    u.interpolate(
        lambda x: np.vstack([np.where(x[0] < 1, (stretches[0] - 1) * x[0],
                                      (stretches[0] - 1) + (stretches[1] - 1) * (x[0] - 1)), 0 * x[1], 0 * x[2]])
    )  # fmt: skip
    material = QuadratureMaterial(NeoHookeanLaw(mu, lam), u, orientation=orientation)
    centres = material.points()[:, 0]
    exact = 2 * mu + lam * (1 - np.log(stretches))
    assert exact[0] > 0 > exact[1]
    np.testing.assert_allclose(material.acoustic_eigenvalue(), np.where(centres < 1, *exact), rtol=1e-7)
    field = material.project("acoustic_eigenvalue")
    first = centres.reshape(2, -1)[:, 0] < 1
    np.testing.assert_allclose(field.x.array, np.where(first, *exact), rtol=1e-7)
    # asking changes nothing, and neither does a stress-only update
    material.update(tangent=False)
    np.testing.assert_allclose(material.acoustic_eigenvalue(), np.where(centres < 1, *exact), rtol=1e-7)
    write_xdmf(tmp_path / "stability.xdmf", u, [field])
    with h5py.File(tmp_path / "stability.h5") as file:
        stored = np.array(file["Function/acoustic_eigenvalue/0"]).ravel()
    np.testing.assert_allclose(np.sort(stored), np.sort(exact), rtol=1e-7)
