"""Fifty grains of copper pulled along x: an orientation for each grain, one law, and what the grains make of it.

A cube is cut into Voronoi grains (a voxel map), each with a random orientation. Three faces slide on planes of symmetry,
the fourth is pulled, the others are free. The stiffness found lies between two bounds that hold for these very grains and
boundary conditions: from above by the uniform strains that the supports admit, from below by uniform stress.

    python examples/polycrystal.py                # everything below out/polycrystal
    python examples/polycrystal.py --law copper.law
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
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from matplotlib.colors import Normalize
from mpi4py import MPI
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

import constitutive
from crystals import PointGroup
from crystals.elastic_constants import stiffness_from_constants
from crystals.rotations import random_rotations, rotate_matrix
from fem import EquilibriumProblem, QuadratureMaterial, orientation_from_voxels, write_xdmf
from fem.dolfinx_versions import lagrange_space

STRETCH = 0.002  # nominal strain at full load


def voronoi_grains(size: int, grains: int, seed: int) -> np.ndarray:
    """Grain (size, size, size) of each voxel: that of the nearest of random points."""
    seeds = np.random.default_rng(seed).random((grains, 3))
    centres = (np.arange(size) + 0.5) / size
    voxels = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), axis=-1)
    distance = np.linalg.norm(voxels[..., None, :] - seeds, axis=-1)
    return np.argmin(distance, axis=-1)


def copper() -> constitutive.Law:
    """Copper with its measured constants (Simmons and Wang 1971): C11, C12, C44 = 168.4, 121.4, 75.4 GPa."""
    group = PointGroup("m-3m")
    stiffness = stiffness_from_constants(group, {"C11": 168.4, "C12": 121.4, "C44": 75.4})
    return constitutive.PolynomialLaw(group, 2, stiffness)


def solve(law: constitutive.Law, image: np.ndarray, rotations: np.ndarray, out: Path) -> dict[str, Any]:
    """Pull the cube; effective modulus, its bounds, and fields."""
    size = len(image)
    domain = mesh.create_box(MPI.COMM_WORLD, [np.zeros(3), np.ones(3)], [size] * 3, mesh.CellType.hexahedron)
    space = lagrange_space(domain, "CG", 1, (3,))
    u, v = dfem.Function(space), ufl.TestFunction(space)
    material = QuadratureMaterial(law, u, degree=2, orientation=orientation_from_voxels(image, rotations, 1.0 / size))
    moved = dfem.Constant(domain, 0.0)

    def face(k: int, place: float) -> tuple[Any, Any]:
        sub, _ = space.sub(k).collapse()
        return dfem.locate_dofs_geometrical((space.sub(k), sub), lambda x: np.isclose(x[k], place)), sub

    dofs, _ = face(0, 1.0)
    pulled = dfem.dirichletbc(moved, dofs[0], space.sub(0))
    bcs = [pulled]
    for k in range(3):
        dofs, sub = face(k, 0.0)
        bcs.append(dfem.dirichletbc(dfem.Function(sub), dofs, space.sub(k)))
    problem = EquilibriumProblem(material.virtual_work(v), u, [material], bcs=bcs)
    (step,) = problem.steps(moved, [STRETCH])
    modulus = float(step.reaction[0, 0]) / STRETCH
    print(f"{len(material.points())} quadrature points, {problem.solver}, {step.iterations} iterations")

    von_mises, cauchy = material.project("von_mises"), material.project("cauchy")
    write_xdmf(out / "polycrystal.xdmf", u, [von_mises, cauchy, material.project("strain_norm")])
    material.write(out / "points.h5")
    # by voxel, so that pictures do not hang on the numbering of cells
    centres = mesh.compute_midpoints(domain, 3, np.arange(len(material.cells), dtype=np.int32))
    field = np.full(image.shape, np.nan)
    field[tuple(np.floor(centres * size).astype(int).T)] = von_mises.x.array[: len(centres)]

    shares = np.bincount(image.ravel(), minlength=len(rotations)) / image.size
    stiffness = np.einsum("g,gij->ij", shares, rotate_matrix(rotations, law.stiffness()))
    compliance = np.einsum("g,gij->ij", shares, rotate_matrix(rotations, np.linalg.inv(law.stiffness())))
    return {
        "modulus": modulus,
        # uniform normal strains are admissible, shear of the whole cube is not
        "upper": float(1.0 / np.linalg.inv(stiffness[:3, :3])[0, 0]),
        "lower": float(1.0 / compliance[0, 0]),
        "von_mises": field,
        "by_grain": np.bincount(image.ravel(), field.ravel(), len(rotations)) / np.maximum(shares * image.size, 1),
        "along_x": 1.0 / rotate_matrix(rotations, np.linalg.inv(law.stiffness()))[:, 0, 0],
        "present": shares > 0,
    }


def pole_colours(rotations: np.ndarray) -> np.ndarray:
    """Colours (grains, 3) by the crystal direction along x: red 001, green 011, blue 111 (cubic inverse pole figure)."""
    low, middle, high = np.sort(np.abs(rotations[:, 0, :]), axis=1).T
    corners = np.stack([high - middle, (middle - low) * np.sqrt(2), low * np.sqrt(3)], axis=1)
    return np.sqrt(corners / corners.max(axis=1, keepdims=True))


def picture(image: np.ndarray, rotations: np.ndarray, found: dict[str, Any], path: Path) -> None:
    """Grains and von Mises stress on the cube, and stress against the stiffness of each grain."""
    size = len(image)
    colours = pole_colours(rotations)
    stress = found["von_mises"] * 1e3
    scale = Normalize(*np.percentile(stress, [1, 99]))
    figure = plt.figure(figsize=(14, 4.8), constrained_layout=True)
    for place, title in enumerate(("grains, coloured by the crystal direction along x", "von Mises stress, MPa")):
        axes: Any = figure.add_subplot(1, 3, place + 1, projection="3d")
        for axis in range(3):
            side = 0 if axis == 1 else size - 1  # the three faces that the camera sees
            labels, values = np.take(image, side, axis=axis), np.take(stress, side, axis=axis)
            i, j = (grid.ravel() for grid in np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
            corners = np.empty((size * size, 4, 3))
            first, second = (k for k in range(3) if k != axis)
            corners[..., axis] = 0 if axis == 1 else size
            corners[..., first] = np.stack([i, i + 1, i + 1, i], axis=1)
            corners[..., second] = np.stack([j, j, j + 1, j + 1], axis=1)
            shown = colours[labels.ravel()] if place == 0 else plt.get_cmap("viridis")(scale(values.ravel()))
            axes.add_collection3d(Poly3DCollection(corners / size, facecolors=shown, edgecolors="none"))
        axes.set(xlabel="x (pulled)", ylabel="y", zlabel="z", title=title, box_aspect=(1, 1, 1))
        axes.set(xticks=[0, 1], yticks=[0, 1], zticks=[0, 1])
        axes.view_init(elev=22, azim=-55)
        if place == 1:
            figure.colorbar(plt.cm.ScalarMappable(scale, "viridis"), ax=axes, shrink=0.6, pad=0.1)
    plain = figure.add_subplot(1, 3, 3)
    kept = found["present"]
    plain.scatter(
        found["along_x"][kept], 1e3 * found["by_grain"][kept], c=colours[kept], edgecolors="k", linewidths=0.4
    )
    plain.set(xlabel="Young's modulus of the grain along x, GPa", ylabel="mean von Mises stress of the grain, MPa")
    plain.set_title(f"whole: E = {found['modulus']:.1f} GPa, bounds {found['lower']:.1f} … {found['upper']:.1f}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(
    out: Path = Path("out/polycrystal"), size: int = 20, grains: int = 50, law: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """The whole story. Returns the figures that it prints."""
    out.mkdir(parents=True, exist_ok=True)
    image = voronoi_grains(size, grains, seed)
    rotations = random_rotations(grains, np.random.default_rng(seed + 1))
    found = solve(copper() if law is None else constitutive.load(law), image, rotations, out)
    summary = {
        "grains": int(found["present"].sum()),
        **{name: found[name] for name in ("modulus", "lower", "upper")},
        "stress_correlation": float(np.corrcoef(found["along_x"][found["present"]], found["by_grain"][found["present"]])[0, 1]),
    }  # fmt: skip
    if MPI.COMM_WORLD.size == 1:
        picture(image, rotations, found, out / "polycrystal.png")
    (out / "summary.json").write_text(json.dumps(summary, indent=2))
    print(f"{json.dumps(summary, indent=2)}\npicture, XDMF and points in {out}/")
    return summary


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/polycrystal"), help="folder for fields and pictures")
    parser.add_argument("--size", type=int, default=20, help="voxels, and cells, along an edge")
    parser.add_argument("--grains", type=int, default=50, help="number of grains")
    parser.add_argument("--law", type=Path, help="law file; by default copper with measured constants")
    arguments = parser.parse_args()
    main(arguments.out, arguments.size, arguments.grains, arguments.law)
