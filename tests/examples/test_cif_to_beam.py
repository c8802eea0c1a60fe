"""A CIF file becomes beams: learned constants against EMT's own, and every beam against Timoshenko's theory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("dolfinx", reason="needs DOLFINx")


@pytest.fixture(scope="module")
def story(example: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("cif_to_beam")
    return example("cif_to_beam").main(out, cells=(16, 2, 2)), out


def test_learned_constants_are_those_of_the_calculator(story: tuple[dict, Path]) -> None:
    assert story[0]["constants_error"] < 0.03


def test_every_beam_bends_as_timoshenko_says(story: tuple[dict, Path]) -> None:
    beams = story[0]["beams"]
    assert max(abs(beam["error"]) for beam in beams.values()) < 0.005
    # negative control: directions differ by far more than that
    assert beams["100"]["beam"] > 2 * beams["111"]["beam"]
    assert (story[1] / "cif_to_beam.png").stat().st_size > 20_000
