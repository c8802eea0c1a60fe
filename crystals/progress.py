"""How often a progress bar is drawn."""

from __future__ import annotations

import sys


def bar_interval(terminal: float = 0.1) -> float:
    """Seconds between two updates of a bar: as given on a terminal; in a log, where each is a line, ten."""
    return terminal if sys.stderr is not None and sys.stderr.isatty() else 10.0
