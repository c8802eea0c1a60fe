"""The tangent of a form of the user's own, from its derivative at the points.

What FFCx makes of such a form sums scalars for each pair of degrees of freedom. But a form that sees displacement and test
function through their gradients has element matrices K_ai,bk = ∫ G_aJ A_iJkL G_bL dx, with G the gradients of the basis and
A_iJkL the form's own density for unit gradients: 81 numbers a point, which FFCx tabulates in a sixth of the time that its
matrix takes. The product with the gradients is a kernel in C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ufl as _ufl
from ufl.algorithms import expand_derivatives, extract_arguments
from ufl.algorithms.map_integrands import map_integrand_dags
from ufl.argument import Argument
from ufl.constantvalue import Zero
from ufl.corealg.multifunction import MultiFunction

from constitutive.ckernel import shared_source

from . import dolfinx_versions as versions
from .element_kernels import ElementKernels
from .residual import tangent_form

if TYPE_CHECKING:
    from .material import QuadratureMaterial

ufl: Any = _ufl  # its operators defy type checkers
_NONE = Zero((3,)), Zero((3, 3))
_ALL = None, None


class FormTangent:
    """Tangent of integrals of a residual over the cells of one material, in three dimensions.

    Parameters
    ----------
    where : str
        Whose messages are raised.
    integrals : sequence of ufl.Integral
        Of the residual, under the measure of the material.
    material : QuadratureMaterial
        The only one whose stress they have.
    trial : Argument
        Trial function of `rest`.

    Attributes
    ----------
    rest : Form
        What is left of their tangent: terms in which displacement or test function stand without a gradient.

    Raises
    ------
    ValueError
        'not supported: …', on all ranks or on some.
    NoCompiler
        Where there is none.
    """

    def __init__(self, where: str, integrals: Sequence[Any], material: QuadratureMaterial, trial: Any) -> None:
        failure = ""
        try:
            versions.lagrange_tables(where, material.u, material.degree)
        except ValueError as error:
            failure = str(error)
        # what comes next is collective
        failure = next(filter(None, material.mesh.comm.allgather(failure)), "")
        if failure:
            raise ValueError(failure)
        whole: Any = expand_derivatives(tangent_form(ufl.Form(list(integrals)), material.u, [material], trial))
        parts = [
            _replaced(where, whole, *at) for at in (((None, _NONE[1]), _ALL), ((_NONE[0], None), (None, _NONE[1])))
        ]
        self.rest = ufl.Form(
            [part for form in parts for part in form.integrals() if len(extract_arguments(part.integrand())) == 2]
        )
        units = [
            (_NONE[0], ufl.as_matrix([[int(3 * i + j == k) for j in range(3)] for i in range(3)])) for k in range(9)
        ]
        density: Any = sum(part.integrand() for part in whole.integrals())
        entries = [_replaced(where, density, one, other) for one in units for other in units]
        self._derivative, self._material = material._compile(ufl.as_vector(entries)), material
        self._kernels = ElementKernels(
            where, shared_source(), material.u, material.degree, material.cells, "element kernel of forms",
            {"LAW_INSIDE": 0, "DERIVATIVE": 1, "SYMMETRIC": 0, "GREEN_LAGRANGE": 1},
        )  # fmt: skip

    def add_matrix(self, matrix: Any, bcs: Sequence[Any]) -> None:
        self._kernels.add_matrix(matrix, bcs, derivative=self._at)

    def _at(self, cells: np.ndarray) -> np.ndarray:
        """A (n, 81) at the points of some of the material's cells."""
        material = self._material
        return np.ascontiguousarray(versions.evaluate(self._derivative, material.mesh, material.cells[cells], 81))


class _Replacer(MultiFunction):
    """Puts values and gradients of test (0) and trial function (1) in; None leaves what stands there."""

    expr = MultiFunction.reuse_if_untouched

    def __init__(self, where: str, *arguments: tuple[Any, Any]) -> None:
        super().__init__()
        self._where, self._arguments = where, arguments

    def argument(self, o: Any) -> Any:
        value = self._arguments[o.number()][0]
        return o if value is None else value

    def grad(self, o: Any) -> Any:
        (of,) = o.ufl_operands
        if isinstance(of, Argument):
            gradient = self._arguments[of.number()][1]
            return o if gradient is None else gradient
        if extract_arguments(of):
            raise ValueError(f"{self._where}: not supported: second gradients of displacement or test function.")
        return o


def _replaced(where: str, of: Any, test: tuple[Any, Any], trial: tuple[Any, Any]) -> Any:
    return map_integrand_dags(_Replacer(where, test, trial), of)
