"""The abstract material law: strain in; energy, stress, tangent, new state and a status per point out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from crystals import mandel
from crystals.elastic_constants import constants_to_voigt, elastic_constants
from crystals.exchange import elastic_tensor
from crystals.groups import PointGroup
from crystals.notebook import stiffness_html
from crystals.rotations import check_rotation

from .brugger import brugger_constants
from .domain import Domain

if TYPE_CHECKING:
    from ..evaluator import Evaluator
    from .uncertainty import Uncertainty  # which knows the laws it is made for

#: Status of a point: evaluated inside the trained range.
OK = 0
#: Status of a point: outside `Law.domain`, or |E| beyond `max_strain`; the values are an extrapolation.
OUT_OF_RANGE = 1
#: Status of a point: strain or state is NaN or infinite, 1 + 2E is not positive definite, or the law's own local
#: iteration did not converge; the values are NaN.
INVALID = 2


class Response(NamedTuple):
    """What a law answers for n points. numpy arrays for numpy strains, torch tensors for torch strains.

    Attributes
    ----------
    energy : (n,)
        Energy per reference volume W.
    stress : (n, 6)
        ∂W/∂E, the second Piola–Kirchhoff stress (or Cauchy stress for a small-strain law), Mandel.
    tangent : (n, 21) or (n, 36), or None where it was not asked for
        ∂S/∂E, Mandel: 21 entries of the upper triangle row by row (see `crystals.mandel.unpack_upper`), or all 36.
    state : (n, state_width)
        Internal variables after the step, for the caller to commit; width 0 for a hyperelastic law.
    status : (n,) int
        `OK`, `OUT_OF_RANGE` or `INVALID`.
    """

    energy: Any
    stress: Any
    tangent: Any
    state: Any
    status: Any


class Law(torch.nn.Module, ABC):
    """A material law in the crystal frame. Final classes give `_evaluate`; everything else is here.

    Attributes
    ----------
    group : PointGroup
        Symmetry of the law, in the frame in which strains are given.
    units : str
        Unit of energy density, stress and tangent ('GPa', 'Pa' …).
    strain_measure : str
        'green_lagrange' or 'small'.
    max_strain : float
        Trained range: largest Frobenius norm |E|. Infinite where the law is a closed formula.
    tangent_entries : int
        21 (symmetric tangent) or 36.
    state_width : int
        Number of internal variables per point. Laws that have some derive from `constitutive.laws.history.HistoryLaw`.
    rate_dependent : bool
        Whether `response` needs a time step.
    input_names : tuple of str
        Scalars beside the strain that `response` needs (temperature, composition). See `constitutive.laws.parametric`.
    metadata : dict
        Kind of data, provenance, figures of the fit and audit; JSON values only.
    domain : Domain or None
        Where it was trained, in strains reduced by symmetry; None stands for the ball |E| ≤ max_strain.
    uncertainty : Uncertainty or None
        What `stress_std` answers from.
    """

    tangent_entries = 21
    state_width = 0
    rate_dependent = False
    input_names: tuple[str, ...] = ()
    #: Points evaluated at once on a CPU and on a GPU; peak memory follows this, not n.
    chunk_cpu = 1024
    chunk_gpu = 65536

    def __init__(
        self, group: PointGroup, *, units: str, strain_measure: str = "green_lagrange", max_strain: float = float("inf")
    ) -> None:
        super().__init__()
        if strain_measure not in ("green_lagrange", "small"):
            raise ValueError(
                f"{type(self).__name__}: expected strain_measure 'green_lagrange' or 'small', got {strain_measure!r}."
            )
        if not max_strain > 0:
            raise ValueError(f"{type(self).__name__}: expected max_strain > 0, got {max_strain}.")
        self.group = group
        self.units = units
        self.strain_measure = strain_measure
        self.max_strain = float(max_strain)
        self.metadata: dict[str, Any] = {}
        self.domain: Domain | None = None
        self.uncertainty: Uncertainty | None = None
        self._evaluator: Evaluator | None = None

    @abstractmethod
    def _evaluate(self, strain: torch.Tensor, tangent: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Energy (n,), stress (n, 6) and 21 tangent entries (n, 21) or None, at float64 strains (n, 6)."""

    def _step(
        self, strain: torch.Tensor, state: torch.Tensor, dt: float, tangent: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        """Energy, stress, tangent as in `_evaluate`, then the new state and which points (n,) failed, if any could."""
        energy, stress, entries = self._evaluate(strain, tangent)
        entries = entries if tangent else None
        n, found = len(strain), [None if a is None else tuple(a.shape) for a in (energy, stress, entries)]
        wanted = [(n,), (n, 6), (n, self.tangent_entries) if tangent else None]
        if found != wanted:
            raise ValueError(
                f"{type(self).__name__}._evaluate: expected energy, stress and tangent entries of shapes "
                f"{', '.join(map(str, wanted))} at {n} points, got {', '.join(map(str, found))}. "
                "crystals.mandel.pack_upper takes 21 entries from (n, 6, 6)."
            )
        return energy, stress, entries, state, None

    def _step_at(
        self, strain: torch.Tensor, state: torch.Tensor, inputs: torch.Tensor, dt: float, tangent: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        """`_step` at inputs (n, k), which laws without `input_names` do not have."""
        return self._step(strain, state, dt, tangent)

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON description from which, with the tensors of `state_dict`, the law is rebuilt."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: dict[str, Any]) -> Law:
        """Rebuild the law, its tensors still to be loaded."""

    @property
    def device(self) -> torch.device:
        tensor = next(iter(self.state_dict().values()), None)
        return torch.device("cpu") if tensor is None else tensor.device

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As `torch.nn.Module.to`; a device that is not there is a ValueError with a sentence."""
        try:
            return super().to(*args, **kwargs)
        except (AssertionError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ValueError(
                f"{type(self).__name__}.to: expected a device that is there, got {', '.join(map(str, args))}: {reason}. Stay "
                "on the CPU."
            ) from error

    @property
    def evaluator(self) -> Evaluator:
        """What evaluates this law (see `constitutive.Evaluator`): which backend, on how many threads. May be replaced."""
        if self._evaluator is None or self._evaluator.law is not self:
            from ..evaluator import Evaluator  # which knows the laws

            self._evaluator = Evaluator(self)
        return self._evaluator

    @evaluator.setter
    def evaluator(self, evaluator: Evaluator) -> None:
        if evaluator.law is not self:
            raise ValueError(
                "Law.evaluator: expected an evaluator of this law, got that of another. Make Evaluator(law)."
            )
        self._evaluator = evaluator

    def response(
        self,
        strain: Any,
        state: Any = None,
        inputs: Any = None,
        dt: float | None = None,
        tangent: bool = True,
        orientation: Any = None,
    ) -> Response:
        """Evaluate the law at a batch of strains.

        Parameters
        ----------
        strain : array or tensor (n, 6)
            Green–Lagrange (or small) strain, Mandel, crystal frame, dimensionless.
        state : (n, state_width), optional
            Committed internal variables; by default those of the virgin material, zero. Hyperelastic laws have none.
        inputs : array or tensor (n, k), (k,), or scalar, optional
            Values of `input_names`, for each point or for all; for one input also (n,). Laws without take None.
        dt : float, optional
            Time step, at least 0; ignored by laws that are not `rate_dependent`.
        tangent : bool
            Whether to compute the tangent too. Stress alone costs less.
        orientation : array or tensor (3, 3) or (n, 3, 3), optional
            Rotation Q crystal → sample, for all points or for each. Strain, stress and tangent are then those of the
            sample frame.

        Returns
        -------
        Response
            numpy in, numpy out; torch in, torch out, on the device and with the dtype of `strain`.

        Raises
        ------
        TypeError, ValueError
            For a wrong type or shape. Bad points do not raise: they are flagged in `status`.
        """
        return self._respond(self.evaluator, strain, state, inputs, dt, tangent, orientation)

    def _respond(
        self,
        evaluator: Evaluator,
        strain: Any,
        state: Any,
        inputs: Any,
        dt: float | None,
        tangent: bool,
        orientation: Any,
    ) -> Response:
        """`response` by some evaluator of this law."""
        where = f"{type(self).__name__}.response"
        as_numpy = not isinstance(strain, torch.Tensor)
        if as_numpy:
            array = np.asarray(strain)
            if array.dtype.kind not in "fiu":
                raise TypeError(f"{where}: expected real strains, got dtype {array.dtype}. Pass floats.")
            points = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))
        else:
            points = strain.to(torch.float64)
        if points.ndim != 2 or points.shape[1] != 6:
            raise ValueError(
                f"{where}: expected strain of shape (n, 6) in Mandel order 11 22 33 23 13 12, got {tuple(points.shape)}."
                " One strain is strain[None, :]; tensors go through crystals.mandel.to_mandel."
            )
        given_inputs = self._inputs(where, inputs, len(points)).to(points.device)
        if state is not None and tuple(np.shape(state)) != (len(points), self.state_width):
            raise ValueError(
                f"{where}: expected state of shape {(len(points), self.state_width)}, got {tuple(np.shape(state))}."
            )
        if self.rate_dependent and dt is None:
            raise ValueError(
                f"{where}: expected a time step dt, got None. This law depends on the rate; pass dt, or dt=0 for its "
                "instantaneous elastic response."
            )
        if dt is not None and not 0 <= dt < float("inf"):
            raise ValueError(f"{where}: expected a finite dt ≥ 0, got {dt}. Time runs forward.")
        n = len(points)
        memory = torch.zeros(n, self.state_width, dtype=torch.float64, device=points.device)
        if state is not None:
            given = np.array(state, dtype=float) if as_numpy else state
            memory = torch.as_tensor(given, device=points.device).to(torch.float64, copy=True)
        rotation = None if orientation is None else _rotation(where, orientation, n).to(points.device)
        answer = evaluator.run(points, memory, given_inputs, 0.0 if dt is None else float(dt), tangent, rotation)
        if as_numpy:
            return Response(*(None if a is None else np.asarray(a) for a in answer))
        # a tangent that was asked for in float32 stays so
        kept = (torch.int8, torch.float32)
        return Response(*(a if a is None or a.dtype in kept else a.to(strain.dtype) for a in answer))

    def _inputs(self, where: str, inputs: Any, n: int) -> torch.Tensor:
        """Inputs as float64 (n, k); the whole of what may be given is in `response`."""
        names, k = ", ".join(self.input_names), len(self.input_names)
        if inputs is None and k:
            raise ValueError(f"{where}: expected inputs ({names}), got None. Pass inputs=…, one row for each point.")
        if inputs is None:
            return torch.zeros(n, 0, dtype=torch.float64)
        if not k:
            raise ValueError(f"{where}: expected inputs=None, got {type(inputs).__name__}. This law takes no inputs.")
        if not isinstance(inputs, torch.Tensor):
            array = np.asarray(inputs)
            if array.dtype.kind not in "fiu":
                raise TypeError(f"{where}: expected real inputs ({names}), got dtype {array.dtype}. Pass floats.")
            inputs = torch.from_numpy(np.array(array, dtype=np.float64))
        shape = tuple(inputs.shape)
        if k == 1 and shape in ((), (n,)):
            inputs = inputs.reshape(-1, 1)
        elif shape not in ((k,), (n, k)):
            raise ValueError(
                f"{where}: expected inputs ({names}) of shape {(n, k)} or {(k,)}, got {shape}. Give one row for each "
                "point, or one value of each for all."
            )
        return inputs.to(torch.float64).expand(n, k)

    def _status_at(self, strain: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """`_status` at inputs (n, k), which laws without `input_names` do not have."""
        return self._status(strain)

    def _status(self, strain: torch.Tensor) -> torch.Tensor:
        invalid = ~torch.isfinite(strain).all(dim=1)
        if self.strain_measure == "green_lagrange":
            r = 2.0**0.5
            a, b, c = (1.0 + 2.0 * strain[:, k] for k in range(3))
            d, e, f = (r * strain[:, k] for k in (3, 4, 5))
            minor = a * b - f * f
            # Sylvester's criterion for 1 + 2E
            determinant = a * (b * c - d * d) - f * (f * c - d * e) + e * (f * d - b * e)
            invalid = invalid | ~((a > 0) & (minor > 0) & (determinant > 0))
        if self.domain is None:
            outside = torch.linalg.vector_norm(strain, dim=1) > self.max_strain * (1.0 + 1e-9)
        else:
            outside = ~self.domain.contains(strain)
        status = torch.zeros(len(strain), dtype=torch.int8, device=strain.device)
        status[outside] = OUT_OF_RANGE
        status[invalid] = INVALID
        return status

    def stress_and_tangent(self, strain: Any, inputs: Any = None) -> tuple[Any, Any]:
        """Stress (n, 6) and tangent (n, 6, 6), Mandel, at strains (n, 6) and inputs: shorthand for `response`.

        A law with internal variables answers for the virgin material, instantaneously (dt = 0).
        """
        answer = self.response(strain, inputs=inputs, dt=0.0)
        if self.tangent_entries == 21:
            return answer.stress, mandel.unpack_upper(answer.tangent)
        return answer.stress, answer.tangent.reshape(-1, 6, 6)

    def stress_std(self, strain: Any) -> Any:
        """Standard deviation of each stress component, calibrated on left-out training states.

        Within 1.645 standard deviations of the law's stress lie about 90 % of the stresses of held-out states. Outside the
        training domain (status `OUT_OF_RANGE`) no state has checked it.

        Parameters
        ----------
        strain : array or tensor (n, 6)
            As in `response`.

        Returns
        -------
        (n, 6)
            In `units`, Mandel, the law's frame (see `constitutive.laws.uncertainty`); NaN where the strain is `INVALID`.

        Raises
        ------
        ValueError
            For a law that was not fitted with its uncertainty, and a wrong shape.
        """
        where = f"{type(self).__name__}.stress_std"
        if self.uncertainty is None:
            raise ValueError(
                f"{where}: expected a law with an uncertainty, got one without. Laws that `constitutive.fit` makes of 8 "
                "symmetry-distinct states or more have it; fit again."
            )
        shape = tuple(np.shape(strain))
        if len(shape) != 2 or shape[1] != 6:
            raise ValueError(f"{where}: expected strain of shape (n, 6), got {shape}. One strain is strain[None, :].")
        points = torch.as_tensor(strain, dtype=torch.float64).to(self.device)
        invalid = self._status(points) == INVALID
        deviation = self.uncertainty.stress_std(self, torch.where(invalid[:, None], torch.zeros_like(points), points))
        deviation[invalid] = float("nan")
        return deviation.to(strain) if isinstance(strain, torch.Tensor) else deviation.cpu().numpy()

    def stiffness(self, order: int = 2) -> np.ndarray:
        """∂ⁿW/∂Eⁿ at the reference state, exact: C(0) (6, 6), or its third- and fourth-order kin (6, 6, 6), (6, 6, 6, 6).

        Mandel, in `units` and the law's frame; see `constitutive.laws.brugger.brugger_constants`.
        """
        return brugger_constants(self, order)

    def stiffness_voigt(self, order: int = 2) -> np.ndarray:
        """`stiffness` in Voigt form, the C_IJ… of the textbooks: tensor components, without factors 2 (Brugger 1964)."""
        return constants_to_voigt(self.stiffness(order), order)

    def elastic_constants(self, order: int = 2) -> dict[str, float]:
        """The class's independent elastic constants by their Voigt names, in `units` and the group's standard frame.

        Parameters
        ----------
        order : int
            2, 3 (C111, C112, C123, C144, C155, C456 for m-3m) or 4.

        Returns
        -------
        dict of str to float
            Brugger's constants ∂ⁿW/∂E_I∂E_J…, exact derivatives of the law. Their number is that of the Molien series.

        Raises
        ------
        ValueError
            For another order, and above order 2 for laws with internal variables.
        """
        return elastic_constants(self.stiffness(order), self.group, order=order)

    def __repr__(self) -> str:
        constants = elastic_constants(self.stiffness(), self.group)
        parts = [" ".join(f"{name}={value:z.1f}" for name, value in constants.items()) + f" {self.units}"]
        fit = self.metadata.get("fit", {})
        if np.isfinite(self.max_strain):
            states = f" on {fit['training_states']} states" if "training_states" in fit else ""
            parts.append(f"trained to |E| ≤ {self.max_strain:.2f}{states}")
        if "held_out_stress_error" in fit:
            parts.append(f"held-out error {100 * fit['held_out_stress_error']:.2g} %")
        if self.metadata.get("kind", "unknown") != "unknown":
            parts.append(str(self.metadata["kind"]))
        return f"{type(self).__name__}({self.group.symbol!r}, {', '.join(parts)})"

    def elastic_tensor(self) -> Any:
        """`stiffness` as pymatgen's `ElasticTensor` (3, 3, 3, 3), GPa, in the law's frame."""
        return elastic_tensor(self.stiffness(), self.units)

    def _repr_html_(self) -> str:
        fit = self.metadata.get("fit", {})
        facts = [
            ("point group", self.group.symbol),
            ("strain", f"{self.strain_measure.replace('_', '–')}, |E| ≤ {self.max_strain:.3g}"),
        ]
        if "held_out_stress_error" in fit:
            facts.append(("held-out stress error", f"{100 * fit['held_out_stress_error']:.2g} %"))
        if "kind" in self.metadata:
            facts.append(("data", str(self.metadata["kind"])))
        return stiffness_html(type(self).__name__, facts, self.stiffness(), self.units)

    def save(self, path: Any) -> None:
        """Write the law file (see `constitutive.storage`)."""
        from ..storage import save  # storage knows every law class

        save(self, path)


def _rotation(where: str, orientation: Any, n: int) -> torch.Tensor:
    """Proper rotations (3, 3) or (n, 3, 3), float64."""
    array = orientation.detach().cpu().numpy() if isinstance(orientation, torch.Tensor) else orientation
    array = np.ascontiguousarray(array, dtype=float)
    if array.shape not in ((3, 3), (n, 3, 3)):
        raise ValueError(
            f"{where}: expected orientation of shape (3, 3) or {(n, 3, 3)}, got {array.shape}. Give Q, crystal → sample, "
            "for all points or for each."
        )
    # Orthonormal a, b and c = a × b: a quick test that doubts too much, in parts that stay in cache, since checking must
    # not take longer than evaluating. What it doubts goes through the full test.
    for start in range(0, n if array.ndim == 3 else 1, 2048):
        part = array[start : start + 2048] if array.ndim == 3 else array[None]
        a, b, c = part.transpose(1, 2, 0).copy()
        aa, bb, ab = (np.einsum("in,in->n", x, y) for x, y in ((a, a), (b, b), (a, b)))
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            c[i] -= a[j] * b[k]
            c[i] += a[k] * b[j]
        defect = (aa - 1.0) ** 2 + (bb - 1.0) ** 2 + ab * ab + np.einsum("in,in->n", c, c)
        if not defect.max(initial=0.0) <= 1e-16:
            check_rotation(f"{where}(orientation)", part)
    return torch.from_numpy(array)
