"""The command `constitutive`: atoms → data, data → law, law → audit and curves."""

from . import atoms, constants, drive, fitting, laws
from .command import main

__all__ = ["atoms", "constants", "drive", "fitting", "laws", "main"]
