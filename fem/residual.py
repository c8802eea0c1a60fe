"""The weak form that the user wrote: what it must satisfy, and its exact derivative."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ufl
from ufl.algorithms import extract_coefficients

from . import dolfinx_versions as versions
from .kinematics import default_degree

if TYPE_CHECKING:
    from .material import QuadratureMaterial


#: Stress of every material that lives, and the displacement that it follows.
STRESSES: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def tangent_form(residual: Any, u: Any, materials: Sequence[QuadratureMaterial], trial: Any = None) -> Any:
    """Bilinear form d residual / du, through u itself and through the stress of every material.

    A stress is a coefficient that follows u with ∂S/∂u · du = C : δE[du]; so the form is the Gateaux derivative of the
    residual in the direction of that expression. Whatever the user did with the virtual work (scaled it, subtracted
    it, used the stress elsewhere), the tangent stays consistent. Forms that are to be added share one trial function.
    """
    trial = ufl.TrialFunction(u.function_space) if trial is None else trial
    form: Any = ufl.derivative(residual, u, trial)
    for material in materials:
        form = form + ufl.derivative(residual, material.stress, material.stress_variation(trial))
    return form


def check_residual(residual: Any, u: Any, materials: Sequence[QuadratureMaterial]) -> None:
    """Raise ValueError where form, displacement, materials and quadrature rules do not fit each other."""
    where = "EquilibriumProblem"
    if not isinstance(residual, ufl.Form) or len(residual.arguments() or ()) != 1:
        raise ValueError(
            f"{where}: expected a residual that is linear in one test function, got {type(residual).__name__}. "
            "Write material.virtual_work(v) with v = ufl.TestFunction(u.function_space)."
        )
    dim = u.function_space.mesh.geometry.dim
    if versions.value_shape(u) != (dim,) or u.function_space.dofmap.index_map_bs != dim:
        raise ValueError(
            f"{where}: expected a displacement of {dim} Lagrange components, got {u.function_space.ufl_element()}. "
            "Not supported: mixed spaces."
        )
    listed = [material.stress for material in materials]
    forgotten = [
        stress
        for stress in residual.coefficients() or ()
        if STRESSES.get(stress) is u and not any(stress is s for s in listed)
    ]
    if forgotten:
        # nobody would evaluate it: whatever it holds would pass for equilibrium
        raise ValueError(
            f"{where}: expected every material whose virtual work is in the residual, got {len(listed)} of "
            f"{len(listed) + len(forgotten)}. Pass materials=[...] with all of them."
        )
    for material in materials:
        if material.u is not u:
            raise ValueError(
                f"{where}: expected materials made with the problem's own u, got another Function. "
                "Pass the same u to QuadratureMaterial and EquilibriumProblem."
            )
        found = False
        for integral in residual.integrals():
            if material.stress not in extract_coefficients(integral.integrand()):
                continue
            found = True
            # FFCx takes the rule of the quadrature element, whatever the measure says: two rules must not meet
            rule = integral.metadata().get("quadrature_degree")
            if integral.integral_type() != "cell" or rule != material.degree:
                raise ValueError(
                    f"{where}: expected the stress of a material under its own measure (cells, degree "
                    f"{material.degree}), got a {integral.integral_type()} integral of degree {rule}. "
                    "Use material.dx instead of ufl.dx."
                )
        if not found:
            raise ValueError(
                f"{where}: expected the stress of every material in the residual, got one without. "
                "Add material.virtual_work(v), or leave the material out."
            )
        _check_rule(where, residual, u, material, materials)
    for first, second in itertools.combinations(materials, 2):
        shared = first.degree != second.degree and np.intersect1d(first.cells, second.cells).size > 0
        if u.function_space.mesh.comm.allreduce(int(shared)):
            raise ValueError(
                f"{where}: expected materials on the same cells under one quadrature rule, got degrees {first.degree} and "
                f"{second.degree}. Give both the same degree."
            )


def _check_rule(where: str, residual: Any, u: Any, material: QuadratureMaterial, materials: Sequence[Any]) -> None:
    """Raise ValueError where a cell can deform without any strain at its points: a necessary condition, by counting.

    Such modes have no stiffness, and come out in any size. Cells on which something else acts as well are not judged.
    """
    strains, rigid = {"solid": (6, 6), "axisymmetric": (4, 1)}.get(material.section, (3, 3))
    dofs = u.function_space.dofmap.dof_layout.num_dofs * u.function_space.dofmap.index_map_bs
    if material.points_per_cell * strains >= dofs - rigid:
        return
    (work,) = material.virtual_work(residual.arguments()[0]).integrals()
    acting = {u, *(other.stress for other in materials)}
    for part in residual.integrals():
        found = set(extract_coefficients(part.integrand()))
        same = work.subdomain_id() in (part.subdomain_id(), "everywhere") or part.subdomain_id() == "everywhere"
        if part.integral_type() == "cell" and same and found & acting and material.stress not in found:
            return
    raise ValueError(
        f"{where}: expected a rule that sees every way in which a cell can deform (of its {dofs} unknowns {dofs - rigid}), got "
        f"{strains} strains at each of {material.points_per_cell} points (degree {material.degree}). Pass "
        f"QuadratureMaterial(degree={default_degree(u)}). Not supported: hourglass control of fewer points."
    )
