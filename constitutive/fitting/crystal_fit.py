"""Training of crystal networks: one loop for every kind of target, on one process or several, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from crystals.whole_file import whole_file

from ..crystal_graph import THIRD_ORDER_UNIT, CrystalBatch, bulk_and_shear, stiffness

#: Loss of each crystal (k,) from what the network gives for them and their places in the data.
Loss = Callable[[dict[str, Tensor], Tensor], Tensor]


def train_network(
    network: nn.Module,
    crystals: Sequence[Any],
    loss: Loss,
    *,
    collate: Callable[[list[Any]], Any] = CrystalBatch.of,
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
        Takes what `collate` makes; trained in place, in the precision of its weights.
    crystals : sequence of PairSums
    loss : callable
        (outputs, places) → loss of each crystal.
    collate : callable
        Makes the batch of some crystals.
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
    # a head that the loss does not ask for gets no gradient
    parallel: nn.Module = DistributedDataParallel(network, find_unused_parameters=True) if world > 1 else network
    steps = int(np.ceil(len(crystals) / batch))
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * steps, pct_start=0.15)
    mean = {name: value.detach().clone() for name, value in network.named_parameters()}
    start = 0
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.is_file():
        start = _restore(path, network, optimiser, schedule, mean)
    taken = start * steps
    for epoch in range(start, epochs):
        total = torch.zeros(())
        for places in _steps(len(crystals), batch, seed + 7919 * epoch):
            mine = places[rank::world]
            # a rank without crystals still joins: its share of the loss is zero
            seen = mine if len(mine) else places[:1]
            outputs = parallel(collate([crystals[i] for i in seen]).to(device))
            each = loss(outputs, torch.from_numpy(seen))
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
            _keep(path, network, optimiser, schedule, mean, epoch + 1)
        if report is not None and rank == 0:
            report(epoch + 1, float(total))
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(mean[name])
    return network


def _keep(path: Path, network: nn.Module, optimiser: Any, schedule: Any, mean: dict[str, Tensor], epoch: int) -> None:
    """Write the state of training: tensors and JSON, nothing that would have to be unpickled."""
    held = optimiser.state_dict()
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"mean/{name}": value for name, value in mean.items()}
    tensors |= {f"optimiser/{i}/{name}": v for i, part in held["state"].items() for name, v in part.items()}
    tensors["random"] = torch.get_rng_state()
    rest = {"epoch": epoch, "groups": held["param_groups"], "schedule": schedule.state_dict()}
    with whole_file(path) as temporary:
        # a safetensors file holds no tensor twice, so each is written as its own copy
        save_file(
            {name: v.clone().contiguous() for name, v in tensors.items()}, temporary, {"training": json.dumps(rest)}
        )


def _restore(path: Path, network: nn.Module, optimiser: Any, schedule: Any, mean: dict[str, Tensor]) -> int:
    """Read what `_keep` wrote into all of these; returns the number of epochs done."""
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "mean": {}}
    states: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as file:
        rest = json.loads(file.metadata()["training"])
        for key in file.keys():
            kind, _, name = key.partition("/")
            if kind == "optimiser":
                number, _, name = name.partition("/")
                states.setdefault(int(number), {})[name] = file.get_tensor(key)
            elif kind == "random":
                torch.set_rng_state(file.get_tensor(key))
            else:
                parts[kind][name] = file.get_tensor(key)
    network.load_state_dict(parts["network"])
    optimiser.load_state_dict({"state": states, "param_groups": rest["groups"]})
    schedule.load_state_dict(rest["schedule"])
    mean.update(parts["mean"])
    return rest["epoch"]


def moduli_loss(
    bulk: np.ndarray, shear: np.ndarray, absolute: float = 0.8, isotropy: float = 0.01
) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    """Loss of a network with a stiffness head on known Voigt–Reuss–Hill moduli (k,), (k,), GPa.

    Absolute errors over the mean absolute deviation of each modulus, with weight `absolute`, and of the logarithms,
    with the rest. The data say nothing of direction: `isotropy` draws the part of log C that is not isotropic to zero.
    """
    target = torch.tensor(np.stack([bulk, shear], axis=1), dtype=torch.float32)
    unit = (target - target.mean(dim=0)).abs().mean(dim=0)

    def loss(outputs: dict[str, Tensor], places: Tensor) -> Tensor:
        logarithm = outputs["stiffness"]
        found = torch.stack(bulk_and_shear(logarithm), dim=1)
        wanted, scale = target[places].to(found), unit.to(found)
        missed = absolute * ((found - wanted) / scale).abs() + (1 - absolute) * torch.log(found / wanted).abs()
        return missed.sum(dim=1) + isotropy * anisotropic_part(logarithm).square().sum(dim=(1, 2))

    return loss


def law_loss(
    constants: np.ndarray, strains: np.ndarray, stresses: np.ndarray
) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    """Loss of a network with stiffness and third-order heads on stiffness and stress of every crystal.

    Relative Frobenius error of C (k, 6, 6) plus relative error of S = C E + ½ C₃ E E at strains (k, n, 6); GPa, Mandel,
    in the frame in which the lattice sums were taken.
    """
    wanted = [torch.from_numpy(np.asarray(part, dtype=np.float32)) for part in (constants, strains, stresses)]

    def loss(outputs: dict[str, Tensor], places: Tensor) -> Tensor:
        true, strain, stress = (part[places].to(outputs["stiffness"]) for part in wanted)
        found = stiffness(outputs["stiffness"])
        third = THIRD_ORDER_UNIT * outputs["third_order"]
        predicted = strain @ found + 0.5 * torch.einsum("kabc,knb,knc->kna", third, strain, strain)
        first = torch.linalg.vector_norm(found - true, dim=(1, 2)) / torch.linalg.vector_norm(true, dim=(1, 2))
        missed = torch.linalg.vector_norm(predicted - stress, dim=(1, 2))
        return first + missed / torch.linalg.vector_norm(stress, dim=(1, 2))

    return loss


def anisotropic_part(matrix: Tensor) -> Tensor:
    """What remains (k, 6, 6) of symmetric Mandel matrices without their isotropic part."""
    volume = torch.zeros(6, 6, dtype=matrix.dtype, device=matrix.device)
    volume[:3, :3] = 1.0 / 3.0
    rest = torch.eye(6, dtype=matrix.dtype, device=matrix.device) - volume
    first = (matrix * volume).sum(dim=(1, 2))
    second = (matrix * rest).sum(dim=(1, 2)) / 5.0
    return matrix - first[:, None, None] * volume - second[:, None, None] * rest


def _steps(count: int, batch: int, seed: int) -> Iterator[np.ndarray]:
    order = np.random.default_rng(seed).permutation(count)
    for start in range(0, count, batch):
        yield order[start : start + batch]
