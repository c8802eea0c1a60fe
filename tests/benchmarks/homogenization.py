"""Speed and memory of the homogeniser, and agreement with somebody else's, in one process on one core.

    OMP_NUM_THREADS=1 python tests/benchmarks/homogenization.py [growth] [numpy] [unocg] [mugrid] [--sizes 16 32 64]
    OMP_NUM_THREADS=1 python tests/benchmarks/homogenization.py --large [--converged | --one-load [EDGE]]

Two peers from PyPI, hexahedra with one or eight points as here. unocg 1.0.0 (Herb and Fritzen 2026, doi:10.1002/nme.70277) is
imported where it is on the path (pip download unocg, unpack). muGrid 1.6.1 wants numpy 2: MUGRID_PYTHON names a Python that has
both, and it runs there (mugrid_peer.py). All parts by default; --large does 256³ instead. Seconds are of the processor, with
those on the wall in brackets.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from constitutive import homogenize
from constitutive.phases import isotropic_stiffness
from constitutive.voxel_grid import VoxelGrid
from constitutive.voxel_solver import Solve, never
from crystals import generators
from crystals.mandel import IDENTITY

torch.set_num_threads(1)


def moulinec_suquet(
    labels: np.ndarray, table: np.ndarray, tolerance: float, exact: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """The basic scheme of 1998 in plain numpy, strains, rotated Green operator.

    Stops where the residual in the norm of its reference has fallen by `tolerance`, or, where the exact stiffness is
    given, where each column is within `tolerance` of it.

    Reference: half of the sum of the extreme Lamé constants.
    """
    shape = labels.shape
    shear = np.array([np.trace(c - np.outer(IDENTITY, IDENTITY) * (IDENTITY @ c @ IDENTITY) / 9) / 10 for c in table])
    lame = np.array([IDENTITY @ c @ IDENTITY / 9 for c in table]) - 2 * shear / 3
    mu0, la0 = 0.5 * (shear.min() + shear.max()), 0.5 * (lame.min() + lame.max())
    half = [np.pi * np.fft.fftfreq(shape[0]), np.pi * np.fft.fftfreq(shape[1]), np.pi * np.fft.rfftfreq(shape[2])]
    sines = [np.sin(h).reshape([-1 if a == i else 1 for a in range(3)]) for i, h in enumerate(half)]
    cosines = [np.cos(h).reshape([-1 if a == i else 1 for a in range(3)]) for i, h in enumerate(half)]
    k = np.stack(np.broadcast_arrays(
        sines[0] * cosines[1] * cosines[2], cosines[0] * sines[1] * cosines[2], cosines[0] * cosines[1] * sines[2]
    ))  # fmt: skip
    square = np.sum(k**2, axis=0)
    square[square < 1e-20] = np.inf
    n = k / np.sqrt(square)
    la, mu = lame[labels], shear[labels]
    ratio = (la0 + mu0) / (la0 + 2 * mu0)
    answer = np.empty((6, 6))
    most = 0
    pairs = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
    weights = np.array([1, 1, 1, 2**0.5, 2**0.5, 2**0.5])
    for load in range(6):
        strain = np.zeros((6, *shape))
        strain[load] = 1.0
        first = 0.0
        iteration = 0
        while iteration < 20000:
            stress = 2 * mu * strain
            stress[:3] += la * strain[:3].sum(axis=0)
            spectrum = np.fft.rfftn(stress, axes=(1, 2, 3)) / weights.reshape(6, 1, 1, 1)
            traction = np.zeros((3, *spectrum.shape[1:]), dtype=complex)
            for place, (i, j) in enumerate(pairs):
                traction[i] += spectrum[place] * n[j]
                if i != j:
                    traction[j] += spectrum[place] * n[i]
            displacement = (traction - ratio * n * np.sum(n * traction, axis=0)) / mu0
            norm = float(np.sum((traction.conj() * displacement).real))
            first = first or norm
            if exact is None and norm <= tolerance**2 * first:
                break
            if exact is not None:
                column = stress.mean(axis=(1, 2, 3)) - exact[:, load]
                if np.linalg.norm(column) <= tolerance * np.linalg.norm(exact[:, load]):
                    break
            change = np.stack([
                weights[place] * 0.5 * (n[i] * displacement[j] + n[j] * displacement[i])
                for place, (i, j) in enumerate(pairs)
            ])  # fmt: skip
            strain -= np.fft.irfftn(change, s=shape, axes=(1, 2, 3))
            iteration += 1
        answer[:, load] = stress.mean(axis=(1, 2, 3))
        most = max(most, iteration)
    return answer, most


def peer(labels: np.ndarray, table: np.ndarray, degree: int, tolerance: float) -> tuple[np.ndarray, int]:
    """unocg with its own FFT preconditioner; degree 1 or 2 is one or eight points a voxel."""
    from unocg.materials.mechanical import LinearElasticity  # pyright: ignore
    from unocg.preconditioners.torch import FansPreconditioner  # pyright: ignore
    from unocg.problems.mechanical import MechanicalProblem  # pyright: ignore
    from unocg.solvers.torch import CgSolver  # pyright: ignore

    shear = [np.trace(c - np.outer(IDENTITY, IDENTITY) * (IDENTITY @ c @ IDENTITY) / 9) / 10 for c in table]
    bulk = [IDENTITY @ c @ IDENTITY / 9 for c in table]
    constants = torch.tensor([[k - 2 * g / 3, g] for k, g in zip(bulk, shear, strict=True)], dtype=torch.float64)
    options: dict[str, Any] = {"device": "cpu", "dtype": torch.float64}
    material = LinearElasticity(n_dim=3, **options)
    loads = torch.eye(6, dtype=torch.float64)
    problem = MechanicalProblem(labels.shape, material, loadings=loads, quad_degree=degree)
    image = torch.tensor(labels.astype(np.int64))
    field = problem.get_param_fields(image, constants)
    reference = torch.tensor(table.mean(axis=0))
    solver = CgSolver(problem, FansPreconditioner(problem, reference), rtol=tolerance)
    solved = solver.solve(field, loads)
    response = problem.get_hom_response(solved["sol"], field, loads)
    response = response[1] if isinstance(response, tuple) else response
    # its components are 33 22 11 23 13 12 of the image's axes
    order = np.array([2, 1, 0, 3, 4, 5])
    return np.asarray(response).reshape(6, 6)[np.ix_(order, order)], int(solved["n_iter"])


def timed(call: Any) -> tuple[Any, float]:
    """The result and seconds of the processor."""
    start = time.process_time()
    return call(), time.process_time() - start


def off(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def main() -> None:
    print(
        f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread"
    )
    soft = isotropic_stiffness(1.0, 0.6)
    table = np.array([soft, 100.0 * soft])

    if "--one-load" in sys.argv:
        for edge in [int(word) for word in sys.argv if word.isdigit()] or [256]:
            one_load(edge, table)
        return
    if "--large" in sys.argv:
        large(table)
        return

    known = {"growth": growth, "numpy": plain, "unocg": against_unocg, "mugrid": against_mugrid}
    for part, call in known.items():
        if part in sys.argv or not known.keys() & set(sys.argv):
            call(soft, table)


def growth(soft: np.ndarray, table: np.ndarray) -> None:
    print("\niterations to a residual of 1e-6, one sphere of 20 %, contrast 100 / pore / pore in random field")
    for n in (16, 32, 64):
        sphere = generators.spheres(n, 0.2, 1)
        field = generators.gaussian_field(n, 0.3, 0.1, seed=0)
        hollow = np.array([soft, np.zeros((6, 6))])
        row = [
            homogenize(sphere.labels, table, tolerance=1e-6).iterations,
            homogenize(sphere.labels, hollow, tolerance=1e-6).iterations,
            homogenize(field.labels, hollow, tolerance=1e-6).iterations if n < 64 else None,
        ]
        print(f"  {n}³: {row}")


def plain(_: np.ndarray, table: np.ndarray) -> None:
    print("\nagainst plain numpy Moulinec–Suquet, contrast 100, six loads")
    for n in (16, 32):
        labels = generators.spheres(n, 0.2, 4, seed=1).labels
        exact = homogenize(labels, table, tolerance=1e-9).stiffness
        for what, tolerance, ours_at in (("residual 1e-6", 1e-6, 1e-6), ("stiffness within 1e-4", 1e-4, 2e-3)):
            known = exact if "stiffness" in what else None
            ours, t = timed(lambda labels=labels, to=ours_at: homogenize(labels, table, tolerance=to))
            (theirs, steps), t_basic = timed(
                lambda labels=labels, to=tolerance, known=known: moulinec_suquet(labels, table, to, known)
            )
            print(
                f"  {n}³, {what}: {ours.iterations} iterations {t:.2f} s (stiffness off {off(ours.stiffness, exact):.0e}), "
                f"basic scheme {steps} iterations {t_basic:.1f} s (off {off(theirs, exact):.0e}): {t_basic / t:.1f} times"
            )


def large(table: np.ndarray) -> None:
    labels = generators.spheres(256, 0.2, 1).labels
    start = time.perf_counter()
    limit: dict[str, Any] = {"tolerance": 1e-6} if "--converged" in sys.argv else {"steps": 2}
    cell, spent = timed(lambda: homogenize(labels, table, **limit))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"\n256³, six loads, {'residual 1e-6' if 'tolerance' in limit else 'stopped early'}: {cell.iterations} iterations and "
        f"the bracket {spent:.0f} s ({time.perf_counter() - start:.0f} s on the wall), {peak:.1f} GiB at most (bracket "
        f"{cell.width:.1e})"
    )


def one_load(edge: int, table: np.ndarray) -> None:
    """The first of the six unit strains alone, to a residual of 1e-6, printed as it goes: no bracket."""
    start, processor = time.perf_counter(), time.process_time()
    labels = torch.tensor(generators.spheres(edge, 0.2, 1).labels[None].astype(np.int32))
    grid = VoxelGrid((edge, edge, edge), np.ones(3), "rotated", torch.device("cpu"))
    with torch.no_grad():
        solve = Solve(grid, labels, torch.tensor(table[None]))
        solve._pieces = lambda: [(slice(0, 1), slice(0, 1))]
        residual = 1.0
        while residual > 1e-6:
            solve.advance(never, 1)
            residual = float((solve.product[0, 0] / solve.first[0, 0]).sqrt())
            if int(solve.iterations.max()) % 4 == 0:
                print(
                    f"    {int(solve.iterations.max())}: {residual:.1e}, {time.process_time() - processor:.0f} s",
                    flush=True,
                )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{edge}³, one load of six: {int(solve.iterations.max())} iterations, {time.process_time() - processor:.0f} s "
        f"({time.perf_counter() - start:.0f} s on the wall), {peak:.1f} GiB at most", flush=True,
    )  # fmt: skip


def sizes() -> list[int]:
    return [int(word) for word in sys.argv if word.isdigit()] or [16, 32]


def against_unocg(_: np.ndarray, table: np.ndarray) -> None:
    try:
        import unocg  # noqa: F401  # pyright: ignore
    except ImportError:
        print("\nunocg is not on the path: no comparison")
        return
    print("\nagainst unocg, one sphere of 20 %, contrast 100, six loads, each at its own residual of 1e-6")
    for n in sizes():
        labels = generators.spheres(n, 0.2, 1).labels
        for degree, scheme in ((1, "rotated"), (2, "hexahedra")):
            if n > 32 and degree == 2:
                continue
            ours, t = timed(
                lambda labels=labels, scheme=scheme: homogenize(labels, table, tolerance=1e-6, scheme=scheme)
            )
            (theirs, steps), t_peer = timed(lambda labels=labels, degree=degree: peer(labels, table, degree, 1e-6))
            print(
                f"  {n}³ {scheme}: {ours.iterations} iterations {t:.1f} s, unocg {steps} iterations {t_peer:.1f} s: "
                f"{t_peer / t:.1f} times; answers differ by {off(theirs, ours.stiffness):.1e}",
                flush=True,
            )


def against_mugrid(_: np.ndarray, table: np.ndarray) -> None:
    python = os.environ.get("MUGRID_PYTHON")
    if python is None:
        print("\nMUGRID_PYTHON names no Python with muGrid: no comparison")
        return
    print("\nagainst muGrid, one sphere of 20 %, contrast 100, six loads, residual 1e-6, eight points a voxel in both")
    shear = np.array([np.trace(c - np.outer(IDENTITY, IDENTITY) * (IDENTITY @ c @ IDENTITY) / 9) / 10 for c in table])
    lame = np.array([IDENTITY @ c @ IDENTITY / 9 for c in table]) - 2.0 * shear / 3.0
    for n in sizes():
        labels = generators.spheres(n, 0.2, 1).labels
        with TemporaryDirectory() as folder:
            problem, answer = Path(folder) / "problem.npz", Path(folder) / "answer.npz"
            np.savez(problem, labels=labels, lame=lame, shear=shear, tolerance=1e-6)
            script = Path(__file__).with_name("mugrid_peer.py")
            subprocess.run([python, script, problem, answer], check=True)
            theirs = dict(np.load(answer))
        same, t_same = timed(lambda labels=labels: homogenize(labels, table, tolerance=1e-6, scheme="hexahedra"))
        one, t_one = timed(lambda labels=labels: homogenize(labels, table, tolerance=1e-6))
        print(
            f"  {n}³: muGrid {theirs['iterations']} iterations {theirs['processor']:.1f} s; ours, the same element: "
            f"{same.iterations} iterations {t_same:.1f} s, {theirs['processor'] / t_same:.2f} times as fast; answers differ "
            f"by {off(same.stiffness, theirs['stiffness']):.1e}; the default element: {one.iterations} iterations {t_one:.1f} s, "
            f"{theirs['processor'] / t_one:.2f} times, {off(one.stiffness, theirs['stiffness']):.1e} away (the element)",
            flush=True,
        )


if __name__ == "__main__":
    main()
