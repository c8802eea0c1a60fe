"""The alloy, with fewer states: one law over five compositions, asked at two that it never saw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import constitutive
from crystals import StrainData

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def story(example: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("alloy_composition")
    return example("alloy_composition").main(out, states=40, seeds=1), out


def test_misfit_and_constants_follow_the_composition(story: tuple[dict, Path]) -> None:
    figures = story[0]
    assert figures["misfit"] == pytest.approx(-0.0286, abs=2e-4)
    assert max(figures["edge_error"], figures["edge_error_unseen"]) < 5e-4
    assert max(figures["constants_error"], figures["constants_error_unseen"]) < 0.035


def test_stress_errors(story: tuple[dict, Path]) -> None:
    figures = story[0]
    assert figures["held_out_stress_error"][0] < 0.02
    assert figures["unseen_composition_error"][0] < 0.01


def test_law_data_and_picture_are_written(story: tuple[dict, Path]) -> None:
    out = story[1]
    law = constitutive.load(out / "copper_nickel.law")
    assert law.input_names == ("composition",)
    assert StrainData.read(out / "copper_nickel.h5").input_names == ("composition",)
    assert (out / "alloy_composition.png").stat().st_size > 10_000
