"""Gaussian processes for bulk and shear modulus on the descriptors of a crystal: what learns most from few data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystals.descriptors import CUTOFF, descriptors_of
from crystals.neighbours import Neighbours
from crystals.structures import as_atoms

#: What each process gives.
TARGETS = ("ln K", "ln G", "ln G/K")
#: Logarithms of the kernel's parameters beside the scales of the descriptors.
PARAMETERS = ("signal", "linear", "shares", "share_signal", "share_linear", "share_length", "noise")
_LARGEST = 4.0  # deviations from the mean beyond which a descriptor says no more


def crystal_row(structure: Any) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors (f,) of a crystal, and the share (119,) that each atomic number has of its atoms."""
    descriptors, shares = crystal_rows(Neighbours.of([as_atoms(structure)], CUTOFF))
    return descriptors[0], shares[0]


def crystal_rows(bonds: Neighbours) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors (k, f) of some crystals whose neighbours within 6 Å are known, and shares (k, 119) of the elements."""
    shares = np.zeros((len(bonds.counts), 119))
    np.add.at(shares, (bonds.crystal, bonds.numbers), 1.0 / bonds.counts[bonds.crystal])
    return descriptors_of(bonds), shares


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
        """ln K and ln G (k, 2), GPa, of crystals given by `crystal_row`; as `of_rows`."""
        return self.of_rows(np.stack([row for row, _ in crystals]), np.stack([c for _, c in crystals]))

    def of_rows(self, descriptors: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """ln K and ln G (k, 2), GPa, of descriptors (k, f) and shares of the elements (k, 119).

        ln G is the mean of what the process for G and those for K and for G/K say.
        """
        rows, c = self.scaled(descriptors), torch.from_numpy(shares)
        elements, own = self._elements
        apart = torch.addmm((c * c).sum(dim=1)[:, None] + own, c, elements, alpha=-2.0)
        found = torch.empty(len(rows), len(TARGETS), dtype=torch.float64)
        for i, (known, lengths, inner, mixed) in enumerate(self._prepared):
            signal, linear, share_scale, share_signal, share_linear, share_length, _ = torch.exp(self.parameters[i])
            x, weights = rows * torch.exp(self.scales[i]), self.weights[i]
            squared = torch.addmm(lengths + (x * x).sum(dim=1)[:, None], x, known, alpha=-2.0)
            squared.add_(apart * share_scale**2)
            total = signal * (_matern(squared) @ weights) + share_signal * (_matern(share_length**2 * apart) @ weights)
            total += linear * (x @ inner + weights.sum()) + share_linear * (c @ mixed)
            found[:, i] = total * self.unit[i] + self.offset[i]
        bulk, shear, ratio = found.unbind(dim=1)
        return torch.stack([bulk, 0.5 * (shear + bulk + ratio)], dim=1).numpy()

    @cached_property
    def _prepared(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """What `of_rows` needs of the training crystals, for each process: the linear parts of the kernel are summed."""
        known = [self.rows * torch.exp(scales) for scales in self.scales]
        return [
            (y.T.contiguous(), (y * y).sum(dim=1), y.T @ weights, self.shares.T @ weights)
            for y, weights in zip(known, self.weights, strict=True)
        ]

    @cached_property
    def _elements(self) -> tuple[Tensor, Tensor]:
        """Shares of the training crystals (119, n), and their squared lengths (n,)."""
        return self.shares.T.contiguous(), (self.shares * self.shares).sum(dim=1)

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
