"""Rivals of the symmetric law: networks of the six strain components, plain, augmented, or averaged over rotations.

    from rivals import augmented, averaged, plain
    predict = plain(data, seed=0)            # strains (n, 6) → second Piola–Kirchhoff stresses (n, 6)

W(E) = N(E) + σ₀·E + constant, N a softplus network of the Mandel components; stress is its derivative, training is on
energy and stress together. One network, one optimiser, one way to choose; they differ in what they know of the crystal:

- `plain` knows nothing;
- `augmented` sees each state in all orientations that the group makes equivalent (as Gärtner, Fernández and Weeger 2021,
  doi:10.1007/s00466-021-02061-x, train on cubic lattices);
- `averaged` is the mean of N over the group's rotations, symmetric to rounding (group symmetrisation: Fernández et al.
  2021, doi:10.1007/s00466-020-01954-7).

They get what the law gets: float64, standardised strain and stress, Levenberg–Marquardt with exact Jacobians, the
energy weighed as in `constitutive.fitting.least_squares`, a free reference stress; width, weight decay and number of steps are
chosen on inner folds by symmetry orbit, never on test states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.func import jacrev, vmap

from constitutive.fitting.least_squares import ENERGY_WEIGHT
from constitutive.fitting.selection import orbit_folds
from constitutive.laws.network import ScalarNetwork, softplus
from crystals.dataset import StrainData
from crystals.rotations import mandel_rotation

Predict = Callable[[np.ndarray], np.ndarray]

#: Hidden layers tried.
WIDTHS = ((32,), (8, 8), (16, 16))
#: Weight decays walked down, and Levenberg–Marquardt steps at each.
ALPHAS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
STEPS = 8
#: Inner folds, and the orbits from which on fewer of them are looked at: 2 at 64, 1 at 128.
FOLDS = 4
MANY_ORBITS = 128
#: States times copies whose Jacobians are formed at once.
_CHUNK = 2048
_NO_TURN = np.eye(6)[None]


def plain(data: StrainData, seed: int = 0) -> Predict:
    """A network that knows nothing of the crystal."""
    return tuned(data, seed)


def augmented(data: StrainData, seed: int = 0) -> Predict:
    """The same network, trained on every proper rotation of every state that the Laue class makes equivalent."""
    return tuned(data, seed, copies=_rotations(data))


def averaged(data: StrainData, seed: int = 0) -> Predict:
    """The mean of the same network over the proper rotations of the Laue class."""
    return tuned(data, seed, turns=_rotations(data))


def _rotations(data: StrainData) -> np.ndarray:
    assert data.group is not None
    return mandel_rotation(data.group.rotations)


class Network:
    """Mean over rotations of a softplus network of strain, and its training.

    Parameters
    ----------
    data : StrainData
        Training states.
    widths : tuple of int
        Hidden layers.
    seed : int
        Seed of the initial weights.
    turns : (g, 6, 6)
        Mandel matrices of the rotations of a group, over which the network is averaged.
    copies : (c, 6, 6)
        Mandel matrices of the rotations in which it sees each state.
    """

    def __init__(
        self, data: StrainData, widths: tuple[int, ...], seed: int, turns: np.ndarray = _NO_TURN,
        copies: np.ndarray = _NO_TURN,
    ) -> None:  # fmt: skip
        self.turns = torch.from_numpy(turns)
        self.strain_unit, self.stress_unit = _component_rms(data.strain), _component_rms(data.stress)
        self.points = torch.from_numpy(_turned(data.strain, copies) / self.strain_unit)
        self.energy_weight = 0.0 if data.energy is None else ENERGY_WEIGHT / np.sqrt(6.0)
        energy = np.zeros(len(data)) if data.energy is None else data.energy
        energy = np.tile(energy, len(copies))[:, None] / (self.stress_unit * self.strain_unit)
        stress = _turned(data.stress, copies) / self.stress_unit
        self.target = torch.from_numpy(np.concatenate([stress, self.energy_weight * energy], axis=1))
        self.layers = len(widths)
        weights = dict(ScalarNetwork(6, widths, seed).named_parameters())
        start = {name: p.detach() for name, p in weights.items()}
        start |= {"slope": torch.zeros(6, dtype=torch.float64), "constant": torch.zeros(1, dtype=torch.float64)}
        self.shapes = {name: p.shape for name, p in start.items()}
        self.theta = torch.cat([p.reshape(-1) for p in start.values()])
        # Hidden weights decay to where they started, the rest to zero: a large decay leaves random features, not dead ones.
        centre = {name: torch.zeros_like(p) if name in ("last", "slope") else p for name, p in start.items()}
        self.centre = torch.cat([p.reshape(-1) for p in centre.values()])
        self.decays = torch.cat([torch.full((p.numel(),), float(name != "constant")) for name, p in start.items()])
        self.damping = 1.0

    def _answer(self, theta: Tensor, point: Tensor) -> Tensor:
        """Scaled stress and weighted scaled energy (7,) at one scaled strain (6,)."""
        parts = torch.split(theta, [shape.numel() for shape in self.shapes.values()])
        p = {name: part.reshape(self.shapes[name]) for name, part in zip(self.shapes, parts, strict=True)}
        hidden, bends = self.turns @ point, []
        for layer in range(self.layers):
            activation = hidden @ p[f"weights.{layer}"].T + p[f"biases.{layer}"]
            bends.append(torch.sigmoid(activation))
            hidden = softplus(activation)
        back = p["last"]
        for layer in reversed(range(self.layers)):
            back = (back * bends[layer]) @ p[f"weights.{layer}"]
        # the part of the reference stress that the rotations leave alone
        slope = (p["slope"] @ self.turns).mean(dim=0)
        stress = torch.einsum("gi,gij->j", back, self.turns) / len(self.turns) + slope
        energy = (hidden @ p["last"]).mean() + slope @ point + p["constant"][0]
        return torch.cat([stress, self.energy_weight * energy[None]])

    def _residual(self, theta: Tensor) -> Tensor:
        return vmap(self._answer, in_dims=(None, 0))(theta, self.points) - self.target

    def _cost(self, theta: Tensor, alpha: float) -> float:
        decay = alpha * (self.decays * (theta - self.centre) ** 2).sum()
        return float((self._residual(theta) ** 2).sum() / (6 * len(self.points)) + decay)

    def step(self, alpha: float) -> bool:
        """One Levenberg–Marquardt step (Marquardt 1963) at a weight decay; False where nothing is left to gain."""
        n, p = 6 * len(self.points), len(self.theta)
        cost, residual, decay = self._cost(self.theta, alpha), self._residual(self.theta), alpha * self.decays
        normal, slope = torch.zeros(p, p, dtype=torch.float64), decay * (self.theta - self.centre)
        size = max(1, _CHUNK // len(self.turns))
        for points, wrong in zip(self.points.split(size), residual.split(size), strict=True):
            jacobian = vmap(jacrev(self._answer), in_dims=(None, 0))(self.theta, points).reshape(-1, p)
            normal += jacobian.T @ jacobian / n
            slope += jacobian.T @ wrong.reshape(-1) / n
        for _ in range(12):
            damped = normal + torch.diag(decay + self.damping * (torch.diag(normal) + 1e-12))
            factor, info = torch.linalg.cholesky_ex(damped)
            if int(info) == 0:
                move = -torch.cholesky_solve(slope[:, None], factor)[:, 0]
                trial = self._cost(self.theta + move, alpha)
                if trial < cost:
                    self.theta = self.theta + move
                    self.damping = max(self.damping / 5.0, 1e-14)
                    return (cost - trial) / cost > 1e-4
            self.damping = max(self.damping, 1e-12) * 4.0
        return False

    def walk(self) -> Iterator[None]:
        """Train down the path of weight decays, pausing after each step; always `len(ALPHAS) * STEPS` pauses."""
        for alpha in ALPHAS:
            going = True
            for _ in range(STEPS):
                going = going and self.step(alpha)
                yield

    def stress(self, strain: np.ndarray) -> np.ndarray:
        """Second Piola–Kirchhoff stress (n, 6) at strains (n, 6), in the data's unit."""
        points = torch.from_numpy(np.ascontiguousarray(strain) / self.strain_unit)
        answer = [vmap(self._answer, in_dims=(None, 0))(self.theta, part) for part in points.split(_CHUNK)]
        return torch.cat(answer)[:, :6].numpy() * self.stress_unit


def _component_rms(vectors: np.ndarray) -> float:
    """RMS of the components (n, 6) about zero, which the reference is: one unit for all, as rotations mix them."""
    return float(np.sqrt(np.mean(vectors**2)))


def _turned(vectors: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Vectors (n, 6) in every one of c orientations (c n, 6)."""
    return np.concatenate([vectors @ turn.T for turn in turns])


def tuned(
    data: StrainData, seed: int = 0, *, turns: np.ndarray = _NO_TURN, copies: np.ndarray = _NO_TURN,
    widths: tuple[tuple[int, ...], ...] = WIDTHS,
) -> Predict:  # fmt: skip
    """The network of the widths and the number of steps with the least error on inner folds, trained on all of `data`.

    Parameters
    ----------
    data, seed, turns, copies
        As in `Network`.
    widths : tuple of tuples of int
        Hidden layers to choose from.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        chosen, steps = _choose(data, seed, turns, copies, widths)
        network = Network(data, chosen, seed, turns, copies)
        for number, _ in enumerate(network.walk()):
            if number == steps:
                break
    finally:
        torch.set_num_threads(threads)
    return network.stress


def _choose(
    data: StrainData, seed: int, turns: np.ndarray, copies: np.ndarray, candidates: tuple[tuple[int, ...], ...]
) -> tuple[tuple[int, ...], int]:
    orbits = data.orbits()
    folds = orbit_folds(orbits, FOLDS, seed)
    looked_at = max(1, min(FOLDS, MANY_ORBITS // len(np.unique(orbits))))
    wrong = np.zeros((len(candidates), len(ALPHAS) * STEPS))
    for fold in range(looked_at):
        inside = folds != fold
        strain, stress = data.strain[~inside], data.stress[~inside]
        for row, widths in zip(wrong, candidates, strict=True):
            network = Network(data.take(inside), widths, seed + fold, turns, copies)
            for number, _ in enumerate(network.walk()):
                row[number] += np.sum((network.stress(strain) - stress) ** 2)
    best, steps = np.unravel_index(np.argmin(wrong), wrong.shape)
    return candidates[int(best)], int(steps)
