"""Extended XYZ becomes a law: its error on states left out, and its constants against the calculator's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def story(example: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("law_from_dft")
    return example("law_from_dft").main(out), out


def test_stress_on_states_left_out_and_constants(story: tuple[dict, Path]) -> None:
    figures = story[0]
    assert figures["group"] == "m-3m" and figures["states"] == 60
    assert figures["cross_validated_error"] < 0.005
    assert figures["constants_error"] < 0.01
    assert figures["audit_passed"]


def test_file_law_and_picture_are_written(story: tuple[dict, Path]) -> None:
    import constitutive
    from crystals import StrainData

    out = story[1]
    assert constitutive.load(out / "fitted.law").group.symbol == "m-3m"
    assert (out / "law_from_dft.png").stat().st_size > 10_000
    # a reference that the frames are no strained copies of is refused, by frame
    with pytest.raises(ValueError, match="frame"):
        StrainData.read(out / "strained.extxyz", reference="4.9")
