"""The standard weak form with the law inside the element kernel: no stress and no tangent is ever stored.

    fused = FusedElasticity(law, u, degree=2)
    A, b = fused.create_matrix(), fused.create_vector()
    fused.assemble_vector(b)
    fused.assemble_matrix(A, bcs)

∫ S : δE dx and its derivative, for one law that can be written in C (`constitutive.ckernel`), on Lagrange hexahedra and
tetrahedra. `EquilibriumProblem(..., assembly="fused")` solves with it. Any other weak form takes the general path,
`fem.QuadratureMaterial`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from constitutive.ckernel import c_source, unsupported
from constitutive.laws.law import Law
from crystals.rotations import check_rotation

from . import dolfinx_versions as versions
from .element_kernels import ElementKernels, hold

_MEASURE = {"finite": "green_lagrange", "small": "small"}


class FusedElasticity:
    """Residual and tangent of ∫ S : δE dx for one law, each an element kernel in C.

    Parameters
    ----------
    law : Law
        A law that C knows; others raise 'not supported: …'. What the law is now is compiled in: make another after changing it.
    u : dolfinx.fem.Function
        Displacement, Lagrange of degree 1 or 2, three components, on hexahedra or tetrahedra of degree 1 or 2.
    degree : int
        Degree of the quadrature rule.
    kinematics : 'finite' or 'small'
        As in `QuadratureMaterial`.
    orientation : array (3, 3), (cells, 3, 3) or (points, 3, 3), optional
        Rotation Q crystal → sample.
    cells : int array, optional
        Local cells of this rank that are made of the law; by default all.

    Raises
    ------
    ValueError
        Where law, element or mesh is not supported.
    NoCompiler
        Where there is no C compiler.
    """

    def __init__(
        self,
        law: Law,
        u: Any,
        degree: int = 2,
        kinematics: str = "finite",
        orientation: Any = None,
        cells: np.ndarray | None = None,
    ) -> None:
        where = "FusedElasticity"
        if reason := unsupported(law):
            raise ValueError(f"{where}: {reason} Use QuadratureMaterial.")
        if kinematics not in _MEASURE or law.strain_measure != _MEASURE[kinematics]:
            raise ValueError(
                f"{where}: expected a law of strain measure {_MEASURE.get(kinematics)!r} for kinematics={kinematics!r}, "
                f"got {law.strain_measure!r}. Pass the other kinematics, 'finite' or 'small'."
            )
        self.law, self.u, self.space = law, u, u.function_space
        if cells is None:
            cells = np.arange(self.space.mesh.topology.index_map(3).size_local, dtype=np.int32)
        what = f"{type(law).__name__} of {law.group.symbol} into elements"
        self._kernels = ElementKernels(
            where, c_source(law), u, degree, cells, what, {"LAW_INSIDE": 1, "SYMMETRIC": 1}
        )  # fmt: skip
        if orientation is not None:
            turn, number = np.asarray(orientation, dtype=float), len(cells) * self._kernels.points_per_cell
            turn = check_rotation(f"{where} orientation", turn)
            if turn.shape == (len(cells), 3, 3):
                turn = np.repeat(turn, self._kernels.points_per_cell, axis=0)
            if turn.shape not in ((3, 3), (number, 3, 3)):
                raise ValueError(
                    f"{where}: expected an orientation of shape (3, 3), ({len(cells)}, 3, 3) for the cells of this rank or "
                    f"({number}, 3, 3) for their points, got {turn.shape}."
                )
            if turn.ndim == 3:
                self._kernels.read_at(np.arange(number))
            self._kernels.set_rotation(turn)

    def create_vector(self) -> Any:
        """PETSc vector for `assemble_vector`, ghosts included."""
        return versions.ghosted_vector(self.space)

    def create_matrix(self) -> Any:
        """PETSc matrix for `assemble_matrix`."""
        return versions.elasticity_matrix(self.space)

    def assemble_vector(self, vector: Any) -> None:
        """Add the residual at the present `u`, whose ghosts must be up to date; the ghosts of `vector` are left to be sent."""
        self._kernels.add_vector(vector)

    def add_matrix(self, matrix: Any, bcs: Sequence[Any] = ()) -> None:
        """Add the tangent at the present `u`, nothing to rows and columns of `bcs`; `matrix` is left to be assembled."""
        self._kernels.add_matrix(matrix, bcs)

    def assemble_matrix(self, matrix: Any, bcs: Sequence[Any] = ()) -> None:
        """Set the tangent at the present `u`; rows and columns of `bcs` are zero but for 1 on the diagonal."""
        owned = 3 * self.space.dofmap.index_map.size_local
        size = 3 * self.space.dofmap.index_map.size_global
        if matrix.getSize() != (size, size) or not matrix.getType().endswith("aij"):
            raise ValueError(
                f"FusedElasticity.assemble_matrix: expected an AIJ matrix of {size} rows, got {matrix.getType()} of "
                f"{matrix.getSize()}. Use create_matrix()."
            )
        matrix.zeroEntries()
        self.add_matrix(matrix, bcs)
        hold(matrix, bcs, owned)
        matrix.assemble()

    def points(self) -> tuple[int, int]:
        """How many points the last assembly met outside the trained range, and without a possible strain, on this rank.

        Elements with a point of the second kind are NaN.
        """
        return self._kernels.counts()
