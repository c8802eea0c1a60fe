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
from scipy.optimize import brentq

from constitutive import PolynomialLaw
from constitutive.laws.polynomial import higher_order_polynomials
from crystals import PointGroup
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


LENGTH, STIFFNESS, SOFTENING = 10, 100.0, -4000.0


def softening_bar():
    """Ten cells in a row, held sideways; the first softens, S = C E + ½ C111 E², the others do not. One end is held."""
    domain = mesh.create_box(
        MPI.COMM_WORLD, [np.zeros(3), np.array([LENGTH, 1.0, 1.0])], (LENGTH, 1, 1), mesh.CellType.hexahedron
    )
    space = lagrange_space(domain, "CG", 1, (3,))
    u, v = dfem.Function(space), ufl.TestFunction(space)
    group = PointGroup("m-3m")
    values = higher_order_polynomials(group, 3)(np.eye(6)[:1])[0]
    cells = np.arange(LENGTH, dtype=np.int32)
    first = mesh.compute_midpoints(domain, 3, cells)[:, 0] < 1.0
    tags = mesh.meshtags(domain, 3, cells, np.where(first, 1, 2).astype(np.int32))
    materials = []
    for tag, third in ((1, SOFTENING), (2, 0.0)):
        law = PolynomialLaw(group, 3, STIFFNESS * np.eye(6), third / 6.0 * values / (values @ values))
        materials.append(QuadratureMaterial(law, u, subdomain=(tags, tag)))
    ends = [dfem.locate_dofs_geometrical(space, lambda x, at=at: np.isclose(x[0], at)) for at in (0.0, LENGTH)]
    sides = [dfem.locate_dofs_topological(space.sub(k), 3, cells) for k in (1, 2)]
    nothing = dfem.Constant(domain, 0.0)
    bcs = [dfem.dirichletbc(nothing, dofs, space.sub(k)) for k, dofs in zip((1, 2), sides, strict=True)]
    bcs.append(dfem.dirichletbc(np.zeros(3), ends[0], space))
    residual = sum(material.virtual_work(v) for material in materials)
    return residual, u, materials, bcs, ends[1]


@pytest.mark.parametrize("assembly", ["auto", "forms", "fused"])
def test_a_prescribed_displacement_snaps_back(assembly):
    """Past its strongest, the bar carries less; what the other cells give back is more than the first takes."""
    residual, u, materials, bcs, end = softening_bar()
    space = u.function_space
    if assembly == "auto":  # a Constant that a boundary value is made of
        load = pulled = dfem.Constant(space.mesh, 0.0)
        face = mesh.locate_entities_boundary(space.mesh, 2, lambda x: np.isclose(x[0], LENGTH))
        last = dfem.dirichletbc(pulled, dfem.locate_dofs_topological(space.sub(0), 2, face), space.sub(0))
    else:  # a function that moves a vector
        moved = dfem.Constant(space.mesh, np.zeros(3))
        last = dfem.dirichletbc(moved, end, space)

        def load(value):
            moved.value = (value, 0.0, 0.0)

    problem = EquilibriumProblem(residual, u, materials, bcs=[*bcs, last], assembly=assembly)
    loads, strains = [], []
    for step in arc_length_steps(problem, load, 0.03, 40):
        loads.append(step.load)
        strains.append(materials[0].strain[0, 0])
        if strains[-1] > 0.045:
            break
    loads, strains = np.array(loads), np.array(strains)
    assert strains[-1] > 0.045 and np.all(np.diff(strains) > 0), "the path was not followed"
    # a rod of two parts under one force P = F S, F² = 1 + 2E
    stretch = np.sqrt(1.0 + 2.0 * strains)
    force = stretch * (STIFFNESS * strains + 0.5 * SOFTENING * strains**2)
    others = np.array([brentq(lambda f, p=p: f * STIFFNESS * 0.5 * (f * f - 1.0) - p, 0.9, 1.2) for p in force])
    np.testing.assert_allclose(loads, stretch - 1.0 + (LENGTH - 1) * (others - 1.0), rtol=1e-8)
    top = int(np.argmax(loads))
    assert 0 < top < len(loads) - 3 and loads[-1] < 0.6 * loads[top], "nothing snapped back"
    assert problem.reaction(last)[0] == pytest.approx(force[-1], rel=1e-8)


def test_an_iteration_evaluates_the_law_once(monkeypatch):
    problem, load, _ = arch(8)
    calls, update = [], problem._update
    monkeypatch.setattr(problem, "_update", lambda tangent: calls.append(tangent) or update(tangent))
    path = arc_length_steps(problem, load, 0.1 * shallow_load(1.8), 6)
    next(path)  # which also finds out what the load does
    calls.clear()
    iterations = sum(step.iterations for step in path)
    # the residual at the start of each of five steps, and one of each iteration
    assert len(calls) == iterations + 5 > 12


def test_a_load_inside_the_law():
    """A shape without stress that grows with the load is linear in it for small strain; its stresses change with it."""
    domain = mesh.create_unit_cube(MPI.COMM_WORLD, 2, 2, 2, mesh.CellType.hexahedron)
    space = lagrange_space(domain, "CG", 1, (3,))
    u, v = dfem.Function(space), ufl.TestFunction(space)
    load = dfem.Constant(domain, 0.0)
    law = PolynomialLaw(PointGroup("m-3m"), 2, STIFFNESS * np.eye(6), strain_measure="small")
    material = QuadratureMaterial(law, u, kinematics="small", stress_free=load * ufl.Identity(3))
    left = dfem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], 0.0))
    problem = EquilibriumProblem(
        material.virtual_work(v), u, [material], bcs=[dfem.dirichletbc(np.zeros(3), left, space)]
    )
    steps = list(arc_length_steps(problem, load, 0.01, 3))
    ours = u.x.array.copy()
    problem.solve()
    assert steps[-1].load > 0.01 and np.abs(u.x.array - ours).max() < 1e-9 * np.abs(ours).max()


def test_what_is_not_supported_says_so():
    problem, load, _ = arch(8)
    with pytest.raises(ValueError, match="scalar DOLFINx Constant or a function"):
        arc_length_steps(problem, 1.0, 0.1, 2)
    with pytest.raises(ValueError, match="increment that is not 0"):
        arc_length_steps(problem, load, 0.0, 2)
    with pytest.raises(ValueError, match="boundary value, got one that changes nothing"):
        list(arc_length_steps(problem, dfem.Constant(problem.space.mesh, 0.0), 0.1, 2))
    limited, load, height = arch(8, max_strain=1e-4)
    with pytest.raises(OutOfRange):
        list(arc_length_steps(limited, load, 1e-3, 60))
    assert not limited.materials[0].status.any() and limited.load == float(load.value)
