"""Element vectors and matrices of the standard weak form by kernels in C, straight to their places in PETSc's matrices."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from importlib.resources import files
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc as _petsc

from constitutive.ckernel import build

from . import dolfinx_versions as versions
from .edge_cells import EdgeCells, Rows, check, rows_of

PETSc: Any = _petsc  # petsc4py comes without types
CELLS_AT_A_TIME = 256


def _pointer(array: np.ndarray | None) -> int | None:
    assert array is None or array.flags.c_contiguous
    return None if array is None else array.ctypes.data


class _Region(ctypes.Structure):
    """`region` of element.c."""

    _fields_ = [
        ("cells", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("nodes", "corners", "points", "x", "u", "stress", "tangent")),
        ("base", ctypes.c_int64),
        ("rotation", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("rotation_stride", "outside", "invalid")),
    ]


class ElementKernels:
    """∫ S : δE dx over some cells, and its derivative.

    Cells are added straight to the values of the matrix, which takes a tenth of the time that PETSc needs to find them: one
    whose nodes all belong to this rank to those of the diagonal block, others as `fem.edge_cells` says.

    Parameters
    ----------
    where : str
        Whose messages are raised.
    law_source : str
        C of the law, or what all laws share, see `constitutive.ckernel`.
    u : Function
        Displacement.
    degree : int
        Degree of the quadrature rule.
    cells : int array (n,)
        Local cells that are integrated over, owned by this rank.
    what : str
        What is compiled, for the line of progress.
    definitions : dict of str to int
        LAW_INSIDE, SYMMETRIC and, for stored stresses, GREEN_LAGRANGE of element.c; DERIVATIVE, where that is read.

    Attributes
    ----------
    points_per_cell : int

    Raises
    ------
    ValueError
        'not supported: …', for other elements than Lagrange of degree 1 or 2 on hexahedra and tetrahedra of degree 1 or 2.
    NoCompiler
        Where there is none.
    """

    def __init__(
        self, where: str, law_source: str, u: Any, degree: int, cells: np.ndarray, what: str, definitions: dict[str, int]
    ) -> None:  # fmt: skip
        if np.dtype(PETSc.ScalarType) != np.float64:
            raise ValueError(f"{where}: not supported: PETSc with {np.dtype(PETSc.ScalarType)} numbers. Use float64.")
        basis, geometry, weights = versions.lagrange_tables(where, u, degree)
        self._u, self._mesh, space = u, u.function_space.mesh, u.function_space
        self.points_per_cell = len(weights)
        sizes = {"POINTS": len(weights), "NODES": basis.shape[1], "CORNERS": geometry.shape[1], "DERIVATIVE": 0}
        sizes |= definitions
        index = "int64_t" if np.dtype(PETSc.IntType).itemsize == 8 else "int32_t"
        head = "".join(f"#define {name} {value}\n" for name, value in (sizes | {"INDEX": index}).items())
        head += "".join(
            f"static const double {name}[{array.size}] = {{{', '.join(float(x).hex() for x in array.reshape(-1))}}};\n"
            for name, array in (("BASIS", basis), ("GEOMETRY", geometry), ("WEIGHTS", weights))
        )
        kernel = files("fem").joinpath("element.c").read_text(encoding="utf-8")
        self._library = ctypes.CDLL(
            str(build("\n".join([law_source, head, kernel]), f"{what}, {basis.shape[1]} nodes"))
        )
        self._library.element_prepare()
        index_map = space.dofmap.index_map
        self._owned, self._local = index_map.size_local, index_map.size_local + index_map.num_ghosts
        nodes = versions.cell_dofs(space)[cells]
        inner = np.all(nodes < self._owned, axis=1)
        #: inner cells first; a stable order, so that neighbours in memory stay neighbours
        self._order = np.argsort(~inner, kind="stable")
        self._inner = int(np.count_nonzero(inner))
        self._nodes = np.ascontiguousarray(nodes[self._order], dtype=np.int32)
        self._corners = np.ascontiguousarray(versions.cell_nodes(self._mesh)[cells][self._order], dtype=np.int32)
        self._points: np.ndarray | None = None
        self._region = _Region(cells=len(cells), nodes=_pointer(self._nodes), corners=_pointer(self._corners))
        self._held = np.zeros(3 * self._local, dtype=np.int8)
        self._places: tuple[Any, Any] | None = None

    def read_at(self, places: np.ndarray) -> None:
        """Where fields at points have the values of each cell's points: (cells, points), cells as given to the constructor."""
        self._points = np.ascontiguousarray(
            places.reshape(len(self._order), self.points_per_cell)[self._order], dtype=np.int32
        )
        self._region.points = _pointer(self._points)

    def set_rotation(self, rotation: np.ndarray) -> None:
        """Q crystal → sample for the law inside: (3, 3), or (n, 3, 3) for the places of `read_at`."""
        self._rotation = np.ascontiguousarray(rotation, dtype=float)
        self._region.rotation, self._region.rotation_stride = _pointer(self._rotation), 9 * (rotation.ndim == 3)

    def _ready(self, stress: np.ndarray | None, tangent: np.ndarray | None) -> Any:
        """The region with what may have moved in memory; the arrays live as long as what is returned."""
        x, u = np.ascontiguousarray(self._mesh.geometry.x), np.ascontiguousarray(self._u.x.array)
        region = self._region
        region.x, region.u, region.stress, region.tangent = (_pointer(a) for a in (x, u, stress, tangent))
        region.outside = region.invalid = 0
        return ctypes.byref(region), (x, u)

    def counts(self) -> tuple[int, int]:
        """Points that the last assembly met outside the trained range, and without a possible strain; on this rank."""
        return int(self._region.outside), int(self._region.invalid)

    def add_vector(self, vector: Any, stress: np.ndarray | None = None) -> None:
        """Add the vector at the present `u`, whose ghosts must be up to date; ghosts of `vector` are left to be sent."""
        region, _kept = self._ready(stress, None)
        with vector.localForm() as local:
            array = local.array_w
            self._library.assemble_vector(region, ctypes.c_void_p(_pointer(array)))

    def add_matrix(
        self,
        matrix: Any,
        bcs: Sequence[Any] = (),
        stress: np.ndarray | None = None,
        tangent: np.ndarray | None = None,
        derivative: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """Add the matrix at the present `u` but for rows and columns of `bcs`; it is left to be assembled.

        `derivative` gives ∂P/∂F (n·points, 81) in the cells (n,), counted as given to the constructor, that it is asked for.
        """
        region, _kept = self._ready(stress, tangent)
        self._held[:] = 0
        for bc in bcs:
            self._held[np.asarray(bc.dof_indices()[0])] = 1
        cells = len(self._nodes)
        found = self._find_places(matrix)
        if found is None:
            held, petsc = ctypes.c_void_p(_pointer(self._held)), ctypes.CDLL(PETSc.__file__)  # finds PETSc itself
            insert, where = petsc.MatSetValuesBlockedLocal, ctypes.c_void_p(matrix.handle)
            for span in self._spans(0, cells, derivative):
                check(self._library.insert_matrix(region, *span, held, insert, where))
            return
        blocks, places, edge = found
        if edge is not None:  # first, so that its sums travel while the other cells are done
            edge.values[:] = 0.0
            self._add_cells(region, self._inner, cells, edge.begins, edge.places, edge.values, derivative)
            edge.send()
        with ExitStack() as stack:
            values = [stack.enter_context(block) for block in blocks]
            self._add_cells(region, 0, self._inner, blocks[0].begins, places, values[0], derivative)
            if edge is not None:
                edge.add(values)

    def _add_cells(
        self, region: Any, first: int, last: int, begins: np.ndarray, places: np.ndarray, values: np.ndarray,
        derivative: Callable[[np.ndarray], np.ndarray] | None,
    ) -> None:  # fmt: skip
        """Add the matrices of cells to compressed rows; `places` begins with the first of them."""
        if first == last:
            return
        # the kernel counts from the first cell of all
        start = places.ctypes.data - first * places[0].nbytes
        where = [ctypes.c_void_p(x) for x in (_pointer(self._held), _pointer(begins), start, _pointer(values))]
        for span in self._spans(first, last, derivative):
            self._library.assemble_matrix(region, *span, *where)

    def _spans(self, first: int, last: int, derivative: Callable[[np.ndarray], np.ndarray] | None) -> Iterator[Any]:
        """Cells first … last − 1: all at once, or as many at a time as have derivatives that fit a cache."""
        size = max(1, last - first) if derivative is None else CELLS_AT_A_TIME
        for start in range(first, last, size):
            end = min(start + size, last)
            if derivative is not None:
                values = derivative(self._order[start:end])  # lives until the next turn
                self._region.tangent, self._region.base = _pointer(values), start
            yield ctypes.c_int64(start), ctypes.c_int64(end)

    def _find_places(self, matrix: Any) -> tuple[tuple[Rows, ...], np.ndarray, EdgeCells | None] | None:
        """The blocks of the matrix, where in them the inner cells' entries stand, and the other cells; on all ranks.

        None where the matrix does not hold its entries in blocks of three by three, or not yet: PETSc then finds them.
        """
        if not matrix.assembled:
            return None
        # a new entry in its pattern, on any rank, moves all that stand behind it
        pattern = (matrix, matrix.getInfo()["nz_used"])
        if self._places is None or self._places[0] != pattern:
            self._places = (pattern, self._found_in(matrix))
        return self._places[1]

    def _found_in(self, matrix: Any) -> Any:
        comm, index_map = self._mesh.comm, self._u.function_space.dofmap.index_map
        blocks = rows_of(matrix, index_map.local_range[0], self._owned)
        edge = EdgeCells(comm, index_map, self._nodes[self._inner :]) if comm.size > 1 else None
        nodes = self._nodes[: self._inner].astype(np.int64)
        wanted = np.broadcast_arrays(nodes[:, :, None], nodes[:, None, :] + index_map.local_range[0])
        found = blocks[0].find(*wanted) if blocks else None
        good = found is not None and bool(np.all(found[1])) and (edge is None or edge.locate(blocks))
        if not comm.allreduce(good, op=MPI.LAND) or found is None:
            return None
        return blocks, np.ascontiguousarray(found[0], dtype=np.int32), edge


def hold(matrix: Any, bcs: Sequence[Any], owned: int) -> None:
    """Add 1 to the diagonal of the rows of `bcs`, of the first `owned` components of this rank, which kernels leave zero."""
    first = matrix.getOwnershipRange()[0]
    held = np.unique(np.concatenate([np.asarray(bc.dof_indices()[0]) for bc in bcs])) if bcs else np.zeros(0, dtype=int)
    for row in (held[held < owned] + first).tolist():
        matrix.setValue(row, row, 1.0, addv=PETSc.InsertMode.ADD_VALUES)
