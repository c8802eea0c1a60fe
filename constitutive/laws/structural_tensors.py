"""Structural tensors of the polyconvex law: which stretches of lines and areas its networks see, for each class."""

from __future__ import annotations

import numpy as np

from crystals.groups import PointGroup

from .symmetric_network import lattice_directions

#: The forms of the network, by the name that a law's configuration gives them.
FORMS = ("directions", "average", "invariants")
#: Classes whose lattice directions, one by one, have the symmetry of a higher class.
_HIDDEN = {"4/m": "4/mmm", "6/m": "6/mmm", "m-3": "m-3m"}


def structural_tensors(symbol: str) -> list[np.ndarray]:
    """Orbits (m, 3, 3) of positive semidefinite tensors M of unit trace that a Laue class turns into each other.

    For a finite class d⊗d along `lattice_directions`; for ∞/mm along and across the axis; for ∞∞m a third of 1.

    Raises
    ------
    ValueError
        For ∞/m: no average over its rotations exists, and its own structural tensors of second order are those of ∞/mm.
    """
    if symbol == "∞/m":
        raise ValueError(
            "PolyconvexLaw: not supported: ∞/m, whose structural tensors of second order cannot tell it from ∞/mm. "
            "Use '∞/mm', or SymmetricLaw."
        )
    if symbol == "∞∞m":
        return [np.eye(3)[None] / 3.0]
    if symbol == "∞/mm":
        return [np.diag([0.0, 0.0, 1.0])[None], np.diag([0.5, 0.5, 0.0])[None]]
    return [np.einsum("ai,aj->aij", orbit, orbit) for orbit in lattice_directions(symbol)]


def selections(form: str | None, symbol: str) -> tuple[str, list[np.ndarray]]:
    """The form that is meant, and for each network the structural tensors (c, m) that its copies see, by number."""
    finite = PointGroup(symbol).is_finite
    orbits = structural_tensors(symbol)
    if form is None:
        form = "invariants" if not finite else "average" if symbol in _HIDDEN else "directions"
    if form not in FORMS:
        raise ValueError(f"PolyconvexLaw: expected network in {', '.join(FORMS)}, got {form!r}.")
    if (form == "invariants") == finite:
        allowed = "'directions' or 'average'" if finite else "'invariants'"
        raise ValueError(f"PolyconvexLaw: not supported: network {form!r} for {symbol}. Use network={allowed}.")
    if form == "invariants":
        return form, [np.arange(len(orbits))[None]]
    tensors = np.concatenate(orbits)
    if form == "directions":
        if symbol in _HIDDEN:
            raise ValueError(
                f"PolyconvexLaw: not supported: network 'directions' for {symbol}, whose lattice directions have the "
                f"symmetry of {_HIDDEN[symbol]}. Use network='average'."
            )
        return form, np.split(np.arange(len(tensors))[:, None], np.cumsum([len(orbit) for orbit in orbits])[:-1])
    rotations = PointGroup(symbol).rotations
    turned = np.einsum("gij,ajk,glk->gail", rotations, tensors, rotations)
    return form, [np.argmin(np.abs(turned[:, :, None] - tensors).max(axis=(3, 4)), axis=2)]
