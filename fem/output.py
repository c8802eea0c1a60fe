"""Fields to files that ParaView opens: XDMF or VTX with the mesh, XDMF with the values at the quadrature points."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import h5py as _h5py
import meshio
import numpy as np
from dolfinx import fem, io

from constitutive.laws.history import HistoryLaw
from crystals.record import BLOCK, seal

from . import dolfinx_versions as versions
from .cell_shapes import SHAPES
from .fields import field_values

if TYPE_CHECKING:
    from .material import QuadratureMaterial


h5py: Any = _h5py  # comes without types


def _checked(where: str, path: Any, suffix: str, fields: Sequence[Any]) -> tuple[Path, list[str]]:
    """The path, and the names under which displacement and fields are written."""
    path = Path(path)
    if path.suffix != suffix:
        raise ValueError(f"{where}: expected a path that ends in {suffix!r}, got {str(path)!r}.")
    names = ["displacement", *(field.name for field in fields)]
    if len(set(names)) != len(names):
        raise ValueError(f"{where}: expected fields of different names, got {names}. Set field.name.")
    return path, names


def write_xdmf(path: Any, u: Any, fields: Sequence[Any] = (), time: float | None = None) -> None:
    """Write the mesh in its reference configuration, the displacement at its nodes and cell fields.

    Parameters
    ----------
    path : str or Path
        File to write, with the suffix '.xdmf'; the numbers go to a '.h5' beside it.
    u : Function
        Displacement; it is interpolated to the degree of the mesh's edges.
    fields : sequence of Function
        Degree 1 or constant in each cell, as `QuadratureMaterial.project` gives them. Their names are kept; on plane meshes
        DOLFINx before 0.8 takes tensors by their components, 'cauchy_11', 'cauchy_12', ….
    time : float, optional
        Time or load under which ParaView shows the fields. (meshio reads files without.)

    Raises
    ------
    ValueError
        For another suffix, or two fields of one name.
    """
    path, names = _checked("write_xdmf", path, ".xdmf", fields)
    if _holds_points(path):
        raise ValueError(
            f"write_xdmf: expected a path of its own, got {str(path)!r}, which shows the points of "
            f"{path.with_suffix('.h5').name!r}. Choose another name."
        )
    mesh = u.function_space.mesh
    space = versions.lagrange_space(mesh, "CG", versions.geometry_degree(mesh), tuple(u.ufl_shape))
    displacement = fem.Function(space, name="displacement")
    displacement.interpolate(u)
    displacement.x.scatter_forward()
    with io.XDMFFile(mesh.comm, str(path), "w") as file:
        file.write_mesh(mesh)
        file.write_function(displacement, time or 0.0)
        for field in fields:
            for part in versions.xdmf_parts(field):
                file.write_function(part, time or 0.0)
    if mesh.comm.rank == 0:
        _as_one_grid(path, time)
    mesh.comm.barrier()


def as_meshio(u: Any, fields: Sequence[Any] = ()) -> meshio.Mesh:
    """The mesh in its reference configuration as a meshio mesh, with the displacement at its corners and cell fields.

    Parameters
    ----------
    u : Function
        Displacement; one of higher degree is interpolated to degree 1. In point_data 'displacement' (points, dim).
    fields : sequence of Function
        Constant in each cell, as `QuadratureMaterial.project` gives them. In cell_data, (cells,) or (cells, values).

    Returns
    -------
    meshio.Mesh
        First-order cells with their corners in VTK's order, curved edges drawn straight; `read_mesh` takes it back.

    Raises
    ------
    ValueError
        On more than one rank, and for fields that are not constant in each cell.
    """
    where, mesh = "as_meshio", u.function_space.mesh
    if mesh.comm.size > 1:
        raise ValueError(f"{where}: expected one rank, got {mesh.comm.size}. Write the fields with write_xdmf.")
    space = versions.lagrange_space(mesh, "CG", 1, tuple(u.ufl_shape))
    displacement = fem.Function(space)
    displacement.interpolate(u)
    cells = versions.cell_dofs(space)
    kind = mesh.topology.cell_type.name
    name, shape = next((name, shape) for name, shape in SHAPES.items() if shape.cell == kind and shape.degree == 1)
    order = np.argsort(shape.order)
    data = {}
    for field in fields:
        dofs = versions.cell_dofs(field.function_space)
        if dofs.shape[1] != 1:
            raise ValueError(
                f"{where}: expected fields that are constant in each cell, got {field.name!r} with {dofs.shape[1]} values a "
                "cell. material.project makes such."
            )
        values = field.x.array.reshape(len(dofs), -1)[dofs[:, 0]]
        data[field.name] = [values[:, 0] if values.shape[1] == 1 else values]
    return meshio.Mesh(
        space.tabulate_dof_coordinates(), [(name, cells[:, order])], cell_data=data,
        point_data={"displacement": displacement.x.array.reshape(-1, space.dofmap.index_map_bs)},
    )  # fmt: skip


def write_vtx(path: Any, u: Any, fields: Sequence[Any] = (), time: float | None = None) -> None:
    """Write displacement and cell fields to a folder in ADIOS2's VTX format, the displacement at its own degree.

    All are interpolated to discontinuous Lagrange functions of the displacement's degree, which keeps them exactly:
    readers want functions of one kind.

    Parameters
    ----------
    path : str or Path
        Folder to write, with the suffix '.bp'.
    u : Function
        Displacement of a Lagrange space of degree 1 or more.
    fields : sequence of Function
        Constant in each cell, as `QuadratureMaterial.project` gives them. Their names are kept.
    time : float, optional
        Time or load under which ParaView shows the fields.

    Raises
    ------
    ValueError
        For another suffix, two fields of one name, or a DOLFINx without ADIOS2, as Debian 12's.
    """
    path, names = _checked("write_vtx", path, ".bp", fields)
    degree = versions.lagrange_degree(u)
    written = []
    for name, field in zip(names, (u, *fields), strict=True):
        space = versions.lagrange_space(u.function_space.mesh, "DG", degree, versions.value_shape(field))
        function = fem.Function(space, name=name)
        function.interpolate(field)
        written.append(function)
    versions.write_vtx("write_vtx", u.function_space.mesh, path, written, time or 0.0)


def _as_one_grid(path: Path, time: float | None) -> None:
    """DOLFINx gives each field a mesh of its own, which ParaView shows as so many blocks and meshio reads in part."""
    tree = ElementTree.parse(path)
    domain = tree.getroot().find("Domain")
    assert domain is not None
    grid, *others = domain.findall("Grid")
    if time is not None:
        ElementTree.SubElement(grid, "Time", Value=f"{time:.17g}")
    for other in others:
        grid.extend(other.iter("Attribute"))
        domain.remove(other)
    for item in (*grid.iterfind("Attribute/DataItem"), *grid.iterfind("Geometry/DataItem")):
        # without, VTK and ParaView read the doubles into single precision
        item.attrib.update(NumberType="Float", Precision="8")
    ElementTree.indent(tree)
    tree.write(path, xml_declaration=True, encoding="utf-8")


def _without_space(path: Path, comm: Any, size: int) -> str | None:
    """That the disk lacks the space for so many bytes of each rank: the HDF5 library crashes where it finds out itself."""
    wanted, failure = comm.allreduce(size) + 2**20, None
    if comm.rank == 0:
        try:
            free = shutil.disk_usage(path.absolute().parent).free
            failure = f"{wanted >> 20} MiB wanted, {free >> 20} MiB free" if free < wanted else None
        except OSError as error:
            failure = error.strerror or str(error)
    return comm.bcast(failure, root=0)


def write_by_rank(
    path: Path, comm: Any, tables: dict[str, np.ndarray], attributes: dict[str, Any], mark: bytes | None = None
) -> str | None:
    """Write the rows of all ranks to one HDF5 file, rank after rank; nothing is gathered.

    Every rank gives the same names, with rows of the same shape, which may be none. The file appears under its name only
    when it is complete; with a mark, sealed by the digest of its content (`crystals.record`). Returns what went wrong, the
    same on every rank, or None.
    """
    temporary = path.with_name(f".{path.name}.{comm.bcast(os.getpid(), root=0)}.part")
    counts = comm.allgather({name: len(table) for name, table in tables.items()})
    failure = _without_space(path, comm, sum(table.nbytes for table in tables.values()))
    for rank in range(comm.size):
        if rank == comm.rank and failure is None:
            try:
                options = {"userblock_size": BLOCK} if mark and rank == 0 else {}
                with h5py.File(temporary, "w" if rank == 0 else "a", **options) as file:
                    for name, table in tables.items():
                        if rank == 0:
                            total = sum(count[name] for count in counts)
                            file.create_dataset(name, shape=(total, *table.shape[1:]), dtype=table.dtype)
                        first = sum(count[name] for count in counts[:rank])
                        if len(table):
                            file[name][first : first + len(table)] = table
                    if rank == 0:
                        file.attrs.update(attributes)
            except (OSError, RuntimeError) as error:  # h5py has both for a full disk
                failure = " ".join(str(error).split())[:200]
        failure = comm.bcast(failure, root=rank)
    if comm.rank == 0:
        try:
            if failure is None:
                if mark:
                    seal(temporary, mark)
                with open(temporary, "r+b") as stream:
                    os.fsync(stream.fileno())
                os.replace(temporary, path)
        except OSError as error:
            failure = str(error)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    return comm.bcast(failure, root=0)


def _holds_points(path: Path) -> bool:
    """Whether an XDMF file is one that `write_points` made."""
    return path.exists() and "Polyvertex" in path.read_text(errors="replace")


def write_points(path: Any, material: QuadratureMaterial) -> None:
    """Write what is known at the quadrature points to one HDF5 file; collective, rank after rank.

    An XDMF file of the same name beside it shows them in ParaView as a cloud of points.

    Datasets, n points of all ranks: `points (n, 3)` reference coordinates, `cell (n)` global cell index, `volume (n)`,
    `strain (n, 6)` and `strain_crystal (n, 6)`, `second_piola (n, 6)`, `cauchy (n, 6)`,
    `deformation_gradient (n, 3, 3)`, `energy (n)`, `von_mises (n)`, `status (n)` (1 where the law was never trained), and where there are
    some `inputs (n, k)`, `orientation (n, 3, 3)` and the parts of the state, `state/… (n, 6)` or `(n, 1)`. Vectors are
    Mandel (11 22 33 23 13 12) in the sample frame, except `strain_crystal` and the state, which are in the crystal's.
    `strain_tensor (n, 9)` and `cauchy_tensor (n, 9)`, row by row, and `vertex (n, 1)` are there for ParaView. The
    file appears under its name only when it is complete.

    Parameters
    ----------
    path : str or Path
        File to write.
    material : QuadratureMaterial
        Its values at the last update.

    Raises
    ------
    ValueError
        For a path that does not end in '.h5', and where the file would overwrite the numbers of an XDMF file of that name.
    OSError
        On all ranks, where the file cannot be written.
    """
    comm = material.mesh.comm
    path = Path(path)
    shown = path.with_suffix(".xdmf")
    if path.suffix not in (".h5", ".hdf5"):
        raise ValueError(
            f"write_points: expected a path that ends in '.h5', got {str(path)!r}: an XDMF file for ParaView beside it is "
            "written too."
        )
    if shown.exists() and not _holds_points(shown):
        raise ValueError(
            f"write_points: expected a path of its own, got {str(path)!r}, which holds the numbers of "
            f"{shown.name!r}. Choose another name."
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
        "von_mises": field_values(material, "von_mises"),
        "status": material.status,
        "strain_tensor": field_values(material, "strain").reshape(-1, 9),
        "cauchy_tensor": field_values(material, "cauchy").reshape(-1, 9),
    }
    first = comm.scan(len(material.status)) - len(material.status)
    local["vertex"] = np.arange(first, first + len(material.status), dtype=np.int64)[:, None]
    inputs = material.inputs.values(material.cells)
    if inputs is not None:
        local["inputs"] = inputs
    if isinstance(material.law, HistoryLaw):
        for name, _ in material.law.state_parts:
            local[f"state/{name}"] = material.state_values(name)
    if material.orientation is not None:
        local["orientation"] = field_values(material, "orientation")
    attributes = {
        "units": material.law.units,
        "component_order": "Mandel 11 22 33 23 13 12",
        "strain_measure": material.law.strain_measure,
        "section": material.section,
        "law": repr(material.law),
    }
    failure = write_by_rank(path, comm, local, attributes)
    number = comm.allreduce(len(material.status))
    if failure is None and comm.rank == 0:
        try:
            _write_cloud(
                shown, path, number, [name for name in local if name.startswith("state/") and local[name].shape[1] == 1]
            )
        except OSError as error:
            failure = str(error)
    failure = comm.bcast(failure, root=0)
    if failure is not None:
        raise OSError(
            f"write_points: expected a file that can be written, got {str(path)!r}: {failure}. Check folder and space."
        )


def _write_cloud(shown: Path, path: Path, number: int, state: Sequence[str]) -> None:
    """The XDMF file of a file of points."""
    root = ElementTree.Element("Xdmf", Version="3.0")
    grid = ElementTree.SubElement(ElementTree.SubElement(root, "Domain"), "Grid", Name="points", GridType="Uniform")

    def item(parent: Any, name: str, width: int, kind: str = "Float", size: int = 8) -> None:
        dimensions = f"{number} {width}" if width else str(number)
        data = ElementTree.SubElement(
            parent, "DataItem", Format="HDF", Dimensions=dimensions, NumberType=kind, Precision=str(size)
        )
        data.text = f"{path.name}:/{name}"

    topology = ElementTree.SubElement(
        grid, "Topology", TopologyType="Polyvertex", NumberOfElements=str(number), NodesPerElement="1"
    )
    item(topology, "vertex", 1, "Int")
    item(ElementTree.SubElement(grid, "Geometry", GeometryType="XYZ"), "points", 3)
    scalars = {
        "energy": ("Float", 8),
        "von_mises": ("Float", 8),
        "volume": ("Float", 8),
        "cell": ("Int", 8),
        "status": ("Char", 1),
    }
    for name, (kind, size) in scalars.items():
        item(
            ElementTree.SubElement(grid, "Attribute", Name=name, AttributeType="Scalar", Center="Node"),
            name,
            0,
            kind,
            size,
        )
    for name in state:
        called = name.removeprefix("state/")
        item(ElementTree.SubElement(grid, "Attribute", Name=called, AttributeType="Scalar", Center="Node"), name, 1)
    for name in ("strain", "cauchy"):
        attribute = ElementTree.SubElement(grid, "Attribute", Name=name, AttributeType="Tensor", Center="Node")
        item(attribute, f"{name}_tensor", 9)
    tree = ElementTree.ElementTree(root)
    ElementTree.indent(tree)
    temporary = shown.with_name(f".{shown.name}.{os.getpid()}.part")
    tree.write(temporary, xml_declaration=True, encoding="utf-8")
    os.replace(temporary, shown)
