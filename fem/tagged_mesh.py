"""Meshes whose parts have names: gmsh files, and what else meshio reads."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import basix as _basix
import meshio
import numpy as np
import ufl as _ufl
from dolfinx import fem
from dolfinx import mesh as _mesh
from mpi4py import MPI

from . import dolfinx_versions as versions
from .cell_shapes import SHAPES, completed
from .node_sets import entities_between

basix: Any = _basix  # DOLFINx's modules lack types, or have others in each version
dolfinx_mesh: Any = _mesh
ufl: Any = _ufl
_WORDS = ("point", "curve", "surface", "volume")


@dataclass(frozen=True)
class TaggedMesh:
    """A mesh and its named parts.

    Attributes
    ----------
    mesh : dolfinx.mesh.Mesh
    tags : dict of int to MeshTags
        Tagged entities by their dimension, those that the file has.
    names : dict of str to (int, int)
        Dimension and tag of each part.
    node_sets : dict of str to int array
        Nodes of each set of nodes, on every rank, numbered as the file's cells have them. A part and a set of nodes may have
        one name: for `dofs` and `ds` the nodes count.
    """

    mesh: Any
    tags: dict[int, Any]
    names: dict[str, tuple[int, int]]
    node_sets: dict[str, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        named = [(name, _WORDS[dim]) for name, (dim, _) in self.names.items()]
        parts = ", ".join(
            f"{name!r} ({kind})" for name, kind in [*named, *((name, "nodes") for name in self.node_sets)]
        )
        return f"TaggedMesh({self.mesh.topology.cell_type.name}, parts {parts or 'none'})"

    def _part(self, where: str, name: str, dims: tuple[int, ...] = (0, 1, 2, 3)) -> tuple[int, int]:
        known = sorted(known for known, (dim, _) in self.names.items() if dim in dims)
        known += sorted(set(self.node_sets) - set(known)) if where in ("dofs", "ds") else []
        if name not in known:
            kind = " or ".join(_WORDS[dim] for dim in dims) if len(dims) < 4 else "part"
            raise ValueError(
                f"TaggedMesh.{where}: expected the name of a {kind} ({', '.join(map(repr, known)) or 'the file has none'}), "
                f"got {name!r}."
            )
        return self.names[name]

    def subdomain(self, name: str) -> tuple[Any, int]:
        """Cell tags and tag of a part, as `QuadratureMaterial(subdomain=…)` takes them."""
        dim, tag = self._part("subdomain", name, (self.mesh.topology.dim,))
        return self.tags[dim], tag

    def entities(self, name: str) -> np.ndarray:
        """Local numbers of the cells, facets, edges or vertices of a part, ghosts included."""
        dim, tag = self._part("entities", name)
        return np.asarray(self.tags[dim].find(tag), dtype=np.int32)

    def dofs(self, space: Any, name: str) -> np.ndarray:
        """Degrees of freedom on a part, for `dirichletbc`: of a space, or of one component `space.sub(k)`.

        Of a set of nodes: those on vertices, edges and facets that have all their corners in it.
        """
        if name in self.node_sets:
            dims = range(self.mesh.topology.dim)
            found = [
                fem.locate_dofs_topological(space, d, entities_between(self.mesh, d, self.node_sets[name]))
                for d in dims
            ]
            return np.unique(np.concatenate(found)).astype(np.int32)
        dim, _ = self._part("dofs", name)
        return fem.locate_dofs_topological(space, dim, self.entities(name))

    def ds(self, name: str, **metadata: Any) -> Any:
        """UFL measure over a part of the boundary, for tractions. Options are those of `ufl.Measure`'s metadata.

        Over the facets of the boundary that have all their corners in a set of nodes.
        """
        facet = self.mesh.topology.dim - 1
        if name in self.node_sets:
            return self._ds_between(name, facet, metadata)
        _, tag = self._part("ds", name, (facet,))
        outside = dolfinx_mesh.exterior_facet_indices(self.mesh.topology)
        # which side of a cut between ranks is ghosted depends on the version: owned facets decide
        found = self.entities(name)
        found = found[found < self.mesh.topology.index_map(facet).size_local]
        inside = self.mesh.comm.allreduce(int(np.count_nonzero(~np.isin(found, outside))))
        if inside:
            raise ValueError(
                f"TaggedMesh.ds: expected facets on the boundary in {name!r}, got {inside} between cells. Not supported: "
                "integrals over interior facets."
            )
        measure = ufl.Measure("ds", domain=self.mesh, subdomain_data=self.tags[facet], metadata=metadata or None)
        return measure(tag)

    def _ds_between(self, name: str, facet: int, metadata: dict[str, Any]) -> Any:
        found = entities_between(self.mesh, facet, self.node_sets[name])
        found = np.intersect1d(found, dolfinx_mesh.exterior_facet_indices(self.mesh.topology)).astype(np.int32)
        if not self.mesh.comm.allreduce(len(found)):
            raise ValueError(
                f"TaggedMesh.ds: expected facets of the boundary between the nodes of {name!r}, got none. Name a set that holds "
                "all corners of the loaded faces."
            )
        tags = dolfinx_mesh.meshtags(self.mesh, facet, found, np.ones(len(found), dtype=np.int32))
        return ufl.Measure("ds", domain=self.mesh, subdomain_data=tags, metadata=metadata or None)(1)


class _File(NamedTuple):
    """What rank 0 found: cells of a degree and points, and the corners and tags of the parts by dimension."""

    kind: str
    degree: int
    points: np.ndarray
    cells: np.ndarray
    parts: dict[int, tuple[np.ndarray, np.ndarray]]
    names: dict[str, tuple[int, int]]
    node_sets: dict[str, np.ndarray]


def read_mesh(path: Any, tags: str | None = None, comm: Any = MPI.COMM_WORLD) -> TaggedMesh:
    """Read a mesh with its named parts.

    Physical groups of gmsh (formats 2 and 4, text or binary), element and node sets of Abaqus, and of other formats that meshio
    reads the integer cell data that `tags` names. Rank 0 reads, all ranks share the cells. Cells of second order keep their
    curved edges (C3D10, C3D20, CPS6, CPS8 and gmsh's): the displacement may be of any degree on them.

    Parameters
    ----------
    path : str, Path or meshio.Mesh
        '.msh', '.inp', '.vtu', '.xdmf', …; or what meshio has read or made, which only rank 0's matters.
    tags : str, optional
        Name of integer cell data whose values above 0 are the tags; their parts are called 'volume 1', 'surface 3' and so
        on, as gmsh's groups without names.
    comm : MPI communicator
        All ranks by default.

    Returns
    -------
    TaggedMesh
        In two dimensions where there are no solid cells.

    Raises
    ------
    OSError
        On all ranks, for a file that cannot be read.
    ValueError
        On all ranks, for cells of third order or of several kinds, a surface that is not plane, an entity in two parts,
        parts that lie on no cell.
    """
    found: _File | None = None
    failure: Exception | None = None
    if comm.rank == 0:
        try:
            found = _understood(path if isinstance(path, meshio.Mesh) else _read(Path(path)), tags)
        except (OSError, ValueError) as error:
            failure = error
    failure = comm.bcast(failure, root=0)
    if failure is not None:
        raise failure
    head = (
        None if found is None else (found.kind, found.degree, found.points.shape[1], found.cells.shape[1], *found[4:])
    )
    kind, degree, dim, nodes, parts, names, node_sets = comm.bcast(head, root=0)
    points = np.zeros((0, dim)) if found is None else found.points
    cells = np.zeros((0, nodes), dtype=np.int64) if found is None else found.cells
    domain = versions.create_mesh(comm, cells, points, kind, degree)
    return TaggedMesh(domain, {d: _tags(domain, d, *parts[d]) for d in sorted(parts)}, names, node_sets)


def _read(path: Path) -> meshio.Mesh:
    where = "read_mesh"
    if not path.is_file():
        raise OSError(f"{where}: expected a mesh file, got {str(path)!r}, which does not exist. Check the path.")
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            return meshio.read(path)
    except (Exception, SystemExit) as error:  # meshio prints and leaves the program for formats it does not know
        reason = "no such format" if isinstance(error, SystemExit) else error
        raise OSError(
            f"{where}: expected a file that meshio reads, got {str(path)!r}: {reason}. Check its format."
        ) from error


def _understood(found: meshio.Mesh, tags: str | None) -> _File:
    where = "read_mesh"
    others = sorted({block.type for block in found.cells} - set(SHAPES))
    if others:
        raise ValueError(
            f"{where}: expected cells of first or second order ({', '.join(SHAPES)}), got {', '.join(others)}. Not supported: "
            "others; write the mesh anew with such cells (gmsh -order 2), on which the displacement may be of any order."
        )
    dim = max((SHAPES[block.type].dimension for block in found.cells), default=0)
    kinds = sorted({block.type for block in found.cells if SHAPES[block.type].dimension == dim})
    if dim < 2 or len(kinds) != 1:
        names = [name for name, shape in SHAPES.items() if shape.dimension > 1]
        raise ValueError(
            f"{where}: expected cells of one kind among {', '.join(names)}, got {', '.join(kinds) or 'none'}. Not supported: "
            "mixed meshes and bars; mesh with one kind (gmsh: Mesh.RecombineAll 0 gives simplices only)."
        )
    points = np.asarray(found.points, dtype=float)
    if dim == 2 and points.shape[1] == 3:
        if np.ptp(points[:, 2]) > 1e-10 * np.ptp(points, axis=0).max():
            raise ValueError(f"{where}: expected a plane mesh at constant z, got z that varies. Not supported: shells.")
        points = points[:, :2]
    _check_numbers(where, found)
    shape = SHAPES[kinds[0]]
    cells = np.concatenate([block.data for block in found.cells if block.type == kinds[0]])
    if shape.completed:
        cells, points = completed(kinds[0], cells, points)
        shape = SHAPES[shape.completed]
    # points of no cell, such as the centres of gmsh's arcs, are left out
    used, cells = np.unique(cells, return_inverse=True)
    number = np.full(len(points), -1)
    number[used] = np.arange(len(used))
    cells = cells.reshape(-1, len(shape.order))[:, shape.order]
    names, members = _parts(where, found, tags)
    corners: dict[int, list[np.ndarray]] = {}
    values: dict[int, list[np.ndarray]] = {}
    start = 0
    for k, block in enumerate(found.cells):
        d, ends = SHAPES[block.type].dimension, SHAPES[block.type].corners
        tag = members[k]
        # cells are known by their number, others by their corners
        rows = start + np.arange(len(tag))[:, None] if d == dim else np.sort(number[block.data[:, :ends]], axis=1)
        start += len(tag) if d == dim else 0
        corners.setdefault(d, []).append(rows[tag > 0])
        values.setdefault(d, []).append(tag[tag > 0])
    parts = {}
    for d in corners:
        rows, tag = np.concatenate(corners[d]), np.concatenate(values[d])
        if not len(rows):
            continue
        unique, place = np.unique(rows, axis=0, return_inverse=True)
        table = np.zeros(len(unique), dtype=np.int32)
        table[place.ravel()] = tag
        other = table[place.ravel()]
        if np.any(twice := other != tag):
            raise _twice(where, names, d, int(tag[twice][0]), int(other[twice][0]))
        parts[d] = (unique, table)
    point_sets: dict[str, Any] = found.point_sets
    return _File(
        shape.cell, shape.degree, points[used], cells.astype(np.int64), parts,
        {n: part for n, part in names.items() if part[0] in parts},
        {n: number[rows][number[rows] >= 0] for n, rows in point_sets.items() if len(rows)},
    )  # fmt: skip


def _check_numbers(where: str, found: meshio.Mesh) -> None:
    """What no file of a mesh says, and DOLFINx takes or crashes at."""
    points, wrong = np.asarray(found.points), ""
    if not np.all(np.isfinite(points)):
        wrong = f"NaN or infinity among the coordinates of {int(np.sum(~np.all(np.isfinite(points), axis=1)))} points"
    for block in found.cells:
        rows = np.asarray(block.data)
        nodes = int("".join(filter(str.isdigit, block.type)) or SHAPES[block.type].corners)
        if rows.ndim != 2 or rows.shape[1] != nodes:
            wrong = f"{block.type} cells without {nodes} points each"
            break
        rows = np.sort(rows, axis=1)
        if np.any(rows < 0) or np.any(rows >= len(points)):
            wrong = f"a {block.type} with a point that the file does not have"
        elif np.any(rows[:, 1:] == rows[:, :-1]):
            wrong = f"a {block.type} with a point twice"
    for name, tag in found.field_data.items():
        if np.shape(tag) == (2,) and not 0 <= tag[0] < 2**31:
            wrong = f"{int(tag[0])} as the number of {name!r}"
    if wrong:
        raise ValueError(
            f"{where}: expected cells of different, finite points, got {wrong}. Copy the file again, or mesh anew without collapsed cells."
        )


def _parts(where: str, found: Any, tags: str | None) -> tuple[dict[str, tuple[int, int]], list[np.ndarray]]:
    """Dimension and tag of each name, and the tags of the cells of each of the file's blocks; 0 for none."""
    dims = [SHAPES[block.type].dimension for block in found.cells]
    names = {name: (int(dim), int(tag)) for name, (tag, dim) in found.field_data.items()} if tags is None else {}
    members = [np.zeros(len(block.data), dtype=np.int32) for block in found.cells]
    physical = "gmsh:physical" in found.cell_data
    sets = {} if tags is not None else {n: v for n, v in found.cell_sets.items() if not n.startswith("gmsh:")}
    if tags is not None or (physical and not sets):
        key = tags or "gmsh:physical"
        if key not in found.cell_data:
            raise ValueError(
                f"{where}: expected integer cell data among {', '.join(found.cell_data) or 'none'}, got tags={tags!r}."
            )
        for k, values in enumerate(found.cell_data[key]):
            members[k] = np.asarray(values).astype(np.int32)
            if np.ndim(values) != 1 or np.any(members[k] != values):
                raise ValueError(f"{where}: expected cell data of whole numbers, got {key!r}, which are others.")
    for name, blocks in sets.items():
        for k, rows in enumerate(blocks):
            if rows is None or len(rows) == 0:
                continue
            # gmsh numbers its groups; a set of Abaqus that holds cells and faces is one name for two parts, refused
            dim, tag = names.setdefault(
                name, (dims[k], 1 + max((t for d, t in names.values() if d == dims[k]), default=0))
            )
            if dim != dims[k]:
                raise ValueError(f"{where}: expected a set of one dimension, got {name!r} with cells and faces.")
            if np.any(taken := members[k][rows] > 0):
                raise _twice(where, names, dim, tag, int(members[k][rows][taken][0]))
            members[k][rows] = tag
    if sets and physical:
        for k, values in enumerate(found.cell_data["gmsh:physical"]):
            if np.any((np.asarray(values) > 0) & (members[k] == 0)):
                raise ValueError(
                    f"{where}: expected physical groups with names, got one without ({_WORDS[dims[k]]} {int(np.max(values))}) "
                    "beside named ones. Name it: of groups without names, this format keeps one for each entity."
                )
    known = set(names.values())
    for k, dim in enumerate(dims):
        for tag in np.unique(members[k][members[k] > 0]).tolist():
            if (dim, tag) not in known:
                names[f"{_WORDS[dim]} {tag}"] = (dim, tag)
                known.add((dim, tag))
    return names, members


def _twice(where: str, names: dict[str, tuple[int, int]], dim: int, first: int, second: int) -> ValueError:
    called = [next((n for n, part in names.items() if part == (dim, tag)), str(tag)) for tag in (first, second)]
    return ValueError(
        f"{where}: expected every {_WORDS[dim]} in one part, got some in both {called[0]!r} and {called[1]!r}. Not supported: "
        "parts that overlap; give the overlap a name of its own."
    )


def _tags(domain: Any, dim: int, corners: np.ndarray, values: np.ndarray) -> Any:
    """Tags of this rank's entities, out of a table of all: numbers of cells, or sorted corners."""
    top = domain.topology.dim
    domain.topology.create_connectivity(dim, top)
    if dim == top:
        number = np.full(int(corners.max()) + 1, 0, dtype=np.int32)
        number[corners[:, 0]] = values
        original = versions.original_cells(domain)
        tag = np.where(original < len(number), number[np.minimum(original, len(number) - 1)], 0)
        entity, tag = np.flatnonzero(tag).astype(np.int32), tag[tag > 0]
        return dolfinx_mesh.meshtags(domain, dim, entity, tag.astype(np.int32))
    domain.topology.create_connectivity(top, dim)
    node = np.asarray(domain.geometry.input_global_indices)
    places = np.array(basix.topology(getattr(basix.CellType, domain.topology.cell_type.name))[dim])
    cells = node[versions.cell_nodes(domain)] if len(node) else np.zeros((0, int(places.max()) + 1), dtype=np.int64)
    # most entities have a corner that no part has
    marked = np.zeros(1 + max(int(corners.max()), int(cells.max(initial=0))), dtype=bool)
    marked[corners] = True
    candidate = np.argwhere(np.all(marked[cells[:, places]], axis=2))
    links = domain.topology.connectivity(top, dim)
    offsets = np.asarray(links.offsets)
    local = np.asarray(links.array)[offsets[candidate[:, 0]] + candidate[:, 1]]
    rows = np.sort(cells[candidate[:, 0][:, None], places[candidate[:, 1]]], axis=1)
    table, wanted = _keys(corners), _keys(rows)  # the table is sorted, since it comes from unique rows
    place = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    same = table[place] == wanted
    seen = np.zeros(len(table), dtype=bool)
    seen[place[same]] = True
    domain.comm.Allreduce(MPI.IN_PLACE, seen, op=MPI.LOR)
    if not np.all(seen):
        raise ValueError(
            f"read_mesh: expected every tagged {_WORDS[dim]} on a cell, got {int(np.sum(~seen))} that lie on none. Mend the "
            "mesh: its parts must share their points."
        )
    entity, first = np.unique(local[same].astype(np.int32), return_index=True)
    return dolfinx_mesh.meshtags(domain, dim, entity, values[place[same]][first].astype(np.int32))


def _keys(rows: np.ndarray) -> np.ndarray:
    """Rows (n, k) of numbers as n items that can be compared."""
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    return rows.view([("", np.int64)] * rows.shape[1]).ravel()
