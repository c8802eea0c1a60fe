"""The only file that knows that DOLFINx versions differ.

Run on 0.5.2 (Debian 12), 0.9 (Debian 13) and 0.11 (sid), see `make test-dolfinx`. Written for 0.6 and 0.8 up to 0.11;
0.7 stands between two element interfaces and is refused. What all of these
share (assembly into PETSc vectors and matrices, positional `apply_lifting` and `set_bc`, `x.array`,
`x.scatter_forward`) is used directly elsewhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import basix as _basix
import dolfinx as _dolfinx
import numpy as np
import ufl
from dolfinx import fem as _fem
from petsc4py import PETSc as _petsc

# names and signatures come and go between versions, which no type checker can follow
basix: Any = _basix
dolfinx: Any = _dolfinx
fem: Any = _fem
PETSc: Any = _petsc
VERSION = tuple(int(number) for number in re.findall(r"\d+", dolfinx.__version__)[:2])
if VERSION < (0, 5) or VERSION == (0, 7):
    raise ImportError(
        f"fem: expected DOLFINx 0.5, 0.6 or 0.8 and later, got {dolfinx.__version__}. "
        "Install another version: apt install python3-dolfinx, or conda install -c conda-forge fenics-dolfinx."
    )

#: Elements are UFL's own up to 0.6 and basix.ufl's from 0.8 on.
_UFL_ELEMENTS = VERSION < (0, 7)
#: Measured to save 15–45 % of assembly. The time limit covers another process that compiles the same form.
_JIT = {"cffi_extra_compile_args": ["-O3", "-march=native", "-g0"], "timeout": 120}
_JIT_KEYWORD: dict[str, Any] = {"jit_params" if VERSION < (0, 6) else "jit_options": _JIT}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the C compiler's command lines, which distutils logs after raising the root level, off the terminal."""
    root = logging.getLogger()
    level, disabled = root.level, root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)


def compile_form(form: ufl.Form) -> Any:
    """The compiled form, with fast compiler flags."""
    with _quiet():
        return fem.form(form, **_JIT_KEYWORD)


def compile_expression(expression: Any, points: np.ndarray) -> Any:
    """The compiled expression at reference points (q, dim), for `evaluate`."""
    with _quiet():
        return fem.Expression(expression, points, **_JIT_KEYWORD)


def evaluate(expression: Any, mesh: Any, cells: np.ndarray, size: int) -> np.ndarray:
    """Values (cells·q, size) of a compiled expression in local cells, cell by cell and point by point."""
    cells = np.ascontiguousarray(cells, dtype=np.int32)
    if len(cells) == 0:
        # an empty rank: versions disagree on whether eval takes no cells at all
        return np.zeros((0, size))
    values = expression.eval(cells) if VERSION < (0, 7) else expression.eval(mesh, cells)
    return np.asarray(values).reshape(-1, size)


def create_mesh(comm: Any, cells: np.ndarray, points: np.ndarray, cell: str, degree: int = 1) -> Any:
    """Mesh of cells of a degree, 'hexahedron', 'tetrahedron', 'quadrilateral' or 'triangle', from node numbers and points
    (n, dim).

    Nodes are ordered as DOLFINx does: corners of a hexahedron or quadrilateral count x fastest, a tensor product. On several
    ranks, each gives its share of cells and points, or one gives all of them and the others empty arrays of the same width.
    """
    cells = np.ascontiguousarray(cells, dtype=np.int64)
    points = np.ascontiguousarray(points, dtype=float)
    dim = points.shape[1]
    if _UFL_ELEMENTS:
        coordinates = ufl.VectorElement("Lagrange", ufl.Cell(cell, geometric_dimension=dim), degree)
        return dolfinx.mesh.create_mesh(comm, cells, points, ufl.Mesh(coordinates))
    import basix.ufl

    element = basix.ufl.element("Lagrange", cell, degree, shape=(dim,))
    # cells, coordinate element and points changed places after 0.9
    if VERSION < (0, 10):
        return dolfinx.mesh.create_mesh(comm, cells, points, ufl.Mesh(element))
    return dolfinx.mesh.create_mesh(comm, cells=cells, x=points, e=ufl.Mesh(element))


def quadrature_rule(mesh: Any, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (q, dim) and weights (q,) of the default rule, the one FFCx takes for a quadrature element."""
    cell = getattr(basix.CellType, mesh.topology.cell_type.name)
    points, weights = basix.make_quadrature(cell, degree)
    return np.asarray(points), np.asarray(weights)


def _function_space(mesh: Any, element: Any) -> Any:
    make = fem.FunctionSpace if VERSION < (0, 7) else fem.functionspace
    with _quiet():
        return make(mesh, element)


def quadrature_space(mesh: Any, degree: int, size: int) -> Any:
    """Space of fields with `size` components at the quadrature points."""
    if _UFL_ELEMENTS:
        element = ufl.VectorElement("Quadrature", mesh.ufl_cell(), degree, dim=size, quad_scheme="default")
        return _function_space(mesh, element)
    from basix.ufl import quadrature_element  # absent from the basix of DOLFINx 0.5

    name = mesh.topology.cell_type.name
    element = quadrature_element(name, value_shape=(size,), scheme="default", degree=degree)
    return _function_space(mesh, element)


def lagrange_space(mesh: Any, family: str, degree: int, shape: tuple[int, ...]) -> Any:
    """'DG' or 'CG' space of scalars (), vectors (3,) or tensors (3, 3)."""
    if not _UFL_ELEMENTS:
        name = "Discontinuous Lagrange" if family == "DG" else "Lagrange"
        return _function_space(mesh, (name, degree, shape))
    cell = mesh.ufl_cell()
    if shape == ():
        element: Any = ufl.FiniteElement(family, cell, degree)
    elif len(shape) == 1:
        element = ufl.VectorElement(family, cell, degree, dim=shape[0])
    else:
        element = ufl.TensorElement(family, cell, degree, shape=shape)
    return _function_space(mesh, element)


def lagrange_degree(function: Any) -> int:
    """Degree of a Lagrange Function, 1 where it is none."""
    element = function.function_space.ufl_element()
    degree = element.degree() if _UFL_ELEMENTS else element.degree
    return max(1, int(degree))


def write_vtx(where: str, mesh: Any, path: Any, functions: list[Any], time: float) -> None:
    """Write functions of one element to ADIOS2's VTX format, where DOLFINx was built with it."""
    from dolfinx import io

    writer: Any = getattr(io, "VTXWriter", None)
    if writer is None:
        raise ValueError(
            f"{where}: expected a DOLFINx with ADIOS2, got {dolfinx.__version__} without. Use write_xdmf, which ParaView opens too."
        )
    with writer(mesh.comm, str(path), functions, engine="BP4") as file:
        file.write(time)


def xdmf_parts(field: Any) -> list[Any]:
    """What XDMFFile writes of a field: itself, or its components.

    Up to 0.6 it takes a field for one of cells where it has dim^rank values a cell, so that (3, 3) on a plane mesh would be
    written at the nodes, each with the value of one of its cells.
    """
    space = field.function_space
    mesh, shape = space.mesh, value_shape(field)
    per_cell = space.dofmap.dof_layout.num_dofs
    if not _UFL_ELEMENTS or len(shape) != 2 or per_cell != 1 or shape[0] == mesh.topology.dim:
        return [field]
    values = np.asarray(field.x.array).reshape(-1, *shape)
    symmetric = mesh.comm.allreduce(int(not np.array_equal(values, np.swapaxes(values, 1, 2)))) == 0
    parts = []
    for i, j in np.ndindex(shape):
        if not symmetric or i <= j:
            part = fem.Function(lagrange_space(mesh, "DG", 0, ()), name=f"{field.name}_{i + 1}{j + 1}")
            part.x.array[:] = values[:, i, j]
            parts.append(part)
    return parts


def value_shape(function: Any) -> tuple[int, ...]:
    """Shape of the values of a Function."""
    return tuple(function.ufl_shape)


def cell_dofs(space: Any) -> np.ndarray:
    """Blocked degrees of freedom (cells, dofs per cell), ghost cells included."""
    if VERSION < (0, 7):
        table = space.dofmap.list
        # a rank without cells has nothing to infer the width from
        return np.asarray(table.array).reshape(table.num_nodes, -1 if table.num_nodes else 0)
    return np.asarray(space.dofmap.list)


def cell_nodes(mesh: Any) -> np.ndarray:
    """Nodes of the mesh's own geometry (cells, nodes per cell), ghost cells included."""
    table = mesh.geometry.dofmap
    if VERSION < (0, 7):
        return np.asarray(table.array).reshape(table.num_nodes, -1 if table.num_nodes else 0)
    return np.asarray(table)


def ghosted_vector(space: Any) -> Any:
    """PETSc vector with the layout of `space`, ghosts included; `create_vector` differs from version to version."""
    index_map, block = space.dofmap.index_map, space.dofmap.index_map_bs
    sizes = (index_map.size_local * block, index_map.size_global * block)
    ghosts = np.asarray(index_map.ghosts, dtype=PETSc.IntType)
    vector = PETSc.Vec().createGhost(ghosts, sizes, bsize=block, comm=space.mesh.comm)
    vector.set(0.0)
    return vector


def lagrange_tables(where: str, u: Any, degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Derivatives of the basis (q, nodes, 3) and of the geometry (q, its nodes, 3) in reference coordinates, weights (q,).

    For a Lagrange displacement of degree 1 or 2 on hexahedra or tetrahedra whose geometry is of degree 1 or 2: others raise
    ValueError.
    """
    mesh, element = u.function_space.mesh, u.function_space.ufl_element()
    cell = mesh.topology.cell_type.name
    names = {"Lagrange", "CG", "Q", "P"}
    family = element.family() if _UFL_ELEMENTS else element.family_name
    order = element.degree() if _UFL_ELEMENTS else element.degree
    if (
        value_shape(u) != (3,)
        or cell not in ("hexahedron", "tetrahedron")
        or family not in names
        or order not in (1, 2)
    ):
        raise ValueError(
            f"{where}: not supported: {element} on a {cell}. Expected three components of Lagrange degree 1 or 2 on "
            "hexahedra or tetrahedra; use QuadratureMaterial."
        )
    points, weights = quadrature_rule(mesh, degree)

    def derivatives(of: int) -> np.ndarray:
        kind, variant = getattr(basix.CellType, cell), basix.LagrangeVariant.gll_warped
        values = basix.create_element(basix.ElementFamily.P, kind, of, variant).tabulate(1, points)
        return np.ascontiguousarray(np.moveaxis(np.asarray(values)[1:, :, :, 0], 0, 2))

    curved = geometry_degree(mesh)
    if curved not in (1, 2):
        raise ValueError(f"{where}: not supported: cells of a degree beyond 2. Use QuadratureMaterial.")
    return derivatives(order), derivatives(curved), weights


def geometry_degree(mesh: Any) -> int:
    """Degree of the cells' edges."""
    element = mesh.ufl_domain().ufl_coordinate_element()
    return int(element.degree() if _UFL_ELEMENTS else element.degree)


def elasticity_matrix(space: Any) -> Any:
    """PETSc matrix in which all components of the nodes of a cell are coupled, its pattern filled with zeros."""
    from dolfinx.fem import petsc

    v, du = ufl.TestFunction(space), ufl.TrialFunction(space)
    form = compile_form(ufl.inner(du, v) * ufl.dx)
    matrix = petsc.create_matrix(form)
    petsc.assemble_matrix(matrix, form)
    matrix.assemble()
    matrix.zeroEntries()
    return matrix


def original_cells(mesh: Any) -> np.ndarray:
    """Number (cells,) that each local cell, ghosts included, had when the mesh was made; the same on any number of ranks."""
    return np.asarray(mesh.topology.original_cell_index)
