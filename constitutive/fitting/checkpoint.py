"""Stages of a long computation kept in a file, so that one that was killed goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from crystals.whole_file import whole_file


class Checkpoint:
    """Results of named stages, written after each.

    Parameters
    ----------
    path : Path or None
        File; None keeps nothing.
    identity : str
        Hash of everything the stages depend on. A file of another identity is started anew.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self.path, self.identity = path, identity
        self._stages: dict[str, dict[str, torch.Tensor]] = {}
        if path is None or not path.is_file():
            return
        try:
            with safe_open(str(path), framework="pt") as file:
                if (file.metadata() or {}).get("identity") != identity:
                    return
                for name in file.keys():
                    stage, _, part = name.rpartition("/")
                    self._stages.setdefault(stage, {})[part] = file.get_tensor(name)
        except SafetensorError:
            self._stages = {}

    def stage(self, name: str, compute: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The stored result of a stage, or the computed one, stored."""
        if name not in self._stages:
            self._stages[name] = compute()
            if self.path is not None:
                tensors = {
                    f"{s}/{part}": t.contiguous() for s, parts in self._stages.items() for part, t in parts.items()
                }
                with whole_file(self.path) as temporary:
                    save_file(tensors, temporary, metadata={"identity": self.identity})
        return self._stages[name]

    def done(self) -> None:
        """Remove the file."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
