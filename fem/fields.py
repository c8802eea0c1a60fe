"""What is known at the quadrature points, by name, and its cell averages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from dolfinx import fem

from constitutive.laws.history import HistoryLaw
from constitutive.laws.law import OK
from crystals import mandel

from . import dolfinx_versions as versions

if TYPE_CHECKING:
    from .material import QuadratureMaterial

_FIELDS: dict[str, tuple[int, ...]] = {
    "cauchy": (3, 3),
    "second_piola": (3, 3),
    "strain": (3, 3),
    "deformation_gradient": (3, 3),
    "von_mises": (),
    "strain_norm": (),
    "energy": (),
    "status": (),
    "acoustic_eigenvalue": (),
    "orientation": (3, 3),
}


def known_fields(material: QuadratureMaterial) -> dict[str, tuple[int, ...]]:
    """Names of the fields of a material, and the shape of each: those of all, and the parts of its state."""
    law = material.law
    parts = law.state_parts if isinstance(law, HistoryLaw) else ()
    return {**_FIELDS, **{name: (3, 3) if kind == "strain" else () for name, kind in parts}}


def field_values(material: QuadratureMaterial, name: str) -> np.ndarray:
    """Values (n, *shape) of a field at the quadrature points; tensors in the sample frame."""
    shapes = known_fields(material)
    if name not in shapes:
        raise ValueError(f"QuadratureMaterial: expected a field among {', '.join(shapes)}, got {name!r}.")
    if name not in _FIELDS:
        part = material.state_values(name)
        if shapes[name] == ():
            return part[:, 0]
        return mandel.from_mandel(part if material.orientation is None else material.orientation.to_sample(part))
    if name == "deformation_gradient":
        return material.deformation_gradient()
    if name == "acoustic_eigenvalue":
        return material.acoustic_eigenvalue()
    if name == "orientation":
        rotation = np.eye(3) if material.orientation is None else material.orientation.rotation
        return np.broadcast_to(rotation, (len(material.strain), 3, 3))
    if name == "strain_norm":
        return np.linalg.norm(material.strain, axis=1)
    if name == "von_mises":
        cauchy = material.cauchy()
        pressure = cauchy[:, :3].mean(axis=1, keepdims=True)
        return np.sqrt(1.5) * np.linalg.norm(cauchy - pressure * mandel.IDENTITY, axis=1)
    if name in ("energy", "status"):
        return np.asarray(material.energy if name == "energy" else material.status != OK, dtype=float)
    vectors = {
        "cauchy": material.cauchy,
        "second_piola": lambda: material.second_piola,
        "strain": lambda: material.strain_sample,
    }
    return mandel.from_mandel(vectors[name]())


def projected(material: QuadratureMaterial, name: str) -> Any:
    """See `QuadratureMaterial.project`."""
    values = field_values(material, name)
    shape = known_fields(material)[name]
    average = fem.Function(versions.lagrange_space(material.mesh, "DG", 0, shape), name=name)
    size = int(np.prod(shape, dtype=int))
    volumes = material.volumes().reshape(-1, material.points_per_cell)
    by_cell = values.reshape(*volumes.shape, size)
    if name == "acoustic_eigenvalue":
        means = by_cell.min(axis=1)
    elif name == "orientation":
        means = by_cell[:, 0]
    else:
        means = np.einsum("cqk,cq->ck", by_cell, volumes) / volumes.sum(axis=1, keepdims=True)
    slots = versions.cell_dofs(average.function_space)[material.cells].reshape(-1)
    average.x.array.reshape(-1, size)[slots] = means
    average.x.scatter_forward()
    return average
