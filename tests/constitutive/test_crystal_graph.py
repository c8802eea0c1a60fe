"""The crystal network is exact: rotations, the crystal's own point group, cell, origin and order, handedness."""

import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal as from_spacegroup
from scipy.spatial.transform import Rotation

from constitutive.crystal_ensemble import CrystalEnsemble
from constitutive.crystal_graph import HEADS, CrystalBatch, CrystalNetwork, bulk_and_shear, stiffness
from constitutive.crystal_moduli import crystal_moduli
from constitutive.fitting.crystal_fit import moduli_loss, train_network
from crystals.groups import PointGroup
from crystals.moduli import hill_average
from crystals.pair_sums import pair_sums
from crystals.rotations import mandel_rotation
from crystals.structures import standard_primitive, symmetrised

ROOT = Path(__file__).resolve().parents[2]


def quartz(number: int = 152) -> Atoms:
    """P3₁21; its mirror image is P3₂21 (154)."""
    c = {152: 0.1191, 154: -0.1191}[number]
    o = {152: (0.4135, 0.2669, c), 154: (0.4135, 0.1466, -c)}[number]
    return from_spacegroup(
        ["Si", "O"], [(0.4697, 0, 0), o], spacegroup=number, cellpar=[4.916, 4.916, 5.405, 90, 90, 120]
    )


CRYSTALS = {
    "triclinic": Atoms(
        "CuPdAuO", cell=[[3.1, 0, 0], [0.4, 3.6, 0], [0.7, -0.5, 4.8]], pbc=True,
        scaled_positions=[[0, 0, 0], [0.5, 0.45, 0.3], [0.1, 0.6, 0.7], [0.7, 0.1, 0.55]],
    ),
    "monoclinic": from_spacegroup(
        ["Zr", "O", "O"], [(0.2754, 0.0395, 0.2083), (0.07, 0.3317, 0.3447), (0.4496, 0.7569, 0.4792)], spacegroup=14,
        cellpar=[5.15, 5.21, 5.32, 90, 99.2, 90],
    ),
    "orthorhombic": from_spacegroup(
        ["Fe", "C"], [(0.036, 0.25, 0.852), (0.89, 0.25, 0.45)], spacegroup=62, cellpar=[5.09, 6.74, 4.53, 90, 90, 90]
    ),
    "tetragonal": from_spacegroup(
        ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]
    ),
    "trigonal": quartz(),
    "hexagonal": bulk("ZnO", "wurtzite", a=3.25, c=5.2, u=0.382),
    "cubic": from_spacegroup(["Fe", "S"], [(0, 0, 0), (0.385, 0.385, 0.385)], spacegroup=205, cellpar=[5.42] * 3 + [90] * 3),
}  # fmt: skip
Q = Rotation.random(random_state=5).as_matrix()


@cache
def network(heads: tuple[str, ...] = HEADS, seed: int = 0) -> CrystalNetwork:
    """Random weights, of a size that makes the tensors of order one."""
    torch.manual_seed(seed)
    made = CrystalNetwork(heads, channels=16, products=8, degree=6 if "third_order" in heads else 4).double().eval()
    made.set_scales([made.sums(atoms) for atoms in CRYSTALS.values()])
    with torch.no_grad():
        for layer in made.amounts.values():
            layer.weight.mul_(30.0)
    return made


def tensors(*structures: Atoms) -> list[dict[str, np.ndarray]]:
    made = network()
    with torch.no_grad():
        found = made(CrystalBatch.of([made.sums(atoms) for atoms in structures]))
    return [{head: value[place].numpy() for head, value in found.items()} for place in range(len(structures))]


def turned(atoms: Atoms, rotation: np.ndarray) -> Atoms:
    result = atoms.copy()
    result.set_cell(atoms.cell.array @ rotation.T, scale_atoms=True)
    return result


def turn_all(found: dict[str, np.ndarray], rotation: np.ndarray) -> dict[str, np.ndarray]:
    m = mandel_rotation(rotation)
    return {
        "stiffness": m @ found["stiffness"] @ m.T,
        "third_order": np.einsum("ai,bj,ck,ijk->abc", m, m, m, found["third_order"]),
        "piezoelectric": rotation @ found["piezoelectric"] @ m.T,
    }


def distance(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    return max(np.abs(first[head] - second[head]).max() for head in HEADS)


@pytest.mark.parametrize("system", CRYSTALS)
@pytest.mark.parametrize("improper", [False, True])
def test_tensors_turn_with_the_crystal(system, improper):
    rotation = -Q if improper else Q
    found, other = tensors(CRYSTALS[system], turned(CRYSTALS[system], rotation))
    assert np.abs(found["stiffness"]).max() > 0.01
    assert distance(turn_all(found, rotation), other) < 1e-10
    # control: left where it was, it is another tensor
    assert system == "cubic" or distance(found, other) > 1e-3


@pytest.mark.parametrize("system", CRYSTALS)
def test_own_point_group(system):
    """Every operation of the idealised crystal leaves every tensor alone; a rotation outside does not."""
    atoms = standard_primitive(CRYSTALS[system])
    group = PointGroup.from_structure(atoms)
    assert group.system == system
    found = tensors(atoms)[0]
    for operation in group.operations:
        assert distance(turn_all(found, operation), found) < 1e-10
    outside = Rotation.from_rotvec([0.3, 0.2, 0.5]).as_matrix()
    assert distance(turn_all(found, outside), found) > 1e-3


@pytest.mark.parametrize("system", CRYSTALS)
def test_cell_choice(system):
    """Supercells, another basis, a shifted origin, another order of atoms, wrapped or not: the same tensors."""
    atoms = standard_primitive(CRYSTALS[system])
    rng = np.random.default_rng(0)
    double = atoms * (1, 2, 1)
    skew = make_supercell(atoms, [[1, 0, 1], [0, 1, 0], [0, 1, 1]])
    moved = atoms.copy()
    moved.positions += [0.3, -1.1, 2.7]
    mixed = (atoms * (2, 1, 1))[rng.permutation(2 * len(atoms))]
    far = atoms.copy()
    far.positions += rng.integers(-2, 3, size=(len(atoms), 3)) @ atoms.cell.array
    found = tensors(atoms, double, skew, moved, mixed, far)
    assert max(distance(found[0], other) for other in found[1:]) < 1e-10
    # control: an atom moved by 0.01 Å
    changed = atoms.copy()
    changed.positions[0] += [0.01, 0.0, 0.0]
    other = tensors(changed)[0]
    assert len(atoms) == 1 or distance(found[0], other) > 1e-8


def test_stiffness_is_positive_definite_and_exact():
    """exp(A): symmetric, positive definite for any weights, and K, G are the Voigt–Reuss–Hill averages."""
    made = network()
    with torch.no_grad():
        logarithm = made(CrystalBatch.of([made.sums(atoms) for atoms in CRYSTALS.values()]))["stiffness"] * 5.0
        found = stiffness(logarithm).numpy()
        bulk, shear = bulk_and_shear(logarithm)
    assert np.abs(found - np.swapaxes(found, 1, 2)).max() < 1e-10 * np.abs(found).max()
    assert np.linalg.eigvalsh(found).min() > 0
    expected = hill_average(found)
    np.testing.assert_allclose(bulk, expected[0], rtol=1e-10)
    np.testing.assert_allclose(shear, expected[1], rtol=1e-10)


def test_left_and_right_quartz():
    """The mirror image has the same stiffness to 1e-12; the piezoelectric tensor changes its sign."""
    right = standard_primitive(quartz())
    left = right.copy()
    left.set_scaled_positions(-right.get_scaled_positions())
    left.set_cell(right.cell.array)
    assert PointGroup.from_structure(right).symbol == PointGroup.from_structure(left).symbol == "32"
    inverted = turned(right, -np.eye(3))
    found, mirror, other = tensors(right, inverted, left)
    assert np.abs(found["stiffness"] - mirror["stiffness"]).max() < 1e-12
    assert np.abs(found["piezoelectric"] + mirror["piezoelectric"]).max() < 1e-12
    assert np.abs(found["piezoelectric"]).max() > 1e-8
    assert distance(mirror, other) < 1e-10
    # crystals with an inversion centre have none
    for system in ("monoclinic", "orthorhombic", "tetragonal", "cubic"):
        centred = tensors(standard_primitive(CRYSTALS[system]))[0]
        assert np.abs(centred["piezoelectric"]).max() < 1e-12


def test_neighbours_come_and_go_smoothly():
    """A crystal stretched so that a shell crosses the cutoff: no jump, in value or slope."""
    made = network()
    values = []
    for scale in np.linspace(5.99, 6.01, 41):  # nearest neighbours of fcc at a/√2 = cutoff
        atoms = Atoms("Cu2", cell=[3.5, 3.5, scale], scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
        with torch.no_grad():
            values.append(made(CrystalBatch.of([made.sums(atoms)]))["stiffness"][0].numpy())
    steps = np.diff(np.array(values), axis=0)
    bends = np.abs(np.diff(steps, axis=0)).max()
    assert bends < 0.05 * np.abs(steps).max()


def ensemble() -> CrystalEnsemble:
    about = {"elements": [8, 14, 22, 26, 6, 16], "log_error": [0.1, 0.2], "species": [2], "directional": True}
    torch.manual_seed(1)
    networks = [CrystalNetwork(("stiffness",), channels=16, products=8) for _ in range(2)]
    for one in networks:
        one.set_scales([one.sums(atoms) for atoms in CRYSTALS.values()])
        with torch.no_grad():
            one.scalar_offset.copy_(torch.tensor([5.6, 9.8]))
            for layer in one.amounts.values():
                layer.weight.mul_(30.0)
    return CrystalEnsemble(networks, about)


MODEL = ensemble()


@pytest.mark.parametrize("system", CRYSTALS)
def test_moduli_of_a_structure_as_it_lies(system):
    """Turned, as a supercell, shuffled: the same stiffness, turned, with the symmetry of the group that is reported."""
    atoms = CRYSTALS[system]
    result = crystal_moduli(atoms, model=MODEL)
    other = crystal_moduli(turned(atoms * (1, 1, 2), Q), model=MODEL)
    m = mandel_rotation(Q)
    size = np.linalg.norm(result.stiffness)
    assert np.linalg.norm(m @ result.stiffness @ m.T - other.stiffness) < 1e-7 * size  # spglib's tolerance on lengths
    assert result.group.system == other.group.system == system
    for found in (result, other):
        turns = mandel_rotation(found.group.rotations)
        assert np.abs(turns @ found.stiffness @ np.swapaxes(turns, 1, 2) - found.stiffness).max() < 1e-10 * size
        assert np.linalg.eigvalsh(found.stiffness)[0] > 0 and found.residual < 1e-10
        assert found.law.stress_and_tangent(np.zeros((1, 6)))[1].shape == (1, 6, 6)
    assert result.displacement < 1e-3 and result.strain < 1e-6
    assert result.group == PointGroup.from_structure(atoms)
    operations = symmetrised(atoms).operations
    np.testing.assert_allclose(
        operations @ np.swapaxes(operations, 1, 2), np.broadcast_to(np.eye(3), operations.shape), atol=1e-9
    )
    if system == "trigonal":
        assert set(result.elastic_constants()) == {"C11", "C33", "C12", "C13", "C44", "C14"}


@pytest.mark.parametrize("system", CRYSTALS)
def test_files_with_rounded_numbers(system):
    """Positions and lengths to 1e-4: symmetrised with what it took reported, and near the exact file's answer."""
    exact = standard_primitive(CRYSTALS[system])
    rounded = exact.copy()
    rounded.set_cell(np.round(exact.cell.array, 4))
    rounded.set_scaled_positions(np.round(exact.get_scaled_positions(), 4))
    one, two = crystal_moduli(exact, model=MODEL), crystal_moduli(rounded, model=MODEL)
    assert two.group.symbol == one.group.symbol
    assert two.displacement < 2e-3 and 0 < two.displacement + two.strain
    assert np.linalg.norm(one.stiffness - two.stiffness) < 5e-3 * np.linalg.norm(one.stiffness)
    turns = mandel_rotation(two.group.rotations)
    size = np.linalg.norm(two.stiffness)
    assert np.abs(turns @ two.stiffness @ np.swapaxes(turns, 1, 2) - two.stiffness).max() < 1e-10 * size
    assert symmetrised(exact).displacement < 1e-6


def test_model_file(tmp_path):
    MODEL.write(tmp_path / "model.safetensors")
    again = CrystalEnsemble.read(tmp_path / "model.safetensors")
    one = crystal_moduli(CRYSTALS["cubic"], model=MODEL)
    two = crystal_moduli(CRYSTALS["cubic"], model=tmp_path / "model.safetensors")
    np.testing.assert_allclose(one.stiffness, two.stiffness, rtol=1e-5)
    assert again.about == MODEL.about
    (tmp_path / "broken.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:2000])
    with pytest.raises(ValueError, match="expected crystal networks of schema 1"):
        CrystalEnsemble.read(tmp_path / "broken.safetensors")
    with pytest.raises(OSError, match="does not exist"):
        CrystalEnsemble.read(tmp_path / "none.safetensors")


def test_unknown_elements_are_named():
    result = crystal_moduli(CRYSTALS["hexagonal"], model=MODEL)
    assert result.unknown_elements == ("Zn",) and "no crystal with Zn" in str(result)
    assert crystal_moduli(CRYSTALS["cubic"], model=MODEL).unknown_elements == ()
    assert "trained on crystals of 2 elements, not 4" in str(crystal_moduli(CRYSTALS["triclinic"], model=MODEL))


def test_what_is_refused():
    with pytest.raises(ValueError, match="neighbours: expected atoms at least 0.4 Å apart, got 0.1"):
        pair_sums(Atoms("H2", positions=[[0, 0, 0], [0.1, 0, 0]], cell=[4, 4, 4], pbc=True))
    with pytest.raises(ValueError, match="neighbours: expected neighbours of every atom within 6"):
        pair_sums(Atoms("He", cell=[9, 9, 9], pbc=True))
    with pytest.raises(ValueError, match="CrystalNetwork: expected a degree of at least 6 for third_order, got 4"):
        CrystalNetwork(("third_order",))
    with pytest.raises(ValueError, match="CrystalNetwork: expected heads among"):
        CrystalNetwork(("colour",))


def problem() -> tuple[CrystalNetwork, list, np.ndarray]:
    torch.manual_seed(0)
    made = CrystalNetwork(("stiffness",), channels=12, products=4, layers=2, dropout=0.1)
    made.scalar_offset.copy_(torch.tensor([5.6, 9.8]))
    cells = [bulk(metal, "fcc", a=a) for metal, a in (("Cu", 3.6), ("Ag", 4.1), ("Al", 4.05), ("Ni", 3.5), ("Au", 4.1))]
    cells += [bulk("NaCl", "rocksalt", a=5.64), bulk("MgO", "rocksalt", a=4.2), bulk("Si", a=5.43)]
    crystals = [pair_sums(atoms) for atoms in cells]
    made.set_scales(crystals)
    moduli = np.array(
        [[140, 48], [100, 30], [76, 26], [180, 76], [180, 27], [24, 15], [160, 130], [98, 66]], dtype=float
    )
    return made.double(), crystals, moduli


def test_training_lowers_the_loss_and_resumes(tmp_path):
    """Stopped after any epoch and started again it is the same training, bit for bit, dropout included."""
    losses: list[float] = []
    made, crystals, moduli = problem()
    train_network(
        made.train(),
        crystals,
        moduli_loss(*moduli.T),
        epochs=30,
        batch=4,
        rate=1e-2,
        seed=3,
        report=lambda _, v: losses.append(v),
    )
    assert losses[-1] < 0.5 * losses[0]

    class Killed(Exception):
        pass

    def stop(epoch: int, _: float) -> None:
        if epoch == 11:
            raise Killed

    again, _, _ = problem()
    arguments = {"epochs": 30, "batch": 4, "rate": 1e-2, "seed": 3, "checkpoint": tmp_path / "state"}
    with pytest.raises(Killed):
        train_network(again.train(), crystals, moduli_loss(*moduli.T), report=stop, **arguments)
    third, _, _ = problem()
    seen: list[int] = []
    train_network(
        third.train(), crystals, moduli_loss(*moduli.T), report=lambda epoch, _: seen.append(epoch), **arguments
    )
    assert seen == list(range(12, 31))
    for one, two in zip(made.parameters(), third.parameters(), strict=True):
        assert torch.equal(one, two)


RANKS = """
import sys
sys.path.insert(0, {folder!r})
import torch, torch.distributed as distributed
import test_crystal_graph as t
torch.set_num_threads(1)
distributed.init_process_group("gloo")
made, crystals, moduli = t.problem()
made.eval()
losses = []
t.train_network(made, crystals, t.moduli_loss(*moduli.T), epochs=5, batch=5, report=lambda _, v: losses.append(v))
if distributed.get_rank() == 0:
    print("losses", *losses)
distributed.destroy_process_group()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_train_as_one(tmp_path):
    """torchrun with two ranks gives the losses of one process to 1e-6; steps of 5 of 8 crystals leave ranks uneven."""
    script = tmp_path / "ranks.py"
    script.write_text(RANKS.format(folder=str(Path(__file__).parent)))
    run = subprocess.run(
        # addresses by number: a bare machine cannot look up localhost
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1",
         f"--master-port={free_port()}", str(script)],
        capture_output=True, text=True, timeout=300,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path),
             "GLOO_SOCKET_IFNAME": "lo"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[:3000]
    parallel = [float(v) for line in run.stdout.splitlines() if line.startswith("losses") for v in line.split()[1:]]
    losses: list[float] = []
    made, crystals, moduli = problem()
    train_network(
        made.eval(), crystals, moduli_loss(*moduli.T), epochs=5, batch=5, report=lambda _, v: losses.append(v)
    )
    assert len(parallel) == 5 and parallel == pytest.approx(losses, rel=1e-6)
    assert losses[-1] < losses[0]
