"""Data sets with inputs and stress errors: files old and new, orbits, another reference cell, joining."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from crystals import PointGroup, StrainData, mandel
from crystals.rotations import mandel_rotation, random_rotations


def data_set(number: int = 12, **options) -> StrainData:
    generator = np.random.default_rng(0)
    strain = 0.03 * generator.normal(size=(number, 6))
    gradients = random_rotations(number, generator) @ mandel.right_stretch(strain)
    stress = 100.0 * strain
    fields = {
        "energy": 50.0 * np.sum(strain**2, axis=1), "group": PointGroup("m-3m"), "cell_ref": 3.6 * np.eye(3),
        "inputs": np.column_stack([np.arange(number) % 3, np.ones(number)]),
        "input_names": ("temperature", "composition"), "stress_error": 0.01 + 0.01 * np.arange(number),
    }  # fmt: skip
    return StrainData(
        strain=strain, stress=stress, deformation_gradient=gradients,
        cauchy=mandel.cauchy_stress(stress, gradients), **{**fields, **options},
    )  # fmt: skip


def test_round_trip(tmp_path) -> None:
    data = data_set()
    data.write(tmp_path / "a.h5")
    back = StrainData.read(tmp_path / "a.h5")
    assert back.input_names == ("temperature", "composition") and "temperature 0 … 2" in repr(back)
    np.testing.assert_array_equal(back.inputs, data.inputs)
    np.testing.assert_array_equal(back.stress_error, data.stress_error)
    part = back.take([3, 5])
    np.testing.assert_array_equal(part.inputs, data.inputs[[3, 5]])
    assert part.input_names == data.input_names


def test_files_without_inputs_are_as_they_were(tmp_path) -> None:
    """Nothing new stands in a file without inputs, so that a file of an older version is the same file."""
    data = data_set(inputs=None, input_names=(), stress_error=None)
    data.write(tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5") as file:
        assert set(file) == {
            "cauchy", "cell_ref", "deformation_gradient", "energy", "names", "provenance", "strain", "stress", "structure",
        }  # fmt: skip
        assert file.attrs["schema"] == 1
    back = StrainData.read(tmp_path / "old.h5")
    assert back.inputs is None and back.input_names == () and back.stress_error is None


def test_twins_at_other_inputs_are_other_states() -> None:
    data = data_set(4)
    turn = mandel_rotation(PointGroup("m-3m").rotations[5])
    twins = StrainData.joined([data, replace(data, strain=data.strain @ turn.T)])
    orbits = twins.orbits()
    np.testing.assert_array_equal(orbits[:4], orbits[4:])
    assert len(np.unique(orbits)) == 4
    other = replace(data, strain=data.strain @ turn.T, inputs=data.inputs + 1.0)
    assert len(np.unique(StrainData.joined([data, other]).orbits())) == 8


def test_another_reference_cell() -> None:
    """E, S and W from the new cell by the formulas; Cauchy stress and energy of a cell stay."""
    data = data_set()
    moved = data.referred_to(1.05 * np.eye(3))
    gradient = 1.05 * data.deformation_gradient
    np.testing.assert_allclose(moved.strain, mandel.green_lagrange(gradient), atol=1e-15)
    np.testing.assert_allclose(mandel.cauchy_stress(moved.stress, gradient), data.cauchy, atol=1e-12)
    np.testing.assert_allclose(moved.energy, data.energy * 1.05**3)  # a smaller reference volume
    np.testing.assert_allclose(moved.referred_to(np.eye(3) / 1.05).strain, data.strain, atol=1e-14)
    # dW = S : dE holds in both counts
    assert np.abs(moved.stress - data.stress).max() > 0.1
    with pytest.raises(ValueError, match="that m-3m leaves alone"):
        data.referred_to(np.diag([1.0, 1.0, 1.1]))
    with pytest.raises(ValueError, match="det > 0"):
        data.referred_to(np.zeros((3, 3)))


def test_joined_sets_have_to_fit() -> None:
    data = data_set()
    both = StrainData.joined([data, data.referred_to(1.05 * np.eye(3))])
    assert len(both) == 24 and both.cell_ref is None and both.stress_error is not None
    assert StrainData.joined([data, replace(data, energy=None)]).energy is None
    paths = replace(data, series=np.arange(12) // 6)
    np.testing.assert_array_equal(StrainData.joined([paths, paths]).series, np.repeat([0, 1, 2, 3], 6))
    with pytest.raises(ValueError, match="of one units"):
        StrainData.joined([data, replace(data, units="Pa")])
    with pytest.raises(ValueError, match="of one input_names"):
        StrainData.joined([data, replace(data, input_names=("temperature", "field"))])


def test_errors() -> None:
    with pytest.raises(ValueError, match="inputs and different input_names"):
        data_set(input_names=())
    with pytest.raises(ValueError, match="inputs and different input_names"):
        data_set(inputs=None)
    with pytest.raises(ValueError, match=r"inputs of shape \(12, 1\)"):
        data_set(input_names=("temperature",))
    with pytest.raises(ValueError, match="finite inputs"):
        data_set(inputs=np.full((12, 2), np.nan))
    with pytest.raises(ValueError, match="stress_error larger than 0"):
        data_set(stress_error=np.zeros(12))
