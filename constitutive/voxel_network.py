"""A learned guess of the stiffness of an image after k conjugate-gradient steps, inside its bounds by construction.

    C = L + D^½ X D^½,    D = U − L,    X = (1 + exp(−A))⁻¹

U is the energy of the k-step strains, L the complementary one (zero with pores): bounds of the discrete problem whatever
the network says. A symmetric A gives X symmetric with eigenvalues in (0, 1), hence L ≤ C ≤ U.

A is made from matrices that turn with the image exactly, since the steps do: the falls of the upper bound from step to
step, the residuals' product, moments of strain and stress. It is their weighted sum plus a small network averaged over
the 24 rotations of the cube, A = … + 1/24 Σ_g R_gᵀ f(R_g B R_gᵀ) R_g (Reynolds average; inversion leaves even tensors
alone, so that is all 48 operations). Shifts of the image do not change any of it. The size of the image does not enter.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from crystals import mandel
from crystals.rotations import mandel_rotation

from .voxel_solver import Solve, never

#: Relative floor below which an eigenvalue of a feature says nothing more.
_FLOOR = 1e-7
#: Relative error below which the training set itself is not converged, so that nothing smaller is promised.
_RESOLVED = 5e-4
MODELS = Path(__file__).parent / "models"


@lru_cache(maxsize=1)
def cube_rotations() -> np.ndarray:
    """The 24 rotations of the cube on Mandel vectors (24, 6, 6)."""
    turns = [
        np.eye(3)[list(order)] * np.array(signs)[:, None]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]
    return np.stack([mandel_rotation(turn) for turn in turns if np.linalg.det(turn) > 0])


def _function(matrix: np.ndarray, function: Any) -> np.ndarray:
    values, vectors = np.linalg.eigh(0.5 * (matrix + np.swapaxes(matrix, -1, -2)))
    return np.einsum("...ia,...a,...ja->...ij", vectors, function(values), vectors)


def _root(matrix: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Square root of a bracket, and its inverse with eigenvalues floored relative to `scale`."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + np.swapaxes(matrix, -1, -2)))
    values = np.maximum(values, 0.0)
    inverse = 1.0 / np.sqrt(np.maximum(values, _FLOOR * scale[..., None]))
    return (
        np.einsum("...ia,...a,...ja->...ij", vectors, np.sqrt(values), vectors),
        np.einsum("...ia,...a,...ja->...ij", vectors, inverse, vectors),
    )


def _logarithm(matrix: np.ndarray) -> np.ndarray:
    return _function(matrix, lambda values: np.log(np.maximum(values, _FLOOR)))


def features(trace: dict[str, np.ndarray], steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the network sees of images after some steps.

    Parameters
    ----------
    trace : dict of (n, s, 6, 6)
        'upper', 'gram', 'squares', 'forces', 'lower' after 0 … s − 1 steps (see `Solve.trace`); 'lower' zero with pores.
    steps : int
        Steps k to use, below s.

    Returns
    -------
    matrices : (n, m, 6, 6)
        Symmetric, dimensionless; they turn with the image.
    lower, root : (n, 6, 6)
        L and D^½.
    """
    upper, lower = trace["upper"][:, steps], trace["lower"][:, steps]
    scale = np.linalg.eigvalsh(trace["upper"][:, 0])[:, -1]
    root, inverse = _root(upper - lower, scale)

    def inside(matrix: np.ndarray) -> np.ndarray:
        return _logarithm(inverse @ matrix @ inverse)

    falls = [inside(trace["upper"][:, j - 1] - trace["upper"][:, j]) for j in range(1, steps + 1)]
    rows = [
        *falls,
        inside(trace["gram"][:, steps]),
        _logarithm((upper - lower) / scale[:, None, None]),
        _logarithm(upper / scale[:, None, None]),
        _logarithm(trace["squares"][:, steps]),
        _logarithm(trace["forces"][:, steps]),
        _logarithm(trace["forces"][:, 0]),
        np.where((np.abs(lower).max(axis=(1, 2)) == 0)[:, None, None], np.eye(6), 0.0),
    ]
    return np.stack(rows, axis=1), lower, root


class VoxelNetwork(torch.nn.Module):
    """A as a function of the matrices that `features` gives.

    Parameters
    ----------
    steps : int
        Conjugate-gradient steps it is trained for.
    hidden : int
        Width of both hidden layers.
    """

    centre: Tensor
    width: Tensor
    turns: Tensor

    def __init__(self, steps: int, hidden: int = 64) -> None:
        super().__init__()
        self.steps, self.hidden = steps, hidden
        count = steps + 7
        self.register_buffer("centre", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("width", torch.ones(count, dtype=torch.float64))
        self.register_buffer("turns", torch.tensor(cube_rotations()), persistent=False)
        self.weights = torch.nn.Parameter(torch.zeros(count, dtype=torch.float64))
        self.shift = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.body = torch.nn.Sequential(
            torch.nn.Linear(21 * count, hidden), torch.nn.SiLU(), torch.nn.Linear(hidden, hidden), torch.nn.SiLU(),
            torch.nn.Linear(hidden, 21),
        ).to(torch.float64)  # fmt: skip

    def fit_scales(self, matrices: np.ndarray) -> None:
        """Centre and scale of each matrix: multiples of the identity and one factor, which turning leaves alone."""
        mean = np.trace(matrices, axis1=2, axis2=3).mean(axis=0) / 6.0
        spread = np.sqrt(np.mean((matrices - mean[:, None, None] * np.eye(6)) ** 2, axis=(0, 2, 3)))
        self.centre.copy_(torch.tensor(mean))
        self.width.copy_(torch.tensor(np.maximum(spread, 1e-3)))

    def prepare(self, matrices: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled matrices (n, m, 6, 6) and all 24 turned ones as inputs (n, 24, 21 m) of the body."""
        identity = torch.eye(6, dtype=matrices.dtype, device=matrices.device)
        scaled = (matrices - self.centre[:, None, None] * identity) / self.width[:, None, None]
        turned = torch.einsum("gik,nmkl,gjl->ngmij", self.turns, scaled, self.turns)
        return scaled, mandel.pack_upper(turned).flatten(2)

    def finish(self, scaled: Tensor, inputs: Tensor, lower: Tensor, root: Tensor) -> Tensor:
        """Stiffness (n, 6, 6) inside the bounds, from what `prepare` made."""
        identity = torch.eye(6, dtype=scaled.dtype, device=scaled.device)
        a = self.shift * identity + torch.einsum("m,nmij->nij", self.weights, scaled)
        answers = mandel.unpack_upper(self.body(inputs))
        a = a + (self.turns.transpose(1, 2) @ answers @ self.turns).mean(dim=1)
        inside = torch.linalg.inv(identity + torch.linalg.matrix_exp(-a))
        guess = lower + root @ inside @ root
        return 0.5 * (guess + guess.transpose(1, 2))

    def forward(self, matrices: Tensor, lower: Tensor, root: Tensor) -> Tensor:
        """Stiffness (n, 6, 6) inside the bounds."""
        return self.finish(*self.prepare(matrices), lower, root)

    def predict(self, trace: dict[str, np.ndarray]) -> np.ndarray:
        """Stiffness (n, 6, 6) from records of `steps` steps or more."""
        with torch.no_grad():
            parts = (torch.tensor(part) for part in features(trace, self.steps))
            return self(*parts).numpy()


def observe(solve: Solve, steps: int) -> dict[str, np.ndarray]:
    """Advance every image of a fresh batch by some steps and read off what `features` wants, (n, steps + 1, 6, 6)."""
    solve.advance(never, 0)
    start = solve.residual.clone()
    uppers = [solve.voigt.cpu().numpy()]
    for _ in range(steps):
        solve.advance(never, 1)
        uppers.append(solve.upper_bound(start))
    last = [solve.trace(i, lower=True) for i in range(solve.images)]
    out = {name: np.zeros((solve.images, steps + 1, 6, 6)) for name in ("upper", "gram", "squares", "forces", "lower")}
    out["upper"][:] = np.stack(uppers, axis=1)
    for i, found in enumerate(last):
        for name, value in found.items():
            out[name][i, steps] = value
        scale = np.linalg.eigvalsh(uppers[0][i])[-1]
        shares = torch.bincount(solve.labels[i].reshape(-1).long(), minlength=solve.table.shape[1]) / solve.grid.voxels
        table = solve.table[i]
        out["forces"][i, 0] = torch.einsum("m,mij,mjk->ik", shares.to(table), table, table).cpu().numpy() / scale**2
    return out


def save_network(networks: dict[str, list[VoxelNetwork]], path: Path, description: dict[str, Any]) -> None:
    """Write ensembles of networks to one safetensors file."""
    tensors, shapes = {}, {}
    for name, members in networks.items():
        shapes[name] = [(member.steps, member.hidden) for member in members]
        for i, member in enumerate(members):
            tensors |= {f"{name}.{i}.{key}": value.contiguous() for key, value in member.state_dict().items()}
    save_file(tensors, path, metadata={"networks": json.dumps(shapes), "description": json.dumps(description)})


@lru_cache(maxsize=2)
def load_network(path: Path | None = None) -> tuple[dict[str, list[VoxelNetwork]], dict[str, Any]]:
    """The networks that ship with the package, or those of a file, and what it says of itself.

    Raises
    ------
    OSError
        Where the file is missing.
    """
    path = path or MODELS / "voxel.safetensors"
    if not path.is_file():
        raise OSError(f"load_network: expected the trained model, got no file {path}. Install the package whole.")
    out: dict[str, list[VoxelNetwork]] = {}
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
        for name, shapes in json.loads(metadata["networks"]).items():
            out[name] = []
            for i, (steps, hidden) in enumerate(shapes):
                member = VoxelNetwork(steps, hidden)
                prefix = f"{name}.{i}."
                member.load_state_dict(
                    {key[len(prefix) :]: file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}
                )
                out[name].append(member.requires_grad_(False))
    return out, json.loads(metadata["description"])


@dataclass(frozen=True, eq=False)
class Guess:
    """What the networks say of one image.

    Attributes
    ----------
    stiffness, lower, upper : (6, 6)
        Mean over the ensemble, between the bounds after `steps` steps; `lower` is zero with pores.
    error : float
        Relative Frobenius error that nine in ten images like the training set stay below, within the bracket.
    steps : int
    """

    stiffness: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    error: float
    steps: int


def guess(solve: Solve, gear: str, path: Path | None = None) -> list[Guess]:
    """Learned stiffness of a fresh batch of images, all with pores or all without.

    Parameters
    ----------
    solve : Solve
        Not yet advanced, 'rotated' scheme.
    gear : str
        'fast' or 'accurate'.

    Raises
    ------
    OSError
        Where the trained model is missing.
    """
    networks, description = load_network(path)
    name = f"{gear} {'solid' if bool(solve.positive.all()) else 'pores'}"
    members = networks[name]
    steps = members[0].steps
    trace = observe(solve, steps)
    answers = np.stack([member.predict(trace) for member in members])
    mean = answers.mean(axis=0)
    errors = expected_error(answers, trace, steps, description[name]["error"])
    return [
        Guess(mean[i], trace["lower"][i, steps], trace["upper"][i, steps], float(errors[i]), steps)
        for i in range(len(mean))
    ]


def spread_and_width(answers: np.ndarray, trace: dict[str, np.ndarray], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Spread of an ensemble (e, n, 6, 6) and width of the bracket, each relative to its mean, (n,)."""
    size = np.linalg.norm(answers.mean(axis=0), axis=(1, 2))
    spread = np.sqrt(np.mean(np.linalg.norm(answers - answers.mean(axis=0), axis=(2, 3)) ** 2, axis=0)) / size
    width = np.linalg.norm(trace["upper"][:, steps] - trace["lower"][:, steps], axis=(1, 2)) / size
    return spread, width


def expected_error(
    answers: np.ndarray, trace: dict[str, np.ndarray], steps: int, fitted: dict[str, float]
) -> np.ndarray:
    """Relative error (n,) at 90 %: exp(a + b log spread + c log width), conformal on images left out of training."""
    spread, width = spread_and_width(answers, trace, steps)
    tiny = 1e-12
    predicted = fitted["a"] + fitted["b"] * np.log(spread + tiny) + fitted["c"] * np.log(width + tiny)
    return np.minimum(np.maximum(np.exp(predicted), _RESOLVED), width)
