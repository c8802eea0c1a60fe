"""Without DOLFINx, `import fem` says what is missing and how to get it; the other packages do not need it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(code):
    hidden = "import sys\nfor name in ('dolfinx', 'ufl', 'petsc4py', 'mpi4py'):\n    sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", hidden + code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_import_fem_says_how_to_get_dolfinx():
    result = run("import fem")
    assert result.returncode != 0
    assert "ImportError: fem: expected DOLFINx" in result.stderr
    assert "apt install python3-dolfinx" in result.stderr and "make demo" in result.stderr


def test_other_packages_do_not_need_it():
    result = run("import crystals, constitutive, constitutive.laws.neo_hooke")
    assert result.returncode == 0, result.stderr
