"""Arc length through a limit point that is known, and what it refuses."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from mpi4py import MPI
from plane_problems import isotropic

from fem import EquilibriumProblem, NotConverged, OutOfRange, QuadratureMaterial, arc_length_steps
from fem.dolfinx_versions import lagrange_space

SPAN, RISE, THICKNESS, YOUNG = 200.0, 3.0, 1.0, 1000.0


def arch(cells=32, max_strain=np.inf):
    """Left half of a hinged arch y = h sin(πx/L), loaded by λ sin(πx/L) per length; ν = 0, so plane strain is a beam."""
    domain = mesh.create_rectangle(
        MPI.COMM_WORLD, [np.array([0.0, -0.5]), np.array([SPAN / 2, 0.5])], (cells, 1), mesh.CellType.quadrilateral
    )
    domain.geometry.x[:, 1] = THICKNESS * domain.geometry.x[:, 1] + RISE * np.sin(
        np.pi * domain.geometry.x[:, 0] / SPAN
    )
    space = lagrange_space(domain, "CG", 2, (2,))
    u, v = dfem.Function(space), ufl.TestFunction(space)
    law = isotropic(YOUNG, 0.0, "green_lagrange")
    law.max_strain = max_strain
    material = QuadratureMaterial(law, u, degree=4, section="plane_strain")
    load = dfem.Constant(domain, 0.0)
    x = ufl.SpatialCoordinate(domain)
    residual = material.virtual_work(v) + load / THICKNESS * ufl.sin(np.pi / SPAN * x[0]) * v[1] * material.dx
    hinge = dfem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], 0.0) & np.isclose(x[1], 0.0, atol=1e-6))
    sub, _ = space.sub(0).collapse()
    middle = dfem.locate_dofs_geometrical((space.sub(0), sub), lambda x: np.isclose(x[0], SPAN / 2))
    bcs = [dfem.dirichletbc(np.zeros(2), hinge, space), dfem.dirichletbc(dfem.Function(sub), middle, space.sub(0))]
    assert len(hinge) == 1
    top = np.argmax(space.tabulate_dof_coordinates()[:, 1])
    return EquilibriumProblem(residual, u, [material], bcs=bcs), load, lambda: RISE + u.x.array[2 * top + 1]


def shallow_load(height):
    """q(a) of the hinged sinusoidal arch whose rise is a: k⁴ (EI (h − a) + ¼ EA (h² − a²) a), k = π/L.

    Fung and Kaplan 1952, Buckling of low arches or curved beams of small curvature, NACA TN 2840: one sine term is exact
    for the shallow arch; symmetric shapes only, as the half model.
    """
    inertia, area = THICKNESS**3 / 12, THICKNESS
    return (np.pi / SPAN) ** 4 * YOUNG * (inertia * (RISE - height) + 0.25 * area * (RISE**2 - height**2) * height)


def test_shallow_arch_snaps_through():
    """Up to the limit load, down past it, through the flat shape to the inverted one: the curve of the closed form."""
    problem, load, height = arch()
    slender = np.sqrt((RISE**2 - THICKNESS**2 / 3) / 3)
    limit, lowest = shallow_load(slender), shallow_load(-slender)
    assert limit > 0 > lowest
    loads, heights = [], []
    for step in arc_length_steps(problem, load, 0.1 * limit, 60):
        assert step.load == float(load.value) and step.residual < 1e-4
        loads.append(step.load)
        heights.append(height())
        if step.load > 0.5 * limit and heights[-1] < -RISE:
            break
    loads, heights = np.array(loads), np.array(heights)
    assert len(loads) < 60 and heights[-1] < -RISE
    # the theory is one of small slopes: (πh/L)² = 0.2 %
    assert loads.max() == pytest.approx(limit, rel=0.01)
    assert loads.min() == pytest.approx(lowest, rel=0.02)
    np.testing.assert_allclose(loads, shallow_load(heights), atol=0.01 * limit)
    # by load steps alone the falling branch is never seen: just above the limit the arch jumps or fails
    other, load, height = arch()
    list(other.steps(load, [0.9 * limit], progress=False))
    assert height() > slender
    with contextlib.suppress(NotConverged):
        list(other.steps(load, [1.05 * limit], max_cuts=1, progress=False))
        assert height() < -RISE


def test_what_is_not_supported_says_so():
    problem, load, _ = arch(8)
    with pytest.raises(ValueError, match="scalar DOLFINx Constant"):
        arc_length_steps(problem, 1.0, 0.1, 2)
    with pytest.raises(ValueError, match="increment that is not 0"):
        arc_length_steps(problem, load, 0.0, 2)
    with pytest.raises(ValueError, match="acts in the residual, got one that changes nothing"):
        list(arc_length_steps(problem, dfem.Constant(problem.space.mesh, 0.0), 0.1, 2))
    limited, load, height = arch(8, max_strain=1e-4)
    with pytest.raises(OutOfRange):
        list(arc_length_steps(limited, load, 1e-3, 60))
    assert not limited.materials[0].status.any() and limited.load == float(load.value)
