"""Without DOLFINx, `import fem` says what is missing and how to get it; the other packages do not need it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


# a finder, not None in sys.modules: ASE takes a name that stands there for a module that is loaded
HIDDEN = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dolfinx", "ufl", "petsc4py", "mpi4py"):
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Hidden())
"""


def run(code):
    command = [sys.executable, "-c", HIDDEN + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_import_fem_says_how_to_get_dolfinx():
    result = run("import fem")
    assert result.returncode != 0
    assert "ImportError: fem: expected DOLFINx" in result.stderr
    assert "apt install python3-dolfinx" in result.stderr and "make demo" in result.stderr


def test_other_packages_do_not_need_it():
    result = run("import crystals, constitutive, constitutive.laws.neo_hooke")
    assert result.returncode == 0, result.stderr
