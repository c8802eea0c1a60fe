"""What a phase of an image is made of, as a user writes it → stiffness.

    "pore"                               no stiffness
    "rigid"                              10⁴ times the stiffest other phase, isotropic
    "E=70 nu=0.2", "K=37 G=44"           isotropic, from any two of E, K, G, nu
    "m-3m C11=168.4 C12=121.4 C44=75.4"  any class with its independent constants; the class may be left out for m-3m
    "copper.law"                         C(0) of a saved law
    "… bunge=30,40,50"                   and turned: Bunge angles in degrees

In Python also a Law, a Mandel matrix (6, 6), or a dict of the same names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from crystals.elastic_constants import stiffness_from_constants
from crystals.exchange import as_stiffness
from crystals.groups import POINT_GROUPS, PointGroup
from crystals.mandel import IDENTITY
from crystals.rotations import rotate_matrix, rotation_from_bunge

from .laws.law import Law
from .storage import load

#: Stiffness of a rigid phase, relative to the stiffest other one.
RIGID = 1e4
_FORMS = "'pore', 'rigid', 'E=70 nu=0.2', 'K=37 G=44', 'm-3m C11=168.4 C12=121.4 C44=75.4' or a law file"


def isotropic_stiffness(bulk: float, shear: float) -> np.ndarray:
    """C = (K − 2G/3) 1⊗1 + 2 G I, Mandel (6, 6)."""
    return (bulk - 2.0 * shear / 3.0) * np.outer(IDENTITY, IDENTITY) + 2.0 * shear * np.eye(6)


def _isotropic(where: str, values: dict[str, float]) -> np.ndarray:
    """From any two of E, nu, K, G (Landau and Lifshitz, Theory of Elasticity, § 5)."""
    given = frozenset(values)
    e, nu, k, g = (values.get(name, 0.0) for name in ("E", "nu", "K", "G"))
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = {
            frozenset(("E", "nu")): lambda: (e / (3.0 * (1.0 - 2.0 * nu)), e / (2.0 * (1.0 + nu))),
            frozenset(("K", "G")): lambda: (k, g),
            frozenset(("E", "G")): lambda: (e * g / (3.0 * (3.0 * g - e)), g),
            frozenset(("E", "K")): lambda: (k, 3.0 * k * e / (9.0 * k - e)),
            frozenset(("K", "nu")): lambda: (k, 1.5 * k * (1.0 - 2.0 * nu) / (1.0 + nu)),
            frozenset(("G", "nu")): lambda: (2.0 * g * (1.0 + nu) / (3.0 * (1.0 - 2.0 * nu)), g),
        }
        try:
            bulk, shear = pairs[given]()
        except ZeroDivisionError:
            bulk = shear = float("nan")
    if not (np.isfinite(bulk) and np.isfinite(shear) and bulk > 0 and shear > 0):
        raise ValueError(
            f"{where}: expected constants of a stable isotropic solid (E > 0, −1 < nu < 0.5, K > 0, G > 0), got "
            f"{', '.join(f'{name}={value:g}' for name, value in values.items())}. Write 'pore' for a phase without stiffness."
        )
    return isotropic_stiffness(bulk, shear)


def _from_text(where: str, text: str) -> np.ndarray:
    words = re.sub(r"[;,](?=\s*[A-Za-z])", " ", text).split()
    turn = [word for word in words if word.startswith("bunge=")]
    words = [word for word in words if not word.startswith("bunge=")]
    stiffness = _from_words(where, words, text)
    if not turn:
        return stiffness
    try:
        angles = [float(part) for part in turn[-1][6:].split(",")]
        return rotate_matrix(rotation_from_bunge(np.array(angles), degrees=True), stiffness)
    except ValueError:
        raise ValueError(f"{where}: expected bunge=φ1,Φ,φ2 in degrees, got {turn[-1]!r}.") from None


def _from_words(where: str, words: list[str], text: str) -> np.ndarray:
    if len(words) == 1 and words[0].lower() in ("pore", "void", "air"):
        return np.zeros((6, 6))
    if len(words) == 1 and "=" not in words[0] and Path(words[0]).suffix == ".law":
        return load(words[0]).stiffness()
    symbol = words[0] if words and words[0] in POINT_GROUPS else None
    values: dict[str, float] = {}
    for word in words[symbol is not None :]:
        name, equals, number = word.partition("=")
        try:
            values[name] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"{where}: expected {_FORMS}, got {text!r}. Name it in one of these ways.")
    return _from_constants(where, values, symbol)


def _from_constants(where: str, values: dict[str, float], symbol: str | None) -> np.ndarray:
    if symbol is None and values and set(values) <= {"E", "nu", "K", "G"}:
        if len(values) != 2:
            raise ValueError(f"{where}: expected two of E, nu, K, G, got {', '.join(values)}.")
        return _isotropic(where, values)
    if symbol is None and set(values) != {"C11", "C12", "C44"}:
        raise ValueError(
            f"{where}: expected {_FORMS}, got {' '.join(values) or 'nothing'}. Name the class of other constants."
        )
    return stiffness_from_constants(PointGroup(symbol or "m-3m"), values)


def phase_stiffness(where: str, material: Any) -> np.ndarray | None:
    """Stiffness (6, 6), Mandel, of one phase; None for a rigid one.

    Raises
    ------
    ValueError, TypeError, OSError
        Where it is none of the forms above.
    """
    if isinstance(material, str):
        if material.strip().lower() == "rigid":
            return None
        return _from_text(where, material)
    if isinstance(material, Path):
        return load(material).stiffness()
    if isinstance(material, Law):
        return material.stiffness()
    if isinstance(material, dict):
        constants = {str(name): value for name, value in material.items() if name != "class"}
        return _from_constants(where, {name: float(value) for name, value in constants.items()}, material.get("class"))
    array = np.asarray(material)
    if array.dtype.kind in "fiu" and array.shape in ((6, 6), (3, 3, 3, 3)):
        return as_stiffness(where, array)
    raise TypeError(
        f"{where}: expected {_FORMS}, a Law, a dict, a Mandel matrix (6, 6) or an ElasticTensor, got {type(material).__name__}."
    )


def stiffness_table(where: str, wanted: dict[int, float], materials: Any) -> tuple[dict[int, np.ndarray], list[str]]:
    """Stiffness of every phase of an image, and what must be said about it.

    Parameters
    ----------
    where : str
    wanted : dict of int to float
        Phases of the image and their volume fractions.
    materials : dict of int to material, or one material
        One material serves all phases.

    Raises
    ------
    ValueError
        For phases without a material, and materials of no phase.
    """
    if not isinstance(materials, dict) or not all(isinstance(key, (int, np.integer)) for key in materials):
        materials = dict.fromkeys(wanted, materials)
    there = ", ".join(f"{phase} ({100 * share:.1f} %)" for phase, share in list(wanted.items())[:8])
    if len(wanted) > 8:
        there += f" and {len(wanted) - 8} more values, which looks like a grey image: segment it first"
    missing = [phase for phase in wanted if phase not in materials]
    if missing or materials is None:
        raise ValueError(
            f"{where}: expected a material for each phase of the image, which has {there}; got none for "
            f"{', '.join(map(str, missing[:8]))}. Add {missing[0]}: 'pore' or 'E=… nu=…'."
        )
    found = {phase: phase_stiffness(f"{where} phase {phase}", materials[phase]) for phase in wanted}
    stiffest = max((float(np.linalg.eigvalsh(c)[-1]) for c in found.values() if c is not None), default=0.0)
    notes = []
    for phase, stiffness in found.items():
        if stiffness is None:
            if stiffest <= 0:
                raise ValueError(f"{where}: expected a phase of finite stiffness beside the rigid one, got none.")
            notes.append(f"phase {phase} is rigid: computed as {RIGID:g} times the stiffest other phase")
            found[phase] = isotropic_stiffness(RIGID * stiffest / 3.0, RIGID * stiffest / 2.0)
    return {phase: stiffness for phase, stiffness in found.items() if stiffness is not None}, notes
