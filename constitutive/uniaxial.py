"""A crystal stretched along one of its directions: stress, energy and stability on the way.

for step in uniaxial(copper, [1, 1, 0], to=0.05):                       # lateral faces free
    print(step.strain, step.stress, step.elliptic)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from crystals import mandel
from crystals.moduli import smallest_acoustic_eigenvalue
from crystals.rotations import rotation_to_direction

from .driver import PointResponse, load_path
from .laws.law import Law


class UniaxialStep(NamedTuple):
    """One state of uniaxial loading.

    Attributes
    ----------
    strain : float
        Length of the loaded fibre over its reference length, minus 1 (small-strain law: ε11).
    stress : float
        Force along the loaded fibre per reference area.
    true_stress : float
        Cauchy stress along the loaded fibre.
    energy : float
        Energy per reference volume.
    acoustic : float
        Smallest eigenvalue of the acoustic tensor over all directions, from the law's tangent.
    elliptic : bool
        Whether that is positive.
    point : PointResponse
        The whole response, in a sample frame whose first axis is the loaded direction.
    """

    strain: float
    stress: float
    true_stress: float
    energy: float
    acoustic: float
    elliptic: bool
    point: PointResponse


def loaded_axes(direction: Any) -> np.ndarray:
    """Rows (3, 3): axes of `uniaxial`'s sample frame in the crystal frame, the loaded direction (3,) first."""
    return rotation_to_direction(np.asarray(direction, dtype=float), np.array([1.0, 0.0, 0.0]))


def uniaxial(
    law: Law,
    direction: Any,
    to: float | list[float],
    *,
    steps: int = 20,
    held: tuple[str, ...] = (),
    rate: float | None = None,
) -> Iterator[UniaxialStep]:
    """Stretch a crystal along one of its directions, lateral faces free.

    Where only S11 differs from zero, so do only P and σ along the loaded fibre: with λ its stretch, the nominal stress
    is λ S11 and the true stress λ² S11 / J.

    Parameters
    ----------
    law : Law
    direction : (3,)
        Loaded direction in the law's Cartesian crystal frame; for a cubic crystal its Miller indices.
    to : float or list of float
        Nominal strain λ − 1 to load to; several are visited in turn, such as [0.05, 0].
    steps : int
        Steps to each of them.
    held : tuple of str
        Components whose *strain* is held at zero instead, in a frame with the loaded direction as first axis:
        ('22',) is plane strain, all five uniaxial strain. Which way the second axis points is that of `loaded_axes`.
    rate : float, optional
        Nominal strain per unit time, for laws that depend on it.

    Yields
    ------
    UniaxialStep

    Raises
    ------
    ValueError
        For arguments that make no path.
    RuntimeError
        As `load_path`.
    """
    where = "uniaxial"
    turning = np.atleast_1d(np.asarray(to, dtype=float))
    small = law.strain_measure == "small"
    if turning.ndim != 1 or not len(turning) or not np.all(np.isfinite(turning)) or (not small and min(turning) <= -1):
        raise ValueError(f"{where}: expected finite strains λ − 1 above −1, got {to}. To 5 % is to=0.05.")
    if steps < 1:
        raise ValueError(f"{where}: expected steps ≥ 1, got {steps}.")
    if rate is not None and not 0 < rate < float("inf"):
        raise ValueError(f"{where}: expected a finite rate > 0, got {rate}. It is a strain per unit time.")
    if law.rate_dependent and rate is None:
        raise ValueError(f"{where}: expected a rate, got none. This law depends on it; pass a strain per unit time.")
    names = [f"{i + 1}{j + 1}" for i, j in mandel.PAIRS]
    unknown = [name for name in held if name not in names[1:]]
    if unknown:
        raise ValueError(
            f"{where}: expected held components among {', '.join(names[1:])}, got {', '.join(unknown)}. 11 is loaded."
        )
    turn = loaded_axes(direction)
    given = np.array([name != "11" and name not in held for name in names])
    corners = np.concatenate([[0.0], turning])
    parts = [np.linspace(a, b, steps + 1)[1:] for a, b in zip(corners[:-1], corners[1:], strict=True)]
    nominal = np.concatenate(parts)
    targets = np.zeros((len(nominal), 6))
    targets[:, 0] = nominal if small else nominal + 0.5 * nominal**2
    dt = None if rate is None else np.abs(np.diff(nominal, prepend=0.0)) / rate
    path = load_path(law, targets, stress_given=given, dt=dt, orientation=turn)
    return (_uniaxial_step(value, point, small) for value, point in zip(nominal.tolist(), path, strict=True))


def _uniaxial_step(nominal: float, point: PointResponse, small: bool) -> UniaxialStep:
    second = mandel.from_mandel(point.stress)[0]
    if small:
        stress = true_stress = float(second[0, 0])
        gradient, load = np.eye(3)[None], np.zeros((1, 6))
    else:
        gradient, load = mandel.right_stretch(point.strain), point.stress
        stretch = 1.0 + nominal
        fibre = np.eye(3)[0] + 2.0 * mandel.from_mandel(point.strain)[0, 0]
        stress = float(fibre @ second[0]) / stretch
        # a·σ·a along the fibre a = F e₁ / λ, with Fᵀ a = (1 + 2E) e₁ / λ
        true_stress = float(fibre @ second @ fibre) / (stretch**2 * float(np.linalg.det(gradient[0])))
    acoustic = float(smallest_acoustic_eigenvalue(point.tangent, load, gradient)[0])
    return UniaxialStep(nominal, stress, true_stress, float(point.energy[0]), acoustic, acoustic > 0.0, point)
