"""CIF files as programs write them, read in a fraction of a millisecond; what is unusual in a file is left to ASE."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.data import atomic_numbers

_TOKEN = re.compile(r"'[^']*'(?=\s|$)|\"[^\"]*\"(?=\s|$)|[^\s'\"]\S*")
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\(\d+\))?$")
_TERM = re.compile(r"([+-]?)(?:([xyz])|(\d+)/(\d+)|(\d*\.\d+|\d+))")
_LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
_ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")
_PLACES = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
_OPERATIONS = ("_space_group_symop_operation_xyz", "_space_group_symop.operation_xyz", "_symmetry_equiv_pos_as_xyz")
#: Fractional coordinates that differ by less are one site, as in ASE.
_SAME = 1e-3


class _Unusual(Exception):
    """Something that this reader does not know."""


def read_plain_cif(path: Path) -> Atoms | None:
    """The crystal in a CIF file of one block with cell, symmetry operations and sites in fractional coordinates.

    Atoms, their order and positions are those that `ase.io.read` gives. None where the file has anything that needs more
    care: several blocks, text fields, no list of operations, sites that are shared, partly filled or given twice, or of
    deuterium; values that are missing.

    Raises
    ------
    OSError
        Where the file cannot be read.
    """
    try:
        return _crystal(_tags(path.read_text(encoding="latin-1")))
    except _Unusual:
        return None


def _tags(text: str) -> dict[str, list[str]]:
    """Values of every tag of the only block; one value each outside loops."""
    tags: dict[str, list[str]] = {}
    columns: list[str] = []
    heading, blocks = False, 0
    for line in text.splitlines():
        if line.startswith(";"):
            raise _Unusual
        line = line.strip()
        if not line or line.startswith("#"):
            # a blank line ends a loop for ASE; whether it should is left to it
            if not line and columns and not heading:
                columns = []
            continue
        tokens = _TOKEN.findall(line.split(" #")[0])
        first = tokens[0].lower() if tokens else ""
        if first.startswith("data_"):
            blocks += 1
        elif first == "loop_" and len(tokens) == 1:
            columns, heading = [], True
        elif first.startswith("_") and heading and len(tokens) == 1:
            columns.append(first)
        elif first.startswith("_") and len(tokens) == 2 and first not in tags:
            columns, heading = [], False
            tags[first] = [tokens[1].strip("'\"")]
        elif columns and not first.startswith(("_", "loop_", "save_", "global_")):
            if heading and (len(set(columns)) < len(columns) or not tags.keys().isdisjoint(columns)):
                raise _Unusual
            heading = False
            if len(tokens) != len(columns):
                raise _Unusual
            for name, token in zip(columns, tokens, strict=True):
                tags.setdefault(name, []).append(token.strip("'\""))
        else:
            raise _Unusual
    if blocks != 1:
        raise _Unusual
    return tags


def _numbers(tags: dict[str, list[str]], names: tuple[str, ...]) -> np.ndarray:
    found = []
    for name in names:
        matches = [_NUMBER.match(value) for value in tags.get(name, ())]
        if not matches or None in matches:
            raise _Unusual
        found.append([float(match[1]) for match in matches if match])
    return np.array(found)


@lru_cache(maxsize=4096)
def _operation(text: str) -> tuple[tuple[float, ...], ...]:
    """Rows (rotation, translation) of an operation such as 'x+1/2, -y, z'."""
    rows = []
    for part in text.lower().replace(" ", "").split(","):
        row, end = [0.0] * 4, 0
        for term in _TERM.finditer(part):
            sign, letter, over, under, number = term.groups()
            if term.start() != end or (end and not sign):
                raise _Unusual
            end = term.end()
            value = 1.0 if letter else float(number) if number else float(over) / float(under)
            row["xyz".index(letter) if letter else 3] += -value if sign == "-" else value
        if end != len(part) or not part:
            raise _Unusual
        rows.append(tuple(row))
    if len(rows) != 3:
        raise _Unusual
    return tuple(rows)


def _crystal(tags: dict[str, list[str]]) -> Atoms:
    parameters = _numbers(tags, _LENGTHS + _ANGLES)
    sites = _numbers(tags, _PLACES)
    names = [name for name in _OPERATIONS if name in tags]
    kinds = tags.get("_atom_site_type_symbol", tags.get("_atom_site_label", []))
    if parameters.shape != (6, 1) or len(names) != 1 or len(kinds) != sites.shape[1]:
        raise _Unusual
    if "_atom_site_occupancy" in tags and np.any(_numbers(tags, ("_atom_site_occupancy",)) != 1.0):
        raise _Unusual
    found = [re.search(r"[A-Z][a-z]?", kind) for kind in kinds]
    numbers = [atomic_numbers.get(match[0], 0) if match else 0 for match in found]
    if min(numbers) < 1:
        raise _Unusual
    operations = np.array([_operation(text) for text in tags[names[0]]])
    turns, shifts = operations[:, :, :3], operations[:, :, 3] % 1.0
    orbits = [_orbit((turns @ site + shifts) % 1.0) for site in sites.T]
    owner = np.repeat(np.arange(len(orbits)), [len(orbit) for orbit in orbits])
    positions = np.concatenate(orbits)
    if np.count_nonzero(_near(sites.T, positions)) != len(orbits):
        raise _Unusual  # two sites of one orbit, or two elements on one site
    return Atoms(
        numbers=np.array(numbers)[owner], scaled_positions=positions, cell=Cell.new(parameters[:, 0]), pbc=True
    )


def _orbit(copies: np.ndarray) -> np.ndarray:
    """Of copies (n, 3) that coincide, the first."""
    whole = np.rint(1e6 * copies).astype(np.int64) % 1000000 @ np.array([1, 10**6, 10**12])
    copies = copies[np.sort(np.unique(whole, return_index=True)[1])]
    return copies[np.argmax(_near(copies, copies), axis=1) == np.arange(len(copies))]


def _near(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether fractional coordinates (m, 3) and (n, 3) are the same site, (m, n)."""
    apart = first[:, None] - second
    return np.all(np.abs(apart - np.rint(apart)) < _SAME, axis=2)
