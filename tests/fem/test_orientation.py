"""An orientation per grain: tags and a table, a voxel image, a field; all name the same stress."""

from __future__ import annotations

import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh

from crystals.rotations import random_rotations
from fem import QuadratureMaterial, orientation_from_voxels
from fem.dolfinx_versions import cell_dofs, lagrange_space

GRAINS = np.array([[[4, 4], [7, 2]], [[2, 7], [9, 9]]])


def test_three_ways_to_give_grains(cube, cubic_law):
    u, _, _ = cube(shape=(2, 2, 2))
    domain = u.function_space.mesh
    u.x.array[:] = 0.02 * np.random.default_rng(0).standard_normal(len(u.x.array))
    labels = np.unique(GRAINS)
    table = dict(zip(labels.tolist(), random_rotations(len(labels), np.random.default_rng(1)), strict=True))
    cells = np.arange(8, dtype=np.int32)
    middle = mesh.compute_midpoints(domain, 3, cells)
    place = np.floor(2 * middle).astype(int)
    grain = GRAINS[tuple(place.T)].astype(np.int32)
    per_cell = np.array([table[int(g)] for g in grain])
    law = cubic_law()
    expected = QuadratureMaterial(law, u, orientation=per_cell).second_piola
    tags = mesh.meshtags(domain, 3, cells, grain)
    given = [(tags, table), orientation_from_voxels(GRAINS, table, 0.5)]
    array = np.zeros((10, 3, 3))
    array[:] = np.eye(3)
    for label in labels:
        array[label] = table[int(label)]
    given += [(tags, array), orientation_from_voxels(GRAINS, array, [0.5, 0.5, 0.5], origin=[0.0, 0.0, 0.0])]
    field = dfem.Function(lagrange_space(domain, "DG", 0, (3, 3)))
    field.x.array.reshape(-1, 9)[cell_dofs(field.function_space)[:8].reshape(-1)] = per_cell.reshape(-1, 9)
    given.append(field)
    for orientation in given:
        material = QuadratureMaterial(law, u, orientation=orientation)
        np.testing.assert_array_equal(material.second_piola, expected)
    np.testing.assert_array_equal(material.project("orientation").x.array, field.x.array)
    # negative control: the grains in another order
    other = QuadratureMaterial(law, u, orientation=orientation_from_voxels(GRAINS[::-1], table, 0.5))
    assert np.abs(other.second_piola - expected).max() > 0.1


def test_a_field_that_varies(cube, cubic_law):
    """A fibre that turns along x, as a UFL expression."""
    u, _, _ = cube()
    u.x.array[:] = 0.02 * np.random.default_rng(0).standard_normal(len(u.x.array))
    angle = ufl.SpatialCoordinate(u.function_space.mesh)[0]
    c, s = ufl.cos(angle), ufl.sin(angle)
    turning = ufl.as_tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    material = QuadratureMaterial(cubic_law(), u, orientation=turning)
    x = material.points()[:, 0]
    rotation = np.zeros((len(x), 3, 3))
    rotation[:, 0, 0] = rotation[:, 1, 1] = np.cos(x)
    rotation[:, 1, 0], rotation[:, 0, 1], rotation[:, 2, 2] = np.sin(x), -np.sin(x), 1.0
    again = QuadratureMaterial(cubic_law(), u, orientation=rotation)
    np.testing.assert_allclose(material.second_piola, again.second_piola, atol=1e-12)


def test_errors(cube, cubic_law):
    u, _, _ = cube(shape=(2, 1, 1))
    domain = u.function_space.mesh
    law, table = cubic_law(), {1: np.eye(3)}
    one = mesh.meshtags(domain, 3, np.array([0], dtype=np.int32), np.array([1], dtype=np.int32))
    both = mesh.meshtags(domain, 3, np.arange(2, dtype=np.int32), np.array([1, 5], dtype=np.int32))
    with pytest.raises(ValueError, match="expected a tag on every cell of the material, got 1 without"):
        QuadratureMaterial(law, u, orientation=(one, table))
    with pytest.raises(ValueError, match=r"expected a rotation for every grain, got none for \[5\]"):
        QuadratureMaterial(law, u, orientation=(both, table))
    QuadratureMaterial(law, u, orientation=(one, table), subdomain=(both, 1))
    with pytest.raises(ValueError, match="expected points inside the image"):
        QuadratureMaterial(law, u, orientation=orientation_from_voxels(np.ones((1, 1, 1), int), table, 0.5))
    with pytest.raises(ValueError, match="expected integer grains"):
        orientation_from_voxels(np.ones((2, 2)), table, 1.0)
    with pytest.raises(ValueError, match="proper rotations"):
        QuadratureMaterial(law, u, orientation=(both, {1: np.eye(3), 5: 2 * np.eye(3)}))
    with pytest.raises(ValueError, match=r"expected a field of shape \(3, 3\)"):
        QuadratureMaterial(law, u, orientation=ufl.SpatialCoordinate(domain))
    with pytest.raises(ValueError, match="expected cells with the tag 3, got none"):
        QuadratureMaterial(law, u, subdomain=(both, 3))
