"""Symmetry and atoms: point groups and their invariants, Mandel notation, strained cells, data sets.

This package belongs to `constitutive`. PyPI has an unrelated package named `crystals`, which must not share the
environment.
"""

from . import mandel, rotations
from .block_average import block_average
from .dataset import StrainData, read_tables
from .elastic_constants import elastic_constants, stiffness_from_constants
from .exchange import as_stiffness, as_structure, elastic_tensor, structure_atoms
from .groups import CURIE_GROUPS, LAUE_CLASSES, POINT_GROUPS, STRAIN_CLASSES, PointGroup
from .invariants import invariant_polynomials, invariant_tensors, strain_invariants
from .piezoelectricity import d_from_e, e_from_d, piezoelectric_constants, piezoelectric_from_constants
from .symmetry_floor import Floor, symmetry_floor
from .tensor_spaces import invariant_part, tensor_count, tensor_space

#: What `constitutive` looks for: PyPI's package of this name lacks it.
BELONGS_TO = "constitutive"

__all__ = [
    "CURIE_GROUPS",
    "LAUE_CLASSES",
    "POINT_GROUPS",
    "STRAIN_CLASSES",
    "Floor",
    "PointGroup",
    "StrainData",
    "as_stiffness",
    "as_structure",
    "block_average",
    "d_from_e",
    "e_from_d",
    "elastic_constants",
    "elastic_tensor",
    "invariant_part",
    "invariant_polynomials",
    "invariant_tensors",
    "mandel",
    "piezoelectric_constants",
    "piezoelectric_from_constants",
    "read_tables",
    "rotations",
    "stiffness_from_constants",
    "strain_invariants",
    "structure_atoms",
    "symmetry_floor",
    "tensor_count",
    "tensor_space",
]
