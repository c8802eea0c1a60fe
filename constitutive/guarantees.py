"""What each family of laws guarantees, whatever its parameters: family × class × guarantee."""

from __future__ import annotations

from typing import NamedTuple

from crystals.groups import STRAIN_CLASSES, PointGroup


class Guarantees(NamedTuple):
    """What holds for all parameters that a family admits.

    Attributes
    ----------
    reference : bool
        W(0) = 0 and S(0) = 0.
    pinned_stiffness : bool
        C(0) can be prescribed and is then kept. Subtracting ½ E·ΔC·E would destroy polyconvexity.
    positive_stiffness : bool
        C(0) is positive definite.
    polyconvex : bool
        W is a convex function of F, cof F and det F, hence Legendre–Hadamard elliptic (Ball 1976).
    growth : bool
        W → ∞ as J → 0.
    """

    reference: bool
    pinned_stiffness: bool
    positive_stiffness: bool
    polyconvex: bool
    growth: bool


_FINITE = tuple(symbol for symbol in STRAIN_CLASSES if PointGroup(symbol).is_finite)
_TAYLOR = Guarantees(reference=True, pinned_stiffness=True, positive_stiffness=True, polyconvex=False, growth=False)

#: Classes that each family supports, and what it guarantees in all of them. Neo-Hooke: (ln J)² is not convex beyond J = e,
#: and for λ < 0, which C(0) > 0 allows, W falls as J → 0. A polynomial of logarithmic strain is elliptic in a bounded range
#: of stretches only (Bruhns, Xiao and Meyers 2001), and of odd order it may fall without bound.
_FAMILIES: dict[str, tuple[tuple[str, ...], Guarantees]] = {
    "polynomial": (STRAIN_CLASSES, _TAYLOR),
    "symmetric, invariants": (STRAIN_CLASSES, _TAYLOR),
    "symmetric, average": (_FINITE, _TAYLOR),
    "symmetric, directions": (_FINITE, _TAYLOR),
    "network alone": (STRAIN_CLASSES, Guarantees(True, False, False, False, False)),
    "polyconvex": (
        tuple(symbol for symbol in STRAIN_CLASSES if symbol != "∞/m"),
        Guarantees(reference=True, pinned_stiffness=False, positive_stiffness=True, polyconvex=True, growth=True),
    ),
    "neo-hooke": (("∞∞m",), _TAYLOR),
    "logarithmic": (STRAIN_CLASSES, _TAYLOR),
}

#: Names of the families: PolynomialLaw, the three forms of SymmetricLaw, the same of order 1, PolyconvexLaw, NeoHookeanLaw,
#: LogarithmicStrainLaw of a PolynomialLaw (of a plastic law, it is the elastic part that this holds for).
FAMILIES = tuple(_FAMILIES)


def guarantees(family: str, group: PointGroup | str) -> Guarantees:
    """What a family of laws guarantees for a group, whatever the parameters.

    Parameters
    ----------
    family : str
        One of `FAMILIES`.
    group : PointGroup or str
        Any group; its Laue class decides.

    Raises
    ------
    ValueError
        For an unknown family, and 'not supported: …' where the family has no law for the group.
    """
    if family not in _FAMILIES:
        raise ValueError(f"guarantees: expected a family among {'; '.join(FAMILIES)}, got {family!r}.")
    classes, found = _FAMILIES[family]
    symbol = (PointGroup(group) if isinstance(group, str) else group).laue.symbol
    if symbol not in classes:
        raise ValueError(f"guarantees: not supported: {family} for {symbol}, only for {', '.join(classes)}.")
    return found


def guarantee_table() -> str:
    """Markdown table of all families: the classes each supports, and what it guarantees in all of them."""
    rows = [("family", "classes", *(name.replace("_", " ") for name in Guarantees._fields))]
    for family, (classes, found) in _FAMILIES.items():
        refused = [symbol for symbol in STRAIN_CLASSES if symbol not in classes]
        names = "all" if not refused else f"all but {', '.join(refused)}" if len(classes) > 1 else ", ".join(classes)
        rows.append((family, names, *("yes" if cell else "no" for cell in found)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])
