"""A law for dolfinx-external-operator (0.10 and later), for those who write their own Newton loop around it.

    stress = FEMExternalOperator(strain, function_space=Q, external_function=external_function(law, orientation=Q0))

with `strain` a Mandel vector of UFL (`fem.kinematics.strain_ufl`) and Q a quadrature space of 6 values. This module does
not import the package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from constitutive.laws.law import Law
from crystals import mandel
from crystals.rotations import check_rotation, mandel_rotation


def external_function(law: Law, orientation: Any = None, inputs: Any = None) -> Callable[[tuple[int, ...]], Callable]:
    """Stress and tangent of a law as dolfinx-external-operator asks for them.

    Parameters
    ----------
    law : Law
        Without internal variables. Its strain measure must be that of the operand.
    orientation : array (3, 3), optional
        Rotation Q crystal → sample.
    inputs : array (k,) or scalar, optional
        Values of the law's `input_names`, for all points.

    Returns
    -------
    callable
        Of the derivative's multi-index: (0,) gives a function from strains (cells, …) to stresses, (1,) one to tangents
        (6 × 6 of each point, row by row), flat, cell by cell. Points at which the law is not defined are NaN.

    Raises
    ------
    ValueError
        For a law with internal variables, a matrix that is no rotation, and, on call, for another derivative.
    """
    where = "external_function"
    if law.state_width:
        raise ValueError(
            f"{where}: expected a law without internal variables, got {type(law).__name__}. dolfinx-external-operator keeps no "
            "state; use QuadratureMaterial."
        )
    turn = np.eye(6) if orientation is None else mandel_rotation(check_rotation(f"{where}(orientation)", orientation))

    def answer(strain: Any, tangent: bool) -> Any:
        points = np.asarray(strain, dtype=float).reshape(-1, 6) @ turn
        return law.response(points, inputs=inputs, tangent=tangent)

    def stress(strain: Any) -> np.ndarray:
        return (answer(strain, False).stress @ turn.T).reshape(-1)

    def tangent(strain: Any) -> np.ndarray:
        entries = answer(strain, True).tangent
        matrix = mandel.unpack_upper(entries) if law.tangent_entries == 21 else entries.reshape(-1, 6, 6)
        return (turn @ matrix @ turn.T).reshape(-1)

    def choose(derivatives: tuple[int, ...]) -> Callable:
        if derivatives == (0,):
            return stress
        if derivatives == (1,):
            return tangent
        raise ValueError(
            f"{where}: not supported: the derivative {derivatives}. Expected the stress (0,) or its first derivative (1,)."
        )

    return choose
