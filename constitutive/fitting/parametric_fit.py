"""Fit a law with inputs to strain, stress and inputs: stress-free cell, stiffness and higher constants over θ."""

from __future__ import annotations

import platform
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from crystals.dataset import StrainData
from crystals.progress import bar_interval

from ..laws.parametric import ParametricLaw, input_powers
from ..laws.polynomial import higher_order_polynomials
from .consistency import NOISE_FACTOR, Consistency
from .fit import check
from .parametric_problem import ParametricChoice, ParametricProblem
from .selection import orbit_folds, stress_error

#: Ridge parameters tried for the constants of higher order; the first while the degree in the inputs is chosen.
PRIORS = (1e-6, 1e-8, 1e-4)
#: Highest degree in the inputs that is tried, and by how much one more has to lower the cross-validated error.
LARGEST_DEGREE = 4
WORTHWHILE = 0.95
#: Below this error nothing is left to win.
EXACT = 1e-6
#: Most coefficients of higher order, over all monomials of the inputs.
LARGEST_POLYNOMIAL = 280
LARGEST_ORDER = 6
#: Inner folds.
FOLDS = 3


def _fitted(data: StrainData, input_range: np.ndarray, choice: ParametricChoice) -> ParametricLaw:
    problem = ParametricProblem(data, input_range, choice)
    problem.minimise()
    return problem.law


def _stress(law: ParametricLaw, data: StrainData) -> np.ndarray:
    return law.response(data.strain, inputs=data.inputs, tangent=False).stress


def _highest_order(data: StrainData, degree: int) -> int:
    """Highest order up to `LARGEST_ORDER` that keeps to `LARGEST_POLYNOMIAL` coefficients; 3 at least."""
    assert data.group is not None
    powers = len(input_powers(len(data.input_names), degree))
    orders = range(LARGEST_ORDER, 3, -1)
    counts = ((order, len(higher_order_polynomials(data.group, order))) for order in orders)
    return next((order for order, count in counts if count * powers <= LARGEST_POLYNOMIAL), 3)


def _largest_degree(data: StrainData, input_range: np.ndarray) -> int:
    """Highest degree whose monomials the values of the inputs can tell apart."""
    assert data.inputs is not None
    scaled = (np.unique(data.inputs, axis=0) - input_range.mean(axis=1)) / (0.5 * np.ptp(input_range, axis=1))
    for degree in range(LARGEST_DEGREE, 0, -1):
        design = np.prod(scaled[:, None, :] ** input_powers(scaled.shape[1], degree), axis=2)
        if np.linalg.matrix_rank(design, tol=1e-6) == design.shape[1]:
            return degree
    raise ValueError(
        f"fit_parametric: expected at least two values of each of {', '.join(data.input_names)}, not all on one line, got "
        f"{len(scaled)} distinct. Add states at others, or use fit."
    )


def _strain_blocks(data: StrainData) -> np.ndarray:
    """Orbits of strain alone, or load paths: the same strain at another temperature is not an independent state."""
    return replace(data, inputs=None, input_names=()).blocks()


def _input_folds(data: StrainData) -> list[np.ndarray]:
    """Masks of states at one inner value of a single input, or in one of five stretches of many; none below 4 values."""
    assert data.inputs is not None
    values = np.unique(data.inputs[:, 0])
    if data.inputs.shape[1] > 1 or len(values) < 4:
        return []
    parts = [np.array([value]) for value in values] if len(values) <= 7 else np.array_split(values, 7)
    return [np.isin(data.inputs[:, 0], part) for part in parts[1:-1]]


def _cross_validated(
    data: StrainData, input_range: np.ndarray, choice: ParametricChoice, folds: list[np.ndarray]
) -> float:
    wrong = total = 0.0
    weights = np.ones(len(data)) if data.stress_error is None else data.stress_error**-2.0
    for out in folds:
        law = _fitted(data.take(~out), input_range, choice)
        missed = np.sum((_stress(law, data.take(out)) - data.stress[out]) ** 2, axis=1)
        wrong += float(np.sum(weights[out] * missed))
        total += float(np.sum(weights[out] * np.sum(data.stress[out] ** 2, axis=1)))
    return float(np.sqrt(wrong / total))


def _choose(
    data: StrainData, input_range: np.ndarray, order: int | None, degree: int | None, seed: int, shown: tqdm
) -> tuple[ParametricChoice, dict[str, float]]:
    """Degree in the inputs by leaving inner values of the input out (else by orbit), then the ridge by orbit."""
    labels = orbit_folds(_strain_blocks(data), FOLDS, seed)
    by_orbit = [labels == fold for fold in range(FOLDS)]
    by_input = _input_folds(data) or by_orbit
    most = _largest_degree(data, input_range)
    # a whole value of the input is left out: the others have to tell the monomials apart
    assert data.inputs is not None
    most = min(most, len(np.unique(data.inputs)) - 2) if by_input is not by_orbit else most
    if degree is not None and not 0 <= degree <= _largest_degree(data, input_range):
        raise ValueError(
            f"fit_parametric: expected a degree from 0 to {_largest_degree(data, input_range)} for the values of the inputs "
            f"in the data, got {degree}. Add states at others."
        )
    errors: dict[str, float] = {}
    if degree is None:
        best = np.inf
        for tried in range(1, most + 1):
            choice = ParametricChoice(order or _highest_order(data, tried), tried, PRIORS[0], False)
            found = _cross_validated(data, input_range, choice, by_input)
            errors[f"degree {tried}"] = found
            shown.update()
            if found > WORTHWHILE * best:
                break
            best, degree = found, tried
            if best < EXACT:
                break
        assert degree is not None
    order = order or _highest_order(data, degree)
    ridge = {}
    for prior in PRIORS:
        ridge[prior] = _cross_validated(data, input_range, ParametricChoice(order, degree, prior, False), by_orbit)
        shown.update()
    errors |= {f"ridge {prior:.0e}": value for prior, value in ridge.items()}
    return ParametricChoice(order, degree, min(PRIORS, key=lambda prior: ridge[prior]), False), errors


def _question(law: ParametricLaw, data: StrainData) -> Consistency | None:
    """Whether energies, each input's counted from its own mean, belong to the stresses that a law was fitted to."""
    if data.energy is None or data.inputs is None:
        return None
    distinct, which = np.unique(data.inputs, axis=0, return_inverse=True)
    which = which.reshape(-1)
    if len(distinct) > len(data) // 4:
        return None

    def centred(values: np.ndarray) -> np.ndarray:
        return values - (np.bincount(which, values) / np.bincount(which))[which]

    given = centred(data.energy)
    answer = law.response(data.strain, inputs=data.inputs, tangent=False)
    found = float(np.sqrt(np.mean((centred(answer.energy) - given) ** 2)))
    size = float(np.sqrt(np.mean(given**2)))
    residual = float(np.sqrt(np.mean(np.sum((answer.stress - data.stress) ** 2, axis=1))))
    noise = max(residual * float(np.sqrt(np.mean(np.sum(data.strain**2, axis=1)))), 1e-12 * size)
    return Consistency(found, found / size, noise, bool(found <= NOISE_FACTOR * noise), data.units)


def fit_parametric(
    data: StrainData,
    *,
    seed: int = 0,
    order: int | None = None,
    degree: int | None = None,
    held_out: float = 0.2,
    test: StrainData | None = None,
    progress: bool = True,
) -> ParametricLaw:
    """Fit W(E; θ) to states with inputs; group, frame, unit, kind and what the inputs are come from the data.

    Weighted nonlinear least squares of stresses, each state by the inverse square of its `stress_error` where there is
    one. Energies are used where they belong to the stresses at every value of the inputs (their zero may differ from
    value to value); isothermal data have none. The degree in θ is the lowest that serves where inner values of a single
    input are left out (with fewer than 4 values or several inputs: where strains are left out), the ridge on constants
    of order 3 and more is chosen on left-out strains.

    Parameters
    ----------
    data : StrainData
        With `inputs`. The law's strain is counted from their reference cell.
    seed : int
        Seed of split and folds. Same seed, same machine, same law.
    order : int, optional
        Highest order of elastic constants; by default up to 6, with at most 280 coefficients.
    degree : int, optional
        Degree in the inputs, by default chosen.
    held_out : float
        Share of symmetry-distinct strains kept for the error that is reported, at all inputs; 0 keeps none.
    test : StrainData, optional
        Held-out states instead of a split.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    ParametricLaw
        `law.metadata['fit']` holds figures.

    Raises
    ------
    ValueError
        For data without group, stress or inputs, too few values of these, or elastic constants that no state feels.
    """
    if data.inputs is None:
        raise ValueError("fit_parametric: expected data with inputs, got none. Set inputs and input_names, or use fit.")
    check(replace(data, inputs=None, input_names=()))
    if not 0.0 <= held_out <= 0.5:
        raise ValueError(f"fit_parametric: expected held_out between 0 and 0.5, got {held_out}. 0.2 holds out a fifth.")
    if test is not None and test.input_names != data.input_names:
        raise ValueError(
            f"fit_parametric: expected test states with inputs {data.input_names}, got {test.input_names}."
        )
    training, testing = data, test
    if test is None and held_out > 0:
        folds = orbit_folds(_strain_blocks(data), max(2, round(1.0 / held_out)), seed)
        training, testing = data.take(folds != 0), data.take(folds == 0)
    assert training.inputs is not None
    input_range = np.stack([training.inputs.min(axis=0), training.inputs.max(axis=0)], axis=1)
    if not np.all(input_range[:, 0] < input_range[:, 1]):
        raise ValueError(
            f"fit_parametric: expected at least two values of each of {', '.join(data.input_names)}, got "
            f"{input_range[:, 0].tolist()} alone. Add states at others, or use fit."
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tqdm(desc="fit_parametric", unit="fit", disable=not progress, mininterval=bar_interval()) as shown:
            choice, errors = _choose(training, input_range, order, degree, seed, shown)
            law = _fitted(training, input_range, choice)
            consistency = _question(law, training)
            if consistency is not None and consistency.use_energy:
                choice = replace(choice, use_energy=True)
                law = _fitted(training, input_range, choice)
    finally:
        torch.set_num_threads(threads)
    return _finish(law, choice, errors, training, testing, consistency, seed)


def _finish(
    law: ParametricLaw, choice: ParametricChoice, errors: dict[str, float], training: StrainData, testing: StrainData | None,
    consistency: Consistency | None, seed: int,
) -> ParametricLaw:  # fmt: skip
    law.max_strain = float(np.linalg.norm(law.elastic_strain(training.strain, training.inputs), axis=1).max())
    figures: dict[str, Any] = {
        "date": date.today().isoformat(),
        "seed": seed,
        "training_states": len(training),
        "training_stress_error": stress_error(_stress(law, training), training.stress),
        "order": choice.order,
        "degree": choice.degree,
        "ridge": choice.prior,
        "cross_validation": errors,
        "energies": None if consistency is None else str(consistency),
        "weights": "equal" if training.stress_error is None else "inverse square of stress_error",
        "parameters": int(sum(p.numel() for p in law.parameters())),
    }
    for name, part in (("training", training), ("held_out", testing)):
        if part is not None and part.stress_error is not None:
            missed = (_stress(law, part) - part.stress) / part.stress_error[:, None]
            # 1 where the law misses by the stated errors alone (more parameters than that: below)
            figures[f"{name}_chi_square"] = float(np.mean(missed**2))
    if testing is not None and len(testing):
        figures["held_out_states"] = len(testing)
        figures["held_out_stress_error"] = stress_error(_stress(law, testing), testing.stress)
    law.metadata = {
        "kind": training.kind,
        "fit": figures,
        "reference": {"cell": None if training.cell_ref is None else training.cell_ref.tolist()},
        "provenance": {**training.provenance, "torch": torch.__version__, "python": platform.python_version()},
        "structure": training.structure,
    }
    return law
