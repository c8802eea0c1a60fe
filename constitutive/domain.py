"""Where a law was trained: a test of strains in the space of their symmetry invariants.

The score of a strain is the reciprocal of the empirical Christoffel function of the training strains (Lasserre and
Pauwels 2019, doi:10.1007/s10444-019-09673-1), Q(E) = φᵀ (M + λ M₀)⁻¹ φ, with φ the invariant polynomials of E up to a low
degree, M their mean dyad over the training strains, and M₀ over the ball that holds them. Q is small where training
strains lie and grows like |E| to twice the degree beyond, and faster in directions that they never took. Invariant
features give equivalent strains one score.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystals.groups import PointGroup
from crystals.invariants import invariant_polynomials
from crystals.rotations import mandel_rotation

#: Highest degree of the features, and how many distinct states each feature asks for.
LARGEST_DEGREE = 3
STATES_PER_FEATURE = 4
#: λ: how much a feature that never varied may vary, as a share of its mean square over the ball.
FLOOR = 1e-5
#: States that agree to this share of the largest strain in all features are twins and count once.
TWINS = 0.02
#: The limit is this many times the score that one left-out training state in a hundred exceeds: where Q grows like
#: |E|⁶, a margin of a fifth of the radius.
MARGIN = 3.0
QUANTILE = 0.99
#: No strain beyond this many times the largest training strain is inside.
REACH = 1.25


@cache
def _products(degree: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """For degrees 2 … `degree`: place of a monomial of one degree less, and the variable that multiplies it."""
    tables, before = [], {(i,): i for i in range(6)}
    for d in range(2, degree + 1):
        rows = list(itertools.combinations_with_replacement(range(6), d))
        tables.append((torch.tensor([before[row[:-1]] for row in rows]), torch.tensor([row[-1] for row in rows])))
        before = {row: i for i, row in enumerate(rows)}
    return tuple(tables)


def _monomials(points: Tensor, degree: int) -> Tensor:
    """All monomials (m, n) up to a degree at points (6, n); rows are contiguous, which makes them cheap."""
    levels = [torch.ones_like(points[:1]), points]
    for parents, variables in _products(degree):
        parents, variables = parents.to(points.device), variables.to(points.device)
        levels.append(levels[-1].index_select(0, parents) * points.index_select(0, variables))
    return torch.cat(levels)


def _features(group: PointGroup, degree: int) -> np.ndarray:
    """Coefficients (k, m) of 1 and the invariant polynomials up to a degree on the rows of `_monomials`."""
    rows = [row for d in range(degree + 1) for row in itertools.combinations_with_replacement(range(6), d)]
    place = {tuple(row.count(i) for i in range(6)): column for column, row in enumerate(rows)}
    blocks = [np.eye(1, len(rows))]
    for d in range(1, degree + 1):
        basis = invariant_polynomials(group.laue.symbol, d)
        block = np.zeros((len(basis), len(rows)))
        block[:, [place[tuple(exponent)] for exponent in basis.exponents.tolist()]] = basis.coefficients
        blocks.append(block)
    return np.concatenate(blocks)


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
    """

    turn: Tensor
    whitening: Tensor
    limit: Tensor

    def __post_init__(self) -> None:
        degrees = {sum(1 for d in range(k + 1) for _ in itertools.combinations_with_replacement(range(6), d)): k
                   for k in range(1, LARGEST_DEGREE + 1)}  # fmt: skip
        shapes = (tuple(self.turn.shape), tuple(self.limit.shape))
        if shapes != ((6, 6), ()) or self.whitening.ndim != 2 or self.whitening.shape[1] not in degrees:
            raise ValueError(
                f"Domain: expected turn (6, 6), whitening (k, m) with m among {', '.join(map(str, degrees))} and limit (), "
                f"got {shapes[0]}, {tuple(self.whitening.shape)} and {shapes[1]}. Make it with Domain.from_strains."
            )
        self.degree = degrees[self.whitening.shape[1]]

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
            For another shape, strains that are not finite, or fewer than 8 of them.
        """
        strain = np.asarray(strain, dtype=float)
        if strain.ndim != 2 or strain.shape[1] != 6 or len(strain) < 8 or not np.all(np.isfinite(strain)):
            raise ValueError(
                f"Domain.from_strains: expected at least 8 finite strains of shape (n, 6), got shape {strain.shape}. "
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
            values, filled = (basis @ _monomials(torch.from_numpy(p.T.copy()), degree).numpy() for p in (points, ball))
            sizes = np.sqrt(np.mean(filled**2, axis=1))
            _, distinct = np.unique(np.round(values.T / sizes / TWINS), axis=0, return_index=True)
            if len(distinct) >= STATES_PER_FEATURE * len(basis):
                break
        kept = values[:, distinct]
        n = kept.shape[1]
        moment = kept @ kept.T / n + FLOOR * (filled @ filled.T) / filled.shape[1]
        lower = np.linalg.cholesky(moment)
        inside = np.sum(np.linalg.solve(lower, kept) ** 2, axis=0)
        # Sherman–Morrison: the score of each state were it not among the training states
        left_out = inside / np.maximum(1.0 - inside / n, 1e-12)
        limit = max(MARGIN * float(np.quantile(left_out, QUANTILE)), float(inside.max()) * (1.0 + 1e-9))
        return cls(*(torch.from_numpy(np.asarray(a)) for a in (turn, np.linalg.solve(lower, basis), np.array(limit))))

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
        features = self.whitening @ _monomials(points, self.degree)
        size = (points * points).sum(dim=0) / REACH**2
        score = torch.maximum((features * features).sum(dim=0) / self.limit, size)
        return score if isinstance(strain, Tensor) else score.numpy()

    def contains(self, strain: Any) -> Any:
        """Which strains (n,) lie in the training domain. Strains that are not finite do not."""
        return self.score(strain) <= 1.0
