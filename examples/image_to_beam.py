"""A voxel image → moduli → a beam in DOLFINx, and the same beam with every voxel in it.

An image of glass spheres in epoxy is homogenised (`constitutive.moduli`, between bounds), and its law bends a cantilever.
The answer is held against Timoshenko's beam theory with the E and G found, and against a beam made of copies of the
image, one hexahedron a voxel. What is left between those two is size: few copies of the image stand across the beam, and
its faces cut through spheres. With two copies across instead of one it falls.

    python examples/image_to_beam.py                # everything below out/image_to_beam
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from mpi4py import MPI

import constitutive
from constitutive import PolynomialLaw
from crystals import PointGroup
from crystals.generators import spheres
from fem import EquilibriumProblem, QuadratureMaterial
from fem.dolfinx_versions import lagrange_space

PHASES = {0: "E=3 nu=0.35", 1: "E=70 nu=0.22"}  # GPa: epoxy, glass
SLENDER = 6  # length over height
BENT = 1e-4  # deflection of the end over length: small, so that theory is linear


def theory(stiffness: np.ndarray, length: float, height: float) -> float:
    """Deflection of the end of a cantilever of square section under a unit force (Timoshenko, shear coefficient 5/6)."""
    compliance = np.linalg.inv(stiffness)
    young, shear = 1.0 / compliance[0, 0], 0.5 / compliance[4, 4]  # a Mandel shear entry is half the engineering one
    return length**3 / (3.0 * young * height**4 / 12.0) + length / (5.0 / 6.0 * shear * height**2)


def bend(
    laws: list[constitutive.Law], labels: np.ndarray, size: tuple[float, float, float], force: float, order: int
) -> np.ndarray:
    """Deflection along the axis, rows of x and u_z, of a beam whose cells (nx, ny, nz) are made of laws[label].

    The section at x = 0 stays plane and may contract, as beam theory has it; the force acts on the other end, along z.
    """
    beam = mesh.create_box(MPI.COMM_WORLD, [np.zeros(3), np.array(size)], list(labels.shape), mesh.CellType.hexahedron)
    space = lagrange_space(beam, "CG", order, (3,))
    u, v = dfem.Function(space), ufl.TestFunction(space)
    cells = np.arange(beam.topology.index_map(3).size_local, dtype=np.int32)
    places = mesh.compute_midpoints(beam, 3, cells) / np.array(size) * np.array(labels.shape)
    tags = mesh.meshtags(beam, 3, cells, labels[tuple(np.floor(places).astype(int).T)].astype(np.int32))
    # a rule that leaves no mode of the cell without energy: 8 points for 8 nodes, 27 for 27
    materials = [QuadratureMaterial(law, u, degree=2 * order, subdomain=(tags, k)) for k, law in enumerate(laws)]
    facets = mesh.locate_entities_boundary(beam, 2, lambda x: np.isclose(x[0], size[0]))
    end = mesh.meshtags(beam, 2, np.sort(facets), np.full(len(facets), 1, dtype=np.int32))
    traction = dfem.Constant(beam, np.array([0.0, 0.0, force / (size[1] * size[2])]))
    force_side = ufl.Measure("ds", domain=beam, subdomain_data=end)(1)
    residual = materials[0].virtual_work(v) - ufl.inner(traction, v) * force_side
    for material in materials[1:]:
        residual += material.virtual_work(v)

    def held(axis: int, where: Any) -> Any:
        sub, _ = space.sub(axis).collapse()
        dofs = dfem.locate_dofs_geometrical((space.sub(axis), sub), lambda x: np.isclose(x[0], 0.0) & where(x))
        return dfem.dirichletbc(dfem.Function(sub), dofs, space.sub(axis))

    bcs = [
        held(0, lambda x: np.isfinite(x[0])), held(1, lambda x: np.isclose(x[1], size[1] / 2)),
        held(2, lambda x: np.isclose(x[2], size[2] / 2)),
    ]  # fmt: skip
    EquilibriumProblem(residual, u, materials, bcs=bcs).solve()
    points = space.tabulate_dof_coordinates()
    axis = np.flatnonzero(np.isclose(points[:, 1], size[1] / 2) & np.isclose(points[:, 2], size[2] / 2))
    line = np.stack([points[axis, 0], u.x.array.reshape(-1, 3)[axis, 2]], axis=1)
    return line[np.argsort(line[:, 0])]


def picture(image: np.ndarray, young: float, lines: dict[str, np.ndarray], ends: dict[int, Any], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.0), width_ratios=(1.5, 1), layout="constrained")
    across = max(ends)
    side = np.tile(image[:, 0, :], (SLENDER * across, across))
    left.imshow(
        side.T, origin="lower", cmap="cividis", extent=(0, SLENDER * across, 0, across), interpolation="nearest"
    )
    left.set(
        xlabel="x, images", ylabel="z, images", title=f"side of the beam: epoxy, glass; E {young:.2f} GPa along it"
    )
    for (name, line), style in zip(lines.items(), ("k.", "C0-"), strict=True):
        right.plot(line[:, 0], 1e3 * line[:, 1], style, lw=1.2, ms=3, label=name)
    right.plot(SLENDER * across, 1e3 * ends[across]["theory"], "C3o", mfc="none", ms=9, label="Timoshenko")
    right.set(xlabel="x, images", ylabel="deflection, 10⁻³ images", title=f"{across} images across")
    right.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(out: Path = Path("out/image_to_beam"), voxels: int = 8, across: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
    """The whole story. Returns the figures that it prints."""
    out.mkdir(parents=True, exist_ok=True)
    image = spheres(voxels, fraction=0.3, number=3, seed=0).labels
    np.save(out / "spheres.npy", image)

    # the elements of the voxel beams below, so that both see the same voxels
    result = constitutive.moduli(out / "spheres.npy", PHASES, gear="exact", scheme="hexahedra")
    assert isinstance(result, constitutive.ModuliResult)
    print(f"{result}\n")
    result.law.save(out / "spheres.law")
    homogenised = constitutive.load(out / "spheres.law")
    laws: list[constitutive.Law] = [PolynomialLaw(PointGroup("isotropic"), 2, result.phases[k]) for k in PHASES]

    ends: dict[int, Any] = {}
    lines: dict[str, np.ndarray] = {}
    for copies in across:
        height, length = float(copies), float(SLENDER * copies)
        unit = theory(result.stiffness, length, height)
        force, size = BENT * length / unit, (length, height, height)
        began = time.perf_counter()
        fine = np.tile(image, (SLENDER * copies, copies, copies))
        lines["every voxel"] = bend(laws, fine, size, force, 1)
        seconds = time.perf_counter() - began
        lines["homogenised"] = bend([homogenised], np.zeros((4 * SLENDER, 2, 2), dtype=int), size, force, 2)
        ends[copies] = {"theory": force * unit, **{name: float(line[-1, 1]) for name, line in lines.items()}}
        print(f"{copies} across: end moves {ends[copies]['homogenised']:.4e} homogenised, Timoshenko {force * unit:.4e}, "
              f"{ends[copies]['every voxel']:.4e} with all {fine.size} voxels ({seconds:.1f} s)")  # fmt: skip
    figures = {
        "young": float(result.young([1, 0, 0])), "bracket": result.width,
        "theory_error": max(abs(end["homogenised"] / end["theory"] - 1.0) for end in ends.values()),
        "size_effect": {copies: end["every voxel"] / end["homogenised"] - 1.0 for copies, end in ends.items()},
    }  # fmt: skip
    picture(image, figures["young"], lines, ends, out / "image_to_beam.png")
    (out / "summary.json").write_text(json.dumps(figures, indent=2))
    print(f"{json.dumps(figures, indent=2)}\npicture and law in {out}/")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/image_to_beam"), help="folder for law and picture")
    parser.add_argument("--voxels", type=int, default=8, help="edge of the image")
    parser.add_argument("--across", type=int, nargs="+", default=[1, 2], help="copies of the image across the beam")
    arguments = parser.parse_args()
    main(arguments.out, arguments.voxels, tuple(arguments.across))
