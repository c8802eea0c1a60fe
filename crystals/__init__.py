"""Symmetry and atoms: point groups and their invariants, Mandel notation, strained cells, data sets.

This package belongs to `constitutive`. PyPI has an unrelated package named `crystals`, which must not share the
environment.
"""

from . import mandel, rotations
from .dataset import StrainData, read_tables
from .elastic_constants import elastic_constants
from .groups import CURIE_GROUPS, LAUE_CLASSES, POINT_GROUPS, STRAIN_CLASSES, PointGroup
from .invariants import invariant_polynomials, invariant_tensors, strain_invariants

__all__ = [
    "CURIE_GROUPS",
    "LAUE_CLASSES",
    "POINT_GROUPS",
    "STRAIN_CLASSES",
    "PointGroup",
    "StrainData",
    "elastic_constants",
    "invariant_polynomials",
    "invariant_tensors",
    "mandel",
    "read_tables",
    "rotations",
    "strain_invariants",
]
