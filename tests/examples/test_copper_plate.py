"""The main job, smaller: atoms → law → part, and the loop closed. Figures are those that `make demo` prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("dolfinx", reason="needs DOLFINx")


@pytest.fixture(scope="module")
def story(example: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("copper_plate")
    return example("copper_plate").main(out, states=160, size=(32, 7, 2), steps=3, workers=1), out


def test_elastic_constants_agree_with_finite_differences_of_emt(story: tuple[dict, Path]) -> None:
    assert story[0]["constants_error"] < 0.01


def test_the_loop_is_closed(story: tuple[dict, Path]) -> None:
    """EMT asked again at 50 quadrature points of the solved part: relative RMS stress error ≤ 1 %."""
    assert story[0]["loop_error"] < 0.01
    assert story[0]["largest_strain"] > 0.03


def test_newton_is_quadratic_and_the_audit_passes(story: tuple[dict, Path]) -> None:
    assert story[0]["audit_passed"]
    assert min(story[0]["newton_order"]) > 1.8


def test_copper_is_stiffest_along_111(story: tuple[dict, Path]) -> None:
    soft, middle, stiff = story[0]["final_force"]
    assert 0 < soft < middle < stiff


def test_pictures_law_and_fields_are_written(story: tuple[dict, Path]) -> None:
    import constitutive
    from crystals import StrainData

    out = story[1]
    assert constitutive.load(out / "copper.law").metadata["audit"]["passed"]
    assert len(StrainData.read(out / "copper.h5")) == 160
    assert (out / "copper_plate.png").stat().st_size > 20_000
    assert all((out / f"plate_{name}.xdmf").is_file() for name in ("100", "110", "111"))
    assert np.loadtxt(out / "force_displacement.csv", delimiter=",", skiprows=1).shape == (4, 4)
