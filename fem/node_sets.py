"""Sets of nodes, as Abaqus files name the places of supports and loads: the entities that they hold."""

from __future__ import annotations

from typing import Any

import basix as _basix
import numpy as np

from . import dolfinx_versions as versions

basix: Any = _basix  # its modules lack types


def entities_between(domain: Any, dim: int, nodes: np.ndarray) -> np.ndarray:
    """Local entities of a dimension all of whose corners are among some nodes, numbered as the mesh was made of them."""
    top = domain.topology.dim
    domain.topology.create_connectivity(dim, top)
    domain.topology.create_connectivity(top, dim)
    node = np.asarray(domain.geometry.input_global_indices)
    if not len(node):
        return np.zeros(0, dtype=np.int32)
    inside = np.isin(node, nodes)[versions.cell_nodes(domain)]
    places = np.array(basix.topology(getattr(basix.CellType, domain.topology.cell_type.name))[dim])
    cell, local = np.nonzero(np.all(inside[:, places], axis=2))
    links = domain.topology.connectivity(top, dim)
    return np.unique(np.asarray(links.array)[np.asarray(links.offsets)[cell] + local]).astype(np.int32)
