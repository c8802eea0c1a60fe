"""The training-domain test: false alarms on held-out states, states caught at twice the range, and its cost.

python tests/benchmarks/training_domain.py        # about a minute; the crystals' states are made by emt_crystals.py

'false' are held-out states of the same plan that are flagged; 'caught' are states in their directions at |E| = 2 max_strain
that are; 'doubled' are held-out strains times two, those of them beyond |E| = 0.08. 'cost' is the time
that it adds to stress and tangent at 20,000 points of a law of order 4, cheaper than most, in torch and in C.
"""

from __future__ import annotations

import platform
import time
from datetime import date

import numpy as np
import torch
from emt_crystals import CRYSTALS, states

from constitutive import Evaluator, SymmetricLaw
from constitutive.laws.domain import Domain
from crystals import PointGroup
from crystals.atomistic import plan_strains
from crystals.groups import LAUE_CLASSES

RADIUS = 0.08


def rates(domain: Domain, held_out: np.ndarray) -> np.ndarray:
    """Shares flagged: held-out, at twice the range, doubled and beyond the range."""
    sizes = np.linalg.norm(held_out, axis=1)[:, None]
    twice = 2 * RADIUS * held_out / sizes
    doubled = 2 * held_out[2 * sizes[:, 0] > RADIUS]
    return np.array([np.mean(~domain.contains(strain)) for strain in (held_out, twice, doubled)])


def cost(group: PointGroup, order: int, domain: Domain, backend: str) -> float:
    """Time that the domain adds, over that of stress and tangent without it: least of 25, taken in turn."""
    points = plan_strains(20_000, RADIUS, 5)
    evaluators = []
    for one in (None, domain):
        law = SymmetricLaw(group, order, stiffness=100 * np.eye(6), energy_scale=100.0, strain_scale=RADIUS)
        law.domain = one
        evaluators.append(Evaluator(law, backend=backend))
    times: list[list[float]] = [[], []]
    for _ in range(25):
        for place, evaluator in enumerate(evaluators):
            start = time.process_time()
            evaluator.response(points)
            times[place].append(time.process_time() - start)
    return min(times[1]) / min(times[0]) - 1.0


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, 1 thread"
    )
    print("EMT crystals, 200 training states, |E| ≤ 0.08     false   caught  doubled")
    for name in CRYSTALS:
        data = states(name, "wide")
        assert data.group is not None
        found = []
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(len(data))
            domain = Domain.from_strains(data.group, data.strain[order[:200]])
            found.append(rates(domain, data.strain[order[200:]]))
        print(f"{name:<14} {data.group.laue.symbol:<6} 5 seeds, {len(data) - 200} held out    " + "  ".join(
            f"{100 * share:5.2f} %" for share in np.mean(found, axis=0)))  # fmt: skip
    for number in (200, 60):
        print(
            f"plan_strains, {number} training states, 824 held out, 8 seeds  false (largest)  caught (least)  doubled   cost (torch, C)"
        )
        for symbol in (*LAUE_CLASSES, "∞/mm", "∞∞m"):
            group, found = PointGroup(symbol), []
            for seed in range(8):
                strain = np.random.default_rng(seed).permutation(plan_strains(1024, RADIUS, seed))
                domain = Domain.from_strains(group, strain[:number])
                found.append(rates(domain, strain[-824:]))
            mean, low, high = np.mean(found, axis=0), np.min(found, axis=0), np.max(found, axis=0)
            shares = [cost(group, 4, domain, backend) for backend in ("torch", "c")] if number == 200 else []
            share = ", ".join(f"{100 * one:4.1f} %" for one in shares)
            print(
                f"{symbol:<6} {len(domain.whitening):3d} features {'':34}{100 * mean[0]:5.2f} % ({100 * high[0]:4.2f})  "
                f"{100 * mean[1]:6.2f} % ({100 * low[1]:6.2f})  {100 * mean[2]:5.1f} %  {share}",
                flush=True,
            )


if __name__ == "__main__":
    main()
