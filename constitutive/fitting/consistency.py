"""Questions to data before a law is fitted: do stresses and energies belong together, in the stated unit and sign?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crystals.dataset import STRESS_UNITS, StrainData

from .least_squares import Choice, PolynomialFit

#: Energies that miss the stresses by more than this many times the noise are left out of the fit.
NOISE_FACTOR = 3.0
#: Another unit or sign is believed below this relative mismatch.
PLAUSIBLE = 0.2


@dataclass(frozen=True)
class Consistency:
    """How well stresses predict energies.

    Attributes
    ----------
    mismatch : float
        RMS difference between given energies and those that a stress-only fit predicts, in the data's unit.
    relative : float
        The same over the RMS energy.
    noise : float
        The larger of what the stress fit's own residual allows, and the scatter of the energies about a polynomial
        fitted to them alone, in the data's unit.
    use_energy : bool
        Whether the fit uses the energies.
    factor : float
        What the predicted energies are to be multiplied by to match best.
    """

    mismatch: float
    relative: float
    noise: float
    use_energy: bool
    units: str
    factor: float = 1.0

    def __str__(self) -> str:
        verdict = "fitted with stress and energy" if self.use_energy else (
            f"more than {NOISE_FACTOR:g} times the noise: fitted with stress only"
        )  # fmt: skip
        if not self.use_energy and not 0.5 < self.factor < 2.0:
            verdict += (
                f"; they are {self.factor:.3g} times what the stresses say: check their unit (eV; 1 Hartree is 27.2 eV, "
                "1 Rydberg 13.6 eV)"
            )
        return (
            f"energies from a stress-only fit: mismatch {self.mismatch:.3g} {self.units} ({100 * self.relative:.2g} %), "
            f"noise {self.noise:.2g} {self.units}; {verdict}"
        )


def question(data: StrainData, choice: Choice) -> Consistency | None:
    """Predict the energies from the stresses; None where the data have no energies.

    Parameters
    ----------
    data : StrainData
    choice : Choice
        Degree and ridge parameter of the polynomials that ask.

    Raises
    ------
    ValueError
        Where another unit or sign of the stress explains the energies better: the best one is named.
    """
    if data.energy is None:
        return None
    fit = PolynomialFit(data, choice.order, use_energy=False, prior=choice.prior, measure=choice.measure)
    predicted = fit.energy(data.strain)
    predicted, given = predicted - predicted.mean(), data.energy - data.energy.mean()
    size = float(np.sqrt(np.mean(given**2)))
    if size == 0.0 or not np.any(predicted):
        raise ValueError(
            "fit: expected energies and stresses that vary with strain, got constant ones. Check the columns of the data."
        )

    def mismatch(factor: float) -> float:
        return float(np.sqrt(np.mean((given - factor * predicted) ** 2)))

    _check_unit_and_sign(data, mismatch, size)
    residual = float(np.sqrt(np.mean(np.sum((fit.stress(data.strain) - data.stress) ** 2, axis=1))))
    strain = float(np.sqrt(np.mean(np.sum(data.strain**2, axis=1))))
    alone = PolynomialFit(data, choice.order, use_stress=False, prior=choice.prior, measure=choice.measure)
    scatter = alone.energy(data.strain) - data.energy
    noise = max(residual * strain, float(np.std(scatter)), 1e-12 * size)
    found = mismatch(1.0)
    factor = float(given @ predicted / (predicted @ predicted))
    return Consistency(found, found / size, noise, bool(found <= NOISE_FACTOR * noise), data.units, factor)


def _check_unit_and_sign(data: StrainData, mismatch: Callable[[float], float], size: float) -> None:
    """Raise where another unit or sign of the stress explains the energies, and name it."""
    declared = str(data.provenance.get("stress_units", data.units))
    sign = float(data.provenance.get("stress_sign", 1.0))
    stated = STRESS_UNITS[declared]
    hypotheses = {(unit, s): s * pascal / stated for unit, pascal in STRESS_UNITS.items() for s in (1.0, -1.0)}
    best = min(hypotheses, key=lambda key: (mismatch(hypotheses[key]), key[0] != declared))
    found, present = mismatch(hypotheses[best]) / size, mismatch(1.0) / size
    if abs(hypotheses[best] - 1.0) < 1e-9 or found > 0.5 * present or found > PLAUSIBLE:
        return
    unit, turned = best[0], sign * best[1]
    counted = "compression" if turned < 0 else "tension"
    if data.provenance.get("reader") == "extended XYZ":
        remedy = f"pass --stress-units {unit} --stress-sign {turned:.0f}"
    elif best[1] > 0:
        remedy = f"pass --units {unit} for a table, or convert the stress" if unit != declared else "convert the stress"
    else:
        remedy = f"change the sign of the stress{'' if unit == declared else f' and convert it from {unit}'}"
    raise ValueError(
        f"fit: expected stresses in {declared}, {'tension' if sign > 0 else 'compression'} positive, that belong to the "
        f"energies, got a mismatch of {100 * present:.0f} %; in {unit}, {counted} positive, it is {100 * found:.1f} %. If "
        f"that is so, {remedy}."
    )
