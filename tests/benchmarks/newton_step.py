"""One Newton iteration's assembly with a neural law against pure-UFL Neo-Hooke: same mesh, same compiler flags.

    python tests/benchmarks/newton_step.py [--cells 24]      # hex8, 2 × 2 × 2 points a cell: 110,592 points; a minute
    mpirun -n 2 python -m mpi4py tests/benchmarks/newton_step.py

An iteration is what SNES asks of `EquilibriumProblem`: the residual at a new state, then the tangent there. Neo-Hooke: an
energy in UFL, its derivatives by UFL, the same problem class. 'auto' is `virtual_work(v)`, quadrature Functions and element
matrices in C; 'own form' is ∫ P : ∇v dx as a user writes it, also with assembly="auto"; 'forms' is assembly="forms", every
form by DOLFINx; 'fused' has the law inside the element kernels. The law is generated C, forms are compiled with the flags of
`fem.dolfinx_versions`. Times are CPU seconds (of the slowest rank), the least of several rounds in which all parts take turns.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from datetime import date

import dolfinx
import numpy as np
import torch
import ufl
from dolfinx import fem, mesh
from evaluator import the_law
from mpi4py import MPI

from constitutive import Evaluator
from crystals.rotations import random_rotations
from fem import EquilibriumProblem, QuadratureMaterial
from fem import dolfinx_versions as versions
from fem.assembly import Assembly

ROUNDS = 5


def displacement(cells: int, kind: str = "hexahedron") -> fem.Function:
    """A cube with a smooth displacement of some per cent of strain."""
    domain = mesh.create_unit_cube(MPI.COMM_WORLD, cells, cells, cells, getattr(mesh.CellType, kind))
    u = fem.Function(versions.lagrange_space(domain, "CG", 1, (3,)))

    def field(x: np.ndarray) -> np.ndarray:
        return 0.02 * np.stack([np.sin(2 * x[1]) + x[0], np.cos(3 * x[2]) * x[0], np.sin(x[0] + x[1]) - x[2]])

    u.interpolate(field)
    u.x.scatter_forward()
    return u


def neo_hooke(u: fem.Function, degree: int) -> ufl.Form:
    """Residual of W = μ/2 (tr C − 3 − 2 ln J) + λ/2 (ln J)²."""
    deformation = ufl.variable(ufl.Identity(3) + ufl.grad(u))
    log = ufl.ln(ufl.det(deformation))
    energy = 20.0 * (ufl.inner(deformation, deformation) - 3 - 2 * log) + 30.0 * log**2
    return ufl.derivative(
        energy * ufl.dx(metadata={"quadrature_degree": degree}), u, ufl.TestFunction(u.function_space)
    )


def least(parts: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Least CPU seconds of each part, on the slowest rank."""
    for run in parts.values():
        run()
    seconds = dict.fromkeys(parts, np.inf)
    for _ in range(ROUNDS):
        for name, run in parts.items():
            MPI.COMM_WORLD.barrier()
            start = time.process_time()
            run()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return {name: MPI.COMM_WORLD.allreduce(value, op=MPI.MAX) for name, value in seconds.items()}


class Iteration:
    """Residual and tangent of a problem at states that alternate, as SNES asks for them."""

    def __init__(self, problem: EquilibriumProblem) -> None:
        self.problem = problem
        self.states = [problem._x.duplicate() for _ in range(2)]
        for scale, state in zip((1.0, 1.01), self.states, strict=True):
            state.array_w[:] = scale * problem.u.x.array[: problem._owned]
        self.residual = problem._x.duplicate()

    def __call__(self) -> None:
        self.states.reverse()
        self.problem._function(None, self.states[0], self.residual)
        self.problem._jacobian(None, self.states[0], None, None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=24)
    cells = parser.parse_args().cells
    torch.set_num_threads(1)
    law = the_law()
    law.evaluator = Evaluator(law, "c")
    u = displacement(cells)
    material = QuadratureMaterial(law, u, degree=2)
    v = ufl.TestFunction(u.function_space)
    problems = {
        how: EquilibriumProblem(material.virtual_work(v), u, [material], assembly=how)
        for how in ("auto", "forms", "fused")
    }
    own = ufl.inner(material.first_piola_ufl, ufl.grad(v)) * material.dx
    problems["own form"] = EquilibriumProblem(own, u, [material])
    problems["Neo-Hooke"] = EquilibriumProblem(neo_hooke(u, 2), u)
    iterations = {name: Iteration(problem) for name, problem in problems.items()}
    watched, values = material._watched, material._watched_size
    strain = np.ascontiguousarray(material._evaluate(watched, values)[:, :6])
    turn = random_rotations(len(strain), np.random.default_rng(0))
    ours, theirs, forms, by_form = (problems[name]._assembly for name in ("auto", "Neo-Hooke", "forms", "own form"))
    matrix, vector = problems["auto"]._matrix, problems["auto"]._x.duplicate()
    theirs_matrix = problems["Neo-Hooke"]._matrix

    def residual_of(assembly: Assembly) -> Callable[[], None]:
        def run() -> None:
            with vector.localForm() as local:
                local.set(0.0)
            assembly.add_residual(vector)

        return run

    parts = {
        "strain": lambda: material._evaluate(watched, values),
        "law, stress and tangent": lambda: law.response(strain),
        "law, stress alone": lambda: law.response(strain, tangent=False),
        "law, a rotation for each point": lambda: law.response(strain, orientation=turn),
        "update (strain, law, copies)": lambda: material.update(tangent=True),
        "residual": residual_of(ours),
        "matrix, kernels": lambda: ours.set_matrix(matrix),
        "matrix, own form": lambda: by_form.set_matrix(problems["own form"]._matrix),
        "matrix, forms": lambda: forms.set_matrix(problems["forms"]._matrix),
        "Neo-Hooke residual": residual_of(theirs),
        "Neo-Hooke matrix": lambda: theirs.set_matrix(theirs_matrix),
        **{f"iteration, {name}": iteration for name, iteration in iterations.items()},
    }
    seconds = least(parts)
    ranks, points = MPI.COMM_WORLD.size, MPI.COMM_WORLD.allreduce(len(strain))
    states = [iteration.states[0].array.copy() for iteration in iterations.values()]
    assert all(np.array_equal(state, states[0]) for state in states)
    scale = problems["forms"]._matrix.norm()
    differences = []
    for name in ("auto", "own form", "fused"):
        wrong = problems[name]._matrix.copy()
        wrong.axpy(-1.0, problems["forms"]._matrix)
        size = iterations["forms"].residual.norm()
        differences.append(
            (name, wrong.norm() / scale, (iterations[name].residual - iterations["forms"].residual).norm() / size)
        )
    if MPI.COMM_WORLD.rank:
        return
    print(f"{date.today()}, {platform.machine()}, DOLFINx {dolfinx.__version__}, {ranks} rank{'s' * (ranks > 1)}, hex8, {points} points, "
          f"{law.evaluator!r}")  # fmt: skip
    for name, value in seconds.items():
        print(f"  {name:<32}{1e3 * value:>9.1f} ms{1e9 * value * ranks / points:>9.0f} ns a point")
    rival = seconds["iteration, Neo-Hooke"]
    plain = seconds["Neo-Hooke residual"] + seconds["Neo-Hooke matrix"]
    print("one Newton iteration against Neo-Hooke (in brackets: against its two assemblies alone)")
    for name, what in (
        ("auto", "general, virtual_work(v)"),
        ("own form", "general, own form"),
        ("forms", "all by DOLFINx"),
        ("fused", "fused"),
    ):
        value = seconds[f"iteration, {name}"]
        print(f"  {what:<26}{value / rival:6.2f} × ({value / plain:.2f} ×)")
    for name, matrices, residuals in differences:
        print(f"{name} against forms: matrices differ by {matrices:.1e}, residuals by {residuals:.1e}")


if __name__ == "__main__":
    main()
