"""Gaussian processes for bulk and shear modulus on the descriptors of a crystal: what learns most from few data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystals.descriptors import crystal_descriptors
from crystals.structures import as_atoms

#: What each process gives.
TARGETS = ("ln K", "ln G", "ln G/K")
#: Logarithms of the kernel's parameters beside the scales of the descriptors.
PARAMETERS = ("signal", "linear", "shares", "share_signal", "share_linear", "share_length", "noise")
_LARGEST = 4.0  # deviations from the mean beyond which a descriptor says no more


def crystal_row(structure: Any) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors (f,) of a crystal, and the share (119,) that each atomic number has of its atoms."""
    atoms = as_atoms(structure)
    return crystal_descriptors(atoms), np.bincount(atoms.numbers, minlength=119) / len(atoms)


def kernel(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor], scales: Tensor, parameters: Tensor) -> Tensor:
    """Covariance (a, b) of crystals by their scaled descriptors (·, f) and shares of the elements (·, 119).

    A Matérn kernel (ν = 3/2) and a linear one of descriptors, each with a scale of its own, and the same of the shares:
    s k(|l x; e c|) + b (l x)·(l x') + s_c k(e_c |c − c'|) + b_c c·c'. Rasmussen and Williams 2006, Gaussian Processes
    for Machine Learning, eqs. 4.17 and 5.1.
    """
    signal, linear, shares, share_signal, share_linear, share_length, _ = torch.exp(parameters)
    (x, c), (y, d) = one, two
    x, y, l = x * torch.exp(scales), y * torch.exp(scales), shares
    inner = x @ y.T
    mixed = c @ d.T
    apart = (c * c).sum(dim=1)[:, None] + (d * d).sum(dim=1) - 2.0 * mixed
    squared = (x * x).sum(dim=1)[:, None] + (y * y).sum(dim=1) - 2.0 * inner + l**2 * apart
    return (
        signal * _matern(squared) + linear * (inner + 1.0)
        + share_signal * _matern(share_length**2 * apart) + share_linear * mixed
    )  # fmt: skip


def _matern(squared: Tensor) -> Tensor:
    # the root has no derivative at zero, the function has
    distance = torch.sqrt(3.0 * squared.clamp_min(1e-12))
    return (1.0 + distance) * torch.exp(-distance)


@dataclass
class ModuliProcess:
    """Three processes on one set of crystals.

    Attributes
    ----------
    centre, width : (f,)
        Mean and deviation of each descriptor over the training crystals.
    rows : (n, f)
        Scaled descriptors of the training crystals.
    shares : (n, 119)
        Shares of the elements.
    scales : (3, f)
        Logarithm of the scale of each descriptor, for each of `TARGETS`.
    parameters : (3, 7)
        Logarithms of `PARAMETERS`.
    weights : (3, n)
        Of the kernel's columns.
    offset, unit : (3,)
        Mean and deviation of the targets.
    """

    centre: Tensor
    width: Tensor
    rows: Tensor
    shares: Tensor
    scales: Tensor
    parameters: Tensor
    weights: Tensor
    offset: Tensor
    unit: Tensor

    def scaled(self, descriptors: np.ndarray) -> Tensor:
        """Descriptors (k, f) as the kernel takes them."""
        return ((torch.from_numpy(descriptors) - self.centre) / self.width).clamp(-_LARGEST, _LARGEST)

    def logarithms(self, crystals: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """ln K and ln G (k, 2), GPa, of crystals given by `crystal_row`.

        ln G is the mean of what the process for G and those for K and for G/K say.
        """
        asked = (
            self.scaled(np.stack([row for row, _ in crystals])),
            torch.from_numpy(np.stack([c for _, c in crystals])),
        )
        known = self.rows, self.shares
        found = torch.stack(
            [
                kernel(asked, known, self.scales[i], self.parameters[i]) @ self.weights[i] * self.unit[i] + self.offset[i]
                for i in range(len(TARGETS))
            ],
            dim=1,
        )  # fmt: skip
        bulk, shear, ratio = found.unbind(dim=1)
        return torch.stack([bulk, 0.5 * (shear + bulk + ratio)], dim=1).numpy()

    def tensors(self) -> dict[str, Tensor]:
        """What a file holds; `of_tensors` takes it. Rows and shares are half-precision numbers already."""
        large = ("rows", "shares")
        return {
            name: getattr(self, name).to(torch.float16 if name in large else torch.float64).contiguous()
            for name in self.__dataclass_fields__
        }

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> ModuliProcess:
        return cls(**{name: tensors[name].double() for name in cls.__dataclass_fields__})
