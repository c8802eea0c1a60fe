"""Elastic constants of second to fourth order from strained states, with what is uncertain about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from math import factorial
from typing import Any

import numpy as np

from crystals import mandel
from crystals.dataset import StrainData
from crystals.elastic_constants import elastic_constants, independent_constants, stiffness_from_constants
from crystals.exchange import elastic_tensor
from crystals.groups import PointGroup
from crystals.invariants import invariant_count, invariant_polynomials
from crystals.moduli import hill_average, is_stable, reuss_average, universal_anisotropy, voigt_average
from crystals.notebook import stiffness_html

from .least_squares import PolynomialFit

#: Groups of states left out in turn: standard errors come from them.
FOLDS = 10
#: Highest degree of the energy that is tried.
LARGEST_DEGREE = 6
#: Constants are derivatives at zero, where a polynomial of a wide range of strains need not be right: states count with
#: |E|^−p, p one of these, strains below this share of the largest no more than it.
POWERS = (0.0, 1.0, 2.0)
SMALLEST = 0.05


@dataclass(frozen=True)
class ElasticTable:
    """Elastic constants ∂ⁿW/∂Eⁿ at the stress-free state (Brugger's), in Voigt notation and the group's standard frame.

    Attributes
    ----------
    group : PointGroup
    constants : dict of int to dict of str to (float, float)
        Order → name → value and standard error, in `units`.
    differences : dict of str to float, or None
        Second order by finite differences of the calculator's stress, where the data carry them.
    stiffness : (6, 6)
        Second order, Mandel, frame of the data.
    stable : bool
        Born stability: every eigenvalue of the stiffness is positive.
    averages : dict of str to float
        Bulk and shear modulus after Voigt, Reuss and Hill, universal anisotropy.
    degree : int
        Degree of the fitted energy.
    residual : float
        Pressure (−⅓ tr S, `units`) at the file's cell, before counting from the stress-free one.
    held_out : float
        Pooled relative stress error on states left out.
    states : int
    units : str
    """

    group: PointGroup
    constants: dict[int, dict[str, tuple[float, float]]]
    differences: dict[str, float] | None
    stiffness: np.ndarray = field(repr=False)
    stable: bool
    averages: dict[str, float]
    degree: int
    residual: float
    held_out: float
    states: int
    units: str

    def __repr__(self) -> str:
        names = " ".join(f"{name}={value:.1f}±{error:.1f}" for name, (value, error) in self.constants[2].items())
        return f"ElasticTable({self.group.symbol!r}, {names} {self.units}, {self.states} states)"

    def elastic_tensor(self) -> Any:
        """The stiffness as pymatgen's `ElasticTensor` (3, 3, 3, 3), GPa, in the same frame."""
        return elastic_tensor(self.stiffness, self.units)

    def _repr_html_(self) -> str:
        facts = [("point group", self.group.symbol), ("states", str(self.states)),
                 ("stress error, states left out", f"{100 * self.held_out:.2g} %")]  # fmt: skip
        for order, values in self.constants.items():
            digits = 2 if order == 2 else 0
            row = ", ".join(
                f"{name} {value:.{digits}f} ± {error:.{digits}f}" for name, (value, error) in values.items()
            )
            facts.append((f"order {order}, {self.units}", row))
        return stiffness_html("elastic constants", facts, self.stiffness, self.units)

    def __str__(self) -> str:
        lines = [
            f"{self.group.symbol}, {self.states} states, energy of degree {self.degree}, "
            f"{100 * self.held_out:.2g} % stress error on states left out"
        ]
        for order, values in self.constants.items():
            checked = self.differences if order == 2 else None
            lines.append(f"order {order}, {self.units:<8}   fit     ± " + ("    differences" if checked else ""))
            for name, (value, error) in values.items():
                beside = f"{checked[name]:>15.2f}" if checked else ""
                digits = 2 if order == 2 else 0
                lines.append(f"  {name:<8}{value:>12.{digits}f}{error:>8.{digits}f}{beside}")
        a = self.averages
        lines += [
            f"Born stability: {'yes' if self.stable else 'NO'}, smallest eigenvalue "
            f"{np.linalg.eigvalsh(self.stiffness)[0]:.2f} {self.units}",
            "          Voigt    Reuss     Hill",
            f"  bulk {a['bulk_voigt']:>8.2f} {a['bulk_reuss']:>8.2f} {a['bulk_hill']:>8.2f} {self.units}",
            f"  shear{a['shear_voigt']:>8.2f} {a['shear_reuss']:>8.2f} {a['shear_hill']:>8.2f} {self.units}",
            f"universal anisotropy {a['universal_anisotropy']:.3f}; pressure at the file's cell {self.residual:.3g} "
            f"{self.units}",
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "point_group": self.group.symbol, "units": self.units, "states": self.states, "degree": self.degree,
            "constants": {
                str(order): {name: {"value": value, "error": error} for name, (value, error) in values.items()}
                for order, values in self.constants.items()
            },
            "differences": self.differences, "born_stable": self.stable, "averages": self.averages,
            "pressure": self.residual, "held_out_stress_error": self.held_out,
        }  # fmt: skip


def elastic_table(data: StrainData, order: int = 3) -> ElasticTable:
    """Fit the energy of a class to strained states and read its constants.

    Parameters
    ----------
    data : StrainData
        With a point group.
    order : int
        Highest order of constants, 2 to 4.

    Returns
    -------
    ElasticTable

    Raises
    ------
    ValueError
        For data without a point group, another order, or fewer states than the constants need.

    Notes
    -----
    The energy is a polynomial of the class's invariants; its degree, from `order` to 6, is the one with the smallest
    stress error on states left out (in `FOLDS` groups of whole symmetry orbits). Standard errors are those of the
    delete-a-group jackknife (Efron and Stein 1981, doi:10.1214/aos/1176345462) together with the changes from the next
    lower or higher degree, and from the next way to weigh small strains, because what is left out of a series is no noise.
    The weights are those with the smallest standard errors: of exact data small strains tell most, of noisy ones large.
    """
    if data.group is None:
        raise ValueError("elastic_table: expected data with a point group, got none. Name the reference structure.")
    if order not in (2, 3, 4):
        raise ValueError(f"elastic_table: expected an order of 2, 3 or 4, got {order!r}. Fifth order has no names.")
    group = data.group
    symbol, groups = group.laue.symbol, _folds(data)
    # the unknowns of a degree, and seven equations a state of which a third are kept in hand
    unknowns = np.cumsum([invariant_count(symbol, d) for d in range(1, LARGEST_DEGREE + 1)])
    degrees = [d for d in range(max(order, 2), LARGEST_DEGREE + 1) if 1.5 * unknowns[d - 1] < 6 * len(data)]
    if not degrees or len(groups) < 3:
        raise ValueError(
            f"elastic_table: expected at least {int(np.ceil(unknowns[order - 1] / 4))} states for order {order} of "
            f"{data.group.symbol}, got {len(data)} in {len(groups)} orbits. Compute more states."
        )
    residual, data = _stress_free(data, degrees[-1])
    errors = {degree: _held_out(data, degree, groups) for degree in degrees}
    best = min(degrees, key=lambda degree: errors[degree])
    values, deviations = _weighed(data, best, [d for d in (best - 1, best + 1) if d in degrees], groups, order)
    constants: dict[int, dict[str, tuple[float, float]]] = {}
    start = 0
    for n in range(2, order + 1):
        names = independent_constants(group, n)
        part = slice(start, start + len(names))
        pairs = zip(values[part].tolist(), deviations[part].tolist(), strict=True)
        constants[n] = dict(zip(names, pairs, strict=True))
        start += len(names)
    stiffness = stiffness_from_constants(group, {name: value for name, (value, _) in constants[2].items()})
    given = data.provenance.get("stiffness")
    differences = None if given is None else elastic_constants(np.array(given), group)
    return ElasticTable(
        group, constants, differences, stiffness, bool(is_stable(stiffness)), _averages(stiffness), best, residual,
        errors[best], len(data), data.units,
    )  # fmt: skip


def _weighed(
    data: StrainData, degree: int, neighbours: Sequence[int], groups: Sequence[np.ndarray], order: int
) -> tuple[np.ndarray, np.ndarray]:
    """Constants of order 2 to `order`, one after the other, and their standard errors."""
    assert data.group is not None
    symbol, sizes = data.group.laue.symbol, np.linalg.norm(data.strain, axis=1)

    def constants(degree: int, power: float, rows: np.ndarray | None = None) -> np.ndarray:
        kept = np.setdiff1d(np.arange(len(data)), [] if rows is None else rows)
        weights = np.maximum(sizes[kept], SMALLEST * sizes.max()) ** -power
        fitted = PolynomialFit(data.take(kept), degree, weights=weights / np.sqrt(np.mean(weights**2)))
        return np.concatenate([_constants(fitted, symbol, n) for n in range(2, order + 1)])

    values = [constants(degree, power) for power in POWERS]
    variances = []
    for place, power in enumerate(POWERS):
        folds = np.array([constants(degree, power, rows) for rows in groups])
        spread = (len(groups) - 1) / len(groups) * np.sum((folds - folds.mean(axis=0)) ** 2, axis=0)
        truncation = [(constants(other, power) - values[place]) ** 2 for other in neighbours]
        weighed = (values[place + 1 if place + 1 < len(POWERS) else place - 1] - values[place]) ** 2
        variances.append(spread + weighed + (np.min(truncation, axis=0) if truncation else 0.0))
    best = min(range(len(POWERS)), key=lambda place: np.mean(np.log(variances[place] + 1e-300)))
    return values[best], np.sqrt(variances[best])


def _averages(stiffness: np.ndarray) -> dict[str, float]:
    if not is_stable(stiffness):
        return dict.fromkeys(
            (
                "bulk_voigt",
                "shear_voigt",
                "bulk_reuss",
                "shear_reuss",
                "bulk_hill",
                "shear_hill",
                "universal_anisotropy",
            ),
            float("nan"),
        )
    found = {}
    for name, average in (("voigt", voigt_average), ("reuss", reuss_average), ("hill", hill_average)):
        bulk, shear = average(stiffness)
        found[f"bulk_{name}"], found[f"shear_{name}"] = float(bulk), float(shear)
    found["universal_anisotropy"] = float(universal_anisotropy(stiffness))
    return found


def _folds(data: StrainData) -> list[np.ndarray]:
    """Rows of each group of whole blocks."""
    labels = np.unique(data.blocks(), return_inverse=True)[1]
    count = int(labels.max()) + 1
    fold = np.random.default_rng(0).permutation(count) % min(FOLDS, count)
    return [np.flatnonzero(fold[labels] == one) for one in range(min(FOLDS, count))]


def _held_out(data: StrainData, degree: int, groups: Sequence[np.ndarray]) -> float:
    missed = 0.0
    for rows in groups:
        fitted = PolynomialFit(data.take(np.setdiff1d(np.arange(len(data)), rows)), degree)
        missed += float(np.sum((fitted.stress(data.strain[rows]) - data.stress[rows]) ** 2))
    return float(np.sqrt(missed / np.sum(data.stress**2)))


def _stress_free(data: StrainData, degree: int) -> tuple[float, StrainData]:
    """Pressure at the file's cell, and the data counted from the stress-free one."""
    pressure = None
    for _ in range(4):
        fitted = PolynomialFit(data, degree)
        stress = fitted.stress(np.zeros((1, 6)))[0]
        if pressure is None:
            pressure = -float(stress[:3].sum()) / 3.0
        strain = -np.linalg.solve(fitted.stiffness(), stress)
        if np.linalg.norm(strain) < 1e-9:
            break
        # from the file's cell to the stress-free one, and back
        stretch = mandel.right_stretch(strain)
        data = data.referred_to(np.linalg.inv(stretch))
    assert pressure is not None
    return pressure, data


@cache
def _to_names(symbol: str, order: int) -> np.ndarray:
    """Matrix (constants, polynomials): Voigt constants of each invariant polynomial of a degree."""
    basis, group = invariant_polynomials(symbol, order), PointGroup(symbol)
    columns = []
    factors = np.array([np.prod([factorial(int(e)) for e in row]) for row in basis.exponents], dtype=float)
    places = {tuple(row): place for place, row in enumerate(basis.exponents.tolist())}
    index = np.indices((6,) * order).reshape(order, -1).T
    counts = np.stack([np.sum(index == variable, axis=1) for variable in range(6)], axis=1)
    which = np.array([places.get(tuple(row), -1) for row in counts.tolist()])
    for coefficients in basis.coefficients:
        # ∂ⁿ of c Π x^a is c Π a! wherever the indices are those of the monomial
        derivative = np.append(coefficients * factors, 0.0)[which].reshape((6,) * order)
        columns.append(list(elastic_constants(derivative, group, order=order).values()))
    return np.array(columns).T


def _constants(fitted: PolynomialFit, symbol: str, order: int) -> np.ndarray:
    counts = [m.count for m in fitted._maps]
    start = sum(counts[: order - 1])
    part = fitted.coefficients[start : start + counts[order - 1]]
    return _to_names(symbol, order) @ part * fitted.scale ** (1 - order)
