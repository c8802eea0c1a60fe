"""Surface elasticity of pores: the first-order term against closed forms and against a stiffened coat; the linear fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from constitutive import fit_surface, moduli, surface_term
from constitutive.homogenization import homogenize
from constitutive.phases import isotropic_stiffness
from crystals import generators
from crystals.microstructure import Microstructure
from crystals.rotations import mandel_rotation

torch.set_num_threads(1)
GOLD = "C11=192.9 C12=163.8 C44=41.5"
PHASES = {0: "pore", 1: GOLD}


def test_layers() -> None:
    """Free plates: the in-plane strain of a plate is the one imposed, so T₁₁,₁₁ is its area a volume, and nothing bends."""
    labels = np.zeros((3, 4, 10), dtype=int)
    labels[:, :, :5] = 1
    term = surface_term(Microstructure(labels, np.array([0.5, 0.5, 0.4])), {0: "pore", 1: "E=70 nu=0.2"}, error=1e-8)
    per_volume = 2.0 / (10 * 0.4)
    expected = np.zeros((6, 6))
    expected[[0, 1, 5], [0, 1, 5]] = per_volume
    assert np.allclose(term, expected, atol=1e-9)


def test_first_order_growth_of_a_wall() -> None:
    """Honeycomb of plates whose outer voxels are stiffened a little: the stiffness grows as the surface term says.

    A coat one voxel thick of Δ = δ · 2 G I is a membrane of modulus δ · 2 G · h where its strain is in the surface alone,
    as under the loads in the plane of free plates with ν = 0.
    """
    labels = np.zeros((4, 4, 16), dtype=int)
    labels[:, :, :10] = 1
    coated = labels.copy()
    coated[:, :, [0, 9]] = 2
    solid = isotropic_stiffness(1.0 / 3.0, 0.5)  # E = 1, ν = 0
    delta = 1e-3
    table = np.stack([np.zeros((6, 6)), solid, (1.0 + delta) * solid])
    change = (
        homogenize(coated, table, tolerance=1e-9).stiffness - homogenize(labels, table[:2], tolerance=1e-9).stiffness
    )
    term = surface_term(labels, {0: "pore", 1: solid}, error=1e-8)
    assert np.allclose(change, delta * term, atol=1e-9)


def test_turns_with_the_image_and_grows_with_finer_voxels() -> None:
    image = generators.spinodoid(8, 0.6, seed=2)
    term = surface_term(image, {0: "pore", 1: "E=70 nu=0.2"}, error=1e-8)
    fine = surface_term(Microstructure(image.labels, 0.5 * np.ones(3)), {0: "pore", 1: "E=70 nu=0.2"}, error=1e-8)
    assert np.allclose(fine, 2.0 * term, rtol=1e-9)
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    matrix = mandel_rotation(turn.astype(float))
    turned = surface_term(image.transformed(turn), {0: "pore", 1: "E=70 nu=0.2"}, error=1e-8)
    assert np.allclose(turned, matrix @ term @ matrix.T, atol=1e-6 * np.abs(term).max())


def test_fit_on_porous_gold() -> None:
    """Nanoporous gold of waves: a scale and a surface modulus come back from stiffnesses made with them, and predict new ones."""
    images = [generators.spinodoid(8, share, 30, 2.0, seed=seed) for seed, share in enumerate((0.5, 0.6, 0.65, 0.75))]
    spacings = (1.0, 0.5, 1.0, 0.25)
    images = [Microstructure(image.labels, np.full(3, h)) for image, h in zip(images, spacings, strict=True)]
    stiffness = np.stack([moduli(image, PHASES, error=0.01).stiffness for image in images])
    terms = np.stack([surface_term(image, PHASES, error=0.01) for image in images])
    noise = np.random.default_rng(0).normal(size=stiffness.shape)
    noise = 0.01 * np.linalg.norm(stiffness, axis=(1, 2))[:, None, None] * (noise + np.swapaxes(noise, 1, 2)) / 8.5
    reference = 0.9 * stiffness + 3.0 * terms
    exact = fit_surface(stiffness, terms, reference)
    assert abs(exact.scale - 0.9) < 1e-10 and abs(exact.modulus - 3.0) < 1e-9 and exact.error < 1e-11
    noisy = fit_surface(stiffness[:3], terms[:3], (reference + noise)[:3])
    assert abs(noisy.scale - 0.9) < 4.0 * noisy.scale_error and abs(noisy.modulus - 3.0) < 4.0 * noisy.modulus_error
    size = np.linalg.norm(reference[3])
    assert np.linalg.norm(noisy.predict(stiffness[3], terms[3]) - reference[3]) < 0.02 * size
    # negative control: a scale alone does not predict the image left out
    scale = np.sum(stiffness[:3] * reference[:3]) / np.sum(stiffness[:3] ** 2)
    assert np.linalg.norm(scale * stiffness[3] - reference[3]) > 0.04 * size
    assert noisy.error < 0.02 < noisy.error_before


def test_errors() -> None:
    some = np.stack([np.eye(6), 2.0 * np.eye(6)])
    with pytest.raises(ValueError, match="tell a surface from a scale"):
        fit_surface(some, 3.0 * some, some)
    with pytest.raises(ValueError, match="same shape"):
        fit_surface(some[:1], some[:1], some[:1])
    with pytest.raises(ValueError, match="with pores"):
        surface_term(generators.laminate(4), {0: "E=1 nu=0.2", 1: "E=2 nu=0.2"})
