"""Training of crystal networks: one loop for every kind of target, on one process or several, resumable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from crystals.pair_sums import PairSums

from ..crystal_graph import CrystalBatch

#: Loss of each crystal (k,) from what the network gives for them and their places in the data.
Loss = Callable[[dict[str, Tensor], Tensor], Tensor]


def train_network(
    network: nn.Module,
    crystals: Sequence[PairSums],
    loss: Loss,
    *,
    epochs: int = 60,
    batch: int = 32,
    rate: float = 2e-3,
    decay: float = 0.02,
    average: float = 0.99,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    report: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Minimise the mean loss over crystals with AdamW, a one-cycle rate, and an average of the weights.

    Parameters
    ----------
    network : Module
        Takes a `CrystalBatch`; trained in place, in the precision of its weights.
    crystals : sequence of PairSums
    loss : callable
        (outputs, places) → loss of each crystal.
    epochs, batch, rate, decay : int, int, float, float
        Rounds over the data, crystals in a step over all processes, highest rate, weight decay.
    average : float
        Share of the old in the running mean of the weights, which is what remains at the end.
    seed : int
        Of the order of crystals.
    checkpoint : path, optional
        File that holds the state after every epoch; where it exists, training goes on from it.
    report : callable, optional
        Told (epoch, mean loss) after each epoch.

    Notes
    -----
    Under torchrun each process takes every n-th crystal of a step, and the gradient is that of the whole step
    (DistributedDataParallel): the same training as on one process but for the order of additions. AdamW: Loshchilov and
    Hutter 2019, arXiv:1711.05101.
    """
    world = distributed.get_world_size() if distributed.is_initialized() else 1
    rank = distributed.get_rank() if world > 1 else 0
    device = next(network.parameters()).device
    dtype = next(network.parameters()).dtype
    parallel: nn.Module = DistributedDataParallel(network) if world > 1 else network
    steps = int(np.ceil(len(crystals) / batch))
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * steps, pct_start=0.15)
    mean = {name: value.detach().clone() for name, value in network.named_parameters()}
    start = 0
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.is_file():
        held = torch.load(path, weights_only=True)
        network.load_state_dict(held["network"])
        optimiser.load_state_dict(held["optimiser"])
        schedule.load_state_dict(held["schedule"])
        mean, start = held["mean"], held["epoch"]
    taken = start * steps
    for epoch in range(start, epochs):
        total = torch.zeros(())
        for places in _steps(len(crystals), batch, seed + 7919 * epoch):
            mine = places[rank::world]
            # a rank without crystals still joins: its share of the loss is zero
            outputs = parallel(CrystalBatch.of([crystals[i] for i in (mine if len(mine) else places[:1])], dtype).to(device))
            each = loss(outputs, torch.from_numpy(mine if len(mine) else places[:1]).to(device))
            own = each.sum() / len(places) if len(mine) else 0.0 * each.sum()
            optimiser.zero_grad()
            # DistributedDataParallel takes the mean over ranks
            (own * world).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            taken += 1
            share = min(average, taken / (taken + 10.0))
            with torch.no_grad():
                for name, value in network.named_parameters():
                    mean[name].lerp_(value, 1.0 - share)
            total += own.detach().cpu() * len(places) / len(crystals)
        if world > 1:
            distributed.all_reduce(total)
        if path is not None and rank == 0:
            state = {
                "network": network.state_dict(), "optimiser": optimiser.state_dict(), "mean": mean,
                "schedule": schedule.state_dict(), "epoch": epoch + 1,
            }  # fmt: skip
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            torch.save(state, part)
            os.replace(part, path)
        if report is not None and rank == 0:
            report(epoch + 1, float(total))
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(mean[name])
    return network


def _steps(count: int, batch: int, seed: int) -> Iterator[np.ndarray]:
    order = np.random.default_rng(seed).permutation(count)
    for start in range(0, count, batch):
        yield order[start : start + batch]
