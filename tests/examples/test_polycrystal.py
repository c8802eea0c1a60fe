"""The polycrystal, smaller: its stiffness lies strictly between the bounds of its own grains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import h5py
import meshio
import numpy as np
import pytest

pytest.importorskip("dolfinx", reason="needs DOLFINx")


def test_fifty_grains(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    summary = example("polycrystal").main(tmp_path, size=10)
    assert summary["grains"] == 50
    assert summary["lower"] < summary["modulus"] < summary["upper"]
    # the bounds are apart, and the grains matter: stiffer ones carry more
    assert summary["upper"] > 1.1 * summary["lower"] and summary["stress_correlation"] > 0.3
    assert (tmp_path / "polycrystal.png").stat().st_size > 20_000
    # what ParaView opens, read back
    read = meshio.read(tmp_path / "polycrystal.xdmf")
    assert len(read.points) == 11**3 and len(read.cells[0].data) == 1000
    assert np.abs(read.point_data["displacement"]).max() == pytest.approx(0.002, rel=1e-9)
    assert set(read.cell_data) == {"von_mises", "cauchy", "strain_norm"}
    uniaxial = np.mean(read.cell_data["cauchy"][0], axis=0)[0]
    with h5py.File(tmp_path / "points.h5") as file:
        assert file["volume"][:].sum() == pytest.approx(1.0, rel=1e-12)
        mean = np.average(file["cauchy"][:], axis=0, weights=file["volume"][:])
        assert file["orientation"].shape == (8000, 3, 3)
    assert mean[0] == pytest.approx(summary["modulus"] * 0.002, rel=0.01)
    assert uniaxial == pytest.approx(mean[0], rel=1e-6)
