"""What every command shares: the group itself, errors in a sentence, output that can be written, JSON on request."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click


def sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    """Expected mistakes end in one sentence on stderr and exit status 2, not in a traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(2)

    return wrapped


def show_result(human: str, machine: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(_finite(machine), indent=2) if as_json else human)


def _finite(value: Any) -> Any:
    """JSON has no infinity: null stands for it."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="constitutive")
def main() -> None:
    """Neural material laws for finite elements: exact symmetry, from atoms to a law.

    \b
    constitutive atoms Cu.cif --calculator emt --max-strain 0.08 -o copper.h5
    constitutive fit copper.h5 -o copper.law
    constitutive audit copper.law
    constitutive drive copper.law --direction 110 --to 0.05
    constitutive export copper.law --to c
    constitutive moduli rock.tif --phase 0=pore --phase 1="E=70 nu=0.2"
    """


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")


def check_output(path: Path, suffixes: tuple[str, ...], source: Path, option: str = "--output") -> None:
    """Before any work: the name is right, is not the source, and can be written."""
    if path.suffix not in suffixes:
        raise ValueError(f"{option}: expected a name that ends in {' or '.join(suffixes)}, got {str(path)!r}.")
    if path.is_dir():
        raise OSError(f"{option}: expected a file name, got {str(path)!r}, which is a folder. Add a name.")
    if path.exists() and source.exists() and path.samefile(source):
        raise ValueError(f"{option}: expected another file than the source, got {str(path)!r} for both. Choose a name.")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OSError(f"{option}: expected an existing folder, got {str(folder)!r}. Create it first.")
    try:
        # asking the system whether one may write is no answer for root or a full disk
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"{option}: expected a folder to write to, got {str(folder)!r}: {reason}. Choose another."
        ) from error


def refuse_unread(context: click.Context, names: tuple[str, ...], kind: str) -> None:
    """An option that the kind of source does not read would be silently without effect."""
    given = [name for name in names if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if given:
        options = ", ".join("--" + name.removesuffix("_glob").replace("_", "-") for name in given)
        raise ValueError(
            f"{context.info_name}: expected no {options} for {kind}, which does not read it. Leave it out."
        )
