"""Plane stress: the strains of a free thickness are found point by point, and the tangent is condensed."""

from __future__ import annotations

from typing import Any

import numpy as np
from dolfinx import fem

from constitutive.driver import constrained_response
from constitutive.laws.law import INVALID, Law
from crystals import mandel

from . import dolfinx_versions as versions

_OUT_OF_PLANE = np.array([False, False, True, True, True, False])


class FreeThickness:
    """S33 = S23 = S13 = 0 at every point; the thickness strains start from those of the last converged step.

    Attributes
    ----------
    stretch : Function
        Stretch of the thickness at the quadrature points; 1 at small strain. `stretch_ufl` is its value in UFL.
    committed : array (n, 6)
        Total strains of the last converged step; the components 33, 23, 13 are read.
    """

    def __init__(self, law: Law, mesh: Any, degree: int, points: int, finite: bool) -> None:
        self._law, self._finite = law, finite
        self.stretch = fem.Function(versions.quadrature_space(mesh, degree, 1), name="thickness")
        self.stretch.x.array[:] = 1.0
        values: Any = self.stretch
        self.stretch_ufl: Any = values[0]
        self.committed = np.zeros((points, 6))
        self._trial = self.committed

    def commit(self) -> None:
        """Take the strains of the last answer over."""
        self.committed = np.array(self._trial)

    def answer(
        self, strain: np.ndarray, shape: Any, added: np.ndarray | None, slots: Any, **options: Any
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        """Total and elastic strains (n, 6), and energy, stress, packed condensed tangent, state and status.

        Parameters
        ----------
        strain : array (n, 6)
            Total strains, whose components 33, 23, 13 are not read.
        shape : StressFreeShape or None
        added : array (n, 6) or None
            Initial stress.
        slots : index
            Of the points in a quadrature Function.
        options
            state, dt, orientation and inputs of `constrained_response`.
        """
        start = np.where(_OUT_OF_PLANE, self.committed, strain)
        start = start if shape is None else shape.to_elastic(start)
        finite = np.isfinite(start).all(axis=1)
        target: Any = 0.0 if added is None else np.broadcast_to(-added, start.shape)
        point = constrained_response(
            self._law, np.where(finite[:, None], start, 0.0), target, stress_given=_OUT_OF_PLANE, **options
        )
        status = np.array(point.status)
        status[~(point.converged & finite)] = INVALID
        self._trial = total = point.strain if shape is None else shape.to_total(point.strain)
        if self._finite:
            # det C = (area ratio × stretch)²
            shear = mandel.from_mandel(total)[:, 0, 1]
            with np.errstate(invalid="ignore"):
                area = (1.0 + 2.0 * total[:, 0]) * (1.0 + 2.0 * total[:, 1]) - 4.0 * shear**2
                volume = np.linalg.det(np.eye(3) + 2.0 * mandel.from_mandel(total))
                self.stretch.x.array[slots] = np.sqrt(volume / area)
        number = self._law.tangent_entries
        entries = mandel.pack_upper(point.condensed) if number == 21 else point.condensed.reshape(-1, 36)
        stress = np.where(_OUT_OF_PLANE, target, point.stress)
        return total, point.strain, (np.array(point.energy), stress, entries, point.state, status)

    def complete(self, gradient: np.ndarray, strain: np.ndarray) -> np.ndarray:
        """Deformation gradients (n, 3, 3) with their third column, from the total strains (n, 6).

        The plane stays the plane, F31 = F32 = 0: that much rotation is free to choose.
        """
        gradient, tensor = gradient.copy(), mandel.from_mandel(strain)
        if not self._finite:
            gradient[:, :2, 2], gradient[:, 2, 2] = 2.0 * tensor[:, :2, 2], 1.0 + tensor[:, 2, 2]
            return gradient
        metric = np.eye(3) + 2.0 * tensor
        across = np.linalg.solve(np.swapaxes(gradient[:, :2, :2], 1, 2), metric[:, :2, 2:])[:, :, 0]
        gradient[:, :2, 2] = across
        gradient[:, 2, 2] = np.sqrt(metric[:, 2, 2] - np.sum(across**2, axis=1))
        return gradient
