"""Fields to files: XDMF for ParaView, HDF5 for the values at the quadrature points."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py as _h5py
import numpy as np
from dolfinx import fem, io

from . import dolfinx_versions as versions

if TYPE_CHECKING:
    from .material import QuadratureMaterial


h5py: Any = _h5py  # comes without types


def write_xdmf(path: Any, u: Any, fields: Sequence[Any] = (), time: float = 0.0) -> None:
    """Write the mesh in its reference configuration, the displacement at its vertices and cell fields.

    Parameters
    ----------
    path : str or Path
        File to write, with the suffix '.xdmf'; the numbers go to a '.h5' beside it.
    u : Function
        Displacement (3 components); one of higher degree is interpolated to degree 1.
    fields : sequence of Function
        Degree 1 or constant in each cell, as `QuadratureMaterial.project` gives them. Their names are kept.
    time : float
        Time or load under which ParaView shows the fields.

    Raises
    ------
    ValueError
        For another suffix, or two fields of one name.
    """
    path = Path(path)
    if path.suffix != ".xdmf":
        raise ValueError(f"write_xdmf: expected a path that ends in '.xdmf', got {str(path)!r}.")
    names = ["displacement", *(field.name for field in fields)]
    if len(set(names)) != len(names):
        raise ValueError(f"write_xdmf: expected fields of different names, got {names}. Set field.name.")
    mesh = u.function_space.mesh
    displacement = fem.Function(versions.lagrange_space(mesh, "CG", 1, (3,)), name="displacement")
    displacement.interpolate(u)
    displacement.x.scatter_forward()
    with io.XDMFFile(mesh.comm, str(path), "w") as file:
        file.write_mesh(mesh)
        file.write_function(displacement, time)
        for field in fields:
            file.write_function(field, time)


def write_points(path: Any, material: QuadratureMaterial) -> None:
    """Write what is known at the quadrature points to one HDF5 file; collective, written by rank 0.

    Datasets, n points of all ranks: `points (n, 3)` reference coordinates, `cell (n)` global cell index, `volume (n)`,
    `strain (n, 6)` and `strain_crystal (n, 6)`, `second_piola (n, 6)`, `cauchy (n, 6)`,
    `deformation_gradient (n, 3, 3)`, `energy (n)`, `status (n)`, and `inputs (n, k)` for a law that has some. Vectors
    are Mandel (11 22 33 23 13 12) in the sample frame, except `strain_crystal`. The file appears under its name only
    when it is complete.

    Parameters
    ----------
    path : str or Path
        File to write.
    material : QuadratureMaterial
        Its values at the last update.

    Raises
    ------
    ValueError
        Where the file would overwrite the numbers of an XDMF file of that name.
    OSError
        On all ranks, where the file cannot be written.
    """
    comm = material.mesh.comm
    path = Path(path)
    if path.suffix == ".h5" and path.with_suffix(".xdmf").exists():
        raise ValueError(
            f"write_points: expected a path of its own, got {str(path)!r}, which holds the numbers of "
            f"{path.with_suffix('.xdmf').name!r}. Choose another name."
        )
    cells = material.mesh.topology.index_map(material.mesh.topology.dim).local_to_global(
        material.point_cells().astype(np.int32)
    )
    local = {
        "points": material.points(),
        "cell": np.asarray(cells, dtype=np.int64),
        "volume": material.volumes(),
        "strain": material.strain_sample,
        "strain_crystal": material.strain,
        "second_piola": material.second_piola,
        "cauchy": material.cauchy(),
        "deformation_gradient": material.deformation_gradient(),
        "energy": material.energy,
        "status": material.status,
    }
    inputs = material.inputs.values(material.cells)
    if inputs is not None:
        local["inputs"] = inputs
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    failure = None
    try:
        file = h5py.File(temporary, "w") if comm.rank == 0 else None
    except OSError as error:
        file, failure = None, str(error)
    failure = comm.bcast(failure, root=0)
    if failure is None:
        for name, values in local.items():
            parts = comm.gather(values, root=0)
            if file is not None and parts is not None and failure is None:
                try:
                    file.create_dataset(name, data=np.concatenate(parts))
                except OSError as error:
                    failure = str(error)
    if file is not None:
        try:
            file.attrs["units"] = material.law.units
            file.attrs["component_order"] = "Mandel 11 22 33 23 13 12"
            file.attrs["strain_measure"] = material.law.strain_measure
            file.attrs["law"] = repr(material.law)
            file.close()
            if failure is None:
                os.replace(temporary, path)
        except OSError as error:
            failure = str(error)
        finally:
            temporary.unlink(missing_ok=True)
    # rank 0 alone knows; one that raised alone would leave the others waiting
    failure = comm.bcast(failure, root=0)
    if failure is not None:
        raise OSError(
            f"write_points: expected a file that can be written, got {str(path)!r}: {failure}. Check folder and space."
        )
