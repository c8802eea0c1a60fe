"""The standard weak form with the law inside the element kernel: no stress and no tangent is ever stored.

    fused = FusedElasticity(law, u, degree=2)
    A, b = fused.create_matrix(), fused.create_vector()
    fused.assemble_vector(b)
    fused.assemble_matrix(A, bcs)

∫ S : δE dx and its derivative, for one law that can be written in C (`constitutive.ckernel`), on Lagrange hexahedra and
tetrahedra. On one rank element matrices go straight to their places in PETSc's compressed rows, which takes a tenth of
the time that PETSc needs to find them; on several, DOLFINx's own assembler calls the same kernels. Any other weak form
takes the general path, `fem.QuadratureMaterial`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from petsc4py import PETSc

from constitutive.ckernel import build, c_source, unsupported
from constitutive.laws.law import Law
from crystals.rotations import check_rotation

from . import dolfinx_versions as versions

_MEASURE = {"finite": "green_lagrange", "small": "small"}


def _pointer(array: np.ndarray | None) -> ctypes.c_void_p | None:
    assert array is None or array.flags.c_contiguous
    return None if array is None else ctypes.c_void_p(array.ctypes.data)


class FusedElasticity:
    """Residual and tangent of ∫ S : δE dx over all cells for one law, each an element kernel in C.

    Parameters
    ----------
    law : Law
        A law that C knows; others raise 'not supported: …'. What the law is now is compiled in: make another after changing it.
    u : dolfinx.fem.Function
        Displacement, Lagrange of degree 1 or 2, three components, on hexahedra or tetrahedra with straight edges.
    degree : int
        Degree of the quadrature rule.
    kinematics : 'finite' or 'small'
        As in `QuadratureMaterial`.
    orientation : array (3, 3), optional
        Rotation Q crystal → sample, the same everywhere.

    Raises
    ------
    ValueError
        Where law, element, mesh or DOLFINx's version is not supported.
    """

    def __init__(self, law: Law, u: Any, degree: int = 2, kinematics: str = "finite", orientation: Any = None) -> None:
        where = "FusedElasticity"
        if reason := unsupported(law):
            raise ValueError(f"{where}: {reason} Use QuadratureMaterial.")
        if kinematics not in _MEASURE or law.strain_measure != _MEASURE[kinematics]:
            raise ValueError(
                f"{where}: expected a law of strain measure {_MEASURE.get(kinematics)!r} for kinematics={kinematics!r}, "
                f"got {law.strain_measure!r}. Pass the other kinematics, 'finite' or 'small'."
            )
        turn = np.eye(3)
        if orientation is not None:
            turn = check_rotation(f"{where} orientation", np.asarray(orientation, dtype=float))
            if turn.shape != (3, 3):
                raise ValueError(
                    f"{where}: not supported: an orientation of shape {turn.shape}. Give one Q (3, 3), or use "
                    "QuadratureMaterial for a field of orientations."
                )
        self.law, self.u, self.space = law, u, u.function_space
        basis, geometry, weights = versions.lagrange_tables(where, u, degree)
        tables = "".join(
            f"static const double {name}[{array.size}] = {{{', '.join(float(x).hex() for x in array.reshape(-1))}}};\n"
            for name, array in (("BASIS", basis), ("GEOMETRY", geometry), ("WEIGHTS", weights), ("ROTATION", turn))
        )
        sizes = f"#define POINTS {len(weights)}\n#define NODES {basis.shape[1]}\n#define CORNERS {geometry.shape[1]}\n"
        sizes += f"#define ORIENTED {int(orientation is not None)}\n"
        element = files("fem").joinpath("element.c").read_text(encoding="utf-8")
        what = f"{type(law).__name__} of {law.group.symbol} into an element of {basis.shape[1]} nodes"
        self._library = ctypes.CDLL(str(build("\n".join([c_source(law), sizes, tables, element]), what)))
        self._library.element_prepare()
        mesh = self.space.mesh
        owned = mesh.topology.index_map(3).size_local
        self._alone = mesh.comm.size == 1
        self._dofs = np.ascontiguousarray(versions.cell_dofs(self.space)[:owned], dtype=np.int32)
        self._corners = np.ascontiguousarray(versions.geometry_dofs(mesh)[:owned], dtype=np.int32)
        self._matrix_form: Any = None
        #: starts of rows, and places in them, of the matrix that was last assembled
        self._places: tuple[Any, np.ndarray, np.ndarray] | None = None

    def create_vector(self) -> Any:
        """PETSc vector for `assemble_vector`, ghosts included."""
        return versions.ghosted_vector(self.space)

    def create_matrix(self) -> Any:
        """PETSc matrix for `assemble_matrix`."""
        return versions.elasticity_matrix(self.space)

    def assemble_vector(self, vector: Any) -> None:
        """Add the residual at the present `u`, whose ghosts must be up to date; the ghosts of `vector` are left to be sent."""
        mesh = self.space.mesh
        x, u = np.ascontiguousarray(mesh.geometry.x), np.ascontiguousarray(self.u.x.array)
        with vector.localForm() as local:
            array = local.array_w
            self._library.assemble_vector(
                ctypes.c_int64(len(self._dofs)), _pointer(self._dofs), _pointer(self._corners), _pointer(x), _pointer(u),
                _pointer(array),
            )  # fmt: skip

    def assemble_matrix(self, matrix: Any, bcs: Sequence[Any] = ()) -> None:
        """Set the tangent at the present `u`; rows and columns of `bcs` are zero but for 1 on the diagonal."""
        if not self._alone:
            if self._matrix_form is None:
                self._matrix_form = versions.kernel_form("FusedElasticity", self._library.element_matrix, self.u, 2)
            versions.assemble_kernel_matrix(matrix, self._matrix_form, list(bcs))
            return
        if self._places is None or self._places[0] is not matrix:
            self._places = (matrix, *self._find_places(matrix))
        _, rows, places = self._places
        held = None
        if bcs:
            held = np.zeros(3 * self.space.dofmap.index_map.size_local, dtype=np.int8)
            for bc in bcs:
                held[np.unique(np.asarray(bc.dof_indices()[0]))] = 1
        mesh = self.space.mesh
        x, u = np.ascontiguousarray(mesh.geometry.x), np.ascontiguousarray(self.u.x.array)
        matrix.zeroEntries()
        values = ctypes.c_void_p()
        petsc = ctypes.CDLL(PETSc.__file__)  # finds what it is linked to, PETSc itself
        handle = ctypes.c_void_p(matrix.handle)
        if petsc.MatSeqAIJGetArray(handle, ctypes.byref(values)):
            raise RuntimeError(
                "FusedElasticity.assemble_matrix: expected a sequential AIJ matrix. Use create_matrix()."
            )
        try:
            self._library.assemble_matrix(
                ctypes.c_int64(len(self._dofs)), _pointer(self._dofs), _pointer(self._corners), _pointer(x), _pointer(u),
                _pointer(held), _pointer(rows), _pointer(places), values,
            )  # fmt: skip
        finally:
            petsc.MatSeqAIJRestoreArray(handle, ctypes.byref(values))
        if held is not None:
            for row in np.flatnonzero(held):
                matrix.setValue(row, row, 1.0)
        matrix.assemble()

    def _find_places(self, matrix: Any) -> tuple[np.ndarray, np.ndarray]:
        """Where each row begins, and where in the rows of node a the columns of node b stand, (cells, a, b)."""
        size = 3 * self.space.dofmap.index_map.size_local
        if matrix.getType() != "seqaij" or matrix.getSize() != (size, size):
            raise ValueError(
                f"FusedElasticity.assemble_matrix: expected an AIJ matrix of {size} rows, got {matrix.getType()} of "
                f"{matrix.getSize()}. Use create_matrix()."
            )
        rows, columns, _ = matrix.getValuesCSR()
        rows, columns = np.asarray(rows, dtype=np.int64), np.asarray(columns, dtype=np.int64)
        # rows of one node follow one pattern, the three columns of a node next to each other: one number for nine entries
        starts = rows[:-1:3]
        counts = (rows[1::3] - starts) // 3
        first = np.repeat(starts, counts) + 3 * (
            np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        )
        keys = np.repeat(np.arange(len(starts)), counts) * len(starts) + columns[first] // 3
        a, b = self._dofs[:, :, None].astype(np.int64), self._dofs[:, None, :].astype(np.int64)
        wanted = a * len(starts) + b
        found = np.searchsorted(keys, wanted)
        if np.any(keys[np.minimum(found, len(keys) - 1)] != wanted):
            raise ValueError(
                "FusedElasticity.assemble_matrix: expected entries for all nodes of a cell. Use create_matrix()."
            )
        return rows, np.ascontiguousarray(first[found] - starts[a], dtype=np.int32)

    def points(self) -> tuple[int, int]:
        """How many points assembly met outside the trained range, and without a possible strain (their elements are NaN).

        On this rank, since this was last asked; an assembly of both vector and matrix meets each point twice. Materials
        of one law and orientation are counted together.
        """
        counts = [ctypes.c_int64.in_dll(self._library, name) for name in ("element_outside", "element_invalid")]
        found = (counts[0].value, counts[1].value)
        for count in counts:
            count.value = 0
        return found
