"""Spaces of tensors that a point group leaves alone: any small rank, polar or axial, with a stated index symmetry.

Unlike strain energies, tensors of odd rank and axial tensors see the improper operations, so here the 32 groups differ
and not only their 11 Laue classes. An operation g takes a polar tensor T to g_ia g_jb … T_ab…, an axial one to det(g)
times that (Nye 1957, Physical Properties of Crystals, chapters II and XIV).

Index symmetry is written as index names with brackets: names or groups in (round) brackets may be exchanged, in [square]
brackets exchanged with a change of sign. Groups nest. In brackets behind, the symbol of Jahn 1949 (Acta Cryst. 2, 30):

    pyroelectric                       "i"           V
    dielectric, thermal expansion      "(ij)"        [V²]
    piezoelectric, second harmonic     "i(jk)"       V[V²]
    second harmonic after Kleinman     "(ijk)"       [V³]
    optical activity (gyration)        "(ij)"        e[V²]      axial
    Hall effect                        "[ij]k"       e{V²}V     axial
    elastic                            "((ij)(kl))"  [[V²]²]
    photoelastic, electrostriction     "(ij)(kl)"    [V²]²
    flexoelectric                      "i(jk)l"      V²[V²]
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np

from .groups import PointGroup

#: Highest rank: tensors of rank 6 have 729 components.
LARGEST_RANK = 6

# An index name, or (sign, parts): parts that may be exchanged with that sign; sign 0 for a plain sequence.
_Tree = Any


def _refuse(symmetry: object, got: str) -> ValueError:
    return ValueError(
        f"tensor_space: expected an index symmetry such as 'i(jk)', '((ij)(kl))' or '[ij]k' of rank 1 to "
        f"{LARGEST_RANK}, got {symmetry!r}, {got}. Name each index by one letter, and bracket what may be exchanged."
    )


@cache
def _parse(symmetry: str) -> _Tree:
    """Tree of an index symmetry: a plain sequence of names and brackets."""
    names = [character for character in symmetry if character not in "()[]"]
    if not 1 <= len(names) <= LARGEST_RANK:
        raise _refuse(symmetry, f"of rank {len(names)}")
    if not all(name.isascii() and name.isalpha() for name in names) or len(set(names)) < len(names):
        raise _refuse(symmetry, "whose index names are not distinct letters")
    closing = {"(": (")", 1), "[": ("]", -1)}
    stack: list[tuple[str, int, list[_Tree]]] = [("", 0, [])]
    for character in symmetry:
        if character in closing:
            stack.append((*closing[character], []))
        elif character in ")]":
            expected, sign, parts = stack.pop()
            if character != expected:
                raise _refuse(symmetry, f"whose bracket {character!r} closes no other")
            if len(parts) < 2 or len({_shape(part) for part in parts}) > 1:
                raise _refuse(symmetry, "where what stands in one bracket is not two or more parts of like form")
            stack[-1][2].append((sign, tuple(parts)))
        else:
            stack[-1][2].append(character)
    if len(stack) > 1:
        raise _refuse(symmetry, "which leaves a bracket open")
    return (0, tuple(stack[0][2]))


def _shape(tree: _Tree) -> str:
    """The tree without its index names."""
    return "i" if isinstance(tree, str) else f"{tree[0]}<{' '.join(_shape(part) for part in tree[1])}>"


def _width(tree: _Tree) -> int:
    return 1 if isinstance(tree, str) else sum(_width(part) for part in tree[1])


def _exchanges(tree: _Tree, start: int, rank: int) -> list[tuple[tuple[int, ...], int]]:
    """Permutations of the index places, with signs, that generate an index symmetry."""
    if isinstance(tree, str):
        return []
    sign, parts = tree
    found = []
    for number, part in enumerate(parts):
        width = _width(part)
        found += _exchanges(part, start, rank)
        if sign and number + 1 < len(parts):
            order = list(range(rank))
            order[start : start + 2 * width] = [*range(start + width, start + 2 * width), *range(start, start + width)]
            found.append((tuple(order), sign))
        start += width
    return found


@cache
def _index_basis(symmetry: str) -> np.ndarray:
    """Orthonormal basis (3^rank, m) of the tensors with an index symmetry: one column for each set of equal entries."""
    tree = _parse(symmetry)
    rank = _width(tree)
    generators = _exchanges(tree, 0, rank)
    permutations: dict[tuple[int, ...], int] = {tuple(range(rank)): 1}
    frontier = dict(permutations)
    while frontier:
        products = {
            tuple(order[place] for place in step): sign * step_sign
            for order, sign in frontier.items()
            for step, step_sign in generators
        }
        frontier = {order: sign for order, sign in products.items() if order not in permutations}
        permutations |= frontier
    indices = np.array(list(itertools.product(range(3), repeat=rank)))
    places = 3 ** np.arange(rank)[::-1]
    average = np.zeros((len(indices), len(indices)))
    for order, sign in permutations.items():
        average[indices[:, order] @ places, np.arange(len(indices))] += sign
    # columns are equal (up to sign) or orthogonal: keep each at its first entry
    first = np.argmax(average != 0, axis=0)
    kept = np.flatnonzero((first == np.arange(len(indices))) & np.any(average != 0, axis=0))
    basis = average[:, kept] / np.linalg.norm(average[:, kept], axis=0)
    basis.setflags(write=False)
    return basis


def _turn(operation: np.ndarray, tensors: np.ndarray, rank: int) -> np.ndarray:
    """g_ia g_jb … T_ab… for tensors (3, …, 3, m) with `rank` leading indices."""
    for place in range(rank):
        tensors = np.moveaxis(np.tensordot(operation, tensors, axes=(1, place)), 0, place)
    return tensors


def _derive(spin: np.ndarray, tensors: np.ndarray, rank: int) -> np.ndarray:
    """d/dθ of `_turn` for exp(θ spin) at θ = 0."""
    return sum(
        (np.moveaxis(np.tensordot(spin, tensors, axes=(1, place)), 0, place) for place in range(rank)),
        np.zeros_like(tensors),
    )


@cache
def _standard_space(symbol: str, symmetry: str, axial: bool) -> np.ndarray:
    group = PointGroup(symbol)
    basis = _index_basis(symmetry)
    rank = _width(_parse(symmetry))
    shaped = basis.reshape((3,) * rank + (-1,))
    size = basis.shape[1]
    # the invariant tensors are the null space of this: no group average, so limit groups need no other way
    defect = np.zeros((size, size))
    for operation in group.generators:
        factor = float(np.sign(np.linalg.det(operation))) if axial else 1.0
        change = factor * basis.T @ _turn(operation, shaped, rank).reshape(-1, size) - np.eye(size)
        defect += change.T @ change
    for spin in group.infinitesimal_generators:
        change = basis.T @ _derive(spin, shaped, rank).reshape(-1, size)
        defect += change.T @ change
    values, vectors = np.linalg.eigh(defect)
    null = vectors[:, values < 1e-9 * max(1.0, float(values[-1]))]
    projector = null @ null.T
    # Gram–Schmidt on the projections of single components: few entries, and the same on every machine
    chosen: list[np.ndarray] = []
    for column in projector.T:
        rest = column
        for _ in range(2):
            rest = rest - sum((known * (known @ rest) for known in chosen), np.zeros(size))
        if np.linalg.norm(rest) > 1e-6:
            rest = np.where(np.abs(rest) < 1e-14, 0.0, rest)
            chosen.append(rest / np.linalg.norm(rest))
    counted = tensor_count(group, symmetry, axial)
    if len(chosen) != counted:
        raise AssertionError(f"found {len(chosen)} invariant tensors {symmetry} of {symbol}, characters say {counted}")
    space = (np.array(chosen).reshape(-1, size) @ basis.T).reshape((len(chosen),) + (3,) * rank)
    space.setflags(write=False)
    return space


def _check_group(where: str, group: object) -> PointGroup:
    if not isinstance(group, PointGroup):
        raise TypeError(f"{where}: expected a PointGroup, got {type(group).__name__}. Write PointGroup('32').")
    return group


def tensor_space(group: PointGroup, symmetry: str, axial: bool = False) -> np.ndarray:
    """Orthonormal basis of the tensors that have an index symmetry and that every operation of a group leaves alone.

    Parameters
    ----------
    group : PointGroup
        One of the 32 groups or a Curie limit group, improper operations included.
    symmetry : str
        Index symmetry, such as "i(jk)" for piezoelectric tensors (see the module).
    axial : bool
        Whether the tensor takes an extra factor det g under an operation g, as a gyration tensor does.

    Returns
    -------
    array (k, 3, …, 3)
        In the frame of the group; k = 0 where the group leaves no such tensor. Full tensor components, orthonormal in
        Σ_ij… A_ij… B_ij….

    Raises
    ------
    TypeError
        Where `group` is no PointGroup.
    ValueError
        For an index symmetry that does not read, or of a rank beyond 6.
    """
    _check_group("tensor_space", group)
    space = _standard_space(group.symbol, symmetry, bool(axial))
    rank = space.ndim - 1
    if np.array_equal(group.frame, np.eye(3)):
        return space.copy()
    return np.moveaxis(_turn(group.frame, np.moveaxis(space, 0, -1), rank), -1, 0)


def invariant_part(tensor: np.ndarray, group: PointGroup, symmetry: str, axial: bool = False) -> np.ndarray:
    """The part (..., 3, …, 3) of a tensor that a group leaves alone: for a finite group its average over the group.

    Parameters
    ----------
    tensor : array (..., 3, …, 3)
        In the frame of the group. It need not have the index symmetry.
    group, symmetry, axial
        As in `tensor_space`.
    """
    space = tensor_space(group, symmetry, axial)
    tensor = np.asarray(tensor, dtype=float)
    rank = space.ndim - 1
    if tensor.shape[tensor.ndim - rank :] != (3,) * rank:
        raise ValueError(
            f"invariant_part: expected a tensor of shape (..., {', '.join('3' * rank)}) for {symmetry!r}, got "
            f"{tensor.shape}. Mandel vectors go through crystals.mandel.from_mandel."
        )
    flat = space.reshape(len(space), 3**rank)
    return ((tensor.reshape((*tensor.shape[: tensor.ndim - rank], 3**rank)) @ flat.T) @ flat).reshape(tensor.shape)


def _character(tree: _Tree, power: int, sums: list[np.ndarray]) -> np.ndarray:
    """Character at gᵏ, k = `power`, from the traces sums[k] = tr gᵏ.

    Symmetric and antisymmetric powers by Newton: n h_n = Σ_j χ(gʲ) h_{n−j}, n e_n = Σ_j (−1)^{j−1} χ(gʲ) e_{n−j}.
    """
    if isinstance(tree, str):
        return sums[power]
    sign, parts = tree
    if sign == 0:
        return np.prod([_character(part, power, sums) for part in parts], axis=0)
    powers = [np.ones_like(sums[1])]
    for n in range(1, len(parts) + 1):
        terms = [sign ** (j - 1) * _character(parts[0], power * j, sums) * powers[n - j] for j in range(1, n + 1)]
        powers.append(np.sum(terms, axis=0) / n)
    return powers[-1]


def _weighted_operations(group: PointGroup, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Operations (n, 3, 3) in the standard frame and weights (n,), whose average of characters is the group's.

    For the limits the trapezoidal rule over the angle θ is exact, with the weight 1 − cos θ on the classes of the full
    rotation group (Weyl 1925).
    """
    standard = PointGroup(group.symbol)
    if standard.is_finite:
        operations = standard.operations
        return operations, np.full(len(operations), 1.0 / len(operations))
    number = 2 * rank + 4
    angles = 2.0 * np.pi * np.arange(number) / number
    turns = np.zeros((number, 3, 3))
    turns[:, 0, 0] = turns[:, 1, 1] = np.cos(angles)
    turns[:, 1, 0], turns[:, 0, 1], turns[:, 2, 2] = np.sin(angles), -np.sin(angles), 1.0
    weights = (1.0 - np.cos(angles)) / number if standard.system == "isotropic" else np.full(number, 1.0 / number)
    # the discrete generators commute and are of order 2
    for generator in standard.generators:
        turns, weights = np.concatenate([turns, turns @ generator]), np.concatenate([weights, weights]) / 2.0
    return turns, weights


def tensor_count(group: PointGroup, symmetry: str, axial: bool = False) -> int:
    """Number of independent constants of a tensor, from characters alone: the mean over the group of its character.

    Independent of `tensor_space`: only traces of powers of the operations enter, no tensor is made (Bhagavantam and
    Suryanarayana 1949; Jahn 1949, Acta Cryst. 2, 30).

    Parameters
    ----------
    group, symmetry, axial
        As in `tensor_space`.
    """
    _check_group("tensor_count", group)
    tree = _parse(symmetry)
    rank = _width(tree)
    operations, weights = _weighted_operations(group, rank)
    sums, power = [np.full(len(operations), 3.0)], np.broadcast_to(np.eye(3), operations.shape)
    for _ in range(rank):
        power = power @ operations
        sums.append(np.trace(power, axis1=1, axis2=2))
    characters = _character(tree, 1, sums)
    if axial:
        characters = characters * np.sign(np.linalg.det(operations))
    mean = float(weights @ characters)
    assert abs(mean - round(mean)) < 1e-6
    return round(mean)


def independent_components(space: np.ndarray, components: list[tuple[int, ...]]) -> list[int]:
    """Places in `components` (index tuples, tried in this order) that fix a tensor of the space (k, 3, …, 3)."""
    chosen: list[int] = []
    rows: list[np.ndarray] = []
    for place, component in enumerate(components):
        row = space[(slice(None), *component)]
        if len(rows) < len(space) and np.linalg.matrix_rank(np.array([*rows, row]), tol=1e-9) > len(rows):
            chosen.append(place)
            rows.append(row)
    return chosen
