"""Polynomials of strain in torch, and the classical law: elastic constants of second and higher order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystals import mandel
from crystals.exchange import as_stiffness
from crystals.groups import PointGroup
from crystals.invariants import Polynomials, invariant_polynomials, invariant_tensors
from crystals.rotations import mandel_rotation

from .precomputed import PrecomputedLaw


class PolynomialMap(torch.nn.Module):
    """Several polynomials of a strain with first and second derivatives, from one shared table of monomials.

    The table holds every monomial that the polynomials or their derivatives need, each made from one of lower degree by
    one product; values and derivatives are then small matrix products in which only columns that are not identically
    zero appear.

    Parameters
    ----------
    polynomials : Polynomials
        k polynomials of six variables.
    """

    variables: Tensor
    parents: Tensor
    values: Tensor
    first: Tensor
    second: Tensor
    second_polynomial: Tensor
    scatter: Tensor

    def __init__(self, polynomials: Polynomials) -> None:
        super().__init__()
        self.count = len(polynomials)
        exponents, coefficients = polynomials.exponents, polynomials.coefficients
        table: set[tuple[int, ...]] = {(0,) * 6}
        for row in exponents.tolist():
            for first in range(-1, 6):
                for second in range(-1, 6):
                    lower = list(row)
                    for variable in (first, second):
                        if variable >= 0:
                            lower[variable] -= 1
                    while min(lower) >= 0 and tuple(lower) not in table:
                        table.add(tuple(lower))
                        lower[next(i for i in range(6) if lower[i])] -= 1
        order = sorted(table, key=lambda row: (sum(row), row))
        place = {row: i for i, row in enumerate(order)}
        self._levels: list[tuple[int, int]] = []
        variables, parents = [0], [0]
        for row in order[1:]:
            variable = next(i for i in range(6) if row[i])
            parent = list(row)
            parent[variable] -= 1
            variables.append(variable)
            parents.append(place[tuple(parent)])
        degrees = np.array([sum(row) for row in order])
        for degree in range(1, int(degrees.max(initial=0)) + 1):
            found = np.flatnonzero(degrees == degree)
            self._levels.append((int(found[0]), int(found[-1]) + 1))
        self.register_buffer("variables", torch.tensor(variables), persistent=False)
        self.register_buffer("parents", torch.tensor(parents), persistent=False)

        values = np.zeros((len(order), self.count))
        first_columns = np.zeros((len(order), self.count, 6))
        second_columns = np.zeros((len(order), self.count, 21))
        for exponent, column in zip(exponents.tolist(), coefficients.T, strict=True):
            if not column.any():
                continue
            values[place[tuple(exponent)]] += column
            for i in range(6):
                lower = list(exponent)
                lower[i] -= 1
                if lower[i] < 0:
                    continue
                first_columns[place[tuple(lower)], :, i] += column * exponent[i]
                for j in range(i, 6):
                    lowest = list(lower)
                    lowest[j] -= 1
                    if lowest[j] >= 0:
                        factor = exponent[i] * lower[j]
                        second_columns[place[tuple(lowest)], :, mandel.UPPER_POSITION[i, j]] += column * factor
        self.register_buffer("values", torch.from_numpy(values), persistent=False)
        self.register_buffer("first", torch.from_numpy(first_columns.reshape(len(order), -1)), persistent=False)
        used = np.flatnonzero(np.any(second_columns.reshape(len(order), -1) != 0, axis=0))
        self.register_buffer(
            "second", torch.from_numpy(second_columns.reshape(len(order), -1)[:, used].copy()), persistent=False
        )
        self.register_buffer("second_polynomial", torch.from_numpy(used // 21), persistent=False)
        scatter = np.zeros((len(used), 21))
        scatter[np.arange(len(used)), used % 21] = 1.0
        self.register_buffer("scatter", torch.from_numpy(scatter), persistent=False)

    def table(self, strain: Tensor) -> Tensor:
        """Monomials (n, m) at strains (n, 6)."""
        level = torch.ones(len(strain), 1, dtype=strain.dtype, device=strain.device)
        levels, base = [level], 0
        for start, stop in self._levels:
            level = level[:, self.parents[start:stop] - base] * strain[:, self.variables[start:stop]]
            levels.append(level)
            base = start
        return torch.cat(levels, dim=1)

    def value(self, table: Tensor) -> Tensor:
        """Values (n, k)."""
        return table @ self.values

    def gradient(self, table: Tensor) -> Tensor:
        """First derivatives (n, k, 6)."""
        return (table @ self.first).reshape(len(table), self.count, 6)

    def hessian(self, table: Tensor, weights: Tensor) -> Tensor:
        """Σ_k weights[:, k] ∂²p_k as 21 entries (n, 21), for weights (n, k) or (k,)."""
        return ((table @ self.second) * weights[..., self.second_polynomial]) @ self.scatter


def frame_rotation(group: PointGroup) -> Tensor | None:
    """6×6 matrix that turns strains from the frame of a law to its group's standard frame; None for the identity."""
    if np.array_equal(group.frame, np.eye(3)):
        return None
    return torch.from_numpy(mandel_rotation(group.frame.T))


def rotate_back(turn: Tensor, stress: Tensor, entries: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Stress (n, 6) and 21 tangent entries from the standard frame back to the frame of the law."""
    stress = stress @ turn
    if entries is None:
        return stress, None
    return stress, mandel.pack_upper(turn.T @ mandel.unpack_upper(entries) @ turn)


def stiffness_basis(group: PointGroup) -> np.ndarray:
    """Orthonormal basis (k, 6, 6) of the invariant symmetric matrices of a group, standard frame."""
    tensors = invariant_tensors(group.laue.symbol, 2)
    left, _, right = np.linalg.svd(tensors.reshape(len(tensors), 36), full_matrices=False)
    del left
    return right.reshape(-1, 6, 6)


def project_stiffness(group: PointGroup, stiffness: np.ndarray) -> np.ndarray:
    """The part (6, 6) of a stiffness, in the group's standard frame, that the group leaves alone."""
    basis = stiffness_basis(group)
    return np.einsum("k,kij->ij", np.einsum("kij,ij->k", basis, stiffness), basis)


def higher_order_polynomials(group: PointGroup, order: int) -> Polynomials:
    """Basis of the invariant polynomials of degree 3 … order, standard frame."""
    bases = [invariant_polynomials(group.laue.symbol, degree) for degree in range(3, order + 1)]
    if not bases:
        return Polynomials(np.zeros((0, 6), dtype=int), np.zeros((0, 0)))
    exponents = np.concatenate([basis.exponents for basis in bases])
    coefficients = np.zeros((sum(len(basis) for basis in bases), len(exponents)))
    row = column = 0
    for basis in bases:
        coefficients[row : row + len(basis), column : column + len(basis.exponents)] = basis.coefficients
        row, column = row + len(basis), column + len(basis.exponents)
    used = np.any(coefficients != 0, axis=0)
    return Polynomials(exponents[used], coefficients[:, used])


def summed(basis: Polynomials, coefficients: Tensor) -> PolynomialMap:
    """The one polynomial Σ c_b p_b of a basis and its coefficients (b,)."""
    combined = coefficients.detach().cpu().numpy() @ basis.coefficients
    return PolynomialMap(Polynomials(basis.exponents, combined[None])).to(coefficients.device)


class PolynomialLaw(PrecomputedLaw[PolynomialMap]):
    """W = ½ E·C·E + Σ c_b p_b(E): elastic constants of order 2 … n (Brugger 1964, doi:10.1103/PhysRev.133.A1611).

    Parameters
    ----------
    group : PointGroup
        Symmetry, in the frame of the strains.
    order : int
        Highest order of elastic constants, 2 to 6.
    stiffness : (6, 6), or pymatgen ElasticTensor
        C(0), Mandel (or the full tensor (3, 3, 3, 3)), in `units`, frame of the strains.
        Only its invariant part is used; it must be positive definite.
    coefficients : (b,), optional
        Coefficient of each polynomial of `higher_order_polynomials`, in `units`; zero by default.
    units, max_strain, strain_measure
        As in `Law`.
    """

    constants: Tensor
    coefficients: Tensor
    turn: Tensor | None

    def __init__(
        self,
        group: PointGroup,
        order: int,
        stiffness: np.ndarray,
        coefficients: np.ndarray | None = None,
        *,
        units: str = "GPa",
        max_strain: float = float("inf"),
        strain_measure: str = "green_lagrange",
    ) -> None:
        super().__init__(group, units=units, max_strain=max_strain, strain_measure=strain_measure)
        if not 2 <= order <= 6:
            raise ValueError(f"PolynomialLaw: expected an order from 2 to 6, got {order}.")
        self.order = order
        self.polynomials = higher_order_polynomials(group, order)
        c = np.zeros(len(self.polynomials)) if coefficients is None else np.asarray(coefficients, dtype=float)
        if c.shape != (len(self.polynomials),):
            raise ValueError(
                f"PolynomialLaw: expected {len(self.polynomials)} coefficients for {group.symbol} to order {order}, "
                f"got shape {c.shape}."
            )
        stiffness = as_stiffness("PolynomialLaw", stiffness)
        self.register_buffer("constants", torch.from_numpy(check_stiffness("PolynomialLaw", group, stiffness)))
        self.register_buffer("coefficients", torch.from_numpy(c))
        self.register_buffer("turn", frame_rotation(group), persistent=False)
        self._fix()

    def _fix(self) -> None:
        """Compute `fixed` now: the first evaluation may be a trace of torch's, in which nothing can be computed."""
        _ = self.fixed

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._fix()

    def _precompute(self) -> PolynomialMap:
        return summed(self.polynomials, self.coefficients)

    def config(self) -> dict[str, Any]:
        return {
            "point_group": self.group.symbol, "frame": self.group.frame.tolist(), "order": self.order,
            "units": self.units, "max_strain": self.max_strain, "strain_measure": self.strain_measure,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PolynomialLaw:
        group = PointGroup(config["point_group"], np.array(config["frame"]))
        rest = {key: config[key] for key in ("units", "max_strain", "strain_measure")}
        return cls(group, config["order"], np.eye(6), **rest)

    def _evaluate(self, strain: Tensor, tangent: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.turn is not None:
            strain = strain @ self.turn.T
        linear = strain @ self.constants
        table = self.fixed.table(strain)
        energy = 0.5 * (linear * strain).sum(dim=1) + self.fixed.value(table)[:, 0]
        stress = linear + self.fixed.gradient(table)[:, 0]
        entries = None
        if tangent:
            one = torch.ones(1, dtype=strain.dtype, device=strain.device)
            entries = self.fixed.hessian(table, one) + mandel.pack_upper(self.constants)
        if self.turn is not None:
            stress, entries = rotate_back(self.turn, stress, entries)
        return energy, stress, entries


def check_stiffness(where: str, group: PointGroup, stiffness: np.ndarray) -> np.ndarray:
    """Invariant part of a stiffness in the group's standard frame, or ValueError where it is not positive definite."""
    turn = mandel_rotation(group.frame.T)
    invariant = project_stiffness(group, turn @ stiffness @ turn.T)
    smallest = float(np.linalg.eigvalsh(invariant)[0])
    if not smallest > 0:
        raise ValueError(
            f"{where}: expected a positive definite stiffness, got a smallest Mandel eigenvalue of {smallest:.4g}. "
            "The reference state is unstable; check units, signs and the Mandel factors (2 on C44)."
        )
    return invariant
