"""Many points at once: which backend evaluates a law, in what chunks, on how many threads; and the push-forward to P(F)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystals import mandel
from crystals.rotations import check_rotation, mandel_rotation

from .laws.law import INVALID, Law, Response
from .laws.precomputed import PrecomputedLaw
from .laws.strain_measure import sandwich
from .streaming import ChunkStream

BACKENDS = ("auto", "torch", "compiled", "c", "stream")
#: Points after which 'auto' has a law compiled to C: evaluating so many in torch takes about as long as compiling.
WORTHWHILE = 2**17
#: Largest disagreement with torch, in the norm of `constitutive.audit.relative_errors`, at which a library is used.
AGREEMENT = 1e-12
_said: set[str] = set()


def _say_once(sentence: str) -> None:
    if sentence not in _said:
        _said.add(sentence)
        print(f"constitutive: {sentence}", file=sys.stderr)


class Evaluator:
    """Evaluates one law at many points. `law.response` goes through `law.evaluator`, which may be replaced.

    Parameters
    ----------
    law : Law
    backend : str
        'torch': closed formulas in torch, on the device of the law. 'compiled': the same through `torch.compile`, which
        takes a minute. 'c': generated C (see `constitutive.ckernel`), on the CPU. 'stream': torch on the device of the law,
        in chunks that travel there and back while others are computed (see `constitutive.streaming`; never run on a GPU),
        for strains on the host; strains on the device are evaluated there and stay. 'auto': torch for the first `WORTHWHILE`
        points of a law whose parameters stay as they are, C from then on; torch for laws that cannot be written in C
        and where there is no compiler (said once, on stderr), 'torch' on a GPU.
    threads : int
        Threads that share the points of one call: 1 by default, so that MPI ranks do not fight for cores. The torch
        backends keep torch's own number (`torch.set_num_threads`).
    chunk : int, optional
        Points evaluated at once in torch: peak memory follows it, not n. By default `law.chunk_cpu` or `law.chunk_gpu`.
    tangent_dtype : dtype
        np.float64, or np.float32: the tangent is then stored with seven digits and half the memory; stress keeps all of
        its digits, so Newton's method still converges to rounding.

    Attributes
    ----------
    backend : str
        What the next call will use: 'torch', 'compiled', 'c' or 'stream'.

    Raises
    ------
    ValueError
        For an unknown backend, and for one that the law does not support.
    """

    def __init__(
        self,
        law: Law,
        backend: str = "auto",
        *,
        threads: int = 1,
        chunk: int | None = None,
        tangent_dtype: Any = np.float64,
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"Evaluator: expected a backend in {', '.join(BACKENDS)}, got {backend!r}.")
        if threads < 1 or (chunk is not None and chunk < 1):
            raise ValueError(f"Evaluator: expected threads ≥ 1 and chunk ≥ 1, got {threads} and {chunk}.")
        if np.dtype(tangent_dtype) not in (np.float64, np.float32):
            raise ValueError(f"Evaluator: expected tangent_dtype float64 or float32, got {np.dtype(tangent_dtype)}.")
        self.law, self.threads, self.chunk = law, int(threads), chunk
        self.tangent_dtype = np.dtype(tangent_dtype)
        self._asked, self._reason, self._seen = backend, "", 0
        #: what the library or the count of points belongs to
        self._of: tuple[Any, ...] = ()
        self._library: Any = None
        self._compiled: Any = None
        self._streams: dict[Any, ChunkStream] = {}
        if backend == "c":
            self._build()
            if self._library is None:
                raise ValueError(f"Evaluator: expected a law and a machine for C, got none: {self._reason}")
        if backend in ("compiled", "stream") and (law.state_width or law.input_names):
            how = "torch.compile" if backend == "compiled" else "streams"
            raise ValueError(
                f"Evaluator: not supported: {type(law).__name__} through {how}, for its state or inputs. Use backend='torch'."
            )
        if backend == "compiled":
            self._compiled = torch.compile(law._evaluate, dynamic=False)

    def __getstate__(self) -> dict[str, Any]:
        # a copy of a law finds its own library
        kept = {**self.__dict__, "_library": None, "_compiled": None, "_streams": {}, "_of": (), "_seen": 0}
        return {**kept, "_asked": "auto" if self._asked == "compiled" else self._asked}

    def __repr__(self) -> str:
        how = f"{self.threads} thread{'s' * (self.threads > 1)}" if self.backend == "c" else str(self.law.device)
        reason = f", {self._reason}" if self._reason else ""
        return f"Evaluator({type(self.law).__name__}, backend={self.backend!r}, {how}{reason})"

    @property
    def backend(self) -> str:
        self._refresh()
        if self._library is not None or self._asked == "c":
            return "c"
        return self._asked if self._asked == "stream" else "compiled" if self._compiled is not None else "torch"

    def response(
        self,
        strain: Any,
        state: Any = None,
        inputs: Any = None,
        dt: float | None = None,
        tangent: bool = True,
        orientation: Any = None,
    ) -> Response:
        """As `Law.response`, by this evaluator."""
        return self.law._respond(self, strain, state, inputs, dt, tangent, orientation)

    def _refresh(self) -> None:
        """Forget library and count where the law is no longer what they were made for."""
        law = self.law
        fixed = law.fixed if isinstance(law, PrecomputedLaw) else None
        same = self._of and self._of[0] is fixed and self._of[1] is law.domain
        if not same or self._of[2:] != (law.max_strain, law.device.type):
            self._of = (fixed, law.domain, law.max_strain, law.device.type)
            self._seen, self._library = 0, None
            self._streams.clear()  # a recorded graph reads the parameters where they were

    def _build(self) -> None:
        """Compile the law, or say why not."""
        from .ckernel import CLibrary, NoCompiler, build, c_source, unsupported

        law = self.law
        self._reason = unsupported(law) or ("" if law.device.type == "cpu" else "the law is on a GPU")
        if self._reason:
            return
        self._refresh()
        try:
            library = CLibrary(build(c_source(law), f"{type(law).__name__} of {law.group.symbol} to C"))
            error = self._disagreement(library)
        except NoCompiler as failure:
            self._reason = str(failure)
            _say_once(f"{failure} Until then laws are evaluated in torch, about ten times slower.")
            return
        if not error <= AGREEMENT:
            self._reason = f"C disagrees with torch by {error:.1e}"
            _say_once(f"{self._reason} for {type(law).__name__} of {law.group.symbol}, so it is not used. Report it.")
            return
        self._library = library

    def _disagreement(self, library: Any) -> float:
        """Of C with torch, on 64 strains."""
        from .audit import relative_errors, sample_strains  # which evaluates laws

        radius = 1.2 * min(self.law.max_strain, 0.1)
        strain = torch.from_numpy(sample_strains(radius, 64, np.random.default_rng(0)))
        memory, given = (
            torch.zeros(64, self.law.state_width, dtype=torch.float64),
            torch.zeros(64, 0, dtype=torch.float64),
        )
        double = np.dtype(np.float64)
        theirs = self._in_chunks(strain, memory, given, 0.0, True, None, double)
        ours = self._in_c(library, strain, memory, True, None, double)
        assert ours.tangent is not None and theirs.tangent is not None
        if torch.any(ours.status != theirs.status):
            return float("inf")
        zero = torch.zeros(1, 6, dtype=torch.float64)
        stiffness = self._in_chunks(zero, memory[:1], given[:1], 0.0, True, None, double).tangent
        scale = float(torch.linalg.matrix_norm(mandel.unpack_upper(stiffness)))
        return relative_errors(
            self.law, strain.numpy(), (ours.stress - theirs.stress).numpy(),
            mandel.unpack_upper(ours.tangent - theirs.tangent).numpy(), scale,
        )  # fmt: skip

    def run(
        self, strain: Tensor, memory: Tensor, inputs: Tensor, dt: float, tangent: bool, rotation: Tensor | None
    ) -> Response:
        """Response in tensors, on the device of `strain` (n, 6), float64; all arguments checked by `Law.response`."""
        self._refresh()
        if self._asked == "auto" and self._library is None and not self._reason:
            self._seen += len(strain)
            if self._seen >= WORTHWHILE:
                self._build()
        elif self._asked == "c" and self._library is None:
            self._build()  # parameters have changed
            if self._library is None:
                raise ValueError(f"Evaluator: expected a law and a machine for C, got none: {self._reason}")
        if self._library is not None and strain.device.type == "cpu":
            return self._in_c(self._library, strain, memory, tangent, rotation, self.tangent_dtype)
        if self._asked == "stream" and strain.device.type == "cpu":
            return self._in_stream(strain, memory, tangent, rotation, self.tangent_dtype)
        return self._in_chunks(strain, memory, inputs, dt, tangent, rotation, self.tangent_dtype)

    def _in_c(
        self, library: Any, strain: Tensor, memory: Tensor, tangent: bool, rotation: Tensor | None, dtype: np.dtype
    ) -> Response:
        n = len(strain)
        energy, stress, status = np.empty(n), np.empty((n, 6)), np.empty(n, dtype=np.int8)
        entries = np.empty((n, 21), dtype=dtype) if tangent else None
        turn = None if rotation is None else rotation.contiguous().numpy()
        library(strain.contiguous().numpy(), turn, energy, stress, entries, status, self.threads)
        tensors = [None if a is None else torch.from_numpy(a) for a in (energy, stress, entries, status)]
        return Response(tensors[0], tensors[1], tensors[2], memory, tensors[3])

    def _in_chunks(
        self, strain: Tensor, memory: Tensor, inputs: Tensor, dt: float, tangent: bool, rotation: Tensor | None,
        dtype: np.dtype,
    ) -> Response:  # fmt: skip
        law, device, n = self.law, self.law.device, len(strain)
        chunk = self.chunk or (law.chunk_gpu if device.type == "cuda" else law.chunk_cpu)
        kind = torch.float32 if dtype == np.float32 else torch.float64
        here = strain.device
        energy = torch.empty(n, dtype=torch.float64, device=here)
        stress = torch.empty(n, 6, dtype=torch.float64, device=here)
        stiffness = torch.empty(n, law.tangent_entries, dtype=kind, device=here) if tangent else None
        status = torch.empty(n, dtype=torch.int8, device=here)
        with torch.no_grad():
            for start in range(0, n, chunk):
                part = slice(start, start + chunk)
                turn = None
                if rotation is not None:
                    turn = sandwich(*2 * ((rotation if rotation.ndim == 2 else rotation[part]).to(device),))
                local = (strain[part].to(device), memory[part].to(device), inputs[part].to(device))
                w, s, c, after, flag = self._one_chunk(*local, dt, tangent, turn, chunk)
                energy[part], stress[part], memory[part], status[part] = w, s, after, flag
                if stiffness is not None and c is not None:
                    stiffness[part] = c
        return Response(energy, stress, stiffness, memory, status)

    def _one_chunk(
        self, strain: Tensor, state: Tensor, inputs: Tensor, dt: float, tangent: bool, turn: Tensor | None, chunk: int
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
        """Energy, stress, tangent, state and status of a chunk; `turn` is the Mandel matrix of Q."""
        law = self.law
        if turn is not None:
            strain = (strain[:, None, :] @ turn)[:, 0]
        flag = law._status_at(strain, inputs)
        if law.state_width or law.input_names:
            flag[~(torch.isfinite(state).all(dim=1) & torch.isfinite(inputs).all(dim=1))] = INVALID
        bad = flag == INVALID
        zero = torch.zeros((), dtype=strain.dtype, device=strain.device)
        strain, state, inputs = (torch.where(bad[:, None], zero, part) for part in (strain, state, inputs))
        w, s, c, after, failed = self._step(strain, state, inputs, dt, tangent, chunk)
        if failed is not None:
            flag[failed] = INVALID
            bad = flag == INVALID
        if turn is not None:
            s, c = (turn @ s[:, :, None])[:, :, 0], None if c is None else _turned(turn, c)
        nan = torch.full((), float("nan"), dtype=w.dtype, device=w.device)
        s, after = (torch.where(bad[:, None], nan, part) for part in (s, after))
        return torch.where(bad, nan, w), s, None if c is None else torch.where(bad[:, None], nan, c), after, flag

    def _in_stream(
        self, strain: Tensor, memory: Tensor, tangent: bool, rotation: Tensor | None, dtype: np.dtype
    ) -> Response:
        law, n = self.law, len(strain)
        chunk = self.chunk or (law.chunk_gpu if law.device.type == "cuda" else law.chunk_cpu)
        kind = torch.float32 if dtype == np.float32 else torch.float64
        outputs = [
            (1, torch.float64),
            (6, torch.float64),
            (1, torch.int8),
            *([(law.tangent_entries, kind)] if tangent else []),
        ]
        turned = rotation is not None
        rows = [strain] if rotation is None else [strain, rotation.expand(n, 3, 3).reshape(n, 9)]
        stream = self._streams.get((chunk, tangent, turned, kind))
        if stream is None:

            def evaluate(rows: Tensor) -> list[Tensor]:
                turn = sandwich(*2 * (rows[:, 6:].reshape(-1, 3, 3),)) if turned else None
                none = rows[:, :0]
                w, s, c, _, flag = self._one_chunk(rows[:, :6], none, none, 0.0, tangent, turn, chunk)
                found = [w[:, None], s, flag[:, None]]
                return found if c is None else [*found, c]

            with torch.no_grad():
                stream = ChunkStream(evaluate, chunk, 6 + 9 * turned, outputs, law.device)
            self._streams[chunk, tangent, turned, kind] = stream
        answers = [torch.empty(n, k, dtype=of) for k, of in outputs]
        with torch.no_grad():
            stream.run(rows, answers)
        energy, stress, status, *stiffness = answers
        return Response(energy[:, 0], stress, stiffness[0] if tangent else None, memory, status[:, 0])

    def _step(self, strain: Tensor, state: Tensor, inputs: Tensor, dt: float, tangent: bool, chunk: int) -> Any:
        if self._compiled is None:
            return self.law._step_at(strain, state, inputs, dt, tangent)
        n = len(strain)  # compiled for whole chunks only
        padded = torch.nn.functional.pad(strain, (0, 0, 0, chunk - n))
        w, s, c = self._compiled(padded, tangent)
        return w[:n], s[:n], None if c is None else c[:n], state, None


def _turned(turn: Tensor, entries: Tensor) -> Tensor:
    """Tangent entries (n, 21) or (n, 36) in the frame to which `turn` (…, 6, 6) takes strains."""
    if entries.shape[1] == 21:
        return mandel.pack_upper(turn @ mandel.unpack_upper(entries) @ turn.mT)
    return (turn @ entries.reshape(-1, 6, 6) @ turn.mT).reshape(-1, 36)


def first_piola(
    law: Law,
    deformation_gradient: np.ndarray,
    orientation: np.ndarray | None = None,
    tangent: bool = True,
    inputs: np.ndarray | float | None = None,
    state: np.ndarray | None = None,
    dt: float | None = None,
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
    state, dt
        As in `Law.response`.

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
    answer = law.response(strain, state, inputs, dt, tangent=tangent)
    stress = answer.stress if turn is None else (turn @ answer.stress[..., None])[..., 0]
    second = mandel.from_mandel(stress)
    piola = gradient @ second
    if not tangent:
        return piola, None
    entries = answer.tangent
    stiffness = mandel.unpack_upper(entries) if law.tangent_entries == 21 else entries.reshape(-1, 6, 6)
    if turn is not None:
        stiffness = turn @ stiffness @ np.swapaxes(turn, -1, -2)
    full = mandel.stiffness_to_tensor(stiffness)
    material = np.einsum("niM,nMJNL,nkN->niJkL", gradient, full, gradient, optimize=True)
    return piola, material + np.einsum("ik,nJL->niJkL", np.eye(3), second)
