"""Neural material laws for finite elements that obey physics exactly.

    law = constitutive.load("copper.law")
    S, C = law.stress_and_tangent(E)          # Mandel, (n, 6) and (n, 6, 6)

Strain goes in as Green–Lagrange Mandel vectors (11 22 33 23 13 12, shear times √2) in the crystal frame; second
Piola–Kirchhoff stress and its consistent tangent come out. `import constitutive` needs neither DOLFINx nor MPI.
"""

from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path

try:
    import crystals as _crystals

    _found = f"that of {_crystals.__file__}"
    _own = vars(_crystals).get("BELONGS_TO") == "constitutive"
except ImportError as _error:
    _spec = _find_spec("crystals")
    if _spec and _spec.origin and "BELONGS_TO" in _Path(_spec.origin).read_text(encoding="utf-8"):
        raise  # it is ours, and lacks a package
    _found, _own = f"an import that fails ({_error})", False
if not _own:
    raise ImportError(
        f"constitutive: expected its own package `crystals`, got {_found}. PyPI has an unrelated package of that name: "
        "`pip uninstall crystals`, then install constitutive again."
    )

from .audit import Audit, audit
from .bounds import hashin_shtrikman
from .crystal_ensemble import CrystalEnsemble
from .crystal_moduli import CrystalModuli, crystal_moduli, moduli_of_crystals
from .driver import PointResponse, constrained_response, load_path
from .evaluator import Evaluator, first_piola
from .fitting.class_ranking import ClassRanking, ClassRow, rank_classes
from .fitting.elastic_table import ElasticTable, elastic_table
from .fitting.fit import CrossValidation, cross_validate, fit
from .fitting.least_squares import predicted_stress
from .fitting.parametric_fit import fit_parametric
from .fitting.path_fit import fit_paths, path_error, path_stress
from .guarantees import FAMILIES, Guarantees, guarantee_table, guarantees
from .homogenization import Cell, homogenize
from .laws.electromechanical import VACUUM_PERMITTIVITY, PiezoelectricLaw, first_piola_electromechanical
from .laws.internal_variables import InternalVariableLaw
from .laws.law import INVALID, OK, OUT_OF_RANGE, Law, Response
from .laws.logarithmic import LogarithmicStrainLaw
from .laws.neo_hooke import NeoHookeanLaw
from .laws.parametric import ParametricLaw
from .laws.polyconvex import PolyconvexLaw
from .laws.polynomial import PolynomialLaw
from .laws.symmetric import SymmetricLaw
from .laws.von_mises import VonMisesLaw
from .moduli import ModuliResult, moduli
from .nonlinear_cell import CellPath, homogenize_path
from .stability import ellipticity_limit, stability_map
from .storage import load, save
from .surface_elasticity import SurfaceFit, fit_surface, surface_term
from .uniaxial import UniaxialStep, uniaxial

__version__ = "0.1.0"
__all__ = [
    "FAMILIES",
    "INVALID",
    "OK",
    "OUT_OF_RANGE",
    "VACUUM_PERMITTIVITY",
    "Audit",
    "Cell",
    "CellPath",
    "ClassRanking",
    "ClassRow",
    "CrossValidation",
    "Evaluator",
    "CrystalEnsemble",
    "CrystalModuli",
    "ElasticTable",
    "InternalVariableLaw",
    "Guarantees",
    "Law",
    "LogarithmicStrainLaw",
    "ModuliResult",
    "NeoHookeanLaw",
    "ParametricLaw",
    "PiezoelectricLaw",
    "PolyconvexLaw",
    "PolynomialLaw",
    "PointResponse",
    "Response",
    "SurfaceFit",
    "SymmetricLaw",
    "UniaxialStep",
    "VonMisesLaw",
    "audit",
    "constrained_response",
    "cross_validate",
    "crystal_moduli",
    "elastic_table",
    "ellipticity_limit",
    "first_piola",
    "first_piola_electromechanical",
    "fit",
    "fit_parametric",
    "fit_paths",
    "fit_surface",
    "guarantee_table",
    "guarantees",
    "hashin_shtrikman",
    "homogenize",
    "homogenize_path",
    "load",
    "load_path",
    "moduli",
    "moduli_of_crystals",
    "path_error",
    "path_stress",
    "predicted_stress",
    "rank_classes",
    "save",
    "stability_map",
    "surface_term",
    "uniaxial",
]
