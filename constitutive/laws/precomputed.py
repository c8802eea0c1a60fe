"""A law that computes once what only its parameters decide, and again when they change."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, TypeVar

import torch

from .law import Law

Fixed = TypeVar("Fixed")


class PrecomputedLaw(Law, Generic[Fixed]):
    """A `Law` whose evaluations share `self.fixed`, which does not depend on the strain."""

    #: The parts, and the parameters they were computed for; a tuple, so that torch takes no part for a module.
    _kept: tuple[Fixed, tuple[tuple[int, int], ...]] | None = None

    @abstractmethod
    def _precompute(self) -> Fixed:
        """What every evaluation needs and only the parameters decide."""

    @property
    def fixed(self) -> Fixed:
        """The outcome of `_precompute`, without derivatives in the parameters."""
        # an optimiser changes parameters in place (their version rises) or puts other storage under them
        present = tuple((p._version, p.data_ptr()) for p in self.parameters())
        if self._kept is None or self._kept[1] != present:
            with torch.no_grad():
                self._kept = self._precompute(), present
        return self._kept[0]

    def refresh(self) -> None:
        """Forget what was precomputed from the parameters; called after every change of them."""
        self._kept = None

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self.refresh()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.refresh()
