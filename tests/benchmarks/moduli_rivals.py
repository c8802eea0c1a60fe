"""Rivals of the crystal network on scalar moduli: composition alone, and a network of scalar bonds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from torch import Tensor, nn

from constitutive.crystal_graph import CrystalBatch

VOLUME = torch.zeros(6, 6)
VOLUME[:3, :3] = 1.0 / 3.0


def isotropic(scalars: Tensor) -> dict[str, Tensor]:
    """log C of an isotropic stiffness from log K and log G (k, 2) around typical values."""
    bulk, shear = scalars[:, 0] + np.log(3 * 94.0), scalars[:, 1] + np.log(2 * 40.0)
    return {"stiffness": bulk[:, None, None] * VOLUME + shear[:, None, None] * (torch.eye(6) - VOLUME)}


def mean(values: Tensor, crystal: Tensor, count: int) -> Tensor:
    total = torch.zeros(count, values.shape[1]).index_add_(0, crystal, values)
    return total / torch.bincount(crystal, minlength=count)[:, None]


class Composition(nn.Module):
    """Moduli from the shares of the elements: means, spreads and extremes of their properties, and a network."""

    features: Tensor

    def __init__(self, features: np.ndarray, width: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("features", torch.tensor(features, dtype=torch.float32))
        self.embedding = nn.Embedding(119, 32)
        nn.init.normal_(self.embedding.weight, std=0.1)
        inputs = 2 * (features.shape[1] + 32) + 2 * features.shape[1]
        self.network = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.SiLU(),
            nn.Dropout(dropout), nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, batch: CrystalBatch) -> dict[str, Tensor]:
        k = len(batch.volume)
        known = self.features[batch.numbers]
        site = torch.cat([known, self.embedding(batch.numbers)], dim=1)
        middle = mean(site, batch.crystal, k)
        spread = torch.sqrt(mean((site - middle[batch.crystal]) ** 2, batch.crystal, k) + 1e-6)
        index = batch.crystal[:, None].expand_as(known)
        zero = torch.zeros(k, known.shape[1])
        high = zero.scatter_reduce(0, index, known, "amax", include_self=False)
        low = zero.scatter_reduce(0, index, known, "amin", include_self=False)
        return isotropic(self.network(torch.cat([middle, spread, high, low], dim=1)))


@dataclass(frozen=True)
class Bonds:
    numbers: Tensor
    first: Tensor
    second: Tensor
    distance: Tensor

    @classmethod
    def of(cls, atoms: Atoms, nearest: int = 12, cutoff: float = 8.0) -> Bonds:
        """The twelve nearest neighbours of each atom."""
        first, second, distance = neighbor_list("ijd", atoms, cutoff)
        order = np.lexsort((distance, first))
        first, second, distance = first[order], second[order], distance[order]
        place = np.arange(len(first)) - np.searchsorted(first, first)
        kept = place < nearest
        return cls(
            torch.from_numpy(atoms.numbers.astype(np.int64)), torch.from_numpy(first[kept]),
            torch.from_numpy(second[kept]), torch.from_numpy(distance[kept]),
        )  # fmt: skip


@dataclass(frozen=True)
class BondBatch:
    numbers: Tensor
    crystal: Tensor
    first: Tensor
    second: Tensor
    distance: Tensor
    count: int

    @classmethod
    def of(cls, crystals: Sequence[Bonds]) -> BondBatch:
        sizes = [len(one.numbers) for one in crystals]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()
        return cls(
            torch.cat([one.numbers for one in crystals]),
            torch.repeat_interleave(torch.arange(len(crystals)), torch.tensor(sizes)),
            torch.cat([one.first + start for one, start in zip(crystals, starts, strict=True)]),
            torch.cat([one.second + start for one, start in zip(crystals, starts, strict=True)]),
            torch.cat([one.distance for one in crystals]).float(),
            len(crystals),
        )

    def to(self, device: Any) -> BondBatch:
        return self


class BondNetwork(nn.Module):
    """Gated convolutions over the twelve nearest neighbours with distances on Gaussians.

    As the crystal graph convolutional network of Xie and Grossman 2018 (doi:10.1103/PhysRevLett.120.145301), with the
    same properties of the elements as ours.
    """

    features: Tensor
    centres: Tensor

    def __init__(self, features: np.ndarray, width: int = 48, layers: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("features", torch.tensor(features, dtype=torch.float32))
        self.register_buffer("centres", torch.linspace(0.0, 8.0, 41))
        self.start = nn.Linear(features.shape[1], width)
        self.embedding = nn.Embedding(119, width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.rounds = nn.ModuleList([nn.Linear(2 * width + 41, 2 * width) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(2 * width) for _ in range(layers)])
        self.network = nn.Sequential(
            nn.Linear(width, 2 * width), nn.Softplus(), nn.Dropout(dropout), nn.Linear(2 * width, 2)
        )

    def forward(self, batch: BondBatch) -> dict[str, Tensor]:
        x = self.start(self.features[batch.numbers]) + self.embedding(batch.numbers)
        shells = torch.exp(-(((batch.distance[:, None] - self.centres) / 0.2) ** 2))
        for linear, norm in zip(self.rounds, self.norms, strict=True):
            message = norm(linear(torch.cat([x[batch.first], x[batch.second], shells], dim=1)))
            gate, core = message.chunk(2, dim=1)
            gathered = torch.zeros_like(x).index_add_(
                0, batch.first, torch.sigmoid(gate) * nn.functional.softplus(core)
            )
            x = nn.functional.softplus(x + gathered / 12.0)
        return isotropic(self.network(mean(x, batch.crystal, batch.count)))
