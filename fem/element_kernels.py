"""Element vectors and matrices of the standard weak form by kernels in C, straight to their places in PETSc's matrices."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from petsc4py import PETSc as _petsc

from constitutive.ckernel import build

from . import dolfinx_versions as versions

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

    A cell whose nodes all belong to this rank is added straight to the values of the matrix's diagonal block, which takes a
    tenth of the time that PETSc needs to find them; cells at the edge of the rank's part go through PETSc.

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
        self._places: tuple[Any, np.ndarray | None, np.ndarray | None] | None = None

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
        held, petsc = ctypes.c_void_p(_pointer(self._held)), ctypes.CDLL(PETSc.__file__)  # finds PETSc itself
        direct = 0
        if matrix.assembled:
            block = matrix.getDiagonalBlock()
            # a new entry in its pattern moves all that stand behind it
            pattern = (matrix, block.getInfo()["nz_used"])
            if self._places is None or self._places[0] != pattern:
                self._places = (pattern, *self._find_places(block))
            _, rows, places = self._places
            if rows is not None and places is not None:
                direct, values, handle = self._inner, ctypes.c_void_p(), ctypes.c_void_p(block.handle)
                _check(petsc.MatSeqAIJGetArray(handle, ctypes.byref(values)))
                for span in self._spans(0, direct, derivative):
                    self._library.assemble_matrix(
                        region, *span, held, ctypes.c_void_p(_pointer(rows)), ctypes.c_void_p(_pointer(places)), values
                    )
                _check(petsc.MatSeqAIJRestoreArray(handle, ctypes.byref(values)))
        for span in self._spans(direct, len(self._nodes), derivative):
            insert, where = petsc.MatSetValuesBlockedLocal, ctypes.c_void_p(matrix.handle)
            _check(self._library.insert_matrix(region, *span, held, insert, where))

    def _spans(self, first: int, last: int, derivative: Callable[[np.ndarray], np.ndarray] | None) -> Iterator[Any]:
        """Cells first … last − 1: all at once, or as many at a time as have derivatives that fit a cache."""
        size = max(1, last - first) if derivative is None else CELLS_AT_A_TIME
        for start in range(first, last, size):
            end = min(start + size, last)
            if derivative is not None:
                values = derivative(self._order[start:end])  # lives until the next turn
                self._region.tangent, self._region.base = _pointer(values), start
            yield ctypes.c_int64(start), ctypes.c_int64(end)

    def _find_places(self, block: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Where each row begins, and where in the rows of node a the columns of node b stand, (inner cells, a, b).

        None where the matrix does not hold its entries in blocks of three by three: PETSc then finds them.
        """
        if block.getType() != "seqaij" or block.getSize() != (3 * self._owned, 3 * self._owned):
            return None, None
        rows, columns, _ = block.getValuesCSR()
        rows, columns = np.asarray(rows, dtype=np.int64), np.asarray(columns, dtype=np.int64)
        # rows of one node follow one pattern, the three columns of a node next to each other: one number for nine entries
        starts = rows[:-1:3]
        counts = (rows[1::3] - starts) // 3
        first = np.repeat(starts, counts) + 3 * (
            np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        )
        if (
            len(columns) != 9 * len(first)
            or np.any(columns[first] % 3)
            or np.any(columns[first + 2] != columns[first] + 2)
        ):
            return None, None
        keys = np.repeat(np.arange(len(starts)), counts) * len(starts) + columns[first] // 3
        nodes = self._nodes[: self._inner].astype(np.int64)
        a, b = nodes[:, :, None], nodes[:, None, :]
        wanted = a * len(starts) + b
        found = np.searchsorted(keys, wanted)
        if len(wanted) and (not len(keys) or np.any(keys[np.minimum(found, len(keys) - 1)] != wanted)):
            return None, None
        return rows, np.ascontiguousarray(first[found] - starts[a], dtype=np.int32) if len(wanted) else found


def _check(code: int) -> None:
    if code:
        raise PETSc.Error(code)


def hold(matrix: Any, bcs: Sequence[Any], owned: int) -> None:
    """Add 1 to the diagonal of the rows of `bcs`, of the first `owned` components of this rank, which kernels leave zero."""
    first = matrix.getOwnershipRange()[0]
    held = np.unique(np.concatenate([np.asarray(bc.dof_indices()[0]) for bc in bcs])) if bcs else np.zeros(0, dtype=int)
    for row in (held[held < owned] + first).tolist():
        matrix.setValue(row, row, 1.0, addv=PETSc.InsertMode.ADD_VALUES)
