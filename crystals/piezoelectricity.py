"""Piezoelectric tensors: named constants of each class, and the two forms e and d.

Both are (3, 6) with Mandel columns, so that D = e E + κ 𝓔 and D = d S + κᵀ 𝓔 are plain products and d = e C⁻¹ holds
without factors; `mandel.from_mandel` makes (3, 3, 3) of them. In Voigt notation factors appear: e_iJ = e_ijk but
d_iJ = 2 d_ijk for shear columns J (Nye 1957, chapter VII; IRE Standards on Piezoelectric Crystals 1949), so that in
class 32 e26 = −e11 and d26 = −2 d11. Units: e in C/m², d in pC/N (= pm/V), stiffness in GPa, at constant field.

Signs of quartz. An inversion or mirror (left ↔ right crystal) flips all of e and d and leaves the stiffness alone; a half
turn about c flips e11, d11 and C14 and leaves e14, d14 alone. The IRE 1949 standard has C14 < 0, with e11 < 0 < e14 for
the right-handed crystal; the IEEE 1978 standard turns the axes by 180° about c: C14 > 0, e11 > 0, e14 > 0 for the
right-handed crystal. Bechmann's e11 = 0.171, e14 = −0.0406 C/m² with C14 = −17.91 GPa (1958,
doi:10.1103/PhysRev.110.1060) are the left-handed crystal after IRE 1949. Take e and C from one source.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .groups import CURIE_GROUPS, POINT_GROUPS, PointGroup
from .mandel import PAIRS, WEIGHTS, to_mandel
from .rotations import mandel_rotation
from .tensor_spaces import independent_components, tensor_count, tensor_space

#: Order in which independent constants are looked for: the textbooks keep e22 rather than e16, e31 rather than e24.
_PREFERRED = tuple("11 22 33 31 32 13 12 21 23 14 15 16 24 25 26 34 35 36".split())
#: 1 C/m² over 1 GPa is 1 nC/N.
_PICO = 1000.0


def _place(name: str) -> tuple[int, int]:
    return int(name[-2]) - 1, int(name[-1]) - 1


@cache
def _independent_constants(symbol: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Indices of the independent Voigt constants of a class, and an orthonormal basis (k, 3, 6), standard frame."""
    space = tensor_space(PointGroup(symbol), "i(jk)")
    components = [(_place(name)[0], *PAIRS[_place(name)[1]]) for name in _PREFERRED]
    names = sorted(_PREFERRED[place] for place in independent_components(space, components))
    return tuple(names), to_mandel(space)


def _checked(where: str, tensor: np.ndarray) -> np.ndarray:
    tensor = np.asarray(tensor, dtype=float)
    if tensor.shape[-2:] != (3, 6) or not np.all(np.isfinite(tensor)):
        raise ValueError(
            f"{where}: expected finite piezoelectric tensors (..., 3, 6), Mandel columns, got shape {tensor.shape}. Full "
            "tensors (3, 3, 3) go through mandel.to_mandel, Voigt e through mandel.stress_from_voigt, Voigt d through "
            "mandel.strain_from_voigt."
        )
    return tensor


def _weights(form: str) -> np.ndarray:
    """Mandel over Voigt component of each column."""
    if form not in ("e", "d"):
        raise ValueError(f"piezoelectric constants: expected form 'e' (C/m²) or 'd' (pC/N), got {form!r}.")
    return WEIGHTS if form == "e" else 1.0 / WEIGHTS


def rotate_piezoelectric(rotation: np.ndarray, tensor: np.ndarray) -> np.ndarray:
    """Piezoelectric tensors (..., 3, 6), Mandel columns, turned actively by Q (..., 3, 3), proper or improper."""
    rotation = np.asarray(rotation, dtype=float)
    turn = mandel_rotation(rotation)
    return rotation @ _checked("rotate_piezoelectric", tensor) @ np.swapaxes(turn, -1, -2)


def why_not_piezoelectric(group: PointGroup) -> str | None:
    """Why a group leaves no piezoelectric tensor, in words; None where it leaves one."""
    if tensor_count(group, "i(jk)"):
        return None
    if -np.eye(3) in group:
        related = [
            symbol for symbol in POINT_GROUPS + CURIE_GROUPS
            if PointGroup(symbol).laue.symbol == group.symbol and tensor_count(PointGroup(symbol), "i(jk)")
        ]  # fmt: skip
        same = f"; of the groups with this Laue class {', '.join(related)} have one" if related else ""
        return f"{group.symbol} holds the inversion, which turns e into −e{same}"
    return f"the rotations of {group.symbol} leave no third-rank tensor e_ijk = e_ikj although it lacks the inversion"


def piezoelectric_constants(
    tensor: np.ndarray, group: PointGroup, form: str = "e", tolerance: float = 0.05
) -> dict[str, float]:
    """The independent piezoelectric constants of a class by their Voigt names, in the group's standard frame.

    The tensor is turned back to the standard frame and projected on the tensors that have the symmetry.

    Parameters
    ----------
    tensor : array (3, 6)
        e in C/m² or d in pC/N, Mandel columns, in the frame of `group`.
    group : PointGroup
    form : str
        'e' or 'd': which of the two the tensor is; Voigt factors and names follow it.
    tolerance : float
        Largest part of the tensor, relative in the Frobenius norm, that may lack the symmetry.

    Returns
    -------
    dict of str to float
        For example e11, e14 for 32; e15, e31, e33 for 6mm; empty for 432 and the centrosymmetric groups.

    Raises
    ------
    ValueError
        Where the tensor lacks the symmetry by more than `tolerance`.
    """
    weights = _weights(form)
    tensor = _checked("piezoelectric_constants", tensor)
    if tensor.ndim != 2:
        raise ValueError(f"piezoelectric_constants: expected one tensor (3, 6), got {tensor.shape}. Loop over them.")
    local = rotate_piezoelectric(group.frame.T, tensor)
    names, basis = _independent_constants(group.symbol)
    projected = np.tensordot(np.tensordot(basis, local, axes=2), basis, axes=1)
    size = float(np.linalg.norm(local))
    missing = float(np.linalg.norm(local - projected)) / (size if size > 0.0 else 1.0)
    if missing > tolerance:
        raise ValueError(
            f"piezoelectric_constants: expected a tensor with the symmetry of {group.symbol} to within {tolerance:g}, got "
            f"one of which {missing:.3g} lacks it. Check the form ('e' or 'd') and that the group's frame is the tensor's."
        )
    return {form + name: float((projected / weights)[_place(name)]) for name in names}


def piezoelectric_from_constants(group: PointGroup, constants: dict[str, float]) -> np.ndarray:
    """Piezoelectric tensor (3, 6), Mandel columns, in the group's frame: the inverse of `piezoelectric_constants`.

    Parameters
    ----------
    group : PointGroup
    constants : dict of str to float
        All independent constants by their Voigt names, as published in the group's standard frame: {"e11": 0.171,
        "e14": -0.0406} in C/m², or {"d11": 2.31, "d14": 0.727} in pC/N, which gives d.

    Raises
    ------
    ValueError
        For a group without piezoelectric tensors, other names than those of the class, e and d mixed, or values that
        are not finite.
    """
    where = "piezoelectric_from_constants"
    reason = why_not_piezoelectric(group)
    if reason is not None:
        raise ValueError(f"{where}: expected a piezoelectric group, got {group.symbol}: {reason}. Name the full group.")
    names, basis = _independent_constants(group.symbol)
    form = "d" if any(name.startswith("d") for name in constants) else "e"
    if set(constants) != {form + name for name in names} or not np.all(np.isfinite(list(constants.values()))):
        raise ValueError(
            f"{where}: expected finite {', '.join(form + name for name in names)} for {group.symbol}, got "
            f"{', '.join(f'{name}={value}' for name, value in constants.items())}. Name each once, all e or all d; the "
            "class gives the others."
        )
    voigt = basis / _weights(form)
    rows = np.array([voigt[(slice(None), *_place(name))] for name in names])
    coefficients = np.linalg.solve(rows, np.array([float(constants[form + name]) for name in names]))
    return rotate_piezoelectric(group.frame, np.tensordot(coefficients, basis, axes=1))


def check_piezoelectric(where: str, tensor: np.ndarray, group: PointGroup, tolerance: float = 1e-9) -> np.ndarray:
    """An e tensor (3, 6) in the frame of a group, its rounding removed.

    Raises
    ------
    ValueError
        Where the group allows no such tensor but zero, or the tensor lacks the symmetry by more than `tolerance` of its
        largest constant; the message names the constants.
    """
    tensor = _checked(where, tensor)
    if tensor.ndim != 2:
        raise ValueError(
            f"{where}: expected one piezoelectric tensor (3, 6), got {tensor.shape}. Make one law for each."
        )
    reason = why_not_piezoelectric(group)
    if reason is not None:
        if np.any(tensor):
            raise ValueError(
                f"{where}: expected piezoelectric = 0 for {group.symbol}, got e up to {np.abs(tensor).max():.3g} C/m²: "
                f"{reason}. Name the full group of the crystal (group=PointGroup(…))."
            )
        return tensor
    local = rotate_piezoelectric(group.frame.T, tensor)
    given = local / WEIGHTS
    names, basis = _independent_constants(group.symbol)
    nearest = piezoelectric_from_constants(
        PointGroup(group.symbol), {f"e{name}": given[_place(name)] for name in names}
    ) / WEIGHTS  # fmt: skip
    off = np.abs(given - nearest) > tolerance * np.abs(given).max()
    if np.any(off):
        wrong = ", ".join(
            f"e{i + 1}{j + 1} = {given[i, j]:.4g} where the group needs {nearest[i, j] + 0.0:.4g}"
            for i, j in np.argwhere(off)
        )
        factor = " Shear columns of d, not of e, carry a factor 2 in Voigt notation." if np.any(off[:, 3:]) else ""
        raise ValueError(
            f"{where}: expected a piezoelectric tensor with the symmetry of {group.symbol}, got {wrong} (C/m², standard "
            f"frame, {', '.join('e' + name for name in names)} as given).{factor} Build it with "
            "piezoelectric_from_constants, or project it with tensor_spaces.invariant_part."
        )
    projected = np.tensordot(np.tensordot(basis, local, axes=2), basis, axes=1)
    return rotate_piezoelectric(group.frame, projected)


def _stiffness(where: str, stiffness: np.ndarray) -> np.ndarray:
    stiffness = np.asarray(stiffness, dtype=float)
    if stiffness.shape[-2:] != (6, 6) or not np.all(np.isfinite(stiffness)):
        raise ValueError(f"{where}: expected finite Mandel stiffness (..., 6, 6) in GPa, got shape {stiffness.shape}.")
    return stiffness


def d_from_e(e: np.ndarray, stiffness: np.ndarray) -> np.ndarray:
    """Piezoelectric strain constants d = e C⁻¹ in pC/N from e in C/m² (IRE 1949; Nye 1957, chapter VII).

    Parameters
    ----------
    e : array (..., 3, 6)
        Mandel columns, C/m².
    stiffness : array (..., 6, 6)
        At constant field, Mandel, GPa.

    Returns
    -------
    array (..., 3, 6)
        Mandel columns, pC/N.
    """
    stiffness = _stiffness("d_from_e", stiffness)
    return _PICO * np.swapaxes(
        np.linalg.solve(np.swapaxes(stiffness, -1, -2), np.swapaxes(_checked("d_from_e", e), -1, -2)), -1, -2
    )


def e_from_d(d: np.ndarray, stiffness: np.ndarray) -> np.ndarray:
    """Piezoelectric stress constants e = d C in C/m² from d in pC/N (IRE 1949; Nye 1957, chapter VII).

    Parameters
    ----------
    d : array (..., 3, 6)
        Mandel columns, pC/N.
    stiffness : array (..., 6, 6)
        At constant field, Mandel, GPa.

    Returns
    -------
    array (..., 3, 6)
        Mandel columns, C/m².
    """
    return _checked("e_from_d", d) @ _stiffness("e_from_d", stiffness) / _PICO
