"""Points per second of a law on a GPU: on the device and end to end, and parity with the CPU.

    python tests/benchmarks/gpu.py        # ends with one line where there is no GPU

The law is that of `evaluator.py`, float64. 'on the device': strains and answers stay there. 'end to end': numpy strains in,
numpy energies, stresses and tangents out, over the bus and back. The bound is that of 8 bytes × 34 numbers a point over
the bus at the measured rate of a pinned copy.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from datetime import date

import numpy as np
import torch
from evaluator import flops, the_law

from constitutive import Evaluator
from constitutive.audit import ball_strains, relative_errors
from crystals import mandel

POINTS = 2**22


def rate(run: Callable[[], object], number: int) -> float:
    """Largest points per second of five runs."""
    run()
    best = 0.0
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        best = max(best, number / (time.perf_counter() - start))
    return best


def main() -> None:
    if not torch.cuda.is_available():
        print("gpu.py: skipped, no CUDA device.")
        return
    torch.backends.cuda.matmul.allow_tf32 = False
    law = the_law()
    there = copy.deepcopy(law).cuda()
    strain = np.resize(ball_strains(0.1, 2**16, np.random.default_rng(0)), (POINTS, 6))
    on_device = torch.from_numpy(strain).cuda()
    whole, _ = flops(law)
    print(
        f"{date.today()}, {torch.cuda.get_device_name()}, torch {torch.__version__}, float64, {POINTS} points, {whole} FLOP a point"
    )
    for name, backend in (("torch, eager", "torch"), ("torch, compiled", "compiled"), ("torch, streams", "stream")):
        tool = Evaluator(there, backend)
        device, end = (
            rate(lambda t=tool: t.response(on_device), POINTS),
            rate(lambda t=tool: t.response(strain), POINTS),
        )
        print(
            f"{name:<18} on the device {device:.3g} points/s, {device * whole / 1e12:.2f} TFLOP/s; end to end {end:.3g} points/s"
        )
    pinned = torch.empty(2**27, dtype=torch.float64, pin_memory=True)
    target = torch.empty_like(pinned, device="cuda")
    bus = rate(lambda: target.copy_(pinned, non_blocking=True), 8 * pinned.numel())
    print(f"bus {bus / 1e9:.1f} GB/s: at most {bus / (8 * 34):.3g} points/s end to end")
    part = strain[:4096]
    theirs = law.response(part)
    for backend in ("torch", "stream"):
        ours = Evaluator(there, backend).response(part)
        entries = mandel.unpack_upper(ours.tangent - theirs.tangent)
        error = relative_errors(law, part, ours.stress - theirs.stress, entries)
        print(f"GPU ({backend}) against CPU: {error:.1e} in the norm of ARCHITECTURE.md")


if __name__ == "__main__":
    main()
