"""Where a law loses strong ellipticity: along a path of loads, over a slice of strain space, and a penalty against it.

A law is strongly elliptic at F where the acoustic tensor Q_ik(N) = N_J N_L ∂P_iJ/∂F_kL is positive definite for every
direction N; where its smallest eigenvalue reaches zero, a stationary acceleration wave appears and strain can localise
in a band of normal N (Hill 1962, doi:10.1016/0022-5096(62)90024-8; Ogden 1984, Non-Linear Elastic Deformations, section
6.4). Rotations of F change nothing, so the strain says all: F = U(E).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor
from torch.func import jacfwd, vmap

from crystals import mandel
from crystals.moduli import smallest_acoustic_eigenvalue, softest_wave
from crystals.whole_file import whole_file

from .laws.law import INVALID, Law

#: Half-width of a stability map for a law without a trained range.
DEFAULT_EXTENT = 0.1


def _state(law: Law, strain: np.ndarray, inputs: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tangent, stress and F = U of a law at possible strains (n, 6)."""
    if law.state_width:
        raise ValueError(
            f"stability: expected a law without internal variables, got {law.state_width} per point. Not supported: "
            "history-dependent laws."
        )
    stress, tangent = law.stress_and_tangent(strain, inputs)
    if law.strain_measure == "small":
        # the linear theory has no geometric stress term
        return tangent, np.zeros_like(stress), np.broadcast_to(np.eye(3), (len(strain), 3, 3))
    return tangent, stress, mandel.right_stretch(strain)


def acoustic_eigenvalue(law: Law, strain: np.ndarray, directions: int = 200, inputs: Any = None) -> np.ndarray:
    """Smallest eigenvalue of a law's acoustic tensor over all directions.

    Parameters
    ----------
    law : Law
        Without internal variables.
    strain : array (n, 6)
        Mandel, frame of the law.
    directions : int
        Directions of the grid from which minima are followed down, see `crystals.moduli.smallest_acoustic_eigenvalue`.
    inputs : array (n, k), optional
        Values of the law's `input_names`.

    Returns
    -------
    array (n,)
        Units of the law: positive where it is strongly elliptic. NaN where the strain is not possible (not finite, or
        1 + 2E not positive definite).
    """
    strain = np.asarray(strain, dtype=float)
    possible = law.response(strain, inputs=inputs, tangent=False).status != INVALID
    values = np.full(len(strain), np.nan)
    if np.any(possible):
        given = None if inputs is None else np.asarray(inputs)[possible]
        values[possible] = smallest_acoustic_eigenvalue(*_state(law, strain[possible], given), directions)
    return values


@dataclass(frozen=True)
class EllipticityLimit:
    """Where a path of loads first meets the loss of strong ellipticity.

    Attributes
    ----------
    load : float
        Load at which the smallest acoustic eigenvalue reaches zero.
    strain : array (6,)
        Strain there, Mandel.
    normal, polarisation : array (3,)
        Normal N of the band, in the reference configuration, and direction m in which it moves, for F = U(E). Where the
        symmetry of law and load makes several equivalent, one of them.
    trained : bool
        Whether the strain lies in the law's trained range; elsewhere the limit is an extrapolation.
    """

    load: float
    strain: np.ndarray
    normal: np.ndarray
    polarisation: np.ndarray
    trained: bool


def ellipticity_limit(
    law: Law,
    path: Any,
    interval: tuple[float, float] = (0.0, 1.0),
    *,
    samples: int = 65,
    directions: int = 200,
) -> EllipticityLimit | None:
    """The first load of a path at which a law loses strong ellipticity, by bracketing and Brent's method.

    Parameters
    ----------
    law : Law
        Without internal variables.
    path : array (6,), or function of the load
        A Mandel direction D, for strains E = load · D; or a function that gives F (3, 3) at a load. Frame of the law.
    interval : (float, float)
        First and last load; the first may be the larger one.
    samples : int
        Loads at which the path is looked at first. Minima between them are followed down, so that a short loss between
        two of them is found too.
    directions : int
        As in `acoustic_eigenvalue`.

    Returns
    -------
    EllipticityLimit or None
        None where the law is strongly elliptic all along.

    Raises
    ------
    ValueError
        For a path that is no path, leaves the possible strains, or starts where the law is not elliptic.
    """
    where = "ellipticity_limit"
    start, end = float(interval[0]), float(interval[1])
    if not (np.isfinite(start) and np.isfinite(end) and start != end):
        raise ValueError(f"{where}: expected two different loads, got {interval}. Give (first, last).")
    if samples < 3:
        raise ValueError(f"{where}: expected at least 3 samples, got {samples}.")
    strain_at = _path(path, law.strain_measure)

    def smallest(load: float) -> float:
        return float(acoustic_eigenvalue(law, strain_at(load)[None], directions)[0])

    loads = np.linspace(start, end, samples)
    values = acoustic_eigenvalue(law, np.array([strain_at(load) for load in loads]), directions)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(
            f"{where}: expected possible strains from load {start:g} to {end:g}, got one at {loads[bad[0]]:g} that no "
            f"deformation has. Stop before it: interval=({start:g}, {loads[max(bad[0] - 1, 0)]:g})."
        )
    if not values[0] > 0:
        raise ValueError(
            f"{where}: expected a law that is strongly elliptic at the first load, got a smallest acoustic eigenvalue of "
            f"{values[0]:.3g} {law.units} at {start:g}. Start where it is, such as at the reference state."
        )
    bracket = None
    for place in range(1, samples):
        if values[place] <= 0:
            bracket = loads[place - 1], loads[place]
            break
        beside = values[place - 1], values[min(place + 1, samples - 1)]
        # a minimum that may dip below zero between the samples: its neighbours rise by as much as it still has
        if values[place] <= min(beside) and values[place] <= 2.0 * (max(beside) - values[place]):
            ends = sorted((loads[place - 1], loads[min(place + 1, samples - 1)]))
            lowest: Any = minimize_scalar(smallest, bounds=ends, method="bounded", options={"xatol": 1e-6})
            if lowest.fun <= 0:
                bracket = loads[place - 1], float(lowest.x)
                break
    if bracket is None:
        return None
    load = float(np.asarray(brentq(smallest, *bracket, xtol=1e-13 * abs(end - start))))
    strain = strain_at(load)
    _, normal, polarisation = softest_wave(*_state(law, strain[None]), directions)
    trained = float(np.linalg.norm(strain)) <= law.max_strain
    return EllipticityLimit(load, strain, normal[0], polarisation[0], trained)


def _path(path: Any, measure: str) -> Callable[[float], np.ndarray]:
    if not callable(path):
        direction = np.asarray(path, dtype=float)
        if direction.shape != (6,) or not np.all(np.isfinite(direction)) or not np.any(direction):
            raise ValueError(
                f"ellipticity_limit: expected a nonzero Mandel direction (6,) or a function of the load, got shape "
                f"{direction.shape}. Tensors go through crystals.mandel.to_mandel."
            )
        return lambda load: load * direction

    def strain_at(load: float) -> np.ndarray:
        gradient = np.asarray(path(load), dtype=float)
        if gradient.shape != (3, 3) or not np.linalg.det(gradient) > 0:
            got = f"det F = {np.linalg.det(gradient):.3g}" if gradient.shape == (3, 3) else f"shape {gradient.shape}"
            raise ValueError(
                f"ellipticity_limit: expected a deformation gradient (3, 3) with det F > 0 at load {load:g}, got {got}. "
                "Correct the path or the interval."
            )
        return mandel.to_mandel(gradient - np.eye(3)) if measure == "small" else mandel.green_lagrange(gradient)

    return strain_at


@dataclass(frozen=True)
class StabilityMap:
    """Smallest acoustic eigenvalue over a plane through the reference state: E = x D₁ + y D₂.

    Attributes
    ----------
    x, y : array (n,)
        Coordinates along the two directions.
    values : array (n, n)
        Units of the law; row i, column j belongs to (x[j], y[i]). NaN where no deformation has such a strain.
    labels : (str, str)
        Names of the coordinates.
    units : str
    strain_norm : array (n, n)
        |E| of each strain.
    max_strain : float
        Trained range of the law.
    """

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    labels: tuple[str, str]
    units: str
    strain_norm: np.ndarray
    max_strain: float

    def draw(self, axes: Any) -> None:
        """Draw the map into matplotlib axes: colour where elliptic, hatching where not, the trained range dashed."""
        from matplotlib.ticker import MaxNLocator

        values = np.ma.masked_invalid(self.values)
        top = float(values.max())
        levels = MaxNLocator(11).tick_values(0.0, top if top > 0 else 1.0)
        drawn = axes.contourf(self.x, self.y, values, levels=levels, cmap="viridis")
        axes.figure.colorbar(drawn, ax=axes, label=f"smallest acoustic eigenvalue, {self.units}", format="%g")
        lowest = float(values.min())
        if lowest <= 0:
            axes.contourf(self.x, self.y, values, levels=[lowest - 1.0, 0.0], colors=["0.85"], hatches=["///"])
            axes.contour(self.x, self.y, values, levels=[0.0], colors="k", linewidths=2.0)
        if float(self.strain_norm.max()) > self.max_strain:
            for color, width, style in (("w", 3.0, "-"), ("k", 1.5, "--")):
                axes.contour(self.x, self.y, self.strain_norm, levels=[self.max_strain], colors=color,
                             linewidths=width, linestyles=style)  # fmt: skip
        axes.set(xlabel=self.labels[0], ylabel=self.labels[1], aspect="equal")
        axes.locator_params(nbins=6)

    def plot(self, path: Any) -> None:
        """Write the picture to a file, by matplotlib's own renderer (no display needed)."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 5.0))
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        self.draw(axes)
        axes.set_title("hatched: not strongly elliptic; dashed: trained range", fontsize=10)
        with whole_file(path) as temporary:
            figure.savefig(temporary, dpi=120, bbox_inches="tight")


_COMPONENTS = ("E11", "E22", "E33", "√2 E23", "√2 E13", "√2 E12")


def stability_map(
    law: Law,
    first: Any = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    second: Any = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
    extent: float | None = None,
    number: int = 41,
    directions: int = 200,
) -> StabilityMap:
    """Smallest acoustic eigenvalue of a law over the plane E = x D₁ + y D₂, |x|, |y| ≤ extent.

    Parameters
    ----------
    law : Law
        Without internal variables.
    first, second : array (6,)
        D₁ and D₂, Mandel, frame of the law; scaled to unit length, so that √(x² + y²) = |E| where they are orthogonal.
        By default E11 and E22.
    extent : float, optional
        By default 1.25 times the trained range.
    number : int
        Points along each axis.
    directions : int
        As in `acoustic_eigenvalue`.
    """
    axes, labels = [], []
    for name, given in (("first", first), ("second", second)):
        direction = np.asarray(given, dtype=float)
        if direction.shape != (6,) or not np.all(np.isfinite(direction)) or not np.any(direction):
            raise ValueError(
                f"stability_map({name}): expected a nonzero Mandel direction (6,), got shape {direction.shape}. "
                "Tensors go through crystals.mandel.to_mandel."
            )
        direction = direction / np.linalg.norm(direction)
        axes.append(direction)
        single = np.flatnonzero(direction == 1.0)
        text = ", ".join(f"{value:.3g}" for value in direction)
        labels.append(_COMPONENTS[single[0]] if len(single) else f"strain along ({text})")
    if abs(axes[0] @ axes[1]) > 1.0 - 1e-9:
        raise ValueError("stability_map: expected two different directions, got parallel ones. They span no plane.")
    if extent is None:
        extent = 1.25 * law.max_strain if np.isfinite(law.max_strain) else DEFAULT_EXTENT
    if not extent > 0 or number < 3:
        raise ValueError(f"stability_map: expected extent > 0 and number ≥ 3, got {extent} and {number}.")
    line = np.linspace(-extent, extent, number)
    x, y = np.meshgrid(line, line)
    strain = x.reshape(-1, 1) * axes[0] + y.reshape(-1, 1) * axes[1]
    values = acoustic_eigenvalue(law, strain, directions).reshape(number, number)
    sizes = np.linalg.norm(strain, axis=1).reshape(number, number)
    return StabilityMap(line, line.copy(), values, (labels[0], labels[1]), law.units, sizes, law.max_strain)


def box_strains(lower: Any, upper: Any, number: int, seed: int = 0) -> np.ndarray:
    """Strains (64 + number, 6) of a box in Mandel components: its corners, then Sobol points (Sobol' 1967).

    Parameters
    ----------
    lower, upper : array (6,) or float
        Bounds of each component, frame of the law.
    number : int
        Points inside. A power of two spreads best.
    seed : int
    """
    low, high = (np.broadcast_to(np.asarray(bound, dtype=float), (6,)) for bound in (lower, upper))
    if not np.all(low < high):
        raise ValueError(f"box_strains: expected lower < upper, got {low.tolist()} and {high.tolist()}.")
    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * 6, indexing="ij"), axis=-1).reshape(-1, 6)
    from scipy.stats import qmc  # a third of a second, which most calls do without

    sobol: Any = qmc.Sobol  # the seed is rng in newer scipy, which still takes it
    inside = sobol(6, seed=seed).random_base2(max(int(np.ceil(np.log2(max(number, 1)))), 0))[:number]
    strain = low + np.concatenate([corners, inside]) * (high - low)
    smallest = np.linalg.eigvalsh(np.eye(3) + 2.0 * mandel.from_mandel(strain))[:, 0].min()
    if not smallest > 0:
        raise ValueError(
            f"box_strains: expected a box of possible strains, got a corner where 1 + 2E has eigenvalue {smallest:.3g}. "
            "Make it smaller."
        )
    return strain


def ellipticity_penalty(stress: Callable[[Tensor], Tensor], strain: Any, directions: Any, margin: float) -> Tensor:
    """Residuals max(0, margin − λ_min(E_i, N_j)) that are zero where a law of Green–Lagrange strain is elliptic enough.

    λ_min is the smallest eigenvalue of the acoustic tensor. Differentiable in whatever parameters `stress` holds, so the
    residuals can stand beside those of the data in a least-squares problem. A finite set of strains and directions is
    asked: check the outcome with `acoustic_eigenvalue`, which follows the minima over directions down.

    Parameters
    ----------
    stress : function
        Second Piola–Kirchhoff stress (6,), Mandel, of one strain (6,), differentiable twice by torch.
    strain : array or tensor (n, 6)
        Where to ask, such as `box_strains`; same frame as `stress`.
    directions : array or tensor (m, 3)
        Unit vectors N, such as `crystals.moduli.hemisphere(50)`.
    margin : float
        Eigenvalue below which the penalty sets in, in the unit of `stress`; a few per cent of C44 keeps the strains and
        directions between the samples elliptic too.

    Returns
    -------
    Tensor (n m,)
        Unit of `stress`.
    """
    points = torch.as_tensor(np.asarray(strain), dtype=torch.float64) if not isinstance(strain, Tensor) else strain
    normals = torch.as_tensor(np.asarray(directions), dtype=points.dtype, device=points.device)
    if points.ndim != 2 or points.shape[1] != 6 or normals.ndim != 2 or normals.shape[1] != 3:
        raise ValueError(
            f"ellipticity_penalty: expected strains (n, 6) and directions (m, 3), got {tuple(points.shape)} and "
            f"{tuple(normals.shape)}."
        )
    weights = torch.as_tensor(mandel.WEIGHTS, dtype=points.dtype, device=points.device)
    position = torch.as_tensor(mandel.POSITION, device=points.device)
    one = torch.eye(3, dtype=points.dtype, device=points.device)
    # in torch, because the function may stand inside a transform that hides numbers from numpy
    squares, axes = torch.linalg.eigh(one + 2.0 * (points / weights)[:, position])
    stretches = (axes * torch.sqrt(squares)[:, None, :]) @ axes.transpose(1, 2)

    def both(point: Tensor) -> tuple[Tensor, Tensor]:
        value = stress(point)
        return value, value

    def smallest(point: Tensor, stretch: Tensor) -> Tensor:
        tangent, value = jacfwd(both, has_aux=True)(point)
        full = (tangent / weights[:, None] / weights)[position[:, :, None, None], position]
        pushed = torch.einsum("iM,MJKL,kK,nJ,nL->nik", stretch, full, stretch, normals, normals)
        across = torch.einsum("nJ,JL,nL->n", normals, (value / weights)[position], normals)
        return torch.linalg.eigvalsh(pushed + across[:, None, None] * one)[:, 0]

    return torch.relu(margin - vmap(smallest)(points, stretches)).reshape(-1)
