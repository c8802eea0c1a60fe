"""Against volumetric locking: the law sees the mean dilatation of each cell (F-bar), with its consistent tangent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import ufl as _ufl
from dolfinx import fem
from dolfinx.fem import petsc
from petsc4py import PETSc as _petsc

from . import dolfinx_versions as versions
from .kinematics import matrix_ufl

if TYPE_CHECKING:
    from .material import QuadratureMaterial

ufl: Any = _ufl  # its operators defy type checkers
PETSc: Any = _petsc  # petsc4py comes without types
_IDENTITY = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])


class MeanDilatation:
    """F̄ = (θ/J)^⅓ F with θ the mean of J over the cell, inserted in the unsplit law; small strain ε̄ = ε + ⅓ (θ − tr ε) 1.

    The mean dilatation of Nagtegaal, Parks and Rice (1974, doi:10.1016/0045-7825(74)90032-2) for laws that do not split
    into volume and shape (Simo, Taylor and Pister 1985, doi:10.1016/0045-7825(85)90033-7, whose three-field form with θ
    and p constant in each cell this is, θ and p eliminated). With Ē(u, θ) the virtual work is

        ∫ S̄ : ∂Ē/∂u[v] + p J F⁻ᵀ : ∇v dx,    p = mean of S̄ : ∂Ē/∂θ,

    the derivative of ∫ W(Ē(u, θ(u))). Made for first-order hexahedra and quadrilaterals and second-order simplices.

    Attributes
    ----------
    theta, pressure : Function
        θ and p, constant in each cell.
    """

    def __init__(self, material: QuadratureMaterial, volumes: np.ndarray) -> None:
        space = versions.lagrange_space(material.mesh, "DG", 0, ())
        self._material, self._volumes = material, volumes
        self._finite = material.kinematics == "finite"
        self.theta: Any = fem.Function(space, name="dilatation")
        self.pressure: Any = fem.Function(space, name="pressure")
        self._slots = versions.cell_dofs(space)[material.cells].reshape(-1)
        self.theta.x.array[:] = 1.0 if self._finite else 0.0
        self.inverse_volume = versions.ghosted_vector(space)
        self.inverse_volume.array_w[self._slots] = 1.0 / volumes.sum(axis=1)
        gradient = material.gradient_ufl
        self._inverse = ufl.inv(ufl.Identity(3) + gradient) if self._finite else ufl.Identity(3)
        # C, or the direction of ε̄ that θ stretches
        self._direction = 2.0 * material.plain_strain_ufl if self._finite else ufl.as_vector([0.0] * 6)
        self._direction = self._direction + ufl.as_vector(_IDENTITY.tolist())

    def _mean(self, values: np.ndarray) -> np.ndarray:
        by_cell = values.reshape(self._volumes.shape)
        return np.einsum("cq,cq->c", by_cell, self._volumes) / self._volumes.sum(axis=1)

    def strain(self, strain: np.ndarray, dilatation: np.ndarray) -> np.ndarray:
        """Ē (n, 6) of strains (n, 6) and of J, or tr ε, (n,); θ is set."""
        mean = self._mean(dilatation)
        self.theta.x.array[self._slots] = mean
        at = np.repeat(mean, self._volumes.shape[1])
        if not self._finite:
            return strain + ((at - dilatation) / 3.0)[:, None] * _IDENTITY
        with np.errstate(invalid="ignore", divide="ignore"):
            grown = np.expm1(2.0 / 3.0 * np.log(at / dilatation))[:, None]
            self._direction_values = (1.0 + grown) / (3.0 * at[:, None]) * (2.0 * strain + _IDENTITY)
        return strain + grown * (strain + 0.5 * _IDENTITY)

    def cell_values(self) -> np.ndarray:
        """θ (cells,) of the material's cells."""
        return self.theta.x.array[self._slots]

    def set_pressure(self, stress: np.ndarray) -> None:
        """p of stresses S̄ (n, 6), at the strains of the last `strain`."""
        direction = self._direction_values if self._finite else _IDENTITY / 3.0
        self.pressure.x.array[self._slots] = self._mean(np.sum(stress * direction, axis=1))

    def strain_derivative(self) -> Any:
        """UFL Mandel vector ∂Ē/∂θ."""
        return self._scale() / (3.0 * self.theta if self._finite else 3.0) * self._direction

    def _scale(self) -> Any:
        if not self._finite:
            return 1.0
        return (self.theta / ufl.det(self._material.deformation_gradient_ufl)) ** (2.0 / 3.0)

    def strain_variation(self, plain: Any, variation: Any) -> Any:
        """UFL ∂Ē/∂u of the plain variation δE and the variation δH of the gradient."""
        rate = ufl.tr(ufl.dot(self._inverse, variation))
        return self._scale() * (plain - rate / 3.0 * self._direction)

    def dilatation_variation(self, variation: Any) -> Any:
        """UFL δJ = J F⁻ᵀ : δH, or tr δH."""
        rate = ufl.tr(ufl.dot(self._inverse, variation))
        return ufl.det(self._material.deformation_gradient_ufl) * rate if self._finite else rate

    def deformation_gradient(self) -> Any:
        """UFL F̄."""
        return self._scale() ** 0.5 * self._material.deformation_gradient_ufl


class CondensedTangent:
    """What θ(u) and p(u) add to the tangent of a residual R: sparse products that stay inside each cell.

    dθ = V⁻¹ B du and dp = V⁻¹ (L + D V⁻¹ B) du, with B = ∂(Vθ)/∂u, L = ∂(Vp)/∂u, D = ∂(Vp)/∂θ; so that
    K = ∂R/∂u + R_θ V⁻¹ B + R_p V⁻¹ (L + D V⁻¹ B), each the exact derivative of the residual that the user wrote.
    """

    def __init__(self, residual: Any, u: Any, material: QuadratureMaterial, mean: MeanDilatation) -> None:
        space = mean.theta.function_space
        test, trial, du = ufl.TestFunction(space), ufl.TrialFunction(space), ufl.TrialFunction(u.function_space)
        measure, weight = material.dx, material.weight_ufl
        stiffness: Any = matrix_ufl(material.tangent, material.law.tangent_entries)
        along: Any = mean.strain_derivative()
        work: Any = ufl.dot(material.stress, along)
        by_theta: Any = ufl.derivative(residual, mean.theta, trial)
        by_theta += ufl.derivative(residual, material.stress, ufl.dot(stiffness, along) * trial)
        pressure_by_u: Any = ufl.derivative(work * weight * test * measure, u, du)
        pressure_by_u += ufl.dot(along, material.stress_variation(du)) * weight * test * measure
        curvature: Any = ufl.derivative(work * weight * measure, mean.theta, test)
        curvature += ufl.dot(along, ufl.dot(stiffness, along)) * weight * test * measure
        gradient = material.gradient_of(du)
        self._forms = {
            "B": versions.compile_form(mean.dilatation_variation(gradient) * weight * test * measure),
            "L": versions.compile_form(pressure_by_u),
            "theta": versions.compile_form(by_theta),
            "pressure": versions.compile_form(ufl.derivative(residual, mean.pressure, trial)),
        }
        self._curvature = versions.compile_form(curvature)
        self._matrices = {name: petsc.create_matrix(form) for name, form in self._forms.items()}
        self._diagonal = versions.ghosted_vector(space)
        self._inverse_volume = mean.inverse_volume
        self._products: list[Any] = [None, None]

    def add_to(self, matrix: Any) -> None:
        """Add to an assembled tangent without boundary conditions."""
        m = self._matrices
        for name, form in self._forms.items():
            m[name].zeroEntries()
            petsc.assemble_matrix(m[name], form)
            m[name].assemble()
        with self._diagonal.localForm() as local:
            local.set(0.0)
        petsc.assemble_vector(self._diagonal, self._curvature)
        self._diagonal.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        m["B"].diagonalScale(L=self._inverse_volume)
        # L + D V⁻¹ B: both have the pattern of cells × their components
        scaled = m["B"].copy()
        scaled.diagonalScale(L=self._diagonal)
        m["L"].axpy(1.0, scaled, structure=PETSc.Mat.Structure.SAME_NONZERO_PATTERN)
        m["L"].diagonalScale(L=self._inverse_volume)
        scaled.destroy()
        for k, (left, right) in enumerate((("theta", "B"), ("pressure", "L"))):
            self._products[k] = m[left].matMult(m[right], result=self._products[k])
            matrix.axpy(1.0, self._products[k], structure=PETSc.Mat.Structure.SUBSET_NONZERO_PATTERN)
