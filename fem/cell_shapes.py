"""Cells of mesh files: their names, the places of their nodes, and second-order cells without nodes inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A cell as meshio names it, its nodes ordered as VTK does.

    Attributes
    ----------
    cell : str
        DOLFINx's name of it.
    degree : int
        Of its edges.
    corners : int
        How many of its nodes, the first.
    order : tuple of int
        Place of each of DOLFINx's nodes among VTK's; empty where only the corners are used.
    completed : str
        Name of the cell that it becomes with nodes inside; empty where it has them.
    """

    cell: str
    degree: int
    corners: int
    order: tuple[int, ...] = ()
    completed: str = ""

    @property
    def dimension(self) -> int:
        return {"vertex": 0, "interval": 1, "triangle": 2, "quadrilateral": 2}.get(self.cell, 3)


#: The orders are those of dolfinx.cpp.io.perm_vtk, the same from 0.5.2 to 0.11.
SHAPES = {
    "vertex": Shape("vertex", 1, 1),
    "line": Shape("interval", 1, 2),
    "line3": Shape("interval", 2, 2),
    "triangle": Shape("triangle", 1, 3, (0, 1, 2)),
    "triangle6": Shape("triangle", 2, 3, (0, 1, 2, 4, 5, 3)),
    "quad": Shape("quadrilateral", 1, 4, (0, 1, 3, 2)),
    "quad8": Shape("quadrilateral", 2, 4, completed="quad9"),
    "quad9": Shape("quadrilateral", 2, 4, (0, 1, 3, 2, 4, 7, 5, 6, 8)),
    "tetra": Shape("tetrahedron", 1, 4, (0, 1, 2, 3)),
    "tetra10": Shape("tetrahedron", 2, 4, (0, 1, 2, 3, 9, 8, 5, 7, 6, 4)),
    "hexahedron": Shape("hexahedron", 1, 8, (0, 1, 3, 2, 4, 5, 7, 6)),
    "hexahedron20": Shape("hexahedron", 2, 8, completed="hexahedron27"),
    "hexahedron27": Shape(
        "hexahedron", 2, 8,
        (0, 1, 3, 2, 4, 5, 7, 6, 8, 11, 16, 9, 17, 10, 19, 18, 12, 15, 13, 14, 24, 22, 20, 21, 23, 25, 26),
    ),
}  # fmt: skip
#: VTK's faces of a hexahedron of 27 nodes: corners, and the nodes of their edges.
_FACES = (
    ((0, 3, 7, 4), (11, 19, 15, 16)), ((1, 2, 6, 5), (9, 18, 13, 17)), ((0, 1, 5, 4), (8, 17, 12, 16)),
    ((3, 2, 6, 7), (10, 18, 14, 19)), ((0, 1, 2, 3), (8, 9, 10, 11)), ((4, 5, 6, 7), (12, 13, 14, 15)),
)  # fmt: skip


def completed(name: str, cells: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells of 8 or 20 nodes with those of 9 or 27, and all points; the geometry stays the same.

    Serendipity functions are among those of the complete square and cube, so the new nodes lie where the functions of the
    given ones have them (Zienkiewicz and Taylor 2000, The Finite Element Method, vol. 1, chapter 8): at the centre of a
    face −¼ Σ corners + ½ Σ middles, at that of a cube −¼ Σ corners + ¼ Σ middles. Cells share the nodes of their faces.
    """
    if name == "quad8":
        centre = -0.25 * points[cells[:, :4]].sum(axis=1) + 0.5 * points[cells[:, 4:]].sum(axis=1)
        return np.hstack([cells, len(points) + np.arange(len(cells))[:, None]]), np.vstack([points, centre])
    corners = np.stack([cells[:, face] for face, _ in _FACES], axis=1).reshape(-1, 4)
    middles = np.stack([cells[:, edges] for _, edges in _FACES], axis=1).reshape(-1, 4)
    _, first, number = np.unique(np.sort(corners, axis=1), axis=0, return_index=True, return_inverse=True)
    faces = (-0.25 * points[corners].sum(axis=1) + 0.5 * points[middles].sum(axis=1))[first]
    centre = -0.25 * points[cells[:, :8]].sum(axis=1) + 0.25 * points[cells[:, 8:]].sum(axis=1)
    inside = len(points) + len(faces) + np.arange(len(cells))[:, None]
    return np.hstack([cells, len(points) + number.reshape(-1, 6), inside]), np.vstack([points, faces, centre])
