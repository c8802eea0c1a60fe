"""One neural law in one boundary-value problem, solved by this package and by torch-fem: same answer, time of each.

    pip install --no-deps --target DIR torch-fem pyvista pyvista-validation vtk pyamg pooch platformdirs scooby cyclopts
    PYTHONPATH=DIR python tests/benchmarks/peers.py [--cells 16]

A cube of 8-node hexahedra, one face held, the other pulled by 2 % and sheared by 1 %, in one step to 1e-8 of the first residual. The law
is that of evaluator.py; torch-fem gets its energy W(F) and differentiates it, as its users do. One process, one thread, each twice, the
shorter CPU time. Assembly and linear solve are those that each package picks by itself.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from datetime import date
from importlib import import_module

import numpy as np
import torch
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from evaluator import plain_energy, the_law
from mpi4py import MPI

from fem import EquilibriumProblem, QuadratureMaterial
from fem.dolfinx_versions import lagrange_space

PULL = (0.02, 0.01, 0.0)


def ours(cells: int) -> tuple[np.ndarray, np.ndarray, str]:
    domain = mesh.create_unit_cube(MPI.COMM_WORLD, cells, cells, cells, mesh.CellType.hexahedron)
    space = lagrange_space(domain, "CG", 1, (3,))
    u = dfem.Function(space)
    material = QuadratureMaterial(the_law(), u)
    held, moved = (dfem.locate_dofs_geometrical(space, lambda x, at=at: np.isclose(x[0], at)) for at in (0.0, 1.0))
    bcs = [dfem.dirichletbc(np.zeros(3), held, space), dfem.dirichletbc(np.array(PULL), moved, space)]
    problem = EquilibriumProblem(
        material.virtual_work(ufl.TestFunction(space)), u, [material], bcs=bcs, petsc_options={"snes_rtol": 1e-8}
    )
    solution = problem.solve()
    return space.tabulate_dof_coordinates(), u.x.array.reshape(-1, 3).copy(), f"{solution.iterations} iterations"


def torch_fem(cells: int) -> tuple[np.ndarray, np.ndarray, str]:
    # no requirement of this project
    library, materials, meshes = (import_module(f"torchfem{part}") for part in ("", ".materials", ".mesh"))
    energy = plain_energy(the_law())
    rows, columns = torch.tensor([0, 1, 2, 1, 0, 0]), torch.tensor([0, 1, 2, 2, 2, 1])
    factor = torch.tensor([1.0, 1.0, 1.0, 2**0.5, 2**0.5, 2**0.5])

    def psi(deformation: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        strain = 0.5 * (deformation.T @ deformation - torch.eye(3))
        return energy(strain[rows, columns] * factor)

    nodes, elements = meshes.cube_hexa(cells + 1, cells + 1, cells + 1)
    model = library.Solid(nodes, elements, materials.Hyperelastic3D(psi, [0.0]))
    left, right = nodes[:, 0] < 1e-9, nodes[:, 0] > 1.0 - 1e-9
    model.constraints[left | right] = True
    model.displacements[right] = torch.tensor(PULL)
    u, *_ = model.solve(increments=torch.tensor([0.0, 1.0]), rtol=1e-8, atol=1e-12)
    return nodes.numpy(), u.detach().numpy(), "its own choice of solver"


def timed(solve: Callable[[int], tuple], cells: int) -> tuple[float, tuple]:
    times, answer = [], ()
    for _ in range(2):
        began = time.process_time()
        answer = solve(cells)
        times.append(time.process_time() - began)
    return min(times), answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=16)
    cells = parser.parse_args().cells
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    mine, (places, moved, said) = timed(ours, cells)
    theirs, (nodes, wanted, their_words) = timed(torch_fem, cells)
    order, their_order = np.lexsort(np.round(places, 9).T), np.lexsort(np.round(nodes, 9).T)
    apart = np.abs(moved[order] - wanted[their_order]).max() / np.abs(wanted).max()
    print(
        f"{date.today()}, {platform.machine()}, one thread; {8 * cells**3} quadrature points, {3 * len(nodes)} unknowns"
    )
    print(f"constitutive {mine:.2f} s ({said}); torch-fem {theirs:.2f} s ({their_words}); ratio {theirs / mine:.1f}; displacements "
          f"differ by {apart:.1e} of the largest")  # fmt: skip


if __name__ == "__main__":
    main()
