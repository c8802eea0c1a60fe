"""The price of symmetry: error and cost against the order of the group imposed, along chains of subgroups of the cube.

    python tests/benchmarks/symmetry_price.py

EMT copper (true class m-3m), |E| ≤ 0.08. One network, averaged over the rotations of each group in turn, trained on the
same states; 1 ⊂ 2 ⊂ 222 ⊂ 422 ⊂ 432 and 222 ⊂ 23 ⊂ 432, and, beyond 23, the 60 rotations of the icosahedron, which stand in
for isotropy and are too many for copper. Prints and stores results/symmetry_price.txt and .png.
"""

from __future__ import annotations

import datetime
import platform
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from emt_crystals import fresh_copper
from matplotlib.axes import Axes
from rivals import tuned

from constitutive.fitting.selection import stress_error
from constitutive.laws.symmetric_network import AveragedNetwork, InvariantNetwork, SymmetricNetwork
from crystals.dataset import StrainData
from crystals.groups import PointGroup, _close
from crystals.rotations import mandel_rotation, rotation_about

RESULTS = Path(__file__).parent / "results"
SEEDS = (1, 2, 3)
NUMBERS = (24, 96)
WIDTHS = (16, 16)
TEST = 512
LARGEST = 256
POINTS = 2048
GOLDEN = (1.0 + 5.0**0.5) / 2.0
ICOSAHEDRON = "icosahedral"
#: Chains of groups by inclusion.
CHAINS = (("1", "2", "222", "422", "432"), ("222", "23", "432"))


def rotations(name: str) -> np.ndarray:
    """Proper rotations (g, 3, 3), the cube's axes along x, y, z."""
    if name == ICOSAHEDRON:
        fivefold, threefold = np.array([0.0, 1.0, GOLDEN]), np.ones(3)
        return _close([rotation_about(fivefold, 2 * np.pi / 5), rotation_about(threefold, 2 * np.pi / 3)])
    # the twofold axis of the standard setting is y
    return PointGroup(name).rotations


def seconds_per_point(network: SymmetricNetwork) -> float:
    """Energy, stress and tangent of a network in closed form, the best of five batches."""
    strain = 0.02 * torch.from_numpy(np.random.default_rng(0).normal(size=(POINTS, 6)))
    found = []
    with torch.no_grad():
        for _ in range(5):
            start = time.process_time()
            for part in strain.split(256):
                network.at(part, True)
            found.append((time.process_time() - start) / POINTS)
    return min(found)


def averaged_over(turns: np.ndarray) -> AveragedNetwork:
    network = AveragedNetwork("-1", WIDTHS, 0.05, 0)
    network.turns = torch.from_numpy(turns)
    return network


Found = tuple[dict[int, np.ndarray], float, float]


def measure(name: str, pools: dict[int, StrainData], test: StrainData) -> Found:
    """Errors of each seed by number of states, seconds of a fit (to the most states), seconds per point."""
    turns = mandel_rotation(rotations(name))
    errors, seconds = {}, 0.0
    for number in NUMBERS:
        found = []
        start = time.process_time()
        for seed, pool in pools.items():
            predict = tuned(pool.take(slice(0, number)), seed, turns=turns, widths=(WIDTHS,))
            found.append(stress_error(predict(test.strain), test.stress))
        seconds = (time.process_time() - start) / len(pools)
        errors[number] = np.array(found)
        print(
            f"{name}, {number} states: {np.round(100 * errors[number], 2)} %, {seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )
    return errors, seconds, seconds_per_point(averaged_over(turns))


def picture(orders: dict[str, int], found: dict[str, Found], invariants: float, path: Path) -> None:
    figure, (error, evaluation, fitting) = plt.subplots(1, 3, figsize=(11.0, 4.0), layout="constrained")
    colours, markers = ("#D55E00", "#0072B2"), ("o", "s")
    for number, colour, marker in zip(NUMBERS, colours, markers, strict=True):
        for chain, style in zip(CHAINS, ("-", "--"), strict=True):
            mean = [100 * found[name][0][number].mean() for name in chain]
            error.plot([orders[name] for name in chain], mean, style, color=colour, marker=marker)
        for name in found:
            column = 100 * found[name][0][number]
            error.vlines(orders[name], column.min(), column.max(), color=colour, linewidth=1)
        beyond = [100 * found[name][0][number].mean() for name in ("23", ICOSAHEDRON)]
        error.plot([12, 60], beyond, ":", color=colour, marker=marker, markevery=[1], markerfacecolor="white")
        error.plot([], [], color=colour, marker=marker, label=f"{number} states")
    error.plot([], [], "-", color="grey", label="1 ⊂ 2 ⊂ 222 ⊂ 422 ⊂ 432")
    error.plot([], [], "--", color="grey", label="222 ⊂ 23 ⊂ 432")
    error.plot([], [], ":", color="grey", marker="o", markerfacecolor="white", label="23 ⊂ icosahedral")
    _axes(error, "held-out stress error, %", orders, (0.2, 200.0))
    ordered = sorted(found, key=lambda name: orders[name])
    x = [orders[name] for name in ordered]
    evaluation.plot(
        x, [1e6 * found[name][2] for name in ordered], color="#009E73", marker="^", label="averaged network"
    )
    evaluation.axhline(
        1e6 * invariants, color="black", linestyle="-.", linewidth=1, label="network of invariants, m-3m"
    )
    _axes(evaluation, "energy, stress and tangent, µs per point", orders, (2.0, 1000.0))
    fitting.plot(
        x, [found[name][1] for name in ordered], color="#CC79A7", marker="v", label=f"fit to {NUMBERS[-1]} states"
    )
    _axes(fitting, "time of the fit with inner validation, s", orders, (1.0, 20.0))
    figure.suptitle(f"EMT copper, |E| ≤ 0.08: mean and range of {len(SEEDS)} seeds; one core", fontsize=10)
    figure.savefig(path, dpi=110)


def _axes(axes: Axes, label: str, orders: dict[str, int], limits: tuple[float, float]) -> None:
    low, high = limits
    axes.set(xscale="log", yscale="log", ylim=limits, xlabel="rotations of the group imposed", ylabel=label)
    ticks = sorted(set(orders.values()))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    shown = [tick for k in range(-1, 5) for m in (1, 2, 5) if low <= (tick := m * 10.0**k) <= high]
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def main() -> None:
    torch.set_num_threads(1)
    test = fresh_copper(TEST, 1000)
    pools = {seed: fresh_copper(LARGEST, 1000 + seed) for seed in SEEDS}
    names = ("1", "2", "222", "422", "23", "432", ICOSAHEDRON)
    orders = {name: len(rotations(name)) for name in names}
    found = {name: measure(name, pools, test) for name in names}
    invariants = seconds_per_point(InvariantNetwork("m-3m", WIDTHS, 0.05, 0))
    lines = [
        f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread"
    ]
    lines.append(f"EMT copper, |E| ≤ 0.08, network {WIDTHS} averaged over the group, {TEST} test states, seeds {SEEDS}")
    lines.append(
        "held-out relative RMS stress error in %, mean (smallest–largest); energy, stress and tangent of the network"
    )
    heads = "".join(f"{f'{number} states':>20}" for number in NUMBERS)
    lines.append(f"{'group':<12}{'order':>6}{heads}{'µs per point':>15}{'over order 1':>14}{'s per fit':>11}")
    for name in names:
        errors, fitting, evaluation = found[name]
        cells = "".join(
            f"{f'{100 * e.mean():.2f} ({100 * e.min():.2f}–{100 * e.max():.2f})':>20}" for e in errors.values()
        )
        over = evaluation / found["1"][2]
        lines.append(f"{name:<12}{orders[name]:>6}{cells}{1e6 * evaluation:>15.2f}{over:>14.1f}{fitting:>11.1f}")
    over = invariants / found["1"][2]
    lines.append(
        f"network of invariants of m-3m, same widths: {1e6 * invariants:.2f} µs per point, {over:.1f} over order 1"
    )
    text = "\n".join(lines) + "\n"
    print(text)
    (RESULTS / "symmetry_price.txt").write_text(text)
    picture(orders, found, invariants, RESULTS / "symmetry_price.png")


if __name__ == "__main__":
    main()
