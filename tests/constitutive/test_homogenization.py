"""Effective stiffness of voxel images: closed forms, symmetry, bounds, and other people's solvers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from constitutive.bounds import hashin_shtrikman
from constitutive.homogenization import Cell, homogenize, uniform_bounds
from crystals import generators, mandel
from crystals.elastic_constants import stiffness_from_constants
from crystals.groups import PointGroup
from crystals.microstructure import Microstructure
from crystals.rotations import mandel_rotation, rotate_matrix, rotation_about

torch.set_num_threads(1)
CUBE = [
    np.eye(3)[list(order)] * np.array(signs)[:, None]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def isotropic(bulk: float, shear: float) -> np.ndarray:
    one = mandel.IDENTITY
    return (bulk - 2.0 * shear / 3.0) * np.outer(one, one) + 2.0 * shear * np.eye(6)


def cubic(c11: float, c12: float, c44: float) -> np.ndarray:
    return stiffness_from_constants(PointGroup("m-3m"), {"C11": c11, "C12": c12, "C44": c44})


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


TWO = np.array([isotropic(10.0, 6.0), isotropic(300.0, 150.0)])


@pytest.mark.parametrize("scheme", ["rotated"])
@pytest.mark.parametrize("seed", [0, 1])
def test_hill_equal_shear(scheme: str, seed: int) -> None:
    """Equal G: 1/(K + 4G/3) averages, for any image (Hill 1964, doi:10.1016/0022-5096(64)90019-5). Odd edges, any image."""
    labels = np.random.default_rng(seed).integers(0, 3, size=(9, 7, 11))
    bulk, shear = np.array([5.0, 40.0, 300.0]), 20.0
    cell = homogenize(labels, np.array([isotropic(k, shear) for k in bulk]), tolerance=1e-13, scheme=scheme)
    fractions = np.bincount(labels.ravel()) / labels.size
    expected = 1.0 / np.sum(fractions / (bulk + 4.0 * shear / 3.0)) - 4.0 * shear / 3.0
    assert difference(cell.stiffness, isotropic(expected, shear)) < 1e-12
    # negative control: unequal G, no such identity
    other = homogenize(labels, np.array([isotropic(k, shear + k) for k in bulk]), tolerance=1e-8)
    assert difference(other.stiffness, isotropic(expected, shear)) > 1e-2


def laminate_stiffness(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Two layers across axis 0: strains 22 33 23 and stresses 11 13 12 are common (Backus 1962,
    doi:10.1029/JZ067i011p04427)."""
    across, along = [0, 4, 5], [1, 2, 3]

    def parts(c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inverse = np.linalg.inv(c[np.ix_(across, across)])
        coupling = inverse @ c[np.ix_(across, along)]
        return inverse, coupling, c[np.ix_(along, along)] - c[np.ix_(along, across)] @ coupling

    mixed = [share * a + (1.0 - share) * b for a, b in zip(parts(first), parts(second), strict=True)]
    stiff = np.linalg.inv(mixed[0])
    out = np.zeros((6, 6))
    out[np.ix_(across, across)] = stiff
    out[np.ix_(across, along)] = stiff @ mixed[1]
    out[np.ix_(along, across)] = out[np.ix_(across, along)].T
    out[np.ix_(along, along)] = mixed[2] + mixed[1].T @ stiff @ mixed[1]
    return out


@pytest.mark.parametrize("scheme", ["rotated", "hexahedra"])
def test_laminate_of_triclinic_layers(scheme: str) -> None:
    generator = np.random.default_rng(3)
    roots = generator.normal(size=(2, 6, 6))
    phases = roots @ np.swapaxes(roots, 1, 2) + 0.5 * np.eye(6)
    image = generators.laminate((8, 3, 4), 0.375, axis=0)
    cell = homogenize(image.labels, phases, tolerance=1e-13, scheme=scheme)
    expected = laminate_stiffness(phases[1], phases[0], 0.375)
    assert difference(cell.stiffness, expected) < 1e-12
    assert difference(cell.lower, expected) < 1e-11


@pytest.mark.parametrize("scheme", ["rotated", "hexahedra"])
def test_every_cube_operation_and_shift(scheme: str) -> None:
    """C of the turned image is the turned C, at any stage of the iteration, spacing and orientations turned along."""
    generator = np.random.default_rng(0)
    turns = np.stack([rotation_about(generator.normal(size=3), a) for a in (0.4, 1.1, 2.0)])
    image = Microstructure(generator.integers(0, 3, size=(4, 5, 6)), np.array([1.0, 1.3, 0.8]), turns)
    crystal = stiffness_from_constants(
        PointGroup("-3m"), {"C11": 86.8, "C12": 7.0, "C13": 11.9, "C14": -18.0, "C33": 105.8, "C44": 58.2}
    )

    def solve(turned: Microstructure) -> np.ndarray:
        assert turned.orientations is not None
        table = rotate_matrix(turned.orientations, crystal)
        return homogenize(turned.labels, table, spacing=turned.spacing, scheme=scheme, steps=4).stiffness

    reference = solve(image)
    assert len(CUBE) == 48
    chosen = CUBE if scheme == "rotated" else CUBE[::11]
    for operation in chosen:
        turn = mandel_rotation(operation)
        assert difference(solve(image.transformed(operation)), turn @ reference @ turn.T) < 1e-12
    for shift in ((1, 0, 0), (2, 3, 1)):
        rolled = Microstructure(np.roll(image.labels, shift, (0, 1, 2)), image.spacing, turns)
        assert difference(solve(rolled), reference) < 1e-12
    # negative control: the image turned, the spacing not
    assert difference(solve(Microstructure(image.labels, np.array([1.3, 1.0, 0.8]), turns)), reference) > 1e-4


def test_a_turned_image_by_hand() -> None:
    """Frame of image and tensor: layers across x are softest along x, and along z when the image is turned onto z."""
    layers = generators.laminate(6, 0.5, axis=0)
    along = homogenize(layers.labels, TWO).stiffness
    assert along[0, 0] < 0.5 * along[2, 2] and np.isclose(along[1, 1], along[2, 2])
    x_to_z = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    turned = layers.transformed(x_to_z)
    assert np.array_equal(turned.labels, generators.laminate(6, 0.5, axis=2).labels)
    assert np.isclose(homogenize(turned.labels, TWO).stiffness[2, 2], along[0, 0])


@pytest.mark.parametrize("contrast", [100.0, 1e-2, 1e4, 1e-4])
def test_bounds_hold_at_every_step(contrast: float) -> None:
    """lower ≤ converged ≤ upper as matrices after 0, 1, 3, 10 steps, and they close in."""
    image = generators.ellipsoids(9, 0.3, 5, seed=1)
    phases = np.array([isotropic(2.0, 1.0), contrast * isotropic(1.0, 1.3)])
    exact = homogenize(image.labels, phases, tolerance=1e-9)
    assert exact.certified and exact.width < 1e-9
    widths = []
    for steps in (0, 1, 3, 10):
        cell = homogenize(image.labels, phases, steps=steps)
        scale = np.linalg.norm(exact.stiffness)
        assert np.linalg.eigvalsh(cell.upper - exact.stiffness)[0] > -1e-11 * scale
        assert np.linalg.eigvalsh(exact.stiffness - cell.lower)[0] > -1e-11 * scale
        widths.append(cell.width)
    assert widths[0] > widths[2] > widths[3]
    share = image.fractions[1]
    voigt = (1.0 - share) * phases[0] + share * phases[1]
    assert difference(homogenize(image.labels, phases, steps=0).upper, voigt) < 1e-12
    reuss = np.linalg.inv((1.0 - share) * np.linalg.inv(phases[0]) + share * np.linalg.inv(phases[1]))
    assert np.linalg.eigvalsh(exact.stiffness - reuss)[0] > 0 and np.linalg.eigvalsh(voigt - exact.stiffness)[0] > 0


def test_pores_and_what_is_certified() -> None:
    image = generators.spinodoid(12, 0.5, wave_number=2.0, seed=2)
    phases = np.array([np.zeros((6, 6)), isotropic(2.0, 1.0)])
    exact = homogenize(image.labels, phases, tolerance=1e-9)
    early = homogenize(image.labels, phases, steps=5)
    assert not exact.certified and not early.certified
    assert np.linalg.eigvalsh(early.upper - exact.stiffness)[0] > -1e-12
    # soft pores tend to true ones
    soft = homogenize(image.labels, np.array([1e-4 * phases[1], phases[1]]), error=1e-4)
    assert difference(soft.stiffness, exact.stiffness) < 5e-3
    assert np.linalg.eigvalsh(soft.lower - exact.stiffness)[0] > -1e-6
    # an isolated solid in a pore carries nothing
    island = np.zeros((8, 8, 8), dtype=int)
    island[2:5, 2:5, 2:5] = 1
    assert np.abs(homogenize(island, phases, tolerance=1e-8).stiffness).max() < 1e-6


def test_error_asked_for_is_kept() -> None:
    image = generators.spheres(11, 0.25, 4, seed=3)
    exact = homogenize(image.labels, TWO, tolerance=1e-9)
    for error in (0.05, 0.005):
        cell = homogenize(image.labels, TWO, error=error)
        assert cell.width <= error and difference(cell.stiffness, exact.stiffness) <= error
    assert homogenize(image.labels, TWO, error=0.05).iterations < exact.iterations


def test_many_images_equal_one_by_one() -> None:
    images = np.stack([generators.gaussian_field(8, 0.4, seed=s).labels for s in range(3)])
    tables = np.stack([TWO, TWO[::-1], np.array([TWO[0], cubic(168.4, 121.4, 75.4)])])
    cells = homogenize(images, tables, tolerance=1e-7)
    for image, table, cell in zip(images, tables, cells, strict=True):
        assert difference(homogenize(image, table, tolerance=1e-7).stiffness, cell.stiffness) < 1e-10


def coated_sphere_bulk(core: tuple[float, float], shell: tuple[float, float], share: float) -> float:
    """Bulk modulus of Hashin's assemblage (Hashin 1962, doi:10.1115/1.3636446); share of the core."""
    (k1, _), (k2, g2) = core, shell
    return k2 + share / (1.0 / (k1 - k2) + 3.0 * (1.0 - share) / (3.0 * k2 + 4.0 * g2))


def test_coated_sphere_converges() -> None:
    """A coated sphere is neutral in a matrix of the assemblage's own bulk modulus: K of the cell tends to it."""
    core, shell, radius, inner = (30.0, 20.0), (5.0, 3.0), 0.42, 0.3
    bulk = coated_sphere_bulk(core, shell, (inner / radius) ** 3)
    phases = np.array([isotropic(bulk, 7.0), isotropic(*shell), isotropic(*core)])
    errors = []
    for n in (9, 17, 33):
        grid = (np.arange(n) + 0.5) / n - 0.5
        distance = np.sqrt(grid[:, None, None] ** 2 + grid[None, :, None] ** 2 + grid[None, None, :] ** 2)
        labels = np.where(distance < inner, 2, np.where(distance < radius, 1, 0))
        cell = homogenize(labels, phases, tolerance=1e-5)
        found = mandel.IDENTITY @ cell.stiffness @ mandel.IDENTITY / 9.0
        errors.append(abs(found / bulk - 1.0))
    assert errors[2] < 0.01 and errors[2] < 0.5 * errors[0], errors


@pytest.mark.parametrize("seeds", [5])
def test_untextured_copper(seeds: int) -> None:
    """K of a polycrystal of cubic grains is that of the grain (Hill 1952), G the self-consistent one within 2 %."""
    copper = cubic(168.4, 121.4, 75.4)
    shears = []
    for seed in range(seeds):
        image = generators.polycrystal(15, 120, seed=seed)
        assert image.orientations is not None
        cell = homogenize(image.labels, rotate_matrix(image.orientations, copper), tolerance=1e-5)
        bulk = mandel.IDENTITY @ cell.stiffness @ mandel.IDENTITY / 9.0
        assert abs(bulk / ((168.4 + 2 * 121.4) / 3.0) - 1.0) < 1e-12
        shears.append((np.trace(cell.stiffness) - 3.0 * bulk) / 10.0)
    assert abs(np.mean(shears) / 48.17 - 1.0) < 0.02, shears


def test_hexahedra_and_rotated_converge_to_each_other() -> None:
    gaps = []
    for n in (8, 16):
        labels = generators.minimal_surface(n, "gyroid", 0.5).labels
        a, b = (homogenize(labels, TWO, scheme=s, tolerance=1e-6).stiffness for s in ("rotated", "hexahedra"))
        assert a[0, 0] < b[0, 0]  # one point a voxel is the softer element
        gaps.append(difference(a, b))
    assert gaps[1] < 0.7 * gaps[0]


def test_local_fields_are_in_equilibrium_with_the_answer() -> None:
    image = generators.spheres(9, 0.2, 2)
    cell: Cell = homogenize(image.labels, TWO, tolerance=1e-9, fields=True)
    assert cell.strain is not None and cell.stress is not None
    assert np.allclose(cell.strain.mean(axis=(2, 3, 4)), np.eye(6), atol=1e-12)
    assert difference(cell.stress.mean(axis=(2, 3, 4)).T, cell.stiffness) < 1e-8
    energy = np.einsum("kivwx,livwx->kl", cell.strain, cell.stress) / image.labels.size
    assert difference(energy, cell.stiffness) < 1e-12


def test_bracket_of_a_solid_that_hardly_holds_together() -> None:
    """The falls of the energy end the iteration where the residual, over the smallest eigenvalue, would not."""
    image = generators.spinodoid(10, 0.38, wave_number=2.0, seed=3)
    table = np.array([0.0 * TWO[0], TWO[1]])
    cell = homogenize(image.labels, table, error=0.05)
    exact = homogenize(image.labels, table, tolerance=1e-7).stiffness
    assert not cell.certified and cell.width <= 0.05
    assert np.linalg.norm(cell.stiffness - exact) <= 0.05 * np.linalg.norm(exact)
    assert homogenize(image.labels, table, steps=cell.iterations).width > 0.05


@pytest.mark.parametrize("kind", ["two phases", "anisotropic", "pores"])
def test_hashin_shtrikman_encloses(kind: str) -> None:
    """Two-point bounds of the image itself: tighter than Voigt and Reuss, and never violated."""
    phases = {"two phases": TWO, "pores": np.array([0.0 * TWO[0], TWO[1]])}.get(kind)
    if phases is None:
        phases = np.array([TWO[0], cubic(168.4, 121.4, 75.4)])
    for image in (generators.gaussian_field(8, 0.4, 0.15, seed=2), generators.spheres((7, 9, 8), 0.25, 2, seed=1)):
        exact = homogenize(image.labels, phases, tolerance=1e-7).stiffness
        lower, upper = hashin_shtrikman(image.labels, phases)
        voigt = np.einsum("m,mij->ij", np.bincount(image.labels.ravel()) / image.labels.size, phases)
        scale = np.linalg.norm(exact)
        assert np.linalg.eigvalsh(exact - lower)[0] > -1e-9 * scale
        assert np.linalg.eigvalsh(upper - exact)[0] > -1e-9 * scale
        assert np.linalg.norm(upper - exact) < 0.8 * np.linalg.norm(voigt - exact)
        assert lower.any() == (kind != "pores")
    # exact for layers of isotropic phases
    layers = generators.laminate(6, 0.5).labels
    exact = homogenize(layers, TWO, tolerance=1e-10).stiffness
    assert all(difference(bound, exact) < 1e-10 for bound in hashin_shtrikman(layers, TWO))


@pytest.mark.parametrize("scheme", ["rotated", "hexahedra"])
def test_uniform_stress_and_strain_enclose_the_periodic_answer(scheme: str) -> None:
    image = generators.gaussian_field(6, 0.4, 0.15, seed=1)
    phases = np.array([isotropic(2.0, 1.0), isotropic(10.0, 7.0)])
    static, kinematic, _ = uniform_bounds(image.labels, phases, scheme=scheme, spacing=(1.0, 1.2, 0.9))
    periodic = homogenize(image.labels, phases, tolerance=1e-7, scheme=scheme, spacing=(1.0, 1.2, 0.9)).stiffness
    scale = np.linalg.norm(periodic)
    assert np.linalg.eigvalsh(periodic - static)[0] > 1e-3 * scale
    assert np.linalg.eigvalsh(kinematic - periodic)[0] > 1e-3 * scale
    # one phase: no boundary condition matters
    static, kinematic, _ = uniform_bounds(np.zeros((4, 5, 3), dtype=int), phases, scheme=scheme)
    assert difference(static, phases[0]) < 1e-5 and difference(kinematic, phases[0]) < 1e-12


def test_mistakes_end_in_a_sentence() -> None:
    labels = generators.spheres(8, 0.2, 2).labels
    with pytest.raises(ValueError, match="one stiffness each"):
        homogenize(labels, TWO[:1])
    with pytest.raises(ValueError, match="pores alone"):
        homogenize(labels, np.zeros((2, 6, 6)))
    with pytest.raises(ValueError, match="negative eigenvalues"):
        homogenize(labels, np.array([TWO[0], -TWO[1]]))
    with pytest.raises(ValueError, match="rotated, hexahedra"):
        homogenize(labels, TWO, scheme="spectral")
    with pytest.raises(RuntimeError, match="raise maximum"):
        homogenize(labels, TWO, tolerance=1e-8, maximum=3)
