"""Fung's law, written by hand: audited, and the uniform strips are single material points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("dolfinx", reason="needs DOLFINx")


@pytest.fixture(scope="module")
def story(example: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("custom_law")
    return example("custom_law").main(out), out


def test_the_audit_passes_and_uniform_strips_are_material_points(story: tuple[dict, Path]) -> None:
    figures, out = story
    assert figures["audit_passed"]
    assert figures["point_against_strip"] < 1e-9
    assert (out / "custom_law.png").stat().st_size > 10_000


def test_fibres_stiffen_and_the_strip_across_them_shears(story: tuple[dict, Path]) -> None:
    """Negative control of the comparison: at 45° the ends move sideways, at 0° and 90° only by contraction."""
    force, sideways = story[0]["force"], story[0]["sideways"]
    assert force[0] > 2 * force[45] > 2 * force[90]
    assert sideways[45] > 3 * max(sideways[0], sideways[90])
