"""Fit a symmetric law to strain, energy and stress."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from crystals import mandel
from crystals.dataset import StrainData
from crystals.elastic_constants import elastic_constants
from crystals.moduli import is_stable
from crystals.progress import bar_interval
from crystals.symmetry_floor import symmetry_floor

from ..laws.domain import FEWEST_STRAINS, Domain
from .checkpoint import Checkpoint
from .consistency import Consistency, question
from .elliptic_fit import keep_elliptic
from .laplace import laplace
from .least_squares import FittedLaw, PolynomialFit, Shown
from .selection import (
    Fitted,
    are_very_few,
    choose_polynomial,
    default_order,
    fewest_states,
    fit_training,
    orbit_folds,
    stress_error,
    undetermined_constants,
)

#: Relative stress error on all states given, held-out ones among them, beyond which a law is none; data that state their
#: errors may be noisier.
HOPELESS = 0.3


def check(data: StrainData) -> None:
    """Refuse data that no law can be fitted to.

    Raises
    ------
    TypeError
        For anything but `StrainData`.
    ValueError
        No point group, too few symmetry-distinct states, no stress, or elastic constants that no state feels.
    """
    if not isinstance(data, StrainData):
        raise TypeError(
            f"fit: expected StrainData, got {type(data).__name__}. A file is read by StrainData.read(path)."
        )
    if data.group is None:
        raise ValueError("fit: expected data with a point group, got none. Give a structure or --point-group.")
    if data.inputs is not None:
        raise ValueError(
            f"fit: expected data without inputs, got {', '.join(data.input_names)}. Use fit_parametric, or take the states "
            "of one value."
        )
    distinct, fewest = len(np.unique(data.orbits())), fewest_states(data.group)
    if distinct < fewest:
        raise ValueError(
            f"fit: expected at least {fewest} symmetry-distinct states for {data.group.symbol}, got {distinct} ({len(data)} "
            "states). Add strained cells in other directions."
        )
    if not np.any(data.stress):
        raise ValueError("fit: expected stresses, got zeros only. Check the columns of the data.")
    unseen = undetermined_constants(data)
    if unseen:
        raise ValueError(
            f"fit: expected states that determine all elastic constants of {data.group.symbol}, got none that feel "
            f"{', '.join(unseen)}. Add states with the strain components that are missing."
        )


def fit(
    data: StrainData,
    *,
    seed: int = 0,
    order: int | None = None,
    network: str | None = None,
    widths: tuple[int, ...] | None = None,
    measure: float | None = None,
    held_out: float = 0.2,
    test: StrainData | None = None,
    elliptic_box: float | None = None,
    polyconvex: bool = False,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> FittedLaw:
    """Fit W(E) to energies and stresses; group, frame, unit and kind come from the data.

    What is not given is chosen by cross-validation inside the training states, by symmetry orbit (by load path for
    tables): strain measure, degree and ridge of the polynomial, weight decay of the network, and, where no polynomial
    describes the data, a network alone. The held-out states are looked at once, at the end.

    Parameters
    ----------
    data : StrainData
    seed : int
        Seed of the split, the folds and the initial weights. Same seed, same machine, same law.
    order : int, optional
        Degree of the polynomial part, 2 to 6; 1 for a network alone.
    network, widths, measure : optional
        As in `SymmetricLaw`.
    held_out : float
        Share of symmetry orbits kept for the error that is reported; 0 keeps none, and so do fewer than eight orbits.
    test : StrainData, optional
        Held-out states instead of a split.
    elliptic_box : float, optional
        Half-width of a box of strains, |E_i| in all six Mandel components, that is to stay strongly elliptic.
    polyconvex : bool
        Fit a `PolyconvexLaw`, elliptic at every strain, in place of a `SymmetricLaw`; mostly less accurate.
    checkpoint : path, optional
        File that keeps what is done, so that the same call goes on after a kill; removed at the end.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    SymmetricLaw or PolyconvexLaw
        Counted from its stress-free cell. `law.metadata['fit']` holds figures, `law.metadata['reference']` the
        stretch from the file's cell and the pressure there.

    Raises
    ------
    ValueError
        For data without group or stress, of a wrong unit or sign, an unstable reference, or that no law follows.
    """
    check(data)
    if not 0.0 <= held_out <= 0.5:
        raise ValueError(f"fit: expected held_out between 0 and 0.5, got {held_out}. 0.2 holds out a fifth.")
    if polyconvex and (order, measure, elliptic_box) != (None, None, None):
        raise ValueError(
            "fit: expected no order, measure or elliptic_box for a polyconvex law, which has no polynomial, sees stretches "
            "and is elliptic everywhere. Leave them out, or polyconvex."
        )
    training, testing = data, test
    if test is None and held_out > 0 and not are_very_few(data):
        folds = orbit_folds(data.orbits(), max(2, round(1.0 / held_out)), seed)
        training, testing = data.take(folds != 0), data.take(folds == 0)
    fixed = {"order": order, "network": network, "widths": widths, "measure": measure, "polyconvex": polyconvex}
    kept = Checkpoint(None if checkpoint is None else Path(checkpoint), _identity(training, seed, fixed))
    consistency = _questioned(training, seed)
    use_energy = consistency is not None and consistency.use_energy
    with _one_thread_with_bar("fit", progress) as shown:
        fitted = fit_training(training, seed, use_energy, fixed, shown, kept)
        box = {}
        if elliptic_box is not None:
            box = keep_elliptic(fitted.problem, elliptic_box, fitted.alpha, shown)
            fitted.reference = fitted.problem.reference()
    law = _finish(fitted, data, training, testing, consistency, seed)
    law.metadata["fit"].update(box)
    if not are_very_few(training):
        law.uncertainty = laplace(fitted.problem, fitted.alpha, training.blocks())
    kept.done()
    return law


def _questioned(training: StrainData, seed: int) -> Consistency | None:
    assert training.group is not None
    if training.energy is None:
        return None
    largest = None if are_very_few(training) else default_order(training.group)
    return question(training, choose_polynomial(training, False, seed, largest, 1.0)[0])


def _identity(training: StrainData, seed: int, fixed: dict[str, Any]) -> str:
    """Hash of all that a fit depends on."""
    digest = hashlib.sha256(json.dumps([seed, fixed, training.units, torch.__version__], sort_keys=True).encode())
    assert training.group is not None
    digest.update(training.group.symbol.encode() + training.group.frame.tobytes())
    for array in (training.strain, training.stress, training.energy, training.series):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _finish(
    fitted: Fitted, data: StrainData, training: StrainData, testing: StrainData | None,
    consistency: Consistency | None, seed: int,
) -> FittedLaw:  # fmt: skip
    law = fitted.law
    inside = fitted.reference.to_law(training.strain)
    law.max_strain = float(np.linalg.norm(inside, axis=1).max())
    # of fewer states nothing but the largest strain is worth keeping
    law.domain = Domain.from_strains(law.group, inside) if len(inside) >= FEWEST_STRAINS else None
    if not is_stable(law.stiffness()):
        raise ValueError(
            f"fit: expected a law that is stable at its reference, got a stiffness with smallest eigenvalue "
            f"{np.linalg.eigvalsh(law.stiffness())[0]:.3g} {data.units}. Add states of small strain; else check unit and "
            "sign of the stress."
        )
    predicted = fitted.stress(data.strain)
    suspects, followed = _suspects(predicted, data), stress_error(predicted, data.stress)
    if followed > HOPELESS and data.stress_error is None:
        raise ValueError(
            f"fit: expected states that one law can follow, got a stress error of {100 * followed:.0f} %"
            f"{f', worst {suspects[0]}' if suspects else ''}. Check the point group, and the units, signs and frames of single "
            "states."
        )
    pressure = -float(np.mean(fitted.stress(np.zeros((1, 6)))[0, :3]))
    figures: dict[str, Any] = {
        "date": date.today().isoformat(),
        "seed": seed,
        "training_states": len(training),
        "training_stress_error": stress_error(fitted.stress(training.strain), training.stress),
        "order": fitted.choice.order,
        "ridge": fitted.choice.prior,
        "measure": fitted.choice.measure,
        "network": law.form,
        "weight_decay": fitted.alpha,
        "energies": None if consistency is None else str(consistency),
        "parameters": int(sum(p.numel() for p in law.parameters() if p.requires_grad)),
        "suspects": suspects,
        "symmetry_floor": str(symmetry_floor(training)),
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


def _suspects(predicted: np.ndarray, data: StrainData) -> list[str]:
    """Names of states missed by a fifth of their stress and ten times the median: turned frames, transformed cells."""
    missed = np.linalg.norm(predicted - data.stress, axis=1)
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
    data: StrainData, *, folds: int = 5, seed: int = 0, progress: bool = True, **fixed: Any
) -> CrossValidation:
    """Cross-validated relative RMS stress error of `fit`, everything that is chosen being chosen inside each fold.

    Parameters
    ----------
    data : StrainData
    folds : int
        Number of folds, at most that of the symmetry-distinct states; symmetry-equivalent states stay together.
    seed : int
        Seed of folds and fits.
    progress
        As in `fit`.
    fixed : optional
        order, network, widths, measure, polyconvex as in `fit`.
    """
    check(data)
    orbits = data.orbits()
    folds = min(folds, len(np.unique(orbits)))
    fold = orbit_folds(orbits, folds, seed)
    predicted = np.empty_like(data.stress)
    rivals = {order: np.empty_like(data.stress) for order in range(2, 7)}
    with _one_thread_with_bar(f"{folds}-fold cross-validation", progress) as shown:
        for number in range(folds):
            training, out = data.take(fold != number), fold == number
            consistency = _questioned(training, seed)
            use_energy = consistency is not None and consistency.use_energy
            fitted = fit_training(training, seed, use_energy, fixed, shown, Checkpoint(None, ""))
            predicted[out] = fitted.stress(data.strain[out])
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
def _one_thread_with_bar(label: str, progress: bool) -> Iterator[Shown]:
    threads = torch.get_num_threads()
    # Many small products: two threads were measured to take twice as long as one; and the sums keep one order.
    torch.set_num_threads(1)
    latest: dict[str, str] = {}
    try:
        with tqdm(desc=label, unit="step", disable=not progress, mininterval=bar_interval(0.5)) as bar:

            def shown(**errors: float) -> None:
                latest.update({name.replace("_", " "): f"{100 * error:.2f} %" for name, error in errors.items()})
                bar.set_postfix(latest, refresh=False)
                bar.update()

            yield shown
    finally:
        torch.set_num_threads(threads)
