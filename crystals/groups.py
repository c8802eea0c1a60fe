"""The 32 crystallographic point groups and the Curie limit groups.

Finite groups are closed from a few generators. Infinite ones are given by infinitesimal rotations and discrete
generators; they are never closed or averaged over. Standard frame: z along c, x along a; monoclinic classes have their
unique axis along y (b). Settings: 321, 3m1 and -3m1 (twofold axis, or mirror normal, along x), -42m (twofold axis
along x), -6m2 (mirror normal along x), mm2 (twofold axis along z). International Tables A, chapter 10.1.
"""

from __future__ import annotations

import itertools
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .rotations import check_rotation, rotation_about, rotation_to_direction

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms
    from pymatgen.core import Structure

_X, _Y, _Z, _DIAGONAL, _BODY = np.eye(3)[0], np.eye(3)[1], np.eye(3)[2], np.array([1.0, 1.0, 0.0]), np.ones(3)
_INVERSION = -np.eye(3)


def _turn(order: int, axis: np.ndarray) -> np.ndarray:
    return rotation_about(axis, 2.0 * np.pi / order)


def _mirror(normal: np.ndarray) -> np.ndarray:
    return -_turn(2, normal)


# symbol: (Laue class, system, generators)
_FINITE: dict[str, tuple[str, str, list[np.ndarray]]] = {
    "1": ("-1", "triclinic", []),
    "-1": ("-1", "triclinic", [_INVERSION]),
    "2": ("2/m", "monoclinic", [_turn(2, _Y)]),
    "m": ("2/m", "monoclinic", [_mirror(_Y)]),
    "2/m": ("2/m", "monoclinic", [_turn(2, _Y), _INVERSION]),
    "222": ("mmm", "orthorhombic", [_turn(2, _X), _turn(2, _Z)]),
    "mm2": ("mmm", "orthorhombic", [_mirror(_X), _turn(2, _Z)]),
    "mmm": ("mmm", "orthorhombic", [_turn(2, _X), _turn(2, _Z), _INVERSION]),
    "4": ("4/m", "tetragonal", [_turn(4, _Z)]),
    "-4": ("4/m", "tetragonal", [-_turn(4, _Z)]),
    "4/m": ("4/m", "tetragonal", [_turn(4, _Z), _INVERSION]),
    "422": ("4/mmm", "tetragonal", [_turn(4, _Z), _turn(2, _X)]),
    "4mm": ("4/mmm", "tetragonal", [_turn(4, _Z), _mirror(_X)]),
    "-42m": ("4/mmm", "tetragonal", [-_turn(4, _Z), _turn(2, _X)]),
    "4/mmm": ("4/mmm", "tetragonal", [_turn(4, _Z), _turn(2, _X), _INVERSION]),
    "3": ("-3", "trigonal", [_turn(3, _Z)]),
    "-3": ("-3", "trigonal", [_turn(3, _Z), _INVERSION]),
    "32": ("-3m", "trigonal", [_turn(3, _Z), _turn(2, _X)]),
    "3m": ("-3m", "trigonal", [_turn(3, _Z), _mirror(_X)]),
    "-3m": ("-3m", "trigonal", [_turn(3, _Z), _turn(2, _X), _INVERSION]),
    "6": ("6/m", "hexagonal", [_turn(6, _Z)]),
    "-6": ("6/m", "hexagonal", [-_turn(6, _Z)]),
    "6/m": ("6/m", "hexagonal", [_turn(6, _Z), _INVERSION]),
    "622": ("6/mmm", "hexagonal", [_turn(6, _Z), _turn(2, _X)]),
    "6mm": ("6/mmm", "hexagonal", [_turn(6, _Z), _mirror(_X)]),
    "-6m2": ("6/mmm", "hexagonal", [-_turn(6, _Z), _mirror(_X)]),
    "6/mmm": ("6/mmm", "hexagonal", [_turn(6, _Z), _turn(2, _X), _INVERSION]),
    "23": ("m-3", "cubic", [_turn(3, _BODY), _turn(2, _Z)]),
    "m-3": ("m-3", "cubic", [_turn(3, _BODY), _turn(2, _Z), _INVERSION]),
    "432": ("m-3m", "cubic", [_turn(3, _BODY), _turn(4, _Z)]),
    "-43m": ("m-3m", "cubic", [_turn(3, _BODY), -_turn(4, _Z)]),
    "m-3m": ("m-3m", "cubic", [_turn(3, _BODY), _turn(4, _Z), _INVERSION]),
}

# d/dθ of a rotation about x, y, z at θ = 0.
_SPIN = -np.array(
    [[[float(np.linalg.det(np.eye(3)[[i, j, k]])) for k in range(3)] for j in range(3)] for i in range(3)]
)

# symbol: (Laue class, system, infinitesimal rotations, discrete generators)
_INFINITE: dict[str, tuple[str, str, list[np.ndarray], list[np.ndarray]]] = {
    "∞": ("∞/m", "transversely isotropic", [_SPIN[2]], []),
    "∞m": ("∞/mm", "transversely isotropic", [_SPIN[2]], [_mirror(_X)]),
    "∞2": ("∞/mm", "transversely isotropic", [_SPIN[2]], [_turn(2, _X)]),
    "∞/m": ("∞/m", "transversely isotropic", [_SPIN[2]], [_INVERSION]),
    "∞/mm": ("∞/mm", "transversely isotropic", [_SPIN[2]], [_turn(2, _X), _INVERSION]),
    "∞∞": ("∞∞m", "isotropic", list(_SPIN), []),
    "∞∞m": ("∞∞m", "isotropic", list(_SPIN), [_INVERSION]),
}

_ALIASES = {
    "isotropic": "∞∞m", "transversely isotropic": "∞/mm", "m3m": "m-3m", "m3": "m-3", "321": "32", "3m1": "3m",
    "-3m1": "-3m",
}  # fmt: skip
# Other settings of a group: (symbol, turn about z in degrees from the standard frame).
_SETTINGS = {
    "-4m2": ("-42m", 45.0),
    "-62m": ("-6m2", 30.0),
    "312": ("32", 30.0),
    "31m": ("3m", 30.0),
    "-31m": ("-3m", 30.0),
}

#: The 32 crystallographic point groups, Hermann–Mauguin symbols.
POINT_GROUPS = tuple(_FINITE)
#: The seven Curie limit groups.
CURIE_GROUPS = tuple(_INFINITE)
#: The eleven Laue classes.
LAUE_CLASSES = ("-1", "2/m", "mmm", "4/m", "4/mmm", "-3", "-3m", "6/m", "6/mmm", "m-3", "m-3m")
#: What strain → stress can tell apart: Laue classes and the limits ∞/m, ∞/mm (transversely isotropic), ∞∞m (isotropic).
STRAIN_CLASSES = LAUE_CLASSES + ("∞/m", "∞/mm", "∞∞m")


def _embeddings() -> list[np.ndarray]:
    """Turns from a group's standard frame to those in which its subgroups may lie, the identity first."""
    # axis order changed (2/m about z or x), a diagonal of the plane as x, the hexagonal half-way, [111] as z
    permuted = [np.eye(3), rotation_about(_BODY, 2 * np.pi / 3), rotation_about(_BODY, -2 * np.pi / 3)]
    planar = [rotation_about(_Z, np.radians(angle)) for angle in (0.0, 45.0, 30.0, 60.0, 90.0)]
    body = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0], [1.0, 1.0, 1.0]])
    along_body = (body / np.linalg.norm(body, axis=1)[:, None]).T
    turns = [axes @ turn @ order for order in permuted for turn in planar for axes in permuted]
    turns += [along_body @ turn @ order for order in permuted for turn in planar]
    return turns


_EMBEDDINGS = _embeddings()


def _tidy(matrices: np.ndarray) -> np.ndarray:
    """Entries of standard-frame operations are 0, ±½, ±√3/2, ±1: take them exactly."""
    exact = np.array([0.0, 0.5, np.sqrt(0.75), 1.0, -0.5, -np.sqrt(0.75), -1.0])
    return exact[np.argmin(np.abs(matrices[..., None] - exact), axis=-1)]


def _close(generators: list[np.ndarray], limit: int = 192, tolerance: float = 1e-6) -> np.ndarray:
    """All products of the generators, the identity first."""
    elements = np.eye(3)[None]
    frontier = elements
    while len(frontier):
        start = len(elements)
        for element, generator in itertools.product(frontier, generators):
            product = generator @ element
            if np.abs(elements - product).max(axis=(1, 2)).min() > tolerance:
                elements = np.concatenate([elements, product[None]])
        frontier = elements[start:]
        if len(elements) > limit:
            raise ValueError(
                f"PointGroup: expected operations that close into a finite group, got more than {limit} products. "
                "Check the matrices, or name a Curie limit group such as '∞/mm'."
            )
    return elements


@cache
def _standard_operations(symbol: str) -> np.ndarray:
    operations = _tidy(_close([_tidy(generator) for generator in _FINITE[symbol][2]]))
    operations.setflags(write=False)
    return operations


def _kind(operation: np.ndarray) -> int:
    """Order of a crystallographic operation, negative for improper ones: 1 2 3 4 6 −1 −2 −3 −4 −6."""
    sign = 1 if np.linalg.det(operation) > 0 else -1
    trace = round(float(np.trace(operation)) * sign)
    orders = {3: 1, -1: 2, 0: 3, 1: 4, 2: 6}
    if trace not in orders or abs(float(np.trace(operation)) * sign - trace) > 0.1:
        raise ValueError(
            f"PointGroup: expected crystallographic operations (rotations of order 1, 2, 3, 4 or 6, with or without "
            f"inversion), got one of trace {float(np.trace(operation)):.3f}. Use Cartesian, not fractional, matrices."
        )
    return sign * orders[trace]


def _axis(operation: np.ndarray) -> np.ndarray:
    """Rotation axis of a proper operation that is not the identity, by its dominant eigenvector for eigenvalue 1."""
    values, vectors = np.linalg.eig(operation)
    axis = np.real(vectors[:, np.argmin(np.abs(values - 1.0))])
    return axis / np.linalg.norm(axis)


def _census(operations: np.ndarray) -> tuple[int, ...]:
    return tuple(sorted(_kind(operation) for operation in operations))


def _same_set(first: np.ndarray, second: np.ndarray, tolerance: float) -> bool:
    distance = np.max(np.abs(first[:, None] - second[None]), axis=(-1, -2))
    return bool(np.all(distance.min(axis=1) < tolerance) and np.all(distance.min(axis=0) < tolerance))


def _marked_axes(operations: np.ndarray) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Distinct axes of a group, each with the sorted kinds of the operations about it."""
    axes: list[tuple[list[int], np.ndarray]] = []
    for operation in operations:
        kind = _kind(operation)
        if abs(kind) == 1:
            continue
        axis = _axis(operation if kind > 0 else -operation)
        for kinds, known in axes:
            if abs(float(axis @ known)) > 0.98:
                kinds.append(kind)
                break
        else:
            axes.append(([kind], axis))
    return [(tuple(sorted(kinds)), axis) for kinds, axis in axes]


def _find_frame(standard: np.ndarray, operations: np.ndarray, tolerance: float) -> np.ndarray:
    """The rotation Q nearest to the identity with Q G_standard Qᵀ = operations."""
    ours, theirs = _marked_axes(standard), _marked_axes(operations)
    candidates: list[np.ndarray] = []
    if not ours:
        return np.eye(3)
    ours.sort(key=lambda item: -len(item[0]))
    first_kinds, first = ours[0]
    second = next((item for item in ours[1:] if abs(float(item[1] @ first)) < 0.98), None)
    for kinds, axis in theirs:
        if kinds != first_kinds:
            continue
        for sign in (1.0, -1.0):
            align = rotation_to_direction(first, sign * axis)
            if second is None:
                candidates.append(align)
                continue
            for other_kinds, other in theirs:
                for other_sign in (1.0, -1.0):
                    same_angle = abs(float(first @ second[1]) - float(axis @ other) * sign * other_sign) < 0.05
                    if other_kinds != second[0] or not same_angle:
                        continue
                    turned = align @ second[1]
                    unit = sign * axis
                    planar, target = turned - (turned @ unit) * unit, other_sign * (other - (other @ unit) * unit)
                    angle = np.arctan2(unit @ np.cross(planar, target), planar @ target)
                    candidates.append(rotation_about(unit, float(angle)) @ align)
    fitting = [q for q in candidates if _same_set(q @ standard @ q.T, operations, tolerance)]
    if not fitting:
        raise ValueError(
            f"PointGroup: expected operations of a point group to within {tolerance:g}, got matrices that match the "
            "counts of one but not its geometry. Raise the tolerance, or symmetrise the structure first."
        )
    # ties (31m, -4m2: a turn either way) must not hang on rounding: the positive turn about z, then about y and x
    return max(fitting, key=lambda q: tuple(np.round([np.trace(q), q[1, 0] - q[0, 1], q[0, 2], q[2, 1]], 5)))


def stated_group(found: PointGroup, stated: str) -> PointGroup:
    """The group a user states for a crystal, in the frame of the group that was found, if the crystal has it.

    Parameters
    ----------
    found : PointGroup
        What `PointGroup.from_structure` found.
    stated : str
        Symbol of the same group or of one of its subgroups (a lower symmetry is no mistake: the crystal has it too).

    Returns
    -------
    PointGroup
        The stated group, in the frame of `found`, or, where that does not hold it (-3m within m-3m, about [111]),
        turned from there to where it lies.

    Raises
    ------
    ValueError
        Where the operations stated are not among those found.
    """
    wanted = PointGroup(stated)
    generator = np.random.default_rng(0)
    for turn in _EMBEDDINGS:
        # wanted.frame is the turn of a setting such as -4m2
        candidate = PointGroup(wanted.symbol, found.frame @ turn @ wanted.frame)
        if _contains(found, candidate.sample(16, generator)):
            return candidate
    same = f" It has the strain response of {found.laue.symbol}." if found.laue.symbol == wanted.symbol else ""
    raise ValueError(
        f"point group: expected {found.symbol}, which the structure shows, or one of its subgroups, got "
        f"{wanted.symbol}, whose operations it does not have.{same} Correct the statement, leave it out, or look for a "
        "distorted structure."
    )


def _contains(group: PointGroup, operations: np.ndarray, tolerance: float = 1e-6) -> bool:
    """Whether every operation (n, 3, 3) belongs to a group, finite or not."""
    if group.is_finite:
        distance = np.max(np.abs(operations[:, None] - group.operations[None]), axis=(-1, -2))
        return bool(np.all(distance.min(axis=1) < tolerance))
    local = group.frame.T @ operations @ group.frame
    proper = np.linalg.det(local) > 0
    along = local[:, 2, 2]
    in_plane = np.linalg.det(local[:, :2, :2])
    kept = np.abs(np.abs(along) - 1.0) < tolerance
    belongs = {
        "∞∞m": np.ones(len(local), dtype=bool),
        "∞∞": proper,
        "∞/mm": kept,
        "∞/m": kept & (in_plane > 0),
        "∞2": kept & proper,
        "∞m": kept & (along > 0),
        "∞": kept & (along > 0) & proper,
    }[group.symbol]
    return bool(np.all(belongs))


class PointGroup:
    """A crystallographic point group or Curie limit group in a stated frame.

    Parameters
    ----------
    symbol : str
        Hermann–Mauguin symbol ('m-3m', '-3m', '2/m' …), a Curie group ('∞/mm', ASCII 'inf/mm'), or 'isotropic',
        'transversely isotropic'. Another setting (-4m2, -62m, 312, 31m, -31m) becomes the standard symbol with its
        frame turned about z, by 45° or 30°, so that x stays along a.
    frame : array (3, 3), optional
        Rotation Q from the group's standard frame (z ∥ c, x ∥ a) to the frame in which strains are given; the
        operations are Q g Qᵀ. Identity by default.

    Raises
    ------
    TypeError
        For a symbol that is no string.
    ValueError
        For an unknown symbol, or a frame that is not a proper rotation.

    Notes
    -----
    Two groups are equal where they hold the same operations (to 1e-9), whatever frame says so.
    """

    def __init__(self, symbol: str, frame: np.ndarray | None = None) -> None:
        if not isinstance(symbol, str):
            raise TypeError(
                f"PointGroup: expected a symbol such as 'm-3m', got {type(symbol).__name__}. For a structure use "
                "PointGroup.from_structure, for matrices PointGroup.from_operations."
            )
        name = _ALIASES.get(symbol.strip(), symbol.strip()).replace("inf", "∞").replace("∞∞/m", "∞∞m")
        name, degrees = _SETTINGS.get(name, (name, 0.0))
        if name not in _FINITE and name not in _INFINITE:
            raise ValueError(
                f"PointGroup: expected a Hermann–Mauguin symbol, one of {', '.join(POINT_GROUPS)}, or a limit group, "
                f"one of {', '.join(CURIE_GROUPS)}, 'isotropic', 'transversely isotropic', got {symbol!r}. "
                "A space group such as Fm-3m goes by its point group, m-3m."
            )
        self.symbol = name
        frame = np.eye(3) if frame is None else check_rotation("PointGroup(frame)", frame)
        if frame.shape != (3, 3):
            raise ValueError(
                f"PointGroup: expected one frame of shape (3, 3), got {frame.shape}. Make one group for each frame."
            )
        self.frame = frame @ rotation_about(_Z, np.radians(degrees)) if degrees else frame

    @classmethod
    def from_operations(cls, operations: Any, tolerance: float = 0.05) -> PointGroup:
        """The group generated by Cartesian operations (n, 3, 3), its frame found nearest to the identity.

        The matrices may carry errors up to `tolerance`; the group returned is exact.

        Operations alone do not always fix the crystal's axes: a monoclinic group leaves the angle about its axis open,
        a triclinic one everything, -3m a half turn about c (the sign of C14), 4/mmm a turn by 45°, 6/mmm by 30°, m-3 by
        90°, mmm the order of its axes. The frame is then the one nearest to the identity, which need not be the crystal
        convention and does not turn with the crystal. `from_structure` follows the lattice and has no such freedom.

        Raises
        ------
        ValueError
            For no matrices, or matrices that are not orthogonal or do not make one of the 32 groups.
        """
        given = np.asarray(operations, dtype=float)
        if given.ndim != 3 or given.shape[1:] != (3, 3) or not np.all(np.isfinite(given)):
            raise ValueError(
                f"PointGroup.from_operations: expected finite matrices (n, 3, 3), got {given.shape}. Stack them, and "
                "look for NaN."
            )
        if len(given) == 0:
            raise ValueError(
                "PointGroup.from_operations: expected at least one operation, got none. The group 1 is np.eye(3)[None]."
            )
        # Nearest orthogonal matrices: distorted cells give operations that are slightly off.
        left, stretches, right = np.linalg.svd(given)
        if np.max(np.abs(stretches - 1.0), initial=0.0) > tolerance:
            raise ValueError(
                f"PointGroup.from_operations: expected orthogonal matrices to within {tolerance:g}, got singular "
                f"values from {stretches.min():.3f} to {stretches.max():.3f}. Use Cartesian, not fractional, matrices."
            )
        closed = _close(list(left @ right), tolerance=2 * tolerance)
        census = _census(closed)
        for symbol in POINT_GROUPS:
            standard = _standard_operations(symbol)
            if len(standard) == len(closed) and _census(standard) == census:
                frame = _find_frame(standard, closed, 4 * tolerance)
                if _same_set(standard, closed, 1e-9):
                    frame = np.eye(3)
                return cls(symbol, frame)
        raise ValueError(
            f"PointGroup.from_operations: expected one of the 32 point groups, got {len(closed)} operations with kinds "
            f"{census}. Check the matrices."
        )

    @classmethod
    def from_structure(cls, structure: Structure | Atoms | str | Path, symprec: float = 0.01) -> PointGroup:
        """The point group of a pymatgen `Structure` (or ASE `Atoms`) in the Cartesian frame of its lattice.

        The frame follows the lattice, not the Cartesian axes: z ∥ c and x ∥ a (its part normal to c) of the
        conventional cell, so that a turned structure gives the turned frame. Where a group's standard setting does not
        have x along a (31m, 312, -4m2, -62m), it is the setting's own turn about z from there. The structure's own cell
        is the conventional one where it qualifies (see `structures.conventional_axes`).

        Parameters
        ----------
        structure : pymatgen Structure, ASE Atoms or path
        symprec : float
            Distance (Å) within which atoms count as equivalent.
        """
        from .structures import conventional_axes, symmetry_operations  # import moyo and ASE only here

        axes = conventional_axes(structure, symprec)
        operations = symmetry_operations(structure, symprec)
        group = cls.from_operations(axes.T @ operations @ axes)
        frame = axes @ group.frame
        # Frames that differ by a rotation of the group are the same: take the one nearest to the Cartesian axes.
        turns = _standard_operations(group.symbol)
        frames = frame @ turns[np.linalg.det(turns) > 0]
        frame = frames[int(np.argmax(np.round(np.trace(frames, axis1=1, axis2=2), 9)))]
        return cls(group.symbol, np.eye(3) if np.allclose(frame, np.eye(3), atol=1e-9) else frame)

    @property
    def is_finite(self) -> bool:
        return self.symbol in _FINITE

    @property
    def system(self) -> str:
        """Crystal system, or 'transversely isotropic', 'isotropic'."""
        return (_FINITE if self.is_finite else _INFINITE)[self.symbol][1]

    @property
    def laue(self) -> PointGroup:
        """The Laue class (the group with the inversion added): all that strain → stress can see.

        W(E) is even under inversion, because E does not change, so 432, -43m and m-3m have the same laws.
        """
        return PointGroup((_FINITE if self.is_finite else _INFINITE)[self.symbol][0], self.frame)

    @property
    def seen_by_strain(self) -> str:
        """A sentence: which symmetry a law of strain has, and why."""
        laue = self.laue.symbol
        if self.symbol == laue:
            return f"a law of strain has the symmetry {laue}"
        return f"a law of strain has the symmetry {laue}, the Laue class of {self.symbol}: inversion leaves every strain as it is"

    @cached_property
    def operations(self) -> np.ndarray:
        """All operations (n, 3, 3) of a finite group, the identity first."""
        if not self.is_finite:
            raise ValueError(
                f"PointGroup.operations: expected a finite group, got {self.symbol}, which has infinitely many. "
                "Use generators and infinitesimal_generators."
            )
        return self.frame @ _standard_operations(self.symbol) @ self.frame.T

    @property
    def rotations(self) -> np.ndarray:
        """The proper operations of the Laue class (n, 3, 3): how the group acts on strain."""
        operations = self.laue.operations
        return operations[np.linalg.det(operations) > 0]

    @property
    def generators(self) -> np.ndarray:
        """Discrete generators (n, 3, 3)."""
        found = _FINITE[self.symbol][2] if self.is_finite else _INFINITE[self.symbol][3]
        return self.frame @ _tidy(np.array(found).reshape(-1, 3, 3)) @ self.frame.T

    @property
    def infinitesimal_generators(self) -> np.ndarray:
        """Skew matrices (n, 3, 3) that generate the continuous rotations; none for a finite group."""
        found = [] if self.is_finite else _INFINITE[self.symbol][2]
        return self.frame @ np.array(found).reshape(-1, 3, 3) @ self.frame.T

    def sample(self, number: int, generator: np.random.Generator) -> np.ndarray:
        """Operations (m, 3, 3): all of a finite group, `number` random ones (and the generators) of an infinite one."""
        if self.is_finite:
            return self.operations
        found = list(self.generators)
        for _ in range(number):
            turn = np.eye(3)
            for spin in self.infinitesimal_generators:
                angle = generator.uniform(0.0, 2.0 * np.pi)
                turn = (np.eye(3) + np.sin(angle) * spin + (1.0 - np.cos(angle)) * spin @ spin) @ turn
            found.append(turn)
        return np.array(found)

    def __contains__(self, operation: np.ndarray) -> bool:
        """Whether an operation (3, 3), proper or improper, belongs to the group (to 1e-6)."""
        return _contains(self, np.asarray(operation, dtype=float)[None])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PointGroup):
            return NotImplemented
        if self.symbol != other.symbol:
            return False
        if self.is_finite:
            return _same_set(self.operations, other.operations, 1e-9)
        return self.system == "isotropic" or bool(np.linalg.norm(np.cross(self.frame[:, 2], other.frame[:, 2])) < 1e-9)

    def __hash__(self) -> int:
        return hash(self.symbol)

    def __repr__(self) -> str:
        size = f"{len(self.operations)} operations" if self.is_finite else "infinite"
        turned = "" if np.allclose(self.frame, np.eye(3)) else ", frame turned"
        return f"PointGroup({self.symbol!r}, {self.system}, {size}, Laue class {self.laue.symbol}{turned})"

    def _repr_html_(self) -> str:
        from .notebook import group_html  # which knows groups

        return group_html(self)
