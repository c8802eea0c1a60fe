"""Atoms → law → part: copper from EMT, its symmetric law, and a single-crystal plate with a hole pulled along
[100], [110] and [111]; then EMT is asked again at strains that the solved plate has.

    python examples/copper_plate.py                # everything below out/copper_plate
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import ufl
from ase import Atoms
from ase.build import bulk
from dolfinx import fem as dfem
from matplotlib.collections import PolyCollection
from mpi4py import MPI
from tqdm import tqdm

import constitutive
from constitutive import audit, fit
from crystals import StrainData
from crystals.atomistic import StrainedCrystal, calculator_factory, strained_states
from crystals.elastic_constants import elastic_constants
from crystals.rotations import rotation_to_direction
from fem import EquilibriumProblem, QuadratureMaterial, write_xdmf
from fem.dolfinx_versions import cell_nodes, create_mesh, lagrange_space

RADIUS, HALF_WIDTH, THICKNESS = 1.0, 3.0, 0.6
STRETCH = 0.016  # nominal strain at full load; the hole's edge sees about four times as much
DISTURBANCE = 0.018  # of the smallest cell edge, where Newton's order is measured
DIRECTIONS = ((1, 0, 0), (1, 1, 0), (1, 1, 1))


def plate_mesh(around: int, outwards: int, through: int) -> Any:
    """Hexahedra between the hole and the square edge of the plate, finer towards the hole."""
    angle = 2.0 * np.pi * (np.arange(around) + 0.5) / around
    circle = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    square = HALF_WIDTH * direction / np.max(np.abs(direction), axis=1)[:, None]
    # the corners of the square have to be nodes: the nearest angle moves there
    for corner in HALF_WIDTH * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]):
        square[np.argmin(np.linalg.norm(square - corner, axis=1))] = corner
    grade = np.linspace(0.0, 1.0, outwards + 1) ** 1.5
    planar = circle[:, None] + grade[None, :, None] * (square - circle)[:, None]
    heights = np.linspace(0.0, THICKNESS, through + 1)
    number = np.arange(around * len(grade) * len(heights)).reshape(around, len(grade), len(heights))
    nodes = np.empty((*number.shape, 3))
    nodes[..., :2] = planar[:, :, None]
    nodes[..., 2] = heights
    i, j, k = np.meshgrid(np.arange(around), np.arange(outwards), np.arange(through), indexing="ij")
    following = (i + 1) % around
    # DOLFINx counts the corners of a hexahedron as a tensor product
    cells = np.stack(
        [number[a, b, c] for c in (k, k + 1) for a in (i, following) for b in (j, j + 1)], axis=-1
    ).reshape(-1, 8)
    return create_mesh(MPI.COMM_WORLD, cells, nodes.reshape(-1, 3), "hexahedron")


def pull(
    law: constitutive.Law, direction: tuple[int, int, int], size: tuple[int, int, int], steps: int, out: Path
) -> dict[str, Any]:
    """Pull the plate along a crystal direction; curves, fields and the states at the quadrature points."""
    mesh = plate_mesh(*size)
    space = lagrange_space(mesh, "CG", 1, (3,))
    u, v = dfem.Function(space), ufl.TestFunction(space)
    orientation = rotation_to_direction(np.array(direction), np.array([1, 0, 0]))
    material = QuadratureMaterial(law, u, degree=2, kinematics="finite", orientation=orientation)
    residual = material.virtual_work(v)

    fixed, moved = dfem.Function(space), dfem.Function(space)
    left = dfem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], -HALF_WIDTH))
    right = dfem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], HALF_WIDTH))
    grip, jaw = dfem.dirichletbc(fixed, left), dfem.dirichletbc(moved, right)

    def load(value: float) -> None:
        moved.x.array.reshape(-1, 3)[:] = (2.0 * HALF_WIDTH * STRETCH * value, 0.0, 0.0)

    problem = EquilibriumProblem(residual, u, [material], bcs=[grip, jaw])
    name = "".join(map(str, direction))
    print(f"\n[{name}]: {len(material.points())} quadrature points, {space.dofmap.index_map.size_global * 3} unknowns")
    strain, force = [0.0], [0.0]
    for step in problem.steps(load, targets=np.linspace(0, 1, steps + 1)[1:], start=0.0, progress=True):
        strain.append(step.load * STRETCH)
        force.append(float(problem.reaction(jaw)[0]))
        residuals = " ".join(f"{norm:.0e}" for norm in step.residuals)
        tqdm.write(  # keeps the progress bar in one piece
            f"  strain {100 * strain[-1]:.2f} %  force {force[-1]:.3f} GPa·length²  {step.iterations} iterations, {residuals}"
        )
    von_mises = material.project("von_mises")
    write_xdmf(out / f"plate_{name}.xdmf", u, [material.project("cauchy"), von_mises])
    edge = (HALF_WIDTH - RADIUS) / size[1] ** 1.5  # of the first ring of cells, see plate_mesh
    return {
        "name": name, "strain": np.array(strain), "force": np.array(force), "states": material.strain,
        "von_mises": von_mises.x.array, "mesh": mesh, "u": u, "order": newton_order(problem, u, edge),
    }  # fmt: skip


def newton_order(problem: EquilibriumProblem, u: Any, edge: float) -> float:
    """Order of convergence of Newton's method from a disturbed solution: towards 2 for a consistent tangent, 1 for
    any other. The disturbance leaves the supports alone and is a fixed share of the smallest cell edge: nodal noise
    strains a cell by its ratio to the edge, and too much of it leaves the region of convergence.
    """
    solved = u.x.array.copy()
    bump = np.random.default_rng(0).normal(size=len(solved)) * DISTURBANCE * edge
    for bc in problem.bcs:
        bump[np.unique(bc.dof_indices()[0])] = 0.0
    u.x.array[:] = solved + bump
    norms = np.array(problem.solve().residuals)
    print("  Newton from a disturbed solution: residuals " + " ".join(f"{norm:.1e}" for norm in norms))
    norms = norms[norms > 1e-13 * norms[0]][-3:]
    return float(np.log(norms[-1] / norms[-2]) / np.log(norms[-2] / norms[-3]))


def close_loop(law: constitutive.Law, data: StrainData, states: np.ndarray, number: int = 50) -> dict[str, Any]:
    """Ask EMT for the stress at strains that the part has, spread over their range, and compare with the law."""
    order = np.argsort(np.linalg.norm(states, axis=1))
    chosen = states[order[np.linspace(0.02 * len(order), len(order) - 1, number).astype(int)]]
    # The law counts strain from its own stress-free cell.
    atoms = _reference(data)
    atoms.set_cell(atoms.cell.array @ np.array(law.metadata["reference"]["stretch"]).T, scale_atoms=True)
    crystal = StrainedCrystal(atoms, calculator_factory("emt"))
    asked = np.array([crystal.stress(strain) for strain in chosen])
    answered = law.response(chosen, tangent=False).stress
    error = float(np.sqrt(np.sum((answered - asked) ** 2) / np.sum(asked**2)))
    return {"strain": chosen, "emt": asked, "law": answered, "error": error}


def picture(results: list[dict[str, Any]], loop: dict[str, Any], path: Path) -> None:
    """Von Mises stress on the deformed plates, force–displacement curves, and the closed loop."""
    figure = plt.figure(figsize=(13, 8), constrained_layout=True)
    figure.suptitle("copper single crystals, law fitted to EMT; displacements drawn five times")
    grid = figure.add_gridspec(2, 6)
    largest = max(np.percentile(result["von_mises"], 99.5) for result in results)
    for place, result in enumerate(results):
        axes = figure.add_subplot(grid[0, 2 * place : 2 * place + 2])
        mesh, u = result["mesh"], result["u"]
        moved = mesh.geometry.x + 5.0 * u.x.array.reshape(-1, 3)
        cells = cell_nodes(mesh)[: len(result["von_mises"])]
        top = [0, 1, 3, 2]
        at_front = np.isclose(mesh.geometry.x[cells[:, :4], 2], 0.0).all(axis=1)
        drawn = PolyCollection(moved[cells[at_front][:, top]][:, :, :2], array=result["von_mises"][at_front],
                               cmap="viridis", edgecolors="face", linewidths=0.2)  # fmt: skip
        drawn.set_clim(0.0, largest)
        axes.add_collection(drawn)
        axes.autoscale()
        axes.set_aspect("equal")
        axes.axis("off")
        axes.set_title(f"pulled along [{result['name']}]")
        if place == 2:
            figure.colorbar(drawn, ax=axes, label="von Mises stress, GPa", shrink=0.8)
    curves = figure.add_subplot(grid[1, :3])
    area = 2 * HALF_WIDTH * THICKNESS
    for result in results:
        curves.plot(100 * result["strain"], result["force"] / area, "o-", label=f"[{result['name']}]")
    curves.set(xlabel="nominal strain, %", ylabel="force / gross section, GPa")
    curves.legend()
    parity = figure.add_subplot(grid[1, 3:])
    parity.plot(loop["emt"].ravel(), loop["law"].ravel(), ".", ms=4)
    ends = [loop["emt"].min(), loop["emt"].max()]
    parity.plot(ends, ends, "k-", lw=0.7)
    parity.set(xlabel="S from EMT at the part's strains, GPa", ylabel="S from the law, GPa",
               title=f"the loop closed: {100 * loop['error']:.2f} % at {len(loop['strain'])} points")  # fmt: skip
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(
    out: Path = Path("out/copper_plate"), states: int = 320, size: tuple[int, int, int] = (64, 12, 4), steps: int = 6,
    workers: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The whole path. Returns the figures that it prints."""
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    print("1. atoms: copper strained with EMT, |E| ≤ 0.08, atoms relaxed")
    # any other ASE calculator is named by its import path, such as 'ase.calculators.lj:LennardJones'
    data = strained_states(bulk("Cu", "fcc", a=3.6), "emt", number=states, workers=workers or os.cpu_count() or 1)
    data.write(out / "copper.h5")
    assert data.group is not None and data.acoustic is not None
    print(f"   {data}; point group found: {data.group.symbol}; not elliptic: {int(np.sum(data.acoustic <= 0))} states")

    print("2. law: fitted to energies and stresses, a fifth of the states held out")
    law = fit(data, seed=0)
    figures = law.metadata["fit"]
    crystal = StrainedCrystal(_reference(data), calculator_factory("emt"))
    emt = elastic_constants(crystal.tangent(np.zeros(6)), data.group)
    fitted = law.metadata["elastic_constants"]
    worst = max(abs(fitted[name] / emt[name] - 1.0) for name in emt)
    print(f"   held-out stress error {100 * figures['held_out_stress_error']:.2f} % on {figures['held_out_states']} states; "
          f"{figures['energies']}")  # fmt: skip
    for name in emt:
        print(f"   {name}: law {fitted[name]:.2f}, EMT by finite differences {emt[name]:.2f} GPa")

    print("3. audit")
    report = audit(law)
    law.metadata["audit"] = report.to_dict()
    law.save(out / "copper.law")
    print(report)
    law = constitutive.load(out / "copper.law")
    print(f"   {law!r}")

    print("4. part: a plate with a hole, finite strain, law at every quadrature point")
    results = [pull(law, direction, size, steps, out) for direction in DIRECTIONS]

    print("\n5. the loop closed: EMT at strains of the part")
    loop = close_loop(law, data, np.concatenate([result["states"] for result in results]))
    sizes = np.linalg.norm(loop["strain"], axis=1)
    print(f"   relative RMS stress error {100 * loop['error']:.2f} % at {len(sizes)} points, "
          f"|E| from {sizes.min():.4f} to {sizes.max():.4f}")  # fmt: skip
    picture(results, loop, out / "copper_plate.png")
    np.savetxt(out / "force_displacement.csv",
               np.column_stack([results[0]["strain"], *(result["force"] for result in results)]),
               delimiter=",", header="nominal_strain," + ",".join(f"force_{r['name']}" for r in results), comments="")  # fmt: skip
    summary = {
        "constants_error": worst,
        "held_out_stress_error": figures["held_out_stress_error"],
        "audit_passed": report.passed,
        "loop_error": loop["error"],
        "largest_strain": float(sizes.max()),
        "quadrature_points": len(results[0]["states"]),
        "newton_order": [result["order"] for result in results],
        "final_force": [float(result["force"][-1]) for result in results],
        "seconds": time.monotonic() - began,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2))
    print(f"\n{json.dumps(summary, indent=2)}\npictures, law, data and XDMF in {out}/ (open copper_plate.png)")
    return summary


def _reference(data: StrainData) -> Atoms:
    from pymatgen.core import Structure
    from pymatgen.io.ase import AseAtomsAdaptor

    assert data.structure is not None
    atoms = Atoms(AseAtomsAdaptor.get_atoms(Structure.from_dict(data.structure)))
    atoms.set_cell(np.asarray(data.cell_ref), scale_atoms=True)
    return atoms


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/copper_plate"), help="folder for data, law and pictures")
    parser.add_argument("--states", type=int, default=320, help="strained cells")
    arguments = parser.parse_args()
    main(arguments.out, arguments.states)
