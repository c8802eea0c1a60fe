"""Extended XYZ to strain data: strained cells of one crystal, as ASE and DFT workflows write them.

Cells hold their vectors in rows, so F = (L₀⁻¹ L)ᵀ from the matched supercell of the reference (`cells`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from ase import Atoms

from . import mandel
from .cells import IMPLAUSIBLE_STRAIN, match_cells
from .groups import PointGroup
from .states import StrainData, convert, listed
from .structures import as_atoms, structure_to_dict

#: Largest force (eV/Å) of a state whose atoms count as relaxed.
RELAXED_FORCE = 0.02
# An atom (Å) further from its site than this is another atom.
_SAME_SITE = 0.7


def parse_reference_cell(text: str, frames: list[Atoms]) -> np.ndarray:
    """Reference cell (3, 3), Å, vectors in rows, of a command-line value.

    A number is the edge of a cube, three numbers the edges of a box, nine numbers the cell row by row, 'frame:N' the
    cell of frame N (from 0), anything else the path of a structure file. The frames may be supercells of it, or
    primitive cells of a centred one: an fcc crystal goes by the edge of its cube.
    """
    if text.startswith("frame:"):
        number = text.removeprefix("frame:")
        if not (number.isascii() and number.isdigit()) or int(number) >= len(frames):
            raise ValueError(
                f"--reference-cell: expected frame:0 … frame:{len(frames) - 1}, got {text!r}. Frames count from 0."
            )
        return frames[int(number)].cell.array.copy()
    try:
        numbers = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        if not Path(text).is_file():
            raise ValueError(
                f"--reference-cell: expected 1, 3 or 9 numbers (Å), 'frame:N' or a structure file, got {text!r}, which "
                "is none of these. Check the path."
            ) from None
        return as_atoms(text).cell.array.copy()
    if len(numbers) not in (1, 3, 9) or not np.all(np.isfinite(numbers)):
        raise ValueError(
            f"--reference-cell: expected 1, 3 or 9 numbers (Å), 'frame:N' or a structure file, got {text!r}. Give the "
            "edge of the cube, the edges of the box, or the cell row by row."
        )
    cell = np.array(numbers).reshape(3, 3) if len(numbers) == 9 else np.diag(np.broadcast_to(numbers, 3))
    return _checked_cell(cell)


def _checked_cell(cell: np.ndarray) -> np.ndarray:
    cell = np.array(cell, dtype=float)
    if cell.shape != (3, 3) or not np.all(np.isfinite(cell)) or not np.linalg.det(cell) > 0:
        raise ValueError(
            f"--reference-cell: expected a right-handed cell (3, 3) of positive volume, got {cell.tolist()}. Give its "
            "vectors as rows, in Å."
        )
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
    reference : (3, 3) array, float (edge of a cube), str, Structure or Atoms
        The undeformed cell (Å, vectors in rows) of which the frames are strained copies, or what
        `parse_reference_cell` reads. A primitive cell serves for frames that are its supercells, and a centred one for
        frames that are its primitive cells. From a Structure or Atoms the symmetry is taken too; otherwise it is that
        of the mean of the frames, mapped back to the reference.
    skip : tuple of int
        Frames to leave out, counted from 0.
    stress_units : str
        Unit of the file's Cauchy stress; ASE writes eV/Å³.
    stress_sign : float
        −1 where the file counts compression positive.
    symprec : float
        Tolerance (Å) within which the reference, or the mean of the frames, shows its symmetry.

    Raises
    ------
    ValueError
        Naming the frame: no energy or stress, numbers that are not finite, a cell that is no strained copy of the
        reference.

    Notes
    -----
    The energy is the free energy where every frame has one (the stress is its derivative), else the energy. A virial
    (eV) stands for a missing stress: σ = −virial/V, whatever the unit and sign stated for stresses.
    """
    where = f"{Path(path).name}"
    frames = read_frames(where, Path(path))
    if stress_sign not in (1, -1):
        raise ValueError(f"{where}: expected a stress sign of 1 or -1, got {stress_sign}. Tension positive is 1.")
    convert(0.0, stress_units, "GPa")
    if reference is None:
        raise ValueError(
            f"{where}: expected a reference cell, got none. Name the undeformed cell: its edge in Å, "
            "'frame:N' or a structure file (--reference-cell, or reference= in Python)."
        )
    unknown = [i for i in skip if not 0 <= i < len(frames)]
    if unknown:
        raise ValueError(
            f"{where}: expected frames to skip within 0 … {len(frames) - 1}, got {unknown}. Frames count from 0."
        )
    known: Atoms | None = None
    if isinstance(reference, str):
        cell_ref = parse_reference_cell(reference, frames)
    elif isinstance(reference, (int, float)):
        cell_ref = _checked_cell(reference * np.eye(3))
    elif isinstance(reference, np.ndarray):
        cell_ref = _checked_cell(reference)
    else:
        known = as_atoms(reference)
        cell_ref = known.cell.array.copy()
    numbers = np.array([i for i in range(len(frames)) if i not in set(skip)], dtype=int)
    if not len(numbers):
        raise ValueError(f"{where}: expected at least one frame, got {len(frames)}, all left out. Skip fewer.")
    names = [f"frame {i} ({frames[i].info.get('description', frames[i].get_chemical_formula())})" for i in numbers]
    frames = [frames[i] for i in numbers]

    gradients, volumes, multiples = _match_frames(where, frames, names, numbers, cell_ref, known)
    energies, cauchy, forces, energy_key = _read_results(where, frames, names, numbers, stress_units, stress_sign)
    # Energy per reference volume, in GPa; supercells count per reference cell.
    density = convert(energies / volumes, "eV/A3", "GPa")
    offset = float(density[np.argmin(np.linalg.norm(mandel.green_lagrange(gradients), axis=1))])
    order = np.argsort(np.linalg.norm(mandel.green_lagrange(gradients), axis=1))
    mean, off_site = _mean_reference([frames[i] for i in order], cell_ref, [multiples[i] for i in order])
    if forces is not None:
        kind = "clamped-ion" if forces.max() > RELAXED_FORCE else "relaxed-ion"
    else:
        kind = "clamped-ion" if off_site < 1e-4 else "unknown"
    mean = mean if known is None else known
    group = PointGroup.from_structure(mean, symprec)
    return StrainData(
        strain=mandel.green_lagrange(gradients),
        stress=mandel.second_piola(cauchy, gradients),
        energy=density - offset,
        deformation_gradient=gradients,
        cauchy=cauchy,
        group=group,
        kind=kind,
        cell=np.array([frame.cell.array for frame in frames]),
        cell_ref=np.array(cell_ref),
        max_force=forces,
        names=names,
        numbers=numbers,
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
            "energy_key": energy_key,
            "energy_offset": offset,
        },
    )


def read_frames(where: str, path: Path) -> list[Atoms]:
    """All frames of a file, as ASE reads them."""
    from ase.io import iread

    _check_frames(where, path)
    try:
        return list(iread(path, index=":", format="extxyz"))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"{where}: expected extended XYZ, got a file that ASE cannot read: {reason}. Write it with ASE."
        ) from error


def _check_frames(where: str, path: Path) -> None:
    """Each frame has the atoms that it states, and the file ends where a frame does: what a cut leaves is not read."""
    with open(path, "rb") as stream:
        number, last, ended = 0, b"\n", False
        while line := stream.readline(2**20):
            number, text = number + 1, line.decode("ascii", "replace").strip()
            if not text or ended:
                # ASE stops at an empty line, whatever follows
                ended = True
                if not text:
                    continue
            if ended or not (text.isascii() and text.isdigit() and 0 < int(text[:12]) < 10**9):
                raise ValueError(
                    f"{where}: expected extended XYZ, got {text[:40]!r} for a number of atoms in line {number}. Write it with "
                    "ASE."
                )
            for place in range(int(text) + 1):
                last = stream.readline(2**24)
                if not last:
                    raise ValueError(
                        f"{where}: expected {text} atoms in its last frame, got {max(place - 1, 0)}: the file was cut. Copy it "
                        "again."
                    )
                columns = re.search(rb"Properties\s*=\s*[\"']?([^\s\"']+)", last) if place == 0 else None
                if columns is not None and any(len(part) > 4 for part in columns[1].split(b":")[2::3]):
                    raise ValueError(
                        f"{where}: expected columns of atoms, got {columns[1][:80].decode('ascii', 'replace')!r} in line "
                        f"{number + 1}. Write it with ASE."
                    )
            number += int(text) + 1
    if not last.endswith(b"\n"):
        raise ValueError(
            f"{where}: expected a last line that ends, got one without its end: the file may have been cut within a number. "
            f"Copy it again, or where it is whole add a newline: echo >> {path.name}."
        )


def _match_frames(
    where: str, frames: list[Atoms], names: list[str], numbers: np.ndarray, cell_ref: np.ndarray, known: Atoms | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deformation gradients, reference volumes and supercell matrices of frames; every misfit named at once."""
    cells = np.array([frame.cell.array for frame in frames])
    finite = [np.all(np.isfinite(frame.cell.array)) and np.all(np.isfinite(frame.positions)) for frame in frames]
    solid = [
        bool(good) and frame.cell.volume > 1e-6 and np.linalg.cond(frame.cell.array) < 1e6
        for good, frame in zip(finite, frames, strict=True)
    ]
    wrong = {
        place: "its cell or positions are not finite, or it has no volume"
        for place, good in enumerate(solid)
        if not good
    }
    if not wrong and known is not None:
        share = _composition(known)
        wrong = {
            place: f"{frame.get_chemical_formula()} does not have the composition of {known.get_chemical_formula()}"
            for place, frame in enumerate(frames)
            if _composition(frame) != share
        }
    if not wrong:
        sizes = np.array([len(frame) for frame in frames])
        match = match_cells(cells, sizes, cell_ref, None if known is None else len(known))
        wrong = match.misfits or _without_period(frames, match.multiples)
        if not wrong:
            volumes = abs(np.linalg.det(cell_ref)) * np.linalg.det(match.multiples)
            return match.gradients, volumes, match.multiples
    _refuse(
        f"{where}: expected strained copies of the reference cell (|E| ≤ {IMPLAUSIBLE_STRAIN})",
        len(frames),
        {int(numbers[place]): f"{names[place]}: {reason}" for place, reason in wrong.items()},
        "correct the reference cell",
    )


def _without_period(frames: list[Atoms], multiples: np.ndarray) -> dict[int, str]:
    """Frames whose atoms do not repeat with the reference cell that their supercell matrix states, and by how much."""
    wrong: dict[int, str] = {}
    seen: dict[tuple[bytes, bytes], float] = {}
    for place, (frame, multiple) in enumerate(zip(frames, multiples, strict=True)):
        key = multiple.tobytes(), frame.numbers.tobytes()
        if key not in seen:
            coordinates, worst = frame.get_scaled_positions(wrap=False), 0.0
            # rows: the vectors of the reference cell in units of the frame's
            for shift in np.linalg.inv(multiple):
                difference = coordinates[:, None] + shift - coordinates[None]
                difference -= np.round(difference)
                distance = np.linalg.norm(difference @ frame.cell.array, axis=2)
                distance[frame.numbers[:, None] != frame.numbers[None]] = np.inf
                worst = max(worst, float(distance.min(axis=1).max()))
            seen[key] = worst
        if seen[key] > _SAME_SITE:
            wrong[place] = f"its atoms do not repeat with the reference cell (one is {seen[key]:.1f} Å off)"
    return wrong


def _composition(atoms: Atoms) -> dict[int, float]:
    kinds, counts = np.unique(atoms.numbers, return_counts=True)
    return {int(kind): float(count) / len(atoms) for kind, count in zip(kinds, counts, strict=True)}


def _refuse(expected: str, total: int, faults: dict[int, str], remedy: str) -> NoReturn:
    """Raise one ValueError that names frames by their numbers in the file."""
    reasons = "; ".join(list(faults.values())[:5]) + (f" and {len(faults) - 5} more" if len(faults) > 5 else "")
    skip = f"Leave out with --skip-frames {listed(faults)}, or {remedy}"
    raise ValueError(
        f"{expected}, got {reasons}. {skip if 2 * len(faults) < total else remedy[0].upper() + remedy[1:]}."
    )


def _read_results(
    where: str, frames: list[Atoms], names: list[str], numbers: np.ndarray, units: str, sign: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, str]:
    """Energy (eV), Cauchy stress (GPa, Mandel) and largest force (eV/Å) of every frame, and the energy's key."""
    found = [{**frame.info, **({} if frame.calc is None else frame.calc.results)} for frame in frames]
    # The stress is the derivative of the free energy; kinds of energy must not be mixed.
    key = "free_energy" if all(results.get("free_energy") is not None for results in found) else "energy"
    energies, stresses, forces, faults = [], [], [], {}
    for results, frame, name, number in zip(found, frames, names, numbers, strict=True):
        energy, stress, virial = results.get(key), results.get("stress"), results.get("virial")
        absent = [
            word for word, value in ((key, energy), ("stress", virial if stress is None else stress)) if value is None
        ]
        if absent:
            faults[int(number)] = f"{name} has no {' and no '.join(absent)}"
            continue
        try:
            energy = float(energy)  # type: ignore[arg-type]
            tensor = _stress_tensor(virial if stress is None else stress)
            force = results.get("forces", frame.arrays.get("forces", frame.arrays.get("force")))
            largest = None if force is None else _largest(force)
        except (TypeError, ValueError) as error:
            faults[int(number)] = f"{name}: {error}"
            continue
        if not np.isfinite(energy) or not np.all(np.isfinite(tensor)):
            faults[int(number)] = f"{name}: energy {energy} and stress are not all finite"
            continue
        if stress is None:
            tensor = convert(-tensor / frame.get_volume(), "eV/A3", "GPa")
        else:
            tensor = convert(tensor, units, "GPa") * sign
        energies.append(energy)
        stresses.append(mandel.to_mandel(tensor))
        forces.append(largest)
    if faults:
        _refuse(
            f"{where}: expected a finite energy and stress in every frame",
            len(frames),
            faults,
            "write both (ASE: energy= and stress= in the comment line)",
        )
    known = None if any(force is None for force in forces) else np.array(forces, dtype=float)
    return np.array(energies), np.array(stresses), known, key


def _largest(forces: Any) -> float:
    array = np.asarray(forces, dtype=float)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"its forces have shape {array.shape}, not (atoms, 3)")
    return float(np.linalg.norm(array, axis=1).max())


def _stress_tensor(values: Any) -> np.ndarray:
    """Symmetric tensor of nine components, or of six in the order xx yy zz yz xz xy."""
    array = np.asarray(values, dtype=float).reshape(-1)
    if array.size == 6:
        return array[mandel.POSITION]
    if array.size != 9:
        raise ValueError(f"its stress has {array.size} components, not 6 or 9")
    tensor = array.reshape(3, 3)
    if np.linalg.norm(tensor - tensor.T) > 0.02 * np.linalg.norm(tensor) + 1e-12:
        raise ValueError("its stress is not symmetric")
    return 0.5 * (tensor + tensor.T)


def _mean_reference(frames: list[Atoms], cell_ref: np.ndarray, multiples: list[np.ndarray]) -> tuple[Atoms, float]:
    """Mean structure of frames (least strained first) mapped back affinely, and how far (Å) atoms stray from it."""
    cell = multiples[0] @ cell_ref
    first = frames[0].get_scaled_positions(wrap=False)
    shifted = []
    for frame, multiple in zip(frames, multiples, strict=True):
        if not np.array_equal(frame.numbers, frames[0].numbers) or not np.array_equal(multiple, multiples[0]):
            continue
        difference = frame.get_scaled_positions(wrap=False) - first
        difference -= np.round(difference)
        difference -= difference.mean(axis=0)
        # Atoms listed in another order would make the mean a mixture.
        if np.max(np.linalg.norm(difference @ cell, axis=1)) < _SAME_SITE:
            shifted.append(first + difference)
    mean = np.mean(shifted, axis=0)
    off_site = float(np.max(np.linalg.norm((np.array(shifted) - mean) @ cell, axis=2)))
    return Atoms(numbers=frames[0].numbers, cell=cell, scaled_positions=mean, pbc=True), off_site
