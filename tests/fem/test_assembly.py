"""Element kernels in C and DOLFINx's forms are one problem: same matrix, same iterations, same solution; and who does what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import ufl
from dolfinx import fem, mesh
from test_fused import TURN, deform, polynomial_law, some_law

from constitutive import Evaluator, VonMisesLaw
from constitutive.laws.law import Law
from crystals import PointGroup
from crystals.rotations import random_rotations
from fem import EquilibriumProblem, QuadratureMaterial
from fem import assembly as room


def matrices(residual, u, materials, bcs=(), how="auto") -> float:
    """Distance of the assembled tangent from that of the forms; assembled twice, since only then places are known."""
    problems = [EquilibriumProblem(residual, u, materials, bcs=bcs, assembly=a) for a in (how, "forms")]
    assert problems[1].assembly == "DOLFINx" and problems[0].assembly.startswith("element kernels in C")
    found = []
    for problem in problems:
        for _ in range(2):
            problem._assembly.set_matrix(problem._matrix, problem.bcs)
        found.append(problem._matrix)
    wrong = found[0].copy()
    wrong.axpy(-1.0, found[1])
    return wrong.norm() / found[1].norm()


class Unsymmetric(Law):
    """S = A E with a matrix that is not symmetric, in 36 entries."""

    tangent_entries = 36

    def __init__(self) -> None:
        super().__init__(PointGroup("-1"), units="GPa", strain_measure="green_lagrange")
        matrix = 100.0 * np.eye(6) + 20.0 * np.random.default_rng(5).normal(size=(6, 6))
        self.register_buffer("matrix", torch.from_numpy(matrix))

    def config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()

    def _evaluate(self, strain, tangent):
        stress = strain @ self.matrix.T
        entries = self.matrix.reshape(1, 36).expand(len(strain), 36) if tangent else None
        return 0.5 * (strain * stress).sum(dim=1), stress, entries


@pytest.mark.parametrize("which", ["finite", "small", "unsymmetric", "fields"])
def test_matrix_is_that_of_the_forms(cube, which: str) -> None:
    u, left, _ = cube((2, 1, 2), size=(1.0, 0.7, 0.9))
    deform(u)
    options = {}
    if which == "fields":  # all that changes stress and tangent after the law
        options |= {"orientation": lambda x: random_rotations(len(x), np.random.default_rng(0))}
        options |= {"stress_free": np.diag([1.02, 0.99, 1.0]), "initial_stress": np.diag([1.0, -2.0, 0.5])}
    law = {"small": polynomial_law, "unsymmetric": Unsymmetric}.get(which, some_law)()
    material = QuadratureMaterial(law, u, kinematics="small" if which == "small" else "finite", **options)
    v = ufl.TestFunction(u.function_space)
    # a load that follows the body has a tangent of its own
    residual = material.virtual_work(v) - 3.0 * ufl.dot(ufl.dot(ufl.grad(u), u), v) * ufl.ds
    held = [fem.dirichletbc(np.zeros(3), left, u.function_space)]
    for bcs in ((), held):
        assert matrices(residual, u, [material], bcs) < 1e-13
    # negative control: the other rule of stress and tangent is seen
    material.tangent.x.array[:] *= 1.0 + 1e-9
    problem = EquilibriumProblem(residual, u, [material])
    problem._assembly.set_matrix(problem._matrix)
    before = problem._matrix.norm()
    material.tangent.x.array[:] /= 1.0 + 1e-9
    problem._assembly.set_matrix(problem._matrix)
    assert abs(problem._matrix.norm() / before - 1.0) > 1e-11


def test_materials_side_by_side(cube) -> None:
    u, left, _ = cube((4, 1, 1))
    deform(u)
    domain = u.function_space.mesh
    cells = np.arange(4, dtype=np.int32)
    tags = mesh.meshtags(domain, 3, cells, np.array([1, 2, 1, 2], dtype=np.int32))
    materials = [
        QuadratureMaterial(some_law(), u, subdomain=(tags, 1), orientation=TURN),
        QuadratureMaterial(some_law(measure=-1.0), u, subdomain=(tags, 2)),
    ]
    v = ufl.TestFunction(u.function_space)
    works = [material.virtual_work(v) for material in materials]
    bcs = [fem.dirichletbc(np.zeros(3), left, u.function_space)]
    assert matrices(works[0] + works[1], u, materials, bcs) < 1e-13
    assert matrices(works[0] + works[1], u, materials, bcs, "fused") < 1e-13
    # one of them as the user wrote it: half by kernels, half by DOLFINx
    mixed = EquilibriumProblem(works[0] + 2.0 * works[1], u, materials, bcs=bcs)
    assert "DOLFINx for the rest: not supported: a virtual work that does not stand" in mixed.assembly
    assert matrices(works[0] + 2.0 * works[1], u, materials, bcs) < 1e-13


def own_forms(material: QuadratureMaterial, v) -> dict:
    """Weak forms that users write."""
    u, dx = material.u, material.dx
    power = ufl.inner(material.first_piola_ufl, ufl.grad(v))
    field, dead = fem.Constant(material.mesh, 0.7), ufl.SpatialCoordinate(material.mesh)[0] * v[2]
    return {
        "scaled": (1.0 + field) * material.virtual_work(v),
        # the tangent of a centrifugal load stands without a gradient, that of a field's pull with one
        "loaded": (power - dead - 30.0 * field * ufl.dot(u, v) - 5.0 * u[1] * ufl.div(v) - 3.0 * ufl.div(u) * v[0]) * dx,
        "two integrals": material.virtual_work(v) + material.stress[2] ** 2 * ufl.div(v) * dx,
    }  # fmt: skip


@pytest.mark.parametrize("which", ["scaled", "loaded", "two integrals"])
def test_forms_of_the_users_own(cube, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LEAST_POINTS", 1)
    u, left, _ = cube((2, 1, 2), size=(1.0, 0.7, 0.9))
    deform(u)
    material = QuadratureMaterial(some_law(), u, orientation=TURN)
    v = ufl.TestFunction(u.function_space)
    residual = own_forms(material, v)[which] - 3.0 * ufl.dot(ufl.dot(ufl.grad(u), u), v) * ufl.ds
    held = [fem.dirichletbc(np.zeros(3), left, u.function_space)]
    monkeypatch.setattr("fem.element_kernels.CELLS_AT_A_TIME", 3)  # pieces of unequal length
    assert matrices(residual, u, [material], held) < 1e-13
    problem = EquilibriumProblem(residual, u, [material], bcs=held)
    assert "for forms of the user's own from their derivative" in problem.assembly
    # negative control: the kernel follows the tangent of the law, and the displacement
    norms = []
    for scale, turn in ((1.0, 1.0), (1.0 + 1e-9, 1.0), (1.0, 1.0 + 1e-9)):
        material.tangent.x.array[:] *= scale
        u.x.array[:] *= turn
        problem._assembly.set_matrix(problem._matrix, held)
        norms.append(problem._matrix.norm())
        material.tangent.x.array[:] /= scale
    assert all(abs(norm / norms[0] - 1.0) > 1e-12 for norm in norms[1:])


@pytest.mark.parametrize("case", ["tetrahedra, unsymmetric", "subdomains"])
def test_forms_of_the_users_own_elsewhere(cube, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LEAST_POINTS", 1)
    u, left, _ = cube((4, 1, 1), "tetrahedron" if "tetrahedra" in case else "hexahedron")
    deform(u)
    v = ufl.TestFunction(u.function_space)
    bcs = [fem.dirichletbc(np.zeros(3), left, u.function_space)]
    law = Unsymmetric() if "unsymmetric" in case else some_law()
    tags = mesh.meshtags(u.function_space.mesh, 3, np.arange(4, dtype=np.int32), np.array([1, 2, 1, 2], dtype=np.int32))
    if case == "subdomains":
        materials = [QuadratureMaterial(law, u, subdomain=(tags, 1)), QuadratureMaterial(law, u, subdomain=(tags, 2))]
    else:
        materials = [QuadratureMaterial(law, u)]
    residual = sum(2.0 * material.virtual_work(v) for material in materials)
    assert matrices(residual, u, materials, bcs) < 1e-13
    assert "own" in EquilibriumProblem(residual, u, materials, bcs=bcs).assembly


def test_forms_that_stay_with_dolfinx(cube, monkeypatch: pytest.MonkeyPatch) -> None:
    u, left, _ = cube((2, 1, 1), degree=2)
    deform(u)
    material = QuadratureMaterial(some_law(), u)
    v = ufl.TestFunction(u.function_space)
    bcs = [fem.dirichletbc(np.zeros(3), left, u.function_space)]
    curved = ufl.inner(material.first_piola_ufl, ufl.grad(ufl.grad(v)[0, :])) * material.dx
    few = EquilibriumProblem(2.0 * material.virtual_work(v), u, [material], bcs=bcs)
    assert few.assembly.startswith("DOLFINx: not supported: a virtual work that does not stand")
    monkeypatch.setattr(room, "LEAST_POINTS", 1)
    problem = EquilibriumProblem(curved + material.virtual_work(v), u, [material], bcs=bcs)
    assert problem.assembly == "DOLFINx: not supported: second gradients of displacement or test function."


@pytest.mark.parametrize("case", ["field", "tetrahedra", "small"])
def test_same_iterations_and_solution(cube, case: str) -> None:
    """Dirichlet values that move, a traction, orientations: through load steps."""
    cell, degree = ("tetrahedron", 2) if case == "tetrahedra" else ("hexahedron", 1)
    u, left, right = cube((3, 2, 2), cell, degree, size=(2.0, 1.0, 1.0))
    space = u.function_space
    turn = random_rotations(12, np.random.default_rng(0)) if case == "field" else TURN
    law, kinematics = (polynomial_law(), "small") if case == "small" else (some_law(), "finite")
    law.max_strain = 1.0
    material = QuadratureMaterial(law, u, kinematics=kinematics, orientation=turn)
    # loads well inside what the law bears
    moved, load = fem.Constant(space.mesh, np.zeros(3)), fem.Constant(space.mesh, 0.0)
    bcs = [fem.dirichletbc(np.zeros(3), left, space), fem.dirichletbc(moved, right, space)]
    v = ufl.TestFunction(space)
    residual = material.virtual_work(v) - load * v[1] * ufl.ds

    def apply(t: float) -> None:
        moved.value = (0.04 * t, 0.06 * t, 0.0)
        load.value = 1.0 * t

    found = {}
    for how in ("forms", "auto", "fused"):
        u.x.array[:] = 0.0
        problem = EquilibriumProblem(residual, u, [material], bcs=bcs, assembly=how)
        steps = list(problem.steps(apply, [0.4, 1.0], progress=False))
        found[how] = ([step.iterations for step in steps], u.x.array.copy(), steps[-1].reaction, material.second_piola)
    for how in ("auto", "fused"):
        assert found[how][0] == found["forms"][0] and min(found[how][0]) > 1
        for ours, theirs in zip(found[how][1:], found["forms"][1:], strict=True):
            assert np.abs(ours - theirs).max() < 1e-12 * np.abs(theirs).max()


def test_internal_variables(cube) -> None:
    u, left, right = cube((2, 1, 1))
    space = u.function_space
    found = []
    for how in ("forms", "auto"):
        u.x.array[:] = 0.0
        material = QuadratureMaterial(VonMisesLaw(80.0, 0.3, 0.2, isotropic=2.0), u, kinematics="small")
        moved = fem.Constant(space.mesh, np.zeros(3))
        bcs = [fem.dirichletbc(np.zeros(3), left, space), fem.dirichletbc(moved, right, space)]
        residual, options = material.virtual_work(ufl.TestFunction(space)), {"snes_rtol": 1e-14}
        problem = EquilibriumProblem(residual, u, [material], bcs=bcs, petsc_options=options, assembly=how)

        def apply(t: float, moved: fem.Constant = moved) -> None:
            moved.value = (0.01 * t, 0.02 * t, 0.0)

        # one way only: on the yield surface rounding decides whether the first tangent of the way back is plastic
        (step,) = problem.steps(apply, [1.0], progress=False)
        found.append((step.iterations, u.x.array.copy()))
        assert np.abs(material.state).max() > 1e-3
    (iterations, ours), (others, theirs) = found
    assert iterations == others > 3 and np.abs(ours - theirs).max() < 1e-12 * np.abs(theirs).max()


def test_a_tangent_in_single_precision(cube) -> None:
    """Mixed precision: stress in float64 and tangent in float32 still bring the residual to rounding."""
    u, left, right = cube((2, 2, 2))
    space = u.function_space
    law = some_law()
    law.evaluator = Evaluator(law, "torch", tangent_dtype=np.float32)
    material = QuadratureMaterial(law, u, orientation=TURN)
    bcs = [fem.dirichletbc(np.zeros(3), left, space), fem.dirichletbc(np.array([0.05, 0.05, 0.0]), right, space)]
    residual, options = material.virtual_work(ufl.TestFunction(space)), {"snes_rtol": 1e-12, "snes_atol": 1e-30}
    solution = EquilibriumProblem(residual, u, [material], bcs=bcs, petsc_options=options).solve()
    assert solution.residuals[-1] < 1e-12 * solution.residuals[0] and solution.iterations > 3
    single, strain = material.tangent.x.array, material.strain_sample
    double = Evaluator(law, "torch").response(strain, orientation=material.orientation.rotation).tangent
    error = np.abs(single - double.ravel()).max() / np.abs(double).max()
    assert 1e-9 < error < 1e-6, "the tangent was not one of float32"


def counted(material: QuadratureMaterial, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each evaluation of the material was with its tangent."""
    calls: list[bool] = []
    update = material.update

    def count(tangent: bool = True) -> bool:
        calls.append(tangent)
        return update(tangent)

    monkeypatch.setattr(material, "update", count)
    return calls


def assembled(problem: EquilibriumProblem, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the problem has set its matrix, in a list of one."""
    times = [0]
    inner = problem._assembly.set_matrix

    def count(*arguments: object) -> None:
        times[0] += 1
        inner(*arguments)

    monkeypatch.setattr(problem._assembly, "set_matrix", count)
    return times


@pytest.mark.parametrize(
    ("how", "driven"),
    [("auto", "displacement"), ("auto", "force"), ("fused", "displacement"), ("mean dilatation", "displacement")],
)
def test_nothing_is_done_twice(cube, how: str, driven: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps: one matrix an iteration, one evaluation of the law for each residual, its stress alone for the last."""
    u, left, right = cube((2, 2, 2))
    space = u.function_space
    dilatation = how == "mean dilatation"
    material = QuadratureMaterial(some_law(), u, mean_dilatation=dilatation)
    moved, force = fem.Constant(space.mesh, np.zeros(3)), fem.Constant(space.mesh, 0.0)
    bcs = [fem.dirichletbc(np.zeros(3), left, space)]
    v = ufl.TestFunction(space)
    residual = material.virtual_work(v)
    if driven == "displacement":
        bcs.append(fem.dirichletbc(moved, right, space))
    else:
        residual -= force * v[1] * ufl.ds
    problem = EquilibriumProblem(residual, u, [material], bcs=bcs, assembly="auto" if dilatation else how)
    calls, matrices = counted(material, monkeypatch), assembled(problem, monkeypatch)

    def load(t: float) -> None:
        moved.value, force.value = 0.05 * t * np.array([1.0, 1.0, 0.0]), 0.5 * t

    steps = list(problem.steps(load, np.linspace(0.1, 1.0, 10)))
    assert len(steps) == 10 and all(step.iterations > 1 and step.substeps == 1 for step in steps)
    expected: list[bool] = []
    for step in steps:
        expected += [False] if how == "fused" else [True] * step.iterations + [False]
    assert matrices == [sum(step.iterations for step in steps)]
    assert calls == expected


def test_what_is_held_without_stiffness(cube) -> None:
    """Held nodes that no cell of the form reaches have no diagonal: the first matrix is then assembled again."""
    ends = []
    for whole in (True, False):
        u, left, right = cube((2, 1, 1))
        space = u.function_space
        domain = space.mesh
        domain.topology.create_connectivity(3, 3)
        cells = np.arange(domain.topology.index_map(3).size_local, dtype=np.int32)
        middle = mesh.compute_midpoints(domain, 3, cells)[:, 0]
        tags = mesh.meshtags(domain, 3, cells, (1 + (middle > 0.5)).astype(np.int32))
        material = QuadratureMaterial(some_law(), u, subdomain=(tags, 1))
        soft = QuadratureMaterial(some_law(), u, subdomain=(tags, 2))
        v = ufl.TestFunction(space)
        load = 0.3 * v[0] * ufl.dx(metadata={"quadrature_degree": 2}, subdomain_data=tags, subdomain_id=1)
        bcs = [fem.dirichletbc(np.zeros(3), left, space), fem.dirichletbc(np.zeros(3), right, space)]
        materials = [material, soft] if whole else [material]
        residual = sum((m.virtual_work(v) for m in materials), -load)
        problem = EquilibriumProblem(residual, u, materials, bcs=bcs)
        problem.solve()
        assert problem._holds_loose is not whole
        ends.append(np.abs(u.x.array).max())
    # half of it alone gives way more
    assert ends[1] > 1.2 * ends[0] > 0.0


def test_a_line_search_pays_for_stress_alone(cube, monkeypatch: pytest.MonkeyPatch) -> None:
    u, left, _ = cube((4, 1, 1), size=(4.0, 1.0, 1.0))
    space = u.function_space
    material = QuadratureMaterial(some_law(), u)
    bcs = [fem.dirichletbc(np.zeros(3), left, space)]
    v = ufl.TestFunction(space)
    options = {"snes_linesearch_type": "bt", "snes_linesearch_alpha": 1e-4}  # which asks every step for less
    problem = EquilibriumProblem(
        material.virtual_work(v) - 0.02 * v[1] * ufl.ds, u, [material], bcs=bcs, petsc_options=options
    )
    calls, trials = counted(material, monkeypatch), []
    function, jacobian = problem._function, problem._jacobian

    def asked(what: str, answer: Callable, *arguments: object) -> None:
        trials.append(what)
        answer(*arguments)

    problem.snes.setFunction(partial(asked, "F", function), problem._b)
    problem.snes.setJacobian(partial(asked, "J", jacobian), problem._matrix)
    problem.solve()
    searches = "".join(trials).split("J")[1:]
    gone_back = sum(len(search) > 1 for search in searches)
    assert gone_back > 1, "no line search went back: the test shows nothing"
    # one for each tangent; besides, only the first trial of a search that goes back after one that did not
    tangents = [trials.count("J"), trials.count("J") + gone_back]
    assert tangents[0] <= sum(calls) <= tangents[1]
    # all trials but those are the stress alone
    assert len(calls) - sum(calls) >= sum(len(search) - 1 for search in searches)


def test_what_cannot_be_fused_says_so(cube, monkeypatch: pytest.MonkeyPatch) -> None:
    u, _, _ = cube((1, 1, 1))
    v = ufl.TestFunction(u.function_space)
    plastic = QuadratureMaterial(VonMisesLaw(80.0, 0.3, 0.2, isotropic=2.0), u, kinematics="small")
    loaded = QuadratureMaterial(some_law(), u, initial_stress=np.eye(3))
    locked = QuadratureMaterial(some_law(), u, mean_dilatation=True)
    plain = QuadratureMaterial(some_law(), u)
    for material, residual, match in (
        (plastic, plastic.virtual_work(v), "VonMisesLaw in C"),
        (loaded, loaded.virtual_work(v), "initial stress"),
        (locked, locked.virtual_work(v), "mean dilatation"),
        (plain, -plain.virtual_work(v), "does not stand in the residual"),
        (plain, plain.virtual_work(v) + plain.stress[0] * v[0] * plain.dx, "does not stand in the residual"),
    ):
        with pytest.raises(ValueError, match=f"fused.*not supported: .*{match}.*'auto'"):
            EquilibriumProblem(residual, u, [material], assembly="fused")
    with pytest.raises(ValueError, match="'auto', 'forms' or 'fused', got 'fast'"):
        EquilibriumProblem(plain.virtual_work(v), u, [plain], assembly="fast")
    assert (
        EquilibriumProblem(locked.virtual_work(v), u, [locked]).assembly == "DOLFINx: not supported: mean dilatation."
    )

    def none(*_: object) -> None:
        raise room.NoCompiler("compiler: expected a C compiler, got none. Install one.")

    monkeypatch.setattr("fem.element_kernels.build", none)
    assert "expected a C compiler" in EquilibriumProblem(plain.virtual_work(v), u, [plain]).assembly
