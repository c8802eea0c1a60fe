"""Whether a strained crystal is still the crystal: its bonds, and the energy that its atoms release when they relax.

Inside a strained cell atoms move a little from where the cell carries them, and release an energy that is quadratic in
the strain. Where the structure changes to another one (a phase transformation, a stacking fault, a hop to another site)
bonds change their lengths by much more, or the energy falls by much more. Such a state lies on another branch of W(E);
a law fitted across both would be neither.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

#: A bond may be this much longer or shorter than the cell alone would make it.
LARGEST_STRETCH = 1.2
#: Energy released by relaxing may be this many times what the elastic constants say, and this share of the energy.
LARGEST_RELEASE, FREE_RELEASE = 3.0, 0.1
# Pairs up to this many nearest-neighbour distances are watched: those that are no bonds must not become bonds.
_WATCHED = 2.0


class Bonds:
    """Pairs of atoms of a reference crystal near enough to be, or to become, neighbours.

    Parameters
    ----------
    reference : Atoms
        Undeformed cell.
    """

    def __init__(self, reference: Atoms) -> None:
        nearest = float(neighbor_list("d", reference, _nearest(reference) * 1.01).min())
        self.first, self.second, self.vectors = neighbor_list("ijD", reference, _WATCHED * nearest)
        self.symbols = reference.get_chemical_symbols()

    def changed(self, affine: np.ndarray, relaxed: np.ndarray, gradient: np.ndarray) -> str:
        """What changed between atoms as the cell carries them and relaxed ones (n, 3), Å, or ''.

        Parameters
        ----------
        affine, relaxed : (n, 3)
            Positions in the strained cell, unwrapped.
        gradient : (3, 3)
            F of the cell.
        """
        carried = self.vectors @ gradient.T
        shift = relaxed - affine
        before = np.linalg.norm(carried, axis=1)
        ratio = np.linalg.norm(carried + shift[self.second] - shift[self.first], axis=1) / before
        off = np.abs(np.log(ratio))
        worst = int(np.argmax(off))
        if off[worst] <= np.log(LARGEST_STRETCH):
            return ""
        i, j = self.first[worst], self.second[worst]
        return (
            f"{self.symbols[i]} {i} and {self.symbols[j]} {j} lie {ratio[worst]:.2f} times as far apart as the cell "
            "carries them"
        )


def _nearest(atoms: Atoms) -> float:
    """Shortest distance between atoms, images included."""
    reach = (atoms.get_volume() / len(atoms)) ** (1 / 3)
    while True:
        found = neighbor_list("d", atoms, reach)
        if len(found):
            return float(found.min())
        reach *= 1.3


def energy_jump(clamped: float, relaxed: float, expected: float) -> str:
    """Why the energy released by relaxing is more than elastic, or ''.

    Parameters
    ----------
    clamped, relaxed : float
        Energy density (GPa) with atoms as the cell carries them, and relaxed.
    expected : float
        Release to second order in strain, ½ E·(C_clamped − C_relaxed)·E, GPa.
    """
    released, allowed = clamped - relaxed, LARGEST_RELEASE * max(expected, 0.0) + FREE_RELEASE * abs(clamped) + 1e-6
    if released <= allowed:
        return ""
    return f"relaxing releases {released:.3g} GPa where its elastic constants say {expected:.2g}"
