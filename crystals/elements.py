"""Properties of the elements as numbers, for networks that read compositions. From pymatgen's table."""

from __future__ import annotations

import warnings
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


@cache
def element_properties() -> np.ndarray:
    """Scaled properties (119, f) of the elements, row = atomic number; row 0 and what is unknown are zero.

    Twelve physical properties (mean 0 and variance 1 over the elements), which of them are known, the numbers of s, p,
    d and f valence electrons, the period, and the group as one of eighteen.
    """
    from pymatgen.core import Element  # slow to import

    rows = np.full((LARGEST_NUMBER + 1, len(_PROPERTIES)), np.nan)
    shells, places = np.zeros((LARGEST_NUMBER + 1, 5)), np.zeros((LARGEST_NUMBER + 1, 18))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen says what it does not know; here that is a zero and a mark
        for number in range(1, _LARGEST_KNOWN + 1):
            element = Element.from_Z(number)
            for place, name in enumerate(_PROPERTIES):
                try:
                    value = float(getattr(element, name))
                except (TypeError, ValueError, AttributeError, KeyError):
                    continue
                if np.isfinite(value) and (name not in _LOGARITHMIC or value > 0.0):
                    rows[number, place] = np.log(value) if name in _LOGARITHMIC else value
            filled = max((shell[0] for shell in element.full_electronic_structure), default=1)
            for level, kind, electrons in element.full_electronic_structure:
                depth = {"s": 0, "p": 0, "d": 1, "f": 2}[kind]
                if level == filled - depth:
                    shells[number, "spdf".index(kind)] += electrons / {"s": 2, "p": 6, "d": 10, "f": 14}[kind]
            shells[number, 4] = filled / 7.0
            places[number, element.group - 1] = 1.0
    known = np.isfinite(rows)
    # zeros stand for unknown ions
    mean, spread = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
    scaled = np.where(known, (rows - mean) / spread, 0.0)
    return np.concatenate([scaled, known.astype(float), shells, places], axis=1)
