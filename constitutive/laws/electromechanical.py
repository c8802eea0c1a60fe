"""Piezoelectric law: strain and electric field in; enthalpy, stress and electric displacement out.

    H(E, 𝓔) = W(E) − 𝓔·e:E − ½ 𝓔·κ·𝓔        S = ∂H/∂E = ∂W/∂E − eᵀ·𝓔        D = −∂H/∂𝓔 = e:E + κ·𝓔

𝓔 = Fᵀ·(spatial field) = −∂φ/∂X and D = J F⁻¹·(spatial displacement) are the material field and displacement, so that H
does not see a rotation of the sample (Dorfmann and Ogden 2005, Acta Mechanica 174, 167; for small strain Tiersten
1969, Linear Piezoelectric Plate Vibrations; IRE Standards on Piezoelectric Crystals 1949). The group acts on 𝓔 as on a
polar vector, improper operations included: that is where 32 differs from -3m.

Units are consistent without factors: with W in GPa the field is in GV/m (= V/nm), κ in nF/m, e and D in C/m², because
1 GPa = 1 C/m² · 1 GV/m. A field of 1 MV/m is 1e-3. With W in Pa the field is in V/m and κ in F/m.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.constants import epsilon_0
from torch import Tensor

from crystals import mandel
from crystals.groups import PointGroup
from crystals.piezoelectricity import check_piezoelectric, piezoelectric_constants
from crystals.rotations import check_rotation, mandel_rotation
from crystals.tensor_spaces import independent_components, invariant_part, tensor_space

from .law import INVALID, Law

#: Permittivity of vacuum in nF/m: a relative permittivity of 1470 is 1470 * VACUUM_PERMITTIVITY.
VACUUM_PERMITTIVITY = 1e9 * epsilon_0
#: Unit of W: its size in J/m³, the unit of the field, the unit of κ.
_UNITS = {"Pa": (1.0, "V/m", "F/m"), "MPa": (1e6, "MV/m", "µF/m"), "GPa": (1e9, "GV/m", "nF/m")}


class ElectromechanicalResponse(NamedTuple):
    """What a piezoelectric law answers for n points. numpy in, numpy out; torch in, torch out.

    Attributes
    ----------
    enthalpy : (n,)
        H per reference volume, in the law's `units`.
    stress : (n, 6)
        S = ∂H/∂E, second Piola–Kirchhoff (Cauchy for small strain), Mandel.
    displacement : (n, 3)
        D = −∂H/∂𝓔, C/m².
    tangent : (n, 21) or (n, 36), or None where it was not asked for
        ∂S/∂E at constant field, Mandel, as in `Response`.
    coupling : (n, 6, 3) or None
        ∂S/∂𝓔 = −(∂D/∂E)ᵀ = −eᵀ.
    permittivity : (n, 3, 3) or None
        ∂D/∂𝓔 at constant strain.
    status : (n,) int
        `OK`, `OUT_OF_RANGE` or `INVALID` (also for a field that is not finite).
    """

    enthalpy: Any
    stress: Any
    displacement: Any
    tangent: Any
    coupling: Any
    permittivity: Any
    status: Any


class PiezoelectricLaw(Law):
    """A hyperelastic law with constant piezoelectric and dielectric tensors: H = W(E) − 𝓔·e:E − ½ 𝓔·κ·𝓔.

    `response` and everything that uses it (a `QuadratureMaterial`, `audit`) sees the law at zero field, which is the
    short-circuited crystal; `electromechanical` is the law with its field. κ is the total clamped permittivity, taken as
    constant in the material frame: the change of the vacuum's share, ε₀ J C⁻¹, with strain is left out, and so are
    electrostriction and all else that is quadratic in 𝓔 and depends on E.

    Parameters
    ----------
    elastic : Law
        W, any law without state, at constant field. In Pa, MPa or GPa.
    piezoelectric : (3, 6)
        e, Mandel columns, C/m², in the frame of the strains (see `crystals.piezoelectricity`).
    permittivity : (3, 3)
        κ at constant strain, in nF/m for a law in GPa.
    group : PointGroup, optional
        The full group of the crystal, where that of `elastic` says only the Laue class (-3m for quartz, which is 32).

    Raises
    ------
    TypeError
        Where `elastic` is no law, or is piezoelectric itself.
    ValueError
        For a law with state or in other units, a group that the elastic law does not have, a nonzero e where the group
        has none (432 and the centrosymmetric groups), an e or κ that lacks the symmetry by more than rounding, or a κ
        below that of vacuum.
    """

    piezoelectric: Tensor
    permittivity: Tensor

    def __init__(
        self, elastic: Law, *, piezoelectric: np.ndarray, permittivity: np.ndarray, group: PointGroup | None = None
    ) -> None:
        where = "PiezoelectricLaw"
        if not isinstance(elastic, Law) or isinstance(elastic, PiezoelectricLaw):
            raise TypeError(f"{where}: expected an elastic law, got {type(elastic).__name__}. Pass W(E) alone.")
        if elastic.state_width or elastic.units not in _UNITS:
            raise ValueError(
                f"{where}: expected a hyperelastic law in {', '.join(_UNITS)}, got state_width={elastic.state_width} and "
                f"units {elastic.units!r}. A law with internal variables is not supported."
            )
        if elastic.input_names:
            raise ValueError(
                f"{where}: expected a law of strain alone, got one with inputs {', '.join(elastic.input_names)}. Not "
                "supported; pass elastic.at(inputs)."
            )
        group = elastic.group if group is None else group
        if not all(q in elastic.group.laue for q in group.laue.sample(16, np.random.default_rng(0))):
            raise ValueError(
                f"{where}: expected a group whose operations leave W alone, got {group!r} for a law of "
                f"{elastic.group!r}. Name the crystal's own group in the frame of the law."
            )
        super().__init__(
            group, units=elastic.units, strain_measure=elastic.strain_measure, max_strain=elastic.max_strain
        )
        self.elastic = elastic
        self.tangent_entries = elastic.tangent_entries
        self.metadata, self.domain = deepcopy(elastic.metadata), elastic.domain
        self.register_buffer("piezoelectric", torch.from_numpy(check_piezoelectric(where, piezoelectric, group)))
        self.register_buffer("permittivity", torch.from_numpy(_check_permittivity(permittivity, group, self.units)))

    @property
    def field_units(self) -> str:
        """Unit of the field: 'GV/m' for a law in GPa."""
        return _UNITS[self.units][1]

    def _evaluate(self, strain: Tensor, tangent: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.elastic._evaluate(strain, tangent)

    def electromechanical(self, strain: Any, field: Any, tangent: bool = True) -> ElectromechanicalResponse:
        """Evaluate the law at a batch of strains and fields.

        Parameters
        ----------
        strain : array or tensor (n, 6)
            Green–Lagrange (or small) strain, Mandel, crystal frame.
        field : array or tensor (n, 3)
            Material field 𝓔 = −∂φ/∂X, crystal frame, in `field_units` (GV/m for a law in GPa).
        tangent : bool
            Whether to give the derivatives too.

        Raises
        ------
        TypeError, ValueError
            For a wrong type or shape. Bad points do not raise: they are flagged in `status`, their values NaN.
        """
        where = "PiezoelectricLaw.electromechanical"
        as_numpy = not isinstance(strain, torch.Tensor)
        if as_numpy == isinstance(field, torch.Tensor):
            raise TypeError(f"{where}: expected strain and field both numpy or both torch. Convert one of them.")
        if as_numpy:  # torch would round lists to float32
            strain, field = np.asarray(strain), np.asarray(field)
        # torch.float32 strains: subtract in double precision, round once
        answer = self.response(strain if as_numpy else strain.to(torch.float64), tangent=tangent)
        if tuple(field.shape) != (len(strain), 3):
            raise ValueError(f"{where}: expected a field of shape {(len(strain), 3)}, got {tuple(field.shape)}.")
        if as_numpy and field.dtype.kind not in "fiu":
            raise TypeError(f"{where}: expected real fields, got dtype {field.dtype}. Pass floats.")
        energy, stress, status = (torch.as_tensor(a) for a in (answer.energy, answer.stress, answer.status))
        device = energy.device
        strains = torch.as_tensor(strain).to(device, torch.float64)
        fields = torch.as_tensor(field).to(device, torch.float64)
        e, kappa = self.piezoelectric.to(device), self.permittivity.to(device)
        status = torch.where(torch.isfinite(fields).all(dim=1), status, torch.full_like(status, INVALID))
        nan = torch.where(status == INVALID, torch.nan, torch.zeros_like(energy))
        with torch.no_grad():
            pull, polarisation, linear = fields @ e, strains @ e.T, fields @ kappa
            enthalpy = energy - (pull * strains).sum(dim=1) - 0.5 * (linear * fields).sum(dim=1)
            tangents: list[Any] = [None, None, None]
            if tangent:
                entries = torch.as_tensor(answer.tangent)
                tangents = [entries + nan[:, None], nan[:, None, None] - e.T, nan[:, None, None] + kappa]
            values = [enthalpy + nan, stress - pull + nan[:, None], polarisation + linear + nan[:, None], *tangents]
        if as_numpy:
            return ElectromechanicalResponse._make(None if a is None else a.numpy() for a in (*values, status))
        values = [None if a is None else a.to(strain.dtype) for a in values]
        return ElectromechanicalResponse._make((*values, status))

    def config(self) -> dict[str, Any]:
        return {
            "point_group": self.group.symbol, "frame": self.group.frame.tolist(),
            "elastic": {"law": type(self.elastic).__name__, "config": self.elastic.config()},
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PiezoelectricLaw:
        from ..storage import _LAWS  # storage knows every law class

        elastic = _LAWS[config["elastic"]["law"]].from_config(config["elastic"]["config"])
        group = PointGroup(config["point_group"], np.array(config["frame"]))
        vacuum = epsilon_0 * _UNITS[elastic.units][0]
        return cls(elastic, piezoelectric=np.zeros((3, 6)), permittivity=vacuum * np.eye(3), group=group)

    def __repr__(self) -> str:
        e = piezoelectric_constants(self.piezoelectric.cpu().numpy(), self.group)
        coupled = " ".join(f"{name}={value:.4g}" for name, value in e.items())
        components = [(i, j) for i in range(3) for j in range(i, 3)]
        components.sort(key=lambda pair: pair[1] - pair[0])
        local = self.group.frame.T @ self.permittivity.cpu().numpy() @ self.group.frame
        standard = tensor_space(PointGroup(self.group.symbol), "(ij)")
        named = [components[place] for place in independent_components(standard, components)]
        dielectric = " ".join(f"κ{i + 1}{j + 1}={local[i, j]:.4g}" for i, j in named)
        parts = [f"{coupled} C/m²" if coupled else "not piezoelectric", f"{dielectric} {_UNITS[self.units][2]}"]
        return f"{super().__repr__()[:-1]}, {', '.join(parts)})"


def _check_permittivity(permittivity: np.ndarray, group: PointGroup, units: str) -> np.ndarray:
    """A permittivity (3, 3) with the symmetry of the group, its rounding removed."""
    given = np.asarray(permittivity, dtype=float)
    if given.shape != (3, 3) or not np.all(np.isfinite(given)):
        raise ValueError(
            f"PiezoelectricLaw: expected a finite permittivity of shape (3, 3), got {given.shape}. One value is κ * eye(3)."
        )
    invariant = invariant_part(given, group, "(ij)")
    off = np.abs(given - invariant)
    if np.any(off > 1e-9 * np.abs(given).max()):
        i, j = np.unravel_index(np.argmax(off), (3, 3))
        raise ValueError(
            f"PiezoelectricLaw: expected a permittivity with the symmetry of {group.symbol}, got κ{i + 1}{j + 1} = "
            f"{given[i, j]:.4g}, where the group's mean is {invariant[i, j]:.4g}. Use one frame for κ and the group."
        )
    size, _, unit = _UNITS[units]
    smallest = float(np.linalg.eigvalsh(invariant)[0])
    if not smallest >= epsilon_0 * size * (1.0 - 1e-9):
        raise ValueError(
            f"PiezoelectricLaw: expected a permittivity of at least that of vacuum, {epsilon_0 * size:.4g} {unit}, got "
            f"a smallest eigenvalue of {smallest:.4g}. For a law in {units} give κ in {unit}, relative ones times vacuum's."
        )
    return invariant


class ElectromechanicalPiola(NamedTuple):
    """First Piola–Kirchhoff stress and material displacement of n points, and their derivatives (None if not asked for).

    `dP_dF` (n, 3, 3, 3, 3) and `dD_dF` (n, 3, 3, 3) hold the field fixed as it was given, spatial or material; `dP_dfield`
    (n, 3, 3, 3) and `dD_dfield` (n, 3, 3) are with respect to that field. For the material field they are the second
    derivatives of one H: dD_dF[K, i, J] = −dP_dfield[i, J, K].
    """

    stress: np.ndarray
    displacement: np.ndarray
    dP_dF: np.ndarray | None
    dP_dfield: np.ndarray | None
    dD_dF: np.ndarray | None
    dD_dfield: np.ndarray | None


def first_piola_electromechanical(
    law: PiezoelectricLaw,
    deformation_gradient: np.ndarray,
    field: np.ndarray,
    orientation: np.ndarray | None = None,
    *,
    spatial: bool = True,
    tangent: bool = True,
) -> ElectromechanicalPiola:
    """First Piola–Kirchhoff stress P = F S and material displacement D: what the solver of a boundary-value problem asks.

    P = ∂H/∂F at constant material field, the total stress of which div P = 0 is the balance of momentum, and
    div D = 0 that of charge (Dorfmann and Ogden 2005, Acta Mechanica 174, 167). Spatially σ = P Fᵀ / J, d = F D / J.

    Parameters
    ----------
    law : PiezoelectricLaw
        Of Green–Lagrange strain, crystal frame.
    deformation_gradient : array (n, 3, 3)
        F in the sample frame.
    field : array (n, 3)
        Spatial field, or material field 𝓔 = Fᵀ·(spatial field) with `spatial=False`; sample frame, `law.field_units`.
    orientation : array (3, 3) or (n, 3, 3), optional
        Q, crystal → sample.
    spatial : bool
        Which of the two fields is given (and held fixed in the derivatives).
    tangent : bool
        Whether to compute the derivatives.
    """
    where = "first_piola_electromechanical"
    if law.strain_measure != "green_lagrange":
        raise ValueError(f"{where}: expected a law of Green–Lagrange strain, got one of {law.strain_measure} strain.")
    gradient, given = np.asarray(deformation_gradient, dtype=float), np.asarray(field, dtype=float)
    if gradient.ndim != 3 or gradient.shape[1:] != (3, 3) or given.shape != (len(gradient), 3):
        raise ValueError(
            f"{where}: expected F of shape (n, 3, 3) and a field of shape (n, 3), got {gradient.shape} and {given.shape}."
        )
    axes = np.eye(3) if orientation is None else check_rotation(f"{where}(orientation)", orientation)
    axes = np.broadcast_to(axes, (len(gradient), 3, 3))
    turn = mandel_rotation(axes)
    material = np.einsum("nkK,nk->nK", gradient, given) if spatial else given
    strain = np.einsum("nba,nb->na", turn, mandel.green_lagrange(gradient))
    answer = law.electromechanical(strain, np.einsum("nba,nb->na", axes, material), tangent=tangent)
    second = mandel.from_mandel(np.einsum("nab,nb->na", turn, answer.stress))
    displacement = np.einsum("nab,nb->na", axes, answer.displacement)
    if not tangent:
        return ElectromechanicalPiola(gradient @ second, displacement, None, None, None, None)
    entries = answer.tangent
    local = mandel.unpack_upper(entries) if law.tangent_entries == 21 else entries.reshape(-1, 6, 6)
    full = mandel.stiffness_to_tensor(turn @ local @ np.swapaxes(turn, 1, 2))
    dP_dF = np.einsum("niM,nMJNL,nkN->niJkL", gradient, full, gradient, optimize=True)
    dP_dF += np.einsum("ik,nJL->niJkL", np.eye(3), second)
    # ∂S_MJ/∂𝓔_K = −e_KMJ
    coupling = mandel.from_mandel(axes @ np.swapaxes(answer.coupling, 1, 2) @ np.swapaxes(turn, 1, 2))
    dP_dfield = np.einsum("niM,nKMJ->niJK", gradient, coupling)
    dD_dF = -np.einsum("niJK->nKiJ", dP_dfield)
    dD_dfield = axes @ answer.permittivity @ np.swapaxes(axes, 1, 2)
    if spatial:
        # 𝓔_K = F_kK f_k adds its own derivatives: ∂𝓔_K/∂F_kL = δ_KL f_k, ∂𝓔_K/∂f_k = F_kK
        dP_dF += np.einsum("niJL,nk->niJkL", dP_dfield, given)
        dD_dF = dD_dF + np.einsum("nKL,nk->nKkL", dD_dfield, given)
        dP_dfield = np.einsum("niJK,nkK->niJk", dP_dfield, gradient)
        dD_dfield = dD_dfield @ np.swapaxes(gradient, 1, 2)
    return ElectromechanicalPiola(gradient @ second, displacement, dP_dF, dP_dfield, dD_dF, dD_dfield)
