"""Strained cells as a folder of jobs for a cluster, and the finished calculations read back.

    FOLDER/plan.json            reference cell, strains, point group
    FOLDER/reference/POSCAR     the undeformed cell
    FOLDER/state_0000/POSCAR    a strained cell, and so on

Each folder gets the code's own output beside its POSCAR: vasprun.xml or OUTCAR (VASP), *.pwo or *.out (Quantum
ESPRESSO), or *.extxyz of any code that ASE drives.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase import Atoms
from ase.io import read, write

from . import mandel
from .atomistic import gathered_states
from .extended_xyz import RELAXED_FORCE
from .groups import PointGroup
from .states import EV_PER_A3, StrainData
from .strain_plan import plan_strains
from .structures import standard_primitive, structure_to_dict
from .transformation import Bonds
from .whole_file import whole_file

_OUTPUTS = ("vasprun.xml", "OUTCAR", "*.pwo", "*.out", "*.extxyz")
# Largest difference between the strain of a finished cell and the plan's: input files carry rounded cells.
_SAME_STRAIN = 2e-4


def write_jobs(
    structure: Any, folder: str | Path, *, number: int = 300, max_strain: float = 0.08, seed: int = 0
) -> list[Path]:
    """Write the plan and one folder for each strained cell.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path
        Relaxed to zero stress with the settings of the jobs. What pressure is left is stored with the data and fitted.
    folder : path
        New, or empty.
    number, max_strain, seed
        As in `strained_states`.

    Returns
    -------
    list of Path
        The folders, the reference first.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OSError(f"write_jobs: expected a new or empty folder, got {str(folder)!r}. Choose another name.")
    reference = standard_primitive(structure)
    # POSCAR groups atoms by element: in that order from the start, they need no sorting back
    reference = reference[np.argsort(reference.numbers, kind="stable")]
    group = PointGroup.from_structure(reference)
    strains = plan_strains(number, max_strain, seed, group)
    source = Path(structure).name if isinstance(structure, (str, Path)) else reference.get_chemical_formula()
    plan = {
        "schema": 1, "source": source, "cell": reference.cell.array.tolist(), "numbers": reference.numbers.tolist(),
        "fractional": reference.get_scaled_positions().tolist(), "structure": structure_to_dict(reference),
        "point_group": group.symbol, "frame": group.frame.tolist(), "strains": strains.tolist(),
        "max_strain": max_strain, "seed": seed,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, strain in [("reference", np.zeros(6)), *((f"state_{i:04d}", strain) for i, strain in enumerate(strains))]:
        atoms = reference.copy()
        atoms.set_cell(reference.cell.array @ mandel.right_stretch(strain).T, scale_atoms=True)
        (folder / name).mkdir()
        # %.16f: the cell comes back as it was planned
        write(folder / name / "POSCAR", atoms, format="vasp", direct=True, vasp5=True)
        made.append(folder / name)
    # last, so that a plan stands only where its cells do
    with whole_file(folder / "plan.json") as temporary:
        temporary.write_text(json.dumps(plan))
    return made


def read_jobs(folder: str | Path) -> StrainData:
    """The data set of a job folder after its calculations.

    Parameters
    ----------
    folder : path
        Made by `write_jobs`. In each state the cell is fixed and the atoms are relaxed (VASP: ISIF = 2; Quantum
        ESPRESSO: calculation = 'relax', tstress = .true.).

    Returns
    -------
    StrainData
        'clamped-ion' where the largest force of a state is above 0.02 eV/Å. States without output, with another cell
        than planned or with changed bonds are left out and named in `provenance["left_out"]`.

    Raises
    ------
    OSError
        Where the folder has no plan.
    RuntimeError
        Where more than half of the states do not count.
    """
    folder = Path(folder)
    path = folder / "plan.json"
    if not path.is_file():
        raise OSError(
            f"read_jobs: expected a folder with plan.json, got {str(folder)!r}. Make it with constitutive atoms "
            "STRUCTURE --write-jobs FOLDER."
        )
    plan = json.loads(path.read_text())
    reference = Atoms(plan["numbers"], cell=np.array(plan["cell"]), scaled_positions=plan["fractional"], pbc=True)
    group = PointGroup(plan["point_group"], np.array(plan["frame"]))
    strains = np.array(plan["strains"])
    bonds = Bonds(reference)
    results = {
        place: _result(folder / f"state_{place:04d}", reference, strain, bonds) for place, strain in enumerate(strains)
    }
    done = {place: result for place, result in results.items() if "left_out" not in result}
    zero = _result(folder / "reference", reference, np.zeros(6), bonds)
    offset = zero.get("energy")
    if offset is None:
        # any zero serves a law; the smallest strain's is near
        offset = min(done.items(), key=lambda item: np.linalg.norm(strains[item[0]]))[1]["energy"] if done else 0.0
    for result in done.values():
        result["energy"] = result["energy"] - offset
    largest = max((result["max_force"] for result in done.values()), default=0.0)
    provenance = {
        "source": plan["source"], "calculator": "job folder", "ase": ase.__version__, "seed": plan["seed"],
        "max_strain": plan["max_strain"], "reference_stress": zero.get("stress"), "largest_force": largest,
    }  # fmt: skip
    kind = "clamped-ion" if largest > RELAXED_FORCE else "relaxed-ion"
    return gathered_states(reference, group, strains, results, provenance, kind)


def _result(folder: Path, reference: Atoms, strain: np.ndarray, bonds: Bonds) -> dict[str, Any]:
    """Energy (GPa, absolute), stress and cell of a finished state, or why it is left out."""
    outputs = [path for pattern in _OUTPUTS for path in sorted(folder.glob(pattern))]
    if not outputs:
        return {"left_out": f"failed: no output ({', '.join(_OUTPUTS)}) in {folder.name}"}
    try:
        found = read(outputs[0], index=-1)
        assert isinstance(found, Atoms)
        energy = found.get_potential_energy(force_consistent=False)
        cauchy = mandel.stress_from_voigt(found.get_stress(voigt=True) * EV_PER_A3)
        forces = found.get_forces(apply_constraint=False)
    except Exception as error:  # readers raise what they like
        return {"left_out": f"failed: {outputs[0].name} in {folder.name}: {type(error).__name__}: {error}"}
    gradient = mandel.right_stretch(strain)
    planned = reference.cell.array @ gradient.T
    away = float(np.linalg.norm(mandel.green_lagrange(np.linalg.solve(planned, found.cell.array).T)))
    if not np.array_equal(found.numbers, reference.numbers) or away > _SAME_STRAIN:
        return {
            "left_out": f"failed: {folder.name} holds {found.get_chemical_formula()} strained by {away:.2g} from the plan"
        }
    affine = reference.get_scaled_positions(wrap=False)
    shift = found.get_scaled_positions(wrap=False) - affine
    relaxed = (affine + shift - np.round(shift)) @ planned
    reason = bonds.changed(affine @ planned, relaxed, gradient)
    if reason:
        return {"left_out": f"transformed: {reason}"}
    return {
        "energy": float(energy) * EV_PER_A3 / float(reference.get_volume()), "cauchy": cauchy.tolist(),
        "cell": planned.tolist(), "max_force": float(np.linalg.norm(forces, axis=1).max()),
        "deformation_gradient": gradient.tolist(), "stress": mandel.second_piola(cauchy, gradient).tolist(),
    }  # fmt: skip
