"""A law in dolfinx-external-operator solves as in QuadratureMaterial; older DOLFINx is told so in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("dolfinx", reason="needs DOLFINx")
PATH = Path(__file__).parents[2] / "examples" / "external_operator.py"


def test_same_displacement_as_the_material(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    pytest.importorskip("dolfinx_external_operator", reason="needs DOLFINx 0.10 and dolfinx-external-operator")
    figures = example("external_operator").main(tmp_path, cells=3)
    assert figures["difference"] < 1e-9
    # the tangent is the stress's own: quadratic, to rounding
    assert figures["iterations"] <= 6 and figures["residuals"][-1] < 1e-10 * figures["residuals"][0]
    assert (tmp_path / "external_operator.png").stat().st_size > 8_000


def test_older_dolfinx_is_told_so(tmp_path: Path) -> None:
    from fem.dolfinx_versions import VERSION

    if VERSION >= (0, 10):
        pytest.skip("this DOLFINx is new enough")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PATH.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    run = subprocess.run([sys.executable, PATH, "--out", tmp_path], capture_output=True, text=True, env=environment)
    assert run.returncode == 1 and "expected DOLFINx 0.10 or later" in run.stderr and "Traceback" not in run.stderr
