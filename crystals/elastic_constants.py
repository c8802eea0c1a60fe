"""Elastic constants of second, third and fourth order: Voigt names, and which of them a class leaves independent.

Constants of order n are C_IJ… = ∂ⁿW/∂E_I∂E_J… at the stress-free state, per reference volume (Brugger 1964,
doi:10.1103/PhysRev.133.A1611): components of a tensor, so no further factor 2 or √2 enters in Voigt notation. Arrays are
Mandel (..., 6, …, 6), fully symmetric in their `order` last axes; any unit goes through.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np

from .groups import PointGroup
from .invariants import invariant_tensors
from .mandel import WEIGHTS
from .rotations import mandel_rotation

#: Orders that have names.
ORDERS = (2, 3, 4)
#: Order in which independent constants are looked for: the textbooks keep C12 rather than C66, C14 rather than C56.
_SECOND = tuple("11 22 33 12 13 23 44 55 66 14 15 16 24 25 26 34 35 36 45 46 56".split())


@cache
def _preferred(order: int) -> tuple[str, ...]:
    """All Voigt names of an order, those first that the textbooks keep.

    Third order: C111, C222, C333, then as a dictionary does, which gives the sets of Hearmon 1953 (Acta Cryst. 6, 331):
    C222 rather than C122 for hexagonal and trigonal crystals. Fourth order: the same, but C1255 before C1244, as Wang
    and Li 2009 (doi:10.1103/PhysRevB.79.224102) have it for cubic ones.
    """
    if order == 2:
        return _SECOND
    names = ["".join(chosen) for chosen in itertools.combinations_with_replacement("123456", order)]
    first = ["1" * order, "2" * order, "3" * order]
    rest = [name for name in names if name not in first]
    if order == 4:
        rest.remove("1255")
        rest.insert(rest.index("1244"), "1255")
    return tuple(first + rest)


def _place(name: str) -> tuple[int, ...]:
    return tuple(int(digit) - 1 for digit in name)


def _weights(order: int) -> np.ndarray:
    """Product (6, …, 6) of the Mandel weights of `order` indices."""
    product = np.ones(())
    for _ in range(order):
        product = product[..., None] * WEIGHTS
    return product


@cache
def _independent(symbol: str, order: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the independent Voigt constants of a class, and an orthonormal basis (6ⁿ, k) of its tensors."""
    tensors = invariant_tensors(symbol, order)
    voigt = tensors / _weights(order)
    names: list[str] = []
    known: list[np.ndarray] = []
    for name in _preferred(order):
        row = voigt[(slice(None), *_place(name))]
        size = np.linalg.norm(row)
        if size < 1e-9 or len(names) == len(tensors):
            continue
        row = row / size
        for _ in range(2):  # twice is enough (Gram–Schmidt)
            for other in known:
                row = row - (other @ row) * other
        if np.linalg.norm(row) > 1e-6:
            known.append(row / np.linalg.norm(row))
            names.append(name)
    assert len(names) == len(tensors)
    if order > 2:
        names.sort()
    basis, _ = np.linalg.qr(tensors.reshape(len(tensors), -1).T)
    basis.setflags(write=False)
    return tuple("C" + name for name in names), basis


def independent_constants(group: PointGroup, order: int = 2) -> tuple[str, ...]:
    """Voigt names of the independent constants of one order: ('C111', 'C112', …) for m-3m and order 3."""
    return _independent(group.laue.symbol, _checked_order("independent_constants", order))[0]


def _checked_order(where: str, order: int) -> int:
    if order not in ORDERS:
        raise ValueError(f"{where}: expected an order of 2, 3 or 4, got {order!r}. Fifth order has no agreed names.")
    return order


def constants_to_voigt(constants: np.ndarray, order: int) -> np.ndarray:
    """Voigt array C_IJ… (..., 6, …, 6) of the textbooks from the Mandel array of the same shape."""
    return np.asarray(constants, dtype=float) / _weights(_checked_order("constants_to_voigt", order))


def rotate_constants(rotation: np.ndarray, constants: np.ndarray, order: int) -> np.ndarray:
    """Mandel constants (..., 6, …, 6) turned actively by Q (3, 3)."""
    turn = mandel_rotation(rotation)
    for axis in range(-order, 0):
        constants = np.moveaxis(np.tensordot(constants, turn, axes=(axis, 1)), -1, axis)
    return constants


def _checked(constants: np.ndarray, order: int) -> np.ndarray:
    constants = np.asarray(constants, dtype=float)
    if constants.ndim < order or constants.shape[-order:] != (6,) * order or not np.all(np.isfinite(constants)):
        shape = ", ".join(["6"] * order)
        raise ValueError(
            f"elastic_constants: expected finite Mandel constants (..., {shape}) of order {order}, got shape "
            f"{constants.shape}. Put the batch first, and look for NaN."
        )
    axes = tuple(range(-order, 0))
    largest = float(np.max(np.abs(constants), initial=0.0))
    for first, second in zip(axes[:-1], axes[1:], strict=True):
        defect = np.max(np.abs(constants - np.swapaxes(constants, first, second)), initial=0.0)
        if defect > 1e-6 * largest:
            raise ValueError(
                f"elastic_constants: expected constants symmetric in all {order} indices, got a largest difference of "
                f"{defect:.3g}. Symmetrise them, or use stiffness_from_voigt where they came in Voigt notation."
            )
    return constants


def elastic_constants(
    stiffness: np.ndarray, group: PointGroup, tolerance: float = 0.05, order: int = 2
) -> dict[str, Any]:
    """The independent constants of a class by their Voigt names, in the group's standard frame.

    The array is turned back from the group's frame to the standard one and projected on those that have the symmetry,
    so constants that should be equal (C11 and C22 of a cubic crystal) enter with their mean.

    Parameters
    ----------
    stiffness : array (..., 6, 6), or (..., 6, 6, 6) and (..., 6, 6, 6, 6) for orders 3 and 4
        Mandel, GPa, in the frame of `group` (whose `frame` turns the standard frame into it).
    group : PointGroup
    tolerance : float
        Largest part of the array, relative in the Frobenius norm, that may lack the symmetry.
    order : int
        2, 3 or 4.

    Returns
    -------
    dict of str to float, or to array (...,) for a batch
        For example C11, C12, C44 for m-3m, and C11, C33, C12, C13, C44, C14 for -3m, GPa.

    Raises
    ------
    ValueError
        For another order or shape, or where the array lacks the symmetry by more than `tolerance`.
    """
    _checked_order("elastic_constants", order)
    turned = rotate_constants(group.frame.T, _checked(stiffness, order), order)
    names, basis = _independent(group.laue.symbol, order)
    batch = turned.shape[: turned.ndim - order]
    flat = turned.reshape(*batch, -1)
    projected = flat @ basis @ basis.T
    size = np.linalg.norm(flat, axis=-1)
    missing = np.max(np.linalg.norm(flat - projected, axis=-1) / np.where(size > 0.0, size, 1.0), initial=0.0)
    if missing > tolerance:
        raise ValueError(
            f"elastic_constants: expected a stiffness with the symmetry of {group.symbol} to within {tolerance:g}, got "
            f"one of which {missing:.3g} lacks it. Check that the group's frame is the frame of the stiffness."
        )
    voigt = constants_to_voigt(projected.reshape(turned.shape), order)
    values = {name: voigt[(..., *_place(name[1:]))] for name in names}
    return values if batch else {name: float(value) for name, value in values.items()}


def stiffness_from_constants(group: PointGroup, constants: dict[str, float]) -> np.ndarray:
    """Stiffness (6, 6), Mandel, from the independent constants of a class: the inverse of `elastic_constants`.

    Parameters
    ----------
    group : PointGroup
        Its frame is the frame of the stiffness.
    constants : dict of str to float
        By their Voigt names, as published in the group's standard frame, for example C11, C12, C44 for m-3m. Exactly
        the names that `elastic_constants` returns for the class.

    Raises
    ------
    ValueError
        For other names than those, or values that are not finite.
    """
    names, basis = _independent(group.laue.symbol, 2)
    if set(constants) != set(names) or not all(np.isfinite(value) for value in constants.values()):
        raise ValueError(
            f"stiffness_from_constants: expected finite {', '.join(names)} for {group.symbol}, got "
            f"{', '.join(f'{name}={value}' for name, value in constants.items())}. Name each of them once; the class "
            "gives the others."
        )
    voigt = constants_to_voigt(basis.T.reshape(-1, 6, 6), 2)
    rows = np.array([voigt[(slice(None), *_place(name[1:]))] for name in names])
    weights = np.linalg.solve(rows, np.array([float(constants[name]) for name in names]))
    return rotate_constants(group.frame, (basis @ weights).reshape(6, 6), 2)
