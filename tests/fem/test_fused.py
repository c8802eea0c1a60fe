"""The fused element kernel gives the vector and the matrix of the general path, on hexahedra and tetrahedra, any rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import ufl
from dolfinx import fem, mesh
from dolfinx.fem import petsc
from mpi_ranks import run_on_ranks

from constitutive import NeoHookeanLaw, PolynomialLaw, SymmetricLaw
from constitutive.laws.polynomial import higher_order_polynomials
from crystals import PointGroup
from crystals.rotations import random_rotations
from fem import QuadratureMaterial
from fem import dolfinx_versions as versions
from fem.fused import FusedElasticity
from fem.residual import tangent_form

TURN = random_rotations(1, np.random.default_rng(3))[0]


def some_law(**options: object) -> SymmetricLaw:
    law = SymmetricLaw(
        "-3m", 3, (8, 8), stiffness=100.0 * np.eye(6), energy_scale=100.0, strain_scale=0.1, max_strain=0.2, **options
    )
    with torch.no_grad():
        law.coefficients.fill_(0.5)
    return law.requires_grad_(False)


def polynomial_law() -> PolynomialLaw:
    group = PointGroup("m-3m")
    coefficients = 100.0 * np.random.default_rng(0).normal(size=len(higher_order_polynomials(group, 3)))
    return PolynomialLaw(group, 3, 100.0 * np.eye(6), coefficients, strain_measure="small", max_strain=0.2)


def deform(u: fem.Function) -> None:
    u.interpolate(lambda x: 0.05 * np.stack([np.sin(2 * x[1]) + x[0], np.cos(3 * x[2]) * x[0], np.sin(x[0] + x[1])]))
    u.x.scatter_forward()


def general(law, u, bcs=(), **options):
    material = QuadratureMaterial(law, u, **options)
    residual = material.virtual_work(ufl.TestFunction(u.function_space))
    vector = versions.ghosted_vector(u.function_space)
    petsc.assemble_vector(vector, versions.compile_form(residual))
    form = versions.compile_form(tangent_form(residual, u, [material]))
    matrix = petsc.create_matrix(form)
    petsc.assemble_matrix(matrix, form, bcs=list(bcs))
    matrix.assemble()
    return vector, matrix


def fused(law, u, bcs=(), **options):
    tool = FusedElasticity(law, u, **options)
    vector, matrix = tool.create_vector(), tool.create_matrix()
    tool.assemble_vector(vector)
    tool.assemble_matrix(matrix, bcs)
    return vector, matrix, tool


def differences(ours, theirs) -> tuple[float, float]:
    wrong = ours[1].copy()
    wrong.axpy(-1.0, theirs[1])
    scale = np.abs(theirs[0].array).max()
    return np.abs(ours[0].array - theirs[0].array).max() / scale, wrong.norm() / theirs[1].norm()


@pytest.mark.parametrize(
    ("cell", "degree", "rule"),
    [("hexahedron", 1, 2), ("hexahedron", 2, 4), ("tetrahedron", 1, 1), ("tetrahedron", 2, 2)],
)
def test_same_vector_and_matrix(cube, cell: str, degree: int, rule: int) -> None:
    u, left, _ = cube((2, 1, 2), cell, degree, size=(1.0, 0.7, 0.9))
    deform(u)
    u.function_space.mesh.geometry.x[:] += 0.05 * np.sin(
        3 * u.function_space.mesh.geometry.x[:, [1, 2, 0]]
    )  # no bricks
    bcs = [fem.dirichletbc(np.zeros(3), left, u.function_space)]
    for held in ((), bcs):
        found = differences(fused(some_law(), u, held, degree=rule), general(some_law(), u, held, degree=rule))
        assert max(found) < 1e-13


@pytest.mark.parametrize("kinematics", ["finite", "small"])
def test_orientation_and_small_strain(cube, kinematics: str) -> None:
    u, _, _ = cube((2, 1, 1))
    deform(u)
    law = some_law(measure=-1.0) if kinematics == "finite" else polynomial_law()
    theirs = general(law, u, kinematics=kinematics, orientation=TURN)
    assert max(differences(fused(law, u, kinematics=kinematics, orientation=TURN), theirs)) < 1e-13
    # negative control: the other orientation is another material
    assert min(differences(fused(law, u, kinematics=kinematics, orientation=TURN.T), theirs)) > 1e-3


@pytest.mark.parametrize("number", [2, 16])
def test_field_of_orientations_on_some_cells(cube, number: int) -> None:
    """One for each cell or each point, the first rotations for the first cells."""
    u, _, _ = cube((3, 1, 1))
    deform(u)
    cells = np.array([0, 2], dtype=np.int32)
    turns = random_rotations(number, np.random.default_rng(1))
    tags = mesh.meshtags(u.function_space.mesh, 3, cells, np.ones(2, dtype=np.int32))
    theirs = general(some_law(), u, orientation=turns, subdomain=(tags, 1))
    ours = fused(some_law(), u, orientation=turns, cells=cells)
    assert max(differences(ours, theirs)) < 1e-13
    assert min(differences(fused(some_law(), u, orientation=turns[::-1], cells=cells), theirs)) > 1e-3


def test_follows_u_and_adds_nothing_twice(cube) -> None:
    u, _, _ = cube((2, 1, 1))
    vector, matrix, tool = fused(some_law(), u)
    assert np.abs(vector.array).max() < 1e-14
    deform(u)
    tool.assemble_vector(vector)
    tool.assemble_matrix(matrix)
    assert max(differences((vector, matrix), general(some_law(), u))) < 1e-13


def test_points_without_an_answer_are_not_a_number(cube) -> None:
    u, _, _ = cube((2, 1, 1))
    u.interpolate(lambda x: np.stack([0.3 * x[0], 0 * x[0], 0 * x[0]]))
    vector, _, tool = fused(some_law(), u)
    assert np.isfinite(vector.array).all() and tool.points() == (16, 0)
    u.interpolate(lambda x: np.stack([-2.0 * x[0], 0 * x[0], 0 * x[0]]))  # mirrored: E = 0, det F = −1
    vector, matrix, tool = fused(some_law(), u)
    assert np.isnan(vector.array).any() and np.isnan(matrix.norm()) and tool.points() == (0, 16)


def test_what_is_not_supported_says_so(cube) -> None:
    u, _, _ = cube((1, 1, 1))
    with pytest.raises(ValueError, match="not supported: NeoHookeanLaw in C.*QuadratureMaterial"):
        FusedElasticity(NeoHookeanLaw(1.0, 1.0), u)
    with pytest.raises(ValueError, match="strain measure 'small'"):
        FusedElasticity(some_law(), u, kinematics="small")
    with pytest.raises(ValueError, match="orientation of shape"):
        FusedElasticity(some_law(), u, orientation=random_rotations(5, np.random.default_rng(0)))
    cubic, _, _ = cube((1, 1, 1), degree=3)
    with pytest.raises(ValueError, match="Lagrange degree 1 or 2"):
        FusedElasticity(some_law(), cubic)
    tool = FusedElasticity(some_law(), u)
    other, _, _ = cube((2, 1, 1))
    with pytest.raises(ValueError, match="AIJ matrix of 24 rows"):
        tool.assemble_matrix(FusedElasticity(some_law(), other).create_matrix())


_RANKS = """
import sys
sys.path[:0] = [{folder!r}]
import os
import numpy as np
import torch
import ufl
from dolfinx import fem, mesh
from mpi4py import MPI
from petsc4py import PETSc
from test_fused import TURN, deform, fused, general, some_law
from fem import EquilibriumProblem, QuadratureMaterial, assembly as room
from fem.dolfinx_versions import lagrange_space
room.LEAST_POINTS = 1
domain = mesh.create_unit_cube(MPI.COMM_WORLD, {cells}, mesh.CellType.hexahedron)
u = fem.Function(lagrange_space(domain, "CG", 1, (3,)))
deform(u)
left = fem.locate_dofs_geometrical(u.function_space, lambda x: np.isclose(x[0], 0.0))
bcs = [fem.dirichletbc(np.zeros(3), left, u.function_space)]
ours, theirs = fused(some_law(), u, bcs), general(some_law(), u, bcs)
again = ours[1].copy()
ours[2].assemble_matrix(again, bcs)  # into a matrix whose places are known
for vector in (ours[0], theirs[0]):
    vector.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
errors = [(ours[0] - theirs[0]).norm() / theirs[0].norm()]
for matrix in (ours[1], again):
    wrong = matrix.copy()
    wrong.axpy(-1.0, theirs[1])
    errors.append(wrong.norm() / theirs[1].norm())
# one thread a rank, unless the user says otherwise
for said, expected in ((None, 1), ("2", 2), ("1", 1)):
    os.environ.pop("OMP_NUM_THREADS", None)
    os.environ |= {{"OMP_NUM_THREADS": said}} if said else {{}}
    torch.set_num_threads(int(said or 2))
    QuadratureMaterial(some_law(), u)
    assert torch.get_num_threads() == expected
found = {{}}
for assembly in ("forms", "auto", "fused", "own form"):
    u.x.array[:] = 0.0
    material = QuadratureMaterial(some_law(), u, orientation=TURN)
    v = ufl.TestFunction(u.function_space)
    own = assembly == "own form"
    work = ufl.inner(material.first_piola_ufl, ufl.grad(v)) * material.dx if own else material.virtual_work(v)
    problem = EquilibriumProblem(work - 0.5 * v[1] * ufl.ds, u, [material], bcs=bcs, assembly="auto" if own else assembly)
    assert problem.assembly.startswith("DOLFINx" if assembly == "forms" else "element kernels in C"), problem.assembly
    assert ("own" in problem.assembly) == own, problem.assembly
    found[assembly] = (problem.solve().iterations, u.x.array.copy())
for assembly in ("auto", "fused", "own form"):
    assert found[assembly][0] == found["forms"][0] > 2, found
    wrong = np.abs(found[assembly][1] - found["forms"][1]).max(initial=0.0)
    errors.append(wrong / np.abs(found["forms"][1]).max(initial=1e-300) / 10)
errors = MPI.COMM_WORLD.allreduce(max(errors), op=MPI.MAX)
if MPI.COMM_WORLD.rank == 0:
    print(errors)
"""


@pytest.mark.parametrize(("ranks", "cells"), [(2, "3, 2, 2"), (3, "2, 1, 1")])  # of the latter some are empty
def test_ranks(ranks: int, cells: str) -> None:
    folder = str(Path(__file__).resolve().parent)
    found = run_on_ranks(ranks, "-c", _RANKS.format(folder=folder, cells=cells), timeout=200)
    assert float(found.split()[-1]) < 1e-13
