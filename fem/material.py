"""A constitutive law at the quadrature points of a mesh."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import ufl as _ufl
from dolfinx import fem
from mpi4py import MPI
from ufl.algorithms import extract_arguments

from constitutive.laws.history import HistoryLaw
from constitutive.laws.law import INVALID, Law
from constitutive.stability import acoustic_eigenvalue
from crystals import mandel

from . import dolfinx_versions as versions
from .fields import field_values, known_fields, projected
from .inputs import Inputs
from .kinematics import (
    check_axisymmetric,
    check_section,
    default_degree,
    gradient_ufl,
    matrix_ufl,
    strain_ufl,
    strain_variation_ufl,
    tensor_ufl,
    weight_ufl,
)
from .mean_dilatation import MeanDilatation
from .orientation import Orientation
from .output import write_points
from .plane_stress import FreeThickness
from .residual import STRESSES
from .stress_free import StressFreeShape, TensorField

ufl: Any = _ufl  # its operators defy type checkers
_MEASURE = {"finite": "green_lagrange", "small": "small"}


class QuadratureMaterial:
    """Stress and tangent of a law at the quadrature points, for a weak form that the user writes.

    Parameters
    ----------
    law : Law
        Material law in its crystal frame, with or without internal variables.
    u : dolfinx.fem.Function
        Displacement, as many components as the mesh has dimensions.
    degree : int, optional
        Degree of the quadrature rule. By default twice that of the displacement on hexahedra and quadrilaterals (2 × 2 × 2
        points for degree 1), and two less on simplices (4 points for tetrahedra of degree 1 and 2).
    kinematics : 'finite' or 'small'
        Green–Lagrange strain and second Piola–Kirchhoff stress, or small strain and Cauchy stress.
    orientation : array, (MeshTags, table), callable or UFL tensor, optional
        Rotation Q crystal → sample; its columns are the crystal axes in the sample. One (3, 3), or (cells, 3, 3) or
        (points, 3, 3) of this rank; cell tags with a dict from tag to (3, 3), for grains; a function of points (n, 3), see
        `orientation_from_voxels`; a Function or UFL expression of shape (3, 3).
    subdomain : (MeshTags, int), optional
        Cell tags and the tag of the cells made of this material. Materials that share a form must share the tags.
    inputs : float, Constant, Function or UFL expression, or a sequence of one for each input, optional
        Values of the law's `input_names` (temperature, composition), read again at every update: a Constant serves as
        the load of `EquilibriumProblem.steps`, a Function as a temperature field.
    section : 'plane_strain', 'plane_stress' or 'axisymmetric'
        What the third direction of a two-dimensional mesh does; not given in three dimensions. Plane strain keeps
        σ33, σ23 and σ13 as the crystal makes them. Plane stress solves S33 = S23 = S13 = 0 at every point and condenses
        the tangent. 'axisymmetric' has coordinates (r, z) and the sample frame (r, z, θ), which turns with θ: its forces
        are those of the whole circumference, and its law must have a mirror plane normal to θ.
    mean_dilatation : bool
        F-bar, against locking of nearly incompressible laws and of plasticity on low-order cells: see
        `fem.mean_dilatation`.
    stress_free : array (3, 3), Constant, Function or UFL expression, optional
        Shape in which the material has no stress, sample frame: eigenstrain ('small'), or deformation gradient F_θ
        ('finite'). Read again at every update.
    initial_stress : array (3, 3), Constant, Function or UFL expression, optional
        Stress added to that of the law (second Piola–Kirchhoff; Cauchy for small strain), sample frame, units of the law.

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
    state : array (n, state_width)
        Committed internal variables, crystal frame: those of the last converged step. `trial_state` has those of the last
        update; `commit` takes them over, which `EquilibriumProblem` does when a step has converged.
    dt : float or None
        Time step handed to the law at every update.
    weight_ufl
        What the user's own integrals over an axisymmetric section are to be multiplied with, 2πr; otherwise 1.
    strain_ufl, second_piola_ufl, first_piola_ufl, cauchy_ufl, deformation_gradient_ufl
        UFL expressions for the user's own forms: the Mandel strain that the law sees, and tensors (3, 3).

    Raises
    ------
    ValueError
        For a mesh that does not fit the section, a law whose strain measure is not that of `kinematics`, a matrix
        that is no rotation, inputs that do not fit the law, a law that twists an axisymmetric body.
    TypeError
        For something that is no law, such as the name of its file.
    """

    def __init__(
        self,
        law: Law,
        u: Any,
        degree: int | None = None,
        kinematics: str = "finite",
        orientation: Any = None,
        subdomain: tuple[Any, int] | None = None,
        inputs: Any = None,
        section: str | None = None,
        mean_dilatation: bool = False,
        stress_free: Any = None,
        initial_stress: Any = None,
    ) -> None:
        where = "QuadratureMaterial"
        if not isinstance(law, Law):
            raise TypeError(
                f"{where}: expected a law, got {type(law).__name__}. A file is read by constitutive.load('copper.law')."
            )
        mesh = u.function_space.mesh
        self.section = check_section(where, section, mesh, u)
        if kinematics not in _MEASURE:
            raise ValueError(f"{where}: expected kinematics 'finite' or 'small', got {kinematics!r}.")
        if law.strain_measure != _MEASURE[kinematics]:
            other = next(k for k, measure in _MEASURE.items() if measure == law.strain_measure)
            raise ValueError(
                f"{where}: expected a law of strain measure {_MEASURE[kinematics]!r} for kinematics={kinematics!r}, "
                f"got {law.strain_measure!r}. Pass kinematics={other!r}, or another law."
            )
        plane_stress = self.section == "plane_stress"
        if plane_stress and (mean_dilatation or (stress_free is not None and kinematics == "finite")):
            raise ValueError(
                f"{where}: expected neither mean_dilatation nor a finite stress_free in plane stress, got one. Plane stress does "
                "not lock; not supported: a finite stress-free shape there."
            )
        if mesh.comm.size > 1 and "OMP_NUM_THREADS" not in os.environ:
            # 2 ranks × 2 threads on two cores was measured 5 times slower than 2 × 1
            torch.set_num_threads(1)
        self.law, self.u, self.mesh = law, u, mesh
        self.degree, self.kinematics = default_degree(u) if degree is None else int(degree), kinematics
        self._reference_points, self._weights = versions.quadrature_rule(mesh, self.degree)
        self.points_per_cell = len(self._weights)
        owned = mesh.topology.index_map(mesh.topology.dim).size_local
        if subdomain is None:
            self.cells = np.arange(owned, dtype=np.int32)
            marked: dict[str, Any] = {}
        else:
            tags, tag = subdomain
            found = np.sort(np.asarray(tags.find(tag), dtype=np.int32))
            self.cells = found[found < owned]
            marked = {"subdomain_data": tags, "subdomain_id": tag}
            if mesh.comm.allreduce(len(self.cells)) == 0:
                raise ValueError(f"{where}: expected cells with the tag {tag}, got none. Check the tag and the mesh.")
        # ghost cells are never integrated over, so only owned cells are evaluated
        self.dx = ufl.Measure(
            "dx", domain=mesh, metadata={"quadrature_degree": self.degree, "quadrature_scheme": "default"}, **marked
        )
        self._check_cells(where)
        self.weight_ufl = weight_ufl(mesh, self.section)
        self.orientation = None
        if orientation is not None:
            self.orientation = Orientation(
                orientation, self.cells, self.points_per_cell, self.points,
                lambda field: self._evaluate(self._compile(_flat(field)), 9),
            )  # fmt: skip
        if self.section == "axisymmetric":
            self._check_radii(where)
            check_axisymmetric(where, law, None if self.orientation is None else self.orientation.rotation)
        space = versions.quadrature_space(mesh, self.degree, 6)
        self.stress = fem.Function(space, name="stress")
        STRESSES[self.stress] = u
        self.tangent = fem.Function(versions.quadrature_space(mesh, self.degree, law.tangent_entries), name="tangent")
        self._slots = versions.cell_dofs(space)[self.cells].reshape(-1)
        if np.array_equal(self._slots, np.arange(len(self._slots))):
            self._slots = slice(0, len(self._slots))  # the usual layout: one flat copy
        self.gradient_ufl = gradient_ufl(u, self.section, mesh)
        self.deformation_gradient_ufl: Any = ufl.Identity(3) + self.gradient_ufl
        self.plain_strain_ufl = self.strain_ufl = strain_ufl(self.gradient_ufl, kinematics)
        watched = [*self.strain_ufl]
        deformation: Any = ufl.Identity(3)
        jacobian: Any = ufl.Identity(3)
        if kinematics == "finite":
            jacobian = deformation = self.deformation_gradient_ufl
            watched.append(ufl.det(deformation))
        elif mean_dilatation:
            watched.append(ufl.tr(self.gradient_ufl))
        self.mean_dilatation: MeanDilatation | None = None
        if mean_dilatation:
            self.mean_dilatation = MeanDilatation(self, self.volumes().reshape(-1, self.points_per_cell))
            if kinematics == "finite":
                jacobian = deformation = self.mean_dilatation.deformation_gradient()
                self.strain_ufl = strain_ufl(deformation - ufl.Identity(3), kinematics)
        points = len(self.cells) * self.points_per_cell
        self._thickness = (
            FreeThickness(law, mesh, self.degree, points, kinematics == "finite") if plane_stress else None
        )
        if self._thickness is not None and kinematics == "finite":
            thinned = ufl.as_tensor([[0, 0, 0], [0, 0, 0], [0, 0, self._thickness.stretch_ufl - 1.0]])
            jacobian = self.deformation_gradient_ufl + thinned
        self.second_piola_ufl = tensor_ufl(self.stress)
        self.first_piola_ufl = ufl.dot(deformation, self.second_piola_ufl)
        self.cauchy_ufl = ufl.dot(self.first_piola_ufl, deformation.T) / ufl.det(jacobian)
        self.inputs = Inputs(inputs, law, u, self._reference_points)
        self._watched = self._compile(ufl.as_vector(watched))
        self._watched_size = len(watched)
        self._stress_free = self._initial_stress = None
        if stress_free is not None:
            self._stress_free = StressFreeShape(TensorField("stress_free", stress_free, u, self._reader), kinematics)
        if initial_stress is not None:
            self._initial_stress = TensorField("initial_stress", initial_stress, u, self._reader)
        self.status = np.zeros(points, dtype=np.int8)
        self.state = np.zeros((points, law.state_width))
        self.trial_state = self.state
        self.dt: float | None = 0.0
        self._elastic = self._total = np.zeros((points, 6))
        self._energy = np.zeros(points)
        self.update(tangent=True)
        self.dt = None if law.rate_dependent else 0.0

    def __repr__(self) -> str:
        section = "" if self.section == "solid" else f", section={self.section!r}"
        return f"QuadratureMaterial({self.law!r}, degree={self.degree}, kinematics={self.kinematics!r}{section})"

    def _compile(self, expression: Any) -> Any:
        return versions.compile_expression(expression, self._reference_points)

    def _evaluate(self, expression: Any, size: int) -> np.ndarray:
        return versions.evaluate(expression, self.mesh, self.cells, size)

    def _committed(self) -> np.ndarray | None:
        return self.state if self.law.state_width else None

    @property
    def has_stress_free_shape(self) -> bool:
        """Whether stress and strain are counted from others than the reference's: by `stress_free` or `initial_stress`."""
        return self._stress_free is not None or self._initial_stress is not None

    def _reader(self, expression: Any) -> Any:
        compiled = self._compile(expression)
        return lambda: self._evaluate(compiled, 9)

    def _check_cells(self, where: str) -> None:
        """A sound cell has a Jacobian of one sign; which sign, hangs on how its corners are counted."""
        jacobian = self._evaluate(self._compile(ufl.JacobianDeterminant(self.mesh)), 1).reshape(
            -1, self.points_per_cell
        )
        bad = ~(jacobian.min(axis=1) * jacobian.max(axis=1) > 0)
        number = self.mesh.comm.allreduce(int(np.count_nonzero(bad)))
        if number:
            places = self.mesh.comm.allgather(self.points()[:: self.points_per_cell][bad][:1].tolist())
            first = next(place[0] for place in places if place)
            raise ValueError(
                f"{where}: expected cells whose Jacobian has one sign, got {number} inverted or flat (the first near "
                f"x = {np.round(first, 4).tolist()}). Mend the mesh: corners of hexahedra and quadrilaterals count x fastest."
            )

    def _check_radii(self, where: str) -> None:
        radius = float(self.mesh.comm.allreduce(self.points()[:, 0].min(initial=np.inf), op=MPI.MIN))
        if radius < 0:
            raise ValueError(
                f"{where}: expected an axisymmetric mesh at radii x[0] ≥ 0, got a point at {radius:.3g}. The first "
                "coordinate is r, the second z."
            )

    def gradient_of(self, v: Any) -> Any:
        """UFL displacement gradient (3, 3) of a test or trial function, third direction included."""
        return gradient_ufl(v, self.section, self.mesh)

    def strain_variation(self, v: Any) -> Any:
        """UFL Mandel vector δE[v] = sym(Fᵀ ∇v), or sym ∇v for small strain, linear in `v`.

        With mean dilatation, the part of δĒ at constant θ.
        """
        variation = self.gradient_of(v)
        plain = strain_variation_ufl(self.gradient_ufl, variation, self.kinematics)
        mean = self.mean_dilatation
        return plain if mean is None else mean.strain_variation(plain, variation)

    def virtual_work(self, v: Any) -> Any:
        """The form ∫ S : δE[v] dx over the reference volume, to be used in any weak form.

        Of an axisymmetric body, over its whole circumference.

        Raises
        ------
        TypeError
            Where `v` is no test or trial function with the components of the displacement.
        """
        if not isinstance(v, ufl.core.expr.Expr) or not extract_arguments(v) or v.ufl_shape != self.u.ufl_shape:
            raise TypeError(
                f"QuadratureMaterial.virtual_work: expected a test function of the displacement's space, got {str(v)[:80]!r}. "
                "Write v = ufl.TestFunction(u.function_space)."
            )
        density = ufl.dot(self.stress, self.strain_variation(v))
        if self.mean_dilatation is not None:
            density += self.mean_dilatation.pressure * self.mean_dilatation.dilatation_variation(self.gradient_of(v))
        return density * self.weight_ufl * self.dx

    def stress_variation(self, du: Any) -> Any:
        """UFL Mandel vector C · δE[du]: how the stress changes with the displacement."""
        return ufl.dot(matrix_ufl(self.tangent, self.law.tangent_entries), self.strain_variation(du))

    def update(self, tangent: bool = True) -> bool:
        """Evaluate the law at the present displacement, whose ghost values must be up to date.

        The law starts from the committed `state`; `trial_state` is where it ends.

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
        mean, shape = self.mean_dilatation, self._stress_free
        if mean is not None:
            strain = mean.strain(strain, values[:, 6])
        if shape is not None:
            shape.read()
        added = None if self._initial_stress is None else mandel.to_mandel(self._initial_stress())
        if self._thickness is not None:
            strain, self._elastic, answer = self._thickness.answer(
                strain, shape, added, self._slots, state=self._committed(), dt=self.dt,
                orientation=None if self.orientation is None else self.orientation.rotation,
                inputs=self.inputs.values(self.cells),
            )  # fmt: skip
        else:
            answer = self._answer(strain if shape is None else shape.to_elastic(strain), tangent)
        energy, stress, entries, self.trial_state, status = answer
        if self.kinematics == "finite":
            # E cannot tell a mirrored cell from a sound one; the comparison is false for NaN too
            status[~(values[:, 6] > 0.0)] = INVALID
        if shape is not None:
            energy, stress = shape.energy(energy), shape.stress(stress)
            entries = shape.tangent(entries) if tangent else None
        if added is not None:
            stress = stress + added
        self.stress.x.array.reshape(-1, 6)[self._slots] = stress
        if tangent:
            self.tangent.x.array.reshape(-1, self.law.tangent_entries)[self._slots] = entries
        if mean is not None:
            mean.set_pressure(stress)
        self.status, self._total, self._energy = status, strain, energy
        return not bool(np.any(status == INVALID))

    def _answer(self, strain: np.ndarray, tangent: bool) -> tuple[Any, ...]:
        """Energy, stress, packed tangent, state and status at elastic strains (n, 6) of the sample frame."""
        response = self.law.response(
            strain, state=self._committed(), inputs=self.inputs.values(self.cells), dt=self.dt, tangent=tangent,
            orientation=None if self.orientation is None else self.orientation.rotation,
        )  # fmt: skip
        self._elastic = strain
        return response.energy, response.stress, response.tangent, response.state, np.array(response.status)

    def commit(self) -> None:
        """Take the trial state over: the step that led to it has converged."""
        self.state = np.array(self.trial_state)
        if self._thickness is not None:
            self._thickness.commit()

    def history(self) -> dict[str, np.ndarray]:
        """What the next step starts from, beside the displacement: for a file."""
        found = {"state": self.state}
        if self._thickness is not None:
            found["thickness_strain"] = self._thickness.committed
        return found

    def set_history(self, history: dict[str, np.ndarray]) -> None:
        """Commit what `history` gave."""
        self.state = self.trial_state = np.array(history["state"])
        if self._thickness is not None:
            self._thickness.committed = np.array(history["thickness_strain"])

    @property
    def strain(self) -> np.ndarray:
        """Strain (n, 6) that the law was asked for at the last update, crystal frame, Mandel.

        Counted from the stress-free shape, if one was given.
        """
        return self._elastic if self.orientation is None else self.orientation.to_crystal(self._elastic)

    @property
    def strain_sample(self) -> np.ndarray:
        """Total strain (n, 6) at the last update, sample frame, Mandel; that of F̄ with mean dilatation."""
        return self._total

    @property
    def second_piola(self) -> np.ndarray:
        """Second Piola–Kirchhoff stress (n, 6) at the last update, sample frame, Mandel, units of the law."""
        return self.stress.x.array.reshape(-1, 6)[self._slots].copy()

    @property
    def energy(self) -> np.ndarray:
        """Energy per reference volume (n,) at the last update, units of the law."""
        return self._energy

    def points(self) -> np.ndarray:
        """Reference coordinates (n, 3) of the quadrature points of this rank, cell by cell; 0 beyond the mesh's own."""
        dim = self.mesh.geometry.dim
        found = self._evaluate(self._compile(ufl.SpatialCoordinate(self.mesh)), dim)
        return np.pad(found, ((0, 0), (0, 3 - dim)))

    def point_cells(self) -> np.ndarray:
        """Local cell index (n,) of each quadrature point."""
        return np.repeat(self.cells, self.points_per_cell)

    def volumes(self) -> np.ndarray:
        """Reference volume (n,) that each quadrature point stands for: weight times Jacobian of the cell.

        Area of a plane section; volume of the ring of an axisymmetric one.
        """
        scale = np.abs(self._evaluate(self._compile(ufl.JacobianDeterminant(self.mesh)), 1)[:, 0])
        if self.section == "axisymmetric":
            scale = scale * 2.0 * np.pi * self.points()[:, 0]
        return scale * np.tile(self._weights, len(self.cells))

    def deformation_gradient(self) -> np.ndarray:
        """Deformation gradient F (n, 3, 3) at the last update, sample frame; F̄ with mean dilatation.

        In plane stress the plane stays the plane: F31 = F32 = 0.
        """
        gradient = self._evaluate(self._compile(_flat(self.deformation_gradient_ufl)), 9).reshape(-1, 3, 3)
        if self.mean_dilatation is not None and self.kinematics == "finite":
            theta = np.repeat(self.mean_dilatation.cell_values(), self.points_per_cell)
            gradient = gradient * np.cbrt(theta / np.linalg.det(gradient))[:, None, None]
        if self._thickness is not None:
            gradient = self._thickness.complete(gradient, self._total)
        return gradient

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
        values = acoustic_eigenvalue(self.law, self.strain, inputs=self.inputs.values(self.cells))
        # a mirrored cell has the strain of a sound one
        values[self.status == INVALID] = np.nan
        return values

    def state_values(self, name: str) -> np.ndarray:
        """One internal variable (n, 6) or (n, 1) of the committed state by its name; tensors in the crystal frame."""
        if not isinstance(self.law, HistoryLaw):
            raise ValueError(
                f"QuadratureMaterial: expected a law with internal variables, got {type(self.law).__name__}."
            )
        return self.law.state_part(self.state, name)

    def values(self, name: str) -> np.ndarray:
        """Values (n, *shape) of a field that `project` knows at the quadrature points; tensors, sample frame."""
        return field_values(self, name)

    def fields(self) -> dict[str, tuple[int, ...]]:
        """Names of the fields that `project` knows, and the shape of each."""
        return known_fields(self)

    def project(self, name: str) -> Any:
        """Cell averages of a field, for ParaView.

        Parameters
        ----------
        name : str
            'cauchy', 'second_piola', 'strain', 'deformation_gradient' (tensors, sample frame), 'von_mises',
            'strain_norm', 'energy', 'status' (fraction of the cell's volume that is out of range), 'orientation', a part
            of the state ('accumulated', 'plastic_strain'), or 'acoustic_eigenvalue' (where it is not positive, strong
            ellipticity is lost; the cell's smallest value).

        Returns
        -------
        Function
            Discontinuous, constant in each cell: its volume average, but the smallest value of 'acoustic_eigenvalue',
            so that no lost point hides behind its neighbours, and the first point's of 'orientation', since a mean of
            rotations is none. Zero in cells of other materials.
        """
        return projected(self, name)

    def write(self, path: Any) -> None:
        """Write points, strain, stress and status of all ranks to one HDF5 file; see `fem.output.write_points`."""
        write_points(path, self)


def _flat(tensor: Any) -> Any:
    return ufl.as_vector([tensor[i, j] for i in range(3) for j in range(3)])
