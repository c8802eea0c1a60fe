"""Equilibrium: patch test, turned problem, supports, load steps, and what a mistake looks like."""

from __future__ import annotations

import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh

from constitutive.laws.neo_hooke import NeoHookeanLaw
from crystals import mandel
from crystals.rotations import rotation_about
from fem import EquilibriumProblem, NotConverged, OutOfRange, QuadratureMaterial

TURN = rotation_about([1.0, 2.0, -0.5], 0.7)


def clamp(u, left, right, displacement=(0.0, 0.0, 0.0)):
    """Both x faces held in all components; the Constant moves the right one."""
    space = u.function_space
    moved = dfem.Constant(space.mesh, np.array(displacement, dtype=float))
    return moved, [dfem.dirichletbc(np.zeros(3), left, space), dfem.dirichletbc(moved, right, space)]


def problem_of(u, material, bcs, **options):
    residual = material.virtual_work(ufl.TestFunction(u.function_space))
    return EquilibriumProblem(residual, u, [material], bcs=bcs, **options)


@pytest.mark.parametrize("cell", ["hexahedron", "tetrahedron"])
@pytest.mark.parametrize("kinematics", ["finite", "small"])
def test_patch(cube, cubic_law, cell, kinematics):
    """A linear displacement on the boundary of a distorted mesh is reproduced inside; the stress is uniform."""
    u, _, _ = cube(shape=(2, 2, 2), cell=cell)
    space = u.function_space
    x = space.mesh.geometry.x
    inner = np.all((x > 0.1) & (x < 0.9), axis=1)
    assert inner.sum() == 1
    x[inner] += [0.07, -0.05, 0.09]
    gradient = 0.05 * np.random.default_rng(0).standard_normal((3, 3))
    boundary = dfem.Function(space)
    boundary.interpolate(lambda x: gradient @ x)
    outside = dfem.locate_dofs_geometrical(space, lambda x: np.any(np.isclose(x, 0) | np.isclose(x, 1), axis=0))
    bcs = [dfem.dirichletbc(boundary, outside)]
    law = cubic_law(strain_measure={"finite": "green_lagrange", "small": "small"}[kinematics])
    material = QuadratureMaterial(law, u, kinematics=kinematics, orientation=TURN)
    solution = problem_of(u, material, bcs).solve()
    np.testing.assert_allclose(u.x.array, boundary.x.array, atol=1e-12)
    deformation = np.eye(3) + gradient
    strain = mandel.to_mandel(gradient) if kinematics == "small" else mandel.green_lagrange(deformation)
    np.testing.assert_allclose(material.strain_sample, [strain] * len(material.strain), atol=1e-12)
    assert np.ptp(material.second_piola, axis=0).max() < 1e-10
    if kinematics == "small":
        assert solution.iterations == 1
        np.testing.assert_array_equal(material.cauchy(), material.second_piola)
    else:
        norms = np.array(solution.residuals)
        # quadratic: each residual at most proportional to the square of the last, down to rounding
        assert solution.iterations <= 5 and norms[-1] < 1e-10 * norms[0]


def turned_solution(cube, law, rotation, orientation):
    """Clamped and pulled cantilever, everything turned by `rotation`: displacement turned back, reaction, stress."""
    u, left, _ = cube(shape=(3, 2, 2), size=(2.0, 1.0, 1.0))
    space = u.function_space
    domain = space.mesh
    domain.topology.create_connectivity(2, 3)
    facets = mesh.locate_entities_boundary(domain, 2, lambda x: np.isclose(x[0], 2.0))
    tags = mesh.meshtags(domain, 2, np.sort(facets), np.full(len(facets), 1, dtype=np.int32))
    domain.geometry.x[:] = domain.geometry.x @ rotation.T
    traction = dfem.Constant(domain, rotation @ np.array([3.0, 1.0, -2.0]))
    material = QuadratureMaterial(law, u, orientation=orientation)
    v = ufl.TestFunction(space)
    ds = ufl.Measure("ds", domain=domain, subdomain_data=tags)
    residual = material.virtual_work(v) - ufl.dot(traction, v) * ds(1)
    held = dfem.dirichletbc(np.zeros(3), left, space)
    problem = EquilibriumProblem(residual, u, [material], bcs=[held])
    solution = problem.solve()
    displacement = u.x.array.reshape(-1, 3) @ rotation
    assert np.abs(displacement).max() > 0.1  # far from linear
    return displacement, problem.reaction(held) @ rotation, solution


def test_turned_by_37_degrees(cube, cubic_law):
    rotation = rotation_about([0.3, -1.0, 0.6], np.radians(37.0))
    reference, reaction, first = turned_solution(cube, cubic_law(), np.eye(3), TURN)
    turned, turned_reaction, second = turned_solution(cube, cubic_law(), rotation, rotation @ TURN)
    scale = np.abs(reference).max()
    assert np.abs(turned - reference).max() < 1e-10 * scale
    assert first.iterations == second.iterations
    # the support carries the whole traction, on an area of 1
    np.testing.assert_allclose(reaction, [-3.0, -1.0, 2.0], rtol=1e-9)
    np.testing.assert_allclose(turned_reaction, reaction, rtol=1e-9)
    # negative control: the crystal left behind, or turned the wrong way
    for wrong in (TURN, rotation.T @ TURN):
        other, _, _ = turned_solution(cube, cubic_law(), rotation, wrong)
        assert np.abs(other - reference).max() > 1e-3 * scale


def test_start_that_misses_the_boundary_values(cube):
    """Newton from a u that does not satisfy the bcs ends where Newton from one that does ends."""
    law = NeoHookeanLaw(40.0, 60.0)
    ends = []
    for start in (0.0, 1.0):
        u, left, right = cube()
        moved, bcs = clamp(u, left, right, (0.1, 0.05, 0.0))
        u.interpolate(lambda x, s=start: s * np.vstack([0.1 * x[0], 0.05 * x[0], 0 * x[0]]))
        problem_of(u, QuadratureMaterial(law, u), bcs).solve()
        ends.append(u.x.array.copy())
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-12)


def test_reaction_of_uniaxial_strain(cube):
    """Reaction = first Piola–Kirchhoff stress times reference area; the supports balance."""
    law = NeoHookeanLaw(40.0, 60.0)
    u, left, right = cube(size=(1.0, 2.0, 0.5))
    space = u.function_space
    load = dfem.Constant(space.mesh, 0.0)
    space0, _ = space.sub(0).collapse()
    end = dfem.locate_dofs_geometrical((space.sub(0), space0), lambda x: np.isclose(x[0], 1.0))
    sides = [
        dfem.dirichletbc(0.0, dfem.locate_dofs_topological(space.sub(k), 2, _facets(space.mesh)), space.sub(k))
        for k in (1, 2)
    ]
    bcs = [dfem.dirichletbc(np.zeros(3), left, space), dfem.dirichletbc(load, end[0], space.sub(0)), *sides]
    problem = problem_of(u, QuadratureMaterial(law, u), bcs)
    seen = []
    for step in problem.steps(load, [0.0, 0.1, 0.3], progress=False):
        stretch = 1.0 + step.load
        c = stretch**2
        piola = stretch * (law.mu * (1 - 1 / c) + law.lam * np.log(stretch) / c)
        np.testing.assert_allclose(step.reaction[1], [piola, 0.0, 0.0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(step.reaction[0][0], -piola, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(problem.reaction(right)[0], piola, rtol=1e-9, atol=1e-12)
        seen.append(step)
    assert [step.load for step in seen] == [0.0, 0.1, 0.3]
    assert [step.iterations for step in seen] == [0, 1, 1]  # lifting alone finds a linear displacement


def _facets(domain):
    domain.topology.create_connectivity(2, 3)
    return mesh.exterior_facet_indices(domain.topology)


def test_step_too_large_is_cut(cube):
    """A load that Newton cannot take at once is cut, and ends where small steps end."""
    law = NeoHookeanLaw(40.0, 60.0)

    def follow(targets):
        u, left, right = cube(shape=(3, 2, 2))
        moved, bcs = clamp(u, left, right)

        def load(t):
            angle = 2.0 * t
            # twist and squeeze
            moved.value = (-0.6 * t, np.sin(angle), 0.0)

        problem = problem_of(u, QuadratureMaterial(law, u), bcs, petsc_options={"snes_max_it": 5})
        steps = list(problem.steps(load, targets, progress=False))
        return u.x.array.copy(), steps, problem, load

    fine, small, _, _ = follow(np.linspace(0, 1, 21))
    assert sum(step.cuts for step in small) == 0
    coarse, large, problem, load = follow([1.0])
    assert len(large) == 1 and large[0].cuts >= 1 and large[0].substeps >= 2 and large[0].load == 1.0
    np.testing.assert_allclose(coarse, fine, atol=1e-9 * np.abs(fine).max())
    # a load without equilibrium: cut to the end, then said so, with u and the load back where they were
    with pytest.raises(NotConverged, match="rolled back"):
        list(problem.steps(load, [3.0], start=1.0, max_cuts=2, progress=False))
    assert problem.load < 3.0
    problem.solve()


def test_bending_takes_few_iterations(cube):
    """Large rotations under a dead load: the full step raises the residual first, and must be taken all the same."""
    u, left, _ = cube(shape=(6, 2, 2), cell="tetrahedron", degree=2, size=(2.0, 1.0, 1.0))
    space = u.function_space
    load = dfem.Constant(space.mesh, 0.0)
    v = ufl.TestFunction(space)
    material = QuadratureMaterial(NeoHookeanLaw(40.0, 60.0), u)
    residual = material.virtual_work(v) - load * ufl.dot(ufl.as_vector([0.0, 0.0, -1.0]), v) * ufl.ds
    held = dfem.dirichletbc(np.zeros(3), left, space)
    problem = EquilibriumProblem(residual, u, [material], bcs=[held])
    for step in problem.steps(load, [0.5, 1.0], progress=False):
        assert step.iterations <= 7 and step.cuts == 0
        assert max(step.residuals) > 2 * step.residuals[0]
        # the whole surface is loaded: 2·1·4 + 1·1·2
        np.testing.assert_allclose(step.reaction, [[0.0, 0.0, 10.0 * step.load]], atol=1e-9)


def test_trial_state_out_of_range_is_no_error(cube, cubic_law):
    """Dead load: the linear first iterate overshoots the trained range, the converged state lies inside."""

    def pulled(limit):
        u, left, _ = cube()
        law = cubic_law(max_strain=limit)
        material = QuadratureMaterial(law, u)
        v = ufl.TestFunction(u.function_space)
        traction = dfem.Constant(u.function_space.mesh, np.array([20.0, 20.0, 0.0]))
        residual = material.virtual_work(v) - ufl.dot(traction, v) * ufl.ds
        bcs = [dfem.dirichletbc(np.zeros(3), left, u.function_space)]
        problem = EquilibriumProblem(residual, u, [material], bcs=bcs)
        return law, material, problem

    law, material, problem = pulled(np.inf)
    problem.solve()
    converged = np.linalg.norm(material.strain, axis=1).max()
    assert law.largest > 1.05 * converged
    limit = 0.5 * (law.largest + converged)
    law, material, problem = pulled(limit)
    problem.solve()
    assert law.largest > limit and not material.status.any()


def test_out_of_range_at_converged_state(cube, cubic_law):
    u, left, right = cube(shape=(3, 1, 1))
    moved, bcs = clamp(u, left, right, (0.1, 0.0, 0.0))
    material = QuadratureMaterial(cubic_law(max_strain=0.08), u)
    start = u.x.array.copy()
    with pytest.raises(OutOfRange, match=r"within the trained range \|E\| ≤ 0.080, got 0\.\d{3} at x = \(") as caught:
        problem_of(u, material, bcs).solve()
    np.testing.assert_array_equal(u.x.array, start)
    error = caught.value
    flagged = problem_of(u, material, bcs, out_of_range="flag")
    assert flagged.solve().out_of_range == error.count > 0
    norms = np.linalg.norm(material.strain, axis=1)
    worst = int(np.argmax(norms))
    assert error.strain_norm == norms[worst] > 0.08
    # the point is the worst one, or one that symmetry makes its equal
    distance = np.linalg.norm(material.points() - error.x, axis=1)
    assert norms[np.argmin(distance)] == pytest.approx(norms[worst], rel=1e-12)
    assert material.point_cells()[np.argmin(distance)] == error.cell
    assert f"cell {error.cell}" in str(error) and 'out_of_range="flag" or "cut"' in str(error)
    assert 0 < np.count_nonzero(material.project("status").x.array)

    def load(t):
        moved.value = (t, 0.0, 0.0)

    u.x.array[:] = 0.0
    cutting = problem_of(u, material, bcs, out_of_range="cut")
    with pytest.raises(OutOfRange, match="load 0"):
        list(cutting.steps(load, [0.1], max_cuts=4, progress=False))
    # the last good state lies inside, by less than the shortest step
    assert 0.07 < np.linalg.norm(material.strain, axis=1).max() <= 0.08 * (1 + 1e-9)


def test_nothing_holds_the_body(cube, cubic_law):
    u, left, right = cube()
    material = QuadratureMaterial(cubic_law(), u)
    with pytest.raises(ValueError, match=r"got 6 free rigid motions: translation along x, .*rotation about z"):
        problem_of(u, material, []).solve()
    space = u.function_space
    hinge = dfem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], 0) & np.isclose(x[1], 0))
    with pytest.raises(ValueError, match="got 1 free rigid motion: a rotation about a line that is held"):
        problem_of(u, material, [dfem.dirichletbc(np.zeros(3), hinge, space)]).solve()
    # springs hold it as well as a boundary condition
    v = ufl.TestFunction(space)
    residual = material.virtual_work(v) + ufl.dot(u, v) * ufl.ds
    assert EquilibriumProblem(residual, u, [material]).solve().iterations == 0


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("cell", ["hexahedron", "tetrahedron"])
def test_the_default_rule_leaves_rigid_motions_alone_without_stiffness(cube, cubic_law, cell, degree):
    u, _, _ = cube((1, 1, 1), cell, degree)
    material = QuadratureMaterial(cubic_law(strain_measure="small"), u, kinematics="small")
    problem = problem_of(u, material, [], assembly="forms")
    problem._assembly.set_matrix(problem._matrix)
    values = np.linalg.eigvalsh(problem._matrix.convert("dense").getDenseArray())
    assert np.count_nonzero(values < 1e-10 * values[-1]) == 6


def test_a_rule_of_few_points_is_refused(cube, cubic_law):
    """2 × 2 × 2 points leave 27 ways in which a hexahedron of degree 2 can deform without stiffness."""
    u, left, _ = cube((1, 1, 1), degree=2)
    coarse = QuadratureMaterial(cubic_law(), u, degree=2)
    with pytest.raises(ValueError, match=r"\(of its 81 unknowns 75\), got 6 strains at each of 8 points .*degree=4"):
        problem_of(u, coarse, [])
    v = ufl.TestFunction(u.function_space)
    # with springs on the same cells it is one's own affair
    EquilibriumProblem(coarse.virtual_work(v) + ufl.dot(u, v) * coarse.dx, u, [coarse])
    # FFCx cannot take two rules there, and says so in a riddle
    fine = QuadratureMaterial(cubic_law(), u)
    with pytest.raises(ValueError, match="same cells under one quadrature rule, got degrees 2 and 4"):
        EquilibriumProblem(coarse.virtual_work(v) + fine.virtual_work(v), u, [coarse, fine])


def test_forms_that_do_not_fit(cube, cubic_law):
    u, left, right = cube(shape=(1, 1, 1))
    material = QuadratureMaterial(cubic_law(), u)
    v = ufl.TestFunction(u.function_space)
    with pytest.raises(ValueError, match="Use material.dx instead of ufl.dx"):
        EquilibriumProblem(ufl.inner(material.second_piola_ufl, ufl.grad(v)) * ufl.dx, u, [material])
    with pytest.raises(ValueError, match="stress of every material in the residual"):
        EquilibriumProblem(ufl.dot(u, v) * ufl.dx, u, [material])
    with pytest.raises(ValueError, match="linear in one test function"):
        EquilibriumProblem(ufl.dot(u, u) * ufl.dx, u, [])
    with pytest.raises(ValueError, match="problem's own u"):
        EquilibriumProblem(material.virtual_work(v), dfem.Function(u.function_space), [material])
    with pytest.raises(ValueError, match="'raise', 'flag' or 'cut'"):
        EquilibriumProblem(material.virtual_work(v), u, [material], out_of_range="ignore")
    moved, bcs = clamp(u, left, right)
    with pytest.raises(ValueError, match="expected a sequence of targets, got 0.5"):
        problem_of(u, material, bcs).steps(lambda value: None, 0.5)
    with pytest.raises(ValueError, match="scalar Constant"):
        problem_of(u, material, bcs).steps(moved, [1.0])


def test_unsolved_load_names_the_reason(cube):
    """Pushed through itself in one step: the message says why and what to do; u is rolled back."""
    u, left, right = cube()
    _, bcs = clamp(u, left, right, (-1.5, 0.0, 0.0))
    problem = problem_of(u, QuadratureMaterial(NeoHookeanLaw(40.0, 60.0), u), bcs)
    with pytest.raises(NotConverged, match=r"got: .*residual.*steps\(load, targets\)") as caught:
        problem.solve()
    assert caught.value.reason < 0
    np.testing.assert_array_equal(u.x.array, 0.0)


def test_a_strain_of_trained_size_in_an_untrained_direction_is_named_so() -> None:
    small, large = (str(OutOfRange(size, 0.08, np.zeros(3), 5, None, 1)) for size in (0.05, 0.1))
    assert "in a direction in which the law was not trained so far" in small and "--max-strain" not in small
    assert "direction" not in large and "--max-strain 0.1" in large
