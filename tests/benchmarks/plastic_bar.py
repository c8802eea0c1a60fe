"""A bar of a law of small strain, for benchmarks that look at its states."""

from __future__ import annotations

from typing import Any

import numpy as np


def plastic_bar(law: Any, length: float, cells: tuple[int, int, int]) -> tuple[Any, Any]:
    """Problem of a bar of cross-section 1 × 1 on this rank alone, one end held; and the displacement of the other end."""
    import ufl  # slow to import: tests of other things import the benchmarks as well
    from dolfinx import fem as dfem
    from dolfinx import mesh
    from mpi4py import MPI

    from fem import EquilibriumProblem, QuadratureMaterial
    from fem.dolfinx_versions import lagrange_space

    corners = [np.zeros(3), np.array([length, 1.0, 1.0])]
    domain = mesh.create_box(MPI.COMM_SELF, corners, cells, mesh.CellType.hexahedron)
    u = dfem.Function(lagrange_space(domain, "CG", 1, (3,)))
    space = u.function_space
    moved = dfem.Constant(domain, np.zeros(3))
    ends = [dfem.locate_dofs_geometrical(space, lambda x, e=e: np.isclose(x[0], e)) for e in (0.0, length)]
    bcs = [dfem.dirichletbc(np.zeros(3), ends[0], space), dfem.dirichletbc(moved, ends[1], space)]
    material = QuadratureMaterial(law, u, kinematics="small")
    return EquilibriumProblem(material.virtual_work(ufl.TestFunction(space)), u, [material], bcs=bcs), moved
