"""Properties of the elements as numbers, for networks that read compositions. From pymatgen's table."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np

#: Highest atomic number that has a row.
LARGEST_NUMBER = 118
# pymatgen knows no electrons beyond lawrencium
_LARGEST_KNOWN = 103
#: Properties of the elemental solid or atom that pymatgen knows, in its units.
_PROPERTIES = (
    "X", "atomic_radius", "mendeleev_no", "melting_point", "molar_volume", "bulk_modulus", "youngs_modulus",
    "electron_affinity", "ionization_energy", "average_ionic_radius", "atomic_mass", "density_of_solid",
)  # fmt: skip
# these span orders of magnitude
_LOGARITHMIC = ("melting_point", "molar_volume", "bulk_modulus", "youngs_modulus", "atomic_mass", "density_of_solid")


def _known(names: Sequence[str], logarithmic: Sequence[str], positive: Sequence[str] = ()) -> np.ndarray:
    """What pymatgen knows, (119, len(names)), NaN elsewhere; logarithms of some, and only positive values of some."""
    from pymatgen.core import Element  # slow to import

    rows = np.full((LARGEST_NUMBER + 1, len(names)), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen says what it does not know; here that is a zero and a mark
        for number in range(1, _LARGEST_KNOWN + 1):
            element = Element.from_Z(number)
            for place, name in enumerate(names):
                try:
                    value = float(getattr(element, name))
                except (TypeError, ValueError, AttributeError, KeyError):
                    continue
                if np.isfinite(value) and (value > 0.0 or name not in (*logarithmic, *positive)):
                    rows[number, place] = np.log(value) if name in logarithmic else value
    return rows


def _valence(number: int) -> tuple[dict[str, int], int]:
    """Electrons of the outermost s, p, d and f levels of an element, and its period."""
    from pymatgen.core import Element  # slow to import

    levels = Element.from_Z(number).full_electronic_structure
    filled, held = max(level for level, _, _ in levels), dict.fromkeys("spdf", 0)
    for level, kind, electrons in levels:
        if level == filled - {"s": 0, "p": 0, "d": 1, "f": 2}[kind]:
            held[kind] += electrons
    return held, filled


@cache
def element_properties() -> np.ndarray:
    """Scaled properties (119, f) of the elements, row = atomic number; row 0 and what is unknown are zero.

    Twelve physical properties (mean 0 and variance 1 over the elements), which of them are known, the numbers of s, p,
    d and f valence electrons, the period, and the group as one of eighteen.
    """
    from pymatgen.core import Element  # slow to import

    rows = _known(_PROPERTIES, _LOGARITHMIC)
    shells, places = np.zeros((LARGEST_NUMBER + 1, 5)), np.zeros((LARGEST_NUMBER + 1, 18))
    for number in range(1, _LARGEST_KNOWN + 1):
        held, filled = _valence(number)
        shells[number] = [held[kind] / full for kind, full in zip("spdf", (2, 6, 10, 14), strict=True)] + [filled / 7.0]
        places[number, Element.from_Z(number).group - 1] = 1.0
    known = np.isfinite(rows)
    # zeros stand for unknown ions
    mean, spread = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
    scaled = np.where(known, (rows - mean) / spread, 0.0)
    return np.concatenate([scaled, known.astype(float), shells, places], axis=1)


#: Properties that pymatgen has of most elements; what is missing is estimated from the others.
_IMPUTED = (
    "X", "atomic_radius", "mendeleev_no", "melting_point", "boiling_point", "molar_volume", "bulk_modulus",
    "rigidity_modulus", "youngs_modulus", "electron_affinity", "ionization_energy", "average_ionic_radius",
    "metallic_radius", "thermal_conductivity", "coefficient_of_linear_thermal_expansion", "vickers_hardness",
    "density_of_solid", "row", "group",
)  # fmt: skip
_IMPUTED_LOGARITHMIC = (
    "melting_point", "boiling_point", "molar_volume", "bulk_modulus", "rigidity_modulus", "youngs_modulus",
    "thermal_conductivity", "vickers_hardness", "density_of_solid",
)  # fmt: skip
#: Columns of `imputed_properties`: those, then numbers of valence electrons.
ELEMENT_COLUMNS = (
    *_IMPUTED,
    "s",
    "p",
    "d",
    "f",
    "valence",
    "d_bonds",
    "p_bonds",
    "d_holes",
    "open_f",
    "covalent_radius",
)


@cache
def imputed_properties(scaled: bool = True) -> np.ndarray:
    """Properties (119, f) of the elements, row = atomic number, columns `ELEMENT_COLUMNS`; none is missing.

    Parameters
    ----------
    scaled : bool
        Mean 0 and variance 1 over the elements, instead of pymatgen's units (logarithms of what spans orders of
        magnitude).

    Notes
    -----
    What pymatgen does not know is estimated by ridge regression on valence electrons, electronegativity, place in
    Mendeleev's order, row and group, and kept within three deviations.
    """
    from ase.data import covalent_radii

    size = LARGEST_NUMBER + 1
    table = _known(_IMPUTED, _IMPUTED_LOGARITHMIC, ("average_ionic_radius",))
    shells = np.zeros((size, 10))
    for number in range(1, _LARGEST_KNOWN + 1):
        s, p, d, f = _valence(number)[0].values()
        # a d shell below p electrons is core
        shells[number] = (
            s, p, d, f, s + p + (0 if p else d), min(d, 10 - d), min(p, 6 - p), 10 - d if 0 < d < 10 else 0,
            f if f < 14 else 0, covalent_radii[number],
        )  # fmt: skip
    known = slice(1, _LARGEST_KNOWN + 1)
    mean, spread = np.nanmean(table, axis=0), np.nanstd(table, axis=0)
    rows = (table - mean) / spread
    few = [_IMPUTED.index(name) for name in ("X", "mendeleev_no", "row", "group")]
    causes = np.c_[np.ones(size), shells, np.nan_to_num(rows[:, few])]
    for column in rows.T:
        there = np.flatnonzero(np.isfinite(column[known])) + 1
        matrix = causes[there].T @ causes[there] + np.eye(causes.shape[1])
        estimate = causes @ np.linalg.solve(matrix, causes[there].T @ column[there])
        missing = ~np.isfinite(column)
        column[missing] = np.clip(estimate[missing], -3.0, 3.0)
    if not scaled:
        return np.concatenate([rows * spread + mean, shells], axis=1)
    return np.concatenate([rows, (shells - shells[known].mean(axis=0)) / shells[known].std(axis=0)], axis=1)
