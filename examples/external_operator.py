"""A law inside dolfinx-external-operator, for those who write their own Newton loop: DOLFINx 0.10 or later.

A block of single-crystal copper, its axes turned, is pulled by 3 %. Stress and tangent come from the law through
`fem.external_operator.external_function`; residual, Jacobian and Newton's loop are the user's. The same block through
`QuadratureMaterial` and `EquilibriumProblem` must give the same displacement.

    python examples/external_operator.py                # everything below out/external_operator
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import ufl as _ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from dolfinx.fem import petsc as _assembly
from mpi4py import MPI
from petsc4py import PETSc as _petsc

from constitutive import PolynomialLaw
from crystals import PointGroup
from crystals.elastic_constants import stiffness_from_constants
from crystals.rotations import rotation_about
from fem import EquilibriumProblem, QuadratureMaterial
from fem.dolfinx_versions import VERSION, lagrange_space, quadrature_space
from fem.external_operator import external_function
from fem.kinematics import strain_ufl, strain_variation_ufl

# names and signatures of DOLFINx 0.10 and later, which the type checker of another version does not know
PETSc: Any = _petsc
petsc: Any = _assembly
ufl: Any = _ufl
STRETCH = 0.03
TURN = rotation_about(np.array([1.0, 2.0, -0.5]), 0.7)  # Q: crystal → sample


def copper() -> PolynomialLaw:
    """Copper with its measured constants (Simmons and Wang 1971): C11, C12, C44 = 168.4, 121.4, 75.4 GPa."""
    group = PointGroup("m-3m")
    return PolynomialLaw(group, 2, stiffness_from_constants(group, {"C11": 168.4, "C12": 121.4, "C44": 75.4}))


def block(cells: int) -> tuple[Any, Any, Any, list[Any]]:
    """Displacement, test function, pulled face's value and boundary conditions of a block clamped at both ends."""
    domain = mesh.create_box(MPI.COMM_WORLD, [np.zeros(3), np.array([2.0, 1.0, 1.0])], [2 * cells, cells, cells],
                             mesh.CellType.hexahedron)  # fmt: skip
    space = lagrange_space(domain, "CG", 1, (3,))
    u, moved = dfem.Function(space), dfem.Function(space)
    ends = [dfem.locate_dofs_geometrical(space, lambda x, place=place: np.isclose(x[0], place)) for place in (0.0, 2.0)]
    bcs = [dfem.dirichletbc(dfem.Function(space), ends[0]), dfem.dirichletbc(moved, ends[1])]
    return u, ufl.TestFunction(space), moved, bcs


def newton(law: PolynomialLaw, cells: int, tolerance: float = 1e-10) -> tuple[np.ndarray, list[float]]:
    """Newton's loop around external operators, by hand: displacement, and the residual before each iteration."""
    from dolfinx_external_operator import (
        FEMExternalOperator,
        evaluate_external_operators,
        evaluate_operands,
        replace_external_operators,
    )

    u, v, moved, bcs = block(cells)
    space = u.function_space
    gradient = ufl.grad(u)
    strain = strain_ufl(gradient, "finite")
    stress = FEMExternalOperator(
        strain, function_space=quadrature_space(space.mesh, 2, 6), external_function=external_function(law, TURN)
    )
    dx = ufl.Measure("dx", domain=space.mesh, metadata={"quadrature_degree": 2, "quadrature_scheme": "default"})
    form = ufl.inner(stress, strain_variation_ufl(gradient, ufl.grad(v), "finite")) * dx
    residual, stresses = replace_external_operators(form)
    derivative = ufl.algorithms.expand_derivatives(ufl.derivative(form, u, ufl.TrialFunction(space)))
    jacobian, tangents = replace_external_operators(derivative)
    residual, jacobian = dfem.form(residual), dfem.form(jacobian)

    moved.x.array.reshape(-1, 3)[:] = (2.0 * STRETCH, 0.0, 0.0)
    correction, norms = dfem.Function(space), []
    solver = PETSc.KSP().create(space.mesh.comm)
    solver.setType("preonly")
    solver.getPC().setType("lu")
    for _ in range(12):
        operands = evaluate_operands(stresses)
        evaluate_external_operators(stresses, operands)
        evaluate_external_operators(tangents, operands)
        matrix = petsc.assemble_matrix(jacobian, bcs=bcs)
        matrix.assemble()
        b = petsc.assemble_vector(residual)
        # Dirichlet: the correction takes u to its value
        petsc.apply_lifting(b, [jacobian], [bcs], x0=[u.x.petsc_vec], alpha=-1.0)
        b.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        petsc.set_bc(b, bcs, u.x.petsc_vec, alpha=-1.0)
        norms.append(float(b.norm()))
        if norms[-1] < tolerance * max(norms):
            return u.x.array.copy(), norms
        solver.setOperators(matrix)
        solver.solve(b, correction.x.petsc_vec)
        correction.x.scatter_forward()
        u.x.array[:] -= correction.x.array
    raise RuntimeError(f"newton: expected convergence within 12 iterations, got residuals {norms}. Pull less.")


def main(out: Path = Path("out/external_operator"), cells: int = 6) -> dict[str, Any]:
    """The whole story. Returns the figures that it prints."""
    out.mkdir(parents=True, exist_ok=True)
    law = copper()
    by_hand, norms = newton(law, cells)

    u, v, moved, bcs = block(cells)
    material = QuadratureMaterial(law, u, degree=2, orientation=TURN)
    problem = EquilibriumProblem(material.virtual_work(v), u, [material], bcs=bcs)
    moved.x.array.reshape(-1, 3)[:] = (2.0 * STRETCH, 0.0, 0.0)
    problem.solve()
    difference = float(np.linalg.norm(by_hand - u.x.array) / np.linalg.norm(u.x.array))

    figure, axes = plt.subplots(figsize=(5.6, 4.0), layout="constrained")
    axes.semilogy(norms, "o-")
    axes.set(xticks=range(len(norms)), xlabel="Newton iteration", ylabel="norm of the residual, GPa·length²",
             title=f"difference from QuadratureMaterial {difference:.0e}")  # fmt: skip
    figure.savefig(out / "external_operator.png", dpi=110)
    plt.close(figure)
    figures = {"difference": difference, "iterations": len(norms) - 1, "residuals": norms}
    (out / "summary.json").write_text(json.dumps(figures, indent=2))
    print(f"{json.dumps(figures, indent=2)}\npicture in {out}/external_operator.png")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/external_operator"), help="folder for the picture")
    arguments = parser.parse_args()
    if VERSION < (0, 10):
        sys.exit(f"external_operator: expected DOLFINx 0.10 or later, which dolfinx-external-operator needs, got "
                 f"{'.'.join(map(str, VERSION))}. Use QuadratureMaterial here, as examples/custom_law.py does.")  # fmt: skip
    main(arguments.out)
