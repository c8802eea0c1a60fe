"""Where a law was trained: a test of strains in the space of their symmetry invariants.

The score of a strain is the reciprocal of the empirical Christoffel function of the training strains (Lasserre and
Pauwels 2019, doi:10.1007/s10444-019-09673-1), Q(E) = φᵀ (M + λ M₀)⁻¹ φ, with φ the invariant polynomials of E up to a low
degree, M their mean dyad over the training strains, and M₀ over the ball that holds them. Q is small where training
strains lie and grows like |E| to twice the degree beyond, and faster in directions that they never took. Invariant
features give equivalent strains one score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystals.groups import PointGroup
from crystals.invariants import Polynomials, invariant_polynomials
from crystals.rotations import mandel_rotation

#: Highest degree of the features, how many there may be (they take time), and how many distinct states each asks for.
LARGEST_DEGREE = 3
LARGEST_COUNT = 32
STATES_PER_FEATURE = 4
#: λ: how much a feature that never varied may vary, as a share of its mean square over the ball.
FLOOR = 1e-5
#: Fewest strains that tell more than the largest of them.
FEWEST_STRAINS = 8
#: States that agree to this share of the largest strain in all features are twins and count once.
TWINS = 0.02
#: The limit is this many times the score that one left-out training state in a hundred exceeds: where Q grows like
#: |E|⁶, a margin of a fifth of the radius.
MARGIN = 3.0
QUANTILE = 0.99
#: No strain beyond this many times the largest training strain is inside.
REACH = 1.01


def _features(group: PointGroup, degree: int) -> Polynomials:
    """1 and the invariant polynomials up to a degree; the monomials are closed: each is one of lower degree times x_i."""
    bases = [invariant_polynomials(group.laue.symbol, d) for d in range(1, degree + 1)]
    rows = {(0,) * 6, *(tuple(row) for row in np.eye(6, dtype=int).tolist())}
    for basis in bases:
        for row in basis.exponents[np.any(basis.coefficients != 0, axis=0)].tolist():
            while tuple(row) not in rows:
                rows.add(tuple(row))
                row[next(i for i in range(6) if row[i])] -= 1
    exponents = sorted(rows, key=lambda row: (sum(row), row))
    place = {row: column for column, row in enumerate(exponents)}
    coefficients = np.zeros((1 + sum(len(basis) for basis in bases), len(exponents)))
    coefficients[0, 0], start = 1.0, 1
    for basis in bases:
        used = np.any(basis.coefficients != 0, axis=0)
        columns = [place[tuple(row)] for row in basis.exponents[used].tolist()]
        coefficients[start : start + len(basis), columns] = basis.coefficients[:, used]
        start += len(basis)
    return Polynomials(np.array(exponents), coefficients)


class _Table:
    """Monomials of closed, sorted exponents (m, 6), each by one product. Whole rows of points are multiplied: they are
    contiguous, which is twice as fast as columns."""

    def __init__(self, exponents: Tensor) -> None:
        rows = [tuple(row) for row in exponents.tolist()]
        if rows[:1] != [(0,) * 6] or sum(map(sum, rows[1:7])) != 6 or rows != sorted(rows, key=lambda r: (sum(r), r)):
            raise ValueError("Domain: expected exponents sorted by degree from 0, got others. Use Domain.from_strains.")
        place = {row: i for i, row in enumerate(rows)}
        self.first = torch.tensor([row.index(1) for row in rows[1:7]])
        self.levels: list[tuple[Tensor, Tensor]] = []
        for degree in range(2, max(map(sum, rows)) + 1):
            level = [row for row in rows if sum(row) == degree]
            base = next(i for i, row in enumerate(rows) if sum(row) == degree - 1)
            variables = [next(i for i in range(6) if row[i]) for row in level]
            lower = [tuple(e - (j == i) for j, e in enumerate(row)) for row, i in zip(level, variables, strict=True)]
            self.levels.append((torch.tensor([place[row] - base for row in lower]), torch.tensor(variables)))

    def __call__(self, points: Tensor) -> Tensor:
        """Values (m, n) at points (6, n)."""
        place = points.device
        values = [torch.ones_like(points[:1]), points.index_select(0, self.first.to(place))]
        for parents, variables in self.levels:
            values.append(values[-1].index_select(0, parents.to(place)) * points.index_select(0, variables.to(place)))
        return torch.cat(values)


@dataclass
class Domain:
    """The training domain of a law: strains E with Q(E) ≤ `limit`, and |E| at most `REACH` times the largest.

    Attributes
    ----------
    turn : tensor (6, 6)
        Takes strains to the group's standard frame and divides them by the largest training strain.
    whitening : tensor (k, m)
        Q = |whitening · monomials|².
    limit : tensor ()
        Largest score of the domain.
    exponents : int tensor (m, 6)
        Those of the monomials.
    """

    turn: Tensor
    whitening: Tensor
    limit: Tensor
    exponents: Tensor

    def __post_init__(self) -> None:
        shapes = (tuple(self.turn.shape), tuple(self.whitening.shape[1:]), tuple(self.limit.shape))
        if shapes != ((6, 6), (len(self.exponents),), ()) or tuple(self.exponents.shape[1:]) != (6,):
            raise ValueError(
                f"Domain: expected turn (6, 6), whitening (k, m), limit () and exponents (m, 6), got {tuple(self.turn.shape)}, "
                f"{tuple(self.whitening.shape)}, {tuple(self.limit.shape)} and {tuple(self.exponents.shape)}. Make it with "
                "Domain.from_strains."
            )
        largest = int(self.exponents.sum(dim=1).max()) if self.exponents.numel() else 0
        if self.exponents.is_floating_point() or largest > LARGEST_DEGREE or bool((self.exponents < 0).any()):
            raise ValueError(
                f"Domain: expected exponents of monomials up to degree {LARGEST_DEGREE}, got {self.exponents.dtype} up to "
                f"{largest}. Make it with Domain.from_strains."
            )
        self._table = _Table(self.exponents)

    @classmethod
    def from_strains(cls, group: PointGroup, strain: np.ndarray) -> Domain:
        """The domain of training strains.

        Parameters
        ----------
        group : PointGroup
            Symmetry, in the frame of the strains.
        strain : array (n, 6)
            Training strains, Mandel, counted as the law counts them.

        Raises
        ------
        ValueError
            For another shape, strains that are not finite, or fewer than `FEWEST_STRAINS` of them.
        """
        strain = np.asarray(strain, dtype=float)
        if strain.ndim != 2 or strain.shape[1] != 6 or len(strain) < FEWEST_STRAINS or not np.all(np.isfinite(strain)):
            raise ValueError(
                f"Domain.from_strains: expected at least {FEWEST_STRAINS} finite strains of shape (n, 6), got shape {strain.shape}. "
                "Pass the strains that the law was fitted to."
            )
        largest = float(np.linalg.norm(strain, axis=1).max())
        if not largest > 0:
            raise ValueError("Domain.from_strains: expected strains other than zero, got zeros. Check the data.")
        turn = mandel_rotation(group.frame.T) / largest
        points = strain @ turn.T
        ball = np.random.default_rng(0).normal(size=(8192, 6))
        ball *= (np.random.default_rng(1).random(8192) ** (1 / 6) / np.linalg.norm(ball, axis=1))[:, None]
        for degree in range(LARGEST_DEGREE, 1, -1):
            basis = _features(group, degree)
            values, filled = basis(points).T, basis(ball).T
            sizes = np.sqrt(np.mean(filled**2, axis=1))
            _, distinct = np.unique(np.round(values.T / sizes / TWINS), axis=0, return_index=True)
            if len(basis) <= min(LARGEST_COUNT, len(distinct) / STATES_PER_FEATURE):
                break
        kept = values[:, distinct]
        n = kept.shape[1]
        moment = kept @ kept.T / n + FLOOR * (filled @ filled.T) / filled.shape[1]
        lower = np.linalg.cholesky(moment)
        inside = np.sum(np.linalg.solve(lower, kept) ** 2, axis=0)
        # Sherman–Morrison: the score of each state were it not among the training states
        left_out = inside / np.maximum(1.0 - inside / n, 1e-12)
        limit = max(MARGIN * float(np.quantile(left_out, QUANTILE)), float(inside.max()) * (1.0 + 1e-9))
        whitening = np.linalg.solve(lower, basis.coefficients)
        return cls(*(torch.from_numpy(np.array(a)) for a in (turn, whitening, np.array(limit), basis.exponents)))

    def safe_radius(self) -> float:
        """|x| up to which every strain x (turned, over the largest training strain) is inside, whatever its direction.

        An upper bound of Q over directions. The monomials of degree d, times √(d!/α!), are a vector of length |x|^d
        (Bombieri's norm); of degree 2 and 3 the parts |x|² and |x|² x, of known size, are taken apart (harmonic
        decomposition, n = 6: shares 1/6 and 3/8), so that Q = |Σ X_i z_i|² ≤ Σ ‖X_iᵀ X_j‖ |z_i| |z_j|.
        """
        exponents, whitening = self.exponents.cpu().numpy(), self.whitening.cpu().numpy()
        degree = exponents.sum(axis=1)
        if degree.max() > 3:
            return 0.0
        factorial = np.array([1.0, 1.0, 2.0, 6.0])
        scaled = whitening / np.sqrt(factorial[degree] / factorial[exponents].prod(axis=1))
        zero, one, two, three = (scaled[:, degree == d] for d in range(4))
        linear = np.zeros((len(scaled), 6))
        linear[:, exponents[degree == 1].argmax(axis=1)] = one
        # |x|² and |x|² x among the monomials; what is not there in whole is not taken apart
        square = np.any(exponents[degree == 2] == 2, axis=1) / np.sqrt(6.0)
        square *= abs(square @ square - 1.0) < 1e-12
        radial = np.zeros((three.shape[1], 6))
        for row, powers in enumerate(exponents[degree == 3]):
            for k in np.flatnonzero(powers):
                rest = powers - np.eye(6, dtype=int)[k]
                radial[row, k] = np.any(rest == 2) / np.sqrt(factorial[3] / factorial[powers].prod())
        whole = np.abs((radial**2).sum(axis=0) - 8.0 / 3.0) < 1e-12
        radial = np.where(whole, radial, 0.0) / np.sqrt(8.0 / 3.0)
        mean, bent = two @ square, three @ radial
        others = two - np.outer(mean, square), three - bent @ radial.T
        # what was not taken apart is of full size
        shares = 5.0 / 6.0 if square.any() else 1.0, 5.0 / 8.0 if whole.all() else 1.0
        radius = 0.0
        for r in 0.005 * np.arange(1, int(REACH / 0.005)):
            parts = [zero + mean[:, None] * (r**2 / np.sqrt(6.0)), linear * r + bent * (np.sqrt(3.0 / 8.0) * r**3)]
            parts += [rest * (np.sqrt(share) * r**d) for rest, share, d in zip(others, shares, (2, 3), strict=True)]
            parts = [part for part in parts if part.size]
            bound = sum(np.linalg.norm(left.T @ right, 2) for left in parts for right in parts)
            # a margin for what lies between two of these radii
            if not bound < 0.95 * float(self.limit):
                break
            radius = float(r)
        return radius

    def score(self, strain: Any) -> Any:
        """Q(E) / limit, or (|E| / reach)² where that is larger, (n,) at strains (n, 6) in the law's frame: at most 1 inside.

        numpy in, numpy out; torch in, torch out.
        """
        points = torch.as_tensor(strain, dtype=torch.float64)
        if self.turn.device != points.device:
            self.turn, self.whitening, self.limit = (
                t.to(points.device) for t in (self.turn, self.whitening, self.limit)
            )
        points = self.turn @ points.T
        features = self.whitening @ self._table(points)
        size = (points * points).sum(dim=0) / REACH**2
        score = torch.maximum((features * features).sum(dim=0) / self.limit, size)
        return score if isinstance(strain, Tensor) else score.numpy()

    def contains(self, strain: Any) -> Any:
        """Which strains (n,) lie in the training domain. Strains that are not finite do not."""
        return self.score(strain) <= 1.0
