"""Fit a symmetric law to strain, energy and stress."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from crystals import mandel
from crystals.dataset import StrainData
from crystals.groups import PointGroup
from crystals.invariants import invariant_count
from crystals.moduli import elastic_constants
from crystals.rotations import mandel_rotation

from .consistency import Consistency, question
from .least_squares import Choice, PolynomialFit, Problem, Reference
from .polynomial import stiffness_basis
from .symmetric import SymmetricLaw

#: Weight decays tried for the network, from one that keeps it silent downwards.
ALPHAS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
#: Levenberg–Marquardt steps at each.
STEPS = 15
#: Highest degree of the polynomial part, and most coefficients it may have (a triclinic law stops at degree 4).
LARGEST_ORDER = 6
LARGEST_POLYNOMIAL = 200
#: Ridge parameters tried for its coefficients.
PRIORS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
#: Inner folds: leave-one-orbit-out, at most this many, for the polynomial; fewer for the costlier network.
POLYNOMIAL_FOLDS = 12
NETWORK_FOLDS = 4
#: From this many orbits on one inner fold decides on the network.
MANY_ORBITS = 100
#: The network has to lower the inner error below this share of the polynomial's, or it stays silent.
WORTHWHILE = 0.9


def stress_error(predicted: np.ndarray, given: np.ndarray) -> float:
    """Pooled relative error √(Σ‖ΔS‖² / Σ‖S‖²) of stresses (n, 6)."""
    return float(np.sqrt(np.sum((predicted - given) ** 2) / np.sum(given**2)))


def orbit_folds(orbits: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold (n,) of each state; symmetry-equivalent states share one, so no twin leaks into a test."""
    labels = np.unique(orbits)
    if folds < 2 or len(labels) < folds:
        raise ValueError(
            f"fit: expected at least as many symmetry-distinct states as folds (≥ 2), got {len(labels)} states and "
            f"{folds} folds. Add states, or use fewer folds."
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    fold_of = np.empty(len(labels), dtype=int)
    fold_of[order] = np.arange(len(labels)) % folds
    return fold_of[np.searchsorted(labels, orbits)]


@dataclass
class Fitted:
    """A law, the stress-free cell it is counted from, and the choices made."""

    law: SymmetricLaw
    reference: Reference
    order: int
    prior: float
    alpha: float

    def stress(self, strain: np.ndarray) -> np.ndarray:
        """Stress (n, 6) as the data give it, at strains (n, 6) counted from the file's cell."""
        inside = self.reference.to_law(strain)
        return self.reference.from_law(self.law.response(inside, tangent=False).stress)


def default_order(group: PointGroup) -> int:
    """The highest degree up to `LARGEST_ORDER` whose coefficients number at most `LARGEST_POLYNOMIAL`."""
    symbol, total = group.laue.symbol, 0
    for order in range(3, LARGEST_ORDER + 1):
        total += invariant_count(symbol, order)
        if total > LARGEST_POLYNOMIAL:
            return max(3, order - 1)
    return LARGEST_ORDER


def choose_polynomial(
    data: StrainData, orbits: np.ndarray, use_energy: bool, seed: int, order: int | None = None
) -> Choice:
    """Ridge parameter with the least cross-validated stress error, folds by orbit."""
    assert data.group is not None
    order = default_order(data.group) if order is None else order
    folds = orbit_folds(orbits, min(POLYNOMIAL_FOLDS, len(np.unique(orbits))), seed)
    errors = {}
    for prior in PRIORS:
        predicted = np.empty_like(data.stress)
        for fold in np.unique(folds):
            out = folds == fold
            predicted[out] = PolynomialFit(data.take(~out), order, use_energy, prior).stress(data.strain[out])
        errors[prior] = stress_error(predicted, data.stress)
    return Choice(order, min(errors, key=lambda prior: errors[prior]))


def _start(data: StrainData, choice: Choice, widths: tuple[int, ...], seed: int, use_energy: bool, network: str = "invariants") -> Problem:
    """A problem that starts at the polynomial fit, with a silent network."""
    assert data.group is not None
    polynomial = PolynomialFit(data, choice.order, use_energy, choice.prior)
    stiffness = polynomial.stiffness()
    scale = float(np.linalg.norm(stiffness) / np.sqrt(6.0))
    largest = float(np.linalg.norm(data.strain, axis=1).max())
    smallest = float(np.linalg.eigvalsh(stiffness)[0])
    if not smallest > 0:
        raise ValueError(
            f"fit: expected data whose reference state is stable, got a fitted stiffness with smallest eigenvalue "
            f"{smallest:.3g} {data.units}. Give more states or a smaller range of strain; else check unit and sign of the "
            "stress."
        )
    law = SymmetricLaw(
        data.group, choice.order, widths, stiffness=stiffness, energy_scale=scale, strain_scale=largest, seed=seed,
        network=network, units=data.units,
    )  # fmt: skip
    # The fit's first columns are the linear and quadratic invariants; the others are the law's polynomial part.
    skip = len(polynomial.coefficients) - law.higher.count
    degrees = law._polynomials.degrees if law.higher.count else np.zeros(0)
    with torch.no_grad():
        scaled = polynomial.coefficients[skip:] / (scale * largest) * largest ** (2.0 - degrees)
        law.coefficients.copy_(torch.from_numpy(scaled))
        for name, parameter in law.network.named_parameters():
            if name.endswith("last"):
                parameter.mul_(1e-2)
    return Problem(law, data, use_energy, choice.prior)


def _path(problem: Problem, alphas: tuple[float, ...], shown: Callable[[], None] | None) -> Iterator[Fitted]:
    for alpha in alphas:
        problem.minimise(alpha, STEPS, shown)
        problem.store()
        yield Fitted(problem.law, problem.reference(), problem.law.order, problem.prior, alpha)


def _choose_alpha(
    data: StrainData, orbits: np.ndarray, choice: Choice, widths: tuple[int, ...], seed: int, use_energy: bool,
    shown: Callable[[], None] | None,
) -> float:  # fmt: skip
    """Weight decay with the least inner held-out error; the largest, a silent network, unless another is worthwhile."""
    many = len(np.unique(orbits)) >= MANY_ORBITS
    folds = orbit_folds(orbits, NETWORK_FOLDS, seed + 1)
    wrong = np.zeros(len(ALPHAS))
    for fold in np.unique(folds)[: 1 if many else None]:
        inside = folds != fold
        problem = _start(data.take(inside), choice, widths, seed, use_energy)
        for place, fitted in enumerate(_path(problem, ALPHAS[: int(np.sum(np.isfinite(wrong)))], shown)):
            wrong[place] += np.sum((fitted.stress(data.strain[~inside]) - data.stress[~inside]) ** 2)
        # the path is followed no further than where the network still promises something
        promising = np.flatnonzero(wrong < 2.0 * wrong[0])
        wrong[promising.max(initial=0) + 1 :] = np.inf
        if not np.any(wrong[1:] < np.inf):
            break
    best = int(np.argmin(wrong))
    return ALPHAS[best if wrong[best] < WORTHWHILE**2 * wrong[0] else 0]


def _fit_training(
    data: StrainData, order: int | None, widths: tuple[int, ...], seed: int, use_energy: bool,
    shown: Callable[[], None] | None,
) -> Fitted:  # fmt: skip
    orbits = data.orbits()
    choice = choose_polynomial(data, orbits, use_energy, seed, order)
    alpha = _choose_alpha(data, orbits, choice, widths, seed, use_energy, shown)
    problem = _start(data, choice, widths, seed, use_energy)
    *_, fitted = _path(problem, tuple(a for a in ALPHAS if a >= alpha), shown)
    return fitted


def check(data: StrainData) -> None:
    """Refuse data that no law can be fitted to.

    Raises
    ------
    ValueError
        No point group, too few symmetry-distinct states, no stress, or elastic constants that no state feels.
    """
    if data.group is None:
        raise ValueError("fit: expected data with a point group, got none. Give a structure or --point-group.")
    distinct = len(np.unique(data.orbits()))
    if distinct < 2 * NETWORK_FOLDS:
        raise ValueError(
            f"fit: expected at least {2 * NETWORK_FOLDS} symmetry-distinct states, got {distinct} ({len(data)} states). "
            "Add strained cells in other directions."
        )
    if not np.any(data.stress):
        raise ValueError("fit: expected stresses, got zeros only. Check the columns of the data.")
    unseen = undetermined_constants(data)
    if unseen:
        raise ValueError(
            f"fit: expected states that determine all elastic constants of {data.group.symbol}, got none that feel "
            f"{', '.join(unseen)}. Add states with the strain components that are missing."
        )


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


def fit(
    data: StrainData,
    *,
    seed: int = 0,
    order: int | None = None,
    widths: tuple[int, ...] = (8, 8),
    held_out: float = 0.2,
    test: StrainData | None = None,
    progress: bool = True,
) -> SymmetricLaw:
    """Fit W(E) to energies and stresses; group, frame, unit and kind come from the data.

    The ridge on the polynomial and the network's weight decay are chosen by cross-validation inside the training
    states, by symmetry orbit. The held-out states are looked at once, at the end.

    Parameters
    ----------
    data : StrainData
    seed : int
        Seed of the split, the folds and the initial weights. Same seed, same machine, same law.
    order : int, optional
        Degree of the polynomial part; by default 6, less where that would take more than 200 coefficients.
    widths : tuple of int
        Hidden layers of the network.
    held_out : float
        Share of symmetry orbits kept for the error that is reported; 0 keeps none.
    test : StrainData, optional
        Held-out states instead of a split.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    SymmetricLaw
        Counted from its stress-free cell. `law.metadata['fit']` holds figures, `law.metadata['reference']` the
        stretch from the file's cell and the pressure there.

    Raises
    ------
    ValueError
        For data without group or stress, of a wrong unit or sign, or an unstable reference.
    """
    check(data)
    if not 0.0 <= held_out <= 0.5:
        raise ValueError(f"fit: expected held_out between 0 and 0.5, got {held_out}. 0.2 holds out a fifth.")
    training, testing = data, test
    if test is None and held_out > 0:
        orbits = data.orbits()
        folds = orbit_folds(orbits, max(2, round(1.0 / held_out)), seed)
        training, testing = data.take(folds != 0), data.take(folds == 0)
    consistency = question(training, choose_polynomial(training, training.orbits(), False, seed))
    use_energy = consistency is not None and consistency.use_energy
    with _one_thread_with_bar("fit", progress) as shown:
        fitted = _fit_training(training, order, widths, seed, use_energy, shown)
    return _finish(fitted, data, training, testing, consistency, seed)


def _finish(
    fitted: Fitted, data: StrainData, training: StrainData, testing: StrainData | None,
    consistency: Consistency | None, seed: int,
) -> SymmetricLaw:  # fmt: skip
    law = fitted.law
    inside = fitted.reference.to_law(training.strain)
    law.max_strain = float(np.linalg.norm(inside, axis=1).max())
    pressure = -float(np.mean(fitted.stress(np.zeros((1, 6)))[0, :3]))
    figures: dict[str, Any] = {
        "date": date.today().isoformat(),
        "seed": seed,
        "training_states": len(training),
        "training_stress_error": stress_error(fitted.stress(training.strain), training.stress),
        "order": fitted.order,
        "ridge": fitted.prior,
        "weight_decay": fitted.alpha,
        "energies": None if consistency is None else str(consistency),
        "parameters": int(sum(p.numel() for p in law.parameters())),
        "suspects": _suspects(fitted, data),
    }
    if "stiffness" in data.provenance:
        stiffness = np.array(data.provenance["stiffness"])
        figures["calculator_constants"] = elastic_constants(stiffness, law.group)
    figures["training_rmse_P"] = _piola_rmse(fitted, training)
    if testing is not None and len(testing):
        figures["held_out_states"] = len(testing)
        figures["held_out_stress_error"] = stress_error(fitted.stress(testing.strain), testing.stress)
        figures["held_out_rmse_P"] = _piola_rmse(fitted, testing)
    law.metadata = {
        "kind": data.kind,
        "fit": figures,
        "reference": {
            "stretch": fitted.reference.stretch.tolist(),
            "pressure_at_file_cell": pressure,
            "cell": None if data.cell_ref is None else data.cell_ref.tolist(),
        },
        "elastic_constants": elastic_constants(law.stiffness(), law.group),
        "provenance": {**data.provenance, "torch": torch.__version__, "python": platform.python_version()},
        "structure": data.structure,
    }
    law.requires_grad_(False)
    return law


def _suspects(fitted: Fitted, data: StrainData) -> list[str]:
    """Names of states missed by a fifth of their stress and ten times the median: turned frames, transformed cells."""
    missed = np.linalg.norm(fitted.stress(data.strain) - data.stress, axis=1)
    sizes = np.linalg.norm(data.stress, axis=1)
    found = (missed > 10.0 * np.median(missed)) & (missed > 0.2 * np.maximum(sizes, 0.1 * np.median(sizes)))
    return [data.names[i] for i in np.flatnonzero(found)]


def _piola_rmse(fitted: Fitted, data: StrainData) -> float:
    """RMS over the nine components of the first Piola–Kirchhoff stress P = F S, in the data's unit."""
    wrong = data.deformation_gradient @ mandel.from_mandel(fitted.stress(data.strain) - data.stress)
    return float(np.sqrt(np.mean(wrong**2)))


@dataclass(frozen=True)
class CrossValidation:
    """Pooled relative stress errors on held-out orbits: of the law, and of polynomials on the same folds."""

    law: float
    polynomials: dict[int, float]
    states: int
    orbits: int
    folds: int

    def __str__(self) -> str:
        rivals = ", ".join(f"order {order}: {100 * error:.2f} %" for order, error in self.polynomials.items())
        return (
            f"{self.folds}-fold cross-validated stress error, folds by symmetry orbit ({self.states} states, "
            f"{self.orbits} distinct): {100 * self.law:.2f} %\n  symmetric polynomials on the same folds: {rivals}"
        )


def cross_validate(
    data: StrainData, *, folds: int = 5, seed: int = 0, widths: tuple[int, ...] = (8, 8), progress: bool = True
) -> CrossValidation:
    """Cross-validated relative RMS stress error of `fit`, everything that is chosen being chosen inside each fold.

    Parameters
    ----------
    data : StrainData
    folds : int
        Number of folds; symmetry-equivalent states stay together.
    seed : int
        Seed of folds and fits.
    widths, progress
        As in `fit`.
    """
    check(data)
    orbits = data.orbits()
    fold = orbit_folds(orbits, folds, seed)
    predicted = np.empty_like(data.stress)
    rivals = {order: np.empty_like(data.stress) for order in range(2, 7)}
    with _one_thread_with_bar(f"{folds}-fold cross-validation", progress) as shown:
        for number in range(folds):
            training, out = data.take(fold != number), fold == number
            consistency = question(training, choose_polynomial(training, orbits[~out], False, seed))
            use_energy = consistency is not None and consistency.use_energy
            predicted[out] = _fit_training(training, None, widths, seed, use_energy, shown).stress(data.strain[out])
            for order, prediction in rivals.items():
                prediction[out] = PolynomialFit(training, order, use_energy).stress(data.strain[out])
    return CrossValidation(
        stress_error(predicted, data.stress),
        {order: stress_error(prediction, data.stress) for order, prediction in rivals.items()},
        len(data),
        len(np.unique(orbits)),
        folds,
    )


@contextmanager
def _one_thread_with_bar(label: str, progress: bool) -> Iterator[Callable[[], None]]:
    threads = torch.get_num_threads()
    # Many small products: two threads were measured to take twice as long as one; and the sums keep one order.
    torch.set_num_threads(1)
    try:
        with tqdm(desc=label, unit="step", disable=not progress, mininterval=0.5) as bar:

            def shown() -> None:
                bar.update()

            yield shown
    finally:
        torch.set_num_threads(threads)
