"""Neural material laws for finite elements that obey physics exactly.

    law = constitutive.load("copper.law")
    S, C = law.stress_and_tangent(E)          # Mandel, (n, 6) and (n, 6, 6)

Strain goes in as Green–Lagrange Mandel vectors (11 22 33 23 13 12, shear times √2) in the crystal frame; second
Piola–Kirchhoff stress and its consistent tangent come out. `import constitutive` needs neither DOLFINx nor MPI.
"""

from .audit import Audit, audit
from .class_ranking import ClassRanking, ClassRow, rank_classes
from .electromechanical import VACUUM_PERMITTIVITY, PiezoelectricLaw, first_piola_electromechanical
from .evaluator import first_piola
from .fit import CrossValidation, cross_validate, fit
from .law import INVALID, OK, OUT_OF_RANGE, Law, Response
from .neo_hooke import NeoHookeanLaw
from .polynomial import PolynomialLaw
from .storage import load, save
from .symmetric import SymmetricLaw

__version__ = "0.1.0"
__all__ = [
    "INVALID",
    "OK",
    "OUT_OF_RANGE",
    "VACUUM_PERMITTIVITY",
    "Audit",
    "ClassRanking",
    "ClassRow",
    "CrossValidation",
    "Law",
    "NeoHookeanLaw",
    "PiezoelectricLaw",
    "PolynomialLaw",
    "Response",
    "SymmetricLaw",
    "audit",
    "cross_validate",
    "first_piola",
    "first_piola_electromechanical",
    "fit",
    "load",
    "rank_classes",
    "save",
]
