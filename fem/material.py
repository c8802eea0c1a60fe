"""A constitutive law at the quadrature points of a mesh."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import ufl
from dolfinx import fem

from constitutive.laws.law import INVALID, OK, Law
from constitutive.stability import acoustic_eigenvalue
from crystals import mandel

from . import dolfinx_versions as versions
from .inputs import Inputs
from .kinematics import matrix_ufl, strain_ufl, strain_variation_ufl, tensor_ufl
from .orientation import Orientation
from .output import write_points

_MEASURE = {"finite": "green_lagrange", "small": "small"}
#: Fields that `project` knows, and the shape of each.
FIELDS: dict[str, tuple[int, ...]] = {
    "cauchy": (3, 3),
    "second_piola": (3, 3),
    "strain": (3, 3),
    "deformation_gradient": (3, 3),
    "von_mises": (),
    "strain_norm": (),
    "energy": (),
    "status": (),
    "acoustic_eigenvalue": (),
}


class QuadratureMaterial:
    """Stress and tangent of a law at the quadrature points, for a weak form that the user writes.

    Parameters
    ----------
    law : Law
        Material law in its crystal frame.
    u : dolfinx.fem.Function
        Displacement, three components, on a mesh in three dimensions.
    degree : int
        Degree of the quadrature rule.
    kinematics : 'finite' or 'small'
        Green–Lagrange strain and second Piola–Kirchhoff stress, or small strain and Cauchy stress.
    orientation : array (3, 3), (cells, 3, 3) or (points, 3, 3), optional
        Rotation Q crystal → sample; its columns are the crystal axes in the sample. Arrays count this rank's cells.
    subdomain : (MeshTags, int), optional
        Cell tags and the tag of the cells made of this material. Materials that share a form must share the tags.
    inputs : float, Constant, Function or UFL expression, or a sequence of one for each input, optional
        Values of the law's `input_names` (temperature, composition), read again at every update: a Constant serves as
        the load of `EquilibriumProblem.steps`, a Function as a temperature field.

    Attributes
    ----------
    stress : Function
        Second Piola–Kirchhoff stress (Cauchy for small strain), sample frame, Mandel, 6 per point; units of the law.
    tangent : Function
        ∂S/∂E, sample frame, the law's 21 (upper triangle, row by row) or 36 entries per point.
    dx : ufl.Measure
        Integral over the material's cells with the one quadrature rule that its stress can stand under.
    status : array (n,)
        Status of each point at the last update: `constitutive.laws.law.OK`, `OUT_OF_RANGE` or `INVALID`.
    strain_ufl, second_piola_ufl, first_piola_ufl, cauchy_ufl, deformation_gradient_ufl
        UFL expressions for the user's own forms: the Mandel strain, and tensors.

    Raises
    ------
    ValueError
        For a mesh that is not three-dimensional, a law whose strain measure is not that of `kinematics`, a matrix
        that is no rotation, a law with internal variables, inputs that do not fit the law.
    """

    def __init__(
        self,
        law: Law,
        u: Any,
        degree: int = 2,
        kinematics: str = "finite",
        orientation: Any = None,
        subdomain: tuple[Any, int] | None = None,
        inputs: Any = None,
    ) -> None:
        where = "QuadratureMaterial"
        mesh = u.function_space.mesh
        if mesh.geometry.dim != 3 or mesh.topology.dim != 3:
            raise ValueError(
                f"{where}: expected a mesh of dimension 3 in 3D space, got dimension {mesh.topology.dim} in "
                f"{mesh.geometry.dim}D. Not supported: plane strain, plane stress, shells; mesh one layer of cells."
            )
        if versions.value_shape(u) != (3,):
            raise ValueError(
                f"{where}: expected a displacement with values of shape (3,), got {versions.value_shape(u)}. "
                "Not supported: mixed spaces."
            )
        if kinematics not in _MEASURE:
            raise ValueError(f"{where}: expected kinematics 'finite' or 'small', got {kinematics!r}.")
        if law.strain_measure != _MEASURE[kinematics]:
            other = next(k for k, measure in _MEASURE.items() if measure == law.strain_measure)
            raise ValueError(
                f"{where}: expected a law of strain measure {_MEASURE[kinematics]!r} for kinematics={kinematics!r}, "
                f"got {law.strain_measure!r}. Pass kinematics={other!r}, or another law."
            )
        if law.state_width:
            raise ValueError(
                f"{where}: expected a law without internal variables, got {law.state_width} per point. "
                "Not supported: history-dependent laws."
            )
        if mesh.comm.size > 1:
            # 2 ranks × 2 threads on two cores was measured 5 times slower than 2 × 1
            torch.set_num_threads(1)
        self.law, self.u, self.mesh = law, u, mesh
        self.degree, self.kinematics = int(degree), kinematics
        self._reference_points, self._weights = versions.quadrature_rule(mesh, self.degree)
        self._per_cell = len(self._weights)
        owned = mesh.topology.index_map(3).size_local
        if subdomain is None:
            self.cells = np.arange(owned, dtype=np.int32)
            marked: dict[str, Any] = {}
        else:
            tags, tag = subdomain
            found = np.sort(np.asarray(tags.find(tag), dtype=np.int32))
            self.cells = found[found < owned]
            marked = {"subdomain_data": tags, "subdomain_id": tag}
        # ghost cells are never integrated over, so only owned cells are evaluated
        self.dx = ufl.Measure(
            "dx", domain=mesh, metadata={"quadrature_degree": self.degree, "quadrature_scheme": "default"}, **marked
        )
        self.orientation = None
        if orientation is not None:
            self.orientation = Orientation(orientation, len(self.cells), self._per_cell, law.tangent_entries)
        space = versions.quadrature_space(mesh, self.degree, 6)
        self.stress = fem.Function(space, name="stress")
        self.tangent = fem.Function(versions.quadrature_space(mesh, self.degree, law.tangent_entries), name="tangent")
        self._slots = versions.cell_dofs(space)[self.cells].reshape(-1)
        if np.array_equal(self._slots, np.arange(len(self._slots))):
            self._slots = slice(0, len(self._slots))  # the usual layout: one flat copy
        gradient: Any = ufl.grad(u)
        self.deformation_gradient_ufl = ufl.Identity(3) + gradient
        self.strain_ufl = strain_ufl(u, kinematics)
        watched = [*self.strain_ufl]
        deformation: Any = ufl.Identity(3)
        if kinematics == "finite":
            deformation = self.deformation_gradient_ufl
            watched.append(ufl.det(deformation))
        self.second_piola_ufl = tensor_ufl(self.stress)
        self.first_piola_ufl = ufl.dot(deformation, self.second_piola_ufl)
        jacobian: Any = ufl.det(deformation)
        self.cauchy_ufl = ufl.dot(self.first_piola_ufl, deformation.T) / jacobian
        self.inputs = Inputs(inputs, law, u, self._reference_points)
        self._watched = self._compile(ufl.as_vector(watched))
        self._watched_size = len(watched)
        self._gradient = None
        points = len(self.cells) * self._per_cell
        self.status = np.zeros(points, dtype=np.int8)
        self._strain = np.zeros((points, 6))
        self._energy = np.zeros(points)
        self.update(tangent=True)

    def __repr__(self) -> str:
        return f"QuadratureMaterial({self.law!r}, degree={self.degree}, kinematics={self.kinematics!r})"

    def _compile(self, expression: Any) -> Any:
        return versions.compile_expression(expression, self._reference_points)

    def _evaluate(self, expression: Any, size: int) -> np.ndarray:
        return versions.evaluate(expression, self.mesh, self.cells, size)

    def strain_variation(self, v: Any) -> Any:
        """UFL Mandel vector δE[v] = sym(Fᵀ ∇v), or sym ∇v for small strain, linear in `v`."""
        return strain_variation_ufl(self.u, v, self.kinematics)

    def virtual_work(self, v: Any) -> ufl.Form:
        """The form ∫ S : δE[v] dx over the reference volume, to be used in any weak form."""
        return ufl.dot(self.stress, self.strain_variation(v)) * self.dx

    def stress_variation(self, du: Any) -> Any:
        """UFL Mandel vector C · δE[du]: how the stress changes with the displacement."""
        return ufl.dot(matrix_ufl(self.tangent, self.law.tangent_entries), self.strain_variation(du))

    def update(self, tangent: bool = True) -> bool:
        """Evaluate the law at the present displacement, whose ghost values must be up to date.

        Parameters
        ----------
        tangent : bool
            Whether to compute the tangent too; a line search needs the stress alone.

        Returns
        -------
        bool
            Whether every point of *this rank* is valid: strain finite, det F > 0, law defined. `status` names them.
        """
        values = self._evaluate(self._watched, self._watched_size)
        strain = np.ascontiguousarray(values[:, :6])
        if self.orientation is not None:
            strain = self.orientation.to_crystal(strain)
        response = self.law.response(strain, inputs=self.inputs.values(self.cells), tangent=tangent)
        status = np.array(response.status)
        if self._watched_size > 6:
            # E cannot tell a mirrored cell from a sound one; the comparison is false for NaN too
            status[~(values[:, 6] > 0.0)] = INVALID
        stress, entries = response.stress, response.tangent
        if self.orientation is not None:
            stress = self.orientation.to_sample(stress)
            entries = self.orientation.tangent_to_sample(entries) if tangent else None
        self.stress.x.array.reshape(-1, 6)[self._slots] = stress
        if tangent:
            self.tangent.x.array.reshape(-1, self.law.tangent_entries)[self._slots] = entries
        self.status, self._strain, self._energy = status, strain, response.energy
        return not bool(np.any(status == INVALID))

    @property
    def strain(self) -> np.ndarray:
        """Strain (n, 6) at the last update, crystal frame, Mandel."""
        return self._strain

    @property
    def strain_sample(self) -> np.ndarray:
        """Strain (n, 6) at the last update, sample frame, Mandel."""
        return self._strain if self.orientation is None else self.orientation.to_sample(self._strain)

    @property
    def second_piola(self) -> np.ndarray:
        """Second Piola–Kirchhoff stress (n, 6) at the last update, sample frame, Mandel, units of the law."""
        return self.stress.x.array.reshape(-1, 6)[self._slots].copy()

    @property
    def energy(self) -> np.ndarray:
        """Energy per reference volume (n,) at the last update, units of the law."""
        return self._energy

    def points(self) -> np.ndarray:
        """Reference coordinates (n, 3) of the quadrature points of this rank, cell by cell."""
        return self._evaluate(self._compile(ufl.SpatialCoordinate(self.mesh)), 3)

    def point_cells(self) -> np.ndarray:
        """Local cell index (n,) of each quadrature point."""
        return np.repeat(self.cells, self._per_cell)

    def volumes(self) -> np.ndarray:
        """Reference volume (n,) that each quadrature point stands for: weight times Jacobian of the cell."""
        scale = np.abs(self._evaluate(self._compile(ufl.JacobianDeterminant(self.mesh)), 1)[:, 0])
        return scale * np.tile(self._weights, len(self.cells))

    def deformation_gradient(self) -> np.ndarray:
        """Deformation gradient F (n, 3, 3) at the present displacement, sample frame."""
        if self._gradient is None:
            self._gradient = self._compile(self.deformation_gradient_ufl)
        return self._evaluate(self._gradient, 9).reshape(-1, 3, 3)

    def cauchy(self) -> np.ndarray:
        """Cauchy stress (n, 6), sample frame, Mandel, units of the law."""
        if self.kinematics == "small":
            return self.second_piola
        return mandel.cauchy_stress(self.second_piola, self.deformation_gradient())

    def acoustic_eigenvalue(self) -> np.ndarray:
        """Smallest eigenvalue (n,) of the acoustic tensor over all directions, units of the law: where it is not
        positive, the law has lost strong ellipticity and results depend on the mesh. NaN at invalid points.

        At the strain of the last update; see `constitutive.stability`. About two milliseconds a point: for output, not
        for every iteration.
        """
        values = acoustic_eigenvalue(self.law, self._strain, inputs=self.inputs.values(self.cells))
        # a mirrored cell has the strain of a sound one
        values[self.status == INVALID] = np.nan
        return values

    def values(self, name: str) -> np.ndarray:
        """Values (n, *shape) of a field of `FIELDS` at the quadrature points; tensors, sample frame."""
        if name not in FIELDS:
            raise ValueError(f"QuadratureMaterial: expected a field among {', '.join(FIELDS)}, got {name!r}.")
        if name == "deformation_gradient":
            return self.deformation_gradient()
        if name == "acoustic_eigenvalue":
            return self.acoustic_eigenvalue()
        if name == "strain_norm":
            return np.linalg.norm(self._strain, axis=1)
        if name == "von_mises":
            cauchy = self.cauchy()
            pressure = cauchy[:, :3].mean(axis=1, keepdims=True)
            return np.sqrt(1.5) * np.linalg.norm(cauchy - pressure * mandel.IDENTITY, axis=1)
        if name == "energy" or name == "status":
            return np.asarray(self._energy if name == "energy" else self.status != OK, dtype=float)
        vectors = {
            "cauchy": self.cauchy,
            "second_piola": lambda: self.second_piola,
            "strain": lambda: self.strain_sample,
        }
        return mandel.from_mandel(vectors[name]())

    def project(self, name: str) -> Any:
        """Cell averages of a field, for ParaView.

        Parameters
        ----------
        name : str
            'cauchy', 'second_piola', 'strain', 'deformation_gradient' (tensors, sample frame), 'von_mises',
            'strain_norm', 'energy', 'status' (fraction of the cell's volume that is out of range), or
            'acoustic_eigenvalue' (where it is not positive, strong ellipticity is lost; the cell's smallest value).

        Returns
        -------
        Function
            Discontinuous, constant in each cell: its volume average, but the smallest value of 'acoustic_eigenvalue',
            so that no lost point hides behind its neighbours. Zero in cells of other materials.
        """
        values = self.values(name)
        shape = FIELDS[name]
        average = fem.Function(versions.lagrange_space(self.mesh, "DG", 0, shape), name=name)
        size = int(np.prod(shape, dtype=int))
        volumes = self.volumes().reshape(-1, self._per_cell)
        by_cell = values.reshape(-1, self._per_cell, size)
        if name == "acoustic_eigenvalue":
            means = by_cell.min(axis=1)
        else:
            means = np.einsum("cqk,cq->ck", by_cell, volumes) / volumes.sum(axis=1, keepdims=True)
        slots = versions.cell_dofs(average.function_space)[self.cells].reshape(-1)
        average.x.array.reshape(-1, size)[slots] = means
        average.x.scatter_forward()
        return average

    def write(self, path: Any) -> None:
        """Write points, strain, stress and status of all ranks to one HDF5 file; see `fem.output.write_points`."""
        write_points(path, self)
