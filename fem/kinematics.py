"""Strains and stresses as UFL expressions, in Mandel components."""

from __future__ import annotations

from typing import Any

import ufl

from crystals import mandel


def mandel_ufl(tensor: Any) -> Any:
    """Mandel vector of a symmetric UFL tensor, ordered as in `crystals.mandel`."""
    return ufl.as_vector([float(w) * tensor[i, j] for w, (i, j) in zip(mandel.WEIGHTS, mandel.PAIRS, strict=True)])


def tensor_ufl(vector: Any) -> Any:
    """Symmetric UFL tensor of a Mandel vector."""
    return ufl.as_tensor([[vector[int(k)] / float(mandel.WEIGHTS[k]) for k in row] for row in mandel.POSITION])


def strain_ufl(u: Any, kinematics: str) -> Any:
    """Green–Lagrange ('finite') or small strain of the displacement, Mandel."""
    gradient: Any = ufl.grad(u)
    if kinematics == "small":
        return mandel_ufl(ufl.sym(gradient))
    # sym H + ½ HᵀH keeps full relative accuracy at small strain, ½ (FᵀF − 1) does not
    square: Any = ufl.dot(gradient.T, gradient)
    return mandel_ufl(ufl.sym(gradient) + 0.5 * square)


def strain_variation_ufl(u: Any, v: Any, kinematics: str) -> Any:
    """δE[v] = sym(Fᵀ ∇v), or sym ∇v for small strain; Mandel, linear in `v`."""
    if kinematics == "small":
        return mandel_ufl(ufl.sym(ufl.grad(v)))
    gradient: Any = ufl.grad(u)
    deformation_gradient = ufl.Identity(3) + gradient
    return mandel_ufl(ufl.sym(ufl.dot(deformation_gradient.T, ufl.grad(v))))


def matrix_ufl(entries: Any, number: int) -> Any:
    """6×6 UFL matrix from its 21 upper entries, row by row, or from all 36."""
    if number == 21:
        return ufl.as_matrix([[entries[int(k)] for k in row] for row in mandel.UPPER_POSITION])
    return ufl.as_matrix([[entries[6 * i + j] for j in range(6)] for i in range(6)])
