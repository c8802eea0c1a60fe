"""The record of strain, energy and stress that laws are fitted to, and the only conversion of units.

Conventions: strain is Green–Lagrange E, stress second Piola–Kirchhoff S, both Mandel; energy is the energy density
W = (U − U₀)/V₀ per reference volume. Kept as HDF5, schema 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from .frame_check import check_frame
from .groups import PointGroup
from .mandel import from_mandel, green_lagrange, second_piola
from .record import read_record, write_record
from .rotations import mandel_rotation, rotation_about

SCHEMA = 1
#: 1 eV/Å³ in GPa.
EV_PER_A3 = 160.2176634
#: Stress units that are understood, in Pa.
STRESS_UNITS = {"Pa": 1.0, "kPa": 1e3, "bar": 1e5, "MPa": 1e6, "kbar": 1e8, "GPa": 1e9, "eV/A3": EV_PER_A3 * 1e9}
#: Kinds of data.
KINDS = ("relaxed-ion", "clamped-ion", "isothermal", "unknown")
_CONTENT = "constitutive strain data"
# Shape of each array but for the states' axis.
_SHAPES: dict[str, tuple[int, ...]] = {
    "strain": (6,), "stress": (6,), "energy": (), "deformation_gradient": (3, 3), "cauchy": (6,), "cell": (3, 3),
    "cell_ref": (3, 3), "max_force": (), "acoustic": (), "flags": (), "numbers": (), "series": (),
    "stress_error": (), "inputs": (0,),  # as many columns as input_names
}  # fmt: skip
_REQUIRED = ("strain", "stress", "deformation_gradient", "cauchy")
_WHOLE: dict[str, type] = {"flags": np.int8, "numbers": np.int64, "series": np.int64}


def convert(values: Any, source: str, target: str) -> np.ndarray:
    """Convert stresses or energy densities between the units of `STRESS_UNITS`."""
    for unit in (source, target):
        if unit not in STRESS_UNITS:
            raise ValueError(
                f"convert: expected a unit among {', '.join(STRESS_UNITS)}, got {unit!r}. Name one of them."
            )
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
        'relaxed-ion', 'clamped-ion', 'isothermal' (averages over molecular dynamics at a temperature; without energy,
        because the mean potential energy is not the free energy whose derivative the stress is) or 'unknown'.
    cell, cell_ref : (n, 3, 3), (3, 3)
        Cells in Å, vectors in rows; identity-scaled for data without atoms.
    max_force, acoustic : (n,) or None
        Largest force (eV/Å) and smallest acoustic-tensor eigenvalue (`units`) of each state.
    names : list of str
        What an error calls each state.
    numbers : (n,) int, or None
        Number of each state's frame in the file it comes from, counted from 0; None where there is no such file.
    series : (n,) int, or None
        Label of the load path or trajectory that each state belongs to. Its states are not independent.
    stress_error : (n,) or None
        Standard error of one Mandel component of each state's stress, root mean square over the six, in `units`; larger
        than 0. Fits weigh states by its inverse square. See `crystals.block_average`.
    inputs, input_names : (n, k) or None, tuple of k str
        Scalars that each state has beside its strain, such as temperature or composition.
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
    numbers: np.ndarray | None = None
    series: np.ndarray | None = None
    stress_error: np.ndarray | None = None
    inputs: np.ndarray | None = None
    input_names: tuple[str, ...] = ()
    structure: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.strain)
        if n == 0:
            raise ValueError(
                "StrainData: expected at least one state, got none. Check the file and the frames left out."
            )
        self.input_names = tuple(str(name) for name in self.input_names)
        if (self.inputs is None) == bool(self.input_names) or len(set(self.input_names)) < len(self.input_names):
            raise ValueError(
                f"StrainData: expected inputs and different input_names, one for each column, or neither, got names "
                f"{self.input_names}. Give both."
            )
        for name, tail in _SHAPES.items():
            tail = (len(self.input_names),) if name == "inputs" else tail
            array = getattr(self, name)
            if array is None:
                if name in _REQUIRED:
                    raise ValueError(f"StrainData: expected {name}, got None. Compute it from what is known.")
                continue
            array = np.asarray(array, dtype=_WHOLE.get(name, np.float64))
            shape = tail if name == "cell_ref" else (n, *tail)
            if array.shape != shape:
                raise ValueError(
                    f"StrainData: expected {name} of shape {shape}, got {array.shape}. Each state has one row."
                )
            setattr(self, name, array)
        if self.units not in STRESS_UNITS:
            raise ValueError(
                f"StrainData: expected units among {', '.join(STRESS_UNITS)}, got {self.units!r}. Convert the data."
            )
        if self.kind not in KINDS:
            raise ValueError(
                f"StrainData: expected a kind among {', '.join(KINDS)}, got {self.kind!r}. Say 'unknown' if it is."
            )
        if self.kind == "isothermal" and self.energy is not None:
            raise ValueError(
                "StrainData: expected no energy in isothermal data, got some. The mean potential energy is not the free "
                "energy; pass energy=None, or kind='unknown' if these are free energies."
            )
        self.names = [str(name) for name in self.names] or [f"state {i}" for i in range(n)]
        if len(self.names) != n:
            raise ValueError(
                f"StrainData: expected {n} names, one for each state, got {len(self.names)}. Give none to number them."
            )
        for name in _SHAPES:
            array = getattr(self, name)
            if array is None or name in _WHOLE:
                continue
            if name == "cell_ref":
                if not np.all(np.isfinite(array)):
                    raise ValueError("StrainData: expected a finite cell_ref, got NaN or infinity. Correct the cell.")
                continue
            bad = np.flatnonzero(~np.isfinite(array.reshape(n, -1)).all(axis=1))
            if len(bad):
                remedy = (
                    "Remove these states"
                    if self.numbers is None
                    else f"Leave out --skip-frames {listed(self.numbers[bad])}"
                )
                raise ValueError(
                    f"StrainData: expected finite {name}, got NaN or infinity in {len(bad)} of {n} states, first in "
                    f"{self.names[bad[0]]}. {remedy}."
                )

        if self.stress_error is not None and not np.all(self.stress_error > 0):
            raise ValueError(
                f"StrainData: expected a stress_error larger than 0 of every state, got {self.stress_error.min():.3g}. "
                "Give None where errors are unknown."
            )

    def __len__(self) -> int:
        return len(self.strain)

    def __repr__(self) -> str:
        group = self.group.symbol if self.group else "unknown group"
        largest = np.linalg.norm(self.strain, axis=1).max(initial=0.0)
        ranges = (
            ""
            if self.inputs is None
            else "".join(
                f", {name} {low:g} … {high:g}"
                for name, low, high in zip(
                    self.input_names, self.inputs.min(axis=0), self.inputs.max(axis=0), strict=True
                )
            )
        )
        return f"StrainData({len(self)} states, {group}, |E| ≤ {largest:.3f}, {self.units}, {self.kind}{ranges})"

    def take(self, rows: Any) -> StrainData:
        """The states with the given indices or mask."""
        index = np.atleast_1d(np.arange(len(self))[rows])
        arrays = {name: getattr(self, name) for name in _SHAPES if name != "cell_ref"}
        parts = {name: None if array is None else array[index] for name, array in arrays.items()}
        return replace(self, names=[self.names[i] for i in index], **parts)

    def referred_to(self, stretch: Any, cell_ref: Any = None) -> StrainData:
        """The same states counted from another reference cell.

        Parameters
        ----------
        stretch : (3, 3)
            Deformation gradient G from the new reference cell to the present one, det G > 0: F → F G. It must commute
            with the symmetry where the group is to stay, as an isotropic stretch of a cubic crystal does.
        cell_ref : (3, 3), optional
            Edges of the new cell in Å, where they are to be kept.

        Returns
        -------
        StrainData
            E = ½ (FᵀF − 1), S = J F⁻¹ σ F⁻ᵀ with the new F, and the energy per volume of the new cell.
        """
        gradient = np.asarray(stretch, dtype=float)
        if gradient.shape != (3, 3) or not np.linalg.det(gradient) > 0:
            raise ValueError(
                f"StrainData.referred_to: expected a stretch (3, 3) with det > 0, got {gradient.tolist()}. Isotropic: "
                "edge / new edge times the identity."
            )
        if self.group is not None:
            operations = self.group.laue.sample(24, np.random.default_rng(0))
            metric = gradient @ gradient.T
            if np.abs(operations @ metric @ np.swapaxes(operations, 1, 2) - metric).max() > 1e-6:
                raise ValueError(
                    f"StrainData.referred_to: expected a stretch that {self.group.symbol} leaves alone, got "
                    f"{gradient.tolist()}. From another reference the states would show a lower symmetry."
                )
        present = self.deformation_gradient @ gradient
        energy = None if self.energy is None else self.energy * np.linalg.det(gradient)
        return replace(
            self, strain=green_lagrange(present), stress=second_piola(self.cauchy, present), energy=energy,
            deformation_gradient=present, cell_ref=cell_ref,
        )  # fmt: skip

    @classmethod
    def joined(cls, parts: Sequence[StrainData]) -> StrainData:
        """Several data sets of one material as one: the same group, units, kind, inputs, and the same reference cell
        (see `referred_to`). What only some of them have is left out; the structure is the first one's.

        Raises
        ------
        ValueError
            Where they differ.
        """
        first = parts[0]
        for part in parts[1:]:
            for name in ("group", "units", "kind", "input_names"):
                if getattr(part, name) != getattr(first, name):
                    raise ValueError(
                        f"StrainData.joined: expected data sets of one {name}, got {getattr(first, name)!r} and "
                        f"{getattr(part, name)!r}. Convert them first."
                    )
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            if all(getattr(part, name) is not None for part in parts) else None
            for name in _SHAPES if name != "cell_ref"
        }  # fmt: skip
        if arrays["series"] is not None:
            # a label names another path in each part
            part = np.repeat(np.arange(len(parts)), [len(one) for one in parts])
            arrays["series"] = np.unique(np.stack([part, arrays["series"]]), axis=1, return_inverse=True)[1].reshape(-1)
        cells = [part.cell_ref for part in parts]
        same = all(cell is not None and cells[0] is not None and np.allclose(cell, cells[0]) for cell in cells)
        return replace(
            first, **arrays, cell_ref=cells[0] if same else None, names=[name for part in parts for name in part.names],
            provenance={"joined": [part.provenance for part in parts]},
        )  # fmt: skip

    def orbits(self, tolerance: float | None = None) -> np.ndarray:
        """Label (n,) of each state's symmetry orbit: states that the group maps onto each other share one, where their
        inputs are the same.

        Parameters
        ----------
        tolerance : float, optional
            Largest distance |R E₁ − E₂| of twins: by default 2e-3, because data from input files carry rounded cells,
            and at most 2 % of the largest strain.
        """
        strain = self.strain
        if tolerance is None:
            tolerance = min(2e-3, 0.02 * float(np.linalg.norm(strain, axis=1).max(initial=0.0)))
        group = self.group
        if group is not None and group.laue.symbol == "∞∞m":
            # strains are equivalent under all rotations where their eigenvalues agree
            strain = np.linalg.eigvalsh(from_mandel(strain))
            images = strain[None]
        elif group is not None and not group.is_finite:
            # a quarter of a degree moves a strain of 0.2 by less than the tolerance
            axis = group.frame[:, 2]
            about = np.array([rotation_about(axis, angle) for angle in np.arange(0.0, 2 * np.pi, np.pi / 720)])
            flips = [np.eye(3), *group.laue.generators]
            images = np.concatenate([strain @ np.swapaxes(mandel_rotation(about @ flip), 1, 2) for flip in flips])
        else:
            turns = np.eye(6)[None] if group is None else mandel_rotation(group.rotations)
            images = strain @ np.swapaxes(turns, 1, 2)
        if self.inputs is not None:
            # whole numbers apart, further than any tolerance
            label = np.unique(self.inputs, axis=0, return_inverse=True)[1].reshape(-1, 1).astype(float)
            strain = np.concatenate([strain, label], axis=1)
            images = np.concatenate([images, np.broadcast_to(label, (len(images), *label.shape))], axis=2)
        tree = KDTree(strain)
        pairs = [KDTree(image).sparse_distance_matrix(tree, tolerance, output_type="coo_matrix") for image in images]
        rows = np.concatenate([pair.row for pair in pairs])
        columns = np.concatenate([pair.col for pair in pairs])
        near = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(strain), len(strain)))
        return connected_components(near, directed=False)[1]

    def blocks(self) -> np.ndarray:
        """Label (n,) of what a fold keeps together: series where there are any, else symmetry orbits."""
        return self.orbits() if self.series is None else self.series

    def write(self, path: str | Path) -> None:
        """Write HDF5, schema 1: to a temporary name beside the target, then renamed.

        Raises
        ------
        OSError
            Where the file cannot be written.
        """
        arrays = {name: getattr(self, name) for name in _SHAPES if getattr(self, name) is not None}
        attributes = {
            "schema": SCHEMA,
            "content": _CONTENT,
            "units": self.units,
            "kind": self.kind,
            "component_order": "11 22 33 23 13 12, Mandel",
            "frame": json.dumps(None if self.group is None else self.group.frame.tolist()),
            "point_group": "" if self.group is None else self.group.symbol,
        }
        values: dict[str, Any] = {"structure": self.structure, "provenance": self.provenance, "names": self.names}
        if self.input_names:
            values["input_names"] = list(self.input_names)
        texts = {name: json.dumps(value, default=_plain) for name, value in values.items()}
        write_record(Path(path), attributes, texts, arrays)

    @classmethod
    def read(cls, path: str | Path, **options: Any) -> StrainData:
        """Read a data set: .h5/.hdf5 (schema 1), .extxyz/.xyz (needs `reference`, see `read_extended_xyz`).

        Raises
        ------
        OSError
            Where there is no such file.
        ValueError
            For a file that is damaged or something else, with the reason.
        """
        path = Path(path)
        if not path.is_file():
            raise OSError(f"StrainData.read: expected a file, got {str(path)!r}, which does not exist. Check the path.")
        if path.suffix in (".h5", ".hdf5"):
            if any(value is not None and value != () for value in options.values()):
                raise ValueError(
                    f"StrainData.read: expected no options for {path.name!r}, which says all itself, got "
                    f"{', '.join(options)}. Give these when the data set is made."
                )
            return _read_hdf5(path)
        if path.suffix in (".extxyz", ".xyz"):
            from .extended_xyz import read_extended_xyz  # makes these records

            return read_extended_xyz(path, **options)
        raise ValueError(
            f"StrainData.read: expected .h5, .hdf5, .extxyz or .xyz, got {path.name!r}. Plain tables of F, P and W are "
            "read by read_tables (command line: --format table); a structure is strained first: constitutive atoms."
        )


def listed(numbers: Any) -> str:
    """Whole numbers as --skip-frames takes them."""
    return ",".join(str(int(number)) for number in numbers)


def _plain(value: Any) -> Any:
    """What JSON can hold instead of numpy's own types and paths."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else str(value)


def _read_hdf5(path: Path) -> StrainData:
    axes = {name: len(tail) + (name != "cell_ref") for name, tail in _SHAPES.items()}
    attributes, texts, arrays = read_record(path, ("structure", "provenance", "names", "input_names"), axes)
    if attributes.get("schema") != SCHEMA or attributes.get("content", _CONTENT) != _CONTENT:
        raise ValueError(
            f"{path.name}: expected strain data of schema {SCHEMA}, got schema {attributes.get('schema', 'none')} of "
            f"{attributes.get('content', 'something else')}. Update this package, or make the file again."
        )
    missing = [name for name in _REQUIRED if name not in arrays]
    missing += [name for name in ("units", "kind", "point_group", "frame") if name not in attributes]
    if missing:
        raise ValueError(f"{path.name}: expected {', '.join(missing)}, got none. Make the file again.")
    try:
        frame = json.loads(str(attributes["frame"]))
        parsed = {name: json.loads(text) for name, text in texts.items()}
        kinds = {"structure": (dict, type(None)), "provenance": (dict,), "names": (list,), "input_names": (list,)}
        for name, value in parsed.items():
            if not isinstance(value, kinds[name]):
                raise ValueError(f"{name} is a JSON {type(value).__name__}")
        symbol = str(attributes["point_group"])
        group = PointGroup(symbol, None if frame is None else np.array(frame, dtype=float)) if symbol else None
        fields: dict[str, Any] = {"energy": None, **arrays, **parsed}
        data = StrainData(group=group, units=str(attributes["units"]), kind=str(attributes["kind"]), **fields)
        check_frame(data)
        return data
    except Exception as error:  # texts that were edited may fail anywhere
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        reason = reason if isinstance(error, ValueError) and reason else f"{type(error).__name__} {reason}".strip()
        raise ValueError(
            f"{path.name}: expected strain data of schema {SCHEMA}, got a file with a fault: {reason}. Make it again."
        ) from error
