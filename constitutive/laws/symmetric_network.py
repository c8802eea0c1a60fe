"""Networks of strain that a point group leaves alone, in three forms or none, with closed-form derivatives.

All of them are functions N(x) of x = E/s in the group's standard frame, smooth, and invariant whatever their weights:

- `InvariantNetwork`: N(I(x)), a network of the generators of the group's strain invariants.
- `AveragedNetwork`: the mean of N(g x) over the proper rotations g of the Laue class (finite groups).
- `DirectionalNetwork`: Σ_k mean_d φ_k(x_dd, b) over orbits k of lattice directions d, with the strain x_dd = d·x·d along d
  and the change of volume b = (det(1 + 2E) − 1) / 2s, or the mean of several such sums. Bonds, struts and fibres are
  functions of their own stretch (Cauchy; Carol, Jirásek and Bažant 2004, doi:10.1016/j.ijsolstr.2003.12.019, for the
  microplane form), and a function of two variables extrapolates better than one of six (finite groups).
"""

from __future__ import annotations

import itertools
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from crystals import mandel
from crystals.groups import PointGroup
from crystals.invariants import Polynomials, strain_invariants
from crystals.rotations import mandel_rotation

from .network import ScalarNetwork
from .polynomial import PolynomialMap

#: The forms, by the name that a law's configuration gives them.
FORMS = ("invariants", "average", "directions", "none")


class SymmetricNetwork(Protocol):
    """What a law asks of its network."""

    def at(self, strain: Tensor, tangent: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """s² N (n,), ∂/∂E (n, 6) and 21 entries of ∂²/∂E² (n, 21), or None, at strains E (n, 6)."""
        ...


def symmetric_network(
    form: str, symbol: str, widths: tuple[int, ...], scale: float, seed: int, members: int = 1
) -> torch.nn.Module:
    """A network of the given form for a Laue class or limit group."""
    if form not in FORMS:
        raise ValueError(f"SymmetricLaw: expected network in {', '.join(FORMS)}, got {form!r}.")
    if members < 1 or (members > 1 and form != "directions"):
        raise ValueError(
            f"SymmetricLaw: expected members of at least 1, and 1 but for network 'directions', got {members} for {form!r}. "
            "Leave it out."
        )
    if form == "none":
        return NoNetwork()
    if form == "invariants":
        return InvariantNetwork(symbol, widths, scale, seed)
    if not PointGroup(symbol).is_finite:
        raise ValueError(
            f"SymmetricLaw: not supported: network {form!r} for {symbol}, whose rotations are infinitely many. "
            "Use network='invariants'."
        )
    if form == "average":
        return AveragedNetwork(symbol, widths, scale, seed)
    return DirectionalNetwork(symbol, widths, scale, seed, members)


class NoNetwork(torch.nn.Module):
    """N = 0: the law is its polynomial."""

    widths: tuple[int, ...] = ()

    def at(self, strain: Tensor, tangent: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        zero = strain.new_zeros(len(strain))
        return zero, torch.zeros_like(strain), strain.new_zeros(len(strain), 21) if tangent else None


class InvariantNetwork(ScalarNetwork):
    """N(I(x)), I the generators of the strain invariants (`crystals.invariants.strain_invariants`), each divided by its
    largest value on the unit sphere: high degrees are peaked, and inputs beyond order one would cost digits."""

    sizes: Tensor

    def __init__(self, symbol: str, widths: tuple[int, ...], scale: float, seed: int) -> None:
        invariants = strain_invariants(symbol)
        super().__init__(len(invariants), widths, seed)
        self.scale = scale
        self.invariants = PolynomialMap(invariants)
        probes = np.random.default_rng(0).normal(size=(4096, 6))
        probes = np.concatenate([probes, np.eye(6)])
        probes /= np.linalg.norm(probes, axis=1)[:, None]
        self.register_buffer("sizes", torch.from_numpy(np.max(np.abs(invariants(probes)), axis=0)))

    def at(self, strain: Tensor, tangent: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        s = self.scale
        table = self.invariants.table(strain / s)
        z = self.invariants.value(table) / self.sizes
        slope = self.invariants.gradient(table) / self.sizes[:, None]
        if not tangent:
            value, weight = self.gradient(z)
            return s**2 * value, s * (weight[:, None, :] @ slope)[:, 0], None
        value, weight, hessian = self.curvature(z, slope)
        entries = mandel.pack_upper(hessian) + self.invariants.hessian(table, weight / self.sizes)
        return s**2 * value, s * (weight[:, None, :] @ slope)[:, 0], entries


class AveragedNetwork(ScalarNetwork):
    """Mean of N(g x) over the proper rotations g of the Laue class, at most 24 copies."""

    turns: Tensor

    def __init__(self, symbol: str, widths: tuple[int, ...], scale: float, seed: int) -> None:
        super().__init__(6, widths, seed)
        self.scale = scale
        turns = torch.from_numpy(mandel_rotation(PointGroup(symbol).laue.rotations))
        self.register_buffer("turns", turns, persistent=False)

    def at(self, strain: Tensor, tangent: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        s, copies = self.scale, len(self.turns)
        n = len(strain)
        z = torch.einsum("gij,nj->ngi", self.turns, strain / s).reshape(n * copies, 6)
        if not tangent:
            value, weight = self.gradient(z)
            slope = torch.einsum("ngi,gij->nj", weight.reshape(n, copies, 6), self.turns)
            return s**2 / copies * value.reshape(n, copies).sum(dim=1), s / copies * slope, None
        value, weight, hessian = self.curvature(
            z, torch.eye(6, dtype=z.dtype, device=z.device).expand(n * copies, 6, 6)
        )
        slope = torch.einsum("ngi,gij->nj", weight.reshape(n, copies, 6), self.turns)
        turned = self.turns.transpose(1, 2) @ hessian.reshape(n, copies, 6, 6) @ self.turns
        return (
            s**2 / copies * value.reshape(n, copies).sum(dim=1), s / copies * slope,
            mandel.pack_upper(turned.sum(dim=1) / copies),
        )  # fmt: skip


def lattice_directions(symbol: str) -> list[np.ndarray]:
    """Orbits (m, 3) of unit directions, ± counted once, under a finite group in its standard frame.

    The seeds are the 13 directions ⟨100⟩, ⟨110⟩, ⟨111⟩ of a cube; in hexagonal and trigonal classes the axis, six
    directions in the basal plane and twelve at 45° to the axis.
    """
    group = PointGroup(symbol).laue
    if symbol.startswith(("6", "-3", "3", "-6")):
        turns = np.arange(12) * np.pi / 6
        inclined = np.stack([np.cos(turns), np.sin(turns), np.ones(12)], axis=1)
        flat = np.stack([np.cos(turns[:6]), np.sin(turns[:6]), np.zeros(6)], axis=1)
        seeds = np.concatenate([[[0.0, 0.0, 1.0]], flat, inclined])
    else:
        seeds = np.array(sorted(itertools.product((-1.0, 0.0, 1.0), repeat=3), key=lambda v: np.abs(v).sum()))[1:]
    seeds = seeds / np.linalg.norm(seeds, axis=1)[:, None]
    orbits: list[np.ndarray] = []
    for seed in seeds:
        if any(np.any(np.abs(orbit @ seed) > 1.0 - 1e-9) for orbit in orbits):
            continue
        members: list[np.ndarray] = []
        for image in group.rotations @ seed:
            if not any(abs(image @ member) > 1.0 - 1e-9 for member in members):
                members.append(image)
        orbits.append(np.array(members))
    return orbits


def _volume_change() -> Polynomials:
    """(det(1 + 2E) − 1) / 2 = tr E + (tr E)² − E·E + 4 det E as a polynomial of the Mandel strain."""
    terms: dict[tuple[int, ...], float] = {}

    def add(places: tuple[int, ...], factor: float) -> None:
        exponent = tuple(places.count(i) for i in range(6))
        terms[exponent] = terms.get(exponent, 0.0) + factor

    for i in range(3):
        add((i,), 1.0)
        for j in range(3):
            add((i, j), 1.0)
        add((i, i + 3, i + 3), -2.0)
    for i in range(6):
        add((i, i), -1.0)
    add((0, 1, 2), 4.0)
    add((3, 4, 5), 4.0 / np.sqrt(2.0))
    kept = {exponent: factor for exponent, factor in terms.items() if factor != 0.0}
    return Polynomials(np.array(list(kept)), np.array([list(kept.values())]))


class DirectionalNetwork(torch.nn.Module):
    """Σ_k mean_d φ_k(x_dd, b) over the orbits of `lattice_directions`, one network φ_k of two inputs for each orbit.

    With several members the mean of as many such sums: `orbits` holds the φ_k of one after those of the other. Networks
    that were fitted apart agree where the data say something and err apart where they do not.
    """

    dyads: Tensor
    pairs: Tensor

    def __init__(self, symbol: str, widths: tuple[int, ...], scale: float, seed: int, members: int = 1) -> None:
        super().__init__()
        orbits = lattice_directions(symbol) * members
        self.scale, self.widths, self.members = scale, tuple(widths), members
        self.sizes = [len(orbit) for orbit in orbits]
        self.orbits = torch.nn.ModuleList(ScalarNetwork(2, widths, seed + 1000 * k) for k in range(len(orbits)))
        vectors = mandel.to_mandel(np.concatenate([np.einsum("di,dj->dij", orbit, orbit) for orbit in orbits]))
        self.register_buffer("dyads", torch.from_numpy(vectors), persistent=False)
        pairs = mandel.pack_upper(vectors[:, :, None] * vectors[:, None, :])
        self.register_buffer("pairs", torch.from_numpy(np.ascontiguousarray(pairs)), persistent=False)
        self.volume = PolynomialMap(_volume_change())

    def at(self, strain: Tensor, tangent: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        s, n = self.scale, len(strain)
        table = self.volume.table(strain)
        along = strain @ self.dyads.T / s
        # b is a sum of three strains, hence the 3
        change = self.volume.value(table) / (3.0 * s)
        change_slope = self.volume.gradient(table)[:, 0] / 3.0
        value, by_change, start = torch.zeros_like(change[:, 0]), torch.zeros_like(change[:, 0]), 0
        stretch_slopes, curvatures = [], []
        for network, size in zip(cast("list[ScalarNetwork]", self.orbits), self.sizes, strict=True):
            part = along[:, start : start + size]
            z = torch.stack([part, change.expand(n, size)], dim=2).reshape(n * size, 2)
            if tangent:
                both = torch.eye(2, dtype=z.dtype, device=z.device).expand(n * size, 2, 2)
                local, weight, hessian = network.curvature(z, both)
                curvatures.append(hessian.reshape(n, size, 2, 2) / (size * self.members))
            else:
                local, weight = network.gradient(z)
            weight = weight.reshape(n, size, 2) / (size * self.members)
            value = value + local.reshape(n, size).sum(dim=1) / (size * self.members)
            by_change = by_change + weight[:, :, 1].sum(dim=1)
            stretch_slopes.append(weight[:, :, 0])
            start += size
        slope = torch.cat(stretch_slopes, dim=1) @ self.dyads + by_change[:, None] * change_slope
        if not tangent:
            return s**2 * value, s * slope, None
        bent = torch.cat(curvatures, dim=1)
        mixed = bent[:, :, 0, 1] @ self.dyads
        outer = mixed[:, :, None] * change_slope[:, None, :]
        outer = outer + outer.transpose(1, 2)
        outer = outer + bent[:, :, 1, 1].sum(dim=1)[:, None, None] * change_slope[:, :, None] * change_slope[:, None, :]
        entries = bent[:, :, 0, 0] @ self.pairs + mandel.pack_upper(outer)
        return s**2 * value, s * slope, entries + self.volume.hessian(table, (s / 3.0 * by_change)[:, None])
