"""Networks and a process that read crystals, with what is known of their training: one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from crystals.neighbours import Neighbours
from crystals.pair_sums import lattice_sums
from crystals.structures import as_atoms
from crystals.whole_file import whole_file

from .crystal_graph import CrystalBatch, CrystalNetwork
from .moduli_process import ModuliProcess

SCHEMA = 1
_MODELS = Path(__file__).parent / "models"
#: The model that answers where none is named: K and G of binary compounds (recipe in data/README.md).
DEFAULT_MODEL = _MODELS / "binary_moduli.safetensors"
_CONTENT = "constitutive crystal networks"


class CrystalEnsemble:
    """Several networks of one kind with what is known of their training.

    Parameters
    ----------
    networks : list of CrystalNetwork
        With a stiffness head.
    about : dict
        'elements' (atomic numbers seen in training), 'log_error' (two numbers: standard error of ln K and ln G on
        crystals not seen), 'directional' (whether the data told directions), 'species' (the most different elements in
        a training crystal), and any record of the training. 'calibration', where known: for each of '68' and '90' (per
        cent of held-out crystals) two rows a, b: |error of ln K|, |error of ln G| ≤ a + b d, d the deviation of the
        networks, or |process − networks|. With a process also 'process_share' (its weight in the mean of ln K and ln G)
        and 'strangers', |error| for '68' and '90' of crystals with an element left out of training.
    process : ModuliProcess, optional
        Gaussian process for K and G, to which the networks' C is scaled.
    """

    def __init__(
        self, networks: list[CrystalNetwork], about: dict[str, Any], process: ModuliProcess | None = None
    ) -> None:
        self.networks = [network.double().eval() for network in networks]
        self.about, self.process = about, process

    def write(self, path: str | Path) -> None:
        """Write weights (float32; float16 beside a process, to stay small) and the record to one safetensors file."""
        kept = torch.float32 if self.process is None else torch.float16
        tensors = {
            f"{place}/{name}": value.to(kept).contiguous()
            for place, network in enumerate(self.networks)
            for name, value in network.state_dict().items()
        }
        if self.process is not None:
            tensors |= {f"process/{name}": value for name, value in self.process.tensors().items()}
        metadata = {
            "content": _CONTENT, "schema": str(SCHEMA), "config": json.dumps(self.networks[0].config),
            "about": json.dumps(self.about),
        }  # fmt: skip
        with whole_file(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    @classmethod
    def read(cls, path: str | Path) -> CrystalEnsemble:
        """Read what `write` wrote.

        Raises
        ------
        OSError
            Where there is no such file.
        ValueError
            Where it is something else or damaged.
        """
        path = Path(path)
        if not path.is_file():
            raise OSError(f"CrystalEnsemble.read: expected a file, got {str(path)!r}, which does not exist.")
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("content") != _CONTENT or metadata.get("schema") != str(SCHEMA):
                    raise ValueError(f"content {metadata.get('content')!r}, schema {metadata.get('schema')!r}")
                config, about = json.loads(metadata["config"]), json.loads(metadata["about"])
                members: dict[int, dict[str, torch.Tensor]] = {}
                held: dict[str, torch.Tensor] = {}
                for name in file.keys():
                    place, _, rest = name.partition("/")
                    part = held if place == "process" else members.setdefault(int(place), {})
                    part[rest] = file.get_tensor(name)
            networks = []
            for place in sorted(members):
                network = CrystalNetwork(element_features=members[place]["element_features"], **config)
                network.load_state_dict(members[place])
                networks.append(network)
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{path.name}: expected crystal networks of schema {SCHEMA}, got something else: {reason}. Make the file "
                "again, or update the package."
            ) from error
        return cls(networks, about, ModuliProcess.of_tensors(held) if held else None)

    def tensors(self, structures: Sequence[Any]) -> dict[str, np.ndarray]:
        """Every head's tensor (members, k, …) of structures as they lie: 'stiffness' is log C, C in GPa, Mandel."""
        return self.tensors_of(self.neighbours([as_atoms(structure) for structure in structures]))

    def neighbours(self, crystals: Sequence[Atoms]) -> Neighbours:
        return Neighbours.of(crystals, self.networks[0].cutoff)

    def tensors_of(self, bonds: Neighbours) -> dict[str, np.ndarray]:
        """As `tensors`, of crystals whose neighbours are known."""
        one = self.networks[0]
        with torch.inference_mode():
            batch = CrystalBatch.of(lattice_sums(bonds, one.radial, one.degree))
            found = [network(batch) for network in self.networks]
        return {head: np.array([one[head].numpy() for one in found]) for head in self.networks[0].heads}


def named_ensemble(model: str | Path) -> CrystalEnsemble:
    """A model that ships, by its name, or a file."""
    path = Path(model)
    shipped = _MODELS / f"{path.stem}.safetensors"
    if path in (shipped, Path(path.stem)) and shipped.is_file():
        return _shipped(shipped)
    return CrystalEnsemble.read(path)


@cache
def _shipped(path: Path) -> CrystalEnsemble:
    return CrystalEnsemble.read(path)
