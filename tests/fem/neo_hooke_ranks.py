"""Run under mpirun by test_neo_hooke.py: a law at quadrature points against the same energy in pure UFL; plasticity with
mean dilatation, a failure at one point of one rank, and a restart on another number of ranks; parts of a mesh file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from dolfinx.fem import petsc
from mpi4py import MPI
from petsc4py import PETSc
from test_tagged_mesh import size, written

from constitutive.laws.neo_hooke import NeoHookeanLaw
from constitutive.laws.von_mises import VonMisesLaw
from fem import EquilibriumProblem, NotConverged, OutOfRange, QuadratureMaterial, read_mesh, write_xdmf
from fem.dolfinx_versions import compile_form, lagrange_space

COMM = MPI.COMM_WORLD


def displacement(comm, shape, cell):
    domain = mesh.create_box(comm, [np.zeros(3), np.array([2.0, 1.0, 1.0])], shape, getattr(mesh.CellType, cell))
    u = dfem.Function(lagrange_space(domain, "CG", 1, (3,)))
    left = dfem.locate_dofs_geometrical(u.function_space, lambda x: np.isclose(x[0], 0.0))
    right = dfem.locate_dofs_geometrical(u.function_space, lambda x: np.isclose(x[0], 2.0) & (x[1] < 0.1))
    return u, left, right


def norm(comm, values, owned):
    return float(np.sqrt(comm.allreduce(float(values[:owned] @ values[:owned]))))


def compare(comm, folder, shape, cell, loads=(1.0,)):
    """Clamped left end, one edge of the right end moved, traction everywhere; both ways."""
    law = NeoHookeanLaw(40.0, 60.0)
    u, left, right = displacement(comm, shape, cell)
    space, domain = u.function_space, u.function_space.mesh
    v = ufl.TestFunction(space)
    load = dfem.Constant(domain, 0.0)
    moved = dfem.Constant(domain, np.zeros(3))
    bcs = [dfem.dirichletbc(np.zeros(3), left, space), dfem.dirichletbc(moved, right, space)]
    traction = load * ufl.as_vector([1.0, 2.0, -1.0])

    def apply(t):
        load.value = t
        moved.value = (0.2 * t, 0.3 * t, 0.1 * t)

    gradient = ufl.Identity(3) + ufl.grad(u)
    jacobian = ufl.det(gradient)
    energy = law.mu / 2 * (ufl.inner(gradient, gradient) - 3 - 2 * ufl.ln(jacobian))
    energy += law.lam / 2 * ufl.ln(jacobian) ** 2
    pure = ufl.derivative(energy * ufl.dx(metadata={"quadrature_degree": 2}), u, v) - ufl.dot(traction, v) * ufl.ds
    material = QuadratureMaterial(law, u)
    ours = material.virtual_work(v) - ufl.dot(traction, v) * ufl.ds
    owned = space.dofmap.index_map.size_local * 3
    results = []
    for residual, materials in ((pure, []), (ours, [material])):
        u.x.array[:] = 0.0
        problem = EquilibriumProblem(residual, u, materials, bcs=bcs)
        apply(0.0)
        steps = list(problem.steps(apply, loads, progress=False))
        reactions = [step.reaction.tolist() for step in steps]
        results.append((u.x.array.copy(), [step.iterations for step in steps], reactions))
    # files are collective, and ranks without cells take part
    name = f"{cell}{int(np.prod(shape))}"
    von_mises = material.project("von_mises")
    write_xdmf(folder / f"{name}.xdmf", u, [von_mises])
    material.write(folder / f"{name}-points.h5")
    # our solution in the pure form, assembled without our problem: the free components balance
    form = compile_form(pure)
    b = petsc.assemble_vector(form)
    b.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
    raw = norm(comm, b.array.copy(), owned)
    petsc.set_bc(b, [dfem.dirichletbc(np.zeros(3), dofs, space) for dofs in (left, right)])
    (a, first, ra), (c, second, rc) = results
    return {
        "cells": comm.allgather(int(len(material.cells))),
        "difference": norm(comm, a - c, owned) / norm(comm, a, owned),
        "size": norm(comm, a, owned),
        "points": [str(folder / f"{name}-points.h5"), str(folder / f"{name}.h5")],
        "iterations": [first, second],
        "reactions": [ra, rc],
        "balance": norm(comm, b.array.copy(), owned) / raw,
    }


def errors(comm):
    """The same error on all ranks: a state out of range, and a step that inverts cells on one side only."""
    u, left, right = displacement(comm, (6, 1, 1), "hexahedron")
    space = u.function_space
    v = ufl.TestFunction(space)
    law = NeoHookeanLaw(40.0, 60.0)
    law.max_strain = 0.05
    material = QuadratureMaterial(law, u)
    moved = dfem.Constant(space.mesh, np.array([0.3, 0.0, 0.0]))
    bcs = [dfem.dirichletbc(np.zeros(3), left, space), dfem.dirichletbc(moved, right, space)]
    # hopeless after a few iterations as after many
    options = {"snes_max_it": 4}
    problem = EquilibriumProblem(material.virtual_work(v), u, [material], bcs=bcs, petsc_options=options)
    texts = []
    for value, kind in ((0.3, OutOfRange), (-3.5, NotConverged)):
        moved.value = (value, 0.0, 0.0)
        try:
            problem.solve()
            texts.append("no error")
        except kind as error:
            texts.append(str(error))
        texts.append(float(np.abs(u.x.array).max(initial=0.0)))
    return comm.allgather(texts)


class FailsForAWhile(VonMisesLaw):
    """Von Mises whose local iteration fails at the last point of one rank, while `failing` is above zero."""

    failing = 0

    def _step(self, strain, state, dt, tangent):
        *answer, failed = super()._step(strain, state, dt, tangent)
        if self.failing > 0 and len(failed):
            self.failing -= 1
            failed = failed.clone()
            failed[-1] = True
        return *answer, failed


def plastic(comm, folder, shape, targets):
    """A bar bent and turned back beyond yield; the last rank that has cells fails in the second step."""
    u, left, right = displacement(comm, shape, "hexahedron")
    space = u.function_space
    law = FailsForAWhile(200.0, 0.3, 0.4, isotropic=10.0, kinematic=5.0)
    material = QuadratureMaterial(law, u, kinematics="small", mean_dilatation=True)
    moved = dfem.Constant(space.mesh, np.zeros(3))
    bcs = [dfem.dirichletbc(np.zeros(3), left, space), dfem.dirichletbc(moved, right, space)]
    problem = EquilibriumProblem(material.virtual_work(ufl.TestFunction(space)), u, [material], bcs=bcs)

    def apply(t):
        moved.value = (0.01 * t, 0.02 * t, 0.0)

    half = folder / f"half-{int(np.prod(shape))}.h5"
    cells = comm.allgather(len(material.cells))
    failing = max(rank for rank, count in enumerate(cells) if count)
    reports = []
    for restart in (False, True):
        if restart:
            # written by the run on one rank
            law.failing, start = 0, problem.restore(half)
        else:
            (first,) = problem.steps(apply, [1.0], progress=False)
            if comm.size == 1:
                problem.save(half)
            law.failing, start = 3 if comm.rank == failing else 0, 1.0
        steps = list(problem.steps(apply, targets, start=start, progress=False))
        everything = np.hstack([material.points(), material.state, material.second_piola])
        table = np.concatenate(comm.allgather(everything))
        table = table[np.lexsort(np.round(table[:, :3], 9).T)]
        reports.append(
            {
                "iterations": [step.iterations for step in steps],
                "cuts": [step.cuts for step in steps],
                "reaction": steps[-1].reaction.tolist(),
                "table": table.tolist(),
            }
        )
    return {"cells": cells, "first": first.iterations, "uninterrupted": reports[0], "restarted": reports[1]}


def named_parts(comm, folder):
    """Sizes of the parts of a mesh file, as on one rank; a corner that one rank has."""
    if comm.rank == 0:
        (folder / "mesh").mkdir(exist_ok=True)
        written(folder / "mesh", "tetra", "gmsh41")
    comm.barrier()
    part = read_mesh(folder / "mesh" / "part.msh", comm=comm)
    space = lagrange_space(part.mesh, "CG", 1, (3,))
    corner = part.dofs(space, "corner")
    found = {name: size(part, name) for name in ("soft", "stiff", "left", "right")}
    return found | {"corners": comm.allreduce(int(np.sum(corner < space.dofmap.index_map.size_local)))}


if __name__ == "__main__":
    # one folder for all numbers of ranks, and this one's own
    shared, own = Path(sys.argv[1]), Path(sys.argv[1]) / str(COMM.size)
    report = {
        "hexahedron": compare(COMM, own, (4, 2, 2), "hexahedron", (0.5, 1.0)),
        "tetrahedron": compare(COMM, own, (3, 2, 2), "tetrahedron"),
        "two_cells": compare(COMM, own, (2, 1, 1), "hexahedron"),
        "errors": errors(COMM),
        "named_parts": named_parts(COMM, own),
        "plastic": plastic(COMM, shared, (4, 2, 2), [-0.5, -1.0]),
        "plastic_two_cells": plastic(COMM, shared, (2, 1, 1), [0.2, -1.0]),
    }
    if COMM.rank == 0:
        (own / "report.json").write_text(json.dumps(report))
