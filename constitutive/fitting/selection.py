"""What a fit decides by cross-validation inside the training states: strain measure, degree, ridge, network, its decay.

A solver meets mostly small strains, a pooled error mostly large ones. So states count with √(largest |E| / |E|), half way
between equal absolute and equal relative errors, and errors are compared as the geometric mean over shells of |E|.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch

from crystals.dataset import StrainData
from crystals.elastic_constants import elastic_constants
from crystals.groups import PointGroup
from crystals.invariants import invariant_count
from crystals.rotations import mandel_rotation

from ..laws.polyconvex import PolyconvexLaw
from ..laws.polynomial import stiffness_basis
from ..laws.symmetric import SymmetricLaw
from ..laws.symmetric_network import DirectionalNetwork, lattice_directions
from .checkpoint import Checkpoint
from .laplace import FEWEST_ORBITS
from .least_squares import Choice, FittedLaw, PolynomialFit, Problem, Reference, Shown

#: Weight decays tried for the network, from one that keeps it silent downwards, and Levenberg–Marquardt steps at each.
ALPHAS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
STEPS = 15
#: The same for a network alone, which has no polynomial to start from.
ALPHAS_ALONE = (1e-5, 1e-6)
STEPS_ALONE = 30
#: The same for a polyconvex law.
ALPHAS_POLYCONVEX = (1e-7, 1e-9)
STEPS_POLYCONVEX = 40
#: Highest degree of the polynomial part, and most coefficients it may have (a triclinic law stops at degree 3).
LARGEST_ORDER = 6
LARGEST_POLYNOMIAL = 200
#: Strains below this share of the largest count no more than it; number of shells of equal population.
SMALLEST = 0.1
SHELLS = 3
#: A higher degree or another strain measure has to lower the inner error by this factor.
GAIN = 0.97
#: The same where orbits are few, whose inner error does not show what a high degree does to the extremes; for another
#: strain measure than the usual one of few orbits.
GAIN_FEW = 0.5
GAIN_MEASURE_FEW = 0.7
#: Degrees tried besides the highest; ridge parameters; strain measures.
ORDERS = (4, 5)
#: With a network, a polynomial of a degree above the lowest has to bring the inner error below this share: high degrees
#: extrapolate worse and cost more at every point.
HIGHER = 0.9
PRIORS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
#: The first of them that very few states may choose.
PRIORS_FEW = 3
MEASURES = (1.0, 0.0, -1.0)
#: Those where orbits are few, first the usual one: to second order it is 1 − U⁻¹, and the energy of a metal is a short
#: polynomial of U⁻¹ (Bardeen 1938).
MEASURES_FEW = (-0.5, *MEASURES)
#: Inner folds: leave-one-orbit-out, at most this many, for the polynomial; fewer for the costlier network.
POLYNOMIAL_FOLDS = 12
NETWORK_FOLDS = 4
#: Fewest symmetry-distinct states: two equations of stress for every number of a cubic law, within these limits.
FEWEST = (4, FEWEST_ORBITS)
#: From this many orbits on one inner fold decides on the network, and five on the polynomial.
MANY_ORBITS = 100
#: The network has to lower the inner error below this share of the polynomial's, or it stays silent. Where orbits are
#: few, the inner error is a few extreme states' and scatters: then more is asked.
WORTHWHILE = 0.9
WORTHWHILE_FEW = 0.7
#: Inner error of the polynomial above which a network alone is tried too.
DOUBTFUL = 0.02
#: Numbers that each member of a network alone may have, how many members it has, and the numbers of all of them.
LARGEST_NETWORK = 400
MEMBERS = 4
LARGEST_ALONE = 800


def stress_error(predicted: np.ndarray, given: np.ndarray) -> float:
    """Pooled relative error √(Σ‖ΔS‖² / Σ‖S‖²) of stresses (n, 6)."""
    return float(np.sqrt(np.sum((predicted - given) ** 2) / np.sum(given**2)))


def orbit_folds(blocks: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold (n,) of each state; states of one block (`StrainData.blocks`) share one, so no twin leaks into a test."""
    labels = np.unique(blocks)
    if folds < 2 or len(labels) < folds:
        raise ValueError(
            f"fit: expected at least as many symmetry-distinct states as folds (≥ 2), got {len(labels)} states and "
            f"{folds} folds. Add states, or use fewer folds."
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    fold_of = np.empty(len(labels), dtype=int)
    fold_of[order] = np.arange(len(labels)) % folds
    return fold_of[np.searchsorted(labels, blocks)]


def _inner_folds(data: StrainData, folds: int, seed: int) -> list[np.ndarray]:
    """Masks of the states left out, such that the others determine all elastic constants."""
    blocks = data.blocks()
    folds = len(np.unique(blocks)) if data.series is not None else min(folds, len(np.unique(blocks)))
    fold = orbit_folds(blocks, folds, seed)
    masks = [fold == number for number in range(folds)]
    kept = [mask for mask in masks if not undetermined_constants(data.take(~mask))]
    return kept or masks


def state_weights(data: StrainData) -> np.ndarray | None:
    """Factor (n,) of each state's residuals, of mean square 1.

    One over the stress error where the data have one (molecular dynamics), else as the head of this file says; none for
    load paths, whose points are dense at small strain.
    """
    if data.stress_error is not None:
        weights = 1.0 / data.stress_error
    elif data.series is not None:
        return None
    else:
        sizes = np.linalg.norm(data.strain, axis=1)
        weights = 1.0 / np.sqrt(np.maximum(sizes, SMALLEST * sizes.max()))
    return weights / np.sqrt(np.mean(weights**2))


def _shells(data: StrainData) -> np.ndarray:
    """Label (n,) of each state: its load path where there are any, else its shell of |E|."""
    if data.series is not None:
        return data.series
    sizes = np.linalg.norm(data.strain, axis=1)
    return np.searchsorted(np.quantile(sizes, np.arange(1, SHELLS) / SHELLS), sizes)


def _over_shells(wrong: np.ndarray, data: StrainData, left_out: np.ndarray) -> np.ndarray:
    """Geometric mean over shells of the relative error, from squared errors (n, …) of the states that were left out.

    Over load paths: leaving out the longest path asks for an extrapolation that would drown the rest.
    """
    shells, squares = _shells(data), np.sum(data.stress**2, axis=1)
    means = [
        np.log(wrong[seen].sum(axis=0) / squares[seen].sum())
        for label in np.unique(shells[left_out])
        if squares[seen := left_out & (shells == label)].sum() > 0
    ]
    return np.exp(0.5 * np.mean(means, axis=0))


def _are_many(data: StrainData) -> bool:
    """Whether there are enough independent states to compare forms of the law."""
    return data.series is not None or len(np.unique(data.orbits())) >= MANY_ORBITS


def are_very_few(data: StrainData) -> bool:
    """Whether there are too few independent states to compare anything but strain measures and ridge parameters."""
    return len(np.unique(data.blocks())) < FEWEST_ORBITS


def undetermined_constants(data: StrainData) -> list[str]:
    """Names of the second-order constants that no strain of the data feels."""
    assert data.group is not None
    basis = stiffness_basis(data.group)
    turn = mandel_rotation(data.group.frame.T)
    felt = np.einsum("kij,nj->nik", basis, data.strain @ turn.T).reshape(-1, len(basis))
    _, sizes, directions = np.linalg.svd(felt, full_matrices=False)
    names: set[str] = set()
    for direction in directions[sizes < 1e-6 * sizes[0]]:
        unseen = np.einsum("k,kij->ij", direction, basis)
        constants = elastic_constants(turn.T @ unseen @ turn, data.group)
        names |= {name for name, value in constants.items() if abs(value) > 1e-6}
    return sorted(names)


def default_order(group: PointGroup) -> int:
    """The highest degree up to `LARGEST_ORDER` whose coefficients number at most `LARGEST_POLYNOMIAL`."""
    symbol, total = group.laue.symbol, 0
    for order in range(3, LARGEST_ORDER + 1):
        total += invariant_count(symbol, order)
        if total > LARGEST_POLYNOMIAL:
            return max(3, order - 1)
    return LARGEST_ORDER


def fewest_states(group: PointGroup) -> int:
    """Symmetry-distinct states that a fit asks for: from 4 in cubic classes to 8."""
    numbers = sum(invariant_count(group.laue.symbol, degree) for degree in (1, 2, 3))
    return min(max(-(-2 * numbers // 6), FEWEST[0]), FEWEST[1])


def choose_polynomial(
    data: StrainData, use_energy: bool, seed: int, order: int | None = None, measure: float | None = None
) -> tuple[Choice, float]:
    """Measure, degree and ridge parameter with the least cross-validated stress error, and that error."""
    return _best(_polynomials(data, use_energy, seed, order, measure), _are_many(data))


def _best(found: list[tuple[Choice, float]], many: bool) -> tuple[Choice, float]:
    """The first, unless a later one is better by `GAIN`, and so on; of few orbits the usual measure, unless another is better
    by `GAIN_MEASURE_FEW`, and the lowest degree, unless a higher one is better by `GAIN_FEW`."""
    if many:
        best = found[0]
        for one in found[1:]:
            best = one if one[1] < GAIN * best[1] else best
        return best
    degrees: dict[int, list[tuple[Choice, float]]] = {}
    for one in found:
        degrees.setdefault(one[0].order, []).append(one)
    bests = []
    for _, same in sorted(degrees.items()):
        best = min(same, key=lambda one: one[1])
        bests.append(best if best[1] < GAIN_MEASURE_FEW * same[0][1] else same[0])
    low, high = bests[0], min(bests, key=lambda one: one[1])
    return high if high[1] < GAIN_FEW * low[1] else low


def _polynomials(
    data: StrainData, use_energy: bool, seed: int, order: int | None, measure: float | None
) -> list[tuple[Choice, float]]:
    """Each measure and degree with its best ridge parameter and cross-validated stress error."""
    assert data.group is not None
    largest = default_order(data.group)
    orders = tuple(o for o in ORDERS if o < largest) + (largest,) if order is None else (order,)
    many, priors = _are_many(data), PRIORS
    if are_very_few(data):
        orders, priors = orders[:1], PRIORS[PRIORS_FEW:]
    measures = (MEASURES if many else MEASURES_FEW) if measure is None else (measure,)
    masks = _inner_folds(data, 5 if many else POLYNOMIAL_FOLDS, seed)
    left_out = np.any(masks, axis=0)
    found: list[tuple[Choice, float]] = []
    for m in measures:
        for o in orders:
            wrong = np.zeros((len(data), len(priors)))
            for out in masks:
                training = data.take(~out)
                fit = PolynomialFit(training, o, use_energy, measure=m, weights=state_weights(training))
                for column, stress in enumerate(fit.stresses(data.strain[out], priors)):
                    wrong[out, column] = np.sum((stress - data.stress[out]) ** 2, axis=1)
            errors = _over_shells(wrong, data, left_out)
            found.append((Choice(o, priors[int(np.argmin(errors))], m), float(errors.min())))
    return found


@dataclass
class Fitted:
    """A law, the stress-free cell it is counted from, and the choices made."""

    law: FittedLaw
    reference: Reference
    choice: Choice
    alpha: float
    problem: Problem

    def stress(self, strain: np.ndarray) -> np.ndarray:
        """Stress (n, 6) as the data give it, at strains (n, 6) counted from the file's cell."""
        inside = self.reference.to_law(strain)
        return self.reference.from_law(self.law.response(inside, tangent=False).stress)


def start(data: StrainData, choice: Choice, seed: int, use_energy: bool) -> Problem:
    """A problem of one member that starts at the polynomial fit with a silent network; at orders 1 and 0, with a random
    network.

    Raises
    ------
    ValueError
        Where the polynomial's reference state is not stable.
    """
    assert data.group is not None
    scale = float(np.sqrt(np.mean(data.stress**2) / np.mean(data.strain**2)))
    if choice.order == 0:
        largest = float(np.linalg.norm(data.strain, axis=1).max())
        form = None if choice.network == "polyconvex" else choice.network
        convex = PolyconvexLaw(
            data.group,
            choice.widths,
            network=form,
            energy_scale=scale,
            strain_scale=largest,
            seed=seed,
            units=data.units,
        )
        return Problem(convex, data, use_energy, 0.0, state_weights(data))
    if choice.order == 1:
        law = SymmetricLaw(
            data.group, 1, choice.widths, network=choice.network, measure=choice.measure, energy_scale=scale,
            strain_scale=float(np.linalg.norm(data.strain, axis=1).max()), seed=seed, units=data.units,
        )  # fmt: skip
        quiet = 0.1
    else:
        weights = state_weights(data)
        polynomial = PolynomialFit(
            data, choice.order, use_energy, choice.prior, measure=choice.measure, weights=weights
        )
        stiffness = polynomial.stiffness()
        smallest = float(np.linalg.eigvalsh(stiffness)[0])
        if not smallest > 0:
            raise ValueError(
                f"fit: expected data whose reference state is stable, got a fitted stiffness with smallest eigenvalue "
                f"{smallest:.3g} {data.units}. Give more states or a smaller range of strain; else check unit and sign of "
                "the stress."
            )
        scale, largest = float(np.linalg.norm(stiffness) / np.sqrt(6.0)), polynomial.scale
        law = SymmetricLaw(
            data.group, choice.order, choice.widths, network=choice.network, measure=choice.measure, stiffness=stiffness,
            energy_scale=scale, strain_scale=largest, seed=seed, units=data.units,
        )  # fmt: skip
        # The fit's first columns are the linear and quadratic invariants; the others are the law's polynomial part.
        skip = len(polynomial.coefficients) - law.higher.count
        with torch.no_grad():
            scaled = polynomial.coefficients[skip:] / (scale * largest) * largest ** (2.0 - law.degrees)
            law.coefficients.copy_(torch.from_numpy(scaled))
        quiet = 1e-2
    with torch.no_grad():
        for name, parameter in law.network.named_parameters():
            if name.endswith("last"):
                parameter.mul_(quiet)
    return Problem(law, data, use_energy, choice.prior, state_weights(data))


def follow(
    data: StrainData, choice: Choice, alphas: tuple[float, ...], seed: int, use_energy: bool, shown: Shown | None,
    kept: Checkpoint | None = None,
) -> Iterator[Fitted]:  # fmt: skip
    """Lower the weight decay step by step, each fit starting from the last. Members are fitted apart, each with a seed of
    its own."""
    steps = {0: STEPS_POLYCONVEX, 1: STEPS_ALONE}.get(choice.order, STEPS)
    problems = [start(data, choice, seed + 100 * member, use_energy) for member in range(choice.members)]
    for alpha in alphas:
        for member, problem in enumerate(problems):

            def minimise(problem: Problem = problem, alpha: float = alpha) -> dict[str, torch.Tensor]:
                problem.minimise(alpha, steps, shown)
                return {"theta": problem.theta, "damping": torch.tensor(problem.damping, dtype=torch.float64)}

            stage = minimise() if kept is None else kept.stage(f"path {alpha:g} {member}", minimise)
            problem.theta, problem.damping = stage["theta"], float(stage["damping"])
            problem.store()
        whole = _mean(problems, data, use_energy) if choice.members > 1 else problems[0]
        yield Fitted(whole.law, whole.reference(), choice, alpha, whole)


def _mean(problems: list[Problem], data: StrainData, use_energy: bool) -> Problem:
    """The problem of the mean of laws that are directional networks alone, counted from the mean of their stress-free
    cells, which differ by little: the cell that fits the mean best was measured to be no better."""
    laws = [cast("SymmetricLaw", problem.law) for problem in problems]
    config = {**laws[0].config(), "members": len(laws)}
    law = SymmetricLaw.from_config(config)
    networks = [network for one in laws for network in cast("DirectionalNetwork", one.network).orbits]
    for own, given in zip(cast("DirectionalNetwork", law.network).orbits, networks, strict=True):
        own.load_state_dict(given.state_dict())
    law.refresh()
    whole = Problem(law, data, use_energy, 0.0, state_weights(data))
    cells = sum(size.numel() for name, size in whole.slots if name in ("stretch", "offset"))
    whole.theta[:cells] = torch.stack([problem.theta[:cells] for problem in problems]).mean(dim=0)
    return whole


def _network_errors(
    data: StrainData, choice: Choice, alphas: tuple[float, ...], seed: int, use_energy: bool,
    shown: Shown | None, kept: Checkpoint,
) -> np.ndarray:  # fmt: skip
    """Inner held-out error for each weight decay."""
    masks = _inner_folds(data, NETWORK_FOLDS, seed + 1)
    if data.series is None and _are_many(data):
        masks = masks[:1]
    wrong = np.full((len(data), len(alphas)), np.inf)
    tried, seen = len(alphas), np.zeros(len(data), dtype=bool)
    for row, out in enumerate(masks):

        def one_fold(out: np.ndarray = out, tried: int = tried) -> dict[str, torch.Tensor]:
            found = [
                np.sum((fitted.stress(data.strain[out]) - data.stress[out]) ** 2, axis=1)
                for fitted in follow(data.take(~out), choice, alphas[:tried], seed, use_energy, shown)
            ]
            return {"wrong": torch.from_numpy(np.stack(found, axis=1))}

        found = kept.stage(f"{choice.network} {choice.order} fold {row}", one_fold)["wrong"].numpy()
        wrong[out, : found.shape[1]] = found
        seen |= out
        if shown is not None:
            shown(left_out=float(np.nanmin(np.sqrt(found.sum(axis=0) / np.sum(data.stress[out] ** 2)))))
        # the path is followed no further than where the network still promises something
        if choice.order > 1:
            errors = np.nan_to_num(_over_shells(wrong, data, seen), nan=np.inf)
            tried = int(np.flatnonzero(errors < 1.4 * errors[0]).max(initial=0)) + 1
            if tried == 1:
                break
    return _over_shells(wrong, data, seen)


def network_alone(group: PointGroup, network: str | None = None, widths: tuple[int, ...] | None = None) -> Choice:
    """The law without a polynomial: the mean of directional networks, or one network of invariants where the group is
    infinite. Form and widths may be given."""
    symbol = group.laue.symbol
    if not group.is_finite:
        return Choice(1, 0.0, 1.0, network or "invariants", widths or (8, 8))
    # the orbits of directions have the symmetry of 4/mmm, 6/mmm, m-3m: on their own they cannot tell these classes
    form = network or ("average" if symbol in ("4/m", "6/m", "m-3") else "directions")
    if form != "directions":
        return Choice(1, 0.0, 1.0, form, widths or (8, 8))
    orbits = len(lattice_directions(symbol))
    sizes = [(w, w) for w in (6, 5, 4, 3)] if widths is None else [widths]
    numbers = [orbits * (sum(a * b + b for a, b in pairwise((2, *size))) + size[-1]) for size in sizes]
    place = next((i for i, number in enumerate(numbers) if number <= LARGEST_NETWORK), len(sizes) - 1)
    return Choice(1, 0.0, 1.0, form, sizes[place], max(1, min(MEMBERS, LARGEST_ALONE // numbers[place])))


def choose(
    data: StrainData, use_energy: bool, seed: int, fixed: dict[str, Any], shown: Shown | None,
    kept: Checkpoint,
) -> tuple[Choice, float]:  # fmt: skip
    """The choice and weight decay with the least inner error. `fixed` holds what the caller decided."""
    assert data.group is not None
    order, measure = fixed.get("order"), fixed.get("measure")
    given = {key: fixed[key] for key in ("network", "widths") if fixed.get(key) is not None}
    found: list[tuple[float, Choice, float]] = []
    refused: ValueError | None = None
    if fixed.get("polyconvex"):
        choice = replace(Choice(0, 0.0, 1.0, "polyconvex", (8, 8)), **given)
        errors = _network_errors(data, choice, ALPHAS_POLYCONVEX, seed, use_energy, shown, kept)
        return choice, ALPHAS_POLYCONVEX[int(np.argmin(errors))]
    doubtful = order == 1
    if order != 1:
        polynomials = _polynomials(data, use_energy, seed, order, measure)
        many = _are_many(data)
        best, error = _best(polynomials, many)
        doubtful = error > DOUBTFUL and order is None and many
        candidates = [best]
        if many and given.get("network") != "none":
            lowest = min(choice.order for choice, _ in polynomials)
            low, _ = _best([one for one in polynomials if one[0].order == lowest], many)
            candidates += [low] if low != best else []
        for place, choice in enumerate(candidates):
            try:
                score, choice, alpha = _with_network(data, choice, given, seed, use_energy, shown, kept)
                found.append((HIGHER * score if place else score, choice, alpha))
            except ValueError as failure:
                # a polynomial that describes the data and is unstable is an answer; one that does not is none
                refused = failure
        if not found and refused is not None and not doubtful:
            raise refused
    if doubtful:
        choice = network_alone(data.group, **given)
        if measure is not None:
            choice = replace(choice, measure=measure)
        errors = _network_errors(data, choice, ALPHAS_ALONE, seed, use_energy, shown, kept)
        # what members make of chance is lost in their mean: the least decay, which a scattering inner error may miss
        place = len(ALPHAS_ALONE) - 1 if choice.members > 1 else int(np.argmin(errors))
        found.append((float(errors[place]), choice, ALPHAS_ALONE[place]))
    if not found and refused is not None:
        raise refused
    _, choice, alpha = min(found, key=lambda one: one[0])
    return choice, alpha


def _with_network(
    data: StrainData, choice: Choice, given: dict[str, Any], seed: int, use_energy: bool,
    shown: Shown | None, kept: Checkpoint,
) -> tuple[float, Choice, float]:  # fmt: skip
    """Inner error with the best weight decay, the choice (without a network where it does not pay), that decay."""
    choice = replace(choice, **given)
    if "network" not in given and are_very_few(data):
        choice = replace(choice, network="none", widths=())
    alphas = ALPHAS[:1] if choice.network == "none" else ALPHAS
    errors = _network_errors(data, choice, alphas, seed, use_energy, shown, kept)
    best = int(np.argmin(errors))
    worthwhile = WORTHWHILE if _are_many(data) else WORTHWHILE_FEW
    place = best if errors[best] < worthwhile * errors[0] else 0
    if place == 0 and "network" not in given:
        choice = replace(choice, network="none", widths=())
    return float(errors[place]), choice, ALPHAS[place]


def fit_training(
    data: StrainData, seed: int, use_energy: bool, fixed: dict[str, Any], shown: Shown | None,
    kept: Checkpoint,
) -> Fitted:  # fmt: skip
    """Choose, then fit to all training states."""
    choice, alpha = choose(data, use_energy, seed, fixed, shown, kept)
    alphas = {0: ALPHAS_POLYCONVEX, 1: ALPHAS_ALONE}.get(choice.order, ALPHAS)
    *_, fitted = follow(data, choice, tuple(a for a in alphas if a >= alpha), seed, use_energy, shown, kept)
    return fitted
