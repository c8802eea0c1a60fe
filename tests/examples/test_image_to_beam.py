"""An image becomes a beam: against beam theory, and against the beam of all its voxels, which it comes nearer to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("dolfinx", reason="needs DOLFINx")


@pytest.fixture(scope="module")
def story(example: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("image_to_beam")
    return example("image_to_beam").main(out, voxels=6), out


def test_the_homogenised_beam_bends_as_timoshenko_says(story: tuple[dict, Path]) -> None:
    assert story[0]["bracket"] < 1e-6
    assert story[0]["theory_error"] < 0.005


def test_the_size_effect_falls_with_more_images_across(story: tuple[dict, Path]) -> None:
    effect = {copies: abs(value) for copies, value in story[0]["size_effect"].items()}
    assert 0.01 < effect[2] < 0.75 * effect[1] < 0.15


def test_image_law_and_picture_are_written(story: tuple[dict, Path]) -> None:
    import constitutive

    out = story[1]
    assert constitutive.load(out / "spheres.law").metadata["kind"] == "homogenised"
    assert (out / "image_to_beam.png").stat().st_size > 10_000
