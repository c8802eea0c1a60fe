"""Elastic constants of any order of a law: exact derivatives of its energy at the reference state."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.func import jacfwd

from crystals import mandel
from crystals.elastic_constants import ORDERS

if TYPE_CHECKING:
    from .law import Law

#: Steps of the differences along one direction that vouch for the third and the fourth order.
_STEPS = {3: 1e-4, 4: 1e-3}
#: Largest part by which exact derivative and difference may disagree, relative.
_AGREEMENT = 1e-2


def brugger_constants(law: Law, order: int) -> np.ndarray:
    """∂ⁿW/∂Eⁿ at E = 0, fully symmetric, Mandel, in the law's frame and units.

    Forward-mode automatic differentiation of the closed-form tangent, so exact to rounding (Brugger 1964,
    doi:10.1103/PhysRev.133.A1611). A difference of tangents along one direction vouches for it: a law that hides a part
    from automatic differentiation is refused instead of losing that part.

    Parameters
    ----------
    law : Law
        Above order 2 hyperelastic: no internal variables, symmetric tangent.
    order : int
        2, 3 or 4.

    Returns
    -------
    array (6, …, 6)
        `order` axes.

    Raises
    ------
    ValueError
        For another order, a law with internal variables, or one that cannot be differentiated that often.
    """
    where = f"{type(law).__name__}.stiffness"
    if order not in ORDERS:
        raise ValueError(f"{where}: expected an order of 2, 3 or 4, got {order!r}. Fifth order has no agreed names.")
    zero = np.zeros((1, 6))
    stiffness = np.asarray(law.stress_and_tangent(zero)[1][0])  # fills what the law precomputes before it is traced
    if order == 2:
        return stiffness
    if law.state_width or law.tangent_entries != 21:
        raise ValueError(
            f"{where}: expected a hyperelastic law with 21 tangent entries, got {law.state_width} internal variables and "
            f"{law.tangent_entries} entries. Not supported: higher-order constants of other laws."
        )

    def tangent(point: torch.Tensor) -> torch.Tensor:
        entries = law._evaluate(point[None], True)[2]
        assert entries is not None
        return mandel.unpack_upper(entries)[0]

    derivative = tangent
    for _ in range(order - 2):
        derivative = jacfwd(derivative)
    constants = derivative(torch.zeros(6, dtype=torch.float64, device=law.device)).detach().cpu().numpy()
    if not np.all(np.isfinite(constants)):
        raise ValueError(
            f"{where}: expected a law whose energy has {order} derivatives at the reference state, got infinite or "
            "undefined ones. Not supported: laws by way of eigenvectors, which coincide there."
        )
    _vouch(where, law, constants, stiffness, order)
    permutations = list(itertools.permutations(range(order)))
    return sum((np.transpose(constants, axes) for axes in permutations), np.zeros(())) / len(permutations)


def _vouch(where: str, law: Law, constants: np.ndarray, stiffness: np.ndarray, order: int) -> None:
    """Compare the constants with differences of the tangent along one direction."""
    direction = np.random.default_rng(0).normal(size=6)
    direction /= np.linalg.norm(direction)
    step = _STEPS[order]
    minus, plus = law.stress_and_tangent(step * np.array([-direction, direction]))[1]
    exact = constants @ direction
    if order == 3:
        difference = (plus - minus) / (2.0 * step)
    else:
        exact = exact @ direction
        difference = (plus - 2.0 * stiffness + minus) / step**2
    scale = np.linalg.norm(difference) + 1e-3 * np.linalg.norm(stiffness)
    error = float(np.linalg.norm(exact - difference) / scale)
    if not error <= _AGREEMENT:
        raise ValueError(
            f"{where}: expected derivatives of order {order} that agree with differences of the tangent to "
            f"{_AGREEMENT:g}, got {error:.2g}. A part of the law is hidden from automatic differentiation."
        )
