"""Rows of other ranks' nodes travel in one message: the matrix is that of DOLFINx on any rank, and PETSc finds no place."""

from __future__ import annotations

from pathlib import Path

import pytest
from mpi_ranks import run_on_ranks

_RANKS = """
import sys
sys.path[:0] = [{folder!r}]
import numpy as np
from dolfinx import fem, mesh
from mpi4py import MPI
from petsc4py import PETSc
from test_fused import deform, general, some_law
from fem.dolfinx_versions import lagrange_space
from fem.edge_cells import EdgeCells
from fem.fused import FusedElasticity
COMM = MPI.COMM_WORLD

def distance(one, other):
    wrong = one.copy()
    wrong.axpy(-1.0, other)
    return wrong.norm() / other.norm()

def refuse(*_):
    raise AssertionError("PETSc was asked to find places")

errors, shared, empty, lost = [], False, False, []
for cell, shape in (("hexahedron", (3, 2, 2)), ("hexahedron", (2, 1, 1)), ("tetrahedron", (3, 1, 1))):
    domain = mesh.create_unit_cube(COMM, *shape, getattr(mesh.CellType, cell))
    u = fem.Function(lagrange_space(domain, "CG", 1, (3,)))
    left = fem.locate_dofs_geometrical(u.function_space, lambda x: np.isclose(x[0], 0.0))
    bcs = [fem.dirichletbc(np.zeros(3), left, u.function_space)]
    tool = FusedElasticity(some_law(), u)
    matrix = tool.create_matrix()
    counts = COMM.allgather((len(tool._kernels._nodes), tool._kernels._inner))
    shared |= any(cells > inner for cells, inner in counts)
    empty |= any(cells == 0 for cells, _ in counts)
    petsc = tool._kernels._library.insert_matrix
    tool._kernels._library.insert_matrix = refuse
    for scale in (1.0, 0.7):
        deform(u)
        u.x.array[:] *= scale
        tool.assemble_matrix(matrix, bcs)
        errors.append(distance(matrix, general(some_law(), u, bcs)[1]))
    # negative control: what others sent is thrown away
    add = EdgeCells.add
    def forget(self, values):
        MPI.Request.Waitall(self._requests)
        for other in self._in.values():
            other[:] = 0.0
        add(self, values)
    EdgeCells.add = forget
    tool.assemble_matrix(matrix, bcs)
    lost.append(distance(matrix, general(some_law(), u, bcs)[1]))
    EdgeCells.add = add
    # an entry of one rank's own, which stands in no block of three by three: all ranks leave it to PETSc
    tool._kernels._library.insert_matrix = petsc
    matrix.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)
    first, last = matrix.getOwnershipRange()
    known = set(matrix.getRow(first)[0].tolist()) if last > first else set()
    far = sorted(set(range(matrix.getSize()[1])) - known) if known else []
    one = COMM.allreduce(COMM.rank if far else COMM.size, op=MPI.MIN)
    if COMM.rank == one:
        matrix.setValue(first, far[-1], 1.0)
    matrix.assemble()
    tool.assemble_matrix(matrix, bcs)
    assert one == COMM.size or tool._kernels._places[1] is None
    errors.append(distance(matrix, general(some_law(), u, bcs)[1]))
if COMM.rank == 0:
    print(max(errors), max(lost), int(shared), int(empty))
"""


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_matrix_on_ranks(ranks: int) -> None:
    """On three, one at least has none of the box of two cells."""
    found = run_on_ranks(ranks, "-c", _RANKS.format(folder=str(Path(__file__).resolve().parent)), timeout=300)
    error, lost, shared, empty = (float(word) for word in found.split()[-4:])
    assert error < 1e-13
    assert bool(shared) == (ranks > 1) and bool(empty) == (ranks > 2)
    assert (lost > 1e-2) == (ranks > 1), "what others send makes no difference: the test shows nothing"
