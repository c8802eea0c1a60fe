"""Stiffnesses and structures in the types of other packages: pymatgen's `ElasticTensor` and `Structure`, ASE's `Atoms`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .mandel import stiffness_from_tensor, stiffness_to_tensor
from .states import convert

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.analysis.elasticity import ElasticTensor
    from pymatgen.core import Structure


def as_stiffness(where: str, stiffness: Any) -> np.ndarray:
    """Mandel stiffness (6, 6) of one, or of a full tensor (3, 3, 3, 3) such as pymatgen's `ElasticTensor` (GPa).

    The full tensor keeps its Cartesian axes. A Voigt matrix (6, 6) cannot be told from a Mandel one: it goes through
    `crystals.mandel.stiffness_from_voigt`.

    Raises
    ------
    ValueError
        For another shape, or a tensor without the symmetries of a stiffness (to 10⁻⁶ of its norm).
    """
    array = np.asarray(stiffness, dtype=float)
    if array.shape == (6, 6):
        return array
    if array.shape != (3, 3, 3, 3):
        raise ValueError(
            f"{where}: expected stiffness of shape (6, 6), Mandel, or (3, 3, 3, 3), got {array.shape}. Voigt matrices go "
            "through crystals.mandel.stiffness_from_voigt."
        )
    matrix = stiffness_from_tensor(array)
    wrong = float(np.linalg.norm(stiffness_to_tensor(0.5 * (matrix + matrix.T)) - array))
    if not wrong <= 1e-6 * float(np.linalg.norm(array)):
        raise ValueError(
            f"{where}: expected a tensor with the symmetries ijkl = jikl = ijlk = klij, got one that misses them by "
            f"{wrong / float(np.linalg.norm(array)):.1e}. Symmetrise it: ElasticTensor.voigt_symmetrized."
        )
    return 0.5 * (matrix + matrix.T)


def elastic_tensor(stiffness: Any, units: str = "GPa") -> ElasticTensor:
    """pymatgen's `ElasticTensor` (3, 3, 3, 3), in GPa, of a Mandel stiffness (6, 6) in `units`; the axes are kept."""
    from pymatgen.analysis.elasticity import ElasticTensor  # slow to import

    matrix = convert(as_stiffness("elastic_tensor", stiffness), units, "GPa")
    return ElasticTensor(stiffness_to_tensor(matrix))


def as_structure(structure: Any) -> Structure:
    """pymatgen `Structure` of a `Structure`, an ASE `Atoms`, a file, or of its dictionary (`StrainData.structure`)."""
    from pymatgen.core import Structure  # slow to import

    from .structures import as_atoms, structure_to_dict

    if isinstance(structure, dict):
        return Structure.from_dict(structure)
    return (
        structure if isinstance(structure, Structure) else Structure.from_dict(structure_to_dict(as_atoms(structure)))
    )


def structure_atoms(structure: Any) -> Atoms:
    """ASE `Atoms` of the same."""
    from .structures import as_atoms

    return as_atoms(as_structure(structure) if isinstance(structure, dict) else structure)
