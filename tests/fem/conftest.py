"""A cubic law and small meshes, shared by the tests of the fem room."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from constitutive.laws.law import Law
from crystals.groups import PointGroup
from crystals.mandel import UPPER_COLUMNS, UPPER_ROWS

collect_ignore = []
try:
    import dolfinx  # noqa: F401
except ImportError:
    collect_ignore = [
        path.name for path in Path(__file__).parent.glob("test_*.py") if path.name != "test_without_dolfinx.py"
    ]


if not collect_ignore:
    from fem import dolfinx_versions

    # half of a run from nothing was the C compiler's; the ranks and the examples run with the flags of users
    dolfinx_versions._JIT["cffi_extra_compile_args"] = ["-O1", "-g0"]

if importlib.util.find_spec("dolfinx_external_operator"):
    # it adds types to UFL, which must happen before UFL has worked on a form: its tables keep their length
    importlib.import_module("dolfinx_external_operator")


class CubicLaw(Law):
    """W = ½ E · C E with a cubic stiffness in the crystal frame; constants are C11, C12, C44 of the textbooks."""

    def __init__(self, constants=(172.0, 115.0, 90.0), **options) -> None:
        super().__init__(PointGroup("m-3m"), units="GPa", **options)
        c11, c12, c44 = constants
        stiffness = np.diag([c11 - c12] * 3 + [2.0 * c44] * 3)
        stiffness[:3, :3] += c12
        self.register_buffer("matrix", torch.from_numpy(stiffness))
        #: largest |E| ever asked for
        self.largest = 0.0

    def config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def _evaluate(self, strain, tangent):
        if len(strain):
            self.largest = max(self.largest, float(torch.linalg.vector_norm(strain, dim=1).max()))
        stress = strain @ self.matrix
        entries = self.matrix[UPPER_ROWS, UPPER_COLUMNS].expand(len(strain), 21) if tangent else None
        return 0.5 * (strain * stress).sum(dim=1), stress, entries


@pytest.fixture
def cubic_law():
    """Class of the law, to be made with the options a test needs."""
    return CubicLaw


@pytest.fixture
def cube():
    """Function that makes a displacement on a box of hexahedra or tetrahedra, with the dofs of its two x faces."""
    from dolfinx import fem, mesh
    from mpi4py import MPI

    from fem.dolfinx_versions import lagrange_space

    def make(shape=(2, 2, 2), cell="hexahedron", degree=1, size=(1.0, 1.0, 1.0)):
        kind = getattr(mesh.CellType, cell)
        domain = mesh.create_box(MPI.COMM_WORLD, [np.zeros(3), np.array(size)], shape, kind)
        space = lagrange_space(domain, "CG", degree, (3,))
        left = fem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], 0.0))
        right = fem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], size[0]))
        return fem.Function(space), left, right

    return make
