"""What every command shares: the group itself, errors in a sentence, output that can be written, JSON on request, and a
clock for what takes long."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
        except BrokenPipeError:
            raise
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


@contextmanager
def clock(label: str, after: float = 2.0) -> Iterator[None]:
    """Show on stderr, where that is a terminal, that work goes on and for how long, from `after` seconds on."""
    if not sys.stderr or not sys.stderr.isatty():
        yield
        return
    done, start = threading.Event(), time.monotonic()

    def tell() -> None:
        wait = after
        while not done.wait(wait):
            wait = 1.0
            print(f"\r{label}: {time.monotonic() - start:.0f} s", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if time.monotonic() - start > after:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def timed(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command without a progress bar of its own under a `clock`."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with clock(f"constitutive {command.__name__}"):
            return command(*args, **kwargs)

    return wrapped


class Commands(click.Group):
    """Commands in the order in which they are used; a wrong call is one sentence as every other error."""

    ORDER = ("atoms", "constants", "classes", "fit", "audit", "show", "report", "drive", "export", "families", "moduli")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.commands, key=self.ORDER.index)

    def main(self, args: Sequence[str] | None = None, *more: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # a terminal that cannot show ≤ or ∂ gets a question mark, not a failure
                stream.reconfigure(errors="replace")
        if not standalone_mode:
            return super().main(args, *more, standalone_mode=False, **extra)
        try:
            # an Exit, of --help and --version, comes back as its number
            status = super().main(args, *more, standalone_mode=False, **extra)
        except click.ClickException as error:
            context = error.ctx if isinstance(error, click.UsageError) else None
            message = error.format_message().rstrip(".")
            help_of = context.command_path if context is not None else "constitutive"
            message += "" if message.endswith("?") else "."
            click.echo(f"Error: {message} `{help_of} --help` shows what is expected.", err=True)
            sys.exit(2)
        except click.Abort:
            click.echo("Aborted.", err=True)
            sys.exit(1)
        except BrokenPipeError:
            # the reader (head, less) has seen enough; nothing may be flushed at exit either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        sys.exit(status if isinstance(status, int) else 0)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.version_option(package_name="constitutive")
@click.pass_context
def main(context: click.Context) -> None:
    """Neural material laws for finite elements, with exact crystal symmetry.

    \b
    constitutive atoms Cu.cif --max-strain 0.08 -o copper.h5
    constitutive fit copper.h5 -o copper.law
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")


def check_output(path: Path, suffixes: tuple[str, ...], source: Path, option: str = "--output") -> None:
    """Before any work: the name is right, is not the source, and can be written."""
    if path.suffix not in suffixes:
        raise ValueError(
            f"{option}: expected a name that ends in {' or '.join(suffixes)}, got {str(path)!r}. Name it "
            f"{path.stem or 'result'}{suffixes[0]}."
        )
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
