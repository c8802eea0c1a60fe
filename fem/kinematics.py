"""Strains and stresses as UFL expressions, in Mandel components and in three dimensions whatever the mesh has."""

from __future__ import annotations

from typing import Any

import numpy as np
import ufl as _ufl

from constitutive.laws.law import Law
from constitutive.laws.parametric import ParametricLaw
from crystals import mandel
from crystals.rotations import mandel_rotation

from . import dolfinx_versions as versions

ufl: Any = _ufl  # its operators defy type checkers
#: Sections of a two-dimensional mesh; 'solid' is a mesh in three dimensions.
SECTIONS = ("solid", "plane_strain", "plane_stress", "axisymmetric")


def mandel_ufl(tensor: Any) -> Any:
    """Mandel vector of a symmetric UFL tensor, ordered as in `crystals.mandel`."""
    return ufl.as_vector([float(w) * tensor[i, j] for w, (i, j) in zip(mandel.WEIGHTS, mandel.PAIRS, strict=True)])


def tensor_ufl(vector: Any) -> Any:
    """Symmetric UFL tensor of a Mandel vector."""
    return ufl.as_tensor([[vector[int(k)] / float(mandel.WEIGHTS[k]) for k in row] for row in mandel.POSITION])


def gradient_ufl(u: Any, section: str, mesh: Any) -> Any:
    """Displacement gradient (3, 3) of a displacement or of a test function.

    In two dimensions the third direction is the thickness z ('plane_strain', 'plane_stress'), or θ of a body of
    revolution with coordinates (r, z), where the third diagonal entry is u_r / r.
    """
    gradient: Any = ufl.grad(u)
    if section == "solid":
        return gradient
    hoop: Any = u[0] / ufl.SpatialCoordinate(mesh)[0] if section == "axisymmetric" else 0
    rows = [[gradient[0, 0], gradient[0, 1], 0], [gradient[1, 0], gradient[1, 1], 0], [0, 0, hoop]]
    return ufl.as_tensor(rows)


def weight_ufl(mesh: Any, section: str) -> Any:
    """What a unit of the mesh's area stands for: 2πr in a body of revolution, otherwise 1."""
    return 2.0 * float(np.pi) * ufl.SpatialCoordinate(mesh)[0] if section == "axisymmetric" else 1.0


def strain_ufl(gradient: Any, kinematics: str) -> Any:
    """Green–Lagrange ('finite') or small strain of a displacement gradient, Mandel."""
    if kinematics == "small":
        return mandel_ufl(ufl.sym(gradient))
    # sym H + ½ HᵀH keeps full relative accuracy at small strain, ½ (FᵀF − 1) does not
    square: Any = ufl.dot(gradient.T, gradient)
    return mandel_ufl(ufl.sym(gradient) + 0.5 * square)


def strain_variation_ufl(gradient: Any, variation: Any, kinematics: str) -> Any:
    """δE = sym(Fᵀ δH), or sym δH for small strain; Mandel, linear in the variation δH of the gradient."""
    if kinematics == "small":
        return mandel_ufl(ufl.sym(variation))
    deformation_gradient = ufl.Identity(3) + gradient
    return mandel_ufl(ufl.sym(ufl.dot(deformation_gradient.T, variation)))


def matrix_ufl(entries: Any, number: int) -> Any:
    """6×6 UFL matrix from its 21 upper entries, row by row, or from all 36."""
    if number == 21:
        return ufl.as_matrix([[entries[int(k)] for k in row] for row in mandel.UPPER_POSITION])
    return ufl.as_matrix([[entries[6 * i + j] for j in range(6)] for i in range(6)])


def check_section(where: str, section: str | None, mesh: Any, u: Any) -> str:
    """The section that mesh and displacement allow; ValueError where they do not fit each other."""
    dim = mesh.topology.dim
    if mesh.geometry.dim != dim or dim not in (2, 3):
        raise ValueError(
            f"{where}: expected a mesh of dimension 2 in 2D or 3 in 3D, got dimension {dim} in {mesh.geometry.dim}D. "
            "Not supported: shells, membranes and bars."
        )
    allowed = ("solid",) if dim == 3 else SECTIONS[1:]
    section = "solid" if section is None and dim == 3 else section
    if section is None or section not in allowed:
        rule = "no section" if dim == 3 else f"section={' or '.join(repr(name) for name in allowed)}"
        remedy = "Leave it out" if dim == 3 else "Say what the third direction does"
        raise ValueError(f"{where}: expected {rule} on a mesh of dimension {dim}, got {section!r}. {remedy}.")
    if tuple(u.ufl_shape) != (dim,):
        raise ValueError(
            f"{where}: expected a displacement with values of shape ({dim},), got {tuple(u.ufl_shape)}. "
            "Not supported: mixed spaces."
        )
    return section


def default_degree(u: Any) -> int:
    """Degree of the rule that sees every way in which a straight cell can deform; 2 at least."""
    simplex = u.function_space.mesh.topology.cell_type.name in ("tetrahedron", "triangle")
    return max(2, 2 * versions.lagrange_degree(u) - 2 * simplex)


def check_axisymmetric(where: str, law: Law, rotation: np.ndarray | None) -> None:
    """Raise ValueError where a law in the frame (r, z, θ) couples θ with the rest, or where its frame is left open.

    Without torsion a body of revolution keeps its meridian plane, so the response must be even in θ. The law is asked
    itself: S(ME) = M S(E) for the mirror M normal to θ, which acts on strains as the half turn about θ.
    """
    strain = 1e-3 * np.random.default_rng(0).normal(size=(2, 6))
    inputs = np.mean(law.input_range, axis=1) if isinstance(law, ParametricLaw) else None

    def uneven(turn: np.ndarray, operation: np.ndarray) -> bool:
        at = np.concatenate([strain, strain @ operation.T])
        crystal = np.einsum("...ji,nj->...ni", turn, at).reshape(-1, 6)
        answer = law.response(crystal, inputs=inputs, dt=0.0, tangent=False).stress.reshape(*turn.shape[:-2], 4, 6)
        stress = np.einsum("...ij,...nj->...ni", turn, answer)
        difference = stress[..., 2:, :] - stress[..., :2, :] @ operation.T
        return bool(np.any(np.linalg.norm(difference, axis=-1) > 1e-8 * np.linalg.norm(stress[..., :2, :], axis=-1)))

    if rotation is None:
        # a rotation of no point group
        generic, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
        if uneven(np.eye(6), mandel_rotation(generic * np.linalg.det(generic))):
            raise ValueError(
                f"{where}: expected an orientation of a law that is not isotropic in an axisymmetric body, got None. "
                "Pass Q from the crystal to the frame (r, z, θ), which turns with θ: a cylindrical orientation field."
            )
    elif uneven(
        mandel_rotation(np.unique(rotation.reshape(-1, 3, 3), axis=0)), mandel_rotation(np.diag([-1.0, -1, 1]))
    ):
        raise ValueError(
            f"{where}: expected a law with a mirror plane normal to θ, in the frame (r, z, θ), for an axisymmetric body, got "
            f"{law.group.symbol!r} oriented without one: θ couples with r and z, and the body would twist. Orient the "
            "crystal so that one of its mirror planes or two-fold axes fits, or mesh in 3D."
        )
