"""The homogeniser against DOLFINx on the same voxels, and its result as a user material."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sparse
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from dolfinx.fem import petsc
from mpi4py import MPI
from scipy.sparse.linalg import cg

import constitutive
from crystals import PointGroup, generators, mandel
from crystals.rotations import rotate_matrix
from fem import QuadratureMaterial
from fem.dolfinx_versions import compile_form, lagrange_space, quadrature_space
from fem.residual import tangent_form


def periodic_stiffness(labels: np.ndarray, table: np.ndarray, degree: int) -> np.ndarray:
    """Effective stiffness by DOLFINx trilinear hexahedra, opposite nodes identified, quadrature of a degree."""
    shape = labels.shape
    domain = mesh.create_box(MPI.COMM_SELF, [np.zeros(3), np.array(shape, float)], shape, mesh.CellType.hexahedron)
    space = lagrange_space(domain, "CG", 1, (3,))
    trial, test = ufl.TrialFunction(space), ufl.TestFunction(space)
    cells = domain.topology.index_map(3).size_local
    centres = mesh.compute_midpoints(domain, 3, np.arange(cells, dtype=np.int32))
    place = np.floor(centres).astype(int)
    ids = labels[place[:, 0], place[:, 1], place[:, 2]]
    field = dfem.Function(quadrature_space(domain, degree, 36))
    points_per_cell = len(field.x.array) // (36 * cells)
    field.x.array[:] = np.repeat(table[ids], points_per_cell, axis=0).reshape(-1)
    tensor = ufl.as_matrix([[field[6 * i + j] for j in range(6)] for i in range(6)])

    def strain(v):
        e = ufl.sym(ufl.grad(v))
        r = np.sqrt(2.0)
        return ufl.as_vector([e[0, 0], e[1, 1], e[2, 2], r * e[1, 2], r * e[0, 2], r * e[0, 1]])

    dx = ufl.dx(domain=domain, metadata={"quadrature_degree": degree, "quadrature_scheme": "default"})
    matrix = petsc.assemble_matrix(compile_form(ufl.inner(ufl.dot(tensor, strain(trial)), strain(test)) * dx))
    matrix.assemble()
    rows, columns, values = matrix.getValuesCSR()
    full = sparse.csr_matrix((values, columns, rows))
    nodes = space.tabulate_dof_coordinates().round().astype(int) % np.array(shape)
    node = np.ravel_multi_index(nodes.T, shape)
    dofs = (3 * node[:, None] + np.arange(3)).reshape(-1)
    join = sparse.csr_matrix((np.ones(len(dofs)), (np.arange(len(dofs)), dofs)))
    reduced = (join.T @ full @ join).tocsr()
    preconditioner = sparse.diags(1.0 / reduced.diagonal())
    # affine displacements of the unit strains on the open mesh
    points = space.tabulate_dof_coordinates()
    affine = np.stack([(points @ mandel.from_mandel(unit)).reshape(-1) for unit in np.eye(6)], axis=1)
    solved = np.empty_like(affine)
    for load in range(6):
        right = -join.T @ (full @ affine[:, load])
        answer, failed = cg(reduced, right, rtol=1e-11, maxiter=3000, M=preconditioner)
        assert failed == 0
        solved[:, load] = affine[:, load] + join @ answer
    return solved.T @ full @ solved / labels.size


@pytest.mark.parametrize(("scheme", "degree"), [("rotated", 1), ("hexahedra", 2)])
def test_same_image_in_dolfinx(scheme: str, degree: int) -> None:
    """16³ voxels, copper grains, a third of them five times stiffer: the same elements give the same number."""
    image = generators.polycrystal(16, 12, seed=4)
    copper = constitutive.phases.phase_stiffness("copper", "C11=168.4 C12=121.4 C44=75.4")
    assert image.orientations is not None and copper is not None
    table = rotate_matrix(image.orientations, copper)
    table[::3] *= 5.0
    cell = constitutive.homogenize(image.labels, table, scheme=scheme, tolerance=1e-9)
    reference = periodic_stiffness(image.labels, table, degree)
    assert np.linalg.norm(cell.stiffness - reference) / np.linalg.norm(reference) < 1e-9
    # negative control: the other element is another discretisation
    other = {"rotated": "hexahedra", "hexahedra": "rotated"}[scheme]
    off = constitutive.homogenize(image.labels, table, scheme=other).stiffness
    assert np.linalg.norm(off - reference) / np.linalg.norm(reference) > 1e-4


@pytest.mark.parametrize("kinematics", ["finite", "small"])
def test_an_image_becomes_a_user_material(cube, tmp_path, kinematics: str) -> None:
    """Image → moduli → law file → stress at quadrature points: S = C E with the C of the image."""
    result = constitutive.moduli(generators.fibres(9, 0.2, 3, seed=1), {0: "E=3 nu=0.35", 1: "E=70 nu=0.2"})
    path = tmp_path / "composite.law"
    result.as_law({"finite": "green_lagrange", "small": "small"}[kinematics]).save(path)
    u, _, _ = cube()
    gradient = 1e-3 * np.array([[1.0, 0.5, 0.0], [0.0, -0.3, 0.2], [0.1, 0.0, 0.4]])
    u.interpolate(lambda x: gradient @ x)
    material = QuadratureMaterial(constitutive.load(path), u, kinematics=kinematics)
    assert material.update()
    deformation = np.eye(3) + gradient
    strain = mandel.green_lagrange(deformation) if kinematics == "finite" else mandel.to_mandel(gradient)
    stress = material.stress.x.array.reshape(-1, 6)
    assert np.allclose(stress, result.stiffness @ strain, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("scheme", "degree"), [("rotated", 1), ("hexahedra", 2)])
def test_grains_of_a_nonlinear_law_to_five_percent(scheme: str, degree: int) -> None:
    """Periodic cell of turned grains of one third-order law, stretched to 5 %: mean stress as DOLFINx gives it."""
    law = third_order_copper()
    image = generators.polycrystal((4, 3, 3), 5, seed=3)
    assert image.orientations is not None
    mean = np.array([np.eye(3) + share * np.diag([0.05, -0.02, -0.015]) for share in (0.5, 1.0)])
    path = constitutive.homogenize_path(image.labels, [law], mean, orientations=image.orientations, scheme=scheme)
    reference = dolfinx_path(image.labels, image.orientations, law, mean, degree)
    assert np.linalg.norm(path.stress[-1] - reference) / np.linalg.norm(reference) < 1e-8
    # negative control: the linear law is another material at 5 %
    linear = constitutive.PolynomialLaw(law.group, 2, law.stiffness())
    other = constitutive.homogenize_path(image.labels, [linear], mean, orientations=image.orientations, scheme=scheme)
    assert np.linalg.norm(other.stress[-1] - reference) / np.linalg.norm(reference) > 0.02


def third_order_copper() -> constitutive.PolynomialLaw:
    """Copper with third-order constants of the size measured (Hiki and Granato 1966, doi:10.1103/PhysRev.144.411)."""
    group = PointGroup("m-3m")
    copper = constitutive.phases.phase_stiffness("copper", "C11=168.4 C12=121.4 C44=75.4")
    assert copper is not None
    wanted = np.array([-1271.0, -814.0, -50.0, -3.0, -780.0, -95.0])
    count = len(constitutive.PolynomialLaw(group, 3, copper).coefficients)
    base = np.array(
        [list(constitutive.PolynomialLaw(group, 3, copper, row).elastic_constants(3).values()) for row in np.eye(count)]
    )
    return constitutive.PolynomialLaw(group, 3, copper, np.linalg.solve(base.T, wanted))


def dolfinx_path(labels: np.ndarray, turns: np.ndarray, law, mean: np.ndarray, degree: int) -> np.ndarray:
    """Mean first Piola–Kirchhoff stress by Newton's method on DOLFINx's matrix, opposite nodes identified."""
    shape = labels.shape
    domain = mesh.create_box(MPI.COMM_SELF, [np.zeros(3), np.array(shape, float)], shape, mesh.CellType.hexahedron)
    space = lagrange_space(domain, "CG", 1, (3,))
    u = dfem.Function(space)
    cells = domain.topology.index_map(3).size_local
    place = np.floor(mesh.compute_midpoints(domain, 3, np.arange(cells, dtype=np.int32))).astype(int)
    material = QuadratureMaterial(law, u, degree=degree, orientation=turns[labels[tuple(place.T)]])
    residual = material.virtual_work(ufl.TestFunction(space))
    form, slope = compile_form(residual), compile_form(tangent_form(residual, u, [material]))
    points = space.tabulate_dof_coordinates()
    node = np.ravel_multi_index((points.round().astype(int) % np.array(shape)).T, shape)
    dofs = (3 * node[:, None] + np.arange(3)).reshape(-1)
    join = sparse.csr_matrix((np.ones(len(dofs)), (np.arange(len(dofs)), dofs)))
    free = np.arange(3, join.shape[1])  # one node held
    periodic = np.zeros(join.shape[1])
    for gradient in mean:
        for _ in range(12):
            u.x.array[:] = (points @ (gradient - np.eye(3)).T).reshape(-1) + join @ periodic
            assert material.update()
            force = join.T @ petsc.assemble_vector(form).array
            if np.linalg.norm(force[free]) < 1e-11 * np.prod(shape):
                break
            matrix = petsc.assemble_matrix(slope)
            matrix.assemble()
            rows, columns, values = matrix.getValuesCSR()
            reduced = (join.T @ sparse.csr_matrix((values, columns, rows)) @ join).toarray()[np.ix_(free, free)]
            # underintegrated elements on even edges have modes without stiffness
            periodic[free] -= np.linalg.lstsq(reduced, force[free], rcond=1e-11)[0]
    piola = np.array([
        dfem.assemble_scalar(compile_form(material.first_piola_ufl[i, j] * material.dx)) for i in range(3) for j in range(3)
    ])  # fmt: skip
    return piola.reshape(3, 3) / np.prod(shape)
