"""The command `constitutive`: atoms → data, data → law, law → audit and curves."""

from . import atoms, drive, export, fitting, laws
from .command import main

__all__ = ["atoms", "drive", "export", "fitting", "laws", "main"]
