"""Scaling of the finite-element solve: time over MPI ranks, the same answer on all of them, and a large problem.

python tests/benchmarks/mpi.py [--ranks 1 2]      # 1, 2 and 4 ranks, minutes; more ranks than cores are marked
python tests/benchmarks/mpi.py --million          # 10⁶ unknowns on all cores: time, memory

A cube of a cubic crystal, oriented, held and pulled in one step; the solver that the problem picks by itself. Law and
assembly are CPU seconds of the slowest rank, the least of five rounds, which other jobs change little; the solve is wall
time, and says something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import resource
import sys
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fem"))
from mpi_ranks import run_on_ranks


def worker(cells: int) -> None:
    """One rank of one run."""
    import numpy as np
    import ufl
    from dolfinx import fem as dfem
    from dolfinx import mesh
    from mpi4py import MPI

    import constitutive
    from crystals import PointGroup
    from crystals.elastic_constants import stiffness_from_constants
    from crystals.rotations import rotation_about
    from fem import EquilibriumProblem, QuadratureMaterial
    from fem.dolfinx_versions import lagrange_space

    comm = MPI.COMM_WORLD
    logging.basicConfig(level=logging.WARNING)
    group = PointGroup("m-3m")
    stiffness = stiffness_from_constants(group, {"C11": 168.4, "C12": 121.4, "C44": 75.4})
    law = constitutive.PolynomialLaw(group, 2, stiffness)
    domain = mesh.create_box(comm, [np.zeros(3), np.ones(3)], [cells] * 3, mesh.CellType.hexahedron)
    space = lagrange_space(domain, "CG", 1, (3,))
    u = dfem.Function(space)
    start = time.perf_counter()
    material = QuadratureMaterial(law, u, orientation=rotation_about([1.0, 2.0, -0.5], 0.7))
    left = dfem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], 0.0))
    right = dfem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], 1.0))
    moved = dfem.Constant(domain, np.array([0.02, 0.01, 0.0]))
    bcs = [dfem.dirichletbc(np.zeros(3), left, space), dfem.dirichletbc(moved, right, space)]
    residual = material.virtual_work(ufl.TestFunction(space))
    problem = EquilibriumProblem(residual, u, [material], bcs=bcs)
    ready = time.perf_counter()
    repeats = 5
    law_time = assembly = 0.0
    for kind in range(2) if cells < 50 else ():
        spent = float("inf")
        for _ in range(repeats):
            comm.barrier()
            begun = time.process_time()
            if kind == 0:
                material.update(tangent=True)
            else:
                problem._assemble_matrix()
            spent = min(spent, time.process_time() - begun)
        spent = comm.allreduce(spent, op=MPI.MAX)
        law_time, assembly = (spent, assembly) if kind == 0 else (law_time, spent)
    begun = time.perf_counter()
    solution = problem.solve()
    solved = time.perf_counter() - begun
    owned = space.dofmap.index_map.size_local * 3
    norm = comm.allreduce(float(u.x.array[:owned] @ u.x.array[:owned])) ** 0.5
    # nothing may lie idle on one rank that others keep: the sum over ranks is what the machine needs
    memory = comm.allreduce(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20
    if comm.rank == 0:
        print(json.dumps({
            "ranks": comm.size, "unknowns": space.dofmap.index_map.size_global * 3, "points": 8 * cells**3,
            "set_up": ready - start, "law": law_time, "assembly": assembly, "solve": solved,
            "iterations": solution.iterations, "krylov": problem.snes.getLinearSolveIterations(), "norm": norm,
            "memory": memory, "solver": problem.solver, "load": os.getloadavg()[0],
        }))  # fmt: skip


def run(ranks: int, cells: int) -> dict:
    crowded = ranks > (os.cpu_count() or 1)
    output = run_on_ranks(ranks, __file__, "--worker", str(cells), timeout=7200, yielding=crowded)
    return json.loads(output.strip().splitlines()[-1])


def main(million: bool, numbers: list[int]) -> None:
    cores = os.cpu_count() or 1
    print(f"{date.today()}, {platform.machine()}, {cores} cores, Python {platform.python_version()}")
    if million:
        found = run(cores, 69)
        print(f"{found['unknowns']} unknowns, {found['points']} quadrature points, {found['ranks']} ranks: set-up "
              f"{found['set_up']:.0f} s, solve {found['solve']:.0f} s, {found['iterations']} Newton and {found['krylov']} "
              f"Krylov iterations, {found['memory']:.1f} GiB on all ranks\nsolver: {found['solver']}; load average "
              f"{found['load']:.1f}")  # fmt: skip
        return
    print(f"{'ranks':>5} {'unknowns':>9} {'law ms':>8} {'assembly ms':>12} {'solve s':>8} {'Newton':>7} {'Krylov':>7} "
          f"{'speed-up':>9} {'difference':>11} {'load':>5}")  # fmt: skip
    run(1, 4)  # compiles the forms
    for cells in (16, 32):
        alone = None
        for ranks in numbers:
            found = run(ranks, cells)
            alone = alone or found
            print(f"{ranks:5d} {found['unknowns']:9d} {1e3 * found['law']:8.1f} {1e3 * found['assembly']:12.1f} "
                  f"{found['solve']:8.2f} {found['iterations']:7d} {found['krylov']:7d} "
                  f"{alone['solve'] / found['solve']:9.2f} {abs(found['norm'] / alone['norm'] - 1):11.1e} "
                  f"{found['load']:5.1f}{'  oversubscribed' if ranks > cores else ''}", flush=True)  # fmt: skip
        print(f"      solver: {found['solver']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", action="store_true", help="10⁶ unknowns instead of the table")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        worker(arguments.worker)
    else:
        main(arguments.million, arguments.ranks)
