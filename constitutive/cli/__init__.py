"""The command `constitutive`: atoms → data, data → law, law → audit, curves and C, image or structure → moduli."""

from . import atoms, constants, drive, export, fitting, laws, moduli
from .command import main

__all__ = ["atoms", "constants", "drive", "export", "fitting", "laws", "main", "moduli"]
