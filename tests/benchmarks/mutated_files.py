"""The kinds of files that `mutations.py` damages."""

from __future__ import annotations

import importlib.util

import mutated_data
import mutated_images
import mutated_laws
from damage import Kind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (*mutated_laws.KINDS, *mutated_data.KINDS, *mutated_images.KINDS)}
if importlib.util.find_spec("dolfinx"):  # which reads the others is installed by itself
    import mutated_fem_files

    KINDS.update({kind.name: kind for kind in mutated_fem_files.KINDS})
