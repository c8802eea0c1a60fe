"""The standard weak form with the law inside the element kernel: no stress and no tangent is ever stored.

    fused = FusedElasticity(law, u, degree=2)
    petsc.assemble_vector(b, fused.residual)
    petsc.assemble_matrix(A, fused.tangent, bcs=bcs)

∫ S : δE dx and its derivative, for one law that can be written in C (`constitutive.ckernel`), on Lagrange hexahedra and
tetrahedra. Any other weak form takes the general path, `fem.QuadratureMaterial`.
"""

from __future__ import annotations

import ctypes
from importlib.resources import files
from typing import Any

import numpy as np

from constitutive.ckernel import c_source, unsupported
from constitutive.clibrary import build
from constitutive.laws.law import Law
from crystals.rotations import check_rotation

from . import dolfinx_versions as versions

_MEASURE = {"finite": "green_lagrange", "small": "small"}


class FusedElasticity:
    """Residual and tangent of ∫ S : δE dx for one law, each an element kernel in C.

    Parameters
    ----------
    law : Law
        A law that C knows; others raise 'not supported: …'. What the law is now is compiled in: make another after changing it.
    u : dolfinx.fem.Function
        Displacement, Lagrange of degree 1 or 2, three components, on hexahedra or tetrahedra with straight edges.
    degree : int
        Degree of the quadrature rule.
    kinematics : 'finite' or 'small'
        As in `QuadratureMaterial`.
    orientation : array (3, 3), optional
        Rotation Q crystal → sample, the same everywhere.

    Attributes
    ----------
    residual, tangent : form
        For `assemble_vector` and `assemble_matrix` of `dolfinx.fem.petsc`; they read `u`, whose ghosts must be up to date.

    Raises
    ------
    ValueError
        Where law, element, mesh or DOLFINx's version is not supported.
    """

    def __init__(
        self, law: Law, u: Any, degree: int = 2, kinematics: str = "finite", orientation: Any = None
    ) -> None:
        where = "FusedElasticity"
        if reason := unsupported(law):
            raise ValueError(f"{where}: {reason} Use QuadratureMaterial.")
        if kinematics not in _MEASURE or law.strain_measure != _MEASURE[kinematics]:
            raise ValueError(
                f"{where}: expected a law of strain measure {_MEASURE.get(kinematics)!r} for kinematics={kinematics!r}, "
                f"got {law.strain_measure!r}. Pass the other kinematics, 'finite' or 'small'."
            )
        self.law, self.u = law, u
        turn = np.eye(3)
        if orientation is not None:
            turn = check_rotation(f"{where} orientation", np.asarray(orientation, dtype=float))
            if turn.shape != (3, 3):
                raise ValueError(
                    f"{where}: not supported: an orientation of shape {turn.shape}. Give one Q (3, 3), or use "
                    "QuadratureMaterial for a field of orientations."
                )
        basis, geometry, weights = versions.lagrange_tables(where, u, degree)
        tables = "".join(
            f"static const double {name}[{array.size}] = {{{', '.join(float(x).hex() for x in array.reshape(-1))}}};\n"
            for name, array in (("BASIS", basis), ("GEOMETRY", geometry), ("WEIGHTS", weights), ("ROTATION", turn))
        )
        sizes = f"#define POINTS {len(weights)}\n#define NODES {basis.shape[1]}\n#define CORNERS {geometry.shape[1]}\n"
        sizes += f"#define ORIENTED {int(orientation is not None)}\n"
        element = files("fem").joinpath("element.c").read_text(encoding="utf-8")
        what = f"{type(law).__name__} of {law.group.symbol} into an element of {basis.shape[1]} nodes"
        self._library = ctypes.CDLL(str(build("\n".join([c_source(law), sizes, tables, element]), what)))
        self._library.element_prepare()
        self.residual = versions.kernel_form(where, self._library.element_vector, u, 1)
        self.tangent = versions.kernel_form(where, self._library.element_matrix, u, 2)

    def points(self) -> tuple[int, int]:
        """How many points assembly met outside the trained range, and without a possible strain (their elements are NaN).

        On this rank, since this was last asked; an assembly of both vector and matrix meets each point twice. Materials
        of one law and orientation are counted together.
        """
        counts = [ctypes.c_int64.in_dll(self._library, name) for name in ("element_outside", "element_invalid")]
        found = (counts[0].value, counts[1].value)
        for count in counts:
            count.value = 0
        return found
