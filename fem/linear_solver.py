"""Which linear solver a problem gets that was not told: by size and by the symmetry of its tangent."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from petsc4py import PETSc as _petsc

from .rigid_motions import rigid_motions

PETSc: Any = _petsc  # petsc4py comes without types
LOG = logging.getLogger("fem")
#: Unknowns up to which a direct solver is taken, by dimension: in 3D its memory grows like n^(4/3).
DIRECT_LIMIT = {2: 400_000, 3: 90_000}
_DIRECT = {"ksp_type": "preonly", "pc_factor_mat_solver_type": "mumps"}
_MULTIGRID = {
    "pc_type": "gamg",
    "ksp_rtol": 1e-8,
    "ksp_max_it": 500,
    "pc_gamg_threshold": 0.02,
    "mg_levels_ksp_type": "chebyshev",
    "mg_levels_pc_type": "jacobi",
}


def forget_options(names: Iterable[str]) -> None:
    """Take options out of PETSc's table, which has room for 512."""
    options = PETSc.Options()
    for name in names:
        options.delValue(name)


@contextmanager
def passing_options(values: dict[str, Any]) -> Iterator[None]:
    """Options that stand in PETSc's table only while an object reads them."""
    options = PETSc.Options()
    for name, value in values.items():
        options[name] = value
    try:
        yield
    finally:
        forget_options(values)


class LinearSolver:
    """The defaults of a SNES's linear solver, chosen when the first tangent is known and again when it loses symmetry.

    Parameters
    ----------
    snes : SNES
        With its options prefix.
    matrix : Mat
        Tangent.
    nodes : array (n, 3)
        Coordinates of the nodes of this rank.
    dim, axisymmetric
        As in `rigid_motions`.

    Attributes
    ----------
    description : str
        The choice in words, also logged under the name 'fem'.
    """

    def __init__(self, snes: Any, matrix: Any, nodes: np.ndarray, dim: int, axisymmetric: bool) -> None:
        self._snes, self._matrix = snes, matrix
        self._prefix = snes.getOptionsPrefix()
        options = PETSc.Options()
        self._given = options.hasName(self._prefix + "ksp_type") or options.hasName(self._prefix + "pc_type")
        self._direct = matrix.getSize()[0] <= DIRECT_LIMIT[dim]
        self._symmetric: bool | None = None
        self.description = "as given by petsc_options" if self._given else "not chosen yet"
        self._probe = [matrix.createVecRight() for _ in range(3)]
        for k, vector in enumerate(self._probe[:2]):
            # the same numbers on any number of ranks would need global indices; any numbers do
            vector.array_w[:] = np.random.default_rng([k, matrix.comm.rank]).standard_normal(vector.getLocalSize())
        comm = matrix.comm.tompi4py()
        count = max(comm.allreduce(len(nodes)), 1)
        arm = nodes - comm.allreduce(nodes.sum(axis=0)) / count
        size = np.sqrt(comm.allreduce(float(np.sum(arm**2))) / count) or 1.0
        basis = []
        for mode in rigid_motions(arm / size, dim, axisymmetric)[0]:
            vector = matrix.createVecRight()
            vector.array_w[:] = mode
            for other in basis:
                vector.axpy(-vector.dot(other), other)
            if vector.norm() > 0:
                vector.normalize()
                basis.append(vector)
        matrix.setNearNullSpace(PETSc.NullSpace().create(vectors=basis, comm=matrix.comm))

    def is_symmetric(self) -> bool:
        """Whether xᵀKy = yᵀKx for two random vectors."""
        x, y, image = self._probe
        self._matrix.mult(x, image)
        first, size = y.dot(image), image.norm() * y.norm()
        self._matrix.mult(y, image)
        return abs(first - x.dot(image)) <= 1e-12 * max(size, image.norm() * x.norm())

    def choose(self) -> None:
        """Set up the solver for the assembled tangent, unless the user named one."""
        if self._given or (symmetric := self.is_symmetric()) == self._symmetric:
            return
        if self._symmetric is False:
            return  # once lost, symmetry at a later state proves nothing for the next
        self._symmetric = symmetric
        options = PETSc.Options()
        chosen = dict(_DIRECT if self._direct else _MULTIGRID)
        if self._direct:
            chosen["pc_type"] = "cholesky" if symmetric else "lu"
        else:
            chosen["ksp_type"] = "cg" if symmetric else "gmres"
        values = {self._prefix + key: value for key, value in chosen.items() if not options.hasName(self._prefix + key)}
        ksp = self._snes.getKSP()
        with passing_options(values):
            ksp.setFromOptions()
            if not self._direct:
                # multigrid reads those of its levels when it is set up
                ksp.setOperators(self._matrix)
                ksp.setUp()
        method = f"MUMPS {chosen['pc_type']}" if self._direct else f"{chosen['ksp_type'].upper()} with GAMG"
        kind = "symmetric" if symmetric else "unsymmetric"
        self.description = f"{method}: {self._matrix.getSize()[0]} unknowns, {kind} tangent"
        LOG.info("linear solver %s", self.description)

    def recover(self) -> None:
        """After a solve that failed: drop a factorisation that may have broken off, which PETSc 3.22 would take for one."""
        pc = self._snes.getKSP().getPC()
        if pc.getType() not in ("lu", "cholesky"):
            return
        if pc.getFactorSolverType() == "mumps":
            try:
                error, detail = (pc.getFactorMatrix().getMumpsInfog(k) for k in (1, 2))
            except PETSc.Error:  # it was never set up
                error = detail = 0
            if error < 0:
                LOG.warning("MUMPS failed: INFOG(1) = %d, INFOG(2) = %d, see its manual", error, detail)
        pc.reset()

    def negative_pivots(self) -> int | None:
        """Negative eigenvalues of the last factorised tangent, where a symmetric direct solver counted them.

        A tangent at a stable equilibrium has none (Sylvester's law of inertia).
        """
        pc = self._snes.getKSP().getPC()
        if pc.getType() != "cholesky" or pc.getFactorSolverType() != "mumps" or self._snes.getIterationNumber() == 0:
            return None
        return int(pc.getFactorMatrix().getMumpsInfog(12))
