"""Files for ParaView hold what the arrays hold: read back by meshio, pyvista and adios2."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import h5py
import meshio
import numpy as np
import pytest
from dolfinx import fem as dfem
from dolfinx import io, mesh
from mpi4py import MPI

from constitutive import NeoHookeanLaw, VonMisesLaw
from crystals import mandel
from crystals.rotations import rotation_about
from fem import QuadratureMaterial, write_vtx, write_xdmf
from fem.dolfinx_versions import lagrange_space

TURN = rotation_about([1.0, 2.0, -0.5], 0.7)


@pytest.fixture
def bent(cube, cubic_law):
    """A displacement of second degree and its material, in a state that differs from point to point."""
    u, _, _ = cube(shape=(2, 2, 1), degree=2)
    u.interpolate(lambda x: 0.02 * np.vstack([x[0] * x[1], x[1] ** 2 - x[2], x[0] * x[2]]))
    material = QuadratureMaterial(cubic_law(max_strain=0.02), u, orientation=TURN)
    return u, material


def same_points(found, points):
    """Places of `points` among those of a file, by their coordinates."""
    place = np.argmin(np.linalg.norm(found[None] - points[:, None], axis=2), axis=1)
    np.testing.assert_allclose(found[place], points, atol=1e-12)
    return place


def test_points_in_paraview(bent, tmp_path):
    _, material = bent
    material.write(tmp_path / "points.h5")
    read = meshio.read(tmp_path / "points.xdmf")
    assert read.cells[0].type == "vertex" and len(read.cells[0].data) == len(material.status)
    np.testing.assert_array_equal(np.sort(read.cells[0].data[:, 0]), np.arange(len(material.status)))
    np.testing.assert_array_equal(read.points, material.points())
    for name in ("energy", "von_mises"):
        np.testing.assert_array_equal(read.point_data[name], material.values(name))
    for name in ("strain", "cauchy"):
        np.testing.assert_array_equal(read.point_data[name].reshape(-1, 3, 3), material.values(name))
    assert 0 < np.sum(read.point_data["status"]) < len(material.status)
    # both are written again, but neither over another's
    material.write(tmp_path / "points.h5")
    with pytest.raises(ValueError, match="shows the points of 'points.h5'"):
        write_xdmf(tmp_path / "points.xdmf", material.u)
    with pytest.raises(ValueError, match=r"ends in '\.h5'"):
        material.write(tmp_path / "points.xdmf")


def test_state_in_paraview(cube, tmp_path):
    u, _, _ = cube(shape=(2, 1, 1))
    material = QuadratureMaterial(VonMisesLaw(200.0, 0.3, 0.4, isotropic=10.0), u, kinematics="small")
    u.interpolate(lambda x: 0.01 * np.vstack([x[0] ** 2, 0 * x[1], 0 * x[2]]))
    material.update()
    material.commit()
    material.write(tmp_path / "points.h5")
    read = meshio.read(tmp_path / "points.xdmf").point_data["accumulated"].ravel()
    assert read.max() > 1e-3
    np.testing.assert_array_equal(read, material.values("accumulated"))


def test_tensors_of_a_plane_mesh_stay_on_their_cells(tmp_path):
    """Of (3, 3) on a plane mesh, older versions of DOLFINx would make nodal values, each of one cell."""
    domain = mesh.create_rectangle(MPI.COMM_WORLD, [np.zeros(2), np.ones(2)], [3, 2], mesh.CellType.quadrilateral)
    u = dfem.Function(lagrange_space(domain, "CG", 1, (2,)))
    u.interpolate(lambda x: 0.05 * np.stack([x[0] * x[1], x[0] ** 2]))
    material = QuadratureMaterial(NeoHookeanLaw(40.0, 60.0), u, section="plane_stress")
    fields = [material.project(name) for name in ("cauchy", "deformation_gradient", "energy")]
    write_xdmf(tmp_path / "plane.xdmf", u, fields)
    read = meshio.read(tmp_path / "plane.xdmf")
    assert set(read.point_data) == {"displacement"}
    centres = read.points[read.cells[0].data].mean(axis=1)
    order = same_points(centres[:, :2], material.points().reshape(6, -1, 3).mean(axis=1)[:, :2])
    for field in fields[:2]:
        values = field.x.array.reshape(-1, 9)
        if field.name in read.cell_data:
            (found,) = read.cell_data[field.name]
        else:
            names = [f"{field.name}_{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
            names = [name if name in read.cell_data else f"{field.name}_{name[-1]}{name[-2]}" for name in names]
            found = np.hstack([read.cell_data[name][0].reshape(-1, 1) for name in names])
        np.testing.assert_allclose(found.reshape(-1, 9)[order], values, atol=1e-12)
        assert np.ptp(values, axis=0).max() > 1e-3


def test_mesh_fields_in_xdmf(bent, tmp_path):
    u, material = bent
    fields = [material.project(name) for name in ("cauchy", "energy", "status", "orientation")]
    write_xdmf(tmp_path / "fields.xdmf", u, fields)
    read = meshio.read(tmp_path / "fields.xdmf")
    exact = 0.02 * np.stack([read.points[:, 0] * read.points[:, 1], read.points[:, 1] ** 2 - read.points[:, 2],
                             read.points[:, 0] * read.points[:, 2]], axis=1)  # fmt: skip
    np.testing.assert_allclose(read.point_data["displacement"], exact, atol=1e-15)
    volumes = material.volumes().reshape(4, -1)
    centres = read.points[read.cells[0].data].mean(axis=1)
    order = same_points(centres, material.points().reshape(4, -1, 3).mean(axis=1))
    cauchy = np.einsum("cqij,cq->cij", mandel.from_mandel(material.cauchy()).reshape(4, -1, 3, 3), volumes)
    cauchy /= volumes.sum(axis=1)[:, None, None]
    np.testing.assert_allclose(read.cell_data["cauchy"][0][order].reshape(-1, 3, 3), cauchy, rtol=1e-12)
    np.testing.assert_allclose(read.cell_data["orientation"][0].reshape(-1, 3, 3), [TURN] * 4, atol=1e-15)


@pytest.mark.skipif(importlib.util.find_spec("pyvista") is None, reason="needs pyvista")
def test_pyvista_reads_the_same(bent, tmp_path):
    u, material = bent
    material.write(tmp_path / "points.h5")
    write_xdmf(tmp_path / "fields.xdmf", u, [material.project("energy"), material.project("cauchy")])
    # in a process of its own: VTK brings another HDF5. VTK's reader is ParaView's; that of pyvista asks for a time
    script = """import json, sys, pyvista
from vtkmodules.vtkIOXdmf2 import vtkXdmfReader
found = {}
for name in ("points", "fields"):
    reader = vtkXdmfReader()
    reader.SetFileName(sys.argv[1] + f"/{name}.xdmf")
    reader.Update()
    data = pyvista.wrap(reader.GetOutputDataObject(0))
    found[name] = {key: data[key].tolist() for key in data.array_names} | {"x": data.points.tolist(), "cells": data.n_cells}
print(json.dumps(found))"""
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout.splitlines()[-1])
    points, fields = found["points"], found["fields"]
    assert points["cells"] == len(material.status) and fields["cells"] == 4
    order = same_points(np.array(points["x"]), material.points())
    np.testing.assert_allclose(np.array(points["energy"])[order], material.energy, rtol=1e-12)
    np.testing.assert_allclose(
        np.array(points["cauchy"])[order].reshape(-1, 3, 3), material.values("cauchy"), rtol=1e-12
    )
    np.testing.assert_allclose(np.sort(fields["energy"]), np.sort(material.project("energy").x.array), rtol=1e-12)
    assert np.array(fields["displacement"]).shape == (len(fields["x"]), 3)


def test_vtx(bent, tmp_path):
    """The displacement at its own degree and cell fields, in one file; refused with a sentence without ADIOS2."""
    u, material = bent
    energy, cauchy = material.project("energy"), material.project("cauchy")
    path = tmp_path / "fields.bp"
    if not getattr(io, "VTXWriter", None):
        with pytest.raises(ValueError, match="expected a DOLFINx with ADIOS2, got .* Use write_xdmf"):
            write_vtx(path, u, [energy])
        return
    with pytest.raises(ValueError, match="different names"):
        write_vtx(path, u, [energy, energy])
    with pytest.raises(ValueError, match=r"ends in '\.bp'"):
        write_vtx(tmp_path / "fields.xdmf", u)
    write_vtx(path, u, [energy, cauchy], time=0.5)
    if importlib.util.find_spec("adios2") is None:
        assert any(item.stat().st_size > 1000 for item in path.iterdir())
        return
    import adios2

    with adios2.FileReader(str(path)) as file:
        x, displacement = file.read("geometry"), file.read("displacement")
        assert file.read("step") == 0.5 and set(file.available_variables()) >= {"energy", "cauchy"}
        stored = file.read("energy").ravel()
    exact = 0.02 * np.stack([x[:, 0] * x[:, 1], x[:, 1] ** 2 - x[:, 2], x[:, 0] * x[:, 2]], axis=1)
    np.testing.assert_allclose(displacement.reshape(-1, 3), exact, atol=1e-15)
    assert len(x) == 4 * 27
    np.testing.assert_allclose(np.unique(stored.round(14)), np.unique(energy.x.array.round(14)), atol=1e-13)


def test_files_keep_the_numbers_of_others(bent, tmp_path):
    _, material = bent
    with pytest.raises(OSError, match="can be written"):
        material.write(tmp_path / "none" / "points.h5")
    material.write(tmp_path / "points.h5")
    with h5py.File(tmp_path / "points.h5") as file:
        shear = file["cauchy"][:, 5] / np.sqrt(2)
        np.testing.assert_allclose(file["cauchy_tensor"][:, 1], shear, rtol=1e-14)
