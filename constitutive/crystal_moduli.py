"""Stiffness of a crystal from its structure alone, by the networks that ship with the package."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from pymatgen.core import Structure

from crystals import moduli
from crystals.descriptors import CUTOFF
from crystals.elastic_constants import elastic_constants
from crystals.exchange import elastic_tensor
from crystals.groups import PointGroup
from crystals.mandel import stiffness_to_voigt
from crystals.neighbours import Neighbours
from crystals.notebook import stiffness_html
from crystals.rotations import mandel_rotation
from crystals.structures import Symmetrised, symmetrised
from crystals.whole_file import whole_file

from .crystal_ensemble import DEFAULT_MODEL, CrystalEnsemble, named_ensemble
from .crystal_graph import THIRD_ORDER_UNIT
from .laws.polynomial import PolynomialLaw, higher_order_polynomials
from .moduli_process import crystal_rows

#: Sites in a batch from which on it is full: a thousand bonds take about a megabyte.
_SITES = 512
_STRUCTURES = (".cif", ".vasp", ".poscar", ".xyz", ".extxyz", ".xsf", ".cell", ".res", ".gen", ".traj")


@dataclass(frozen=True)
class CrystalModuli:
    """What networks say of a crystal.

    Attributes
    ----------
    stiffness : (6, 6)
        C, Mandel, GPa, in the Cartesian frame of the structure; exactly of the symmetry of `group`, positive definite.
    group : PointGroup
        Point group of the structure, in its frame.
    formula : str
    bulk, shear : float
        Voigt–Reuss–Hill, GPa.
    bulk_std, shear_std : float
        Standard error, GPa: twice in three held-out crystals are as near. It grows with what the models disagree by.
    bulk_interval, shear_interval : (float, float)
        Lower and upper end (GPa) that hold nine in ten held-out crystals; 1.645 standard errors (of the logarithm) for a
        model of one's own without calibration.
    displacement, strain : float
        By how much (Å; Frobenius norm) atoms and cell were moved to make the structure symmetric.
    residual : float
        Relative part of log C without the group's symmetry, before it is projected out: rounding.
    unknown_elements : tuple of str
        Elements that were not in the training data. With a process, K and G are then its own and the interval is that of
        elements left out of training on purpose; without, the answer is a guess.
    directional : bool
        Whether the training data told directions. If not, C is near its isotropic average and K and G are what counts.
    notes : tuple of str
        What a user should know before using the figures.
    third_order : (6, 6, 6) or None
        Third-order constants ∂³W/∂E³, Mandel, GPa, in the frame of the structure, where the networks give them.
    max_strain : float
        |E| that the training data reached; infinite for a stiffness alone.
    """

    stiffness: np.ndarray = field(repr=False)
    group: PointGroup
    formula: str
    bulk: float
    shear: float
    bulk_std: float
    shear_std: float
    displacement: float
    strain: float
    residual: float
    unknown_elements: tuple[str, ...]
    directional: bool
    notes: tuple[str, ...]
    bulk_interval: tuple[float, float]
    shear_interval: tuple[float, float]
    third_order: np.ndarray | None = field(default=None, repr=False)
    max_strain: float = float("inf")

    @property
    def law(self) -> PolynomialLaw:
        """W = ½ E·C·E, and + ⅙ C₃ E E E where third-order constants are known: made once, then ready for a solver."""
        if self.third_order is None:
            return PolynomialLaw(self.group, 2, self.stiffness)
        basis = higher_order_polynomials(self.group, 3)
        points = np.random.default_rng(0).normal(size=(4 * len(basis) + 8, 6))
        # polynomials live in the standard frame
        turned = points @ mandel_rotation(self.group.frame).T
        energy = np.einsum("abc,na,nb,nc->n", self.third_order, turned, turned, turned) / 6.0
        coefficients = np.linalg.lstsq(basis(points), energy, rcond=None)[0]
        return PolynomialLaw(self.group, 3, self.stiffness, coefficients, max_strain=self.max_strain)

    def young(self, direction: Any) -> np.ndarray:
        """Young's modulus (GPa) along directions (..., 3) in the frame of the structure."""
        return moduli.young(self.stiffness, np.asarray(direction, dtype=float))

    def plot(self, path: str | Path) -> None:
        """Draw Young's modulus (GPa) against direction in the planes xy, xz and yz of the structure's frame."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        angle = np.linspace(0.0, 2.0 * np.pi, 361)
        figure, axes = plt.subplots(1, 3, figsize=(9.0, 3.4), subplot_kw={"projection": "polar"}, layout="constrained")
        for axis, (first, second, title) in zip(axes, ((0, 1, "xy"), (0, 2, "xz"), (1, 2, "yz")), strict=True):
            direction = np.cos(angle)[:, None] * np.eye(3)[first] + np.sin(angle)[:, None] * np.eye(3)[second]
            axis.plot(angle, self.young(direction))
            axis.set_ylim(bottom=0.0)
            axis.set_title(title)
        told = "" if self.directional else " (directions were not in the training data)"
        figure.suptitle(f"Young's modulus of {self.formula}, GPa{told}")
        with whole_file(path) as temporary:
            figure.savefig(temporary, dpi=120)
        plt.close(figure)

    def save(self, path: str | Path) -> None:
        """Write what `to_dict` holds (.json), or the law (.law).

        Raises
        ------
        ValueError
            For another ending.
        """
        path = Path(path)
        if path.suffix == ".law":
            law = self.law
            law.metadata = {"source": "crystal_moduli", **{key: value for key, value in self.to_dict().items()}}
            law.save(path)
        elif path.suffix == ".json":
            with whole_file(path) as temporary:
                temporary.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        else:
            raise ValueError(f"CrystalModuli.save: expected a name that ends in .json or .law, got {str(path)!r}.")

    def elastic_constants(self) -> dict[str, float]:
        """Independent constants of the class by their Voigt names, in the standard frame, GPa."""
        return elastic_constants(self.stiffness, self.group)

    def __repr__(self) -> str:
        return (
            f"CrystalModuli({self.formula}, {self.group.symbol!r}, K={self.bulk:.1f} ± {self.bulk_std:.1f} "
            f"G={self.shear:.1f} ± {self.shear_std:.1f} GPa)"
        )

    def elastic_tensor(self) -> Any:
        """The stiffness as pymatgen's `ElasticTensor` (3, 3, 3, 3), GPa, in the same frame."""
        return elastic_tensor(self.stiffness, "GPa")

    def _repr_html_(self) -> str:
        facts = [
            ("point group", self.group.symbol),
            ("bulk, 90 %", f"{self.bulk_interval[0]:.1f} … {self.bulk_interval[1]:.1f} GPa"),
            ("shear, 90 %", f"{self.shear_interval[0]:.1f} … {self.shear_interval[1]:.1f} GPa"),
            *(("note", note) for note in self.notes),
        ]
        return stiffness_html(self.formula, facts, self.stiffness, "GPa")

    def __str__(self) -> str:
        constants = "  ".join(f"{name} {value:.1f}" for name, value in self.elastic_constants().items())
        lines = [
            f"{self.formula}, point group {self.group.symbol}",
            f"bulk modulus  {self.bulk:7.1f} ± {self.bulk_std:.1f} GPa (Voigt–Reuss–Hill), 90 %: "
            f"{self.bulk_interval[0]:.1f} … {self.bulk_interval[1]:.1f}",
            f"shear modulus {self.shear:7.1f} ± {self.shear_std:.1f} GPa, 90 %: "
            f"{self.shear_interval[0]:.1f} … {self.shear_interval[1]:.1f}",
            f"{constants} GPa",
            f"symmetrised: atoms moved by {self.displacement:.1e} Å, cell by {self.strain:.1e}; "
            f"symmetry residual {self.residual:.0e}",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        return {
            "formula": self.formula, "point_group": self.group.symbol, "stiffness": self.stiffness.tolist(),
            "stiffness_voigt": stiffness_to_voigt(self.stiffness).tolist(), "bulk": self.bulk, "shear": self.shear,
            "bulk_std": self.bulk_std, "shear_std": self.shear_std,
            "bulk_interval": list(self.bulk_interval), "shear_interval": list(self.shear_interval), "displacement": self.displacement,
            "strain": self.strain, "symmetry_residual": self.residual, "directional": self.directional,
            "unknown_elements": list(self.unknown_elements), "notes": list(self.notes),
        }  # fmt: skip


#: Groups, and the projections (36, 36) of matrices on what they leave alone, by their operations in the standard frame,
#: of which there are a few dozen: finding one takes 20 ms.
_GROUPS: dict[bytes, tuple[PointGroup, np.ndarray]] = {}


def _group(crystal: Symmetrised) -> tuple[PointGroup, np.ndarray]:
    rows = np.rint(crystal.operations.reshape(-1, 9) * 1e6).astype(np.int64)
    key = rows[np.lexsort(rows.T)].tobytes()
    if key not in _GROUPS:
        # of the idealised cell: its operations are exact
        group = PointGroup.from_structure(crystal.atoms)
        turns = mandel_rotation(group.rotations)
        _GROUPS[key] = group, np.einsum("nac,nbd->abcd", turns, turns).reshape(36, 36) / len(turns)
    return _GROUPS[key]


def crystal_moduli(
    structure: Any, *, model: CrystalEnsemble | str | Path | None = None, symprec: float = 0.01
) -> CrystalModuli:
    """Stiffness of a crystal from its structure.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path
        CIF, POSCAR, extended XYZ …
    model : CrystalEnsemble, path or str, optional
        Networks to ask. Two ship with the package: 'binary_moduli' (bulk and shear modulus of inorganic crystals, the
        default) and 'emt_alloys' (C and third-order constants of alloys of Al, Ni, Cu, Pd, Ag, Pt, Au as ASE's EMT has
        them, to |E| = 0.045).
    symprec : float
        Distance (Å) within which atoms count as equivalent. The structure is made exactly symmetric first.

    Returns
    -------
    CrystalModuli

    Raises
    ------
    ValueError
        Where the structure is no crystal, or atoms overlap.

    Notes
    -----
    C = exp(mean of the networks' log C), projected on the group's invariant matrices: symmetric, positive definite, and
    rotated with the structure. Where a Gaussian process knows K and G better, the spherical and the deviatoric part of
    log C are shifted until C has the weighted mean of both.
    """
    return next(moduli_of_crystals([structure], model=model, symprec=symprec))


def moduli_of_crystals(
    structures: Iterable[Any],
    *,
    model: CrystalEnsemble | str | Path | None = None,
    symprec: float = 0.01,
    batch: int = 64,
) -> Iterator[CrystalModuli]:
    """Stiffness of many crystals, some at a time, which is several times faster than one by one.

    Parameters, results and errors are those of `crystal_moduli`; what `crystals.structures.symmetrised` gave is taken as
    it is. The error is raised when its crystal's batch is asked for.
    """
    ensemble = (
        model if isinstance(model, CrystalEnsemble) else named_ensemble(DEFAULT_MODEL if model is None else model)
    )
    some: list[Symmetrised] = []
    sites = 0
    for structure in structures:
        some.append(structure if isinstance(structure, Symmetrised) else symmetrised(structure, symprec))
        sites += len(some[-1].atoms)
        if len(some) == batch or sites >= _SITES:
            yield from _of_batch(some, ensemble)
            some, sites = [], 0
    if some:
        yield from _of_batch(some, ensemble)


def _of_batch(crystals: list[Symmetrised], ensemble: CrystalEnsemble) -> list[CrystalModuli]:
    bonds = ensemble.neighbours([crystal.atoms for crystal in crystals])
    tensors = ensemble.tensors_of(bonds)
    logarithms = tensors["stiffness"]  # (networks, k, 6, 6)
    groups, projections = zip(*(_group(crystal) for crystal in crystals), strict=True)
    found = logarithms.mean(axis=0)
    projected = (np.stack(projections) @ found.reshape(-1, 36, 1)).reshape(-1, 6, 6)
    projected = 0.5 * (projected + projected.transpose(0, 2, 1))
    residuals = np.linalg.norm(projected - found, axis=(1, 2)) / np.linalg.norm(found, axis=(1, 2))
    about, own = ensemble.about, np.log(_hill(projected))
    if ensemble.process is None:
        members = np.log(_hill(logarithms.reshape(-1, 6, 6))).reshape(len(logarithms), len(crystals), 2)
        apart = members.std(axis=0, ddof=1) if len(members) > 1 else np.zeros(members.shape[1:])
    else:
        if bonds.cutoff != CUTOFF:
            bonds = Neighbours.of([crystal.atoms for crystal in crystals], CUTOFF)
        known, share = ensemble.process.of_rows(*crystal_rows(bonds)), about["process_share"]
        apart = np.abs(known - own)
        # networks have not learned what stands for an element they never saw; the process reads its properties alone
        strange = np.array([bool(_unknown(crystal, about)) for crystal in crystals])[:, None]
        projected = _scaled_to(projected, np.where(strange, known, share * known + (1.0 - share) * own))
    if "calibration" in about and ("process_share" in about) == (ensemble.process is not None):
        near, wide = (a + b * apart for a, b in (np.array(about["calibration"][level]) for level in ("68", "90")))
    else:
        near = np.sqrt(np.square(about["log_error"]) + apart**2)
        wide = 1.645 * near
    if "strangers" in about and ensemble.process is not None:
        near, wide = (
            np.where(strange, about["strangers"][level], stated) for level, stated in (("68", near), ("90", wide))
        )
    stiffness, moduli_found = _exponential(projected), _hill(projected)
    third = tensors.get("third_order")
    return [
        _result(
            crystal, group, ensemble.about, stiffness[i], moduli_found[i], near[i], wide[i], float(residuals[i]),
            None if third is None else THIRD_ORDER_UNIT * _averaged(group, third[:, i].mean(axis=0)),
        )
        for i, (crystal, group) in enumerate(zip(crystals, groups, strict=True))
    ]  # fmt: skip


def _result(
    crystal: Symmetrised, standard: PointGroup, about: dict[str, Any], stiffness: np.ndarray, found: np.ndarray,
    near: np.ndarray, wide: np.ndarray, residual: float, third: np.ndarray | None,
) -> CrystalModuli:  # fmt: skip
    """What is said of one crystal whose C is known in the standard frame."""
    turn = mandel_rotation(crystal.axes)
    symbols = crystal.atoms.get_chemical_symbols()
    unknown = _unknown(crystal, about)
    notes = []
    if unknown:
        told = (
            "K and G follow from the element's tabulated properties, and the interval is that of elements left out of "
            "training on purpose"
            if "strangers" in about
            else "a guess, and the interval does not hold"
        )
        notes.append(f"no crystal with {', '.join(unknown)} was in the training data: {told}")
    if len(set(symbols)) not in about["species"]:
        counts = " or ".join(str(count) for count in about["species"])
        notes.append(f"trained on crystals of {counts} elements, not {len(set(symbols))}: errors may be larger")
    if not about["directional"]:
        notes.append("the training data hold bulk and shear moduli only: how C depends on direction is not known")
    (bulk, shear), (bulk_std, shear_std) = found.tolist(), (found * near).tolist()
    lower, upper = (found * np.exp(-wide)).tolist(), (found * np.exp(wide)).tolist()
    return CrystalModuli(
        turn @ stiffness @ turn.T, PointGroup(standard.symbol, crystal.axes @ standard.frame),
        crystal.atoms.get_chemical_formula("metal"), bulk, shear, bulk_std, shear_std, crystal.displacement,
        crystal.strain, residual, unknown, bool(about["directional"]), tuple(notes), (lower[0], upper[0]),
        (lower[1], upper[1]), None if third is None else _turned(turn, third), float(about.get("max_strain", np.inf)),
    )  # fmt: skip


def _unknown(crystal: Symmetrised, about: dict[str, Any]) -> tuple[str, ...]:
    """Elements of a crystal that were not in the training data."""
    strange = set(crystal.atoms.numbers.tolist()).difference(about["elements"])
    return tuple(sorted(chemical_symbols[number] for number in strange))


def _scaled_to(logarithms: np.ndarray, target: np.ndarray) -> np.ndarray:
    """log C (k, 6, 6) with its two isotropic parts shifted until ln K and ln G (k, 2) are as wanted."""
    sphere = np.zeros((6, 6))
    sphere[:3, :3] = 1.0 / 3.0
    parts = np.stack([sphere, np.eye(6) - sphere])
    for _ in range(100):
        missing = target - np.log(_hill(logarithms))
        if np.abs(missing).max() < 1e-13:
            break
        logarithms = logarithms + np.tensordot(missing, parts, axes=1)
    return logarithms


def _hill(logarithms: np.ndarray) -> np.ndarray:
    """Voigt–Reuss–Hill K and G (k, 2) of exp(A), A (k, 6, 6); formulas in `crystal_graph.bulk_and_shear`."""
    values, vectors = np.linalg.eigh(logarithms)
    along = vectors[:, :3].sum(axis=1) ** 2
    stiff, soft = np.exp(values), np.exp(-values)
    upper, ease = np.sum(stiff * along, axis=1) / 9.0, np.sum(soft * along, axis=1)
    shear = (stiff.sum(axis=1) - 3.0 * upper) / 10.0 + 2.5 / (soft.sum(axis=1) - ease / 3.0)
    return np.stack([0.5 * (upper + 1.0 / ease), 0.5 * shear], axis=1)


def _averaged(group: PointGroup, third: np.ndarray) -> np.ndarray:
    return np.mean([_turned(turn, third) for turn in mandel_rotation(group.rotations)], axis=0)


def _turned(turn: np.ndarray, third: np.ndarray) -> np.ndarray:
    return np.einsum("ai,bj,ck,ijk->abc", turn, turn, turn, third, optimize=True)


def is_structure(source: Any) -> bool:
    """Whether a source is a crystal: pymatgen Structure, ASE Atoms, or a file so by its name (CIF, POSCAR, extended XYZ …)."""
    if not isinstance(source, str | Path):
        return isinstance(source, Structure | Atoms)
    path = Path(source)
    return path.suffix.lower() in _STRUCTURES or path.name.upper().startswith(("POSCAR", "CONTCAR"))


def _exponential(matrices: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(0.5 * (matrices + matrices.transpose(0, 2, 1)))
    return (vectors * np.exp(values)[:, None]) @ vectors.transpose(0, 2, 1)
