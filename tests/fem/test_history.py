"""Internal variables: analytical tube, uniaxial bar, roll-back, restart; the reference law is von Mises."""

from __future__ import annotations

import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from mpi4py import MPI

from constitutive import InternalVariableLaw, LogarithmicStrainLaw, VonMisesLaw
from fem import EquilibriumProblem, NotConverged, QuadratureMaterial
from fem.dolfinx_versions import lagrange_space


def component(space, k, where):
    """Zero for one component where a function of x says so."""
    sub, _ = space.sub(k).collapse()
    dofs = dfem.locate_dofs_geometrical((space.sub(k), sub), where)
    return dfem.dirichletbc(dfem.Function(sub), dofs, space.sub(k))


def bar(cube, law, shape=(1, 1, 1), kinematics="small", **options):
    """Uniaxial tension: three planes of symmetry, the end moved by a Constant."""
    u, _, _ = cube(shape=shape)
    space = u.function_space
    moved = dfem.Constant(space.mesh, 0.0)
    sub, _ = space.sub(0).collapse()
    end = dfem.locate_dofs_geometrical((space.sub(0), sub), lambda x: np.isclose(x[0], 1.0))
    pulled = dfem.dirichletbc(moved, end[0], space.sub(0))
    bcs = [pulled, *(component(space, k, lambda x, k=k: np.isclose(x[k], 0.0)) for k in range(3))]
    material = QuadratureMaterial(law, u, kinematics=kinematics, **options)
    residual = material.virtual_work(ufl.TestFunction(space))
    problem = EquilibriumProblem(residual, u, [material], bcs=bcs, petsc_options={"snes_rtol": 1e-13})
    return problem, material, moved


def test_uniaxial_hardening_and_unloading(cube):
    """σ = σ_y + E k/(E + k) (ε − σ_y/E) past yield, and back along E."""
    young, poisson, sigma, k = 200.0, 0.3, 0.4, 10.0
    problem, material, moved = bar(cube, VonMisesLaw(young, poisson, sigma, isotropic=k))
    strains = [0.001, 0.004, 0.01, 0.009]
    slope = young * k / (young + k)
    expected = [young * 0.001] + [sigma + slope * (e - sigma / young) for e in strains[1:3]]
    expected.append(expected[-1] - young * 0.001)
    for step, stress in zip(problem.steps(moved, strains, progress=False), expected, strict=True):
        assert step.reaction[0, 0] == pytest.approx(stress, rel=1e-9)
        assert step.negative_pivots in (0, None)
    plastic = 0.01 - expected[2] / young
    np.testing.assert_allclose(material.values("accumulated"), plastic, rtol=1e-9)
    np.testing.assert_allclose(material.project("accumulated").x.array, plastic, rtol=1e-9)
    np.testing.assert_allclose(material.values("plastic_strain")[0], np.diag([1, -0.5, -0.5]) * plastic, atol=1e-12)
    # negative control: what is not committed is not remembered
    material.state[:] = 0.0
    moved.value = 0.009
    problem.solve()
    assert problem.reaction(problem.bcs[0])[0] == pytest.approx(sigma + slope * (0.009 - sigma / young), rel=1e-9)


@pytest.mark.parametrize("mean_dilatation", [False, True])
def test_finite_strain(cube, mean_dilatation):
    """Pulled to 1.6 times its length by the logarithmic strain: Kirchhoff stress over ln λ is the small-strain curve, and
    the force is that stress over λ. A turned-back end unloads along the elastic line."""
    young, poisson, sigma, k = 200.0, 0.3, 0.4, 2.0
    law = LogarithmicStrainLaw(VonMisesLaw(young, poisson, sigma, isotropic=k))
    problem, material, moved = bar(cube, law, (2, 2, 2), "finite", mean_dilatation=mean_dilatation)
    stretches = np.array([1.1, 1.3, 1.6])
    for step, stretch in zip(problem.steps(moved, stretches - 1, progress=False), stretches, strict=True):
        kirchhoff = (sigma + k * np.log(stretch)) / (1 + k / young)
        assert step.reaction[0, 0] == pytest.approx(kirchhoff / stretch, rel=1e-8)
        assert step.iterations <= 12
    np.testing.assert_allclose(
        np.log(np.linalg.det(material.deformation_gradient())), (1 - 2 * poisson) * kirchhoff / young, rtol=1e-6
    )
    back = np.log(1.6) - 0.5 * sigma / young
    (step,) = problem.steps(moved, [np.exp(back) - 1], progress=False)
    assert step.reaction[0, 0] == pytest.approx((kirchhoff - 0.5 * sigma) / np.exp(back), rel=1e-8)
    with pytest.raises(ValueError, match="Pass kinematics='small'"):
        bar(cube, VonMisesLaw(young, poisson, sigma), kinematics="finite")


@pytest.mark.parametrize("mean_dilatation", [False, True])
def test_tube_under_pressure(mean_dilatation):
    """Perfectly plastic tube in plane strain: pressure against the radius c of the plastic zone,
    p = 2k ln(c/a) + k (1 − c²/b²), k = σ_y/√3 (Hill 1950, The Mathematical Theory of Plasticity, chapter V; exact for
    an incompressible material), and the limit load 2k ln(b/a). ν = 0.4999 locks without the mean dilatation."""
    a, b, young, sigma = 1.0, 2.0, 210.0, 0.24
    n = 40
    domain = mesh.create_rectangle(
        MPI.COMM_WORLD, [np.array([a, 0.0]), np.array([b, 0.05])], (n, 1), mesh.CellType.quadrilateral
    )
    space = lagrange_space(domain, "CG", 1, (2,))
    u, v = dfem.Function(space), ufl.TestFunction(space)
    law = VonMisesLaw(young, 0.4999, sigma)
    options = {"kinematics": "small", "section": "axisymmetric", "mean_dilatation": mean_dilatation}
    material = QuadratureMaterial(law, u, **options)
    facets = mesh.locate_entities_boundary(domain, 1, lambda x: np.isclose(x[0], a))
    tags = mesh.meshtags(domain, 1, np.sort(facets), np.full(len(facets), 1, dtype=np.int32))
    pressure = dfem.Constant(domain, 0.0)
    ds = ufl.Measure("ds", domain=domain, subdomain_data=tags)
    residual = material.virtual_work(v) - pressure * v[0] * material.weight_ufl * ds(1)
    held = component(space, 1, lambda x: np.ones(x.shape[1], dtype=bool))
    problem = EquilibriumProblem(residual, u, [material], bcs=[held])
    k = sigma / np.sqrt(3)
    radii = np.array([1.2, 1.5, 1.8])
    targets = 2 * k * np.log(radii / a) + k * (1 - radii**2 / b**2)
    inner = dfem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], a))[0]
    shear = young / (2 * 1.4999)
    outward = []
    for radius, _step in zip(radii, problem.steps(pressure, targets, progress=False), strict=True):
        yielded = material.points()[material.values("accumulated") > 1e-9, 0].max(initial=a)
        outward.append(u.x.array.reshape(-1, 2)[inner, 0] / (k * radius**2 / (2 * shear * a)) - 1)
        if mean_dilatation:
            assert yielded == pytest.approx(radius, abs=1.5 / n)
    # incompressible: u = k c²/(2G r)
    if not mean_dilatation:
        assert np.abs(outward).max() > 0.02
        return
    np.testing.assert_allclose(outward, 0.0, atol=0.005)
    limit = 2 * k * np.log(b / a)
    assert [step.load for step in problem.steps(pressure, [0.995 * limit], progress=False)] == [0.995 * limit]
    with pytest.raises(NotConverged, match="state were rolled back"):
        list(problem.steps(pressure, [1.01 * limit], max_cuts=3, progress=False))
    assert 0.995 * limit <= problem.load < 1.01 * limit


class FailsForAWhile(VonMisesLaw):
    """Von Mises whose local iteration fails at one point for six calls on end, from a given call on."""

    calls, fail_at, point = 0, None, 0

    def _step(self, strain, state, dt, tangent):
        *answer, failed = super()._step(strain, state, dt, tangent)
        type(self).calls += 1
        if self.fail_at is not None and type(self).calls >= self.fail_at and len(failed):
            failed = failed.clone()
            failed[self.point] = True
            if type(self).calls >= self.fail_at + 5:
                type(self).fail_at = None
        return *answer, failed


def test_a_failure_at_one_point_loses_nothing(cube):
    """The local iteration of one point fails: the step is rolled back and cut, and the end is that of the same steps
    taken without a failure."""

    def follow(targets, fail_at=None):
        FailsForAWhile.calls, FailsForAWhile.fail_at = 0, None
        problem, material, moved = bar(cube, FailsForAWhile(200.0, 0.3, 0.4, isotropic=10.0, kinematic=5.0), (2, 2, 2))
        steps = []
        for step in problem.steps(moved, targets, progress=False):
            steps.append(step)
            if fail_at is not None and step.load == fail_at:
                FailsForAWhile.fail_at = FailsForAWhile.calls + 1
        return problem.u.x.array.copy(), material.state.copy(), steps

    failed, state, steps = follow([0.004, 0.008], fail_at=0.004)
    assert steps[1].cuts > 0 and steps[1].substeps > 1
    smooth, wanted, steps = follow([0.004, 0.008])
    assert all(step.cuts == 0 for step in steps)
    np.testing.assert_allclose(failed, smooth, atol=1e-12)
    np.testing.assert_allclose(state, wanted, atol=1e-12)


def test_unsolved_step_leaves_the_committed_state(cube):
    problem, material, moved = bar(cube, VonMisesLaw(200.0, 0.3, 0.4, isotropic=10.0), (2, 2, 2))
    list(problem.steps(moved, [0.005], progress=False))
    state, stress, displacement = material.state.copy(), material.second_piola, problem.u.x.array.copy()
    moved.value = np.nan
    with pytest.raises(NotConverged, match="strained most at x = ") as caught:
        problem.solve()
    assert "rolled back" in str(caught.value)
    np.testing.assert_array_equal(material.state, state)
    np.testing.assert_array_equal(problem.u.x.array, displacement)
    np.testing.assert_allclose(material.second_piola, stress, atol=1e-12)


def test_restart(cube, tmp_path):
    """Stopped, written, read into a new problem and continued: as if it had never stopped."""
    law = VonMisesLaw(200.0, 0.3, 0.4, isotropic=10.0, kinematic=5.0)
    problem, material, moved = bar(cube, law, (3, 2, 2))
    path = [0.004, 0.001, -0.003, 0.006]
    list(problem.steps(moved, path[:2], progress=False))
    problem.save(tmp_path / "half.h5")
    list(problem.steps(moved, path[2:], progress=False))
    again, other, moved = bar(cube, law, (3, 2, 2))
    assert again.restore(tmp_path / "half.h5") == path[1]
    list(again.steps(moved, path[2:], start=path[1], progress=False))
    np.testing.assert_allclose(again.u.x.array, problem.u.x.array, atol=1e-15)
    np.testing.assert_allclose(other.state, material.state, atol=1e-15)
    # negative control: without its history the end is another
    fresh, virgin, moved = bar(cube, law, (3, 2, 2))
    list(fresh.steps(moved, path[2:], start=0.0, progress=False))
    assert np.abs(virgin.state - material.state).max() > 1e-4
    wrong, _, _ = bar(cube, law, (2, 2, 2))
    with pytest.raises(ValueError, match="another mesh"):
        wrong.restore(tmp_path / "half.h5")
    with pytest.raises(OSError, match="expected a file of this problem"):
        wrong.restore(tmp_path / "none.h5")
    assert not list(tmp_path.glob(".*part"))


def test_a_changed_restart_file_is_refused(cube, tmp_path):
    """One bit of a number, which would be another state; a file without a checksum; and nothing is taken over."""
    law = VonMisesLaw(200.0, 0.3, 0.4, isotropic=10.0, kinematic=5.0)
    problem, material, moved = bar(cube, law, (2, 2, 2))
    list(problem.steps(moved, [0.004], progress=False))
    path = tmp_path / "state.h5"
    problem.save(path)
    content = path.read_bytes()
    displacement = problem.u.x.array.max().tobytes()
    place = content.index(displacement)
    again, other, _ = bar(cube, law, (2, 2, 2))
    changes = {
        "checksum differs": content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :],
        "without a checksum": content[512:],
        "no checksum at its start": content[20:],
    }
    for said, changed in changes.items():
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=said):
            again.restore(path)
        assert not np.any(again.u.x.array) and not np.any(other.state) and again.load is None
    path.write_bytes(content)
    again.restore(path)
    np.testing.assert_array_equal(other.state, material.state)


def test_relaxation_takes_time(cube):
    """A rate-dependent law: the load is held while time passes, and the stress relaxes; without times it is refused."""
    stiffness = 150.0 * np.eye(6)
    stiffness[:3, :3] += 90.0
    law = InternalVariableLaw("isotropic", stiffness, 0.2, kinematic=1.0, isotropic=5.0, viscosity=200.0, forms=1)
    problem, material, moved = bar(cube, law)
    with pytest.raises(ValueError, match="Pass times="):
        problem.steps(moved, [0.01])
    moved.value = 0.0
    with pytest.raises(ValueError, match="expected a time step dt"):
        problem.solve()
    steps = list(problem.steps(moved, [0.005, 0.005, 0.005], times=[0.01, 1.0, 100.0], progress=False))
    forces = [step.reaction[0, 0] for step in steps]
    assert forces[0] > 1.05 * forces[1] > 1.1 * forces[2] > 0.2
    assert [step.time for step in steps] == pytest.approx([0.01, 1.0, 100.0])
    with pytest.raises(ValueError, match="expected 1 times that do not fall, from 100"):
        problem.steps(moved, [0.01], times=[50.0])


def test_plane_stress_plasticity():
    """A sheet pulled in plane stress follows the uniaxial curve."""
    domain = mesh.create_unit_square(MPI.COMM_WORLD, 2, 2, mesh.CellType.quadrilateral)
    space = lagrange_space(domain, "CG", 1, (2,))
    u = dfem.Function(space)
    young, sigma, k = 200.0, 0.4, 10.0
    law = VonMisesLaw(young, 0.3, sigma, isotropic=k)
    material = QuadratureMaterial(law, u, kinematics="small", section="plane_stress")
    moved = dfem.Constant(domain, 0.0)
    sub, _ = space.sub(0).collapse()
    end = dfem.locate_dofs_geometrical((space.sub(0), sub), lambda x: np.isclose(x[0], 1.0))
    bcs = [dfem.dirichletbc(moved, end[0], space.sub(0))]
    bcs += [component(space, c, lambda x, c=c: np.isclose(x[c], 0.0)) for c in range(2)]
    problem = EquilibriumProblem(material.virtual_work(ufl.TestFunction(space)), u, [material], bcs=bcs)
    slope = young * k / (young + k)
    for step in problem.steps(moved, [0.004, 0.01], progress=False):
        assert step.reaction[0, 0] == pytest.approx(sigma + slope * (step.load - sigma / young), rel=1e-8)
    # incompressible flow thins the sheet
    elastic = step.reaction[0, 0] / young
    np.testing.assert_allclose(material.strain_sample[:, 2], -0.3 * elastic - 0.5 * (0.01 - elastic), rtol=1e-7)
