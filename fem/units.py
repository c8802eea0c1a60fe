"""What the numbers of a problem mean: the units of force, energy and load that mesh and law imply."""

from __future__ import annotations

import math

_PRESSURES = {"Pa": 0, "kPa": 3, "MPa": 6, "GPa": 9, "TPa": 12}
_LENGTHS = {"m": 0, "cm": -2, "mm": -3, "µm": -6, "um": -6, "nm": -9, "Å": -10}
_PREFIXES = {-18: "a", -15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}


def described_units(law_units: str, length: str) -> str:
    """A sentence with the units of force, energy and load, for a law's unit of stress and the mesh's unit of length.

    Raises
    ------
    ValueError
        For a length that is none of m, cm, mm, µm (or um), nm, Å; or a law whose unit is no multiple of Pa by thousands.
    """
    where = "EquilibriumProblem.units"
    if length not in _LENGTHS:
        raise ValueError(f"{where}: expected a unit of length among {', '.join(_LENGTHS)}, got {length!r}.")
    if law_units not in _PRESSURES:
        raise ValueError(
            f"{where}: expected a law in {', '.join(_PRESSURES)}, got {law_units!r}. Forces are in its unit times {length}²."
        )
    stress, size = _PRESSURES[law_units], _LENGTHS[length]
    newton = _named(stress + 2 * size, "N")
    small, factor = ("MPa", 10 ** (6 - stress)) if stress != 6 else ("GPa", 1000)
    return (
        f"Mesh in {length}, law in {law_units}: forces in {newton} ({law_units}·{length}²), energies in "
        f"{_named(stress + 3 * size, 'J')}, tractions and pressures in {law_units} (1 {small} is {factor:g}), body forces in "
        f"{newton}/{length}³."
    )


def _named(power: int, unit: str) -> str:
    """10^power of a unit with an SI prefix, and a number where there is none."""
    prefix = 3 * math.floor(power / 3)
    prefix = min(max(prefix, min(_PREFIXES)), max(_PREFIXES))
    number = 10 ** (power - prefix)
    return f"{'' if number == 1 else f'{number:g} '}{_PREFIXES[prefix]}{unit}"
