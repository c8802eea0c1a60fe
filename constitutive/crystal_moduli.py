"""Stiffness of a crystal from its structure alone, by the networks that ship with the package."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from pymatgen.core import Structure
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from crystals import moduli
from crystals.elastic_constants import elastic_constants
from crystals.groups import PointGroup
from crystals.mandel import stiffness_to_voigt
from crystals.rotations import mandel_rotation
from crystals.structures import Symmetrised, symmetrised
from crystals.whole_file import whole_file

from .crystal_graph import THIRD_ORDER_UNIT, CrystalBatch, CrystalNetwork
from .laws.polynomial import PolynomialLaw, higher_order_polynomials

SCHEMA = 1
_MODELS = Path(__file__).parent / "models"
#: The model that answers where none is named: K and G of binary compounds (recipe in data/README.md).
DEFAULT_MODEL = _MODELS / "binary_moduli.safetensors"
_CONTENT = "constitutive crystal networks"
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
        Standard error, GPa: what held-out crystals show, and the spread of the networks.
    displacement, strain : float
        By how much (Å; Frobenius norm) atoms and cell were moved to make the structure symmetric.
    residual : float
        Relative part of log C without the group's symmetry, before it is projected out: rounding.
    unknown_elements : tuple of str
        Elements that the networks were not trained on. For them the answer is a guess.
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

    def __str__(self) -> str:
        constants = "  ".join(f"{name} {value:.1f}" for name, value in self.elastic_constants().items())
        lines = [
            f"{self.formula}, point group {self.group.symbol}",
            f"bulk modulus  {self.bulk:7.1f} ± {self.bulk_std:.1f} GPa (Voigt–Reuss–Hill)",
            f"shear modulus {self.shear:7.1f} ± {self.shear_std:.1f} GPa",
            f"{constants} GPa",
            f"symmetrised: atoms moved by {self.displacement:.1e} Å, cell by {self.strain:.1e}; "
            f"symmetry residual {self.residual:.0e}",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        return {
            "formula": self.formula, "point_group": self.group.symbol, "stiffness": self.stiffness.tolist(),
            "stiffness_voigt": stiffness_to_voigt(self.stiffness).tolist(), "bulk": self.bulk, "shear": self.shear,
            "bulk_std": self.bulk_std, "shear_std": self.shear_std, "displacement": self.displacement,
            "strain": self.strain, "symmetry_residual": self.residual, "directional": self.directional,
            "unknown_elements": list(self.unknown_elements), "notes": list(self.notes),
        }  # fmt: skip


class CrystalEnsemble:
    """Several networks of one kind with what is known of their training.

    Parameters
    ----------
    networks : list of CrystalNetwork
        With a stiffness head.
    about : dict
        'elements' (atomic numbers seen in training), 'log_error' (two numbers: standard error of ln K and ln G on
        crystals not seen), 'directional' (whether the data told directions), 'species' (the most different elements in
        a training crystal), and any record of the training.
    """

    def __init__(self, networks: list[CrystalNetwork], about: dict[str, Any]) -> None:
        self.networks = [network.double().eval() for network in networks]
        self.about = about

    def write(self, path: str | Path) -> None:
        """Write weights (float32) and the record to one safetensors file."""
        tensors = {
            f"{place}/{name}": value.float().contiguous()
            for place, network in enumerate(self.networks)
            for name, value in network.state_dict().items()
        }
        metadata = {
            "content": _CONTENT, "schema": str(SCHEMA), "config": json.dumps(self.networks[0].config),
            "about": json.dumps(self.about),
        }  # fmt: skip
        save_file(tensors, path, metadata=metadata)

    @classmethod
    def read(cls, path: str | Path) -> CrystalEnsemble:
        """Read what `write` wrote.

        Raises
        ------
        OSError
            Where there is no such file.
        ValueError
            Where it is something else or damaged.
        """
        path = Path(path)
        if not path.is_file():
            raise OSError(f"CrystalEnsemble.read: expected a file, got {str(path)!r}, which does not exist.")
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("content") != _CONTENT or metadata.get("schema") != str(SCHEMA):
                    raise ValueError(f"content {metadata.get('content')!r}, schema {metadata.get('schema')!r}")
                config, about = json.loads(metadata["config"]), json.loads(metadata["about"])
                members: dict[int, dict[str, torch.Tensor]] = {}
                for name in file.keys():
                    place, _, rest = name.partition("/")
                    members.setdefault(int(place), {})[rest] = file.get_tensor(name)
            networks = []
            for place in sorted(members):
                network = CrystalNetwork(element_features=members[place]["element_features"], **config)
                network.load_state_dict(members[place])
                networks.append(network)
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{path.name}: expected crystal networks of schema {SCHEMA}, got something else: {reason}. Make the file "
                "again, or update the package."
            ) from error
        return cls(networks, about)

    def tensors(self, structure: Any) -> dict[str, np.ndarray]:
        """Every head's tensor (members, …) of a structure as it lies: 'stiffness' is log C, C in GPa, Mandel."""
        with torch.no_grad():
            batch = CrystalBatch.of([self.networks[0].sums(structure)])
            found = [network(batch) for network in self.networks]
        return {head: np.array([one[head][0].numpy() for one in found]) for head in self.networks[0].heads}


#: Groups by their operations in the standard frame, of which there are a few dozen: finding one takes 20 ms.
_GROUPS: dict[bytes, PointGroup] = {}


def _group(crystal: Symmetrised) -> PointGroup:
    order = np.lexsort(np.round(crystal.operations.reshape(-1, 9), 6).T)
    key = (np.round(crystal.operations[order], 6) + 0.0).tobytes()
    if key not in _GROUPS:
        _GROUPS[key] = PointGroup.from_structure(crystal.atoms)
    return _GROUPS[key]


def _read(model: str | Path) -> CrystalEnsemble:
    path = Path(model)
    shipped = _MODELS / f"{path.stem}.safetensors"
    if path in (shipped, Path(path.stem)) and shipped.is_file():
        return _shipped(shipped)
    return CrystalEnsemble.read(path)


@cache
def _shipped(path: Path) -> CrystalEnsemble:
    return CrystalEnsemble.read(path)


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
    rotated with the structure.
    """
    ensemble = model if isinstance(model, CrystalEnsemble) else _read(DEFAULT_MODEL if model is None else model)
    crystal = symmetrised(structure, symprec)
    tensors = ensemble.tensors(crystal.atoms)
    logarithms = tensors["stiffness"]
    found = logarithms.mean(axis=0)
    # of the idealised cell: its operations are exact
    standard = _group(crystal)
    turns = mandel_rotation(standard.rotations)
    projected = np.mean(turns @ found @ np.swapaxes(turns, 1, 2), axis=0)
    residual = float(np.linalg.norm(projected - found) / np.linalg.norm(found))
    stiffness = _exponential(projected)
    bulk, shear = (float(value) for value in moduli.hill_average(stiffness))
    members = np.array([moduli.hill_average(_exponential(one)) for one in logarithms])
    spread = np.log(members).std(axis=0, ddof=1) if len(members) > 1 else np.zeros(2)
    errors = np.sqrt(np.square(ensemble.about["log_error"]) + spread**2)
    turn = mandel_rotation(crystal.axes)
    third = None
    if "third_order" in tensors:
        third = THIRD_ORDER_UNIT * tensors["third_order"].mean(axis=0)
        third = np.mean([_turned(one, third) for one in turns], axis=0)
        third = _turned(turn, third)
    symbols = crystal.atoms.get_chemical_symbols()
    known = set(ensemble.about["elements"])
    unknown = tuple(sorted({s for s, z in zip(symbols, crystal.atoms.numbers, strict=True) if int(z) not in known}))
    notes = []
    if unknown:
        notes.append(f"no crystal with {', '.join(unknown)} was in the training data: a guess")
    if len(set(symbols)) not in ensemble.about["species"]:
        counts = " or ".join(str(count) for count in ensemble.about["species"])
        notes.append(f"trained on crystals of {counts} elements, not {len(set(symbols))}: errors may be larger")
    if not ensemble.about["directional"]:
        notes.append("the training data hold bulk and shear moduli only: how C depends on direction is not known")
    return CrystalModuli(
        turn @ stiffness @ turn.T, PointGroup(standard.symbol, crystal.axes @ standard.frame),
        crystal.atoms.get_chemical_formula("metal"), bulk, shear, bulk * float(errors[0]), shear * float(errors[1]),
        crystal.displacement, crystal.strain, residual, unknown, bool(ensemble.about["directional"]), tuple(notes),
        third, float(ensemble.about.get("max_strain", np.inf)),
    )  # fmt: skip


def _turned(turn: np.ndarray, third: np.ndarray) -> np.ndarray:
    return np.einsum("ai,bj,ck,ijk->abc", turn, turn, turn, third, optimize=True)


def is_structure(source: Any) -> bool:
    """Whether a source is a crystal: pymatgen Structure, ASE Atoms, or a file so by its name (CIF, POSCAR, extended XYZ …)."""
    if not isinstance(source, str | Path):
        return isinstance(source, Structure | Atoms)
    path = Path(source)
    return path.suffix.lower() in _STRUCTURES or path.name.upper().startswith(("POSCAR", "CONTCAR"))


def _exponential(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return (vectors * np.exp(values)) @ vectors.T
