"""Which parts of a weak form element kernels in C assemble, and which DOLFINx does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ufl
from dolfinx.fem import petsc
from ufl.algorithms import expand_derivatives, extract_coefficients

from constitutive.ckernel import NoCompiler, shared_source

from . import dolfinx_versions as versions
from .element_kernels import ElementKernels, hold
from .form_tangent import FormTangent
from .fused import FusedElasticity
from .residual import tangent_form

if TYPE_CHECKING:
    from .material import QuadratureMaterial

ASSEMBLIES = ("auto", "forms", "fused")
#: Fewer points than these are not worth the seconds that the derivative of a form takes to compile.
LEAST_POINTS = 20_000
WHERE = "EquilibriumProblem"


class _StoredTangent:
    """The tangent of a material's virtual work, from the stress and the tangent at its points."""

    def __init__(self, material: QuadratureMaterial) -> None:
        self._material = material
        symmetric = material.law.tangent_entries == 21
        definitions = {
            "LAW_INSIDE": 0, "SYMMETRIC": int(symmetric), "GREEN_LAGRANGE": int(material.kinematics == "finite"),
        }  # fmt: skip
        kind = f"{material.kinematics}-strain element kernel{'' if symmetric else ', unsymmetric'}"
        self._kernels = ElementKernels(
            WHERE, shared_source(), material.u, material.degree, material.cells, kind, definitions
        )
        table = versions.cell_dofs(material.stress.function_space)[material.cells]
        self._kernels.read_at(table)

    def add_matrix(self, matrix: Any, bcs: Sequence[Any]) -> None:
        stress, tangent = (np.ascontiguousarray(f.x.array) for f in (self._material.stress, self._material.tangent))
        self._kernels.add_matrix(matrix, bcs, stress, tangent)


class Assembly:
    """Residual and tangent of a weak form, assembled.

    A virtual work that stands in the residual as `QuadratureMaterial.virtual_work` made it is ∫ S : δE dx; its element
    matrices are then known, and a kernel in C takes a fraction of the time of one derived from the form. Other integrals of
    a stress (scaled, of P : ∇v) are derived at the points, see `fem.form_tangent`. All else (tractions,
    springs, sections, mean dilatation, and those other integrals where points are few) goes through DOLFINx.

    Parameters
    ----------
    how : 'auto', 'forms' or 'fused'
        See `EquilibriumProblem`.
    residual, u, materials
        Those of the problem, checked.

    Attributes
    ----------
    fused : bool
        Whether the law is evaluated inside the kernels, and not by the materials.
    description : str
        Who assembles what.
    residual_form, tangent_form : Form
        The whole of both, compiled: for reactions, the pattern of the matrix and boundary values.
    """

    def __init__(self, how: str, residual: Any, u: Any, materials: Sequence[QuadratureMaterial]) -> None:
        if how not in ASSEMBLIES:
            raise ValueError(f"{WHERE}: expected assembly 'auto', 'forms' or 'fused', got {how!r}.")
        self.fused = how == "fused"
        self._owned = u.function_space.dofmap.index_map.size_local * u.function_space.dofmap.index_map_bs
        self._parts: list[Any] = []
        #: what is left for DOLFINx: integrals whose tangent is to be made, materials whose stresses they have, and tangents
        rest, others, tangents, reasons = residual, [], [], []
        trial = ufl.TrialFunction(u.function_space)
        for material in materials if how != "forms" else []:
            left, reason = _without_work(rest, material)
            part = None
            try:
                part = None if reason else _fused(material) if self.fused else _StoredTangent(material)
            except (ValueError, NoCompiler) as error:
                reason = str(error).removeprefix(f"{WHERE}: ").removeprefix("FusedElasticity: ")
            # what one rank cannot do, none does: PETSc's assembly is collective
            reason = next(filter(None, material.mesh.comm.allgather(reason)), "")
            if self.fused and (part is None or reason):
                raise ValueError(
                    f"{WHERE}: expected materials whose virtual work can be fused, for assembly='fused', got one that cannot: "
                    f"{reason} Leave assembly at 'auto'."
                )
            # the derivative of F̄ takes as long to tabulate as the matrix, and long to compile
            if reason and material.mean_dilatation is None and _large(material):
                left, part, reason = _by_form(rest, material, materials, trial)
                tangents += [part.rest] if part is not None else []
            if part is not None and not reason:
                self._parts.append(part)
                rest = left
                continue
            others.append(material)
            reasons.append(reason)
        if self.fused and not self._parts:
            raise ValueError(f"{WHERE}: expected materials for assembly='fused', got none. Leave assembly at 'auto'.")
        self.residual_form = versions.compile_form(residual)
        self.tangent_form = versions.compile_form(tangent_form(residual, u, materials))
        self._residual, self._tangent = self.residual_form, self.tangent_form
        if self.fused:
            self._residual = versions.compile_form(rest) if rest.integrals() else None
        if self._parts:
            form: Any = expand_derivatives(tangent_form(rest, u, others, trial)) if rest.integrals() else rest
            form = ufl.Form([part for whole in (form, *tangents) for part in whole.integrals()])
            self._tangent = None if form.empty() else versions.compile_form(form)
        self.description = _in_words(self._parts, self.fused, self._tangent is not None, reasons)

    def add_residual(self, vector: Any) -> None:
        """Add the residual without boundary conditions; ghosts are left to be sent."""
        if self._residual is not None:
            petsc.assemble_vector(vector, self._residual)
        for part in self._parts if self.fused else ():
            part.assemble_vector(vector)

    def set_matrix(self, matrix: Any, bcs: Sequence[Any] = ()) -> None:
        """Set the tangent; rows and columns of `bcs` are zero but for 1 on the diagonal."""
        matrix.zeroEntries()
        for part in self._parts:
            part.add_matrix(matrix, bcs)
        if self._tangent is not None:
            matrix.assemble(matrix.AssemblyType.FLUSH)  # DOLFINx sets the diagonal where this has added
            petsc.assemble_matrix(matrix, self._tangent, bcs=list(bcs))
        else:
            hold(matrix, bcs, self._owned)
        matrix.assemble()


def _without_work(residual: Any, material: QuadratureMaterial) -> tuple[Any, str]:
    """The residual without the material's virtual work, or why that cannot be taken out."""
    if material.section != "solid" or material.mean_dilatation is not None:
        what = f"section {material.section!r}" if material.section != "solid" else "mean dilatation"
        return residual, f"not supported: {what}."
    (work,) = material.virtual_work(residual.arguments()[0]).integrals()
    found = [part for part in residual.integrals() if material.stress in extract_coefficients(part.integrand())]
    if len(found) != 1 or found[0] != work:
        return (
            residual,
            "not supported: a virtual work that does not stand in the residual as virtual_work(v) gives it.",
        )
    return ufl.Form([part for part in residual.integrals() if part is not found[0]]), ""


def _large(material: QuadratureMaterial) -> bool:
    """Whether a form of the user's own has points enough to be worth another compilation."""
    return material.mesh.comm.allreduce(len(material.cells) * material.points_per_cell) >= LEAST_POINTS


def _by_form(residual: Any, material: QuadratureMaterial, materials: Sequence[Any], trial: Any) -> tuple[Any, Any, str]:
    """The residual without the integrals that have the material's stress, their tangent, or why there is none."""
    (work,) = material.virtual_work(residual.arguments()[0]).integrals()
    stresses = [other.stress for other in materials if other is not material]
    taken, left = [], []
    for part in residual.integrals():
        found = extract_coefficients(part.integrand())
        if material.stress not in found:
            left.append(part)
        elif any(stress in found for stress in stresses):
            return residual, None, "not supported: stresses of two materials in one integral."
        elif part.subdomain_id() != work.subdomain_id() or part.subdomain_data() is not work.subdomain_data():
            return residual, None, "not supported: a stress under another measure than its material's dx."
        else:
            taken.append(part)
    part, reason = None, ""
    try:
        part = FormTangent(WHERE, taken, material, trial)
    except (ValueError, NoCompiler) as error:
        reason = str(error).removeprefix(f"{WHERE}: ")
    reason = next(filter(None, material.mesh.comm.allgather(reason)), "")
    return ufl.Form(left), None if reason else part, reason


def _fused(material: QuadratureMaterial) -> FusedElasticity:
    if material.has_stress_free_shape:
        raise ValueError("not supported: a stress-free shape or an initial stress.")
    turn = material.orientation
    return FusedElasticity(
        material.law, material.u, material.degree, material.kinematics, None if turn is None else turn.rotation, material.cells
    )  # fmt: skip


def _in_words(parts: Sequence[Any], fused: bool, rest: bool, reasons: Sequence[str]) -> str:
    why = f": {' '.join(dict.fromkeys(reasons))}" if reasons else ""
    if not parts:
        return "DOLFINx" + why
    text = "element kernels in C with the law inside" if fused else "element kernels in C"
    if any(isinstance(part, FormTangent) for part in parts):
        text += ", for forms of the user's own from their derivative at the points"
    return f"{text}, DOLFINx for the rest{why}" if rest else text
