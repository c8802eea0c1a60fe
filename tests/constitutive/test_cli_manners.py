"""The command line as a stranger meets it: help on a screen, mistakes in a sentence, no need of a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from constitutive.cli import main
from constitutive.cli.command import clock

ROOT = Path(__file__).parents[2]
LAW = Path(__file__).parent / "copper_first_version.law"
RUN = (sys.executable, "-m", "constitutive.cli")
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
ENVIRONMENT["PYTHONPATH"] = str(ROOT)


def called(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main.main(list(words))
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_help_fits_a_screen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = called("--help", capsys=capsys)
    lines = out.rstrip("\n").split("\n")
    assert status == 0 and len(lines) <= 24 and max(map(len, lines)) <= 80
    assert "..." not in out.split("Commands:")[1], "a description is cut short"


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_an_example_and_json(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = called(name, "--help", capsys=capsys)
    assert max(map(len, out.split("\n"))) <= 80, "an example runs over the edge of a terminal"
    assert status == 0 and re.search(rf"^  constitutive {name}\b", out, re.M)
    assert any("--json" in option.opts for option in main.commands[name].params if isinstance(option, click.Option))


@pytest.fixture
def junk(tmp_path, monkeypatch):
    """A folder with files that are not what their names say, and a law and an image that are."""
    for name in ("junk.h5", "junk.cif", "junk.xyz", "junk.tif", "junk.law"):
        (tmp_path / name).write_text("junk\n")
    (tmp_path / "copper.law").write_bytes(LAW.read_bytes())
    np.save(tmp_path / "image.npy", np.zeros((4, 4, 4), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)


WRONG = [
    "nonsense", "atom Cu.cif", "--nope", "atoms", "atoms nothing.cif -o a.h5", "atoms junk.cif -o a.h5",
    "atoms junk.cif -o a.txt", "atoms junk.cif", "atoms junk.cif --states 2 -o a.h5", "fit nothing.h5", "fit junk.h5", "fit junk.xyz",
    "fit junk.h5 -o /nowhere/x.law", "fit junk.h5 -o x.txt", "constants junk.h5", "classes junk.h5", "audit nothing.law",
    "audit junk.law", "audit copper.law --states 0", "show junk.law", "show", "report junk.law", "report copper.law nothing.h5",
    "drive copper.law", "drive copper.law --to abc", "drive copper.law --to 0.01 --direction 000",
    "drive copper.law --to 0.01 --plot curve.doc", "drive copper.law --to 0.01 --held 77", "export copper.law --to fortran",
    "export copper.law -o x.txt", "families extra", "moduli junk.tif --phase 0=pore", "moduli nothing.npy", "moduli junk.cif",
    "moduli copper.law", "moduli image.npy", "moduli image.npy --phase 0=cheese", "moduli image.npy --phase pore=0 --phase 1=pore",
    "moduli image.npy --phase 0=E=70 --gear best",
]  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_a_mistake_is_one_sentence_and_exit_status_2(line, junk, capsys):
    status, out, err = called(*line.split(), capsys=capsys)
    assert status == 2 and not out
    assert err.startswith("Error: ") and err.count("\n") == 1 and err.rstrip().endswith((".", "?"))
    assert "Traceback" not in err and len(err) > 40
    # which rule, which value, and what to do: a second sentence, or an example
    assert "such as" in err or len(re.findall(r"[.?](?:\s|$)", err)) >= 2, err


def test_works_without_terminal_display_and_home(tmp_path):
    environment = {**ENVIRONMENT, "TERM": "dumb", "PYTHONIOENCODING": "latin-1"}
    environment.pop("HOME", None)
    words = ["drive", LAW, "--to", "0.01", "--steps", "2", "--plot", tmp_path / "curve.png"]
    run = subprocess.run([*RUN, *words], stdin=subprocess.DEVNULL, capture_output=True, env=environment, cwd=tmp_path)
    assert run.returncode == 0 and not run.stderr
    assert b"SymmetricLaw" in run.stdout and (tmp_path / "curve.png").stat().st_size > 1000


def test_a_reader_that_leaves_early_is_no_error():
    first = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {' '.join(RUN)} families --json | head -n 1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert first.stdout.splitlines()[0] == "{" and "Traceback" not in first.stderr and "Error" not in first.stderr


def test_what_takes_long_shows_a_clock_on_a_terminal_alone(capfd, monkeypatch):
    import time

    with clock("work", after=0.05):
        time.sleep(0.2)
    assert capfd.readouterr() == ("", "")  # no terminal: silent
    try:
        ours, theirs = pty.openpty()
    except OSError:
        pytest.skip("no pseudo-terminals on this machine")
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with clock("work", after=0.05):
            time.sleep(0.2)
        shown = ""
        while not shown.endswith("\x1b[K"):
            shown += os.read(ours, 4096).decode()
    os.close(ours)
    assert "work: 0 s" in shown


def test_completion_is_clicks_own():
    run = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'constitutive'; from constitutive.cli import main; main()"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**ENVIRONMENT, "_CONSTITUTIVE_COMPLETE": "bash_complete", "COMP_WORDS": "constitutive au", "COMP_CWORD": "1"},
    )  # fmt: skip
    assert run.stdout.strip() == "plain,audit", run.stderr
