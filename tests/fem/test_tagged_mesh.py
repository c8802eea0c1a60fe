"""Named parts of mesh files: what gmsh, Abaqus and meshio wrote is where the file says, and can be used by name."""

from __future__ import annotations

import meshio
import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx.mesh import exterior_facet_indices
from mpi4py import MPI

from constitutive import PolynomialLaw
from crystals import PointGroup
from crystals.mandel import to_mandel
from fem import EquilibriumProblem, QuadratureMaterial, read_mesh, write_xdmf
from fem.dolfinx_versions import compile_form, lagrange_space

VTK_HEXAHEDRON = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
TETRAHEDRA = [[0, 1, 2, 6], [0, 2, 3, 6], [0, 3, 7, 6], [0, 7, 4, 6], [0, 4, 5, 6], [0, 5, 1, 6]]
ENDS = {"left": 0.0, "right": 3.0}


def bar(kind, cells=(3, 2, 2)):
    """A bar of 3 × 1 (× 1) with 'soft' for x < 1 and 'stiff' beyond, its ends, an edge and a corner; as meshio has it.

    The points are shuffled, and one belongs to no cell."""
    dim = 3 if kind in ("hexahedron", "tetra") else 2
    shape = np.array([*cells[:dim], *[0] * (3 - dim)])
    grid = np.stack(np.meshgrid(*(np.arange(n + 1) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    number = {tuple(point): k for k, point in enumerate(grid.tolist())}
    blocks = []
    for corner in np.ndindex(*np.maximum(shape, 1)):
        boxes = np.array(VTK_HEXAHEDRON[: 2**dim]) + corner
        one = [number[tuple(point)] for point in boxes.tolist()]
        if kind == "tetra":
            blocks += [[one[k] for k in four] for four in TETRAHEDRA]
        elif kind == "triangle":
            blocks += [[one[0], one[1], one[2]], [one[0], one[2], one[3]]]
        else:
            blocks.append(one)
    points = grid / np.maximum(shape, 1) * [3.0, 1.0, 1.0]
    blocks = np.array(blocks)
    stiff = points[blocks][:, :, 0].mean(axis=1) > 1.0
    faces = {"hexahedron": [[0, 3, 7, 4], [1, 2, 6, 5]], "tetra": [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]],
             "quad": [[0, 3], [1, 2]], "triangle": [[0, 1], [1, 2], [0, 2]]}[kind]  # fmt: skip
    face = {"hexahedron": "quad", "tetra": "triangle"}.get(kind, "line")
    candidates = np.concatenate([blocks[:, local] for local in faces])
    ends = {name: candidates[np.all(points[candidates][:, :, 0] == x, axis=1)] for name, x in ENDS.items()}
    shuffle = np.random.default_rng(0).permutation(len(points) + 1)
    placed = np.empty((len(points) + 1, 3))
    placed[shuffle] = np.vstack([points, [[9.0, 9.0, 0.0]]])
    tagged = [(kind, blocks[~stiff], 7), (kind, blocks[stiff], 3), (face, ends["left"], 4), (face, ends["right"], 2)]
    tagged.append(("vertex", np.array([[number[0, 0, 0]]]), 1))
    return meshio.Mesh(
        placed,
        [(name, shuffle[rows]) for name, rows, _ in tagged],
        cell_data={key: [np.full(len(rows), tag) for _, rows, tag in tagged] for key in ("gmsh:physical", "gmsh:geometrical")},
        field_data={"soft": np.array([7, dim]), "stiff": np.array([3, dim]), "left": np.array([4, dim - 1]),
                    "right": np.array([2, dim - 1]), "corner": np.array([1, 0])},
    )  # fmt: skip


def gmsh41(mesh):
    """The text of a file of format 4.1, by the format's description in gmsh's manual: one entity for each block."""
    names = "\n".join(f'{dim} {tag} "{name}"' for name, (tag, dim) in mesh.field_data.items())
    entities, elements, counts, number = [], [], [0, 0, 0, 0], 0
    for k, (block, tags) in enumerate(zip(mesh.cells, mesh.cell_data["gmsh:physical"], strict=True)):
        counts[block.dim] += 1
        box = "0 0 0" if block.dim == 0 else "0 0 0 3 1 1"
        entities.append((block.dim, f"{k + 1} {box} 1 {tags[0]}" + (" 0" if block.dim else "")))
        kinds = {"vertex": 15, "line": 1, "triangle": 2, "quad": 3, "tetra": 4, "hexahedron": 5}
        elements.append(f"{block.dim} {k + 1} {kinds[block.type]} {len(block.data)}")
        for row in block.data:
            number += 1
            elements.append(" ".join(map(str, [number, *(row + 1)])))
    entities.sort(key=lambda entity: entity[0])
    n = len(mesh.points)
    nodes = [f"1 {n} 1 {n}", f"3 1 0 {n}", *map(str, range(1, n + 1)), *(" ".join(map(str, p)) for p in mesh.points)]
    return "\n".join([
        "$MeshFormat", "4.1 0 8", "$EndMeshFormat",
        "$PhysicalNames", str(len(mesh.field_data)), names, "$EndPhysicalNames",
        "$Entities", " ".join(map(str, counts)), *(text for _, text in entities), "$EndEntities",
        "$Nodes", *nodes, "$EndNodes",
        "$Elements", f"{len(mesh.cells)} {number} 1 {number}", *elements, "$EndElements", "",
    ])  # fmt: skip


def written(folder, kind, form):
    mesh = bar(kind)
    path = folder / ("part.inp" if form == "abaqus" else "part.vtu" if form == "vtu" else "part.msh")
    if form == "gmsh41":
        path.write_text(gmsh41(mesh))
    elif form == "gmsh22":
        meshio.write(path, mesh, file_format="gmsh22", binary=False)
    elif form == "abaqus":
        sets = {name: [np.arange(len(block.data)) if tag == tags[0] and block.dim == dim else np.array([], dtype=int)
                       for block, tags in zip(mesh.cells, mesh.cell_data["gmsh:physical"], strict=True)]
                for name, (tag, dim) in mesh.field_data.items() if dim > 1}  # fmt: skip
        whole = [c for c in mesh.cells if c.dim > 1]
        meshio.write(path, meshio.Mesh(mesh.points, whole, cell_sets={n: s[: len(whole)] for n, s in sets.items()}))
    else:
        meshio.write(path, meshio.Mesh(mesh.points, mesh.cells, cell_data={"part": mesh.cell_data["gmsh:physical"]}))
    return path


def size(part, name):
    """Volume, area or length of a part of a mesh."""
    one = dfem.Constant(part.mesh, 1.0)
    if part.names[name][0] == part.mesh.topology.dim:
        tags, tag = part.subdomain(name)
        form = one * ufl.Measure("dx", domain=part.mesh, subdomain_data=tags)(tag)
    else:
        form = one * part.ds(name)
    return part.mesh.comm.allreduce(dfem.assemble_scalar(compile_form(form)))


@pytest.mark.parametrize("kind", ["hexahedron", "tetra", "quad", "triangle"])
@pytest.mark.parametrize("form", ["gmsh22", "gmsh41"])
def test_groups_of_gmsh(tmp_path, kind, form):
    part = read_mesh(written(tmp_path, kind, form))
    dim = 3 if kind in ("hexahedron", "tetra") else 2
    assert set(part.names) == {"soft", "stiff", "left", "right", "corner"}
    assert part.mesh.topology.dim == part.mesh.geometry.dim == dim
    assert size(part, "soft") == pytest.approx(1.0) and size(part, "stiff") == pytest.approx(2.0)
    assert size(part, "left") == pytest.approx(1.0) and size(part, "right") == pytest.approx(1.0)
    space = lagrange_space(part.mesh, "CG", 1, (dim,))
    places = space.tabulate_dof_coordinates()
    for name, x in ENDS.items():
        found = part.dofs(space, name)
        np.testing.assert_array_equal(np.sort(found), np.flatnonzero(np.isclose(places[:, 0], x)))
    np.testing.assert_allclose(places[part.dofs(space, "corner")], [[0.0, 0.0, 0.0]], atol=1e-12)
    assert "'soft' (" in repr(part)


def test_other_formats(tmp_path):
    abaqus = read_mesh(written(tmp_path, "tetra", "abaqus"))
    assert size(abaqus, "soft") == pytest.approx(1.0) and size(abaqus, "right") == pytest.approx(1.0)
    vtu = written(tmp_path, "hexahedron", "vtu")
    tagged = read_mesh(vtu, tags="part")
    assert size(tagged, "volume 7") == pytest.approx(1.0) and size(tagged, "surface 2") == pytest.approx(1.0)
    assert read_mesh(vtu).names == {}
    with pytest.raises(ValueError, match=r"cell data among part.*, got tags='phase'"):
        read_mesh(vtu, tags="phase")


@pytest.mark.parametrize("kind", ["hexahedron", "tetra"])
def test_two_laws_by_name(tmp_path, kind):
    """A bar of two materials in series, its sides held: one stress, C11 of each for its strain; loads by name."""
    part = read_mesh(written(tmp_path, kind, "gmsh41"))
    space = lagrange_space(part.mesh, "CG", 1, (3,))
    u, v = dfem.Function(space), ufl.TestFunction(space)
    moduli = {"soft": 50.0, "stiff": 200.0}
    group = PointGroup("m-3m")
    materials = []
    for name, c11 in moduli.items():
        law = PolynomialLaw(group, 2, np.diag([c11] * 3 + [c11] * 3), strain_measure="small")
        materials.append(QuadratureMaterial(law, u, kinematics="small", subdomain=part.subdomain(name)))
    traction = dfem.Constant(part.mesh, 0.1)
    residual = sum(material.virtual_work(v) for material in materials) - traction * v[0] * part.ds("right")
    bcs = [dfem.dirichletbc(np.zeros(3), part.dofs(space, "left"), space)]
    for k in (1, 2):
        sub, _ = space.sub(k).collapse()
        everywhere = dfem.locate_dofs_geometrical((space.sub(k), sub), lambda x: np.ones(x.shape[1], dtype=bool))
        bcs.append(dfem.dirichletbc(dfem.Function(sub), everywhere, space.sub(k)))
    problem = EquilibriumProblem(residual, u, materials, bcs=bcs)
    problem.solve()
    end = part.dofs(space.sub(0), "right")
    np.testing.assert_allclose(u.x.array[end], 0.1 / 50.0 + 2 * 0.1 / 200.0, rtol=1e-10)
    for material in materials:
        np.testing.assert_allclose(material.cauchy()[:, 0], 0.1, rtol=1e-9)
    # half a body has no stiffness: said so, not solved
    half = materials[1]
    with pytest.raises(ValueError, match=r"belong to no material.*first at x = "):
        EquilibriumProblem(half.virtual_work(v), u, [half]).solve()
    # and what is held where there is no material holds nothing
    with pytest.raises(ValueError, match="free rigid motion"):
        EquilibriumProblem(half.virtual_work(v), u, [half], bcs=bcs[:1]).solve()
    # nor does it disturb what is held elsewhere, however often the matrix is filled
    moved = dfem.Function(space)
    bcs = [bcs[0], dfem.dirichletbc(moved, part.dofs(space, "right"))]
    u.x.array[:] = 0.0
    problem = EquilibriumProblem(half.virtual_work(v), u, [half], bcs=bcs)
    inside = dfem.locate_dofs_geometrical(space, lambda x: x[0] > 0.99)
    for shift in (0.01, 0.03, 0.02):
        moved.x.array[:] = shift
        problem.solve()
        np.testing.assert_allclose(u.x.array.reshape(-1, 3)[inside], shift, rtol=1e-9)
    values = problem._matrix.copy()
    problem._assemble_matrix()
    values.axpy(-1.0, problem._matrix)
    assert values.norm() < 1e-12 * problem._matrix.norm()


#: meshio's second-order cells: the pairs of corners between which VTK's further nodes lie, then their faces
SECOND = {
    "triangle6": [(0, 1), (1, 2), (2, 0)],
    "quad8": [(0, 1), (1, 2), (2, 3), (3, 0)],
    "tetra10": [(0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)],
    "hexahedron20": [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)],
    "line3": [(0, 1)],
}
CURVED = {"triangle": "triangle6", "quad": "quad8", "tetra": "tetra10", "hexahedron": "hexahedron20", "line": "line3"}
SECOND["quad9"] = [*SECOND["quad8"], (0, 1, 2, 3)]
SECOND["hexahedron27"] = [*SECOND["hexahedron20"], (0, 3, 7, 4), (1, 2, 6, 5), (0, 1, 5, 4), (3, 2, 6, 7), (0, 1, 2, 3),
                          (4, 5, 6, 7), tuple(range(8))]  # fmt: skip


def curved(kind, bent, whole=False):
    """The bar with nodes between its corners, all moved by `bent`, a quadratic function of the place."""
    mesh = bar(kind)
    points, number, cells = list(mesh.points), {}, []
    for block in mesh.cells:
        name = CURVED.get(block.type, block.type)
        if whole:
            name = {"quad8": "quad9", "hexahedron20": "hexahedron27"}.get(name, name)
        rows = []
        for row in block.data.tolist():
            extra = []
            for corners in SECOND.get(name, []):
                key = tuple(sorted(row[k] for k in corners))
                if key not in number:
                    number[key] = len(points)
                    points.append(mesh.points[list(key)].mean(axis=0))
                extra.append(number[key])
            rows.append([*row, *extra])
        cells.append((name, np.array(rows)))
    return meshio.Mesh(bent(np.array(points)), cells, cell_data=mesh.cell_data, field_data=mesh.field_data)


def arc(points):
    """A bend whose neutral line is a parabola, quadratic in x and in y."""
    x, y, z = points.T
    return np.stack([x + 0.1 * x * y, y - 0.05 * x**2 + 0.04 * x * y, z], axis=1)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", ["hexahedron", "tetra", "quad", "triangle"])
def test_second_order_cells(tmp_path, kind, whole):
    """Curved edges are kept: volumes and areas of a quadratic map, exactly; parts are found by their names."""
    path = tmp_path / "curved.msh"
    meshio.write(path, curved(kind, arc, whole), file_format="gmsh22", binary=False)
    part = read_mesh(path)
    dim = part.mesh.topology.dim

    def exact(low, high):  # the integral of det ∂arc/∂x = (1 + 0.1 y)(1 + 0.04 x) + 0.1 x (0.1 x − 0.04 y)
        x, y = np.polynomial.legendre.leggauss(6)
        x, y = low + (high - low) * (x[:, None] + 1) / 2, (x[None, :] + 1) / 2
        weight = np.polynomial.legendre.leggauss(6)[1]
        density = (1 + 0.1 * y) * (1 + 0.04 * x) + 0.1 * x * (0.1 * x - 0.04 * y)
        return float(weight @ density @ weight) * (high - low) / 4

    for name, ends in (("soft", (0.0, 1.0)), ("stiff", (1.0, 3.0))):
        # a bilinear term in each direction is more than the edges of a simplex follow
        close = 1e-12 if kind in ("hexahedron", "quad") else 2e-3
        assert size(part, name) == pytest.approx(exact(*ends), rel=close)
    assert size(part, "left") == pytest.approx(1.0, rel=1e-12)
    # negative control: straight edges have another volume
    path = tmp_path / "straight.msh"
    straight = bar(kind)
    straight.points = arc(straight.points)
    meshio.write(path, straight, file_format="gmsh22", binary=False)
    assert abs(size(read_mesh(path), "stiff") / size(part, "stiff") - 1) > 1e-4
    assert len(part.dofs(lagrange_space(part.mesh, "CG", 2, (dim,)), "right")) > 2


@pytest.mark.parametrize("kind", ["hexahedron", "tetra"])
def test_a_curved_body_bears_a_patch_test(tmp_path, kind):
    """Held on its surface as a uniform strain has it, the stress is that of the law, by kernels as by forms; Abaqus names."""
    path = tmp_path / "curved.inp"
    mesh = curved(kind, arc)
    meshio.write(path, meshio.Mesh(mesh.points, [cell for cell in mesh.cells if cell.dim == 3]))
    assert {"tetra": "C3D10", "hexahedron": "C3D20"}[kind] in path.read_text()
    part = read_mesh(path)
    space = lagrange_space(part.mesh, "CG", 2, (3,))
    gradient = np.array([[0.02, 0.01, 0.0], [-0.01, 0.015, 0.02], [0.01, 0.0, -0.01]])
    given, u, v = dfem.Function(space), dfem.Function(space), ufl.TestFunction(space)
    given.interpolate(lambda x: gradient @ x)
    part.mesh.topology.create_connectivity(2, 3)
    facets = exterior_facet_indices(part.mesh.topology)
    bcs = [dfem.dirichletbc(given, dfem.locate_dofs_topological(space, 2, facets))]
    law = PolynomialLaw(PointGroup("m-3m"), 2, np.diag([100.0] * 3 + [60.0] * 3))
    deformation = np.eye(3) + gradient
    strain = to_mandel(0.5 * (deformation.T @ deformation - np.eye(3)))
    for assembly in ("auto", "forms", "fused"):
        u.x.array[:] = 0.0
        material = QuadratureMaterial(law, u)
        problem = EquilibriumProblem(material.virtual_work(v), u, [material], bcs=bcs, assembly=assembly)
        problem.solve()
        assert problem.assembly.startswith("DOLFINx" if assembly == "forms" else "element kernels in C")
        np.testing.assert_allclose(material.strain, np.broadcast_to(strain, material.strain.shape), atol=1e-12)
    np.testing.assert_allclose(u.x.array, given.x.array, atol=1e-12)
    write_xdmf(tmp_path / "shown.xdmf", u, [material.project("von_mises")])
    shown = meshio.read(tmp_path / "shown.xdmf")
    assert shown.cells[0].type == {"tetra": "tetra10", "hexahedron": "hexahedron27"}[kind]
    moved = shown.point_data["displacement"]
    np.testing.assert_allclose(moved, shown.points @ gradient.T, atol=1e-12)


ABAQUS = """*HEADING
a bar of two cubes, written by hand
*NODE, NSET=ALL
1, 0., 0., 0.
2, 1., 0., 0.
3, 2., 0., 0.
4, 0., 1., 0.
5, 1., 1., 0.
6, 2., 1., 0.
7, 0., 0., 1.
8, 1., 0., 1.
9, 2., 0., 1.
10, 0., 1., 1.
11, 1., 1., 1.
12, 2., 1., 1.
*ELEMENT, TYPE=C3D8, ELSET=BAR
1, 1, 2, 5, 4, 7, 8, 11, 10
2, 2, 3, 6, 5, 8, 9, 12, 11
*NSET, NSET=FIXED
1, 4, 7, 10
*NSET, NSET=LOADED, GENERATE
3, 12, 3
*NSET, NSET=CORNER
6
*NSET, NSET=INSIDE
2, 5, 8, 11
"""


@pytest.mark.parametrize("degree", [1, 2])
def test_node_sets_of_abaqus(tmp_path, degree):
    """Supports and loads by sets of nodes: a bar held and pulled at its ends; nodes between count with their faces."""
    (tmp_path / "bar.inp").write_text(ABAQUS)
    part = read_mesh(tmp_path / "bar.inp")
    assert set(part.names) == {"BAR"} and {"FIXED", "LOADED", "CORNER", "INSIDE"} <= set(part.node_sets)
    assert "'FIXED' (nodes)" in repr(part)
    space = lagrange_space(part.mesh, "CG", degree, (3,))
    places = space.tabulate_dof_coordinates()
    for name, x in (("FIXED", 0.0), ("LOADED", 2.0), ("INSIDE", 1.0)):
        np.testing.assert_array_equal(np.sort(part.dofs(space, name)), np.flatnonzero(np.isclose(places[:, 0], x)))
    np.testing.assert_allclose(places[part.dofs(space, "CORNER")], [[2.0, 1.0, 0.0]], atol=1e-12)
    one = dfem.Constant(part.mesh, 1.0)
    assert dfem.assemble_scalar(compile_form(one * part.ds("LOADED"))) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="between the nodes of 'INSIDE', got none"):
        part.ds("INSIDE")
    with pytest.raises(ValueError, match="'CORNER', 'FIXED', 'INSIDE', 'LOADED'.*got 'TOP'"):
        part.dofs(space, "TOP")
    u, v = dfem.Function(space), ufl.TestFunction(space)
    law = PolynomialLaw(PointGroup("m-3m"), 2, 100.0 * np.eye(6), strain_measure="small")
    material = QuadratureMaterial(law, u, kinematics="small", subdomain=part.subdomain("BAR"))
    bcs = [dfem.dirichletbc(np.zeros(3), part.dofs(space, "FIXED"), space)]
    residual = material.virtual_work(v) - dfem.Constant(part.mesh, 0.5) * v[0] * part.ds("LOADED")
    EquilibriumProblem(residual, u, [material], bcs=bcs).solve()
    # no lateral strain where C12 = 0
    np.testing.assert_allclose(material.cauchy(), [[0.5, 0, 0, 0, 0, 0]] * len(material.strain), atol=1e-10)


def test_mistakes_have_names(tmp_path, capfd):
    part = read_mesh(written(tmp_path, "hexahedron", "gmsh22"))
    with pytest.raises(ValueError, match=r"name of a volume \('soft', 'stiff'\), got 'left'"):
        part.subdomain("left")
    with pytest.raises(ValueError, match="got 'top'"):
        part.dofs(lagrange_space(part.mesh, "CG", 1, (3,)), "top")
    with pytest.raises(OSError, match="which does not exist"):
        read_mesh(tmp_path / "none.msh")
    (tmp_path / "text.msh").write_text("no mesh")
    with pytest.raises(OSError, match="that meshio reads, got .*no such format"):
        read_mesh(tmp_path / "text.msh")
    assert capfd.readouterr() == ("", "")  # meshio's own words would stand beside ours
    good = bar("hexahedron")
    x = good.points[:, 0]
    quads = np.concatenate([c.data[:, [1, 2, 6, 5]] for c in good.cells if c.dim == 3])
    quads = quads[np.all(np.isclose(x[quads], 1.0), axis=1)]

    def save(extra, tag, kind="quad"):
        blocks = [*good.cells, meshio.CellBlock(kind, extra)]
        values = [*good.cell_data["gmsh:physical"], np.full(len(extra), tag)]
        data = {key: values for key in ("gmsh:physical", "gmsh:geometrical")}
        path = tmp_path / "other.msh"
        meshio.write(
            path, meshio.Mesh(good.points, blocks, cell_data=data, field_data=good.field_data), "gmsh22", binary=False
        )
        return path

    between = read_mesh(save(quads, 9))
    assert len(between.entities("surface 9")) == 4
    with pytest.raises(ValueError, match="4 between cells"):
        between.ds("surface 9")
    with pytest.raises(
        ValueError, match="in both '.*left.*'|in both 'surface 9' and 'left'|in both 'left' and 'surface 9'"
    ):
        read_mesh(save(good.cells[2].data, 9))
    with pytest.raises(ValueError, match="1 that lie on none"):
        read_mesh(save(np.array([[good.cells[0].data[0][k] for k in (0, 1, 6, 7)]]), 9))
    with pytest.raises(ValueError, match="Not supported: .*mixed meshes"):
        read_mesh(save(good.cells[0].data[:1, [0, 1, 2, 6]], 9, "tetra"))
    with pytest.raises(ValueError, match="first or second order .*, got triangle10. Not supported"):
        read_mesh(save(np.zeros((1, 10), dtype=int), 9, "triangle10"))


def test_numbers_that_make_no_mesh_are_refused():
    """What a damaged file may hold: DOLFINx takes some of it, and ends the program at others."""
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    cells = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
    assert read_mesh(meshio.Mesh(points, [("tetra", cells)])).mesh.topology.index_map(3).size_global == 2
    far, twice, infinite = cells.copy(), cells.copy(), points.copy()
    far[1, 2], twice[0, 3], infinite[2, 1] = 5, 1, np.inf
    for said, x, rows in (
        ("a tetra with a point that the file does not have", points, far),
        ("a tetra with a point that the file does not have", points, cells - 1),
        ("a tetra with a point twice", points, twice),
        ("NaN or infinity among the coordinates of 1 points", infinite, cells),
    ):
        with pytest.raises(ValueError, match=said):
            read_mesh(meshio.Mesh(x, [("tetra", rows)]))
    narrow = meshio.Mesh(points, [("tetra", cells)])
    narrow.cells[0].data = cells[:, :3]
    with pytest.raises(ValueError, match="tetra cells without 4 points each"):
        read_mesh(narrow)
    with pytest.raises(ValueError, match="4294967296 as the number of 'all'"):
        read_mesh(meshio.Mesh(points, [("tetra", cells)], field_data={"all": np.array([2**32, 3])}))


def test_groups_that_overlap_are_refused(tmp_path):
    """Format 4.1 lets an entity be in two groups; tags could keep one of them only."""
    text = gmsh41(bar("quad"))
    both = text.replace('"left"', '"left"\n1 8 "all"').replace("$PhysicalNames\n5", "$PhysicalNames\n6")
    both = both.replace(" 1 4 0", " 2 4 8 0")
    assert both.count(" 2 4 8 0") == 1
    (tmp_path / "both.msh").write_text(both)
    with pytest.raises(ValueError, match="expected every curve in one part, got some in both 'all' and 'left'"):
        read_mesh(tmp_path / "both.msh")


def test_comm_of_one_rank(tmp_path):
    part = read_mesh(written(tmp_path, "quad", "gmsh22"), comm=MPI.COMM_SELF)
    assert part.mesh.comm.size == 1 and size(part, "stiff") == pytest.approx(2.0)
