"""From deformation gradients to first Piola–Kirchhoff stress: the path a finite-strain solver takes through a law."""

from __future__ import annotations

import numpy as np

from crystals import mandel
from crystals.rotations import check_rotation, mandel_rotation

from .laws.law import Law


def first_piola(
    law: Law,
    deformation_gradient: np.ndarray,
    orientation: np.ndarray | None = None,
    tangent: bool = True,
    inputs: np.ndarray | float | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """First Piola–Kirchhoff stress and its derivative with respect to F.

    Parameters
    ----------
    law : Law
        Law of Green–Lagrange strain in the crystal frame.
    deformation_gradient : array (n, 3, 3)
        F in the sample frame.
    orientation : array (3, 3) or (n, 3, 3), optional
        Q, crystal → sample.
    tangent : bool
        Whether to compute ∂P/∂F.
    inputs : array (n, k), (k,) or scalar, optional
        Values of the law's `input_names`.

    Returns
    -------
    P : array (n, 3, 3)
        P = F S, in the law's units.
    dP_dF : array (n, 3, 3, 3, 3) or None
        ∂P_iJ/∂F_kL = F_iM C_MJNL F_kN + δ_ik S_JL (Bonet and Wood 2008, eq. 6.11, from δP = δF S + F C:δE).
    """
    if law.strain_measure != "green_lagrange":
        raise ValueError(
            f"first_piola: expected a law of Green–Lagrange strain, got one of {law.strain_measure} strain."
        )
    gradient = np.asarray(deformation_gradient, dtype=float)
    if gradient.ndim != 3 or gradient.shape[1:] != (3, 3):
        raise ValueError(f"first_piola: expected F of shape (n, 3, 3), got {gradient.shape}.")
    strain = mandel.green_lagrange(gradient)
    turn = None if orientation is None else mandel_rotation(check_rotation("first_piola(orientation)", orientation))
    if turn is not None:
        strain = (np.swapaxes(turn, -1, -2) @ strain[..., None])[..., 0]
    answer = law.response(strain, inputs=inputs, tangent=tangent)
    stress = answer.stress if turn is None else (turn @ answer.stress[..., None])[..., 0]
    second = mandel.from_mandel(stress)
    piola = gradient @ second
    if not tangent:
        return piola, None
    stiffness = mandel.unpack_upper(answer.tangent)
    if turn is not None:
        stiffness = turn @ stiffness @ np.swapaxes(turn, -1, -2)
    full = mandel.stiffness_to_tensor(stiffness)
    material = np.einsum("niM,nMJNL,nkN->niJkL", gradient, full, gradient, optimize=True)
    return piola, material + np.einsum("ik,nJL->niJkL", np.eye(3), second)
