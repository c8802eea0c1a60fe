"""Real spherical harmonics, their coupling, and Mandel tensors as sums of degrees; e3nn as oracle where it is there."""

import importlib.util

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from crystals.rotations import mandel_rotation
from crystals.spherical import (
    coupling,
    piezoelectric_harmonics,
    rotation_of_degree,
    spherical_harmonics,
    strain_harmonics,
    symmetric_tensor_harmonics,
)

Q = Rotation.random(random_state=3).as_matrix()
TRIPLES = [(a, b, c) for a in range(4) for b in range(4) for c in range(abs(a - b), min(a + b, 6) + 1)]


def directions(number: int = 20) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(number, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_harmonics():
    """Known functions, unit sums of squares, the addition theorem, parity; no singular point at the poles."""
    n = directions()
    y = spherical_harmonics(n, 6)
    np.testing.assert_allclose(y[:, 1:4], n[:, [1, 2, 0]], atol=1e-15)
    np.testing.assert_allclose(y[:, 6], 0.5 * (3 * n[:, 2] ** 2 - 1), atol=1e-15)
    np.testing.assert_allclose(y[:, 8], np.sqrt(3) / 2 * (n[:, 0] ** 2 - n[:, 1] ** 2), atol=1e-15)
    for l in range(7):
        block = y[:, l * l : (l + 1) ** 2]
        legendre = np.polynomial.legendre.Legendre.basis(l)(np.clip(n @ n.T, -1, 1))
        np.testing.assert_allclose(block @ block.T, legendre, atol=1e-13)
        np.testing.assert_allclose(spherical_harmonics(-n, l)[:, l * l :], (-1) ** l * block, atol=1e-14)
    assert np.all(np.isfinite(spherical_harmonics(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]), 6)))


@pytest.mark.parametrize("degree", range(7))
def test_rotations_of_a_degree(degree):
    d = rotation_of_degree(Q, degree)
    np.testing.assert_allclose(d @ d.T, np.eye(2 * degree + 1), atol=1e-12)
    np.testing.assert_allclose(rotation_of_degree(Q @ Q, degree), d @ d, atol=1e-12)
    np.testing.assert_allclose(rotation_of_degree(-Q, degree), (-1) ** degree * d, atol=1e-12)


@pytest.mark.parametrize("triple", TRIPLES)
def test_coupling(triple):
    """Orthonormal and left alone by rotations; coefficients of a wrong triple are refused."""
    table = coupling(*triple)
    d1, d2, d3 = (rotation_of_degree(Q, l) for l in triple)
    np.testing.assert_allclose(np.einsum("ai,bj,ck,ijk->abc", d1, d2, d3, table), table, atol=1e-12)
    np.testing.assert_allclose(np.einsum("abc,abd->cd", table, table), np.eye(2 * triple[2] + 1), atol=1e-13)
    with pytest.raises(ValueError, match="coupling: expected degrees with"):
        coupling(triple[0], triple[1], triple[0] + triple[1] + 1)


@pytest.mark.parametrize("order, degrees", [(1, [0, 2]), (2, [0, 0, 2, 2, 4]), (3, [0, 0, 0, 2, 2, 2, 3, 4, 4, 6])])
def test_symmetric_tensors(order, degrees):
    """Complete (6, 21, 56), orthonormal, symmetric, and each part turns by D of its degree."""
    parts = symmetric_tensor_harmonics(order)
    assert [degree for degree, _ in parts] == degrees
    rows = np.concatenate([tensors.reshape(len(tensors), -1) for _, tensors in parts])
    np.testing.assert_allclose(rows @ rows.T, np.eye({1: 6, 2: 21, 3: 56}[order]), atol=1e-12)
    turn = mandel_rotation(Q)
    for degree, tensors in parts:
        turned = tensors
        for axis in range(1, order + 1):
            np.testing.assert_allclose(np.swapaxes(tensors, 1, axis), tensors, atol=1e-13)
            turned = np.moveaxis(np.tensordot(turned, turn, axes=(axis, 1)), -1, axis)
        expected = np.einsum("kc,k...->c...", rotation_of_degree(Q, degree), tensors)
        np.testing.assert_allclose(turned, expected, atol=1e-12)
    np.testing.assert_allclose(strain_harmonics() @ strain_harmonics().T, np.eye(6), atol=1e-14)


def test_piezoelectric_tensors():
    parts = piezoelectric_harmonics()
    assert [degree for degree, _ in parts] == [1, 1, 2, 3]
    rows = np.concatenate([tensors.reshape(len(tensors), -1) for _, tensors in parts])
    np.testing.assert_allclose(rows @ rows.T, np.eye(18), atol=1e-12)
    for degree, tensors in parts:
        turned = np.einsum("ia,JB,caB->ciJ", Q, mandel_rotation(Q), tensors)
        expected = np.einsum("kc,kiJ->ciJ", rotation_of_degree(Q, degree), tensors)
        np.testing.assert_allclose(turned, expected, atol=1e-12)


@pytest.mark.skipif(importlib.util.find_spec("e3nn") is None, reason="needs e3nn, an oracle")
def test_against_e3nn():
    """e3nn 0.5 and later has y as its polar axis: the same harmonics of (z, x, y), and coupling up to sign and scale."""
    import torch
    from e3nn import o3

    n = directions()
    for l in range(7):
        theirs = o3.spherical_harmonics(l, torch.tensor(n), normalize=True, normalization="norm").numpy()
        ours = spherical_harmonics(n[:, [2, 0, 1]], l)[:, l * l :]
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    for triple in TRIPLES:
        theirs = o3.wigner_3j(*triple, dtype=torch.float64).numpy() * np.sqrt(2 * triple[2] + 1)
        ours = coupling(*triple)
        assert min(np.abs(ours - theirs).max(), np.abs(ours + theirs).max()) < 1e-10
