"""meshio meshes in and out: volumes, parts, displacement and fields come back."""

from __future__ import annotations

import meshio
import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from mpi4py import MPI

from constitutive import NeoHookeanLaw
from fem import QuadratureMaterial, as_meshio, read_mesh
from fem.dolfinx_versions import lagrange_space

CELLS = {
    "hexahedron": (mesh.CellType.hexahedron, 3), "tetra": (mesh.CellType.tetrahedron, 3), "quad": (mesh.CellType.quadrilateral, 2),
    "triangle": (mesh.CellType.triangle, 2),
}  # fmt: skip


def box(kind: str):
    cell, dim = CELLS[kind]
    make = mesh.create_box if dim == 3 else mesh.create_rectangle
    return make(MPI.COMM_SELF, [np.zeros(dim), np.array([2.0, 1.0, 0.5][:dim])], [3, 2, 2][:dim], cell), dim


def volume(domain) -> float:
    return float(dfem.assemble_scalar(dfem.form(dfem.Constant(domain, 1.0) * ufl.dx)))


@pytest.mark.parametrize("kind", CELLS)
def test_there_and_back(kind, tmp_path):
    domain, dim = box(kind)
    u = dfem.Function(lagrange_space(domain, "CG", 1, (dim,)))
    u.interpolate(lambda x: np.stack([0.01 * x[0], -0.02 * x[1], 0.03 * x[2]])[:dim])
    section = {} if dim == 3 else {"section": "plane_strain"}
    material = QuadratureMaterial(NeoHookeanLaw(1.0, 2.0), u, **section)
    material.update()
    found = as_meshio(u, [material.project("cauchy"), material.project("von_mises")])
    assert found.cells[0].type == kind
    factors = np.array([0.01, -0.02, 0.03])[:dim]
    assert np.allclose(found.point_data["displacement"], found.points[:, :dim] * factors, atol=1e-15)
    assert found.cell_data["von_mises"][0].shape == (len(found.cells[0].data),)
    assert np.ptp(found.cell_data["von_mises"][0]) < 1e-9 * found.cell_data["von_mises"][0].max()
    # corners in VTK's order, or volumes would be wrong; through a file too
    found.write(tmp_path / "part.vtu")
    for source in (meshio.Mesh(found.points, found.cells), tmp_path / "part.vtu"):
        again = read_mesh(source, comm=MPI.COMM_SELF).mesh
        assert volume(again) == pytest.approx(volume(domain), rel=1e-12)


def test_tags_of_a_meshio_mesh_are_parts():
    domain, _ = box("hexahedron")
    found = as_meshio(dfem.Function(lagrange_space(domain, "CG", 1, (3,))))
    middle = found.points[found.cells[0].data].mean(axis=1)[:, 0]
    found.cell_data["material"] = [np.where(middle < 1.0, 1, 2)]
    part = read_mesh(found, tags="material", comm=MPI.COMM_SELF)
    assert set(part.names) == {"volume 1", "volume 2"}
    tags, tag = part.subdomain("volume 1")
    assert len(tags.find(tag)) == np.sum(middle < 1.0)


def test_fields_that_vary_in_a_cell_are_refused():
    domain, _ = box("tetra")
    u = dfem.Function(lagrange_space(domain, "CG", 1, (3,)))
    with pytest.raises(ValueError, match="constant in each cell"):
        as_meshio(u, [u])
