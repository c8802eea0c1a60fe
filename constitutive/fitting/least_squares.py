"""Nonlinear least squares of a symmetric law and its stress-free cell on strain data.

The file's reference cell need not be stress-free. The stretch U₀ from it to the stress-free cell is fitted with the
law, in the class's invariant form. From F = F_law U₀ follow E_law = U₀⁻¹ (E − E₀) U₀⁻¹ with E₀ = ½ (U₀² − 1),
S = J₀ U₀⁻¹ S_law U₀⁻¹ and W = J₀ W_law + constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import factorial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from crystals import mandel
from crystals.dataset import StrainData
from crystals.groups import PointGroup
from crystals.invariants import invariant_polynomials
from crystals.rotations import mandel_rotation

from ..laws.law import Law
from ..laws.polyconvex import PolyconvexLaw
from ..laws.polynomial import PolynomialMap
from ..laws.strain_measure import StrainMeasure, sandwich, to_tensor, to_vector
from ..laws.symmetric import SymmetricLaw

#: Weight of the energy residual beside one stress component; both are non-dimensional.
ENERGY_WEIGHT = 0.3
#: States whose Jacobians are formed at once.
_CHUNK = 512


def invariant_stretches(group: PointGroup) -> np.ndarray:
    """Orthonormal symmetric tensors (k, 3, 3) that the group leaves alone, in the frame of the strains."""
    basis = invariant_polynomials(group.laue.symbol, 1).coefficients
    vectors = np.linalg.svd(basis, full_matrices=False)[2]
    return mandel.from_mandel(vectors @ mandel_rotation(group.frame).T)


#: Elastic constants grow about tenfold from one order to the next (Hiki and Granato 1966,
#: doi:10.1103/PhysRev.144.411): the scale of the ridge on each degree.
GROWTH = 10.0


def prior_scale(degrees: np.ndarray, largest: float) -> np.ndarray:
    """Expected size of polynomial coefficients at strains of order `largest`, over that of the linear stress.

    A constant of order d adds a stress of GROWTH^(d−2) |E|^(d−1) / (d−1)! relative to C. Degrees below 3 are free.
    """
    sizes = [(GROWTH * largest) ** (d - 2) / factorial(int(d) - 1) if d > 2 else np.inf for d in degrees.tolist()]
    return np.array(sizes, dtype=float)


@cache
def _map(symbol: str, degree: int) -> PolynomialMap:
    return PolynomialMap(invariant_polynomials(symbol, degree))


@dataclass(frozen=True)
class Choice:
    """What cross-validation chooses of a law: degree and ridge parameter of the polynomial part, strain measure, network.

    Degree 1 stands for a network alone, degree 0 for a polyconvex law.
    """

    order: int
    prior: float
    measure: float = 1.0
    network: str = "invariants"
    widths: tuple[int, ...] = (8, 8)
    members: int = 1


class Shown(Protocol):
    """What shows the progress of a fit: called once a step, with relative errors by name."""

    def __call__(self, **errors: float) -> None: ...


#: Laws that `Problem` fits.
FittedLaw = SymmetricLaw | PolyconvexLaw


class PolynomialFit:
    """Linear least squares of an invariant polynomial with constant and linear terms: the baseline.

    Parameters
    ----------
    data : StrainData
    order : int
        Degree of the energy, at least 2.
    use_energy, use_stress : bool
        Which of the two count.
    prior : float
        Ridge parameter on coefficients of degree 3 and more over `prior_scale`; 0 gives the minimum-norm solution.
    measure : float
        The strain that the energy is a polynomial of (`constitutive.laws.strain_measure`): 1 for Green–Lagrange.
    weights : array (n,), optional
        Factor of each state's residuals.
    """

    def __init__(
        self, data: StrainData, order: int, use_energy: bool = True, prior: float = 0.0, use_stress: bool = True,
        measure: float = 1.0, weights: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        assert data.group is not None
        self.group, self.measure = data.group, measure
        self.turn = mandel_rotation(self.group.frame.T)
        # the size of the strain that the polynomial sees
        self.scale = float(np.linalg.norm(StrainMeasure(torch.from_numpy(data.strain), measure).value, axis=1).max())
        symbol = self.group.laue.symbol
        self._maps = [_map(symbol, degree) for degree in range(1, order + 1)]
        values, gradients = self._features(data.strain)
        stress = data.stress @ self.turn.T
        unit = float(np.sqrt(np.mean(np.sum(stress**2, axis=1))))
        n = len(data)
        w = np.ones(n) if weights is None else weights
        rows, right = [], []
        if use_stress:
            features = (w[:, None, None] * gradients.transpose(0, 2, 1)).reshape(6 * n, -1)
            rows.append(np.concatenate([np.zeros((6 * n, 1)), features], axis=1))
            right.append((w[:, None] * stress).reshape(-1) / unit)
        if use_energy and data.energy is not None:
            factor = ENERGY_WEIGHT / float(np.sqrt(np.mean(np.sum(data.strain**2, axis=1)))) * w
            rows.append(factor[:, None] * self.scale * np.concatenate([np.ones((n, 1)), values], axis=1))
            right.append(factor * data.energy / unit)
        # the rows go through one orthogonal factor; ridge parameters are then tried on a small triangle
        orthogonal, self._rows = np.linalg.qr(np.concatenate(rows))
        self._right = orthogonal.T @ np.concatenate(right)
        self._degrees = np.concatenate([[0], *(np.full(m.count, d + 1) for d, m in enumerate(self._maps))])
        self.states, self.unit = n, unit
        self.solve(prior)

    def solve(self, prior: float) -> None:
        """Solve again with another ridge parameter."""
        rows: list[np.ndarray] = [self._rows]
        right: list[np.ndarray] = [self._right]
        if prior > 0:
            rows.append(np.diag(np.sqrt(prior * self.states) / prior_scale(self._degrees, self.scale)))
            right.append(np.zeros(len(self._degrees)))
        solution = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=1e-9)[0]
        self.coefficients = solution[1:] * self.unit
        self.constant = float(solution[0]) * self.unit * self.scale

    def _features(self, strain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        measured = StrainMeasure(torch.from_numpy(strain @ self.turn.T), self.measure)
        tables = [(m, m.table(measured.value / self.scale)) for m in self._maps]
        values = torch.cat([m.value(table) for m, table in tables], dim=1)
        gradients = torch.cat([m.gradient(table) for m, table in tables], dim=1)
        return values.numpy(), (gradients if self.measure == 1.0 else gradients @ measured.jacobian()).numpy()

    def energy(self, strain: np.ndarray) -> np.ndarray:
        """Energy density (n,) at strains (n, 6), with the fitted constant."""
        return self.constant + self.scale * self._features(strain)[0] @ self.coefficients

    def stress(self, strain: np.ndarray) -> np.ndarray:
        """Second Piola–Kirchhoff stress (n, 6)."""
        return self.stresses(strain, (None,))[0]

    def stresses(self, strain: np.ndarray, priors: tuple[float | None, ...]) -> list[np.ndarray]:
        """Stresses (n, 6) with each of several ridge parameters; None leaves the last one."""
        features = self._features(strain)[1]
        found = []
        for prior in priors:
            if prior is not None:
                self.solve(prior)
            found.append(np.einsum("nki,k->ni", features, self.coefficients) @ self.turn)
        return found

    def stiffness(self) -> np.ndarray:
        """Second derivative of the energy at the file's cell (6, 6), Mandel."""
        first, second = self._maps[0].count, self._maps[1].count
        part = torch.from_numpy(self.coefficients[first : first + second] / self.scale)
        zero = torch.zeros(1, 6, dtype=torch.float64)
        matrix = mandel.unpack_upper(self._maps[1].hessian(self._maps[1].table(zero), part))[0]
        # the file's cell is under stress, and e is E only to first order
        slope = torch.from_numpy(self.coefficients[:first]) @ self._maps[0].gradient(self._maps[0].table(zero))[0]
        bend = 2.0 * (1.0 - self.measure) * sandwich(to_tensor(slope), torch.eye(3, dtype=torch.float64))
        return self.turn.T @ (matrix - bend).numpy() @ self.turn


@dataclass
class Reference:
    """The stress-free cell relative to the file's: stretch (3, 3), strain E₀ (6,), and the constant in W."""

    stretch: np.ndarray
    offset: float

    @property
    def strain(self) -> np.ndarray:
        return mandel.to_mandel(0.5 * (self.stretch @ self.stretch - np.eye(3)))

    def to_law(self, strain: np.ndarray) -> np.ndarray:
        """Strains (n, 6) counted from the stress-free cell, of strains counted from the file's cell."""
        inverse = np.linalg.inv(self.stretch)
        return mandel.to_mandel(inverse @ mandel.from_mandel(strain - self.strain) @ inverse)

    def from_law(self, stress: np.ndarray) -> np.ndarray:
        """Stress (n, 6) per area of the file's cell, of stress per area of the stress-free cell."""
        inverse = np.linalg.inv(self.stretch)
        return mandel.to_mandel(np.linalg.det(self.stretch) * inverse @ mandel.from_mandel(stress) @ inverse)


def predicted_stress(law: Law, strain: np.ndarray) -> np.ndarray:
    """Stress of a fitted law as its data give it.

    Parameters
    ----------
    law : Law
        From `fit`, or any other law, whose reference cell is then its own.
    strain : array (n, 6)
        Green–Lagrange, Mandel, counted from the data's reference cell, which need not be stress-free.

    Returns
    -------
    array (n, 6)
        Second Piola–Kirchhoff stress per area of the same cell, in the law's units.
    """
    stretch = law.metadata.get("reference", {}).get("stretch", np.eye(3).tolist())
    reference = Reference(np.array(stretch, dtype=float), 0.0)
    return reference.from_law(law.response(reference.to_law(strain), tangent=False).stress)


class Problem:
    """Residuals of a law and its stress-free cell on data, and Levenberg–Marquardt on them (Marquardt 1963).

    The unknowns are the stretch to the stress-free cell, a constant in the energy, and the law's parameters. The
    objective is the mean squared residual, in units of the RMS stress, plus α |Δ(network weights)|² plus a ridge on the
    polynomial coefficients in scaled units (strain over the largest strain). Hidden weights are drawn to where they
    started and the last layer to zero: a large α leaves random features that are silent, not dead ones; a polyconvex law
    cannot be silent, and all of it is drawn to where it started. α is lowered in
    steps by the caller, so that the network grows out of the polynomial only as far as held-out data want.
    """

    def __init__(
        self, law: FittedLaw, data: StrainData, use_energy: bool, prior: float, weights: np.ndarray | None = None
    ) -> None:
        self.law, self.prior = law, prior
        #: Factor (n, 1) of each state's residuals.
        self.weights = torch.from_numpy(np.ones(len(data)) if weights is None else weights)[:, None]
        unit = float(np.sqrt(np.mean(np.sum(data.stress**2, axis=1))))
        size = float(np.sqrt(np.mean(np.sum(data.strain**2, axis=1))))
        self.stress_unit, self.energy_unit = unit, unit * size
        self.energy_weight = ENERGY_WEIGHT if use_energy and data.energy is not None else 0.0
        turn = mandel_rotation(law.group.frame.T)
        self.turn = turn
        self.points = torch.from_numpy(data.strain @ turn.T)
        energy = np.zeros(len(data)) if data.energy is None else data.energy
        self.target = torch.from_numpy(
            np.concatenate(
                [data.stress @ turn.T / unit, self.energy_weight * energy[:, None] / self.energy_unit], axis=1
            )
        )
        standard = PointGroup(law.group.symbol)
        self.stretches = torch.from_numpy(invariant_stretches(standard))
        degrees = law.degrees if isinstance(law, SymmetricLaw) else np.zeros(0)
        # coefficients are learned at strains of order one; the ridge is that of `PolynomialFit`
        self.rescale = torch.from_numpy(law.strain_scale ** (2.0 - degrees))
        ratio = law.energy_scale * law.strain_scale / unit
        self.ridge = torch.from_numpy(prior * (ratio / prior_scale(degrees, law.strain_scale)) ** 2)
        self.slots: list[tuple[str, torch.Size]] = [
            ("stretch", torch.Size([len(self.stretches)])), ("offset", torch.Size([1])),
        ]  # fmt: skip
        parameters = {name: p for name, p in law.named_parameters() if p.requires_grad}
        self.slots += [(name, p.shape) for name, p in parameters.items()]
        start = {"stretch": torch.zeros(len(self.stretches)), "offset": torch.zeros(1)}
        start |= {name: p.detach() for name, p in parameters.items()}
        if "coefficients" in start:
            start["coefficients"] = start["coefficients"] / self.rescale
        self.theta = torch.cat([start[name].reshape(-1).double() for name, _ in self.slots])
        silent = isinstance(law, SymmetricLaw)
        drawn_to = {
            name: start[name] for name in parameters
            if not silent or (name.startswith("network.") and not name.endswith("last"))
        }  # fmt: skip
        # holds back weights of a polyconvex law whose softplus is nearly flat: their own diagonal lets them run away
        self.floor = 1e-12 if silent else 1e-4
        self.centre = torch.cat(
            [drawn_to.get(name, torch.zeros(shape)).reshape(-1).double() for name, shape in self.slots]
        )
        self.damping = 1e-3

    def _unpack(self, theta: Tensor) -> dict[str, Tensor]:
        parts, place = {}, 0
        for name, shape in self.slots:
            parts[name] = theta[place : place + shape.numel()].reshape(shape)
            place += shape.numel()
        if "coefficients" in parts:
            parts["coefficients"] = parts["coefficients"] * self.rescale
        return parts

    def _predict(self, theta: Tensor, point: Tensor) -> Tensor:
        """Scaled stress and energy (7,) at one strain (6,)."""
        parts = self._unpack(theta)
        offset, amounts = parts.pop("offset"), parts.pop("stretch")
        one = torch.eye(3, dtype=torch.float64)
        stretch = one + self.law.strain_scale * torch.einsum("k,kij->ij", amounts, self.stretches)
        inverse, jacobian = torch.linalg.inv(stretch), torch.linalg.det(stretch)
        strain = to_tensor(point) - 0.5 * (stretch @ stretch - one)
        energy, stress = functional_call(self.law, parts, (to_vector(inverse @ strain @ inverse)[None],))
        unit = self.law.energy_scale / self.stress_unit
        stress = jacobian * to_vector(inverse @ to_tensor(stress[0]) @ inverse) * unit
        energy = self.law.energy_scale / self.energy_unit * jacobian * energy + offset
        return torch.cat([stress, self.energy_weight * energy])

    def _residual(self, theta: Tensor) -> Tensor:
        """Weighted residuals (n, 7)."""
        return self.weights * (vmap(self._predict, in_dims=(None, 0))(theta, self.points) - self.target)

    def jacobian(self, theta: Tensor, states: slice) -> Tensor:
        """Derivatives (m, 7, p) of the weighted residuals of some states."""
        found = vmap(jacrev(self._predict), in_dims=(None, 0))(theta, self.points[states])
        return self.weights[states, :, None] * found

    def _prior(self, alpha: float) -> Tensor:
        free = {"stretch", "offset", "log_stiffness"}
        parts = []
        for name, shape in self.slots:
            same = torch.full((shape.numel(),), 0.0 if name in free else alpha, dtype=torch.float64)
            parts.append(self.ridge if name == "coefficients" else same)
        return torch.cat(parts)

    def _cost(self, theta: Tensor, prior: Tensor) -> float:
        return float((self._residual(theta) ** 2).sum() / len(self.points) + (prior * (theta - self.centre) ** 2).sum())

    def minimise(self, alpha: float, iterations: int, shown: Shown | None = None) -> float:
        """Lower the objective from where the last call stopped; returns it."""
        prior, n = self._prior(alpha), len(self.points)
        cost = self._cost(self.theta, prior)
        for _ in range(iterations):
            residual = self._residual(self.theta).reshape(-1)
            normal = torch.zeros(len(self.theta), len(self.theta), dtype=torch.float64)
            slope = torch.zeros(len(self.theta), dtype=torch.float64)
            for start in range(0, n, _CHUNK):
                jacobian = self.jacobian(self.theta, slice(start, start + _CHUNK)).flatten(0, 1)
                normal += jacobian.T @ jacobian / n
                slope += jacobian.T @ residual[7 * start : 7 * start + len(jacobian)] / n
            slope += prior * (self.theta - self.centre)
            if shown is not None:
                shown(training=float((residual.reshape(n, 7)[:, :6] ** 2).sum() / n) ** 0.5)
            for _ in range(12):
                damped = normal + torch.diag(prior + self.damping * (torch.diag(normal) + self.floor))
                factor, info = torch.linalg.cholesky_ex(damped)
                step = -torch.cholesky_solve(slope[:, None], factor)[:, 0] if int(info) == 0 else None
                trial = float("inf") if step is None else self._cost(self.theta + step, prior)
                if trial < cost:
                    break
                self.damping = max(self.damping, 1e-12) * 4.0
            else:
                return cost
            assert step is not None
            gain = (cost - trial) / cost
            self.theta, cost = self.theta + step, trial
            self.damping = max(self.damping / 5.0, 1e-14)
            if gain < 1e-4:
                break
        return cost

    def reference(self) -> Reference:
        """The fitted stress-free cell, in the frame of the strains."""
        parts = self._unpack(self.theta)
        amounts = self.law.strain_scale * parts["stretch"].numpy()
        stretch = np.eye(3) + np.einsum("k,kij->ij", amounts, self.stretches.numpy())
        frame = self.law.group.frame
        return Reference(frame @ stretch @ frame.T, float(parts["offset"]) * self.energy_unit)

    def store(self) -> None:
        """Write the parameters into the law."""
        parts = self._unpack(self.theta)
        with torch.no_grad():
            for name, parameter in self.law.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(parts[name])
        self.law.refresh()
