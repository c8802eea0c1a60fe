"""`constitutive constants`: strained states → elastic constants."""

from __future__ import annotations

from pathlib import Path

import click

from .command import json_option, main, sentence, show_result, timed


@main.command(short_help="Elastic constants that strained states show.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--order", type=click.IntRange(2, 4), default=3, show_default=True, help="Highest order.")
@json_option
@sentence
@timed
def constants(data: Path, order: int, as_json: bool) -> None:
    """Print the elastic constants that strained states show, with standard errors, stability and averages.

    Constants are ∂ⁿW/∂Eⁿ at the stress-free state (Brugger's), independent ones of the class, in its standard frame.

    \b
    constitutive constants copper.h5 --order 4
    """
    from crystals.dataset import StrainData

    from ..fitting.elastic_table import elastic_table

    table = elastic_table(StrainData.read(data), order)
    show_result(str(table), table.to_dict(), as_json)
