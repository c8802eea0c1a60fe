"""An E(3)-equivariant message-passing network over a periodic crystal: atoms → scalars, stiffness, other tensors.

A site carries scalars x (n, c) and vectors H_l (n, 2l+1, c) of every degree l, which turn with the crystal. A layer

1. gathers from all neighbours j of site i, A_l = Σ_j t_l(x_i, x_j) [W_l · G_ij,l], with G the lattice sums of
   `crystals.pair_sums` (complete shells, smooth cutoff), t a small network of both sites' scalars, and from the second
   layer on the vectors H_l of the neighbours too;
2. multiplies vectors of one site with each other by the coupling coefficients of `crystals.spherical`;
3. updates x by a network of the invariants |A_l|², A_l·B_l, and H_l by channel mixing gated by x.

Means over the sites give what the crystal as a whole is: independent of cell, origin and order of atoms. Every operation
commutes with rotations and reflections, so a crystal's own point group leaves its tensors alone. As MACE does (Batatia
et al. 2022, arXiv:2206.07697), with the sum over images taken before the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from crystals.pair_sums import PairSums, pair_sums
from crystals.spherical import coupling, piezoelectric_harmonics, symmetric_tensor_harmonics

#: What a head gives: (degree, natural parity, tensors (2l+1, …)) of each part.
HEADS = ("stiffness", "third_order", "piezoelectric")
#: The head 'third_order' times this (GPa) is the third-order constants, so that its numbers are of order one.
THIRD_ORDER_UNIT = 1000.0


@dataclass(frozen=True)
class CrystalBatch:
    """Several crystals as one: sites and pairs in a row.

    Attributes
    ----------
    numbers : (n,) int
        Atomic numbers of all sites.
    crystal : (n,) int
        Which crystal a site belongs to.
    first, second : (p,) int
        Sites of each pair.
    sums : (p, radial, (degree + 1)²)
        Lattice sums.
    volume : (k,)
        Å³ per atom of each crystal.
    """

    numbers: Tensor
    crystal: Tensor
    first: Tensor
    second: Tensor
    sums: Tensor
    volume: Tensor

    @classmethod
    def of(cls, crystals: Sequence[PairSums], dtype: torch.dtype = torch.float64) -> CrystalBatch:
        """The batch of some crystals, in the order given."""
        counts = np.array([len(one.numbers) for one in crystals])
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])

        def sites(name: str) -> Tensor:
            return torch.from_numpy(
                np.concatenate([getattr(one, name) + start for one, start in zip(crystals, starts, strict=True)])
            )

        return cls(
            torch.from_numpy(np.concatenate([one.numbers for one in crystals])),
            torch.from_numpy(np.repeat(np.arange(len(crystals)), counts)),
            sites("first"),
            sites("second"),
            torch.from_numpy(np.concatenate([one.sums for one in crystals])).to(dtype),
            torch.tensor([one.volume for one in crystals], dtype=dtype),
        )

    @cached_property
    def shells(self) -> list[Tensor]:
        """The lattice sums of each degree l as (p, 2l+1, radial): laid out once for all layers and networks."""
        degrees = round(self.sums.shape[2] ** 0.5)
        return [self.sums[:, :, l * l : (l + 1) ** 2].transpose(1, 2).contiguous() for l in range(degrees)]

    def to(self, device: Any) -> CrystalBatch:
        return CrystalBatch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def head_parts(head: str) -> list[tuple[int, bool, np.ndarray]]:
    """Degree, whether of natural parity, and tensors (2l+1, …) of each part of a head's tensor."""
    if head == "stiffness":
        return [(degree, degree % 2 == 0, tensors) for degree, tensors in symmetric_tensor_harmonics(2)]
    if head == "third_order":
        return [(degree, degree % 2 == 0, tensors) for degree, tensors in symmetric_tensor_harmonics(3)]
    if head == "piezoelectric":
        return [(degree, degree % 2 == 1, tensors) for degree, tensors in piezoelectric_harmonics()]
    raise ValueError(f"CrystalNetwork: expected heads among {', '.join(HEADS)}, got {head!r}.")


class _Layer(nn.Module):
    """One round of messages; see the module's docstring."""

    couple: Tensor

    def __init__(
        self, channels: int, products: int, radial: int, degree: int, reach: int, dropout: float, first: bool
    ) -> None:
        super().__init__()
        self.degree, self.channels, self.products, self.first = degree, channels, products, first
        self.sender, self.receiver = nn.Linear(channels, channels), nn.Linear(channels, channels, bias=False)
        self.strengths = nn.Linear(channels, (degree + 1) * channels)
        self.radial = nn.Parameter(torch.randn(degree + 1, radial, channels) / radial**0.5)
        if not first:
            self.carry = nn.Linear(channels, (2 * degree) * channels)
            self.carry_radial = nn.Parameter(torch.randn(degree + 1, radial, channels) / radial**0.5)
        # all couplings of degrees 1 … reach as one matrix: rows (a, b), columns the parts of every path
        size, offset = (reach + 1) ** 2 - 1, 1
        paths, columns = [], []
        for one in range(1, reach + 1):
            for two in range(one, reach + 1):
                for joint in range(abs(one - two), min(one + two, degree) + 1):
                    block = np.zeros((size, size, 2 * joint + 1))
                    rows = slice(one * one - offset, (one + 1) ** 2 - offset)
                    block[rows, two * two - offset : (two + 1) ** 2 - offset] = coupling(one, two, joint)
                    paths.append((joint, (one + two + joint) % 2 == 0))
                    columns.append(block.reshape(size * size, -1))
        self.paths, self.size = paths, size
        self.register_buffer("couple", torch.from_numpy(np.concatenate(columns, axis=1)), persistent=False)
        self.left = nn.ModuleList([nn.Linear(channels, products, bias=False) for _ in range(reach)])
        self.right = nn.ModuleList([nn.Linear(channels, products, bias=False) for _ in range(reach)])
        natural = [sum(path == (l, True) for path in paths) for l in range(degree + 1)]
        self.mix = nn.ModuleDict(
            {str(l): nn.Linear(channels + natural[l] * products, channels, bias=False) for l in range(1, degree + 1)}
        )
        inputs = channels * (2 + 2 * degree) + natural[0] * products
        self.norm = nn.LayerNorm(inputs)
        self.update = nn.Sequential(
            nn.Linear(inputs, 2 * channels), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * channels, channels)
        )
        self.gate = nn.Linear(channels, degree * channels)

    def forward(
        self, x: Tensor, vectors: list[Tensor], shells: list[Tensor], scale: Tensor, first: Tensor, second: Tensor
    ) -> tuple[Tensor, list[Tensor], dict[tuple[int, bool], Tensor]]:
        n, c = x.shape
        pair = silu(self.receiver(x)[first] + self.sender(x)[second])
        strength = self.strengths(pair).reshape(-1, self.degree + 1, c)
        if not self.first:
            carried = self.carry(pair).reshape(-1, 2 * self.degree, c)
        gathered: list[Tensor] = []
        scalar = torch.zeros(0)
        for l in range(self.degree + 1):
            block, weights = shells[l], self.radial[l] * scale[:, l, None]
            message = (block @ weights) * strength[:, l, None]
            if l == 0:
                scalar = message
                if not self.first:
                    shell = block[:, 0] @ (self.carry_radial[0] * scale[:, 0, None])
                continue
            if not self.first:
                theirs = vectors[l - 1][second]
                message = torch.addcmul(message, (shell * carried[:, l - 1])[:, None], theirs)
                seen = (block @ (self.carry_radial[l] * scale[:, l, None])).mul(theirs).sum(dim=1)
                scalar = torch.addcmul(scalar, seen[:, None], carried[:, self.degree + l - 1][:, None])
            gathered.append(_summed(message, first, n))
        gathered.insert(0, _summed(scalar, first, n))

        reach = len(self.left)
        left = torch.cat([self.left[l](gathered[l + 1]) for l in range(reach)], dim=1).transpose(0, 1)
        right = torch.cat([self.right[l](gathered[l + 1]) for l in range(reach)], dim=1).transpose(0, 1)
        # components first: one product of matrices for all sites and channels
        outer = (left[:, None] * right[None]).reshape(self.size**2, n * self.products)
        coupled = (self.couple.T.to(outer.dtype) @ outer).reshape(-1, n, self.products).transpose(0, 1)
        coupled = torch.split(coupled, [2 * l + 1 for l, _ in self.paths], dim=1)
        natural: list[list[Tensor]] = [[] for _ in range(self.degree + 1)]
        other: dict[tuple[int, bool], list[Tensor]] = {}
        for (l, is_natural), part in zip(self.paths, coupled, strict=True):
            (natural[l] if is_natural else other.setdefault((l, False), [])).append(part)
        mixed = {l: self.mix[str(l)](torch.cat([gathered[l], *natural[l]], dim=2)) for l in range(1, self.degree + 1)}
        invariants = [x, gathered[0][:, 0], *(part[:, 0] for part in natural[0])]
        for l in range(1, self.degree + 1):
            invariants += [gathered[l].square().mean(dim=1), (gathered[l] * mixed[l]).mean(dim=1)]
        x = x + self.update(self.norm(torch.cat(invariants, dim=1)))
        gates = torch.sigmoid(self.gate(x)).reshape(n, self.degree, c)
        turned = [mixed[l] * gates[:, None, l - 1] for l in range(1, self.degree + 1)]
        if not self.first:
            turned = [new + old for new, old in zip(turned, vectors, strict=True)]
        return x, turned, {key: torch.cat(parts, dim=2) for key, parts in other.items()}


def _summed(values: Tensor, index: Tensor, size: int) -> Tensor:
    return torch.zeros(size, *values.shape[1:], dtype=values.dtype, device=values.device).index_add_(0, index, values)


class CrystalNetwork(nn.Module):
    """Tensors of a crystal from its structure: rotated with the crystal, left alone by its point group, by construction.

    Parameters
    ----------
    heads : sequence of str
        Tensors to give: 'stiffness' (6, 6) and 'third_order' (6, 6, 6), fully symmetric Mandel arrays, 'piezoelectric'
        (3, 6). 'stiffness' is a symmetric matrix A whose exponential is the stiffness (see `stiffness`).
    element_features : (119, f)
        Scaled properties of each element, row = atomic number.
    channels, products, layers, radial, degree, reach : int
        Width; width of products; rounds of messages; radial functions; highest degree; highest degree multiplied.
    cutoff : float
        Å.
    dropout : float
        Share of hidden values set to zero while training.
    """

    element_features: Tensor
    sum_scale: Tensor
    scalar_offset: Tensor

    def __init__(
        self,
        heads: Sequence[str] = ("stiffness",),
        element_features: np.ndarray | Tensor | None = None,
        *,
        channels: int = 48,
        products: int = 16,
        layers: int = 2,
        radial: int = 10,
        degree: int = 4,
        reach: int = 2,
        cutoff: float = 6.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        features = torch.as_tensor(np.eye(119) if element_features is None else element_features).to(torch.float32)
        if features.ndim != 2 or len(features) != 119:
            raise ValueError(
                f"CrystalNetwork: expected element_features (119, f), a row for each atomic number from 0, got shape "
                f"{tuple(features.shape)}."
            )
        parts = {head: head_parts(head) for head in heads}
        highest = max((l for found in parts.values() for l, _, _ in found), default=0)
        if highest > degree:
            raise ValueError(
                f"CrystalNetwork: expected a degree of at least {highest} for {', '.join(heads)}, got {degree}. The "
                "tensor has parts of that degree."
            )
        self.config = {
            "heads": list(heads), "channels": channels, "products": products, "layers": layers, "radial": radial,
            "degree": degree, "reach": reach, "cutoff": cutoff, "dropout": dropout,
        }  # fmt: skip
        self.heads, self.degree, self.radial, self.cutoff = tuple(heads), degree, radial, cutoff
        self.register_buffer("element_features", features)
        self.register_buffer("sum_scale", torch.ones(radial, (degree + 1) ** 2))
        self.embedding = nn.Embedding(119, channels)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.properties = nn.Sequential(
            nn.Linear(features.shape[1], channels), nn.SiLU(), nn.Linear(channels, channels)
        )
        self.density = nn.Linear(1, channels)
        rounds = [_Layer(channels, products, radial, degree, reach, dropout, first=t == 0) for t in range(layers)]
        self.rounds, paths = nn.ModuleList(rounds), rounds[-1].paths
        self.site = nn.Sequential(nn.Linear(channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, 2 * channels))
        scalars = sum(l == 0 for found in parts.values() for l, _, _ in found)
        self.whole = nn.Sequential(
            nn.Linear(4 * channels, 2 * channels), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * channels, channels)
        )
        self.scalars = nn.Linear(channels, scalars)
        self.register_buffer("scalar_offset", torch.zeros(scalars))
        odd = {key[0]: sum(path == (key[0], False) for path in paths) for key in _pseudo(parts)}
        self.tensors = nn.ModuleDict()
        self.amounts = nn.ModuleDict()
        for head, found in parts.items():
            for place, (l, natural, tensors) in enumerate(found):
                self.register_buffer(f"{head}_{place}", torch.from_numpy(tensors), persistent=False)
                if l:
                    width = channels if natural else odd[l] * products
                    self.tensors[f"{head}_{place}"] = nn.Linear(width, channels, bias=False)
                    self.amounts[f"{head}_{place}"] = nn.Linear(channels, channels)
        self._parts = parts

    def sums(self, structure: Any) -> PairSums:
        """Lattice sums of a structure with this network's cutoff, radial functions and degree."""
        return pair_sums(structure, self.cutoff, self.radial, self.degree)

    def forward(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """Tensor of every head for each of k crystals: (k, 6, 6), (k, 6, 6, 6), (k, 3, 6)."""
        dtype = self.scalars.weight.dtype
        shells = [block.to(dtype) for block in batch.shells]
        # one scale for each degree, so that vectors stay vectors
        scale = self.sum_scale.to(dtype)[:, [l * l for l in range(self.degree + 1)]]
        k = len(batch.volume)
        x = self.embedding(batch.numbers) + self.properties(self.element_features.to(dtype)[batch.numbers])
        x = x + self.density(torch.log(batch.volume.to(dtype) / 18.0)[batch.crystal, None])
        vectors: list[Tensor] = []
        pseudo: dict[tuple[int, bool], Tensor] = {}
        for layer in self.rounds:
            x, vectors, pseudo = layer(x, vectors, shells, scale, batch.first, batch.second)
        count = _summed(torch.ones_like(x[:, 0]), batch.crystal, k)[:, None]

        def mean(values: Tensor) -> Tensor:
            return _summed(values, batch.crystal, k) / count.reshape(-1, *(1,) * (values.ndim - 1))

        site = self.site(x)
        middle = mean(site)
        spread = mean((site - middle[batch.crystal]).square())
        whole = silu(self.whole(torch.cat([middle, torch.sqrt(spread + 1e-6)], dim=1)))
        scalars = self.scalars(whole) + self.scalar_offset.to(dtype)
        result, used = {}, 0
        for head, found in self._parts.items():
            total: Any = 0.0
            for place, (l, natural, _) in enumerate(found):
                name = f"{head}_{place}"
                tensors = getattr(self, name).to(dtype)
                if l == 0:
                    part, used = scalars[:, used, None], used + 1
                else:
                    source = vectors[l - 1] if natural else pseudo[l, False]
                    part = (mean(self.tensors[name](source)) * self.amounts[name](whole)[:, None]).mean(dim=2)
                total = total + torch.tensordot(part, tensors, dims=1)
            result[head] = total
        return result

    def set_scales(self, crystals: Sequence[PairSums]) -> None:
        """Scale the lattice sums by their root mean square over some crystals, one figure for each function and degree."""
        squares = torch.zeros_like(self.sum_scale, dtype=torch.float64)
        pairs = 0
        for one in crystals:
            squares += torch.from_numpy(np.square(one.sums).sum(axis=0))
            pairs += len(one.sums)
        for l in range(self.degree + 1):
            block = slice(l * l, (l + 1) ** 2)
            mean = squares[:, block].mean(dim=1, keepdim=True) / pairs
            self.sum_scale[:, block] = torch.rsqrt(mean + 1e-12).to(self.sum_scale.dtype)


def _pseudo(parts: dict[str, list[tuple[int, bool, np.ndarray]]]) -> set[tuple[int, bool]]:
    return {(l, natural) for found in parts.values() for l, natural, _ in found if l and not natural}


def stiffness(logarithm: Tensor) -> Tensor:
    """exp(A) (…, 6, 6) of symmetric matrices: positive definite, and as symmetric under rotations as A is."""
    return torch.linalg.matrix_exp(logarithm)


def bulk_and_shear(logarithm: Tensor) -> tuple[Tensor, Tensor]:
    """Voigt–Reuss–Hill bulk and shear modulus (k,), (k,) of exp(A), as Hill 1952 (doi:10.1088/0370-1298/65/5/307).

    With C = exp(A), S = exp(−A): 9 K_V = 1·C·1, 1/K_R = 1·S·1, tr C = 3 K_V + 10 G_V, tr S = 1/(3 K_R) + 5/(2 G_R).
    """
    stiff, soft = torch.linalg.matrix_exp(logarithm), torch.linalg.matrix_exp(-logarithm)
    upper = stiff[:, :3, :3].sum(dim=(1, 2)) / 9.0
    ease = soft[:, :3, :3].sum(dim=(1, 2))
    upper_shear = (torch.einsum("kii->k", stiff) - 3.0 * upper) / 10.0
    lower_shear = 2.5 / (torch.einsum("kii->k", soft) - ease / 3.0)
    return 0.5 * (upper + 1.0 / ease), 0.5 * (upper_shear + lower_shear)
