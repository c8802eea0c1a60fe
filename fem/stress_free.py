"""The stress-free shape of the material: eigenstrains, thermal or growth deformations, and initial stress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import ufl as _ufl
from ufl.algorithms.analysis import extract_coefficients
from ufl.core.expr import Expr

from crystals import mandel

ufl: Any = _ufl  # its operators defy type checkers


class TensorField:
    """A symmetric or general tensor (3, 3) at the quadrature points, read again at every update.

    Parameters
    ----------
    name : str
        Argument that it is given as, for messages.
    given : array (3, 3), Constant, Function or UFL expression of that shape
    u : Function
        Displacement, on which it must not depend.
    compile_and_evaluate : callable
        Turns a UFL expression into a function that gives its values (n, 9) at the quadrature points.
    """

    def __init__(self, name: str, given: Any, u: Any, compile_and_evaluate: Callable[[Any], Any]) -> None:
        where = f"QuadratureMaterial {name}"
        tensor: Any = given
        shape = tuple(tensor.ufl_shape) if isinstance(given, Expr) else np.shape(given)
        if shape != (3, 3):
            raise ValueError(
                f"{where}: expected a tensor of shape (3, 3), got {shape}. In two dimensions the third row and column are "
                "those of the thickness (of θ in a body of revolution)."
            )
        self._constant: np.ndarray | None = None
        if not isinstance(given, Expr):
            self._constant = np.asarray(given, dtype=float)[None]
            if not np.all(np.isfinite(self._constant)):
                raise ValueError(f"{where}: expected finite values, got {self._constant[0].tolist()}.")
            return
        if u in extract_coefficients(given):
            raise ValueError(
                f"{where}: expected a tensor that does not depend on the displacement, got one that does. Not supported: "
                "its share of the tangent."
            )
        self._evaluate = compile_and_evaluate(ufl.as_vector([tensor[i, j] for i in range(3) for j in range(3)]))

    def __call__(self) -> np.ndarray:
        """Values (n, 3, 3), or (1, 3, 3) of a constant."""
        return self._constant if self._constant is not None else self._evaluate().reshape(-1, 3, 3)


class StressFreeShape:
    """The strain is counted from a stress-free shape F_θ, and stresses brought back to the reference shape.

    F = F_e F_θ with W = J_θ W_e(E_e) per reference volume (Rodriguez, Hoger and McCulloch 1994,
    doi:10.1016/0021-9290(94)90021-3; Lee 1969 for plasticity). E_e = F_θ⁻ᵀ (E − E_θ) F_θ⁻¹ is linear in E: with A its
    Mandel matrix, S = J_θ Aᵀ S_e and C = J_θ Aᵀ C_e A. At small strain ε_e = ε − ε_θ.

    Parameters
    ----------
    field : TensorField
        F_θ ('finite') or ε_θ ('small').
    kinematics : str
    """

    def __init__(self, field: TensorField, kinematics: str) -> None:
        self._field, self._finite = field, kinematics == "finite"
        self._volume: Any = 1.0
        self._matrix = np.eye(6)[None]
        self._strain = np.zeros((1, 6))

    def read(self) -> None:
        """Read the field."""
        value = self._field()
        if not self._finite:
            self._strain = mandel.to_mandel(value)
            return
        volume = np.linalg.det(value)
        if not np.all(volume > 0):
            raise ValueError(
                f"QuadratureMaterial stress_free: expected deformation gradients with det F > 0, got {np.min(volume):.3g}. "
                "For finite strain give F of the stress-free shape: 1 + its displacement gradient."
            )
        inverse = np.linalg.inv(value)
        i, j, k, l = mandel.ROWS[:, None], mandel.COLUMNS[:, None], mandel.ROWS[None], mandel.COLUMNS[None]
        # X ↦ F_θ⁻ᵀ X F_θ⁻¹: the same formula as a rotation of Mandel vectors, with F_θ⁻ᵀ in place of Q
        g = np.swapaxes(inverse, 1, 2)
        mixed = 0.5 * (g[:, i, k] * g[:, j, l] + g[:, i, l] * g[:, j, k])
        self._matrix = mixed * (mandel.WEIGHTS[:, None] * mandel.WEIGHTS[None, :])
        self._volume, self._strain = volume, mandel.green_lagrange(value)

    def to_elastic(self, strain: np.ndarray) -> np.ndarray:
        """Strains (n, 6) that the law is asked for."""
        if not self._finite:
            return strain - self._strain
        return np.einsum("nij,nj->ni", np.broadcast_to(self._matrix, (len(strain), 6, 6)), strain - self._strain)

    def to_total(self, strain: np.ndarray) -> np.ndarray:
        """Total strains (n, 6) of elastic ones; small strain."""
        return strain + self._strain

    def energy(self, energy: np.ndarray) -> np.ndarray:
        """Energy per reference volume (n,)."""
        return self._volume * energy if self._finite else energy

    def stress(self, stress: np.ndarray) -> np.ndarray:
        """Stresses (n, 6) of the reference shape."""
        if not self._finite:
            return stress
        scaled = np.reshape(self._volume, (-1, 1, 1)) * self._matrix
        return np.einsum("nji,nj->ni", np.broadcast_to(scaled, (len(stress), 6, 6)), stress)

    def tangent(self, entries: np.ndarray) -> np.ndarray:
        """Packed tangents (n, 21) or (n, 36) of the reference shape."""
        if not self._finite:
            return entries
        number = entries.shape[1]
        full = mandel.unpack_upper(entries) if number == 21 else entries.reshape(-1, 6, 6)
        turned = np.reshape(self._volume, (-1, 1, 1)) * (np.swapaxes(self._matrix, 1, 2) @ full @ self._matrix)
        return mandel.pack_upper(turned) if number == 21 else turned.reshape(-1, 36)
