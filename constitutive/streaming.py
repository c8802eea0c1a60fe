"""Host arrays through a device, chunk by chunk: while one chunk is computed, others are on their way there and back.

Two slots take turns, each with a CUDA stream, page-locked buffers on the host and buffers on the device of its own, so that
the copies of one overlap the arithmetic of the other and memory does not grow with the number of points. On the device a
component is contiguous over points (structure of arrays). A chunk always has the same size, and on a GPU its arithmetic is
recorded once as a CUDA graph and replayed. On a CPU the same slots, buffers and order of work run, without streams and
graphs: that is how this file is tested. It has never run on a GPU. All arithmetic is float64, which TF32 never touches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

#: Columns (n, k) of a chunk in; columns out, in the order of `ChunkStream.widths`.
Evaluate = Callable[[Tensor], Sequence[Tensor]]


class _Slot:
    """Buffers for one chunk, and the stream that it takes."""

    def __init__(
        self, chunk: int, width: int, outputs: Sequence[tuple[int, torch.dtype]], device: torch.device
    ) -> None:
        cuda = device.type == "cuda"
        self.stream: Any = torch.cuda.Stream(device) if cuda else None
        self.done: Any = torch.cuda.Event() if cuda else None
        self.graph: Any = None
        self.host_in = torch.zeros(chunk, width, dtype=torch.float64, pin_memory=cuda)
        self.arrived = torch.zeros(chunk, width, dtype=torch.float64, device=device)
        self.columns = torch.zeros(width, chunk, dtype=torch.float64, device=device)
        self.answers = [torch.zeros(chunk, k, dtype=dtype, device=device) for k, dtype in outputs]
        self.host_out = [torch.zeros(chunk, k, dtype=dtype, pin_memory=cuda) for k, dtype in outputs]
        #: first point and number of points under way
        self.under_way: tuple[int, int] | None = None

    def compute(self, evaluate: Evaluate) -> None:
        self.columns.copy_(self.arrived.T)
        for answer, found in zip(self.answers, evaluate(self.columns.T), strict=True):
            answer.copy_(found)


class ChunkStream:
    """Evaluates a function of rows at any number of rows on the host.

    Parameters
    ----------
    evaluate : callable
        From rows (chunk, width) on the device to one tensor (chunk, k) for each output; no value may decide what is computed.
    chunk, width : int
        Points in a chunk, and columns of a row.
    outputs : sequence of (int, dtype)
        Columns and type of each output.
    device : torch.device
    """

    def __init__(
        self, evaluate: Evaluate, chunk: int, width: int, outputs: Sequence[tuple[int, torch.dtype]], device: torch.device
    ) -> None:  # fmt: skip
        self._evaluate, self.chunk, self._device = evaluate, chunk, device
        self._slots = [_Slot(chunk, width, outputs, device) for _ in range(2)]
        if device.type == "cuda":
            self._record()

    def _record(self) -> None:
        """One CUDA graph for each slot; what torch allocates at first use must be there before."""
        for slot in self._slots:
            slot.stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(slot.stream):
                for _ in range(3):
                    slot.compute(self._evaluate)
            slot.stream.synchronize()
            slot.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(slot.graph, stream=slot.stream):
                slot.compute(self._evaluate)

    def run(self, rows: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Fill `outputs`, (n, k) each on the host, from `rows`, (n, k) each on the host, which stand side by side."""
        n = len(rows[0])
        for number, start in enumerate(range(0, n, self.chunk)):
            slot = self._slots[number % 2]
            self._collect(slot, outputs)  # what it still holds, before its buffers are filled again
            count = min(self.chunk, n - start)
            torch.cat([part[start : start + count] for part in rows], dim=1, out=slot.host_in[:count])
            slot.host_in[count:] = 0.0
            with nullcontext() if slot.stream is None else torch.cuda.stream(slot.stream):
                slot.arrived.copy_(slot.host_in, non_blocking=True)
                if slot.graph is None:
                    slot.compute(self._evaluate)
                else:
                    slot.graph.replay()
                for host, answer in zip(slot.host_out, slot.answers, strict=True):
                    host.copy_(answer, non_blocking=True)
                if slot.done is not None:
                    slot.done.record()
            slot.under_way = (start, count)
        for slot in self._slots:
            self._collect(slot, outputs)

    def _collect(self, slot: _Slot, outputs: Sequence[Tensor]) -> None:
        if slot.under_way is None:
            return
        if slot.done is not None:
            slot.done.synchronize()
        start, count = slot.under_way
        for output, host in zip(outputs, slot.host_out, strict=True):
            output[start : start + count] = host[:count]
        slot.under_way = None
