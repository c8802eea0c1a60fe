"""The record of strain, energy and stress that laws are fitted to; the only place where units are converted.

Written as HDF5 (schema 1). Also read: extended XYZ with a reference cell, and plain tables of F, P and W. Conventions:
strain is Green–Lagrange E, stress second Piola–Kirchhoff S, both Mandel; energy is the energy density W = (U − U₀)/V₀
per reference volume. From atoms: cells hold their vectors in rows, so F = (L₀⁻¹ L)ᵀ.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms

from . import mandel
from .groups import PointGroup
from .rotations import mandel_rotation

SCHEMA = 1
#: 1 eV/Å³ in GPa.
EV_PER_A3 = 160.2176634
#: Stress units that are understood, in Pa.
STRESS_UNITS = {"Pa": 1.0, "kPa": 1e3, "bar": 1e5, "MPa": 1e6, "kbar": 1e8, "GPa": 1e9, "eV/A3": EV_PER_A3 * 1e9}
#: Largest force (eV/Å) of a state whose atoms count as relaxed.
RELAXED_FORCE = 0.02
#: Beyond this |E| a cell is taken for a wrong frame or cell, not for a strained reference.
IMPLAUSIBLE_STRAIN = 0.3


def convert(values: Any, source: str, target: str) -> np.ndarray:
    """Convert stresses or energy densities between the units of `STRESS_UNITS`."""
    for unit in (source, target):
        if unit not in STRESS_UNITS:
            raise ValueError(f"convert: expected a unit among {', '.join(STRESS_UNITS)}, got {unit!r}.")
    return np.asarray(values, dtype=float) * (STRESS_UNITS[source] / STRESS_UNITS[target])


@dataclass
class StrainData:
    """States of one material.

    Attributes
    ----------
    strain : (n, 6)
        Green–Lagrange strain from the reference cell, Mandel.
    stress : (n, 6)
        Second Piola–Kirchhoff stress, Mandel, in `units`.
    energy : (n,) or None
        Energy density per reference volume, in `units`, counted from an arbitrary zero.
    deformation_gradient : (n, 3, 3)
        F from the reference cell.
    cauchy : (n, 6)
        Cauchy stress, Mandel, in `units`.
    group : PointGroup or None
        Point group of the reference, in the frame of the strains.
    units : str
        Unit of stress and energy density.
    kind : str
        'relaxed-ion', 'clamped-ion' or 'unknown'.
    cell, cell_ref : (n, 3, 3), (3, 3)
        Cells in Å, vectors in rows; identity-scaled for data without atoms.
    max_force, acoustic : (n,) or None
        Largest force (eV/Å) and smallest acoustic-tensor eigenvalue (`units`) of each state.
    names : list of str
        What an error calls each state.
    structure : dict or None
        Reference structure as a pymatgen dictionary.
    provenance : dict
        Where the data come from.
    """

    strain: np.ndarray
    stress: np.ndarray
    energy: np.ndarray | None
    deformation_gradient: np.ndarray
    cauchy: np.ndarray
    group: PointGroup | None
    units: str = "GPa"
    kind: str = "unknown"
    cell: np.ndarray | None = None
    cell_ref: np.ndarray | None = None
    max_force: np.ndarray | None = None
    acoustic: np.ndarray | None = None
    flags: np.ndarray | None = None
    names: list[str] = field(default_factory=list)
    structure: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.strain)
        shapes = {"strain": (n, 6), "stress": (n, 6), "deformation_gradient": (n, 3, 3), "cauchy": (n, 6)}
        if self.energy is not None:
            shapes["energy"] = (n,)
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"StrainData: expected {name} of shape {shape}, got {array.shape}.")
        if not self.names:
            self.names = [f"state {i}" for i in range(n)]
        for name in shapes:
            bad = ~np.isfinite(getattr(self, name).reshape(n, -1)).all(axis=1)
            if bad.any():
                first = int(np.flatnonzero(bad)[0])
                raise ValueError(
                    f"StrainData: expected finite {name}, got NaN or infinity in {int(bad.sum())} of {n} states, first "
                    f"in {self.names[first]}. Leave these out (--skip-frames {_ranges(np.flatnonzero(bad))})."
                )

    def __len__(self) -> int:
        return len(self.strain)

    def __repr__(self) -> str:
        group = self.group.symbol if self.group else "unknown group"
        largest = np.linalg.norm(self.strain, axis=1).max(initial=0.0)
        return f"StrainData({len(self)} states, {group}, |E| ≤ {largest:.3f}, {self.units}, {self.kind})"

    def take(self, rows: Any) -> StrainData:
        """The states with the given indices or mask."""
        index = np.arange(len(self))[rows]
        optional = ("energy", "cell", "max_force", "acoustic", "flags")
        parts = {name: None if getattr(self, name) is None else getattr(self, name)[index] for name in optional}
        return replace(
            self,
            strain=self.strain[index],
            stress=self.stress[index],
            deformation_gradient=self.deformation_gradient[index],
            cauchy=self.cauchy[index],
            names=[self.names[i] for i in index],
            **parts,
        )

    def orbits(self, tolerance: float = 2e-3) -> np.ndarray:
        """Label (n,) of each state's symmetry orbit: states that the group maps onto each other share one.

        Parameters
        ----------
        tolerance : float
            Largest distance |R E₁ − E₂| of twins. Data from input files carry rounded cells.
        """
        if self.group is None or not self.group.is_finite:
            turns = np.eye(6)[None]
        else:
            turns = mandel_rotation(self.group.rotations)
        labels = np.arange(len(self))
        for i in range(len(self)):
            images = self.strain[i] @ np.swapaxes(turns, 1, 2)
            near = np.min(np.linalg.norm(images[:, None] - self.strain[None], axis=2), axis=0) < tolerance
            old = np.unique(labels[near])
            labels[np.isin(labels, old)] = old.min()
        return np.unique(labels, return_inverse=True)[1]

    def write(self, path: str | Path) -> None:
        """Write HDF5, schema 1: to a temporary name beside the target, then renamed."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with h5py.File(temporary, "w") as file:
                file.attrs["schema"] = SCHEMA
                file.attrs["content"] = "constitutive strain data"
                file.attrs["units"] = self.units
                file.attrs["kind"] = self.kind
                file.attrs["component_order"] = "11 22 33 23 13 12, Mandel"
                file.attrs["frame"] = json.dumps(None if self.group is None else self.group.frame.tolist())
                file.attrs["point_group"] = "" if self.group is None else self.group.symbol
                file.attrs["structure"] = json.dumps(self.structure)
                file.attrs["provenance"] = json.dumps(self.provenance)
                file.attrs["names"] = json.dumps(self.names)
                for name in _ARRAYS:
                    array = getattr(self, name)
                    if array is not None:
                        file.create_dataset(name, data=array)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: str | Path, **options: Any) -> StrainData:
        """Read a data set: .h5/.hdf5 (schema 1), .extxyz/.xyz (needs `reference`, see `read_extended_xyz`)."""
        path = Path(path)
        if not path.is_file():
            raise OSError(f"StrainData.read: expected a file, got {str(path)!r}, which does not exist. Check the path.")
        if path.suffix in (".h5", ".hdf5"):
            return _read_hdf5(path)
        if path.suffix in (".extxyz", ".xyz"):
            return read_extended_xyz(path, **options)
        raise ValueError(
            f"StrainData.read: expected .h5, .hdf5, .extxyz or .xyz, got {path.name!r}. Plain tables of F, P and W are "
            "read by read_tables (command line: --format table)."
        )


_ARRAYS = (
    "cell", "cell_ref", "strain", "energy", "cauchy", "stress", "deformation_gradient", "max_force", "acoustic", "flags",
)  # fmt: skip


def _ranges(indices: np.ndarray) -> str:
    return ",".join(str(int(i)) for i in indices)


def _read_hdf5(path: Path) -> StrainData:
    where = f"StrainData.read({path.name})"
    try:
        with h5py.File(path, "r") as file:
            schema = file.attrs.get("schema")
            if schema != SCHEMA:
                raise ValueError(
                    f"{where}: expected schema {SCHEMA}, got {schema!r}. Update this package, or write the file again."
                )
            arrays = {name: np.asarray(file[name]) for name in _ARRAYS if name in file}
            text = {name: str(file.attrs[name]) for name in ("units", "kind", "point_group")}
            parsed = {name: json.loads(file.attrs[name]) for name in ("frame", "structure", "provenance", "names")}
    except (OSError, KeyError, RuntimeError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{where}: expected an HDF5 data set of schema {SCHEMA}, got a file that is not: {error}."
        ) from error
    missing = [name for name in ("strain", "stress", "cauchy", "deformation_gradient") if name not in arrays]
    if missing:
        raise ValueError(f"{where}: expected the data sets {', '.join(missing)}, got none. Write the file again.")
    group = PointGroup(text["point_group"], np.array(parsed["frame"])) if text["point_group"] else None
    energy = arrays.pop("energy", None)
    return StrainData(
        **arrays,
        energy=energy,
        group=group,
        units=text["units"],
        kind=text["kind"],
        names=parsed["names"],
        structure=parsed["structure"],
        provenance=parsed["provenance"],
    )


def structure_to_dict(atoms: Atoms) -> dict[str, Any]:
    """pymatgen dictionary of a structure."""
    from pymatgen.io.ase import AseAtomsAdaptor  # slow to import

    return dict(AseAtomsAdaptor.get_structure(atoms).as_dict())


def parse_reference_cell(text: str, frames: list[Atoms]) -> np.ndarray:
    """Reference cell (3, 3), Å, vectors in rows, of a command-line value.

    A number is the edge of a cube, three numbers the edges of a box, nine numbers the cell row by row, 'frame:N' the
    cell of frame N (from 0), anything else the path of a structure file.
    """
    if text.startswith("frame:"):
        number = text.removeprefix("frame:")
        if not number.isdigit() or int(number) >= len(frames):
            raise ValueError(f"--reference-cell: expected frame:0 … frame:{len(frames) - 1}, got {text!r}.")
        return frames[int(number)].cell.array.copy()
    try:
        numbers = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        from .structures import as_atoms

        return as_atoms(text).cell.array.copy()
    if len(numbers) not in (1, 3, 9) or not np.all(np.isfinite(numbers)):
        raise ValueError(
            f"--reference-cell: expected 1, 3 or 9 numbers (Å), 'frame:N' or a structure file, got {text!r}."
        )
    cell = np.array(numbers).reshape(3, 3) if len(numbers) == 9 else np.diag(np.broadcast_to(numbers, 3))
    if not np.linalg.det(cell) > 0:
        raise ValueError(f"--reference-cell: expected a right-handed cell of positive volume, got {text!r}.")
    return cell


def read_extended_xyz(
    path: str | Path,
    reference: Any = None,
    *,
    skip: tuple[int, ...] = (),
    stress_units: str = "eV/A3",
    stress_sign: float = 1.0,
    symprec: float = 0.1,
) -> StrainData:
    """Strained cells of one crystal with energies and stresses, from extended XYZ as ASE writes it.

    Parameters
    ----------
    path : str or Path
    reference : (3, 3) array, str, Structure or Atoms
        The undeformed cell (Å, vectors in rows) of which the frames are strained copies, or what
        `parse_reference_cell` reads. A primitive cell serves for frames that are its supercells.
    skip : tuple of int
        Frames to leave out, counted from 0.
    stress_units : str
        Unit of the file's Cauchy stress; ASE writes eV/Å³.
    stress_sign : float
        −1 where the file counts compression positive.
    symprec : float
        Tolerance (Å) within which the mean of the frames, mapped back to the reference, shows its symmetry.

    Raises
    ------
    ValueError
        Naming the frame: no energy or stress, a cell that is no strained copy of the reference.
    """
    from ase.io import iread

    where = f"{Path(path).name}"
    try:
        # pbc="T T T" is written by some tools as a string; ASE then cannot make a stress of nine numbers from it.
        frames = [frame for frame in iread(path, index=":", format="extxyz")]
    except Exception as error:
        raise ValueError(f"{where}: expected extended XYZ, got a file that ASE cannot read: {error}.") from error
    if reference is None:
        raise ValueError(
            f"{where}: expected a reference cell, got none. Name the undeformed cell: --reference-cell EDGE, "
            "'frame:N' or a structure file."
        )
    unknown = [i for i in skip if not 0 <= i < len(frames)]
    if unknown:
        raise ValueError(f"{where}: expected frames to skip within 0 … {len(frames) - 1}, got {unknown}.")
    if isinstance(reference, str):
        cell_ref = parse_reference_cell(reference, frames)
    elif isinstance(reference, np.ndarray):
        cell_ref = reference
    else:
        from .structures import as_atoms

        cell_ref = as_atoms(reference).cell.array
    kept = [i for i in range(len(frames)) if i not in set(skip)]
    names = [f"frame {i} ({frames[i].info.get('description', frames[i].get_chemical_formula())})" for i in kept]
    frames = [frames[i] for i in kept]

    gradients, volumes, multiples = _match_cells(where, frames, names, kept, cell_ref)
    energies, cauchy, forces = _read_results(where, frames, names, kept)
    cauchy = mandel.stress_from_voigt(convert(cauchy, stress_units, "GPa")) * stress_sign
    # Energy per reference volume, in GPa; supercells count per reference cell.
    density = convert(energies / volumes, "eV/A3", "GPa")
    offset = float(density[np.argmin(np.linalg.norm(mandel.green_lagrange(gradients), axis=1))])
    mean, off_site = _mean_reference(frames, cell_ref, multiples)
    clamped = (forces is not None and forces.max() > RELAXED_FORCE) or (forces is None and off_site < 1e-4)
    group = PointGroup.from_structure(mean, symprec)
    return StrainData(
        strain=mandel.green_lagrange(gradients),
        stress=mandel.second_piola(cauchy, gradients),
        energy=density - offset,
        deformation_gradient=gradients,
        cauchy=cauchy,
        group=group,
        kind="clamped-ion" if clamped else "relaxed-ion",
        cell=np.array([frame.cell.array for frame in frames]),
        cell_ref=np.array(cell_ref),
        max_force=forces,
        names=names,
        structure=structure_to_dict(mean),
        provenance={
            "source": Path(path).name,
            "reader": "extended XYZ",
            "frames": len(frames),
            "skipped": list(skip),
            "stress_units": stress_units,
            "stress_sign": stress_sign,
            "largest_force": None if forces is None else float(forces.max()),
            "off_site": float(off_site),
            "energy_offset": offset,
        },
    )


def _match_cells(
    where: str, frames: list[Atoms], names: list[str], numbers: list[int], cell_ref: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Deformation gradients, reference volumes and supercell matrices of frames; every misfit named at once."""
    sizes = np.array([len(frame) for frame in frames])
    volume = abs(np.linalg.det(cell_ref))
    gradients, volumes, multiples, misfits = [], [], [], []
    # atoms per volume tells a supercell of the reference from another cell
    usual = np.median([len(frame) / frame.get_volume() for frame in frames]) * volume
    for frame, name, number in zip(frames, names, numbers, strict=True):
        multiple = np.round(frame.cell.array @ np.linalg.inv(cell_ref))
        count = round(float(np.linalg.det(multiple)))
        if count < 1:
            multiple, count = np.eye(3), 1
        gradient = np.linalg.solve(multiple @ cell_ref, frame.cell.array).T
        size = float(np.linalg.norm(mandel.green_lagrange(gradient)))
        if size > IMPLAUSIBLE_STRAIN or np.linalg.det(gradient) <= 0 or abs(len(frame) / count / usual - 1) > 0.3:
            reason = (
                f"{name}: {len(frame)} atoms, where the others have {int(np.median(sizes))}, implies |E| = {size:.2f}"
            )
            best = _unimodular_match(frame.cell.array, cell_ref)
            if best is not None:
                reason += f"; its lattice basis is another one (new rows = {best.tolist()} × old)"
            misfits.append((number, reason))
        gradients.append(gradient)
        volumes.append(volume * count)
        multiples.append(multiple)
    if misfits:
        listed = "; ".join(reason for _, reason in misfits[:5]) + (" …" if len(misfits) > 5 else "")
        raise ValueError(
            f"{where}: expected strained copies of the reference cell (|E| ≤ {IMPLAUSIBLE_STRAIN}), got {listed}. "
            f"Leave out with --skip-frames {_ranges(np.array([n for n, _ in misfits]))}, or correct the reference cell."
        )
    return np.array(gradients), np.array(volumes), multiples


def _unimodular_match(cell: np.ndarray, cell_ref: np.ndarray) -> np.ndarray | None:
    """The integer matrix that maps a re-reduced lattice basis onto the reference, where one is found."""
    integers = np.array(np.meshgrid(*[[-1, 0, 1]] * 9, indexing="ij")).reshape(9, -1).T.reshape(-1, 3, 3)
    integers = integers[np.abs(np.round(np.linalg.det(integers))) == 1]
    gradients = np.swapaxes(np.linalg.inv(cell_ref) @ (integers @ cell), 1, 2)
    sizes = np.linalg.norm(mandel.green_lagrange(gradients), axis=1)
    best = int(np.argmin(sizes))
    return None if sizes[best] > 0.15 or np.array_equal(integers[best], np.eye(3)) else integers[best]


def _read_results(
    where: str, frames: list[Atoms], names: list[str], numbers: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Energy (eV), Cauchy stress (Voigt, file units) and largest force (eV/Å) of every frame."""
    energies, stresses, forces, lacking = [], [], [], []
    for frame, name, number in zip(frames, names, numbers, strict=True):
        results = {} if frame.calc is None else frame.calc.results
        energy = results.get("energy", frame.info.get("energy", frame.info.get("free_energy")))
        stress = results.get("stress", frame.info.get("stress"))
        if stress is None and "virial" in frame.info:
            stress = -np.asarray(frame.info["virial"], dtype=float) / frame.get_volume()
        absent = [word for word, value in (("energy", energy), ("stress", stress)) if value is None]
        if absent:
            lacking.append((number, f"{name} has no {' and no '.join(absent)}"))
            continue
        stress = np.asarray(stress, dtype=float).reshape(-1)
        if stress.size == 9:
            stress = stress.reshape(3, 3)[mandel.ROWS, mandel.COLUMNS]
        if stress.size != 6:
            raise ValueError(f"{where}: expected stress of 6 or 9 components, got {stress.size} in {name}.")
        energies.append(float(energy))  # type: ignore[arg-type]
        stresses.append(stress)
        found = results.get("forces", frame.arrays.get("forces", frame.arrays.get("force")))
        forces.append(None if found is None else float(np.linalg.norm(found, axis=1).max()))
    if lacking:
        listed = "; ".join(reason for _, reason in lacking[:5]) + (" …" if len(lacking) > 5 else "")
        raise ValueError(
            f"{where}: expected energy and stress in every frame, got {listed}. Leave out with --skip-frames "
            f"{_ranges(np.array([n for n, _ in lacking]))}, or write both (ASE: energy= and stress= in the comment line)."
        )
    known = None if any(force is None for force in forces) else np.array(forces, dtype=float)
    return np.array(energies), np.array(stresses), known


def _mean_reference(frames: list[Atoms], cell_ref: np.ndarray, multiples: list[np.ndarray]) -> tuple[Atoms, float]:
    """Mean structure of the frames mapped back affinely to the reference, and how far (Å) atoms stray from it."""
    same = [
        frame
        for frame, multiple in zip(frames, multiples, strict=True)
        if np.array_equal(frame.numbers, frames[0].numbers) and np.array_equal(multiple, multiples[0])
    ]
    cell = multiples[0] @ cell_ref
    first = same[0].get_scaled_positions(wrap=False)
    shifted = []
    for frame in same:
        difference = frame.get_scaled_positions(wrap=False) - first
        difference -= np.round(difference)
        shifted.append(first + difference - difference.mean(axis=0))
    mean = np.mean(shifted, axis=0)
    off_site = float(np.max(np.linalg.norm((np.array(shifted) - mean) @ cell, axis=2)))
    return Atoms(numbers=same[0].numbers, cell=cell, scaled_positions=mean, pbc=True), off_site


def read_tables(
    paths: list[Path],
    group: PointGroup,
    units: str,
    columns: str | None = None,
) -> StrainData:
    """States from plain text tables of deformation gradient, first Piola–Kirchhoff stress and energy density.

    Parameters
    ----------
    paths : list of Path
        Whitespace- or comma-separated tables; lines that start with # are comments.
    group : PointGroup
        Symmetry of the material in the frame of the table.
    units : str
        Unit of P and W (a key of `STRESS_UNITS`).
    columns : str, optional
        Column names, comma-separated: F11 … F33, P11 … P33, W; others are ignored. By default the names in the first
        comment line that has them, else F (row-major), P (row-major), W.
    """
    if units not in STRESS_UNITS:
        raise ValueError(f"read_tables: expected units among {', '.join(STRESS_UNITS)}, got {units!r}.")
    gradients, piolas, energies, names = [], [], [], []
    for path in paths:
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise OSError(f"read_tables: expected a readable text file, got {str(path)!r}: {error}.") from error
        titles = columns.split(",") if columns else _titles(text)
        try:
            table = np.array(
                [
                    [float(word) for word in line.replace(",", " ").split()]
                    for line in text.splitlines()
                    if line.strip() and not line.lstrip().startswith("#") and "F11" not in line
                ]
            )
        except ValueError as error:
            raise ValueError(f"read_tables: expected a table of numbers, got {path.name}: {error}.") from error
        place = {title.strip(): i for i, title in enumerate(titles)}
        wanted = [f"{letter}{i}{j}" for letter in "FP" for i in "123" for j in "123"]
        missing = [title for title in wanted if title not in place]
        if missing:
            raise ValueError(
                f"read_tables: expected columns {', '.join(missing)} in {path.name}. Name them with --columns."
            )
        if table.ndim != 2 or table.shape[1] <= max(place[title] for title in wanted):
            raise ValueError(
                f"read_tables: expected rows of at least {max(place[t] for t in wanted) + 1} numbers of equal length, "
                f"got {path.name} with shape {table.shape}. Name the columns with --columns."
            )
        gradients.append(table[:, [place[title] for title in wanted[:9]]].reshape(-1, 3, 3))
        piolas.append(table[:, [place[title] for title in wanted[9:]]].reshape(-1, 3, 3))
        energies.append(table[:, place["W"]] if "W" in place and place["W"] < table.shape[1] else None)
        names += [f"{path.name} row {i}" for i in range(len(table))]
    gradient, piola = np.concatenate(gradients), np.concatenate(piolas)
    bad = ~(np.linalg.det(gradient) > 0)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"read_tables: expected det F > 0, got {np.linalg.det(gradient[first]):.3g} in {names[first]}."
        )
    # S = F⁻¹ P; what is not symmetric in it is the table's own noise in the moment balance P Fᵀ = F Pᵀ.
    second = np.linalg.solve(gradient, piola)
    stress = mandel.to_mandel(second)
    skew = 0.5 * np.linalg.norm(second - np.swapaxes(second, 1, 2)) / max(float(np.linalg.norm(second)), 1e-300)
    if skew > 0.05:
        raise ValueError(
            f"read_tables: expected P with F⁻¹P symmetric, got a skew part of {100 * skew:.1f} %. Check that F and P are "
            "row-major and P is first Piola–Kirchhoff (--columns names transposed columns)."
        )
    energy = None if any(e is None for e in energies) else np.concatenate([e for e in energies if e is not None])
    return StrainData(
        strain=mandel.green_lagrange(gradient),
        stress=stress,
        energy=energy,
        deformation_gradient=gradient,
        cauchy=mandel.cauchy_stress(stress, gradient),
        group=group,
        units=units,
        names=names,
        provenance={"source": [path.name for path in paths], "reader": "table", "skew_part": float(skew)},
    )


def _titles(text: str) -> list[str]:
    for line in text.splitlines():
        if "F11" in line:
            return line.lstrip("# ").replace(",", " ").split()
    letters = [f"{letter}{i}{j}" for letter in "FP" for i in "123" for j in "123"]
    return [*letters, "W"]
