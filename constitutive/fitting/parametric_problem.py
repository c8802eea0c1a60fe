"""Weighted least squares of a law with inputs on strain data: residuals, exact Jacobian, start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor
from torch.func import functional_call, jacfwd

from crystals import mandel
from crystals.dataset import StrainData

from ..laws.parametric import ParametricLaw
from .least_squares import ENERGY_WEIGHT, prior_scale

#: Steps of Levenberg–Marquardt.
STEPS = 30
#: Columns of the Jacobian that are formed at once.
_COLUMNS = 16


@dataclass(frozen=True)
class ParametricChoice:
    """Order, degree in the inputs, ridge parameter, and whether energies count."""

    order: int
    degree: int
    prior: float
    use_energy: bool


class ParametricProblem:
    """Weighted residuals of a parametric law on data, over the RMS stress, and a ridge on constants of higher order."""

    def __init__(self, data: StrainData, input_range: np.ndarray, choice: ParametricChoice) -> None:
        assert data.group is not None and data.inputs is not None
        self.law = ParametricLaw(
            data.group, data.input_names, input_range, choice.order, choice.degree, units=data.units
        )
        distinct, which = np.unique(data.inputs, axis=0, return_inverse=True)
        self.inputs, self.which = torch.from_numpy(distinct), torch.from_numpy(which.reshape(-1))
        self.points = torch.from_numpy(data.strain)
        n = len(data)
        weights = np.ones(n) if data.stress_error is None else data.stress_error**-2.0
        weights = weights / weights.mean()
        self.root = torch.from_numpy(np.sqrt(weights / n))
        self.unit = float(np.sqrt(np.mean(weights * np.sum(data.stress**2, axis=1))))
        self.size = float(np.sqrt(np.mean(np.sum(data.strain**2, axis=1))))
        self.scale = float(np.linalg.norm(data.strain, axis=1).max())
        self.stress = torch.from_numpy(data.stress)
        self.energy = torch.from_numpy(data.energy) if choice.use_energy and data.energy is not None else None
        # energies have a zero of their own at each value of the inputs
        members = torch.nn.functional.one_hot(self.which, len(distinct)).to(torch.float64)
        self.mean = (members / members.sum(dim=0)).T
        degrees = self.law._polynomials.degrees if self.law.higher.count else np.zeros(0)
        self.rescale = torch.from_numpy(self.unit * self.scale ** (1.0 - degrees)).expand(len(self.law.powers), -1)
        ridge = np.sqrt(choice.prior) / prior_scale(degrees, self.scale)
        self.ridge = torch.from_numpy(np.tile(ridge, len(self.law.powers)))
        self.sizes = (self.law.stretch.numel(), self.law.log_stiffness.numel(), self.law.coefficients.numel())

    def _parameters(self, theta: Tensor) -> dict[str, Tensor]:
        stretch, stiffness, coefficients = torch.split(theta, list(self.sizes))
        law = self.law
        return {
            "stretch": stretch.reshape(law.stretch.shape), "log_stiffness": stiffness.reshape(law.log_stiffness.shape),
            "coefficients": coefficients.reshape(law.coefficients.shape) * self.rescale,
        }  # fmt: skip

    def _rows(self, energy: Tensor, stress: Tensor) -> Tensor:
        """Scaled rows (6n or 7n, …) of energies (n, …) and stresses (n, 6, …)."""
        shape = (-1,) + (1,) * (stress.ndim - 1)
        rows = (self.root.reshape(shape) / self.unit * stress).reshape(-1, *stress.shape[2:])
        if self.energy is None:
            return rows
        centred = energy - (self.mean @ energy)[self.which]
        factor = ENERGY_WEIGHT / (self.unit * self.size)
        return torch.cat([rows, factor * self.root.reshape(shape[:-1]) * centred])

    def _predict(self, theta: Tensor) -> Tensor:
        energy, stress, _ = functional_call(self.law, self._parameters(theta), (self.points, self.inputs, self.which))
        return self._rows(energy, stress)

    def _residual(self, theta: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            point = torch.from_numpy(theta)
            target = self._rows(torch.zeros(0) if self.energy is None else self.energy, self.stress)
            return torch.cat(
                [self._predict(point) - target, self.ridge * point[-self.sizes[2] :][: self.sizes[2]]]
            ).numpy()

    def _jacobian(self, theta: np.ndarray) -> np.ndarray:
        point = torch.from_numpy(theta)
        few = self.sizes[0] + self.sizes[1]
        with torch.no_grad():
            columns = []
            for first in range(0, few, _COLUMNS):
                last = min(first + _COLUMNS, few)

                def predict(part: Tensor, first: int = first, last: int = last) -> Tensor:
                    return self._predict(torch.cat([point[:first], part, point[last:]]))

                columns.append(jacfwd(predict)(point[first:last]))
            if self.sizes[2]:
                columns.append(self._features(point))
            prior = torch.zeros(self.sizes[2], len(theta), dtype=torch.float64)
            prior[:, few:] = torch.diag(self.ridge)
            return torch.cat([torch.cat(columns, dim=1), prior]).numpy()

    def _features(self, point: Tensor) -> Tensor:
        """Columns of the coefficients, in which the law is linear."""
        law = self.law
        law.stretch.copy_(self._parameters(point)["stretch"])
        cell = law._cell(self.inputs)
        table = law.higher.table(law._pull(cell, self.which, self.points))
        volume = cell.volume[self.which, None]
        gradient = volume[..., None] * (law.higher.gradient(table) @ cell.pull[self.which])
        if law.turn is not None:
            gradient = gradient @ law.turn
        monomials = law.monomials(self.inputs)[self.which]
        values = torch.einsum("np,nb,pb->npb", monomials, volume * law.higher.value(table), self.rescale)
        gradients = torch.einsum("np,nbi,pb->nipb", monomials, gradient, self.rescale)
        return self._rows(values.flatten(1), gradients.flatten(2))

    def start(self) -> np.ndarray:
        """From a linear fit: S = Σ_m t^m (s_m + C_m E), its zero and its stiffness at every value of the inputs."""
        law = self.law
        turn = torch.eye(6, dtype=torch.float64) if law.turn is None else law.turn
        strain, stress = self.points @ turn.T, self.stress @ turn.T
        vectors = torch.from_numpy(mandel.to_mandel(law.stretches.numpy()))
        monomials = law.monomials(self.inputs)
        features = torch.cat(
            [vectors.T.expand(len(strain), 6, len(vectors)), torch.einsum("kij,nj->nik", law.basis, strain)], dim=2
        )
        design = torch.einsum("nik,np->nipk", features, monomials[self.which]) * self.root[:, None, None, None]
        right = (stress * self.root[:, None]).reshape(-1)
        found = np.linalg.lstsq(design.flatten(2).flatten(0, 1).numpy(), right.numpy(), rcond=1e-9)[0]
        amounts = monomials.numpy() @ found.reshape(len(law.powers), -1)
        rest, constants = amounts[:, : len(vectors)], amounts[:, len(vectors) :]
        stiffness = np.einsum("mk,kij->mij", constants, law.basis.numpy())
        values, turns = np.linalg.eigh(stiffness)
        values = np.maximum(values, 0.05 * values.max())
        logs = np.einsum("mia,ma,mja,kij->mk", turns, np.log(values), turns, law.basis.numpy())
        inside = np.einsum("ki,mia,ma,mja,lj->mkl", vectors, turns, values, turns, vectors)
        zero = np.linalg.solve(inside, -rest[..., None])[..., 0]
        values, turns = np.linalg.eigh(np.eye(3) + 2.0 * np.einsum("mk,kij->mij", zero, law.stretches.numpy()))
        values = np.clip(values, 0.5, 2.0)
        stretches = np.einsum("mia,ma,mja,kij->mk", turns, 0.5 * np.log(values), turns, law.stretches.numpy())
        by_state = self.which.numpy()
        head = [
            np.linalg.lstsq(monomials.numpy()[by_state], part[by_state], rcond=1e-9)[0] for part in (stretches, logs)
        ]
        return np.concatenate([*(part.reshape(-1) for part in head), np.zeros(self.sizes[2])])

    def minimise(self) -> float:
        """Levenberg–Marquardt (MINPACK) from `start`; the law holds the result, the mean squared residual is returned."""
        solve: Any = least_squares  # its stub knows no function as jac
        answer = solve(
            self._residual, self.start(), self._jacobian, method="lm", max_nfev=STEPS, xtol=1e-10, ftol=1e-10
        )
        for name, values in self._parameters(torch.from_numpy(answer.x)).items():
            getattr(self.law, name).copy_(values)
        return float(2.0 * answer.cost)
