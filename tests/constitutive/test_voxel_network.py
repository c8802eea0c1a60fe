"""The learned gears: exactly equivariant, inside the bounds whatever the weights, and worth their name."""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from constitutive.homogenization import homogenize
from constitutive.moduli import moduli, voxel_stiffness
from constitutive.phases import phase_stiffness
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
    save_network,
)
from constitutive.voxel_solver import Solve
from constitutive.voxel_training import choose, read_records, relative_error, train
from crystals import generators
from crystals.microstructure import Microstructure
from crystals.rotations import mandel_rotation

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
    network.weights.normal_()
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
            return network.predict(observe(solve(turned, PHASES[kind]), 2))[0]

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
            trace = observe(solve(image, PHASES[kind]), 1)
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


def test_learning_beats_the_steps_it_starts_from(tmp_path: Path) -> None:
    """A hundred and twenty small images beat one step and the middle of its bracket on images left out; the file comes back."""
    from click.testing import CliRunner

    path = tmp_path / "images.h5"
    arguments = [str(path), "--number", "160", "--size", "6", "--porous", "false"]
    assert CliRunner().invoke(make, arguments).exit_code == 0
    with h5py.File(path, "a") as file:
        lost = file["000159/stiffness"][...]
        del file["000159"]
    assert CliRunner().invoke(make, arguments).exit_code == 0  # makes what is missing, and only that
    with h5py.File(path, "r") as file:
        assert np.array_equal(file["000159/stiffness"][...], lost)
    records, _, porous = read_records([path])
    assert len(porous) == 160 and not porous.any()
    fitting, checking = choose(records, np.arange(160) < 120), choose(records, np.arange(160) >= 120)
    network = train(fitting, 1, seed=0, epochs=60, hidden=32)
    learned = np.median(relative_error(network.predict(checking), checking["stiffness"]))
    upper = np.median(relative_error(checking["upper"][:, 1], checking["stiffness"]))
    mean = np.median(relative_error(0.5 * (checking["upper"][:, 1] + checking["lower"][:, 1]), checking["stiffness"]))
    assert learned < 0.3 * upper and learned < 0.8 * mean, (learned, upper, mean)
    assert np.array_equal(train(fitting, 1, seed=0, epochs=2).weights, train(fitting, 1, seed=0, epochs=2).weights)
    save_network({"fast solid": [network]}, tmp_path / "a.safetensors", {"note": 1})
    again, description = load_network(tmp_path / "a.safetensors")
    assert description == {"note": 1}
    assert np.array_equal(again["fast solid"][0].predict(checking), network.predict(checking))


def test_records_are_what_the_gears_see() -> None:
    block = [sample(index, size=6, porous=False) for index in range(4)]
    found = record(block)
    for one, row in zip(block, found, strict=True):
        assert row is not None
        labels, kept = one.image.compact()
        grid = VoxelGrid(one.image.shape, np.ones(3), "rotated", torch.device("cpu"))
        with torch.no_grad():
            trace = observe(Solve(grid, torch.tensor(labels[None]), torch.tensor(one.table[kept][None])), 2)
        rows = {name: value[None] for name, value in row.items()}
        for got, wanted in zip(features(trace, 2), features(rows, 2), strict=True):
            assert np.allclose(got, wanted, atol=1e-5)
        exact = homogenize(labels, one.table[kept], tolerance=1e-8).stiffness
        assert np.linalg.norm(row["stiffness"] - exact) < 1e-3 * np.linalg.norm(exact)


@pytest.mark.parametrize("kind", ["contrast", "pores"])
def test_shipped_gears(kind: str) -> None:
    """On an image like those it was trained on: bounds certified, accurate closer than the bracket's own mean."""
    image = generators.gaussian_field(10, 0.6, 0.13, seed=77)
    exact = moduli(image, PHASES[kind], gear="exact").stiffness
    for gear in ("fast", "accurate"):
        result = moduli(image, PHASES[kind], gear=gear)
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
