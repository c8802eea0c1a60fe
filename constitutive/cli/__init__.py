"""The command `constitutive`: atoms → data, data → law, law → audit and curves, image → moduli."""

from . import atoms, drive, fitting, laws, moduli
from .command import main

__all__ = ["atoms", "drive", "fitting", "laws", "main", "moduli"]
