"""An image in, moduli out: phases as people write them, the result, the picture, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from click.testing import CliRunner

import constitutive
from constitutive import CrystalModuli, PolynomialLaw, crystal_moduli
from constitutive.cli import main
from constitutive.moduli import moduli, voxel_stiffness
from constitutive.phases import phase_stiffness
from crystals import PointGroup, generators, mandel, stiffness_from_constants
from crystals.rotations import rotate_matrix, rotation_from_bunge

GLASS, RESIN = "E=70 nu=0.2", "E=3 nu=0.35"


def test_ways_to_write_a_phase(tmp_path: Path) -> None:
    steel = phase_stiffness("steel", "E=210 nu=0.3")
    assert steel is not None
    shear, compression = 210 / 2.6, 210 / 1.2
    assert np.isclose(steel[3, 3], 2 * shear) and np.isclose(mandel.IDENTITY @ steel @ mandel.IDENTITY / 9, compression)
    for text in (
        f"K={compression} G={shear}",
        f"E=210 G={shear}",
        f"K={compression} E=210",
        f"nu=0.3 K={compression}",
        f"G={shear} nu=0.3",
        "E=210, nu=0.3",
    ):
        assert np.allclose(phase_stiffness("steel", text), steel, rtol=1e-12)
    copper = stiffness_from_constants(PointGroup("m-3m"), {"C11": 168.4, "C12": 121.4, "C44": 75.4})
    assert np.allclose(phase_stiffness("Cu", "C11=168.4 C12=121.4 C44=75.4"), copper)
    law = constitutive.PolynomialLaw(PointGroup("m-3m"), 2, copper)
    law.save(tmp_path / "copper.law")
    turned = rotate_matrix(rotation_from_bunge(np.array([30.0, 40.0, 50.0]), degrees=True), copper)
    assert np.allclose(phase_stiffness("Cu", f"{tmp_path / 'copper.law'} bunge=30,40,50"), turned)
    for material in (law, copper, {"C11": 168.4, "C12": 121.4, "C44": 75.4}, tmp_path / "copper.law"):
        assert np.allclose(phase_stiffness("Cu", material), copper)
    assert not np.any(phase_stiffness("", "pore"))
    for wrong in ("E=70", "E=70 nu=0.5", "E=-1 nu=0.2", "soft", "C11=1 C12=2", "E=70 nu=x", "m-3m E=3 nu=0.2"):
        with pytest.raises(ValueError, match="expected"):
            phase_stiffness("phase 1", wrong)
    with pytest.raises(TypeError, match="law file"):
        phase_stiffness("phase 1", [1, 2])


def test_auto_keeps_its_word_and_exact_is_inside() -> None:
    image = generators.ellipsoids(12, 0.3, 4, seed=2)
    quick = moduli(image, {0: RESIN, 1: GLASS}, error=0.02)
    exact = moduli(image, {0: RESIN, 1: GLASS}, gear="exact")
    assert quick.certified and quick.width <= 0.02 and exact.width < 1e-6
    assert quick.iterations < exact.iterations
    assert np.linalg.norm(quick.stiffness - exact.stiffness) <= 0.02 * np.linalg.norm(exact.stiffness)
    chain = (exact.reuss, quick.lower, exact.stiffness, quick.upper, exact.voigt)
    for low, high in zip(chain, chain[1:], strict=False):
        assert np.linalg.eigvalsh(high - low)[0] > -1e-6 * np.linalg.norm(high)


def test_engineering_moduli_by_hand() -> None:
    """One phase alone gives its constants back; layers across x obey the rule of mixtures along y."""
    alone = moduli(np.zeros((4, 4, 4), dtype=int), GLASS)
    assert np.allclose([alone.engineering[k] for k in ("E1", "E2", "E3")], 70.0)
    assert np.allclose([alone.engineering[k] for k in ("G23", "G13", "G12")], 70 / 2.4)
    assert np.allclose([alone.engineering[k] for k in ("nu12", "nu13", "nu23")], 0.2)
    assert abs(alone.isotropic["A"]) < 1e-12 and np.isclose(alone.young([1, 1, 0]), 70.0)
    assert alone.iterations == 0 and alone.width < 1e-12
    layers = moduli(generators.laminate(8, 0.5, axis=0), {0: "E=1 nu=0", 1: "E=3 nu=0"}, gear="exact").engineering
    assert np.isclose(layers["E2"], 2.0) and np.isclose(layers["E1"], 1.5) and np.isclose(layers["G12"], 0.75)
    assert abs(layers["nu12"]) < 1e-9


def test_law_of_an_image_saves_and_loads(tmp_path: Path) -> None:
    result = moduli(generators.gaussian_field(8, 0.4, seed=0), {0: RESIN, 1: GLASS})
    result.save(tmp_path / "a.law")
    law = constitutive.load(tmp_path / "a.law")
    strain = 1e-3 * np.random.default_rng(0).normal(size=(4, 6))
    assert np.allclose(law.stress_and_tangent(strain)[0], strain @ result.stiffness, rtol=1e-12)
    assert law.metadata["homogenisation"]["bracket_width"] == result.width
    mirrored = moduli(generators.gaussian_field(6, 0.4, seed=0), {0: RESIN, 1: GLASS}, boundary="mirror", gear="exact")
    assert mirrored.law.group.symbol == "mmm" and "mirrored" in str(mirrored)
    assert np.allclose(mirrored.law.stiffness(), mirrored.stiffness, atol=1e-8)
    # negative control: unmirrored, the image is not orthotropic
    assert np.abs(result.stiffness[:3, 3:]).max() > 1e-3 * np.abs(mirrored.stiffness[:3, 3:]).max()


def test_grains_with_orientations() -> None:
    image = generators.polycrystal(8, 5, seed=1)
    assert image.orientations is not None
    result = moduli(image, "C11=168.4 C12=121.4 C44=75.4", gear="exact")
    copper = phase_stiffness("", "C11=168.4 C12=121.4 C44=75.4")
    assert copper is not None
    labels, table = voxel_stiffness(image, {0: copper})
    assert np.allclose(table[labels[2, 3, 4]], rotate_matrix(image.orientations[image.labels[2, 3, 4]], copper))
    assert np.isclose(mandel.IDENTITY @ result.stiffness @ mandel.IDENTITY / 9, (168.4 + 2 * 121.4) / 3, rtol=1e-9)
    assert "5 grains" in str(result)
    # the same grains without their orientations are a single crystal, and are called so
    one = moduli(image.labels, "C11=168.4 C12=121.4 C44=75.4")
    assert np.allclose(one.stiffness, copper) and "that crystal, unturned" in str(one)
    assert not result.notes and not moduli(image.labels, GLASS).notes


def test_pores_rigid_and_solids_that_do_not_connect() -> None:
    image = generators.spheres(9, 0.2, 2, seed=0)
    porous = moduli(image, {0: GLASS, 1: "pore"})
    assert not porous.certified and "estimated" in str(porous) and not porous.reuss.any()
    stiff = moduli(image, {0: RESIN, 1: "rigid"}, error=0.05)
    assert "rigid" in str(stiff) and stiff.stiffness[0, 0] > phase_stiffness("", RESIN)[0, 0]  # pyright: ignore[reportOptionalSubscript]
    dust = moduli(image, {0: "pore", 1: GLASS})
    assert "does not connect" in str(dust) and json.dumps(dust.to_dict())
    rows = str(dust).split("Voigt:\n")[1].splitlines()[:6]
    assert all(len(row.split()) == 6 for row in rows)  # no two numbers run together
    with pytest.raises(ValueError, match="does not connect"):
        _ = dust.law


def test_images_that_do_not_repeat() -> None:
    image = generators.gaussian_field(8, 0.4, 0.15, seed=3)
    phases = {0: "E=10 nu=0.3", 1: "E=40 nu=0.2"}
    open_faces = moduli(image, phases, boundary="uniform")
    periodic = moduli(image, phases, gear="exact")
    assert open_faces.certified and "uniform strain" in str(open_faces)
    assert np.linalg.eigvalsh(open_faces.upper - periodic.stiffness)[0] > 0
    assert np.linalg.eigvalsh(periodic.stiffness - open_faces.lower)[0] > 0
    porous = moduli(image, {0: "pore", 1: GLASS}, boundary="uniform")
    assert not porous.lower.any() and "no traction" in str(porous)


def test_scatter_shrinks_with_the_image() -> None:
    """Boxes of one phase do not scatter; those of finer structure scatter less."""
    coarse, fine = (
        moduli(generators.gaussian_field(16, 0.4, length, seed=1), {0: RESIN, 1: GLASS}, boxes=2)
        for length in (0.2, 0.06)
    )
    assert coarse.scatter is not None and fine.scatter is not None
    assert np.linalg.norm(fine.scatter) < 0.7 * np.linalg.norm(coarse.scatter)
    assert "image against material" in str(fine)
    alone = moduli(np.zeros((8, 8, 8), dtype=int), GLASS, boxes=2)
    assert alone.scatter is not None and np.abs(alone.scatter).max() < 1e-9


def test_picture(tmp_path: Path) -> None:
    result = moduli(generators.fibres(10, 0.2, 3), {0: RESIN, 1: GLASS})
    result.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 20_000


def test_mistakes_name_the_remedy() -> None:
    labels = generators.laminate(4, 0.5).labels
    with pytest.raises(ValueError, match="got none for 1"):
        moduli(labels, {0: GLASS})
    with pytest.raises(ValueError, match="Turn colours into one number"):
        moduli(np.zeros((4, 4, 4, 3), dtype=np.uint8), GLASS)
    with pytest.raises(ValueError, match="segment it first"):
        moduli(np.arange(125).reshape(5, 5, 5), {0: GLASS})
    with pytest.raises(ValueError, match="Name the file by its format"):
        moduli("rock.unknown", GLASS)
    with pytest.raises(ValueError, match="no phases and no options of images for a crystal structure"):
        moduli("NaCl.cif", GLASS)
    with pytest.raises(ValueError, match="no model for a voxel image"):
        moduli(labels, GLASS, model="emt_alloys")
    with pytest.raises(ValueError, match="gear among"):
        moduli(labels, GLASS, gear="warp")


def test_a_structure_is_read_by_the_same_call() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    result = moduli(atoms)
    assert isinstance(result, CrystalModuli)
    np.testing.assert_array_equal(result.stiffness, crystal_moduli(atoms).stiffness)
    assert np.linalg.eigvalsh(result.stiffness)[0] > 0 and isinstance(result.law, PolynomialLaw)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_command(tmp_path: Path) -> None:
    image = tmp_path / "rock.npy"
    np.save(image, generators.spinodoid(10, 0.6, wave_number=2.0, seed=3).labels)
    asked = ("moduli", str(image), "--phase", "0=pore", "--phase", f"1={GLASS}")
    code, text, error = run(*asked, "--plot", str(tmp_path / "rock.png"), "-o", str(tmp_path / "rock.law"))
    assert code == 0, error
    assert "stiffness, GPa, Voigt" in text and "bracket" in text and (tmp_path / "rock.png").exists()
    assert constitutive.load(tmp_path / "rock.law").stiffness()[0, 0] > 0
    code, text, _ = run(*asked, "--json")
    machine = json.loads(text)
    assert code == 0 and machine["fractions"]["1"] == 0.6 and np.shape(machine["stiffness_voigt"]) == (6, 6)
    code, _, error = run("moduli", str(image), "--phase", "1=pore")
    assert code == 2 and "expected a material for each phase" in error
    code, _, error = run(*asked, "-o", str(tmp_path / "rock.txt"))
    assert code == 2 and ".json" in error
    code, _, error = run("moduli", str(tmp_path / "no.tif"), "--phase", GLASS)
    assert code == 2 and "no file" in error
