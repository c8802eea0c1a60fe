"""Fit a law with inputs to strain, stress and inputs: stress-free cell, stiffness and higher constants over θ."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor
from torch.func import functional_call, jacfwd
from tqdm import tqdm

from crystals import mandel
from crystals.dataset import StrainData

from .consistency import NOISE_FACTOR, Consistency
from .fit import check, orbit_folds, stress_error
from .least_squares import ENERGY_WEIGHT, prior_scale
from .parametric import ParametricLaw, input_powers
from .polynomial import higher_order_polynomials

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
#: Inner folds, and steps of Levenberg–Marquardt.
FOLDS = 3
STEPS = 30
#: Columns of the Jacobian that are formed at once.
_COLUMNS = 16


@dataclass(frozen=True)
class _Choice:
    order: int
    degree: int
    prior: float
    use_energy: bool


class _Problem:
    """Weighted residuals of a parametric law on data, over the RMS stress, and a ridge on constants of higher order."""

    def __init__(self, data: StrainData, input_range: np.ndarray, choice: _Choice) -> None:
        assert data.group is not None and data.inputs is not None
        self.law = ParametricLaw(
            data.group, data.input_names, input_range, choice.order, choice.degree, units=data.units
        )
        distinct, which = np.unique(data.inputs, axis=0, return_inverse=True)
        self.inputs, self.which = torch.from_numpy(distinct), torch.from_numpy(which.reshape(-1))
        self.points = torch.from_numpy(data.strain)
        n = len(data)
        weights = np.ones(n) if data.stress_error is None else data.stress_error**-2.0
        weights = weights / weights.mean()
        self.root = torch.from_numpy(np.sqrt(weights / n))
        self.unit = float(np.sqrt(np.mean(weights * np.sum(data.stress**2, axis=1))))
        self.size = float(np.sqrt(np.mean(np.sum(data.strain**2, axis=1))))
        self.scale = float(np.linalg.norm(data.strain, axis=1).max())
        self.stress = torch.from_numpy(data.stress)
        self.energy = torch.from_numpy(data.energy) if choice.use_energy and data.energy is not None else None
        # energies have a zero of their own at each value of the inputs
        members = torch.nn.functional.one_hot(self.which, len(distinct)).to(torch.float64)
        self.mean = (members / members.sum(dim=0)).T
        degrees = self.law._polynomials.degrees if self.law.higher.count else np.zeros(0)
        self.rescale = torch.from_numpy(self.unit * self.scale ** (1.0 - degrees)).expand(len(self.law.powers), -1)
        ridge = np.sqrt(choice.prior) / prior_scale(degrees, self.scale)
        self.ridge = torch.from_numpy(np.tile(ridge, len(self.law.powers)))
        self.sizes = (self.law.stretch.numel(), self.law.log_stiffness.numel(), self.law.coefficients.numel())

    def _parameters(self, theta: Tensor) -> dict[str, Tensor]:
        stretch, stiffness, coefficients = torch.split(theta, self.sizes)
        law = self.law
        return {
            "stretch": stretch.reshape(law.stretch.shape), "log_stiffness": stiffness.reshape(law.log_stiffness.shape),
            "coefficients": coefficients.reshape(law.coefficients.shape) * self.rescale,
        }  # fmt: skip

    def _rows(self, energy: Tensor, stress: Tensor) -> Tensor:
        """Scaled rows (6n or 7n, …) of energies (n, …) and stresses (n, 6, …)."""
        shape = (-1,) + (1,) * (stress.ndim - 1)
        rows = (self.root.reshape(shape) / self.unit * stress).reshape(-1, *stress.shape[2:])
        if self.energy is None:
            return rows
        centred = energy - (self.mean @ energy)[self.which]
        factor = ENERGY_WEIGHT / (self.unit * self.size)
        return torch.cat([rows, factor * self.root.reshape(shape[:-1]) * centred])

    def _predict(self, theta: Tensor) -> Tensor:
        energy, stress, _ = functional_call(self.law, self._parameters(theta), (self.points, self.inputs, self.which))
        return self._rows(energy, stress)

    def _residual(self, theta: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            point = torch.from_numpy(theta)
            target = self._rows(torch.zeros(0) if self.energy is None else self.energy, self.stress)
            return torch.cat(
                [self._predict(point) - target, self.ridge * point[-self.sizes[2] :][: self.sizes[2]]]
            ).numpy()

    def _jacobian(self, theta: np.ndarray) -> np.ndarray:
        point = torch.from_numpy(theta)
        few = self.sizes[0] + self.sizes[1]
        with torch.no_grad():
            columns = []
            for first in range(0, few, _COLUMNS):
                last = min(first + _COLUMNS, few)

                def predict(part: Tensor, first: int = first, last: int = last) -> Tensor:
                    return self._predict(torch.cat([point[:first], part, point[last:]]))

                columns.append(jacfwd(predict)(point[first:last]))
            if self.sizes[2]:
                columns.append(self._features(point))
            prior = torch.zeros(self.sizes[2], len(theta), dtype=torch.float64)
            prior[:, few:] = torch.diag(self.ridge)
            return torch.cat([torch.cat(columns, dim=1), prior]).numpy()

    def _features(self, point: Tensor) -> Tensor:
        """Columns of the coefficients, in which the law is linear."""
        law = self.law
        law.stretch.copy_(self._parameters(point)["stretch"])
        cell = law._cell(self.inputs)
        table = law.higher.table(law._pull(cell, self.which, self.points))
        volume = cell.volume[self.which, None]
        gradient = volume[..., None] * (law.higher.gradient(table) @ cell.pull[self.which])
        if law.turn is not None:
            gradient = gradient @ law.turn
        monomials = law.monomials(self.inputs)[self.which]
        values = torch.einsum("np,nb,pb->npb", monomials, volume * law.higher.value(table), self.rescale)
        gradients = torch.einsum("np,nbi,pb->nipb", monomials, gradient, self.rescale)
        return self._rows(values.flatten(1), gradients.flatten(2))

    def start(self) -> np.ndarray:
        """From a linear fit: S = Σ_m t^m (s_m + C_m E), its zero and its stiffness at every value of the inputs."""
        law = self.law
        turn = torch.eye(6, dtype=torch.float64) if law.turn is None else law.turn
        strain, stress = self.points @ turn.T, self.stress @ turn.T
        vectors = torch.from_numpy(mandel.to_mandel(law.stretches.numpy()))
        monomials = law.monomials(self.inputs)
        features = torch.cat(
            [vectors.T.expand(len(strain), 6, len(vectors)), torch.einsum("kij,nj->nik", law.basis, strain)], dim=2
        )
        design = torch.einsum("nik,np->nipk", features, monomials[self.which]) * self.root[:, None, None, None]
        right = (stress * self.root[:, None]).reshape(-1)
        found = np.linalg.lstsq(design.flatten(2).flatten(0, 1).numpy(), right.numpy(), rcond=1e-9)[0]
        amounts = monomials.numpy() @ found.reshape(len(law.powers), -1)
        rest, constants = amounts[:, : len(vectors)], amounts[:, len(vectors) :]
        stiffness = np.einsum("mk,kij->mij", constants, law.basis.numpy())
        values, turns = np.linalg.eigh(stiffness)
        values = np.maximum(values, 0.05 * values.max())
        logs = np.einsum("mia,ma,mja,kij->mk", turns, np.log(values), turns, law.basis.numpy())
        inside = np.einsum("ki,mia,ma,mja,lj->mkl", vectors, turns, values, turns, vectors)
        zero = np.linalg.solve(inside, -rest[..., None])[..., 0]
        values, turns = np.linalg.eigh(np.eye(3) + 2.0 * np.einsum("mk,kij->mij", zero, law.stretches.numpy()))
        values = np.clip(values, 0.5, 2.0)
        stretches = np.einsum("mia,ma,mja,kij->mk", turns, 0.5 * np.log(values), turns, law.stretches.numpy())
        by_state = self.which.numpy()
        head = [
            np.linalg.lstsq(monomials.numpy()[by_state], part[by_state], rcond=1e-9)[0] for part in (stretches, logs)
        ]
        return np.concatenate([*(part.reshape(-1) for part in head), np.zeros(self.sizes[2])])

    def minimise(self) -> float:
        """Levenberg–Marquardt (MINPACK) from `start`; the law holds the result, the mean squared residual is returned."""
        answer: Any = least_squares(
            self._residual, self.start(), self._jacobian, method="lm", max_nfev=STEPS, xtol=1e-10, ftol=1e-10
        )
        for name, values in self._parameters(torch.from_numpy(answer.x)).items():
            getattr(self.law, name).copy_(values)
        return float(2.0 * answer.cost)


def _fitted(data: StrainData, input_range: np.ndarray, choice: _Choice) -> ParametricLaw:
    problem = _Problem(data, input_range, choice)
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


def _strain_orbits(data: StrainData) -> np.ndarray:
    """Orbits of strain alone: the same strain at another temperature is not an independent state."""
    return replace(data, inputs=None, input_names=()).orbits()


def _input_folds(data: StrainData) -> list[np.ndarray]:
    """Masks of states at one inner value of a single input, or in one of five stretches of many; none below 4 values."""
    assert data.inputs is not None
    values = np.unique(data.inputs[:, 0])
    if data.inputs.shape[1] > 1 or len(values) < 4:
        return []
    parts = [np.array([value]) for value in values] if len(values) <= 7 else np.array_split(values, 7)
    return [np.isin(data.inputs[:, 0], part) for part in parts[1:-1]]


def _cross_validated(data: StrainData, input_range: np.ndarray, choice: _Choice, folds: list[np.ndarray]) -> float:
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
) -> tuple[_Choice, dict[str, float]]:
    """Degree in the inputs by leaving inner values of the input out (else by orbit), then the ridge by orbit."""
    labels = orbit_folds(_strain_orbits(data), FOLDS, seed)
    by_orbit = [labels == fold for fold in range(FOLDS)]
    by_input = _input_folds(data) or by_orbit
    most = _largest_degree(data, input_range)
    # a whole value of the input is left out: the others have to tell the monomials apart
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
            choice = _Choice(order or _highest_order(data, tried), tried, PRIORS[0], False)
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
        ridge[prior] = _cross_validated(data, input_range, _Choice(order, degree, prior, False), by_orbit)
        shown.update()
    errors |= {f"ridge {prior:.0e}": value for prior, value in ridge.items()}
    return _Choice(order, degree, min(PRIORS, key=lambda prior: ridge[prior]), False), errors


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
        folds = orbit_folds(_strain_orbits(data), max(2, round(1.0 / held_out)), seed)
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
        with tqdm(desc="fit_parametric", unit="fit", disable=not progress) as shown:
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
    law: ParametricLaw, choice: _Choice, errors: dict[str, float], training: StrainData, testing: StrainData | None,
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
