"""Synthetic microstructures, all periodic and seeded: spheres, ellipsoids, fibres, grains, random fields, minimal surfaces.

Two-phase generators threshold a scalar field, so the volume fraction is met to one voxel: phase 1 is where the field is
lowest. A cell has edge 1 along its longest side; voxels are cubes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import KDTree

from .microstructure import Microstructure
from .rotations import random_rotations

#: Inclusions whose distance fields are held at once.
_CHUNK = 2**22


def _shape(size: int | tuple[int, int, int]) -> tuple[int, int, int]:
    shape = (size, size, size) if isinstance(size, (int, np.integer)) else tuple(int(n) for n in size)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"generators: expected a size n or (nx, ny, nz) of at least 1 voxel, got {size}.")
    return shape[0], shape[1], shape[2]


def _centres(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Voxel centres (nx, ny, nz, 3) and the edges of the cell (3,), the longest 1."""
    voxel = 1.0 / max(shape)
    axes = [(np.arange(n) + 0.5) * voxel for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), np.array(shape) * voxel


def threshold(field: np.ndarray, fraction: float, name: str) -> Microstructure:
    """Phase 1 where a field (nx, ny, nz) is lowest, so that it fills `fraction` of the cell to the nearest voxel."""
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"{name}: expected a volume fraction of phase 1 between 0 and 1, got {fraction}.")
    order = np.argsort(field, axis=None, kind="stable")
    labels = np.zeros(field.size, dtype=np.uint8)
    labels[order[: round(fraction * field.size)]] = 1
    return Microstructure(labels.reshape(field.shape), name=name)


def _nearest(
    shape: tuple[int, int, int], points: np.ndarray, measure: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Smallest measure(offsets (v, k, 3), which (k,)) over inclusions at points (m, 3), periodic, of every voxel."""
    centres, edges = _centres(shape)
    flat = centres.reshape(-1, 3)
    best = np.full(len(flat), np.inf)
    step = max(1, _CHUNK // len(flat))
    for start in range(0, len(points), step):
        chosen = np.arange(start, min(start + step, len(points)))
        offsets = flat[:, None, :] - points[chosen]
        offsets -= edges * np.round(offsets / edges)
        best = np.minimum(best, measure(offsets, chosen).min(axis=1))
    return best.reshape(shape)


def spheres(
    size: int | tuple[int, int, int], fraction: float = 0.2, number: int = 20, seed: int = 0, overlap: bool = False
) -> Microstructure:
    """Equal spheres of phase 1 at random places.

    Parameters
    ----------
    size : int or (3,)
        Voxels an edge.
    fraction : float
        Volume fraction of the spheres.
    number : int
        Spheres in the cell.
    seed : int
    overlap : bool
        Whether spheres may overlap (a Boolean model) or are placed one after the other without (random sequential
        addition, which ends near a fraction of 0.38).

    Raises
    ------
    ValueError
        For a fraction outside (0, 1), and where the spheres find no room.
    """
    shape, generator = _shape(size), np.random.default_rng(seed)
    edges = _centres(shape)[1]
    if overlap:
        points = generator.random((number, 3)) * edges
    else:
        # half a voxel of room between spheres, so that they do not merge on the grid
        diameter = 2.0 * (fraction * float(np.prod(edges)) / number * 3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
        points = np.empty((0, 3))
        for _ in range(200 * number):
            candidate = generator.random(3) * edges
            offsets = points - candidate
            offsets -= edges * np.round(offsets / edges)
            if np.all(np.linalg.norm(offsets, axis=1) >= diameter) and diameter <= edges.min():
                points = np.concatenate([points, candidate[None]])
            if len(points) == number:
                break
        if len(points) < number:
            raise ValueError(
                f"spheres: expected room for {number} spheres at fraction {fraction}, got {len(points)} placed. "
                "Lower the fraction, or let them overlap (overlap=True)."
            )
    field = _nearest(shape, points, lambda offsets, _: np.linalg.norm(offsets, axis=2))
    return threshold(field, fraction, "spheres")


def ellipsoids(
    size: int | tuple[int, int, int],
    fraction: float = 0.2,
    number: int = 20,
    axes: tuple[float, float, float] = (1.0, 1.0, 0.3),
    seed: int = 0,
    aligned: bool = False,
) -> Microstructure:
    """Equal ellipsoids of phase 1 that may overlap, turned at random or aligned with the cell.

    Parameters
    ----------
    size, fraction, number, seed
        As in `spheres`.
    axes : (3,)
        Ratios of the semi-axes: (1, 1, 0.3) is a flake, (0.3, 0.3, 1) a rod along z where aligned.
    aligned : bool
        Whether all keep the axes of the cell.
    """
    shape, generator = _shape(size), np.random.default_rng(seed)
    points = generator.random((number, 3)) * _centres(shape)[1]
    turns = np.broadcast_to(np.eye(3), (number, 3, 3)) if aligned else random_rotations(number, generator)
    scale = 1.0 / np.asarray(axes, dtype=float)
    if scale.shape != (3,) or not np.all(np.isfinite(scale)) or not np.all(scale > 0):
        raise ValueError(f"ellipsoids: expected three positive semi-axes, got {axes}.")

    def measure(offsets: np.ndarray, which: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.einsum("kji,vkj->vki", turns[which], offsets) * scale, axis=2)

    return threshold(_nearest(shape, points, measure), fraction, "ellipsoids")


def fibres(
    size: int | tuple[int, int, int],
    fraction: float = 0.2,
    number: int = 20,
    length: float = 0.8,
    direction: tuple[float, float, float] | None = None,
    seed: int = 0,
) -> Microstructure:
    """Straight fibres of phase 1 with round ends that may overlap.

    Parameters
    ----------
    size, fraction, number, seed
        As in `spheres`.
    length : float
        Of the axis of each fibre, as a share of the longest edge of the cell; at most 0.9, so that no fibre meets itself.
    direction : (3,), optional
        Common direction; by default each lies at random.
    """
    shape, generator = _shape(size), np.random.default_rng(seed)
    if not 0.0 < length <= 0.9:
        raise ValueError(f"fibres: expected a length in (0, 0.9], got {length}.")
    points = generator.random((number, 3)) * _centres(shape)[1]
    along = (
        generator.normal(size=(number, 3)) if direction is None else np.tile(np.asarray(direction, float), (number, 1))
    )
    along = along / np.linalg.norm(along, axis=1, keepdims=True)

    def measure(offsets: np.ndarray, which: np.ndarray) -> np.ndarray:
        place = np.clip(np.einsum("vkj,kj->vk", offsets, along[which]), -0.5 * length, 0.5 * length)
        return np.linalg.norm(offsets - place[:, :, None] * along[which], axis=2)

    return threshold(_nearest(shape, points, measure), fraction, "fibres")


def polycrystal(size: int | tuple[int, int, int], grains: int = 100, seed: int = 0) -> Microstructure:
    """Periodic Voronoi grains around random points, with uniformly random orientations (no texture).

    Parameters
    ----------
    size, seed
        As in `spheres`.
    grains : int
        Number of grains.
    """
    shape, generator = _shape(size), np.random.default_rng(seed)
    centres, edges = _centres(shape)
    tree = KDTree(generator.random((grains, 3)) * edges, boxsize=edges)
    labels = tree.query(centres.reshape(-1, 3))[1].reshape(shape).astype(np.int32)
    return Microstructure(labels, orientations=random_rotations(grains, generator), name="polycrystal")


def _wave_numbers(shape: tuple[int, int, int]) -> np.ndarray:
    """Angular wave vectors (nx, ny, nz // 2 + 1, 3) of the cell with longest edge 1."""
    largest = max(shape)
    axes = [np.fft.fftfreq(n, 1.0 / largest) for n in shape[:2]] + [np.fft.rfftfreq(shape[2], 1.0 / largest)]
    return 2.0 * np.pi * np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def gaussian_field(
    size: int | tuple[int, int, int],
    fraction: float = 0.5,
    length: float | tuple[float, float, float] = 0.1,
    seed: int = 0,
) -> Microstructure:
    """Level cut of a periodic Gaussian random field with covariance exp(−|r|²/(2 length²)).

    Parameters
    ----------
    size, fraction, seed
        As in `spheres`.
    length : float or (3,)
        Correlation length, along each axis, as a share of the longest edge.
    """
    shape, generator = _shape(size), np.random.default_rng(seed)
    lengths = np.broadcast_to(np.asarray(length, dtype=float), (3,))
    noise = np.fft.rfftn(generator.normal(size=shape))
    # the spectrum is the transform of the covariance; its root filters white noise
    noise *= np.exp(-0.25 * np.sum((_wave_numbers(shape) * lengths) ** 2, axis=-1))
    return threshold(np.fft.irfftn(noise, s=shape, axes=(0, 1, 2)), fraction, "Gaussian field")


def spinodoid(
    size: int | tuple[int, int, int],
    fraction: float = 0.5,
    waves: int | None = None,
    wave_number: float = 5.0,
    cones: tuple[float, float, float] | None = None,
    seed: int = 0,
) -> Microstructure:
    """Level cut of a sum of plane waves of almost one wave length: spinodal decomposition, nanoporous metals.

    A Gaussian field of fixed wave number (Cahn 1965, doi:10.1063/1.1695731); with cones, the anisotropic spinodoids of
    Kumar, Tan, Zheng and Kochmann 2020 (doi:10.1038/s41524-020-0341-6). Wave vectors are those of the periodic cell
    nearest to the wave number, as Soyarslan, Bargmann, Pradas and Weissmüller 2018 (doi:10.1016/j.actamat.2018.01.005).

    Parameters
    ----------
    size, fraction, seed
        As in `spheres`.
    waves : int, optional
        Number of waves; by default all wave vectors of the cell within 20 % of the wave number.
    wave_number : float
        Waves along the longest edge.
    cones : (3,), optional
        Half angles in degrees of the cones about x, y, z that wave vectors lie in; 0 leaves that axis out. By default
        all directions.

    Raises
    ------
    ValueError
        Where no wave vector of the cell is left.
    """
    shape, generator = _shape(size), np.random.default_rng(seed)
    centres, edges = _centres(shape)
    reach = [int(np.ceil(1.2 * wave_number * edge)) for edge in edges]
    grid = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), axis=-1).reshape(-1, 3)
    # of each pair ±k one is enough
    lead = grid[np.arange(len(grid)), np.argmax(grid != 0, axis=1)]
    vectors = grid[lead > 0] / edges
    length = np.linalg.norm(vectors, axis=1)
    kept = np.abs(length / wave_number - 1.0) <= 0.2
    if cones is not None:
        angle = np.degrees(np.arccos(np.clip(np.abs(vectors) / length[:, None], 0.0, 1.0)))
        kept &= np.any(
            angle <= np.asarray(cones, dtype=float) * (np.asarray(cones) > 0) - (np.asarray(cones) <= 0), axis=1
        )
    vectors, length = vectors[kept], length[kept]
    if len(vectors) == 0:
        raise ValueError(
            f"spinodoid: expected wave vectors of the cell near wave number {wave_number:g} within cones {cones}, got none. "
            "Widen the cones or raise the wave number."
        )
    if waves is not None and waves < len(vectors):
        nearest = np.argsort(np.abs(length - wave_number) + 1e-9 * generator.random(len(length)), kind="stable")
        # drawn from those closest to the wave number, twice as many as wanted, so that seeds differ
        vectors = vectors[generator.permutation(nearest[: 2 * waves])[:waves]]
    phases = generator.random(len(vectors)) * 2.0 * np.pi
    field = np.zeros(shape)
    for vector, phase in zip(2.0 * np.pi * vectors, phases, strict=True):
        field += np.cos(centres @ vector + phase)
    return threshold(field, fraction, "spinodoid")


#: Level-set functions of triply periodic minimal surfaces, at angles (..., 3) of one period.
_SURFACES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "gyroid": lambda s, c: s[..., 0] * c[..., 1] + s[..., 1] * c[..., 2] + s[..., 2] * c[..., 0],
    "primitive": lambda s, c: c[..., 0] + c[..., 1] + c[..., 2],
    "diamond": lambda s, c: (
        s[..., 0] * s[..., 1] * s[..., 2]
        + s[..., 0] * c[..., 1] * c[..., 2]
        + c[..., 0] * s[..., 1] * c[..., 2]
        + c[..., 0] * c[..., 1] * s[..., 2]
    ),
}


def minimal_surface(
    size: int | tuple[int, int, int], kind: str = "gyroid", fraction: float = 0.5, periods: int = 1, sheet: bool = False
) -> Microstructure:
    """Triply periodic minimal surface: the solid on one side of it, or a sheet about it (phase 1).

    Level-set approximations of the gyroid and of Schwarz's P and D surfaces (Schoen 1970, NASA TN D-5541).

    Parameters
    ----------
    size, fraction
        As in `spheres`.
    kind : str
        'gyroid', 'primitive' or 'diamond'.
    periods : int
        Periods along each edge.
    sheet : bool
    """
    if kind not in _SURFACES:
        raise ValueError(f"minimal_surface: expected a kind among {', '.join(_SURFACES)}, got {kind!r}.")
    centres, edges = _centres(_shape(size))
    angles = 2.0 * np.pi * periods * centres / edges
    field = _SURFACES[kind](np.sin(angles), np.cos(angles))
    return threshold(np.abs(field) if sheet else field, fraction, kind + (" sheet" if sheet else ""))


def laminate(size: int | tuple[int, int, int], fraction: float = 0.5, axis: int = 0) -> Microstructure:
    """Two layers across one axis; phase 1 fills `fraction`."""
    centres, _ = _centres(_shape(size))
    return threshold(centres[..., axis], fraction, "laminate")
