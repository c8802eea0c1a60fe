"""How many small changes of the code the tests notice: mutation testing of `crystals/` and of the laws.

    pip install --target DIR cosmic-ray parso stevedore yattag coverage && PYTHONPATH=$PWD:DIR \\
        python tests/benchmarks/mutants.py [--sample 300] [--seed 0] [--room crystals|laws] [--budget 10]

Places of the code are drawn by seed, and at each one of cosmic-ray's operators (another number, comparison, arithmetic
operator, boolean or sign; a loop that does nothing, a break for a continue). A change of annotations, or of the texts of
errors, is no mutant.
Each mutant runs in a process forked from one that has the libraries loaded and none of the modules that it may change. It is
asked by the tests that run its line (`reached_lines`: at most six cases of each), one case of each before the second of any,
those of its own test file and the quickest first, until one fails, or until all have passed or have taken the budget: then it
survived. A line that no test runs counts like any other. A mutant without end counts as noticed. Survivors are printed with
their line, and with the reason where `surviving_mutants.txt` gives one. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import gc
import hashlib
import importlib
import importlib.abc
import importlib.util
import json
import os
import platform
import sys
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reached_lines
import torch
from reached_lines import ROOT, in_child

#: What is symmetry in `crystals/`, and all laws; and the test files to ask: others are far from them, or take long.
ROOMS: dict[str, tuple[list[str], list[str]]] = {
    "crystals": (
        [f"crystals/{name}.py" for name in (
            "mandel", "rotations", "groups", "invariants", "tensor_spaces", "moduli", "elastic_constants", "spherical",
            "piezoelectricity", "symmetry_floor", "cells", "frame_check", "strain_plan", "states", "space_group",
            "structures", "transformation", "block_average",
        )],
        [f"tests/crystals/test_{name}.py" for name in (
            "mandel", "rotations", "groups", "invariants", "tensor_spaces", "moduli", "elastic_constants", "spherical",
            "piezoelectricity", "symmetry_floor", "inputs", "dataset", "strained_states", "space_group", "structures",
            "block_average",
        )],
    ),
    "laws": (
        sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "constitutive/laws").glob("[a-z]*.py")),
        [f"tests/constitutive/test_{name}.py" for name in (
            "laws", "symmetric_network", "saturation", "brugger", "guarantees", "domain", "polyconvex", "logarithmic",
            "internal_variables", "electromechanical", "parametric", "uncertainty", "storage", "evaluator",
            "notebook", "exchange", "audit",
        )],
    ),
}  # fmt: skip
FOLDER = ROOT / "out" / "mutants"
#: Why survivors survive: file, line before, line after, reason; separated by tabs.
REASONS = Path(__file__).with_name("surviving_mutants.txt")
#: Those of cosmic-ray's operators that make mistakes a person makes.
OPERATORS = ("NumberReplacer", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
             "AddNot", "ReplaceComparisonOperator", "ReplaceBinaryOperator", "ReplaceUnaryOperator", "ZeroIterationForLoop",
             "ReplaceBreakWithContinue", "ReplaceContinueWithBreak")  # fmt: skip


class _Bare(ast.NodeTransformer):
    """Without annotations, docstrings and the texts of errors, which no test should pin word by word."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(value=None)
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Pass()


def bare(source: str) -> str:
    return ast.dump(_Bare().visit(ast.parse(source)))


def cosmic_ray(part: str) -> Any:
    """A module of cosmic-ray, which is no requirement of this project."""
    return importlib.import_module(f"cosmic_ray.{part}")


def places(path: str) -> list[list[tuple[str, int]]]:
    """For each place of a file that can change, the operators that change it: name, occurrence. Kept, for it takes seconds."""
    kept = FOLDER / "places" / f"{hashlib.sha256((path + (ROOT / path).read_text()).encode()).hexdigest()[:24]}.json"
    if not kept.exists():
        tree, plugins = cosmic_ray("ast"), cosmic_ray("plugins")
        nodes = list(tree.ast_nodes(tree.get_ast_from_path(ROOT / path)))
        found: dict[tuple, list[tuple[str, int]]] = {}
        for name in plugins.operator_names():
            if name.split("/")[-1].startswith(OPERATORS):
                operator = plugins.get_operator(name)()
                spots = [spot for node in nodes for spot in operator.mutation_positions(node)]
                for occurrence, spot in enumerate(spots):
                    found.setdefault(spot, []).append((name, occurrence))
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([found[spot] for spot in sorted(found)]))
    return json.loads(kept.read_text())


def mutated(path: str, name: str, occurrence: int) -> str | None:
    """Source of a mutant, or None where it means the same or is no Python."""
    source = (ROOT / path).read_text()
    changed = cosmic_ray("mutating").mutate_code(source, cosmic_ray("plugins").get_operator(name)(), occurrence)
    try:
        return None if changed is None or bare(changed) == bare(source) else changed
    except SyntaxError:
        return None


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, path: Path, source: str) -> None:
        self.module, self.path, self.source = module, path, source

    def find_spec(self, fullname: str, path: object = None, target: object = None):
        if fullname != self.module:
            return None
        mutated, where = self.source, str(self.path)

        class Loader(importlib.abc.SourceLoader):
            def get_filename(self, fullname: str) -> str:
                return where

            def get_data(self, path: str) -> bytes:
                return mutated.encode()

        return importlib.util.spec_from_file_location(fullname, where, loader=Loader())


class _Asked:
    """A plugin of pytest that runs some tests only, in a given order, and knows which of them failed."""

    def __init__(self, tests: list[str]) -> None:
        self.order = {test: place for place, test in enumerate(tests)}
        self.failed = "collection"
        self.ran = 0

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid]
        )

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.ran += report.when == "call"
        if report.failed:
            self.failed = report.nodeid


class Tests:
    """Which tests to ask about a line."""

    def __init__(self, files: list[str], sources: list[str], folder: Path) -> None:
        self.imported, self.files = reached_lines.reached(files, sources, folder)

    def of(self, path: str, line: range, budget: float) -> tuple[list[str], int]:
        """Tests to ask about some lines of a file, in order and within so many seconds, and how many there would be.

        A line that runs when the module is imported may matter to every test that uses the module at all.
        """
        whole = bool(set(self.imported.get(path, ())).intersection(line))
        own = f"tests/{path.split('/')[0]}/test_{Path(path).stem}.py"
        found: dict[str, list[tuple[float, str]]] = {}
        for entry in self.files.values():
            collected = bool(set(entry["collected"].get(path, ())).intersection(line))
            for test, about in entry["tests"].items():
                lines = about["lines"].get(path, ())
                if collected or (whole and lines) or set(lines).intersection(line):
                    found.setdefault(test.split("[")[0], []).append((about["seconds"], test))
        # one case of each test before the second of any: another test sees more than another case of the same
        ranked = [
            (rank, not name.startswith(own), *case)
            for name, cases in found.items()
            for rank, case in enumerate(sorted(cases))
        ]
        chosen, spent = [], 0.0
        for *_, seconds, test in sorted(ranked):
            if spent + seconds <= budget or not chosen:
                chosen.append(test)
                spent += seconds
        return chosen, len(ranked)

    def state(self, tests: list[str]) -> str:
        """Hash of some tests as they are now, and of the sources that they test."""
        keys = [[test, self.files[test.split("::")[0]]["key"]] for test in sorted(tests)]
        return hashlib.sha256(json.dumps(keys).encode()).hexdigest()


def _ask(path: str, source: str, tests: list[str]) -> str | None:
    """In a process of its own: the test that fails, or None. The first file's tests alone first: collecting others takes long."""
    sys.meta_path.insert(0, _Finder(path[:-3].replace("/", "."), ROOT / path, source))
    files = list(dict.fromkeys(test.split("::")[0] for test in tests))
    for some in (files[:1], files[1:]):
        if some:
            asked = _Asked([test for test in tests if test.split("::")[0] in some])
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *some], plugins=[asked])
            if code != 0 or asked.ran < len(asked.order):
                return asked.failed
    return None


def noticed(path: str, source: str, tests: list[str], seconds: float) -> str | None:
    """The test that notices a mutant, 'its end' where it has none, or None."""
    if not tests:
        return None
    ended, failed = in_child(lambda: _ask(path, source, tests), seconds, patience=6.0)
    return failed if ended else "its end"


def _lines(before: str, after: str) -> tuple[range, str, str]:
    """Lines of the statement's part that a mutant changes, and what they were and are."""
    a, b = before.splitlines(), after.splitlines()
    first = next(k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    last = next(k for k, (x, y) in enumerate(zip(a[::-1], b[::-1], strict=False)) if x != y)
    return range(first + 1, len(a) - last + 1), " ".join(a[first].split()), " ".join(b[first].split())


def _statement(source: str, lines: range) -> range:
    """Lines of the innermost statement around some lines: a tracer names only some of those that a statement has."""
    found = lines
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= lines[0] and (node.end_lineno or 0) >= lines[-1]:
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno or node.lineno
            if end >= lines[-1]:
                found = range(node.lineno, end + 1)
    return found


def load_libraries() -> None:
    """Import what this project and its tests import of others, once and not in every fork."""

    def names() -> list[str]:
        for path in [path for room in ("crystals", "constitutive") for path in (ROOT / room).rglob("*.py")]:
            if path.name != "__main__.py":
                importlib.import_module(
                    path.relative_to(ROOT).as_posix()[:-3].replace("/", ".").removesuffix(".__init__")
                )
        return [name for name in sys.modules if name.split(".")[0] not in ("crystals", "constitutive")]

    ended, found = in_child(names, 600)
    assert ended, found
    for name in ("hypothesis", "click.testing", *found):
        with suppress(Exception):
            importlib.import_module(name)
    ours = [name for name in sys.modules if name.split(".")[0] in ("crystals", "constitutive")]
    assert not ours, ours
    gc.freeze()  # what lies still is not copied in each fork


def warm(sources: list[str]) -> None:
    """Import `crystals` once for mutants of other rooms, and find the invariants of all classes, on which most tests wait."""
    if any(source.startswith("crystals/") for source in sources):
        assert "crystals" not in sys.modules, "mutants of crystals come first"
        return
    for path in (ROOT / "crystals").rglob("*.py"):
        if path.name != "__main__.py":
            importlib.import_module(path.relative_to(ROOT).as_posix()[:-3].replace("/", ".").removesuffix(".__init__"))
    from crystals import STRAIN_CLASSES
    from crystals.invariants import invariant_polynomials, invariant_tensors, strain_invariants

    for symbol in STRAIN_CLASSES:
        strain_invariants(symbol)
        for degree in (1, 2, 3, 4):
            invariant_polynomials(symbol, degree)
        invariant_tensors(symbol, 2)
    gc.freeze()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--room", choices=[*ROOMS], action="append")
    parser.add_argument("--budget", type=float, default=10.0, help="Seconds of tests that a mutant is asked by.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.chdir(ROOT)
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, seed {options.seed}")
    load_libraries()
    reasons = {tuple(row[:3]): row[3] for text in REASONS.read_text().splitlines() if len(row := text.split("\t")) == 4}
    for room in options.room or ROOMS:
        sources, files = ROOMS[room]
        warm(sources)
        tests = Tests(files, sources, FOLDER / room)
        # a run that was stopped goes on; another asks first the test that noticed the mutant last time
        kept = FOLDER / room / "outcomes.json"
        outcomes: dict[str, list[str | None]] = json.loads(kept.read_text()) if kept.exists() else {}
        spots = [(path, operators) for path in sources for operators in places(path)]
        source = (ROOT / sources[0]).read_text()
        some, _ = tests.of(sources[0], range(1, len(source)), options.budget)
        failed = noticed(sources[0], source, some, 600.0)
        assert failed is None, f"control: {sources[0]} is unchanged, and {failed} fails"
        generator = np.random.default_rng(options.seed)
        tried = survivors = explained = 0
        for place in generator.permutation(len(spots)):
            path, operators = spots[place]
            name, occurrence = operators[generator.integers(len(operators))]
            source = mutated(path, name, occurrence)
            if source is None:
                continue
            tried += 1
            before = (ROOT / path).read_text()
            lines, old, new = _lines(before, source)
            key = hashlib.sha256((path + source).encode()).hexdigest()
            asked, number = tests.of(path, _statement(before, lines), options.budget)
            state, (known, failed) = tests.state(asked), outcomes.get(key, ["", None])
            if state != known:
                first = [test for test in asked if test == failed]
                failed = noticed(
                    path, source, first + [test for test in asked if test != failed], 3.0 * options.budget + 60.0
                )
                outcomes[key] = [state, failed]
                kept.write_text(json.dumps(outcomes))
            if failed is None:
                survivors += 1
                why = reasons.get((path, old, new))
                explained += why is not None
                print(f"survived {path}:{lines[0]} ({len(asked)} of {number} tests): {old}  →  {new}"
                      + (f"\n    {why}" if why else ""), flush=True)  # fmt: skip
            if tried % 20 == 0:
                print(f"  {time.strftime('%H:%M')} {room}: {tried} of {options.sample}, {survivors} survived", file=sys.stderr,
                      flush=True)  # fmt: skip
            if tried == options.sample:
                break
        share = 100.0 * (1.0 - survivors / tried)
        print(f"{room}: {len(spots)} places, {tried} drawn, {tried - survivors} noticed ({share:.1f} %), {explained} of the "
              f"{survivors} survivors explained", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
