"""A law of your own in thirty lines: Fung's exponential law of soft tissue, audited, then pulled in DOLFINx.

A law says its energy, stress and tangent at a batch of strains; rotation, batches, status, audit and the coupling come
with the class `Law`. Here W = c/2 (exp Q − 1), Q = E·A·E (Fung, Fronek and Patitucci 1979,
doi:10.1152/ajpheart.1979.237.5.H620), with A of an orthotropic sheet whose fibres run along x. A strip of it, cut at 0°,
45° and 90° to the fibres, is pulled; at 0° and 90° the strain is uniform and must be that of a single material point.

    python examples/custom_law.py                # everything below out/custom_law
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from mpi4py import MPI

from constitutive import Law, audit, uniaxial
from crystals import PointGroup, mandel
from crystals.rotations import rotation_about
from fem import EquilibriumProblem, QuadratureMaterial
from fem.dolfinx_versions import lagrange_space


class FungLaw(Law):
    """W = c/2 (exp(E·A·E) − 1): c in `units`, A (6, 6) Mandel, positive definite, of class mmm."""

    def __init__(self, c: float, a: np.ndarray, units: str = "kPa") -> None:
        super().__init__(PointGroup("mmm"), units=units)
        self.c, self.a = float(c), torch.as_tensor(a, dtype=torch.float64)

    def _evaluate(self, strain: torch.Tensor, tangent: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        linear = strain @ self.a
        growth = self.c * torch.exp((strain * linear).sum(dim=1))
        energy, stress = 0.5 * (growth - self.c), growth[:, None] * linear
        if not tangent:
            return energy, stress, None
        dyad = linear[:, :, None] * linear[:, None, :]
        return energy, stress, mandel.pack_upper(growth[:, None, None] * (self.a + 2.0 * dyad))

    def config(self) -> dict[str, Any]:
        return {"c": self.c, "a": self.a.tolist(), "units": self.units}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FungLaw:
        return cls(config["c"], np.array(config["a"]), config["units"])


def tissue() -> FungLaw:
    """A sheet about three times stiffer along its fibres than across."""
    a = np.diag([12.0, 4.0, 4.0, 6.0, 6.0, 6.0])  # shear entries: twice the tensor's, since √2 stands on each index
    a[0, 1] = a[1, 0] = a[0, 2] = a[2, 0] = a[1, 2] = a[2, 1] = 1.5
    return FungLaw(10.0, a)


def pull(law: Law, angle: float, stretch: float, steps: int) -> tuple[np.ndarray, Any]:
    """Pull a strip cut at an angle (degrees) to the fibres: rows of strain and force per reference area (kPa)."""
    strip = mesh.create_box(
        MPI.COMM_WORLD, [np.zeros(3), np.array([4.0, 1.0, 0.2])], [16, 4, 1], mesh.CellType.hexahedron
    )
    space = lagrange_space(strip, "CG", 1, (3,))
    u, v = dfem.Function(space), ufl.TestFunction(space)
    # fibres at +angle from the pulled axis: the crystal's x axis is turned by it
    orientation = rotation_about(np.array([0.0, 0.0, 1.0]), np.radians(angle))
    material = QuadratureMaterial(law, u, degree=2, orientation=orientation)
    moved = dfem.Constant(strip, 0.0)

    def held(axis: int, where: Any, value: Any = None) -> Any:
        sub, _ = space.sub(axis).collapse()
        dofs = dfem.locate_dofs_geometrical((space.sub(axis), sub), where)
        if value is None:
            return dfem.dirichletbc(dfem.Function(sub), dofs, space.sub(axis))
        return dfem.dirichletbc(value, dofs[0], space.sub(axis))

    # both ends may contract: what is held besides is one point, and one line against turning
    pulled = held(0, lambda x: np.isclose(x[0], 4.0), moved)
    bcs = [
        pulled, held(0, lambda x: np.isclose(x[0], 0.0)), held(2, lambda x: np.isclose(x[0], 0.0) & np.isclose(x[2], 0.0)),
        held(1, lambda x: np.isclose(x[0], 0.0) & np.isclose(x[1], 0.0) & np.isclose(x[2], 0.0)),
    ]  # fmt: skip
    problem = EquilibriumProblem(material.virtual_work(v), u, [material], bcs=bcs)
    rows = [(0.0, 0.0)]
    for step in problem.steps(moved, 4.0 * np.linspace(0.0, stretch, steps + 1)[1:]):
        rows.append((step.load / 4.0, float(problem.reaction(pulled)[0]) / 0.2))
    return np.array(rows), u


def main(out: Path = Path("out/custom_law"), stretch: float = 0.3, steps: int = 6) -> dict[str, Any]:
    """The whole story. Returns the figures that it prints."""
    out.mkdir(parents=True, exist_ok=True)
    law = tissue()
    report = audit(law, number=200)
    print(f"{law!r}\n{report}\n")

    curves, shift, worst = {}, {}, 0.0
    for angle in (0, 45, 90):
        curves[angle], u = pull(law, angle, stretch, steps)
        end = np.isclose(u.function_space.tabulate_dof_coordinates()[:, 0], 4.0)
        shift[angle] = float(np.abs(u.x.array.reshape(-1, 3)[end, 1].mean()))
    for angle, direction in ((0, [1, 0, 0]), (90, [0, 1, 0])):
        point = np.array([step.stress for step in uniaxial(law, direction, to=stretch, steps=steps)])
        worst = max(worst, float(np.abs(curves[angle][1:, 1] / point - 1.0).max()))

    figure, axes = plt.subplots(figsize=(6.0, 4.2), layout="constrained")
    for angle, rows in curves.items():
        style = "o--" if angle == 45 else "o"  # not uniform: no material point has it
        axes.plot(100 * rows[:, 0], rows[:, 1], style, lw=0.8, ms=5, label=f"strip in DOLFINx, {angle}° to the fibres")
    for direction in ([1, 0, 0], [0, 1, 0]):
        found = list(uniaxial(law, direction, to=stretch, steps=40))
        label = "one material point" if direction[0] else None
        axes.plot([100 * s.strain for s in found], [s.stress for s in found], "k-", lw=0.8, label=label)
    axes.set(xlabel="nominal strain, %", ylabel="force per reference area, kPa")
    axes.legend(frameon=False)
    figure.savefig(out / "custom_law.png", dpi=110)
    plt.close(figure)

    figures: dict[str, Any] = {
        "audit_passed": report.passed, "point_against_strip": worst, "force": {k: float(c[-1, 1]) for k, c in curves.items()},
        "sideways": shift,
    }  # fmt: skip
    (out / "summary.json").write_text(json.dumps(figures, indent=2))
    print(f"{json.dumps(figures, indent=2)}\npicture in {out}/custom_law.png")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/custom_law"), help="folder for the picture")
    main(parser.parse_args().out)
