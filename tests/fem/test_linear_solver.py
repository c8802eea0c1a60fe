"""The linear solver that a problem gets: by size and symmetry; and what its pivots say."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem

from constitutive.laws.neo_hooke import NeoHookeanLaw
from fem import EquilibriumProblem, QuadratureMaterial, linear_solver

LAW = NeoHookeanLaw(40.0, 60.0)


def cantilever(cube, follower=0.0, **options):
    """A beam under a dead load; `follower` adds an uneven pressure that follows the surface: the tangent is
    not symmetric (an even one on all free faces has a potential)."""
    u, left, _ = cube(shape=(6, 2, 2), size=(3.0, 1.0, 1.0))
    space, v = u.function_space, ufl.TestFunction(u.function_space)
    material = QuadratureMaterial(LAW, u)
    pressure = dfem.Constant(space.mesh, follower)
    gradient = material.deformation_gradient_ufl
    normal = ufl.FacetNormal(space.mesh)
    uneven = pressure * (1 + ufl.SpatialCoordinate(space.mesh)[1])
    force = ufl.det(gradient) * ufl.dot(ufl.inv(gradient).T, normal)
    pushed = uneven * ufl.dot(force, v) * ufl.ds(metadata={"quadrature_degree": 4})
    residual = material.virtual_work(v) - 0.3 * v[2] * ufl.dx + pushed
    held = dfem.dirichletbc(np.zeros(3), left, space)
    return EquilibriumProblem(residual, u, [material], bcs=[held], **options), pressure


def test_same_solution_by_multigrid(cube, monkeypatch, caplog):
    """Above the limit CG or GMRES with GAMG, by the symmetry of the tangent; below, MUMPS. The log says which."""
    for follower, kind in ((0.0, "CG"), (0.8, "GMRES")):
        solutions = []
        for limit in (10**6, 0):
            monkeypatch.setitem(linear_solver.DIRECT_LIMIT, 3, limit)
            problem, _ = cantilever(cube, follower)
            with caplog.at_level(logging.INFO, logger="fem"):
                problem.solve()
            solutions.append(problem.u.x.array.copy())
            method = "MUMPS " + ("cholesky" if kind == "CG" else "lu") if limit else f"{kind} with GAMG"
            assert problem.solver.startswith(f"{method}: 189 unknowns") and problem.solver in caplog.text
        np.testing.assert_allclose(solutions[1], solutions[0], atol=1e-8 * np.abs(solutions[0]).max())


def test_symmetry_lost_on_the_way(cube):
    """A follower pressure that grows from zero: the solver for symmetric tangents is left in time."""
    problem, pressure = cantilever(cube)
    first, *rest = problem.steps(pressure, [0.0, 0.4, 0.8], progress=False)
    assert "lu" in problem.solver and all(step.cuts == 0 and step.iterations <= 7 for step in rest)
    assert first.negative_pivots == 0 and rest[-1].negative_pivots is None
    straight, pressure = cantilever(cube, 0.8)
    straight.solve()
    np.testing.assert_allclose(problem.u.x.array, straight.u.x.array, atol=1e-9)


def test_options_of_the_user_win(cube):
    problem, _ = cantilever(cube, petsc_options={"ksp_type": "gmres", "pc_type": "ilu", "ksp_rtol": 1e-10})
    problem.solve()
    assert problem.snes.getKSP().getType() == "gmres" and problem.snes.getKSP().getPC().getType() == "ilu"
    assert problem.solver == "as given by petsc_options"


def test_pivots_count_the_modes_of_buckling(cube):
    """A column squeezed straight beyond Euler's load has negative pivots; below it has none."""
    u, left, right = cube(shape=(10, 1, 1), degree=2, size=(20.0, 1.0, 1.0))
    space = u.function_space
    end = dfem.Constant(space.mesh, np.zeros(3))
    moved = dfem.Constant(space.mesh, 0.0)
    sub, _ = space.sub(0).collapse()
    tip = dfem.locate_dofs_geometrical((space.sub(0), sub), lambda x: np.isclose(x[0], 20.0))
    bcs = [dfem.dirichletbc(end, left, space), dfem.dirichletbc(moved, tip[0], space.sub(0))]
    material = QuadratureMaterial(NeoHookeanLaw(1.0, 0.0), u, degree=4)
    problem = EquilibriumProblem(material.virtual_work(ufl.TestFunction(space)), u, [material], bcs=bcs)
    # held at one end, the other slides sideways without turning: Euler's strain is π² I/(A L²) = π²/12/400 = 0.2 %
    found = [step.negative_pivots for step in problem.steps(moved, [-0.02, -0.2, -0.21], progress=False)]
    assert found[0] == 0 and found[2] >= 2


def test_singular_matrix_is_named(cube):
    problem, _ = cantilever(cube)
    problem.bcs = []
    with pytest.raises(ValueError, match="6 free rigid motions"):
        problem.solve()


def test_options_do_not_fill_the_table_of_petsc(cube):
    """PETSc has room for 512 options; a loop over problems must not use it up."""
    from petsc4py import PETSc

    before = len(PETSc.Options().getAll())
    u, left, _ = cube(shape=(1, 1, 1))
    material = QuadratureMaterial(LAW, u)
    held = dfem.dirichletbc(np.zeros(3), left, u.function_space)
    residual = material.virtual_work(ufl.TestFunction(u.function_space))
    for _ in range(60):
        EquilibriumProblem(residual, u, [material], bcs=[held]).solve()
    assert len(PETSc.Options().getAll()) <= before
