"""Data sets: the record of strain, energy and stress, and its readers.

`StrainData.read` takes HDF5 (schema 1) and extended XYZ; `read_tables` plain tables of F, P and W.
"""

from .extended_xyz import RELAXED_FORCE, parse_reference_cell, read_extended_xyz
from .states import EV_PER_A3, KINDS, SCHEMA, STRESS_UNITS, StrainData, convert
from .structures import structure_to_dict
from .tables import read_tables

__all__ = [
    "EV_PER_A3", "KINDS", "RELAXED_FORCE", "SCHEMA", "STRESS_UNITS", "StrainData", "convert", "parse_reference_cell",
    "read_extended_xyz", "read_tables", "structure_to_dict",
]  # fmt: skip
