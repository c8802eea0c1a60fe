"""Laws with inputs beside the strain: W(E; θ), θ a temperature, a composition, or several such scalars.

The stress-free cell moves with θ. Strain E is counted from one fixed cell; U(θ) is the stretch from it to the
stress-free cell, and F = F_law U(θ) splits the deformation, as Stojanović, Djurić and Vujošević (1964) and Lu and
Pister (1975, International Journal of Solids and Structures 11, 927) did for thermal expansion. With E_θ = ½ (U² − 1) and J = det U,

    E_law = U⁻¹ (E − E_θ) U⁻¹        W = J W_law(E_law; θ)        S = J U⁻¹ S_law U⁻¹

so that S = 0 at E = E_θ, whatever the parameters.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp

from crystals import mandel
from crystals.groups import PointGroup
from crystals.invariants import invariant_polynomials
from crystals.rotations import mandel_rotation

from .exponential import symmetric_exponential
from .law import INVALID, OUT_OF_RANGE, Law
from .polynomial import (
    PolynomialLaw,
    PolynomialMap,
    check_stiffness,
    frame_rotation,
    higher_order_polynomials,
    rotate_back,
    stiffness_basis,
)
from .strain_measure import to_vector

#: The six tensors that have a one as a single Mandel component.
_UNITS = torch.from_numpy(mandel.from_mandel(np.eye(6)))


class _Cell(NamedTuple):
    """The stress-free cell at m values of the inputs."""

    strain: Tensor  # E_θ (m, 6), frame of the law
    pull: Tensor  # (m, 6, 6): E − E_θ → E_law, standard frame
    volume: Tensor  # J (m,)


def input_powers(count: int, degree: int) -> np.ndarray:
    """Exponents (p, k) of all monomials of k inputs up to a total degree, the constant first."""
    rows = [row for row in itertools.product(range(degree + 1), repeat=count) if sum(row) <= degree]
    return np.array(sorted(rows, key=lambda row: (sum(row), row)), dtype=int).reshape(-1, count)


def stretch_basis(group: PointGroup) -> np.ndarray:
    """Orthonormal symmetric tensors (b, 3, 3) that the group leaves alone, standard frame."""
    basis = invariant_polynomials(group.laue.symbol, 1).coefficients
    return mandel.from_mandel(np.linalg.svd(basis, full_matrices=False)[2])


class ParametricLaw(Law):
    """W(E; θ) = J [½ E_law·C(θ)·E_law + Σ c_b(θ) p_b(E_law)] about a stress-free cell that moves with θ.

    With t = the inputs mapped to −1 … 1 over their range, everything is a polynomial in t inside the class's own
    space: log U(θ) in that of invariant stretches, so that U is positive definite; log C(θ) in that of invariant
    stiffnesses, so that C is positive definite; and each c_b(θ). Symmetry is therefore exact at every θ, and so is
    S = 0 at the stress-free cell. Energy is counted from that cell at each θ: what θ alone adds to the free energy
    moves no stress and is not known to the law.

    Parameters
    ----------
    group : PointGroup or str
        Symmetry, in the frame of the strains. It must hold over the whole range of the inputs.
    input_names : sequence of str
        What the inputs are, such as ('temperature',).
    input_range : (k, 2)
        Smallest and largest value of each: outside, points are `OUT_OF_RANGE`.
    order : int
        Highest order of elastic constants, 2 to 6.
    degree : int
        Total degree of the polynomials in the inputs, at least 0.
    units, max_strain
        As in `Law`; |E_law|, counted from the stress-free cell of each point's inputs, is what `max_strain` limits.

    Attributes
    ----------
    stretch, log_stiffness, coefficients : Parameter (p, …)
        Coordinates of log U, log C and c for each of the p monomials of `input_powers`.

    Raises
    ------
    ValueError
        For an order, degree, name or range that is none. `response` asks for inputs.
    """

    span: Tensor
    centre: Tensor
    powers: Tensor
    stretches: Tensor
    basis: Tensor
    reference: Tensor
    turn: Tensor | None
    stretch: Tensor
    log_stiffness: Tensor
    coefficients: Tensor

    def __init__(
        self,
        group: PointGroup | str,
        input_names: Sequence[str],
        input_range: Any,
        order: int = 3,
        degree: int = 1,
        *,
        units: str = "GPa",
        max_strain: float = float("inf"),
    ) -> None:
        where = "ParametricLaw"
        group = PointGroup(group) if isinstance(group, str) else group
        super().__init__(group, units=units, max_strain=max_strain)
        if not 2 <= order <= 6:
            raise ValueError(f"{where}: expected an order from 2 to 6, got {order}.")
        if not 0 <= degree <= 8:
            raise ValueError(f"{where}: expected a degree in the inputs from 0 to 8, got {degree}.")
        if isinstance(input_names, str) or not len(input_names) or len(set(input_names)) < len(input_names):
            raise ValueError(f"{where}: expected different names of inputs, got {input_names!r}. Give a tuple of str.")
        ends = np.array(input_range, dtype=float)
        if ends.shape != (len(input_names), 2) or not np.all(np.isfinite(ends)) or not np.all(ends[:, 0] < ends[:, 1]):
            raise ValueError(
                f"{where}: expected input_range with a smallest and a larger largest value of each of "
                f"{', '.join(input_names)}, got {ends.tolist()}. A constant input is no input."
            )
        self.input_names = tuple(str(name) for name in input_names)
        self.input_range = ends
        self.order, self.degree = order, degree
        self._polynomials = higher_order_polynomials(group, order)
        self.higher = PolynomialMap(self._polynomials)
        powers = input_powers(len(ends), degree)
        parts: dict[str, np.ndarray] = {
            "centre": ends.mean(axis=1), "span": 0.5 * (ends[:, 1] - ends[:, 0]), "powers": powers,
            "stretches": stretch_basis(group), "basis": stiffness_basis(group),
        }  # fmt: skip
        for name, array in parts.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
        self.register_buffer("turn", frame_rotation(group), persistent=False)
        # log-stretch from the cell that U is counted from to the cell that strain is counted from
        self.register_buffer("reference", torch.zeros(3, 3, dtype=torch.float64))
        sizes = {"stretch": len(self.stretches), "log_stiffness": len(self.basis), "coefficients": self.higher.count}
        for name, size in sizes.items():
            values = torch.zeros(len(powers), size, dtype=torch.float64)
            setattr(self, name, torch.nn.Parameter(values, requires_grad=False))

    @classmethod
    def thermoelastic(
        cls,
        group: PointGroup | str,
        stiffness: np.ndarray,
        expansion: Any,
        *,
        reference: float,
        input_range: tuple[float, float],
        input_name: str = "temperature",
        units: str = "GPa",
    ) -> ParametricLaw:
        """The law of a handbook: constant stiffness, constant expansion, stress-free at `reference`.

        Parameters
        ----------
        stiffness : (6, 6)
            C, Mandel, in `units`, frame of the strains. Its invariant part is used.
        expansion : float or (3, 3)
            α per unit of the input, frame of the strains: U = exp(α (θ − reference)).
        reference : float
            Input at which the cell that strain is counted from is free of stress.
        input_range : (float, float)
            Where the law holds.

        Raises
        ------
        ValueError
            For a stiffness that is not positive definite or an expansion that the group does not leave alone.
        """
        where = "ParametricLaw.thermoelastic"
        law = cls(group, (input_name,), [input_range], order=2, degree=1, units=units)
        alpha = np.asarray(expansion, dtype=float)
        alpha = alpha * np.eye(3) if alpha.ndim == 0 else alpha
        frame, basis = law.group.frame, stretch_basis(law.group)
        turned = frame.T @ alpha @ frame
        amounts = np.einsum("kij,ij->k", basis, turned)
        if np.abs(np.einsum("k,kij->ij", amounts, basis) - turned).max() > 1e-9 * np.abs(turned).max():
            raise ValueError(
                f"{where}: expected an expansion that {law.group.symbol} leaves alone, got {alpha.tolist()}. Average it "
                "over the group, or lower the symmetry."
            )
        values, vectors = np.linalg.eigh(check_stiffness(where, law.group, np.asarray(stiffness, dtype=float)))
        logarithm = (vectors * np.log(values)) @ vectors.T
        law.log_stiffness[0] = torch.from_numpy(np.einsum("kij,ij->k", stiffness_basis(law.group), logarithm))
        law.stretch[0] = torch.from_numpy(amounts) * (law.centre - reference)
        law.stretch[1] = torch.from_numpy(amounts) * law.span
        return law.referred_to(reference)

    def config(self) -> dict[str, Any]:
        return {
            "point_group": self.group.symbol, "frame": self.group.frame.tolist(), "input_names": list(self.input_names),
            "input_range": self.input_range.tolist(), "order": self.order, "degree": self.degree, "units": self.units,
            "max_strain": self.max_strain,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ParametricLaw:
        rest = {key: value for key, value in config.items() if key not in ("point_group", "frame")}
        return cls(PointGroup(config["point_group"], np.array(config["frame"])), **rest)

    def monomials(self, inputs: Tensor) -> Tensor:
        """Monomials (m, p) of the scaled inputs, at inputs (m, k)."""
        scaled = (inputs - self.centre) / self.span
        return torch.prod(scaled[:, None, :] ** self.powers, dim=2)

    def _log_stretch(self, inputs: Tensor) -> Tensor:
        return torch.einsum("mp,pk,kij->mij", self.monomials(inputs), self.stretch, self.stretches)

    def _cell(self, inputs: Tensor) -> _Cell:
        logarithm = self._log_stretch(inputs)
        stretch, start = symmetric_exponential(logarithm), symmetric_exponential(self.reference)
        back = torch.linalg.inv(start)
        # computed alike, so that they cancel to the last bit where the cells are the same
        strain = _symmetric(back @ (0.5 * (stretch @ stretch - start @ start)) @ back)
        if self.turn is not None:
            strain = strain @ self.turn
        # a stretch that overflowed makes its own point invalid, and raises nothing
        push = torch.linalg.inv_ex(stretch).inverse @ start
        images = push[:, None] @ _UNITS.to(push.device) @ push.mT[:, None]
        volume = torch.exp(torch.einsum("mii->m", logarithm) - torch.trace(self.reference))
        return _Cell(strain, _symmetric(images).mT, volume)

    def _constants(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """C (m, 6, 6) and the coefficients of higher order (m, b), standard frame."""
        monomials = self.monomials(inputs)
        logarithm = torch.einsum("mp,pk,kij->mij", monomials, self.log_stiffness, self.basis)
        return symmetric_exponential(logarithm), monomials @ self.coefficients

    def _pull(self, cell: _Cell, which: Tensor, strain: Tensor) -> Tensor:
        """E_law (n, 6), standard frame, of strains (n, 6) whose inputs are number `which` (n,) of the cell's."""
        change = strain - cell.strain[which]
        if self.turn is not None:
            change = change @ self.turn.T
        return torch.einsum("nij,nj->ni", cell.pull[which], change)

    def forward(
        self, strain: Tensor, inputs: Tensor, which: Tensor, tangent: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Energy, stress and tangent entries at strains (n, 6) with inputs[which], differentiable in everything."""
        cell, (constants, coefficients) = self._cell(inputs), self._constants(inputs)
        inside = self._pull(cell, which, strain)
        stress = torch.einsum("nij,nj->ni", constants[which], inside)
        energy = 0.5 * (stress * inside).sum(dim=1)
        if self.higher.count:
            table, amounts = self.higher.table(inside), coefficients[which]
            energy = energy + (self.higher.value(table) * amounts).sum(dim=1)
            stress = stress + torch.einsum("nki,nk->ni", self.higher.gradient(table), amounts)
        volume, pull = cell.volume[which], cell.pull[which]
        entries = None
        if tangent:
            inner = constants[which]
            if self.higher.count:
                inner = inner + mandel.unpack_upper(self.higher.hessian(table, amounts))
            outer = volume[:, None, None] * pull.mT @ inner @ pull
            entries = mandel.pack_upper(0.5 * (outer + outer.mT))
        energy, stress = volume * energy, volume[:, None] * torch.einsum("nji,nj->ni", pull, stress)
        if self.turn is not None:
            stress, entries = rotate_back(self.turn, stress, entries)
        return energy, stress, entries

    def _step_at(
        self, strain: Tensor, state: Tensor, inputs: Tensor, dt: float, tangent: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]:
        # one temperature for all points is the usual case: its cell is made once
        distinct, which = torch.unique(inputs, dim=0, return_inverse=True)
        energy, stress, entries = self.forward(strain, distinct, which, tangent)
        # far outside the range an exponential may overflow
        failed = ~(torch.isfinite(energy) & torch.isfinite(stress).all(dim=1))
        return energy, stress, entries, state, failed

    def _evaluate(self, strain: Tensor, tangent: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        raise ValueError(
            f"ParametricLaw: expected inputs ({', '.join(self.input_names)}), got none. Use law.at(inputs), a law of "
            "strain alone."
        )

    def _status_at(self, strain: Tensor, inputs: Tensor) -> Tensor:
        known = torch.isfinite(inputs).all(dim=1)
        distinct, which = torch.unique(torch.where(known[:, None], inputs, self.centre), dim=0, return_inverse=True)
        inside = self._pull(self._cell(distinct), which, strain)
        status = torch.maximum(self._status(inside), (self._status(strain) == INVALID) * INVALID)
        outside = (torch.abs(inputs - self.centre) > self.span * (1.0 + 1e-9)).any(dim=1)
        status[outside & (status != INVALID)] = OUT_OF_RANGE
        status[~known] = INVALID
        return status.to(torch.int8)

    def _rows(self, where: str, inputs: Any) -> tuple[Tensor, bool]:
        """Inputs as (m, k), and whether a single value was given."""
        single = np.shape(inputs) in ((), (len(self.input_names),))
        rows = self._inputs(f"ParametricLaw.{where}", inputs, 1 if single else len(inputs))
        return rows.to(self.centre), single

    def elastic_strain(self, strain: np.ndarray, inputs: Any) -> np.ndarray:
        """Strain E_law (n, 6) counted from the stress-free cell at the inputs, frame of the law, Mandel."""
        rows = self._inputs("ParametricLaw.elastic_strain", inputs, len(strain)).to(self.centre)
        points = torch.as_tensor(strain, dtype=torch.float64).to(self.centre)
        inside = self._pull(self._cell(rows), torch.arange(len(points)), points)
        return (inside if self.turn is None else inside @ self.turn).cpu().numpy()

    def free_strain(self, inputs: Any) -> np.ndarray:
        """Strain E_θ (m, 6) of the stress-free cell at inputs (m, k), Mandel, frame of the law; (6,) at a single one."""
        rows, single = self._rows("free_strain", inputs)
        strain = self._cell(rows).strain.cpu().numpy()
        return strain[0] if single else strain

    def expansion(self, inputs: Any) -> np.ndarray:
        """Expansion (m, k, 3, 3) of the stress-free cell per unit of each input: sym(∂U/∂θ U⁻¹), frame of the law.

        For a temperature that is the instantaneous tensor of thermal expansion, for a composition the misfit per unit.
        At a single value of the inputs (k, 3, 3).
        """
        rows, single = self._rows("expansion", inputs)

        def stretch(at: Tensor) -> Tensor:
            return symmetric_exponential(self._log_stretch(at))

        rates = []
        for unit in torch.eye(rows.shape[1]).to(rows):
            pair: Any = jvp(stretch, (rows,), (unit.expand_as(rows),))
            present, rate = pair
            rate = rate @ torch.linalg.inv(present)
            rates.append(0.5 * (rate + rate.mT))
        frame = self.group.frame
        found = frame @ torch.stack(rates, dim=1).cpu().numpy() @ frame.T
        return found[0] if single else found

    def input_tangent(self, strain: np.ndarray, inputs: Any) -> np.ndarray:
        """∂S/∂θ (n, 6, k) at fixed strain (n, 6), Mandel: for a temperature, the thermal stress per kelvin.

        Exact (forward-mode derivatives of the closed form); NaN at invalid points.
        """
        rows = self._inputs("ParametricLaw.input_tangent", inputs, len(strain)).to(self.centre)
        points = torch.as_tensor(strain, dtype=torch.float64).to(self.centre)
        valid = self._status_at(points, rows) != INVALID
        points = torch.where(valid[:, None], points, torch.zeros_like(points))
        rows = torch.where(valid[:, None], rows, self.centre)
        columns = []
        for unit in torch.eye(rows.shape[1]).to(rows):
            which = torch.arange(len(rows), device=rows.device)
            columns.append(
                jvp(lambda at, which=which: self.forward(points, at, which)[1], (rows,), (unit.expand_as(rows),))[1]
            )
        derivative = torch.stack(columns, dim=2)
        derivative[~valid] = torch.nan
        return derivative.cpu().numpy()

    def at(self, inputs: Any) -> PolynomialLaw:
        """The law of strain alone at one value of the inputs, counted from the stress-free cell there."""
        rows, single = self._rows("at", inputs)
        if not single:
            raise ValueError(
                f"ParametricLaw.at: expected one value of {', '.join(self.input_names)}, got {len(rows)}. Ask for one law "
                "at a time."
            )
        constants, coefficients = (part[0].cpu().numpy() for part in self._constants(rows))
        frame = mandel_rotation(self.group.frame)
        law = PolynomialLaw(
            self.group, self.order, frame @ constants @ frame.T, coefficients, units=self.units,
            max_strain=self.max_strain,
        )  # fmt: skip
        at = dict(zip(self.input_names, rows[0].tolist(), strict=True))
        law.metadata = {**deepcopy(self.metadata), "inputs": at}
        return law

    def referred_to(self, inputs: Any) -> ParametricLaw:
        """The same material, its strain, stress and energy counted from the stress-free cell at one value of the inputs:
        a body meshed as it is there is free of stress there."""
        rows, single = self._rows("referred_to", inputs)
        if not single:
            raise ValueError("ParametricLaw.referred_to: expected one value of the inputs, got several. Choose one.")
        law = deepcopy(self)
        law.reference = self._log_stretch(rows)[0].detach().clone()
        return law

    def stiffness(self, *args: Any, inputs: Any = None, **options: Any) -> np.ndarray:
        """Stiffness at the stress-free cell of the inputs, by default in the middle of their range, Mandel (6, 6)."""
        return self.at(self.centre if inputs is None else inputs).stiffness(*args, **options)

    def __repr__(self) -> str:
        ends = zip(self.input_names, self.input_range.tolist(), strict=True)
        ranges = ", ".join(f"{name} {low:g} … {high:g}" for name, (low, high) in ends)
        return f"{super().__repr__()[:-1]}, {ranges}; constants in the middle, degree {self.degree})"


def _symmetric(tensor: Tensor) -> Tensor:
    """Mandel vectors (..., 6) of tensors (..., 3, 3) that are symmetric but for rounding."""
    return to_vector(0.5 * (tensor + tensor.mT))
