"""The short form of `long_run.py`: memory stays flat, and a leak is seen."""

from __future__ import annotations

from long_run import LARGEST_GROWTH, drive


def test_memory_of_a_material_point_stays_flat() -> None:
    before, after = drive(150)
    assert after <= (1 + LARGEST_GROWTH) * before
    # negative control: 240 kB a step
    before, after = drive(100, leak=30_000)
    assert after > (1 + LARGEST_GROWTH) * before
