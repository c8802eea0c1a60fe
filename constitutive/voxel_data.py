"""Training set of the voxel network: random images, their stiffness, and what conjugate gradients know of it on the way.

    python -m constitutive.voxel_data images.h5 --number 3000
    mpirun -n 16 python -m constitutive.voxel_data images.h5 --number 3000

Images are solved in blocks that depend on their numbers alone, and each block is a file of its own in images.h5.parts
until all are there: a killed run goes on where it stopped, with any number of processes, and the set comes out the same.
Ranks are those of mpirun; where a cluster starts processes otherwise, --part and --parts say which blocks are whose.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import h5py as _h5py
import numpy as np
import torch

from crystals import generators
from crystals.elastic_constants import stiffness_from_constants
from crystals.groups import PointGroup
from crystals.microstructure import Microstructure
from crystals.rotations import random_rotations, rotate_matrix
from crystals.whole_file import whole_file

from .phases import isotropic_stiffness
from .voxel_grid import VoxelGrid
from .voxel_network import observe
from .voxel_solver import Solve

h5py: Any = _h5py  # comes without types
#: Families of images in the training set; the last is only ever tested on.
FAMILIES = ("spheres", "ellipsoids", "fibres", "field", "spinodoid", "surface", "polycrystal", "cones")
UNSEEN = "cones"
#: Conjugate-gradient steps after which a sample is recorded whole; upper bounds are kept of every step up to the last.
RECORDED = {"solid": (0, 1, 2, 3, 4, 5, 8), "pores": (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)}
#: Residual to which a sample is solved: the stiffness is then within about 10⁻⁴.
_CONVERGED = {"solid": 2e-3, "pores": 5e-4}
#: Samples that are solved together: of one size, all with pores or all without.
BLOCK = 16
_SIZES = (8, 9, 10, 11, 12)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of the training set."""

    family: str
    image: Microstructure
    table: np.ndarray

    @property
    def porous(self) -> bool:
        """Whether a phase has no stiffness."""
        return bool((self.table == 0).all(axis=(1, 2)).any())


def sample(
    index: int,
    family: str | None = None,
    size: int | None = None,
    porous: bool | None = None,
    crystal: bool = False,
) -> Sample:
    """Image number `index`: family, size, fraction, contrast (2 … 100, either way, or a pore) and Poisson ratios at random.

    With `crystal`, the grains of polycrystals are cubic (Zener ratio 0.25 … 8) and so is the solid around pores, a single
    crystal turned at random; without, grains have no symmetry and the rest is isotropic.
    """
    if crystal and family != "polycrystal" and not porous:
        raise ValueError("sample: expected crystal=True with family='polycrystal' or porous=True, got neither.")
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
        if crystal:
            return Sample(family, image, rotate_matrix(image.orientations, _cubic(generator)))
        # no symmetry: a random stiff matrix around an isotropic one
        root = np.eye(6) + 0.35 * generator.normal(size=(6, 6))
        random = root @ isotropic_stiffness(1.0, 0.5) @ root.T
        return Sample(family, image, rotate_matrix(image.orientations, 0.5 * (random + random.T)))
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
        if crystal:
            table[1] = rotate_matrix(random_rotations(1, generator)[0], _cubic(generator))
        if family not in ("spheres", "ellipsoids", "fibres"):
            flip = False
    if flip:
        table = table[::-1].copy()
    return Sample(family, image, table)


def _cubic(generator: np.random.Generator) -> np.ndarray:
    """Cubic stiffness (6, 6), bulk modulus 1: Poisson ratio of the average and Zener ratio 2 C44 / (C11 − C12) at random."""
    poisson, zener = generator.uniform(0.15, 0.42), 0.25 * 32.0 ** generator.random()
    shear = 1.5 * (1.0 - 2.0 * poisson) / (1.0 + poisson)
    # 2 C' + 3 C44 = 5 G, Voigt's average
    lower = 5.0 * shear / (2.0 + 3.0 * zener)
    c44 = zener * lower
    constants = {"C11": 1.0 + 4.0 * lower / 3.0, "C12": 1.0 - 2.0 * lower / 3.0, "C44": c44}
    return stiffness_from_constants(PointGroup("m-3m"), constants)


def record(
    block: list[Sample], tolerance: float | None = None, maximum: int = 2000
) -> list[dict[str, np.ndarray] | None]:
    """Of each sample of a block, the converged stiffness and what `Solve.trace` finds after each step, (steps + 1, 6, 6).

    Upper bounds are there for every step, the rest for those of `RECORDED` and zero between. None where the solid does
    not connect, or hardly (a stiffness below 10⁻⁴ of the Voigt average), and where the iteration does not converge.
    """
    compact = [one.image.compact() for one in block]
    most = max(len(kept) for _, kept in compact)
    table = np.zeros((len(block), most, 6, 6))
    for row, (one, (_, kept)) in zip(table, zip(block, compact, strict=True), strict=True):
        row[: len(kept)] = one.table[kept]
        row[len(kept) :] = one.table[kept[0]]
    labels = torch.tensor(np.stack([labels for labels, _ in compact]).astype(np.int32))
    grid = VoxelGrid(block[0].image.shape, np.ones(3), "rotated", torch.device("cpu"))
    kind = "pores" if block[0].porous else "solid"
    tolerance = tolerance or _CONVERGED[kind]
    with torch.no_grad():
        solve = Solve(grid, labels, torch.tensor(table))
        rows = observe(solve, RECORDED[kind])
        solve.advance(lambda product, *part: product <= tolerance**2 * solve.first[part], maximum)
        stuck = (solve.product > tolerance**2 * solve.first).any(dim=1).tolist()
        exact = [solve.trace(i)["upper"] for i in range(len(block))]
    return [
        None
        if stuck[i] or np.linalg.eigvalsh(exact[i])[0] < 1e-4 * np.linalg.eigvalsh(rows["upper"][i, 0])[-1]
        else {"stiffness": exact[i], **{name: values[i] for name, values in rows.items()}}
        for i in range(len(block))
    ]


def rank_and_ranks() -> tuple[int, int]:
    """Which process of how many this is, as Open MPI or a PMI launcher (MPICH, Intel MPI) tells it; (0, 1) otherwise."""
    for rank, ranks in (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE")):
        if rank in os.environ and ranks in os.environ:
            return int(os.environ[rank]), int(os.environ[ranks])
    return 0, 1


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--number", type=click.IntRange(min=1), default=3000, show_default=True, help="Samples of the whole set.")
@click.option("--first", default=0, show_default=True, help="Index of the first.")
@click.option("--part", type=click.IntRange(min=0), help="Which part this process makes; by default its MPI rank.")
@click.option("--parts", type=click.IntRange(min=1), help="Parts there are; by default the number of MPI ranks.")
@click.option("--family", type=click.Choice(FAMILIES), help="Only this family.")
@click.option("--size", type=click.IntRange(min=4), help="Only this many voxels an edge.")
@click.option("--porous", type=bool, help="Only with pores, or only without.")
@click.option("--crystal", is_flag=True, help="Cubic crystals, for polycrystals or around pores.")
def make(
    path: Path,
    number: int,
    first: int,
    part: int | None,
    parts: int | None,
    family: str | None,
    size: int | None,
    porous: bool | None,
    crystal: bool,
) -> None:
    """Write samples first … first + number − 1 to PATH (HDF5), those not there yet, in whole blocks of 16."""
    torch.set_num_threads(1)
    rank, ranks = rank_and_ranks()
    part, parts = rank if part is None else part, ranks if parts is None else parts
    if part >= parts:
        raise click.UsageError(f"--part: expected less than --parts {parts}, got {part}. Parts count from 0.")
    if first % BLOCK:
        raise click.UsageError(f"--first: expected a multiple of {BLOCK}, got {first}. Blocks start there.")
    choice = f"family={family} size={size} porous={porous} crystal={crystal}"
    folder = path.with_name(path.name + ".parts")
    starts = range(first, first + number, BLOCK)
    there = _names(path, choice)
    missing = [start for start in starts if any(name not in there for name in _block(start))]
    for start in missing[part::parts]:
        file_name = folder / f"{start:06d}.h5"
        if all(name in _names(file_name, choice) for name in _block(start)):
            continue
        folder.mkdir(exist_ok=True)
        samples = [sample(index, family, size, porous, crystal) for index in range(start, start + BLOCK)]
        with whole_file(file_name) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["choice"] = choice
            for name, one, found in zip(_block(start), samples, record(samples), strict=True):
                group = file.create_group(name)
                group.attrs["family"], group.attrs["porous"] = one.family, one.porous
                for key, value in (found or {}).items():
                    group.create_dataset(key, data=value, compression="gzip", compression_opts=1)
    done = [start for start in missing if (folder / f"{start:06d}.h5").is_file()]
    if len(done) < len(missing):
        click.echo(f"part {part}: {len(done)} of {len(missing)} blocks are there; the last process gathers them")
    elif missing:
        _gather(path, folder, missing, there, choice)


def _block(start: int) -> list[str]:
    return [f"{index:06d}" for index in range(start, start + BLOCK)]


def _names(path: Path, choice: str) -> set[str]:
    """Samples of a file; none where it is missing. Other choices of images may not be mixed in."""
    if not path.is_file():
        return set()
    with h5py.File(path, "r") as file:
        if file.attrs["choice"] != choice:
            raise click.UsageError(
                f"{path}: expected samples of {choice}, got {file.attrs['choice']}. Choose another file name."
            )
        return set(file)


def _gather(path: Path, folder: Path, starts: list[int], there: set[str], choice: str) -> None:
    """Put the samples of the set and of its parts into one file, in order, and take the parts away."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        # two processes may finish last: one gathers, and a kill lets go of the lock
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not all((folder / f"{start:06d}.h5").is_file() for start in starts):
            return
        with whole_file(path) as temporary, h5py.File(temporary, "w") as out:
            out.attrs["choice"] = choice
            out.attrs["recipe"] = f"python -m constitutive.voxel_data, {choice}"
            if there:
                with h5py.File(path, "r") as old:
                    for name in sorted(there):
                        old.copy(name, out)
            for start in starts:
                with h5py.File(folder / f"{start:06d}.h5", "r") as part:
                    for name in (name for name in _block(start) if name not in there):
                        part.copy(name, out)
        for start in starts:
            (folder / f"{start:06d}.h5").unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    except BlockingIOError:
        return
    finally:
        os.close(lock)


if __name__ == "__main__":
    make()
