"""The documentation: every block of code runs, page by page; links, snippets and names of the reference exist.

Python blocks of a page run in order in one namespace. Lines of bash blocks are `constitutive …` and run too; a block below
`<!-- not run: why -->` is checked by `bash -n` alone. All pages share one folder, in which Getting started made its files.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
_FENCE = re.compile(r"(<!-- not run: [^\n]+ -->\n)?^```(\w+)([^\n]*)\n(.*?)^```", re.M | re.S)


class Block(NamedTuple):
    line: int
    language: str
    run: bool
    text: str


def blocks(text: str) -> list[Block]:
    found = []
    for match in _FENCE.finditer(text):
        marked, language, options, body = match.groups()
        run = marked is None and "no-run" not in options
        found.append(Block(text[: match.start(4)].count("\n") + 1, language, run, body))
    return found


def has_code(page: str) -> bool:
    return any(b.language == "bash" or (b.language == "python" and b.run) for b in blocks((DOCS / page).read_text()))


def run_bash(where: str, text: str) -> None:
    from constitutive.cli import main

    for line in text.strip().splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "constitutive", f"{where}: only `constitutive …` is run; mark the block 'not run': {line}"
        answer = CliRunner().invoke(main, words[1:])
        assert answer.exit_code == 0, f"{where}: {line}\n{answer.output}"


def check_bash(where: str, text: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0, f"{where}: {checked.stderr}"


def run_page(page: str, folder: Path) -> None:
    """Run the blocks of a page in a folder."""
    space: dict = {"__name__": "page"}
    before = Path.cwd()
    os.chdir(folder)
    try:
        for block in blocks((DOCS / page).read_text()):
            where = f"docs/{page}:{block.line}"
            if block.language == "python" and block.run:
                exec(compile("\n" * (block.line - 1) + block.text, where, "exec"), space)
            elif block.language == "bash":
                check_bash(where, block.text)
                if block.run:
                    run_bash(where, block.text)
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Getting started has run."""
    path = tmp_path_factory.mktemp("docs")
    run_page("index.md", path)
    return path


@pytest.mark.parametrize("page", [page for page in PAGES if has_code(page)])
def test_every_block_runs(page: str, folder: Path) -> None:
    if re.search(r"^(import|from) (dolfinx|fem)\b", (DOCS / page).read_text(), re.M):
        pytest.importorskip("dolfinx", reason="needs DOLFINx")
    if page == "index.md":  # the fixture ran it
        assert (folder / "copper.law").is_file() and (folder / "copper_test.c").is_file()
        return
    run_page(page, folder)


def test_a_wrong_block_is_found(tmp_path: Path) -> None:
    """Negative controls: what fails in a page fails here."""
    assert [b.run for b in blocks("```python\n1\n```\n<!-- not run: x -->\n```bash\nls\n```\n")] == [True, False]
    with pytest.raises(AssertionError, match="wrong"):
        check_bash("wrong", "if then\n")
    with pytest.raises(AssertionError, match="No such command"):
        run_bash("wrong", "constitutive nonsense\n")
    with pytest.raises(AssertionError, match="mark the block"):
        run_bash("wrong", "rm something\n")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_snippets_exist(page: str) -> None:
    text = (DOCS / page).read_text()
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert ((DOCS / page).parent / target).is_file(), f"{page}: {target}"
    for snippet in re.findall(r'^--8<-- "([^"]+)"', text, re.M):
        assert (ROOT / snippet).is_file(), f"{page}: {snippet}"
    for name in re.findall(r"`(?:python )?(examples/\w+\.py)`|`(tests/[\w/.]+)`", text):
        assert (ROOT / "".join(name)).exists(), f"{page}: {name}"


def test_navigation_holds_every_page() -> None:
    listed = re.findall(r":\s*([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == PAGES


@pytest.mark.parametrize("package", ["crystals", "constitutive", "fem"])
def test_the_reference_names_what_is_public_and_nothing_else(package: str) -> None:
    if package == "fem":
        pytest.importorskip("dolfinx", reason="needs DOLFINx")
    named = re.findall(r"^::: (\S+)", (DOCS / "api" / f"{package}.md").read_text(), re.M)
    for name in named:
        parts = name.split(".")
        found = importlib.import_module(parts[0])
        for place, part in enumerate(parts[1:], 2):
            if not hasattr(found, part):
                importlib.import_module(".".join(parts[:place]))
            found = getattr(found, part)
        assert found.__doc__, f"{name} has no docstring"
    public = importlib.import_module(package)
    missing = {name for name in public.__all__ if callable(getattr(public, name))} - {
        n.split(".")[1] for n in named if "." in n
    }
    assert not missing, f"docs/api/{package}.md lacks {sorted(missing)}"


def test_every_result_of_a_benchmark_is_shown() -> None:
    spec = importlib.util.spec_from_file_location("docs_results", ROOT / "scripts" / "docs_results.py")
    assert spec is not None and spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)

    def page(name: str) -> str:
        return hook.on_page_markdown("text", page=SimpleNamespace(file=SimpleNamespace(src_uri=name)))

    assert page("theory.md") == "text"
    for path in (ROOT / "tests" / "benchmarks" / "results").glob("*.txt"):
        assert path.read_text().rstrip() in page("benchmarks.md") and "````" not in path.read_text()
