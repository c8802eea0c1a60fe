"""Hook of mkdocs: the page of benchmarks shows every stored result, so that none is forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "tests" / "benchmarks" / "results"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page's text, and below it the stored results."""
    if page.file.src_uri != "benchmarks.md":
        return markdown
    return "\n\n".join([markdown, *(shown(path) for path in sorted(RESULTS.glob("*.txt")))])


def shown(path: Path) -> str:
    # four backticks: a result may hold three
    return f"## {path.stem}\n\n````text\n{path.read_text().rstrip()}\n````"
