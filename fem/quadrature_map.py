"""A law as the material of dolfinx_materials, for those who use its QuadratureMap.

    quadrature_map = QuadratureMap(mesh, 2, LawMaterial(law))
    quadrature_map.register_gradient("Strain", symmetric_gradient(ufl.grad(u)))

Written for the calls that QuadratureMap makes of its class Material (J. Bleyer, dolfinx_materials, files generic.py and
quadrature_map.py of 2025); no package registry has dolfinx_materials, so it was never run here with the package itself.
This module does not import it. The package commits a state when it is told to advance, whether or not the step
converged: `EquilibriumProblem` does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from constitutive.laws.history import HistoryLaw
from constitutive.laws.law import Law
from crystals import mandel
from crystals.rotations import check_rotation, mandel_rotation

#: Where our components 11 22 33 23 13 12 stand in theirs, 11 22 33 12 13 23, shears times √2 in both; its own inverse.
_ORDER = np.array([0, 1, 2, 5, 4, 3])


class LawMaterial:
    """Stress, state and tangent of a law, in the order and under the names that QuadratureMap asks for.

    The gradient 'Strain' is the strain of the law's own measure, 'Stress' its work conjugate: small strain and Cauchy
    stress, or Green–Lagrange strain and second Piola–Kirchhoff stress; 6 components 11 22 33 12 13 23 with shears times √2
    (MFront's). Internal variables keep their names; tensors among them are in the crystal frame.

    Parameters
    ----------
    law : Law
        Not rate dependent: QuadratureMap hands over no time step.
    orientation : array (3, 3), optional
        Rotation Q crystal → sample.
    inputs : array (k,) or scalar, optional
        Values of the law's `input_names`, for all points.

    Raises
    ------
    ValueError
        For a law that depends on the rate, or a matrix that is no rotation.
    """

    rotation_matrix = None  # the law turns by itself

    def __init__(self, law: Law, orientation: Any = None, inputs: Any = None) -> None:
        where = "LawMaterial"
        if law.rate_dependent:
            raise ValueError(
                f"{where}: not supported: a law that depends on the rate, got {type(law).__name__}, since QuadratureMap "
                "hands over no time step. Use QuadratureMaterial."
            )
        turn = (
            np.eye(6) if orientation is None else mandel_rotation(check_rotation(f"{where}(orientation)", orientation))
        )
        # strains of theirs times this are the law's
        self._turn = turn[_ORDER]
        self.law, self._inputs = law, inputs
        self._parts = law.state_parts if isinstance(law, HistoryLaw) else ()
        self.name = type(law).__name__
        self.material_properties: dict[str, Any] = {}
        self.gradients, self.fluxes = {"Strain": 6}, {"Stress": 6}
        self.internal_state_variables = {name: 6 if kind == "strain" else 1 for name, kind in self._parts}
        self.tangent_blocks = {("Stress", "Strain"): (6, 6)}
        self.variables = {**self.gradients, **self.fluxes, **self.internal_state_variables}
        self.gradient_names, self.flux_names = ["Strain"], ["Stress"]
        self.internal_state_variable_names = list(self.internal_state_variables)
        self.data_manager = StateManager(self.variables, 0)

    def set_data_manager(self, ngauss: int) -> None:
        """Start from the virgin state at so many points."""
        self.data_manager = StateManager(self.variables, ngauss)

    def get_initial_state_dict(self) -> dict[str, np.ndarray]:
        """State (n, size) by name at the last advance."""
        return self.data_manager.s0

    def get_final_state_dict(self) -> dict[str, np.ndarray]:
        """State (n, size) by name after the last `integrate`."""
        return self.data_manager.s1

    def set_initial_state_dict(self, state: dict[str, Any]) -> None:
        """Overwrite what is named."""
        for name, values in state.items():
            self.data_manager.s0[name] = np.array(values, dtype=float).reshape(-1, self.variables[name])

    def integrate(self, gradients: np.ndarray, dt: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stress (n, 6), internal variables (n, k) and tangent (n, 6, 6) at strains (n, 6); NaN where the law fails."""
        strain = np.asarray(gradients, dtype=float).reshape(-1, 6)
        parts = [self.data_manager.s0[name] for name, _ in self._parts]
        order = [_ORDER if kind == "strain" else [0] for _, kind in self._parts]
        state = np.hstack([part[:, k] for part, k in zip(parts, order, strict=True)]) if parts else None
        answer = self.law.response(strain @ self._turn, state=state, inputs=self._inputs, dt=dt)
        stress = answer.stress @ self._turn.T
        entries = answer.tangent
        matrix = mandel.unpack_upper(entries) if self.law.tangent_entries == 21 else entries.reshape(-1, 6, 6)
        found = {"Strain": strain.copy(), "Stress": stress}
        for (name, _), k in zip(self._parts, order, strict=True):
            assert isinstance(self.law, HistoryLaw)
            found[name] = self.law.state_part(answer.state, name)[:, k]
        self.data_manager.s1 = found
        internal = [found[name] for name, _ in self._parts]
        return (
            stress,
            np.hstack(internal) if internal else np.zeros((len(strain), 0)),
            self._turn @ matrix @ self._turn.T,
        )


class StateManager:
    """State at the beginning (s0) and at the end (s1) of a step, each by name."""

    def __init__(self, variables: dict[str, int], number: int) -> None:
        self.s0 = {name: np.zeros((number, size)) for name, size in variables.items()}
        self.s1 = dict(self.s0)

    def update(self) -> None:
        """The end becomes the beginning."""
        self.s0 = dict(self.s1)

    def revert(self) -> None:
        """Forget the end."""
        self.s1 = dict(self.s0)
