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
from crystals.whole_file import whole_file

from .voxel_solver import Solve, never

#: Relative floor below which an eigenvalue of a feature says nothing more.
_FLOOR = 1e-7
#: Relative error below which the training set itself is not converged, so that nothing smaller is promised.
RESOLVED = {"solid": 1e-4, "crystals": 1e-6, "pores": 1e-4}
#: Conjugate-gradient steps of each gear and kind of image: an image stops at the first with a likely error below `GOAL`.
GEARS: dict[str, dict[str, tuple[int, ...]]] = {
    "fast": {"solid": (1, 2), "crystals": (1, 2), "pores": (4, 8)},
    "accurate": {"solid": (2, 3, 5, 8), "crystals": (2, 3, 5), "pores": (4, 8, 16, 32, 64)},
}
GOAL = {"fast": 0.03, "accurate": 0.005}
#: Matrices of a record; 'product' and 'length' are the residual product and the step length of each load.
MATRICES = ("upper", "gram", "squares", "forces", "lower")
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


def _cuts(steps: int) -> list[int]:
    """Steps between which the falls of the upper bound are looked at."""
    if steps <= 5:
        return list(range(steps + 1))
    return [0, steps // 4, steps // 2, 3 * steps // 4, steps - 1, steps]


def matrices_seen(steps: int) -> int:
    """How many matrices `features` gives."""
    return len(_cuts(steps)) + 9


def ritz_values(length: np.ndarray, product: np.ndarray) -> np.ndarray:
    """Smallest Ritz value (n, 6) of the preconditioned stiffness in the steps of each load, and 1 where there are none.

    Parameters
    ----------
    length, product : (n, s, 6), (n, s + 1, 6)
        Step lengths α and residual products ρ; the Lanczos matrix has 1/α_k + β_k/α_{k−1} and √β_k/α_{k−1}, β = ρ'/ρ.
    """
    alpha = np.swapaxes(length, 1, 2)
    taken = alpha > 0
    inverse = np.where(taken, 1.0 / np.where(taken, alpha, 1.0), 0.0)
    rho = np.swapaxes(product, 1, 2)
    beta = np.where(rho[..., :-1] > 0, rho[..., 1:] / np.where(rho[..., :-1] > 0, rho[..., :-1], 1.0), 0.0)
    steps = alpha.shape[-1]
    matrix = np.zeros((*alpha.shape, steps))
    place = np.arange(steps)
    # steps not taken: an eigenvalue of 1, which is where the others lie around
    matrix[..., place, place] = np.where(taken, inverse, 1.0)
    both = taken[..., 1:]
    matrix[..., place[1:], place[1:]] += np.where(both, beta[..., :-1] * inverse[..., :-1], 0.0)
    matrix[..., place[1:], place[:-1]] = np.where(both, np.sqrt(beta[..., :-1]) * inverse[..., :-1], 0.0)
    return np.linalg.eigvalsh(matrix, UPLO="L")[..., 0]


def radau(length: np.ndarray, product: np.ndarray, node: np.ndarray) -> np.ndarray:
    """Energy (n, 6) that is left to find if no eigenvalue lies below `node` (n, 6): a bound then.

    Gauss–Radau quadrature, Meurant and Tichý 2013 (doi:10.1007/s11075-012-9591-9, γ_{k+1} = (γ_k − α_k) / (μ (γ_k − α_k) + β)).
    """
    gamma = 1.0 / node
    for k in range(length.shape[1]):
        rho, new, alpha = product[:, k], product[:, k + 1], length[:, k]
        beta = np.where(rho > 0, new / np.where(rho > 0, rho, 1.0), 0.0)
        rest = np.maximum(gamma - alpha, 0.0)
        below = node * rest + beta
        gamma = np.where((alpha > 0) & (below > 0), rest / np.where(below > 0, below, 1.0), gamma)
    return gamma * product[:, -1]


def features(trace: dict[str, np.ndarray], steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the network sees of images after some steps.

    Parameters
    ----------
    trace : dict
        As `Watch.advance` gives it.
    steps : int
        Steps k to use, one of those that the record is whole for.

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

    cuts = _cuts(steps)
    falls = [inside(trace["upper"][:, i] - trace["upper"][:, j]) for i, j in zip(cuts[:-1], cuts[1:], strict=True)]
    length, product = trace["length"][:, 1 : steps + 1], trace["product"][:, : steps + 1]
    smallest = ritz_values(length, product).min(axis=1)
    own = np.maximum(np.einsum("nii->ni", upper), _FLOOR * scale[:, None])
    # cube operations permute the loads, so a diagonal of numbers of the loads turns with the image
    rest = [
        np.log(np.maximum(radau(length, product, factor * smallest[:, None] * np.ones(6)) / own, _FLOOR))
        for factor in (0.9, 0.3)
    ]
    rows = [
        *falls,
        inside(trace["gram"][:, steps]),
        _logarithm((upper - lower) / scale[:, None, None]),
        _logarithm(upper / scale[:, None, None]),
        _logarithm(trace["squares"][:, steps]),
        _logarithm(trace["forces"][:, steps]),
        _logarithm(trace["forces"][:, 0]),
        np.log(np.maximum(smallest, _FLOOR))[:, None, None] * np.eye(6),
        *(value[:, :, None] * np.eye(6) for value in rest),
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
        count = matrices_seen(steps)
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

    def fit_linear(self, matrices: np.ndarray, lower: np.ndarray, root: np.ndarray, exact: np.ndarray) -> None:
        """Weights of the sum by least squares on A* = log X − log(1 − X) of the known stiffness; training starts there."""
        inverse = np.linalg.pinv(root, rcond=1e-9, hermitian=True)
        inside = inverse @ (exact - lower) @ inverse
        wanted = _function(inside, lambda x: np.log(np.maximum(x, _FLOOR)) - np.log(np.maximum(1.0 - x, _FLOOR)))
        scaled = (matrices - self.centre.numpy()[:, None, None] * np.eye(6)) / self.width.numpy()[:, None, None]
        columns = np.concatenate([scaled, np.broadcast_to(np.eye(6), (len(scaled), 1, 6, 6))], axis=1)
        system = np.einsum("nkij,nlij->kl", columns, columns) / len(columns)
        system += 1e-3 * np.trace(system) / len(system) * np.eye(len(system))
        found = np.linalg.solve(system, np.einsum("nkij,nij->k", columns, wanted) / len(columns))
        self.weights.copy_(torch.tensor(found[:-1]))
        self.shift.copy_(torch.tensor(found[-1]))

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


class Watch:
    """What the steps of a fresh batch of images show, for `features`, as they are taken.

    Parameters
    ----------
    solve : Solve
        Not yet advanced.
    """

    def __init__(self, solve: Solve) -> None:
        self.solve = solve
        solve.advance(never, 0)
        self._start = solve.residual.clone()
        self._uppers = [solve.voigt.cpu().numpy()]
        self._products = [solve.product.cpu().numpy().copy()]
        self._whole: dict[int, list[dict[str, np.ndarray]]] = {}

    def advance(self, steps: int) -> dict[str, np.ndarray]:
        """Go on to `steps` steps in all, and the record so far: (n, steps + 1, 6, 6), and of each load (n, steps + 1, 6).

        'upper' and 'product' (residuals, of each load) are there for every step, the rest for those that this was called
        for, and zero between.
        """
        solve = self.solve
        while len(self._uppers) <= steps:
            solve.advance(never, 1)
            self._uppers.append(solve.upper_bound(self._start))
            self._products.append(solve.product.cpu().numpy().copy())
        if steps not in self._whole:
            self._whole[steps] = [solve.trace(i, lower=True) for i in range(solve.images)]
        out = {name: np.zeros((solve.images, steps + 1, 6, 6)) for name in MATRICES}
        out["upper"][:] = np.stack(self._uppers, axis=1)
        for step, found in self._whole.items():
            for i, matrices in enumerate(found):
                for name, value in matrices.items():
                    out[name][i, step] = value
        out["product"] = np.stack(self._products, axis=1)
        out["length"] = np.zeros((solve.images, steps + 1, 6))
        for i, image in enumerate(solve.steps):
            for load, taken in enumerate(image):
                out["length"][i, 1 : len(taken) + 1, load] = [alpha for alpha, _ in taken]
        scale = np.linalg.eigvalsh(self._uppers[0])[:, -1]
        for i in range(solve.images):
            labels, table = solve.labels[i].reshape(-1).long(), solve.table[i]
            shares = (torch.bincount(labels, minlength=len(table)) / solve.grid.voxels).to(table)
            squares = torch.einsum("m,mij,mjk->ik", shares, table, table)
            out["forces"][i, 0] = squares.cpu().numpy() / scale[i] ** 2
        return out


def observe(solve: Solve, steps: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The record of a fresh batch of images, whole after each of some steps; see `Watch`."""
    watch = Watch(solve)
    return [watch.advance(step) for step in steps][-1]


def kind_of(solve: Solve) -> str:
    """Which networks know a batch of images: 'pores', 'crystals' (anisotropic, all stiff) or 'solid'."""
    if not bool(solve.positive.all()):
        return "pores"
    return "solid" if solve.field.lame is not None else "crystals"


def save_network(networks: dict[str, list[VoxelNetwork]], path: Path, description: dict[str, Any]) -> None:
    """Write ensembles of networks to one safetensors file."""
    tensors, shapes = {}, {}
    for name, members in networks.items():
        shapes[name] = [(member.steps, member.hidden) for member in members]
        for i, member in enumerate(members):
            # trained networks are rounded to single precision, so nothing is lost
            tensors |= {f"{name}.{i}.{key}": value.float().contiguous() for key, value in member.state_dict().items()}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata={"networks": json.dumps(shapes), "description": json.dumps(description)})


@lru_cache(maxsize=2)
def load_network(path: Path | None = None) -> tuple[dict[str, list[VoxelNetwork]], dict[str, Any]]:
    """The networks that ship with the package, or those of a file, by kind and steps, and what the file says of itself.

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
    """Learned stiffness of a fresh batch of images of one kind.

    Where a gear has several numbers of steps (`GEARS`), an image goes on to the next while its likely error is above
    `GOAL`, and a batch while one of its images does.

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
    kind = kind_of(solve)
    watch = Watch(solve)
    found: dict[int, Guess] = {}
    for steps in GEARS[gear][kind]:
        trace = watch.advance(steps)
        answers = np.stack([member.predict(trace) for member in networks[f"{kind} {steps}"]])
        mean = answers.mean(axis=0)
        likely = likely_error(answers, trace, steps, description[f"{kind} {steps}"]["error"])
        size = np.linalg.norm(mean, axis=(1, 2))
        width = np.linalg.norm(trace["upper"][:, steps] - trace["lower"][:, steps], axis=(1, 2)) / size
        held = promise(likely, width, kind, description[f"{gear} {kind}"])
        for i in set(range(solve.images)) - set(found):
            if likely[i] <= GOAL[gear] or steps == GEARS[gear][kind][-1]:
                lower, upper = trace["lower"][i, steps], trace["upper"][i, steps]
                found[i] = Guess(mean[i], lower, upper, float(held[i]), steps)
        if len(found) == solve.images:
            break
    return [found[i] for i in range(solve.images)]


def signs(answers: np.ndarray, trace: dict[str, np.ndarray], steps: int) -> np.ndarray:
    """Signs of the error (n, 4): 1, and logarithms of the spread of an ensemble (e, n, 6, 6), of the distance of its mean
    from the upper bound and of the width of the bracket, relative to the mean."""
    mean = answers.mean(axis=0)
    size = np.linalg.norm(mean, axis=(1, 2))
    spread = np.sqrt(np.mean(np.linalg.norm(answers - mean, axis=(2, 3)) ** 2, axis=0))
    fall = np.linalg.norm(trace["upper"][:, steps] - mean, axis=(1, 2))
    width = np.linalg.norm(trace["upper"][:, steps] - trace["lower"][:, steps], axis=(1, 2))
    parts = [np.log(part / size + _FLOOR) for part in (spread, fall, width)]
    return np.stack([np.ones_like(size), *parts], axis=1)


def likely_error(answers: np.ndarray, trace: dict[str, np.ndarray], steps: int, fitted: list[float]) -> np.ndarray:
    """Relative error (n,) that about half of the images with the same signs exceed."""
    return np.exp(signs(answers, trace, steps) @ np.array(fitted))


def promise(likely: np.ndarray, width: np.ndarray, kind: str, fitted: dict[str, Any]) -> np.ndarray:
    """Relative error (n,) at 90 %: a factor times the likely one, and no more than the bracket leaves.

    The factor depends on the range (between 'edges') that the likely error lies in, and is conformal in each on images
    left out of training (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, § 4.5).
    """
    factor = np.array(fitted["factors"])[np.searchsorted(fitted["edges"], likely)]
    return np.minimum(np.maximum(factor * likely, RESOLVED[kind]), width)
