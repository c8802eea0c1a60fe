"""Gaussian processes for moduli: they learn, wrong labels do not spoil them, and a file holds all of them."""

from importlib import import_module

import numpy as np
import pytest
from ase.build import bulk

from constitutive.crystal_ensemble import DEFAULT_MODEL, CrystalEnsemble
from constitutive.crystal_moduli import crystal_moduli, moduli_of_crystals
from constitutive.fitting import process_fit
from constitutive.fitting.process_fit import fit_process
from constitutive.moduli_process import ModuliProcess, crystal_row
from crystals.moduli import hill_average

MATERIALS = {
    "NaCl": bulk("NaCl", "rocksalt", a=5.69), "TiC": bulk("TiC", "rocksalt", a=4.33),
    "ZnO": bulk("ZnO", "wurtzite", a=3.25, c=5.2, u=0.382), "NiAl": bulk("NiAl", "cesiumchloride", a=2.89),
}  # fmt: skip


def made_up(number: int, seed: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Rows of eight descriptors of which two matter, and K, G (n, 2)."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(number, 8))
    share = random.uniform(size=number)
    shares = np.zeros((number, 119))
    shares[:, 13], shares[:, 29] = share, 1 - share
    bulk_log = 4 + 0.5 * np.sin(rows[:, 0]) + 0.3 * share
    shear_log = bulk_log - 1 + 0.4 * np.tanh(rows[:, 0] * rows[:, 1])
    return list(zip(rows, shares, strict=True)), np.exp(np.stack([bulk_log, shear_log], axis=1))


def test_learns_and_is_not_spoilt_by_wrong_labels(monkeypatch):
    crystals, moduli = made_up(300, 0)
    test, true = made_up(100, 1)
    right = fit_process(crystals, *moduli.T, subset=200)
    error = np.abs(right.logarithms(test) - np.log(true)).mean(axis=0)
    assert np.all(error < 0.25 * np.abs(np.log(true) - np.log(moduli).mean(axis=0)).mean(axis=0))
    wrong = moduli.copy()
    wrong[::20] *= 5.0
    spoilt = np.abs(fit_process(crystals, *wrong.T, subset=200).logarithms(test) - np.log(true)).mean(axis=0)
    assert np.all(spoilt < 2.5 * error + 0.01)
    # control: with errors taken as Gaussian, labels that are wrong by a factor of five do spoil it
    monkeypatch.setattr(process_fit, "_FREEDOM", 1e9)
    plain = np.abs(fit_process(crystals, *wrong.T, subset=200).logarithms(test) - np.log(true)).mean(axis=0)
    assert np.all(plain > 1.5 * spoilt)
    # the scales say what matters
    assert set(np.argsort(-right.scales[0].numpy())[:1]) == {0}
    assert set(np.argsort(-right.scales[2].numpy())[:2]) == {0, 1}
    again = ModuliProcess.of_tensors({name: tensor.clone() for name, tensor in right.tensors().items()})
    np.testing.assert_array_equal(again.logarithms(test), right.logarithms(test))


@pytest.fixture(scope="module")
def shipped() -> CrystalEnsemble:
    return CrystalEnsemble.read(DEFAULT_MODEL)


@pytest.mark.parametrize("name", MATERIALS)
def test_stiffness_has_the_moduli_of_both(shipped, name):
    """ln K and ln G are the weighted mean of process and networks; what is said of directions is the networks'."""
    assert shipped.process is not None
    alone = CrystalEnsemble(shipped.networks, shipped.about)
    both, own = crystal_moduli(MATERIALS[name], model=shipped), crystal_moduli(MATERIALS[name], model=alone)
    known = shipped.process.logarithms([crystal_row(MATERIALS[name])])[0]
    share = shipped.about["process_share"]
    expected = np.exp(share * known + (1 - share) * np.log([own.bulk, own.shear]))
    np.testing.assert_allclose([both.bulk, both.shear], expected, rtol=1e-9)
    np.testing.assert_allclose(hill_average(both.stiffness), expected, rtol=1e-9)
    assert np.linalg.eigvalsh(both.stiffness).min() > 0
    # the wider apart, the wider the interval
    for level, width in (("68", both.bulk_std / both.bulk), ("90", np.log(both.bulk_interval[1] / both.bulk))):
        a, b = shipped.about["calibration"][level]
        assert b[0] > 0 and width == pytest.approx(a[0] + b[0] * abs(known[0] - np.log(own.bulk)), rel=1e-6)
    assert both.bulk_interval[0] < both.bulk - both.bulk_std / 2 < both.bulk < both.bulk_interval[1]


@pytest.mark.parametrize("batch, sites", [(2, 512), (64, 5), (64, 512)])
def test_many_are_as_one_by_one(monkeypatch, batch, sites):
    """In batches by number, by size, and all in one; of cells of one atom and of many."""
    # the package has a function of that name
    monkeypatch.setattr(import_module("constitutive.crystal_moduli"), "_SITES", sites)
    structures = [*MATERIALS.values(), bulk("Cu", "fcc", a=3.6)]
    for one, other in zip(moduli_of_crystals(structures, batch=batch), map(crystal_moduli, structures), strict=True):
        np.testing.assert_allclose(one.stiffness, other.stiffness, rtol=1e-10, atol=1e-10)
        assert one.group == other.group and one.shear_interval == pytest.approx(other.shear_interval, rel=1e-10)
    assert "trained on crystals of 2 elements, not 1" in str(one)
    strange = crystal_moduli(bulk("NaPo", "rocksalt", a=6.0))
    assert strange.unknown_elements == ("Po",) and "no crystal with Po was in the training data" in str(strange)
