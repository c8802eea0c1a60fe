"""The learned gears: exactly equivariant, inside the bounds whatever the weights, and worth their name."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import h5py as _h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mpi_ranks import run_on_ranks

from constitutive.homogenization import homogenize
from constitutive.moduli import ModuliResult, moduli, voxel_stiffness
from constitutive.phases import phase_stiffness, stiffness_table
from constitutive.voxel_data import make, record, sample
from constitutive.voxel_grid import VoxelGrid
from constitutive.voxel_network import (
    MODELS,
    VoxelNetwork,
    cube_rotations,
    features,
    guess,
    load_network,
    observe,
    radau,
    ritz_values,
    save_network,
)
from constitutive.voxel_solver import Solve
from constitutive.voxel_training import choose, read_records, relative_error, train
from crystals import generators
from crystals.microstructure import Microstructure
from crystals.rotations import mandel_rotation

h5py: Any = _h5py  # comes without types
torch.set_num_threads(1)
CUBE = [
    np.eye(3)[list(order)] * np.array(signs)[:, None]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def solve(image: Microstructure, phases: dict[int, str]) -> Solve:
    stiffness = {number: phase_stiffness("phase", text) for number, text in phases.items()}
    labels, table = voxel_stiffness(image, {k: v for k, v in stiffness.items() if v is not None})
    grid = VoxelGrid(image.shape, image.spacing, "rotated", torch.device("cpu"))
    return Solve(grid, torch.tensor(labels[None].astype(np.int32)), torch.tensor(table[None]))


def random_network(steps: int) -> VoxelNetwork:
    """Weights large enough that the answer stands anywhere between the bounds."""
    torch.manual_seed(0)
    network = VoxelNetwork(steps, 16).requires_grad_(False)
    network.weights.normal_(std=0.1)
    for part in network.body.parameters():
        part.mul_(2.0)
    return network


PHASES = {
    "contrast": {0: "E=3 nu=0.35", 1: "E=70 nu=0.2"},
    "pores": {0: "pore", 1: "E=70 nu=0.2"},
    "crystals": {0: "C11=168.4 C12=121.4 C44=75.4"},
}


@pytest.mark.parametrize("kind", PHASES)
def test_every_cube_operation_and_shift(kind: str) -> None:
    image = (
        generators.polycrystal((4, 5, 6), 6, seed=0)
        if kind == "crystals"
        else generators.spinodoid((4, 5, 6), 0.6, seed=3)
    )
    image = Microstructure(image.labels, np.array([1.0, 1.2, 0.9]), image.orientations)
    network = random_network(2)

    def answer(turned: Microstructure) -> np.ndarray:
        with torch.no_grad():
            return network.predict(observe(solve(turned, PHASES[kind]), (2,)))[0]

    reference = answer(image)
    size = np.linalg.norm(reference)
    for operation in CUBE:
        turn = mandel_rotation(operation)
        assert np.linalg.norm(answer(image.transformed(operation)) - turn @ reference @ turn.T) < 1e-12 * size
    rolled = Microstructure(np.roll(image.labels, (1, 3, 2), (0, 1, 2)), image.spacing, image.orientations)
    assert np.linalg.norm(answer(rolled) - reference) < 1e-12 * size
    # negative control: the body without its average
    network.turns = network.turns[:1]
    turn = mandel_rotation(CUBE[9])
    broken = answer(image.transformed(CUBE[9])) - turn @ answer(image) @ turn.T
    assert np.linalg.norm(broken) > 1e-4 * size


@pytest.mark.parametrize("kind", PHASES)
def test_inside_the_bounds_whatever_the_weights(kind: str) -> None:
    image = (
        generators.polycrystal(6, 6, seed=0) if kind == "crystals" else generators.gaussian_field(7, 0.6, 0.2, seed=1)
    )
    network = random_network(1)
    for shift in (-30.0, 0.0, 30.0):
        network.shift.fill_(shift)
        with torch.no_grad():
            trace = observe(solve(image, PHASES[kind]), (1,))
            found = network.predict(trace)[0]
        size = np.linalg.norm(found)
        assert np.allclose(found, found.T)
        assert np.linalg.eigvalsh(found - trace["lower"][0, 1])[0] > -1e-12 * size
        assert np.linalg.eigvalsh(trace["upper"][0, 1] - found)[0] > -1e-12 * size
        assert shift < 0 or np.linalg.eigvalsh(found)[0] > 0


def test_the_rotations_are_the_group() -> None:
    turns = cube_rotations()
    assert turns.shape == (24, 6, 6)
    products = np.einsum("aij,bjk->abik", turns, turns).reshape(-1, 36)
    assert len(np.unique(products.round(9), axis=0)) == 24


@pytest.mark.long
def test_learning_beats_the_steps_it_starts_from(tmp_path: Path) -> None:
    """Ninety small images beat one step and the middle of its bracket on images left out; the file comes back."""
    path = tmp_path / "images.h5"
    arguments = [str(path), "--number", "160", "--size", "6", "--porous", "false"]
    assert CliRunner().invoke(make, arguments).exit_code == 0
    with h5py.File(path, "a") as file:
        lost = file["000159/stiffness"][...]
        del file["000159"]
    assert CliRunner().invoke(make, arguments).exit_code == 0  # makes what is missing, and only that
    with h5py.File(path, "r") as file:
        assert np.array_equal(file["000159/stiffness"][...], lost)
    records, families = read_records([path], "solid")
    assert 100 < len(families) < 160 and "polycrystal" not in families
    with pytest.raises(ValueError, match="kind 'pores'"):
        read_records([path], "pores")
    fitting, checking = choose(records, np.arange(len(families)) < 90), choose(records, np.arange(len(families)) >= 90)
    network = train(fitting, 1, seed=0, epochs=20, hidden=32)
    learned = np.median(relative_error(network.predict(checking), checking["stiffness"]))
    upper = np.median(relative_error(checking["upper"][:, 1], checking["stiffness"]))
    mean = np.median(relative_error(0.5 * (checking["upper"][:, 1] + checking["lower"][:, 1]), checking["stiffness"]))
    assert learned < 0.3 * upper and learned < 0.8 * mean, (learned, upper, mean)
    assert np.array_equal(train(fitting, 1, seed=0, epochs=2).weights, train(fitting, 1, seed=0, epochs=2).weights)
    save_network({"solid 1": [network]}, tmp_path / "a.safetensors", {"note": 1})
    again, description = load_network(tmp_path / "a.safetensors")
    assert description == {"note": 1}
    assert np.array_equal(again["solid 1"][0].predict(checking), network.predict(checking))


def test_records_are_what_the_gears_see() -> None:
    block = [sample(index, size=6, porous=False) for index in range(4)]
    found = record(block)
    for one, row in zip(block, found, strict=True):
        assert row is not None
        labels, kept = one.image.compact()
        grid = VoxelGrid(one.image.shape, np.ones(3), "rotated", torch.device("cpu"))
        with torch.no_grad():
            trace = observe(Solve(grid, torch.tensor(labels[None]), torch.tensor(one.table[kept][None])), (2,))
        rows = {name: value[None] for name, value in row.items()}
        for got, wanted in zip(features(trace, 2), features(rows, 2), strict=True):
            assert np.allclose(got, wanted, atol=1e-5)
        exact = homogenize(labels, one.table[kept], tolerance=1e-8).stiffness
        assert np.linalg.norm(row["stiffness"] - exact) < 1e-3 * np.linalg.norm(exact)


GOLD = {0: "pore", 1: "C11=192.9, C12=163.8, C44=41.5 bunge=30,40,50"}


@pytest.mark.parametrize("kind", ["contrast", "pores", "gold"])
def test_shipped_gears(kind: str) -> None:
    """On an image like those it was trained on: bounds certified, accurate closer than the bracket's own mean."""
    image = generators.gaussian_field(10, 0.6, 0.13, seed=77)
    phases = GOLD if kind == "gold" else PHASES[kind]
    exact = homogenize(
        *voxel_stiffness(image, stiffness_table("", image.fractions, phases)[0]), tolerance=1e-7
    ).stiffness
    for gear in ("fast", "accurate"):
        result = moduli(image, phases, gear=gear)
        assert isinstance(result, ModuliResult)
        error = np.linalg.norm(result.stiffness - exact) / np.linalg.norm(exact)
        middle = np.linalg.norm(0.5 * (result.lower + result.upper) - exact) / np.linalg.norm(exact)
        assert error < 0.5 * middle and result.expected_error is not None
        assert result.certified and np.linalg.eigvalsh(result.upper - exact)[0] > -1e-9 * np.linalg.norm(exact)
        assert "learned" in str(result)


def test_shipped_model_is_small_and_sees_layers_the_right_way_round() -> None:
    assert (MODELS / "voxel.safetensors").stat().st_size < 5 * 2**20
    layers = generators.laminate(8, 0.5, axis=0)
    found = guess(solve(layers, PHASES["contrast"]), "accurate")[0].stiffness
    assert found[0, 0] < 0.5 * found[1, 1] and np.isclose(found[1, 1], found[2, 2], rtol=1e-10)


def test_guess_needs_its_model(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="trained model"):
        load_network(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="rotated"):
        moduli(generators.laminate(4).labels, {0: "E=1 nu=0.2", 1: "E=2 nu=0.2"}, gear="fast", scheme="hexahedra")
    with pytest.raises(ValueError, match="within a factor of 110"):
        moduli(generators.laminate(4).labels, {0: "E=1 nu=0.2", 1: "E=200 nu=0.2"}, gear="fast")
    with pytest.raises(ValueError, match="one solid with pores"):
        moduli(generators.polycrystal(4, 3).labels, {0: "pore", 1: "E=1 nu=0.2", 2: "E=9 nu=0.2"}, gear="fast")


def test_radau_bounds_what_is_left() -> None:
    """With a node below the smallest eigenvalue the quadrature bounds the fall to come; above it, it need not."""
    image = generators.gaussian_field(6, 0.6, 0.2, seed=1)
    batch = solve(image, PHASES["contrast"])
    trace = observe(batch, (1, 2, 3, 4, 5))
    batch.advance(lambda product, *part: product <= 1e-24 * batch.first[part], 200)
    smallest = batch.smallest_ritz_value(0)
    exact = batch.trace(0)["upper"]
    left = bound = wrong = product = np.zeros(6)
    for steps in range(1, 6):
        left = np.diagonal(trace["upper"][0, steps] - exact)
        length, product = trace["length"][:, 1 : steps + 1], trace["product"][:, : steps + 1]
        bound = radau(length, product, np.full((1, 6), 0.999 * smallest))[0]
        assert np.all(bound >= left * (1.0 - 1e-9))
        assert np.all(ritz_values(length, product) >= smallest * (1.0 - 1e-6))
        wrong = radau(length, product, np.full((1, 6), 1.0))[0]
    # the residual over the smallest eigenvalue is a bound as well, without what the steps know
    assert np.all(bound < 0.7 * product[0, -1] / smallest)
    assert np.any(wrong < left)


def test_a_hard_image_takes_more_steps_and_an_easy_one_few() -> None:
    """Pores of half the volume that hardly connect, and of a tenth in spheres."""
    hard = generators.spinodoid(10, 0.4, wave_number=2.5, seed=4)
    easy = generators.spheres(10, 0.9, 3, seed=1, overlap=True)
    steps = [guess(solve(image, PHASES["pores"]), "accurate")[0].steps for image in (hard, easy)]
    assert steps[0] > steps[1]


def test_every_image_of_a_batch_is_guessed_as_alone() -> None:
    images = [generators.spinodoid(8, share, wave_number=2.0, seed=4) for share in (0.45, 0.8)]
    table = solve(images[0], PHASES["pores"]).table
    labels = torch.tensor(np.stack([image.labels for image in images]).astype(np.int32))
    grid = VoxelGrid((8, 8, 8), np.ones(3), "rotated", torch.device("cpu"))
    together = guess(Solve(grid, labels, table.repeat(2, 1, 1, 1)), "accurate")
    for image, found in zip(images, together, strict=True):
        alone = guess(solve(image, PHASES["pores"]), "accurate")[0]
        assert alone.steps == found.steps
        assert np.allclose(alone.stiffness, found.stiffness, rtol=1e-8, atol=1e-9)


def test_set_from_ranks_is_the_set_from_one(tmp_path: Path) -> None:
    """Two MPI ranks, one process, and one that was stopped half-way write the same samples, bit for bit."""
    if shutil.which("mpirun") is None:
        pytest.skip("no mpirun on this machine")
    arguments = ["--number", "48", "--size", "5", "--porous", "false"]
    one, two, halves = (tmp_path / f"{name}.h5" for name in ("one", "two", "halves"))
    assert CliRunner().invoke(make, [str(one), *arguments]).exit_code == 0
    run_on_ranks(2, "-m", "constitutive.voxel_data", str(two), *arguments, timeout=300)
    stopped = CliRunner().invoke(make, [str(halves), *arguments, "--part", "0", "--parts", "2"])
    assert stopped.exit_code == 0 and not halves.exists() and "2 of 3 blocks" in stopped.output
    assert CliRunner().invoke(make, [str(halves), *arguments]).exit_code == 0
    for path in (two, halves):
        assert not path.with_name(path.name + ".parts").exists()
        with h5py.File(one, "r") as wanted, h5py.File(path, "r") as found:
            assert set(wanted) == set(found) and len(wanted) == 48
            for name in wanted:
                assert set(wanted[name]) == set(found[name])
                assert all(np.array_equal(wanted[name][key][...], found[name][key][...]) for key in wanted[name])
    wrong = CliRunner().invoke(make, [str(one), "--number", "48", "--size", "6"])
    assert wrong.exit_code != 0 and "another file name" in wrong.output
