"""Laws with internal variables: how their state is laid out, and how a symmetry operation acts on it."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from crystals.rotations import mandel_rotation

from .law import Law


class HistoryLaw(Law):
    """A law whose stress depends on internal variables. Final classes give `_step`.

    Attributes
    ----------
    state_parts : tuple of (str, str)
        Name and kind of each internal variable, in the order in which they stand in the state: 'strain' (a symmetric
        tensor as 6 Mandel components, turned like the strain) or 'scalar' (1 component, left alone by every rotation).
        The virgin state is zero.
    """

    state_parts: tuple[tuple[str, str], ...] = ()

    @abstractmethod
    def _step(
        self, strain: Tensor, state: Tensor, dt: float, tangent: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]:
        """Free energy (n,), stress (n, 6), tangent entries or None, new state, and points (n,) that failed."""

    def _evaluate(self, strain: Tensor, tangent: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        virgin = torch.zeros(len(strain), self.state_width, dtype=strain.dtype, device=strain.device)
        return self._step(strain, virgin, 0.0, tangent)[:3]

    def state_rotation(self, rotation: np.ndarray) -> np.ndarray:
        """How a rotation acts on the state: the orthogonal matrix (state_width, state_width) of Q (3, 3)."""
        blocks = [mandel_rotation(rotation) if kind == "strain" else np.ones((1, 1)) for _, kind in self.state_parts]
        matrix = np.zeros((self.state_width, self.state_width))
        place = 0
        for block in blocks:
            matrix[place : place + len(block), place : place + len(block)] = block
            place += len(block)
        return matrix

    def state_part(self, state: np.ndarray, name: str) -> np.ndarray:
        """One internal variable (n, 6) or (n, 1) out of states (n, state_width), by its name."""
        place = 0
        for known, kind in self.state_parts:
            width = 6 if kind == "strain" else 1
            if known == name:
                return state[..., place : place + width]
            place += width
        names = ", ".join(known for known, _ in self.state_parts)
        raise ValueError(f"{type(self).__name__}.state_part: expected one of {names}, got {name!r}.")
