"""Temperature, composition and the like at the quadrature points: what a law is given beside the strain."""

from __future__ import annotations

from typing import Any

import numpy as np
import ufl
from ufl.algorithms.analysis import extract_coefficients
from ufl.core.expr import Expr

from constitutive.laws.law import Law
from constitutive.laws.parametric import ParametricLaw

from . import dolfinx_versions as versions


class Inputs:
    """Values of a law's inputs at quadrature points, evaluated anew whenever they are asked for.

    Parameters
    ----------
    given : None, or float, Constant, Function or UFL expression, or a sequence of one for each input
        A single vector-valued Constant, Function or expression serves for several inputs.
    law : Law
        Law that takes them, or none.
    u : Function
        Displacement, on which they must not depend.
    points : (q, 3)
        Reference points of the quadrature rule.

    Raises
    ------
    ValueError
        Where their number is not that of the law's inputs, or they depend on the displacement.
    """

    def __init__(self, given: Any, law: Law, u: Any, points: np.ndarray) -> None:
        where, names = "QuadratureMaterial inputs", law.input_names
        self._law = law if isinstance(law, ParametricLaw) else None
        self._mesh, self._per_cell = u.function_space.mesh, len(points)
        self._expression: Any = None
        self._constant: np.ndarray | None = None
        if given is None and not names:
            return
        if given is None or not names:
            raise ValueError(
                f"{where}: expected {', '.join(names) or 'none'} for this {type(law).__name__}, got "
                f"{'none' if given is None else type(given).__name__}. Pass inputs=… to laws that have inputs alone."
            )
        parts: list[Any] = []
        for item in given if isinstance(given, (list, tuple, np.ndarray)) else [given]:
            shape = getattr(item, "ufl_shape", ())
            if len(shape) > 1:
                raise ValueError(
                    f"{where}: expected scalars or vectors, got shape {shape}. Give one value for each input."
                )
            parts += [item[i] for i in range(shape[0])] if shape else [item]
        if len(parts) != len(names):
            raise ValueError(f"{where}: expected one value of each of {', '.join(names)}, got {len(parts)}.")
        fields = [part for part in parts if isinstance(part, Expr)]
        if not fields:
            self._constant = np.array([float(part) for part in parts])
            return
        if any(u in extract_coefficients(part) for part in fields):
            raise ValueError(
                f"{where}: expected inputs that do not depend on the displacement, got one that does. Not supported: its "
                "share of the tangent."
            )
        self._expression = versions.compile_expression(ufl.as_vector(parts), points)

    def values(self, cells: np.ndarray) -> np.ndarray | None:
        """Inputs (n, k) at the points of local cells, or None for a law without."""
        if self._law is None:
            return None
        if self._constant is not None:
            return np.broadcast_to(self._constant, (len(cells) * self._per_cell, len(self._constant)))
        return versions.evaluate(self._expression, self._mesh, cells, len(self._law.input_names))

    def elastic_strain(self, strain: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """The strain (n, 6) that the trained range limits: counted from the stress-free cell of the inputs."""
        return strain if self._law is None else self._law.elastic_strain(strain, self.values(cells))

    def beyond(self, cells: np.ndarray) -> np.ndarray:
        """By how much (n,) inputs leave their range, over its width; 0 inside."""
        values = self.values(cells)
        if self._law is None or values is None:
            return np.zeros(len(cells) * self._per_cell)
        low, high = self._law.input_range.T
        return np.maximum(np.maximum(low - values, values - high) / (high - low), 0.0).max(axis=1)

    def described(self, cells: np.ndarray, point: int) -> str:
        """The inputs at one point, each beside its range."""
        values = self.values(cells)
        if self._law is None or values is None:
            return ""
        named = zip(self._law.input_names, values[point].tolist(), self._law.input_range.tolist(), strict=True)
        return ", ".join(f"{name} = {value:g} ({low:g} … {high:g})" for name, value, (low, high) in named)
