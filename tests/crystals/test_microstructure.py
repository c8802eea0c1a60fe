"""Voxel images: generators meet their fractions, repeat, and readers agree on which axis is x."""

from __future__ import annotations

import base64
import itertools
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from crystals import generators
from crystals.microstructure import Microstructure
from crystals.rotations import rotation_from_bunge
from crystals.voxel_files import read_image

MAKERS = {
    "spheres": lambda n, s: generators.spheres(n, 0.2, 8, seed=s),
    "overlapping": lambda n, s: generators.spheres(n, 0.5, 8, seed=s, overlap=True),
    "ellipsoids": lambda n, s: generators.ellipsoids(n, 0.3, 6, (1.0, 0.5, 0.3), seed=s),
    "fibres": lambda n, s: generators.fibres(n, 0.15, 8, seed=s),
    "field": lambda n, s: generators.gaussian_field(n, 0.4, 0.1, seed=s),
    "spinodoid": lambda n, s: generators.spinodoid(n, 0.5, wave_number=3.0, seed=s),
    "waves": lambda n, s: generators.spinodoid(n, 0.3, waves=30, wave_number=3.0, seed=s),
}
FRACTIONS = dict(zip(MAKERS, (0.2, 0.5, 0.3, 0.15, 0.4, 0.5, 0.3), strict=True))


def surface(image: Microstructure, axis: int) -> float:
    """Share of neighbouring voxels along an axis that differ, and of those across the seam, as a ratio."""
    labels = image.labels
    differ = labels != np.roll(labels, -1, axis)
    seam = np.take(differ, -1, axis).mean()
    return float(seam / differ.mean())


@pytest.mark.parametrize("name", MAKERS)
def test_two_phase_generators(name: str) -> None:
    image = MAKERS[name](24, 0)
    assert abs(image.fractions[1] - FRACTIONS[name]) <= 0.5 / image.labels.size
    assert np.array_equal(image.labels, MAKERS[name](24, 0).labels)
    assert not np.array_equal(image.labels, MAKERS[name](24, 1).labels)
    # periodic: the seam is like any other plane, averaged over axes and seeds
    ratio = np.mean([surface(MAKERS[name](24, seed), axis) for seed in range(3) for axis in range(3)])
    assert 0.5 < ratio < 1.6
    # negative control: a half of the image does not repeat
    if name == "field":
        half = [surface(Microstructure(MAKERS[name](24, seed).labels[:12]), 0) for seed in range(6)]
        assert np.mean(half) > 2.0


def test_spheres_do_not_overlap_and_say_when_there_is_no_room() -> None:
    image = generators.spheres(40, 0.2, 4, seed=0)
    radius = (0.2 / 4 * 3 / (4 * np.pi)) ** (1 / 3)
    distance = generators._nearest((40, 40, 40), np.array([[0.5, 0.5, 0.5]]), lambda o, _: np.linalg.norm(o, axis=2))
    assert abs(np.sum(distance < radius) * 4 / 40**3 - 0.2) < 0.01  # four balls of that radius fill it
    from scipy.ndimage import label

    tiled = np.tile(image.labels, (2, 2, 2))
    assert label(tiled)[1] >= 4 * 8 - 4 * 4  # none have merged
    with pytest.raises(ValueError, match="overlap=True"):
        generators.spheres(16, 0.6, 30)


def test_polycrystal_is_the_nearest_point() -> None:
    image = generators.polycrystal((12, 8, 10), 9, seed=2)
    assert image.orientations is not None and len(np.unique(image.labels)) == 9
    points = np.random.default_rng(2).random((9, 3)) * np.array([12, 8, 10]) / 12
    voxel = (np.array([3, 7, 9]) + 0.5) / 12
    offsets = points - voxel
    edges = np.array([12, 8, 10]) / 12
    offsets -= edges * np.round(offsets / edges)
    assert image.labels[3, 7, 9] == np.argmin(np.linalg.norm(offsets, axis=1))
    assert set(image.fractions) == {0}


@pytest.mark.parametrize("kind", ["gyroid", "primitive", "diamond"])
def test_minimal_surfaces_halve_the_cell_alike(kind: str) -> None:
    """Both sides of the surface are congruent: P is its own inverse shifted by half a period along (1, 1, 1)."""
    labels = generators.minimal_surface(16, kind, 0.5).labels
    assert labels.mean() == 0.5
    if kind == "primitive":
        shifted = np.roll(labels, (8, 8, 8), (0, 1, 2))
        assert np.mean(shifted == 1 - labels) > 0.98
    sheet = generators.minimal_surface(16, kind, 0.2, sheet=True).labels
    assert abs(sheet.mean() - 0.2) < 1e-3


def test_spinodoid_cones_make_it_anisotropic() -> None:
    image = generators.spinodoid(32, 0.5, wave_number=4.0, cones=(20.0, 0.0, 0.0), seed=0)
    changes = [np.mean(image.labels != np.roll(image.labels, 1, axis)) for axis in range(3)]
    assert changes[0] > 2 * changes[1] and changes[0] > 2 * changes[2]
    with pytest.raises(ValueError, match="Widen the cones"):
        generators.spinodoid(8, 0.5, wave_number=0.4, cones=(1.0, 0.0, 0.0))


def test_transformed_is_a_group_action() -> None:
    image = Microstructure(np.random.default_rng(0).integers(0, 3, (3, 4, 5)), np.array([1.0, 2.0, 3.0]))
    operations = [
        np.eye(3)[list(p)] * np.array(s)[:, None]
        for p in itertools.permutations(range(3))
        for s in itertools.product((1, -1), repeat=3)
    ]
    for first, second in zip(operations[::5], operations[::7], strict=False):
        once = image.transformed(first).transformed(second)
        direct = image.transformed(second @ first)
        assert np.array_equal(once.labels, direct.labels) and np.allclose(once.spacing, direct.spacing)
    # a quarter turn about z carries +x onto +y
    corner = np.zeros((4, 4, 1), dtype=int)
    corner[3, 0, 0] = 1
    turned = Microstructure(corner).transformed(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert turned.labels[3, 3, 0] == 1
    with pytest.raises(ValueError, match="48 operations"):
        image.transformed(np.eye(3) * 2)


def test_mirrored_and_subvolumes() -> None:
    image = generators.gaussian_field(8, 0.5, seed=1)
    mirrored = image.mirrored()
    assert mirrored.shape == (16, 16, 16) and mirrored.fractions == image.fractions
    assert np.array_equal(mirrored.labels, np.flip(mirrored.labels, 1))
    parts = list(image.subvolumes(2))
    assert len(parts) == 8 and np.array_equal(parts[7].labels, image.labels[4:, 4:, 4:])


LABELS = np.random.default_rng(5).integers(0, 4, size=(4, 5, 6)).astype(np.uint8)


def write_vti(path: Path, how: str) -> None:
    flat = LABELS.transpose(2, 1, 0).tobytes()
    extent = "0 4 0 5 0 6"
    head = (
        '<?xml version="1.0"?>\n<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt32"'
        + (' compressor="vtkZLibDataCompressor"' if how == "zlib" else "")
        + f'>\n<ImageData WholeExtent="{extent}" Origin="0 0 0" Spacing="1 1 2.5">\n<Piece Extent="{extent}">\n<CellData>\n'
    )
    form = {"ascii": "ascii", "base64": "binary", "zlib": "binary", "raw": "appended"}[how]
    tag = f'<DataArray type="UInt8" Name="phase" format="{form}"' + (' offset="0"' if how == "raw" else "") + ">"
    if how == "ascii":
        body = " ".join(map(str, np.frombuffer(flat, np.uint8)))
    elif how == "base64":
        body = base64.b64encode(struct.pack("<I", len(flat)) + flat).decode()
    elif how == "zlib":
        blocks = [zlib.compress(flat[:64]), zlib.compress(flat[64:])]
        header = struct.pack("<5I", 2, 64, len(flat) - 64, len(blocks[0]), len(blocks[1]))
        body = (base64.b64encode(header) + base64.b64encode(b"".join(blocks))).decode()
    else:
        body = ""
    text = (head + tag + body + "</DataArray>\n</CellData>\n</Piece>\n</ImageData>\n").encode()
    if how == "raw":
        text += b'<AppendedData encoding="raw">\n_' + struct.pack("<I", len(flat)) + flat + b"\n</AppendedData>\n"
    path.write_bytes(text + b"</VTKFile>\n")


def write_vtk(path: Path, binary: bool) -> None:
    head = (
        f"# vtk DataFile Version 3.0\nimage\n{'BINARY' if binary else 'ASCII'}\nDATASET STRUCTURED_POINTS\n"
        "DIMENSIONS 5 6 7\nSPACING 1 1 2.5\nORIGIN 0 0 0\nCELL_DATA 120\nSCALARS phase short 1\nLOOKUP_TABLE default\n"
    )
    flat = LABELS.transpose(2, 1, 0).reshape(-1)
    data = flat.astype(">i2").tobytes() if binary else " ".join(map(str, flat)).encode()
    path.write_bytes(head.encode() + data + b"\n")


@pytest.mark.parametrize(
    "kind", ["npy", "npz", "h5", "fans", "raw", "vtk", "vtk binary", "ascii", "base64", "zlib", "raw vti", "tif"]
)
def test_every_format_gives_the_same_image(tmp_path: Path, kind: str) -> None:
    options = {}
    stretched = np.array([1.0, 1.0, 2.5])
    if kind == "npy":
        path = tmp_path / "a.npy"
        np.save(path, LABELS)
    elif kind == "npz":
        path = tmp_path / "a.npz"
        np.savez(path, image=LABELS, other=np.zeros(3))
    elif kind in ("h5", "fans"):
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            if kind == "h5":
                file["group/image"] = LABELS.astype(np.int32)
            else:
                file["group/image"] = LABELS.transpose(2, 1, 0)
                file["group/image"].attrs["permute_order"] = "zyx"
    elif kind == "raw":
        path = tmp_path / "a.raw"
        path.write_bytes(LABELS.transpose(2, 1, 0).astype(">u2").tobytes())
        options = {"shape": (4, 5, 6), "dtype": ">u2"}
    elif kind.startswith("vtk"):
        path = tmp_path / "a.vtk"
        write_vtk(path, "binary" in kind)
        with pytest.raises(ValueError, match=r"expected SCALARS phases in the file, got phase\. Name one of them"):
            read_image(path, dataset="phases")
    elif kind == "tif":
        tifffile = pytest.importorskip("tifffile")
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, LABELS.transpose(2, 1, 0))
    else:
        path = tmp_path / "a.vti"
        write_vti(path, kind.removesuffix(" vti"))
    image = read_image(path, **options)
    assert np.array_equal(image.labels, LABELS)
    if path.suffix in (".vtk", ".vti"):
        assert np.array_equal(image.spacing, stretched)
    assert np.array_equal(read_image(path, **options, spacing=(1, 2, 3)).spacing, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("version", [6, "NX"])
def test_dream3d(tmp_path: Path, version: object) -> None:
    """Grain ids from 1, Bunge angles in radians, z slowest; Q maps crystal → sample."""
    ids = LABELS.astype(np.int32) + 1
    angles = np.random.default_rng(1).random((5, 3))
    with h5py.File(tmp_path / "a.dream3d", "w") as file:
        if version == 6:
            root, cells, features = "DataContainers/SyntheticVolume", "CellData", "CellFeatureData"
            file[f"{root}/_SIMPL_GEOMETRY/SPACING"] = np.array([1.0, 1.0, 2.5], dtype="f4")
        else:
            root, cells, features = "DataStructure/Image Geometry", "Cell Data", "Cell Feature Data"
            file.create_group(root).attrs["_SPACING"] = np.array([1.0, 1.0, 2.5])
        file[f"{root}/{cells}/FeatureIds"] = ids.transpose(2, 1, 0)[..., None]
        file[f"{root}/{features}/Phases"] = np.array([0, 1, 1, 2, 1], dtype=np.int32)[:, None]
        file[f"{root}/{features}/EulerAngles"] = angles
    image = read_image(tmp_path / "a.dream3d")
    assert np.array_equal(image.labels, ids) and np.allclose(image.spacing, [1, 1, 2.5])
    assert image.orientations is not None
    assert np.allclose(image.orientations[3], rotation_from_bunge(angles[3]))
    assert np.array_equal(np.unique(image.phases[ids == 3]), [2])
    assert np.isclose(sum(image.fractions.values()), 1.0) and set(image.fractions) == {1, 2}


def test_reading_mistakes(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no file"):
        read_image(tmp_path / "none.npy")
    np.save(tmp_path / "grey.npy", np.random.default_rng(0).random((3, 3, 3)))
    with pytest.raises(TypeError, match="Segment it first"):
        read_image(tmp_path / "grey.npy")
    (tmp_path / "a.raw").write_bytes(b"123")
    with pytest.raises(ValueError, match="shape="):
        read_image(tmp_path / "a.raw")
    with pytest.raises(ValueError, match="expected 8 bytes"):
        read_image(tmp_path / "a.raw", shape=(2, 2, 2))
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"], file["b"] = LABELS, LABELS
    with pytest.raises(ValueError, match="dataset="):
        read_image(tmp_path / "two.h5")
    assert np.array_equal(read_image(tmp_path / "two.h5", dataset="b").labels, LABELS)
    (tmp_path / "cell.cif").write_text("data_")
    with pytest.raises(ValueError, match="name that ends in"):
        read_image(tmp_path / "cell.cif")
    with pytest.raises(ValueError, match="one for each label"):
        Microstructure(LABELS, orientations=np.eye(3)[None])
