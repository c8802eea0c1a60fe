"""A converged state to a file and back: displacement, load, time and internal variables, on any number of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py as _h5py
import numpy as np

from crystals.record import seal_of

from . import dolfinx_versions as versions
from .output import write_by_rank

if TYPE_CHECKING:
    from .problem import EquilibriumProblem

h5py: Any = _h5py  # comes without types
_ROWS = 65536
_MARK = b"constitutive state, SHA-256 of what follows: "
#: What a file is that has no seal of its own.
_UNSEALED = {
    "damaged": "a damaged file: its checksum differs",
    "none": "an HDF5 file without a checksum, as an earlier version wrote it or another program",
    "foreign": "a damaged or foreign file: no checksum at its start",
}


def _dofs(problem: EquilibriumProblem, cells: np.ndarray) -> np.ndarray:
    """Components of the displacement (cells, components per cell)."""
    nodes = versions.cell_dofs(problem.space)[cells]
    width = problem.space.dofmap.dof_layout.num_dofs * problem.dim
    return (problem.dim * nodes[:, :, None] + np.arange(problem.dim)).reshape(len(cells), width)


def _midpoints(problem: EquilibriumProblem, cells: np.ndarray) -> np.ndarray:
    nodes = versions.cell_dofs(problem.space)[cells]
    if not len(cells):
        return np.zeros((0, 3))
    return problem.space.tabulate_dof_coordinates()[nodes].mean(axis=1)


def write_state(path: Any, problem: EquilibriumProblem) -> None:
    """Write the state of a problem to one HDF5 file, rank after rank; nothing is gathered.

    Rows are cells, under the number that each had when the mesh was made, so another number of ranks can read them. The
    file appears under its name only when it is complete, with the SHA-256 of its content in HDF5's user block.

    Raises
    ------
    OSError
        On all ranks, where the file cannot be written.
    """
    comm = problem.comm
    path = Path(path)
    index_map = problem.space.mesh.topology.index_map(problem.space.mesh.topology.dim)
    cells = np.arange(index_map.size_local)
    number = versions.original_cells(problem.space.mesh)
    tables = {
        "cell": number[cells],
        "midpoint": _midpoints(problem, cells),
        "displacement": problem.u.x.array[_dofs(problem, cells)],
    }
    for k, material in enumerate(problem.materials):
        tables[f"material_{k}/cell"] = number[material.cells]
        for name, values in material.history().items():
            width = material.points_per_cell * values.shape[1]
            tables[f"material_{k}/{name}"] = values.reshape(len(material.cells), width)
    attributes = {
        "load": np.nan if problem.load is None else problem.load,
        "time": problem.time,
        "laws": [type(material.law).__name__ for material in problem.materials],
    }
    failure = write_by_rank(path, comm, tables, attributes, _MARK)
    if failure is not None:
        raise OSError(
            f"EquilibriumProblem.save: expected a file that can be written, got {str(path)!r}: {failure}. Check folder and "
            "space."
        )


def _rows(file: Any, group: str, wanted: np.ndarray, names: dict[str, int]) -> dict[str, np.ndarray]:
    """Rows of some tables of a group, with so many columns, in the order of the wanted cell numbers; read in pieces."""
    prefix = group + "/" if group else ""
    table = file[prefix + "cell"]
    if (
        table.dtype.kind not in "iu"
        or table.ndim != 1
        or table.id.get_storage_size() != table.size * table.dtype.itemsize
    ):
        raise ValueError(f"{prefix}cell of {table.dtype} and shape {table.shape}")
    stored = table[:]
    order = np.argsort(stored)
    place = np.searchsorted(stored, wanted, sorter=order)
    place = order[np.minimum(place, max(len(order) - 1, 0))] if len(order) else place
    if len(wanted) and (not len(stored) or np.any(stored[place] != wanted)):
        raise ValueError("cells that the file does not have")
    found = {}
    for name, width in names.items():
        table = file[prefix + name]
        if table.dtype != np.float64 or table.shape != (len(stored), width):
            raise ValueError(
                f"{prefix}{name} of {table.dtype} and shape {table.shape} instead of {(len(stored), width)}"
            )
        if table.id.get_storage_size() != table.size * table.dtype.itemsize:
            raise ValueError(f"{prefix}{name} not wholly written")
        values = np.empty((len(wanted), *table.shape[1:]), dtype=table.dtype)
        for start in range(0, len(table), _ROWS):
            here = (place >= start) & (place < start + _ROWS)
            if np.any(here):
                values[here] = table[start : start + _ROWS][place[here] - start]
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{prefix}{name} with NaN or infinity")
        found[name] = values
    return found


def _check_seal(path: Path, comm: Any) -> None:
    """One rank reads all of the file, before the HDF5 library sees it anywhere: a damaged one might crash it."""
    failure: Exception | None = None
    if comm.rank == 0:
        where = "EquilibriumProblem.restore: expected a file of this problem, written by save"
        try:
            found = seal_of(path, _MARK)
            if found != "whole":
                failure = ValueError(
                    f"{where}, got {str(path)!r}, {_UNSEALED[found]}. Copy it again, take an older one, or begin anew."
                )
        except OSError as error:
            failure = OSError(f"{where}, got {str(path)!r}: {error.strerror or error}. Check the path.")
    failure = comm.bcast(failure, root=0)
    if failure is not None:
        raise failure


def read_state(path: Any, problem: EquilibriumProblem) -> None:
    """Take the state of a file over: displacement, load, time, and the committed state of every material.

    Raises
    ------
    ValueError
        On all ranks, where mesh, elements or laws are not those of the file, and for a file that is damaged, or without a
        checksum as earlier versions wrote it: a wrong state looks like any other.
    OSError
        On all ranks, where the file cannot be read.
    """
    comm = problem.comm
    mesh = problem.space.mesh
    _check_seal(Path(path), comm)
    index_map = mesh.topology.index_map(mesh.topology.dim)
    cells = np.arange(index_map.size_local)
    number = versions.original_cells(mesh)
    failure: tuple[str, str] | None = None
    histories: list[dict[str, np.ndarray]] = []
    displacement = np.zeros((0, 0))
    load, time = np.nan, 0.0
    try:
        with h5py.File(Path(path), "r") as file:
            laws = [type(material.law).__name__ for material in problem.materials]
            if list(file.attrs["laws"]) != laws:
                raise ValueError(f"laws {list(file.attrs['laws'])} instead of {laws}")
            width = problem.space.dofmap.dof_layout.num_dofs * problem.dim
            found = _rows(file, "", number[cells], {"midpoint": 3, "displacement": width})
            middle, size = (
                _midpoints(problem, cells),
                float(np.abs(problem.space.tabulate_dof_coordinates()).max(initial=0)),
            )
            if (
                len(file["cell"]) != index_map.size_global
                or np.abs(found["midpoint"] - middle).max(initial=0) > 1e-9 * size
            ):
                raise ValueError("another mesh")
            displacement = found["displacement"]
            for k, material in enumerate(problem.materials):
                own = material.history()
                widths = {name: material.points_per_cell * values.shape[1] for name, values in own.items()}
                rows = _rows(file, f"material_{k}", number[material.cells], widths)
                histories.append({name: values.reshape(own[name].shape) for name, values in rows.items()})
            load, time = float(file.attrs["load"]), float(file.attrs["time"])
            if not np.isfinite(time) or np.isinf(load):  # a load of NaN is none
                raise ValueError(f"time {time} and load {load}")
    except OSError as error:
        failure = ("OSError", str(error))
    except Exception as error:  # a damaged file may fail anywhere in h5py
        failure = ("ValueError", str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}")
    failures = [item for item in comm.allgather(failure) if item is not None]
    if failures:
        kind, text = failures[0]
        message = (
            f"EquilibriumProblem.restore: expected a file of this problem, written by save, got {str(path)!r}: {text}. Make "
            "the same mesh, spaces and materials first."
        )
        raise OSError(message) if kind == "OSError" else ValueError(message)
    problem.u.x.array[_dofs(problem, cells)] = displacement
    problem.u.x.scatter_forward()
    for material, history in zip(problem.materials, histories, strict=True):
        material.set_history(history)
    problem.load, problem.time = None if np.isnan(load) else load, time
