"""Points per second of one law by every backend, in one run, float64, one thread, against `vmap(hessian)` of its energy.

    python tests/benchmarks/evaluator.py                # --no-compiled leaves out torch.compile, which takes a minute

The law: cubic m-3m, nine invariants, two layers of 32 (as `constitutive.fit` would make it, but larger), C(0) and polynomial
terms to fourth order. Rates are points over CPU seconds of this process, the best of several rounds in which all variants
take turns, so that other work on the machine changes little. The rival gets the chunk that suits it best, and only the
energy to differentiate; it gives the tangent alone, the others energy, stress and tangent. Neo-Hooke is closed form in
numpy, in chunks that stay in cache.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from datetime import date

import numpy as np
import torch
from torch import Tensor
from torch.func import hessian, vmap

from constitutive import Evaluator, SymmetricLaw
from constitutive.audit import relative_errors
from crystals import mandel
from crystals.rotations import random_rotations

POINTS = 2**16
ROUNDS = 7


def the_law() -> SymmetricLaw:
    generator = np.random.default_rng(0)
    stiffness = mandel.stiffness_from_voigt(np.diag([57.0] * 3 + [89.9] * 3) + np.pad(np.full((3, 3), 115.4), (0, 3)))
    law = SymmetricLaw("m-3m", 4, (32, 32), stiffness=stiffness, energy_scale=100.0, strain_scale=0.08, max_strain=0.1)
    with torch.no_grad():
        law.coefficients.copy_(torch.from_numpy(generator.normal(size=law.higher.count)))
    law.requires_grad_(False).refresh()
    return law


def plain_energy(law: SymmetricLaw) -> Callable[[Tensor], Tensor]:
    """W(E) and nothing else: what a user would differentiate."""
    network, fixed, s = law.network, law.fixed, law.strain_scale

    def energy(point: Tensor) -> Tensor:
        strain = point[None]
        seen = strain / (1.0 + ((strain * strain).sum() / s**2) ** 2) ** 0.25
        z = network.invariants.value(network.invariants.table(seen / s)) / network.sizes
        part = s**2 * network(z) - seen @ fixed.slope - 0.5 * ((seen @ fixed.hessian) * seen).sum(dim=1)
        part = part + 0.5 * ((strain @ fixed.constants) * strain).sum(dim=1)
        return law.energy_scale * (part + fixed.polynomial.value(fixed.polynomial.table(strain))[:, 0])[0]

    return energy


def neo_hooke(strain: np.ndarray, mu: float = 40.0, lam: float = 60.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy, stress and 21 tangent entries of W = μ/2 (tr C − 3 − 2 ln J) + λ/2 (ln J)², closed form, rows of points."""
    n, root2 = len(strain), np.sqrt(2.0)
    w, s, c = np.empty(n), np.empty((n, 6)), np.empty((n, 21))
    for start in range(0, n, 1024):
        e = strain[start : start + 1024].T.copy()
        a, b, g = 1.0 + 2.0 * e[:3]
        d, f, h = root2 * e[3:]
        co = np.stack([b * g - d * d, a * g - f * f, a * b - h * h, f * h - a * d, d * h - b * f, d * f - g * h])
        determinant = a * co[0] + h * co[5] + f * co[4]
        tensor = co / determinant
        log = 0.5 * np.log(determinant)
        factor = lam * log - mu
        part = slice(start, start + 1024)
        w[part] = mu * (0.5 * (a + b + g) - 1.5 - log) + 0.5 * lam * log * log
        inverse = tensor * mandel.WEIGHTS[:, None]
        stress = factor * inverse
        stress[:3] += mu
        s[part] = stress.T
        entries = np.empty((21, len(log)))
        twice = -factor
        for place, (i, j) in enumerate(zip(mandel.UPPER_ROWS, mandel.UPPER_COLUMNS, strict=True)):
            (p, q), (r, t) = mandel.PAIRS[i], mandel.PAIRS[j]
            at = mandel.POSITION
            dyad = tensor[at[p, r]] * tensor[at[q, t]] + tensor[at[p, t]] * tensor[at[q, r]]
            entries[place] = lam * inverse[i] * inverse[j] + (twice * mandel.WEIGHTS[i] * mandel.WEIGHTS[j]) * dyad
        c[part] = entries.T
    return w, s, c


def flops(law: SymmetricLaw) -> tuple[int, int]:
    """Floating-point operations of one point with tangent and without: multiply-adds of the network's products count two;
    an activation counts 60 (exponential, logarithm, slope and curvature), polynomials by their terms."""
    network = law.network
    sizes = (network.invariants.count, *network.widths)
    layers = list(zip(sizes[:-1], sizes[1:], strict=True))
    polynomial = sum(
        2 * int(np.count_nonzero(part.numpy())) for m in (network.invariants, law.fixed.polynomial)
        for part in (m.values, m.first)
    )  # fmt: skip
    value = sum(4 * i * o + 60 * o for i, o in layers) + polynomial + 12 * sizes[0]
    second = sum(2 * int(np.count_nonzero(m.second.numpy())) for m in (network.invariants, law.fixed.polynomial))
    # the first layer moves only where the gradient of an invariant is not zero throughout
    first = np.any(network.invariants.first.numpy() != 0.0, axis=0)
    bend = 2 * int(np.count_nonzero(first)) * sizes[1] + sum(12 * i * o for i, o in layers[1:])
    bend += sum(54 * o for _, o in layers) + second
    return value + bend, value


def dgemm() -> float:
    """Measured FLOP per CPU second of a 768³ matrix product."""
    a = np.random.default_rng(0).normal(size=(768, 768))
    rates = []
    for _ in range(10):
        start = time.process_time()
        a @ a
        rates.append(2.0 * 768**3 / (time.process_time() - start))
    return max(rates)


def main() -> None:
    torch.set_num_threads(1)
    law = the_law()
    generator = np.random.default_rng(1)
    strain = generator.normal(size=(POINTS, 6))
    strain *= (0.1 * generator.random(POINTS) ** (1 / 6) / np.linalg.norm(strain, axis=1))[:, None]
    rotations = random_rotations(POINTS, generator)
    few, some = torch.from_numpy(strain[:4096]), strain[:16384]
    rival = vmap(hessian(plain_energy(law)))
    eager, c = Evaluator(law, "torch"), Evaluator(law, "c")
    single = Evaluator(law, "c", tangent_dtype=np.float32)

    variants: dict[str, tuple[int, Callable[[], object]]] = {
        f"vmap(hessian), chunks of {chunk}": (len(few), lambda chunk=chunk: [rival(part) for part in few.split(chunk)])
        for chunk in (256, 1024, 4096)
    }
    variants |= {
        "torch, eager": (len(some), lambda: eager.response(some)),
        "torch, eager, stress alone": (len(some), lambda: eager.response(some, tangent=False)),
        "C": (POINTS, lambda: c.response(strain)),
        "C, stress alone": (POINTS, lambda: c.response(strain, tangent=False)),
        "C, a rotation for each point": (POINTS, lambda: c.response(strain, orientation=rotations)),
        "C, tangent in float32": (POINTS, lambda: single.response(strain)),
        "numpy Neo-Hooke, closed form": (POINTS, lambda: neo_hooke(strain)),
    }
    compiled = None if "--no-compiled" in sys.argv else Evaluator(law, "compiled")
    if compiled is not None:
        variants["torch, compiled"] = (len(some), lambda: compiled.response(some))
        variants["torch, compiled, stress alone"] = (len(some), lambda: compiled.response(some, tangent=False))
    rates = dict.fromkeys(variants, 0.0)
    for _, run in variants.values():
        run()
    for _ in range(ROUNDS):
        for name, (number, run) in variants.items():
            start = time.process_time()
            run()
            rates[name] = max(rates[name], number / (time.process_time() - start))
    base = max(rate for name, rate in rates.items() if name.startswith("vmap"))

    print(
        f"{date.today()}, {platform.processor() or platform.machine()}, torch {torch.__version__}, one thread, float64"
    )
    print(f"{law}")
    print(f"\n{'variant':<34}{'points/s':>12}{'× vmap(hessian)':>18}")
    for name, rate in rates.items():
        print(f"{name:<34}{rate:>12.3g}{rate / base:>18.1f}")
    ratio = rates["C"] / rates["numpy Neo-Hooke, closed form"]
    print(f"\nC against closed-form numpy Neo-Hooke: {ratio:.2f} ×")
    print(f"stress alone against stress and tangent: C {rates['C, stress alone'] / rates['C']:.2f} ×, eager "
          f"{rates['torch, eager, stress alone'] / rates['torch, eager']:.2f} ×")  # fmt: skip
    print(
        f"a rotation for each point: {100 * (rates['C'] / rates['C, a rotation for each point'] - 1):.0f} % more time"
    )
    whole, value = flops(law)
    peak = dgemm()
    moved = 8 * (6 + 1 + 6 + 21) + 1
    print(
        f"\nroofline: {whole} FLOP and {moved} bytes a point ({value} FLOP for stress alone), {whole / moved:.0f} FLOP a byte"
    )
    share = rates["C"] * whole / peak
    print(f"DGEMM {peak / 1e9:.1f} GFLOP/s here, C {rates['C'] * whole / 1e9:.1f}: {100 * share:.0f} % of it")
    theirs = eager.response(some)
    for name, tool in (("C", c), ("compiled", compiled)):
        if tool is not None:
            ours = tool.response(some)
            error = relative_errors(
                law, some, ours.stress - theirs.stress, mandel.unpack_upper(ours.tangent - theirs.tangent)
            )
            print(f"{name} against torch: {error:.1e} in the norm of ARCHITECTURE.md")


if __name__ == "__main__":
    main()
