"""One Newton iteration's assembly with a neural law against pure-UFL Neo-Hooke: same mesh, same compiler flags, one rank.

    python tests/benchmarks/newton_step.py [--cells 24]      # hex8, 2 × 2 × 2 points a cell: 110,592 points; a minute

General path: `fem.QuadratureMaterial` (strain → law → quadrature Functions) and the forms that `EquilibriumProblem` derives
from the user's weak form, with the law in generated C. Neo-Hooke: an energy in UFL, its derivatives by UFL, nothing else.
Both are compiled with the flags of `fem.dolfinx_versions`. Fused path: `fem.fused.FusedElasticity`, the law inside the
element kernel. Times are CPU seconds of this process, the least of several
rounds in which all parts take turns.
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
from dolfinx.fem import petsc
from evaluator import the_law
from mpi4py import MPI

from constitutive import Evaluator
from fem import QuadratureMaterial
from fem import dolfinx_versions as versions
from fem.fused import FusedElasticity
from fem.residual import tangent_form

ROUNDS = 5


def displacement(cells: int, kind: str = "hexahedron") -> fem.Function:
    """A cube with a smooth displacement of some per cent of strain."""
    domain = mesh.create_unit_cube(MPI.COMM_SELF, cells, cells, cells, getattr(mesh.CellType, kind))
    u = fem.Function(versions.lagrange_space(domain, "CG", 1, (3,)))

    def field(x: np.ndarray) -> np.ndarray:
        return 0.02 * np.stack([np.sin(2 * x[1]) + x[0], np.cos(3 * x[2]) * x[0], np.sin(x[0] + x[1]) - x[2]])

    u.interpolate(field)
    return u


def neo_hooke(u: fem.Function, degree: int) -> tuple[ufl.Form, ufl.Form]:
    """Residual and tangent of W = μ/2 (tr C − 3 − 2 ln J) + λ/2 (ln J)²."""
    deformation = ufl.variable(ufl.Identity(3) + ufl.grad(u))
    log = ufl.ln(ufl.det(deformation))
    energy = 20.0 * (ufl.inner(deformation, deformation) - 3 - 2 * log) + 30.0 * log**2
    v, du = ufl.TestFunction(u.function_space), ufl.TrialFunction(u.function_space)
    residual = ufl.derivative(energy * ufl.dx(metadata={"quadrature_degree": degree}), u, v)
    return residual, ufl.derivative(residual, u, du)


def assembler(form: ufl.Form) -> tuple[Callable[[], None], object]:
    """Function that assembles a form into a vector or matrix of its own."""
    compiled = versions.compile_form(form)
    if len(form.arguments()) == 1:
        vector = versions.ghosted_vector(form.arguments()[0].ufl_function_space())

        def fill() -> None:
            vector.set(0.0)
            petsc.assemble_vector(vector, compiled)

        return fill, vector
    matrix = petsc.create_matrix(compiled)

    def fill_matrix() -> None:
        matrix.zeroEntries()
        petsc.assemble_matrix(matrix, compiled)
        matrix.assemble()

    return fill_matrix, matrix


def least(parts: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Least CPU seconds of each part."""
    for run in parts.values():
        run()
    seconds = dict.fromkeys(parts, np.inf)
    for _ in range(ROUNDS):
        for name, run in parts.items():
            start = time.process_time()
            run()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=24)
    cells = parser.parse_args().cells
    torch.set_num_threads(1)
    law = the_law()
    law.evaluator = Evaluator(law, "c")
    u = displacement(cells)
    material = QuadratureMaterial(law, u, degree=2)
    points = len(material.status)
    residual = material.virtual_work(ufl.TestFunction(u.function_space))
    ours, ours_matrix = assembler(residual), assembler(tangent_form(residual, u, [material]))
    theirs, theirs_matrix = (assembler(form) for form in neo_hooke(u, 2))
    watched = material._watched
    strain = np.ascontiguousarray(material._evaluate(watched, material._watched_size)[:, :6])
    fused = FusedElasticity(law, u, 2)
    vector, matrix = fused.create_vector(), fused.create_matrix()

    def fused_residual() -> None:
        vector.set(0.0)
        fused.assemble_vector(vector)

    def fused_matrix() -> None:
        fused.assemble_matrix(matrix)

    parts = {
        "strain": lambda: material._evaluate(watched, material._watched_size),
        "law, stress and tangent": lambda: law.response(strain),
        "law, stress alone": lambda: law.response(strain, tangent=False),
        "update (strain, law, copies)": lambda: material.update(tangent=True),
        "residual": ours[0],
        "matrix": ours_matrix[0],
        "Neo-Hooke residual": theirs[0],
        "Neo-Hooke matrix": theirs_matrix[0],
        "fused residual": fused_residual,
        "fused matrix": fused_matrix,
    }
    seconds = least(parts)
    print(
        f"{date.today()}, {platform.machine()}, DOLFINx {dolfinx.__version__}, one rank, hex8, {points} points, {law.evaluator!r}"
    )
    for name, value in seconds.items():
        print(f"  {name:<30}{1e3 * value:>9.1f} ms{1e9 * value / points:>9.0f} ns a point")
    rival = seconds["Neo-Hooke residual"] + seconds["Neo-Hooke matrix"]
    general = seconds["update (strain, law, copies)"] + seconds["residual"] + seconds["matrix"]
    print(f"general path: {1e3 * general:.0f} ms against {1e3 * rival:.0f} ms of Neo-Hooke: {general / rival:.2f} ×")
    lazy = general + seconds["strain"] + seconds["law, stress alone"]
    print(f"  with the stress alone evaluated once more for the residual, as SNES asks: {lazy / rival:.2f} ×")
    together = seconds["fused residual"] + seconds["fused matrix"]
    print(f"fused path: {1e3 * together:.0f} ms against {1e3 * rival:.0f} ms of Neo-Hooke: {together / rival:.2f} ×")
    difference = matrix.copy()
    difference.axpy(-1.0, ours_matrix[1])
    wrong = np.abs(vector.array - ours[1].array).max() / np.abs(ours[1].array).max()
    print(f"both paths: matrices differ by {difference.norm() / ours_matrix[1].norm():.1e}, residuals by {wrong:.1e}")


if __name__ == "__main__":
    main()
