"""An error on one MPI rank ends all of them: without this the others would wait in their next exchange for ever."""

from __future__ import annotations

import sys
from types import TracebackType

from mpi4py import MPI


def end_together() -> None:
    """From now on an exception that nobody catches on one rank is told there, and all ranks end.

    Nothing changes for one rank, and where another hook stands (`python -m mpi4py` has its own).
    """
    if MPI.COMM_WORLD.size > 1 and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _told


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    comm = MPI.COMM_WORLD
    print(
        f"fem: rank {comm.rank} of {comm.size} ended by the error above, and all ranks with it.",
        file=sys.stderr,
        flush=True,
    )
    comm.Abort(1)
