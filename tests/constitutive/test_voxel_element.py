"""Nodal forces of the plain hexahedron by its strain modes are those of its eight Gauss points."""

import numpy as np
import pytest
import torch

from constitutive import voxel_element
from constitutive.phases import isotropic_stiffness
from constitutive.voxel_grid import VoxelGrid
from constitutive.voxel_solver import Solve, add_unit
from crystals.elastic_constants import stiffness_from_constants
from crystals.groups import PointGroup

torch.set_num_threads(1)
_ROOTS = np.random.default_rng(0).normal(size=(3, 6, 6))
TABLES = {
    "isotropic": np.array([isotropic_stiffness(1.0, 0.6), np.zeros((6, 6)), isotropic_stiffness(30.0, 70.0)]),
    "cubic": np.array([stiffness_from_constants(PointGroup("m-3m"), {"C11": 168.0 + k, "C12": 121.0, "C44": 75.0}) for k in (0, 9, 4)]),
    "triclinic": _ROOTS @ _ROOTS.transpose(0, 2, 1),
}  # fmt: skip


def at_points(solve: Solve, displacement: torch.Tensor, loads: slice | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Forces and mean stress by the sum over the eight points."""
    grid, force = solve.grid, torch.zeros_like(displacement)
    mean = torch.zeros(*displacement.shape[:2], 6, dtype=torch.float64)
    assert len(grid.points) == 8
    for point in grid.points:
        strain = grid.strain(displacement, point)
        stress = solve.field.stress(strain if loads is None else add_unit(strain, loads))
        force += grid.force(stress, point) * grid.weight
        mean += stress.mean(dim=(-3, -2, -1)) * grid.weight
    return force, mean


@pytest.mark.parametrize("piece", [2**14, 50])
@pytest.mark.parametrize("loads", [None, slice(0, 6), slice(2, 4)])
@pytest.mark.parametrize("name", TABLES)
def test_as_at_the_gauss_points(name, loads, piece, monkeypatch):
    """For any stiffness, unequal edges, many images, in one piece and in many."""
    monkeypatch.setattr(voxel_element, "_PIECE", piece)
    rng, shape = np.random.default_rng(1), (4, 5, 6)
    labels = torch.tensor(rng.integers(0, 3, size=(2, *shape)).astype(np.int32))
    grid = VoxelGrid(shape, np.array([1.0, 1.3, 0.8]), "hexahedra", torch.device("cpu"))
    solve = Solve(grid, labels, torch.tensor(np.broadcast_to(TABLES[name], (2, 3, 6, 6)).copy()))
    displacement = torch.tensor(rng.normal(size=(2, 6 if loads is None else len(range(6)[loads]), 3, *shape)))
    assert grid.element is not None
    found, mean = grid.element.forces(solve.field, displacement, None if loads is None else range(6)[loads])
    expected, expected_mean = at_points(solve, displacement, loads)
    assert torch.linalg.norm(found - expected) < 1e-14 * torch.linalg.norm(expected)
    if loads is not None:
        assert (mean - expected_mean).abs().max() < 1e-13 * expected_mean.abs().max()
    # negative control: without the mode that varies along x and y
    kept = [row[0] != 6 for row in grid.element.rows] + [True] * 7
    grid.element._both[~torch.tensor(kept)] = 0.0
    other, _ = grid.element.forces(solve.field, displacement, None if loads is None else range(6)[loads])
    assert torch.linalg.norm(other - expected) > 1e-4 * torch.linalg.norm(expected)
