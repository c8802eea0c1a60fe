"""Training set of the voxel network: random images, their stiffness, and what a few iterations know of it.

    python -m constitutive.voxel_data images.h5 --number 3000 --part 0 --parts 2

A sample depends on its number alone, so parts run in as many processes as there are cores, or MPI ranks, each into its own file,
and a killed run goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import h5py as _h5py
import numpy as np
import torch

from crystals import generators
from crystals.microstructure import Microstructure
from crystals.rotations import rotate_matrix

from .phases import isotropic_stiffness
from .voxel_grid import VoxelGrid
from .voxel_solver import Solve, never

h5py: Any = _h5py  # comes without types
#: Families of images in the training set; the last is only ever tested on.
FAMILIES = ("spheres", "ellipsoids", "fibres", "field", "spinodoid", "surface", "polycrystal", "cones")
UNSEEN = "cones"
#: Conjugate-gradient steps after which a sample is recorded.
STEPS = 5
#: Samples that are solved together: of one size, all with pores or all without.
BLOCK = 16
_SIZES = (8, 9, 10, 11, 12)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of the training set."""

    family: str
    image: Microstructure
    table: np.ndarray


def sample(index: int, family: str | None = None, size: int | None = None, porous: bool | None = None) -> Sample:
    """Image number `index`: family, size, fraction, contrast (2 … 100, either way, or a pore) and Poisson ratios at random."""
    shared = np.random.default_rng([11, index // BLOCK])
    n, pore = int(shared.choice(_SIZES)), bool(shared.random() < 0.35)
    n, pore = size or n, pore if porous is None else porous
    generator = np.random.default_rng([7, index])
    drawn = FAMILIES[int(generator.integers(len(FAMILIES) - 1 - pore))]
    family = family or drawn
    seed = int(generator.integers(2**31))
    fraction = float(generator.uniform(0.08, 0.6))
    number = int(generator.integers(1, 12))
    length = float(generator.uniform(0.08, 0.2))
    waves = float(generator.uniform(1.5, 3.0))
    flip = bool(generator.random() < 0.5)
    if pore and family in ("spheres", "ellipsoids", "fibres"):
        flip = True  # the inclusions are the pores
    elif pore:
        fraction = float(generator.uniform(0.4, 0.85))  # of the solid, so that most connect
    contrast = float(2.0 * 50.0 ** generator.random())
    poisson = generator.uniform(0.1, 0.42, size=2)
    if family == "polycrystal":
        image = generators.polycrystal(n, int(generator.integers(8, 60)), seed)
        assert image.orientations is not None
        # cubic, hexagonal-like and lower: a random stiff matrix around an isotropic one
        root = np.eye(6) + 0.35 * generator.normal(size=(6, 6))
        crystal = root @ isotropic_stiffness(1.0, 0.5) @ root.T
        return Sample(family, image, rotate_matrix(image.orientations, 0.5 * (crystal + crystal.T)))
    if family == "spheres":
        image = generators.spheres(n, fraction, number, seed, overlap=True)
    elif family == "ellipsoids":
        axes = tuple(float(a) for a in generator.uniform(0.25, 1.0, size=3))
        image = generators.ellipsoids(n, fraction, number, (axes[0], axes[1], axes[2]), seed, aligned=flip)
    elif family == "fibres":
        image = generators.fibres(n, fraction, number, float(generator.uniform(0.3, 0.9)), None, seed)
    elif family == "field":
        image = generators.gaussian_field(n, fraction, length, seed)
    elif family == "spinodoid":
        image = generators.spinodoid(n, fraction, wave_number=waves, seed=seed)
    elif family == "cones":
        opening = [0.0, 0.0, 0.0]
        opening[int(generator.integers(3))] = float(generator.uniform(20.0, 45.0))
        image = generators.spinodoid(n, fraction, None, 2.5, (opening[0], opening[1], opening[2]), seed)
    else:
        kind = ("gyroid", "primitive", "diamond")[int(generator.integers(3))]
        image = generators.minimal_surface(n, kind, fraction, sheet=flip)
    e = np.array([1.0, contrast])
    bulk, shear = e / (3.0 * (1.0 - 2.0 * poisson)), e / (2.0 * (1.0 + poisson))
    table = np.stack([isotropic_stiffness(float(k), float(g)) for k, g in zip(bulk, shear, strict=True)])
    if pore:
        table[0] = 0.0
        if family not in ("spheres", "ellipsoids", "fibres"):
            flip = False
    if flip:
        table = table[::-1].copy()
    return Sample(family, image, table)


def record(block: list[Sample], tolerance: float = 2e-3, maximum: int = 500) -> list[dict[str, np.ndarray] | None]:
    """Bounds, residual products and moments of a block of samples after each step, and the converged stiffness.

    A residual of 2·10⁻³ leaves the stiffness within about 10⁻⁴. None where the solid does not connect, or hardly (a
    stiffness below 10⁻⁴ of the Voigt average), and where it does not converge.
    """
    compact = [one.image.compact() for one in block]
    most = max(len(kept) for _, kept in compact)
    table = np.zeros((len(block), most, 6, 6))
    for row, (one, (_, kept)) in zip(table, zip(block, compact, strict=True), strict=True):
        row[: len(kept)] = one.table[kept]
        row[len(kept) :] = one.table[kept[0]]
    labels = torch.tensor(np.stack([labels for labels, _ in compact]).astype(np.int32))
    grid = VoxelGrid(block[0].image.shape, np.ones(3), "rotated", torch.device("cpu"))
    rows: list[dict[str, list[np.ndarray]]] = [
        {name: [] for name in ("upper", "gram", "squares", "forces", "lower")} for _ in block
    ]
    with torch.no_grad():
        solve = Solve(grid, labels, torch.tensor(table))
        for step in range(STEPS + 1):
            solve.advance(never, 1 if step else 0)
            for i in range(len(block)):
                for name, value in solve.trace(i, lower=True).items():
                    rows[i][name].append(value)
        solve.advance(lambda product, *part: product <= tolerance**2 * solve.first[part], maximum)
        stuck = (solve.product > tolerance**2 * solve.first).any(dim=1).tolist()
        exact = [solve.trace(i)["upper"] for i in range(len(block))]
    return [
        None
        if stuck[i] or np.linalg.eigvalsh(exact[i])[0] < 1e-4 * np.linalg.eigvalsh(row["upper"][0])[-1]
        else {"stiffness": exact[i], **{name: np.stack(values) for name, values in row.items()}}
        for i, row in enumerate(rows)
    ]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--number", default=3000, show_default=True, help="Samples of the whole set.")
@click.option("--first", default=0, show_default=True, help="Index of the first.")
@click.option("--part", default=0, show_default=True, help="Which part this process makes.")
@click.option("--parts", default=1, show_default=True, help="Parts there are.")
@click.option("--family", help="Only this family.")
@click.option("--size", type=int, help="Only this many voxels an edge.")
@click.option("--porous", type=bool, help="Only with pores, or only without.")
def make(
    path: Path,
    number: int,
    first: int,
    part: int,
    parts: int,
    family: str | None,
    size: int | None,
    porous: bool | None,
) -> None:
    """Write samples first … first + number − 1 of one part to PATH (HDF5), those not there yet."""
    torch.set_num_threads(1)
    with h5py.File(path, "a") as file:
        file.attrs["recipe"] = f"voxel_data number={number} first={first} family={family} size={size} porous={porous}"
        for start in range(first + part * BLOCK, first + number, parts * BLOCK):
            names = [f"{index:06d}" for index in range(start, start + BLOCK)]
            if names[-1] in file:
                continue
            block = [sample(index, family, size, porous) for index in range(start, start + BLOCK)]
            for name, one, found in zip(names, block, record(block), strict=True):
                group = file.require_group(name)
                group.attrs["family"] = one.family
                group.attrs["porous"] = bool((one.table == 0).all(axis=(1, 2)).any())
                for key, value in (found or {}).items():
                    if key not in group:
                        group[key] = value
            file.flush()


if __name__ == "__main__":
    make()
