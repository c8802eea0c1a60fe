"""How many small changes of the code the tests notice: mutation testing of `crystals/` and of the core of the laws.

    pip install --target DIR cosmic-ray parso stevedore yattag && PYTHONPATH=DIR \\
        python tests/benchmarks/mutants.py [--sample 400] [--seed 0] [--room crystals|laws]

Places of the code are drawn by seed, and at each one of cosmic-ray's operators (another number, comparison, arithmetic
operator, boolean or sign; a loop that does nothing, a break for a continue). A change of annotations, or of the texts of
errors, is no mutant.
Each runs in a process forked from one that has the libraries loaded and none of this project's modules, the tests of the
changed file first, until one fails. A mutant without end counts as noticed. Survivors are printed with their line.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.abc
import importlib.util
import os
import platform
import signal
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
#: Files of each room, and tests that look at more than one of them.
ROOMS: dict[str, tuple[list[str], list[str]]] = {
    "crystals": (
        [f"crystals/{name}.py" for name in (
            "mandel", "rotations", "groups", "invariants", "tensor_spaces", "moduli", "elastic_constants", "spherical",
            "piezoelectricity", "symmetry_floor", "cells", "frame_check", "strain_plan", "states",
        )],
        [f"tests/crystals/test_{name}.py" for name in (
            "mandel", "rotations", "groups", "invariants", "tensor_spaces", "moduli", "elastic_constants", "inputs", "dataset",
            "structures", "piezoelectricity", "symmetry_floor", "strained_states",
        )],
    ),
    "laws": (
        [f"constitutive/laws/{name}.py" for name in (
            "law", "polynomial", "precomputed", "saturation", "strain_measure", "symmetric", "symmetric_network", "network",
        )],
        [f"tests/constitutive/test_{name}.py" for name in (
            "symmetric_network", "laws", "saturation", "storage", "guarantees", "evaluator", "brugger",
        )],
    ),
}  # fmt: skip
#: Those of cosmic-ray's operators that make mistakes a person makes.
OPERATORS = ("NumberReplacer", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
             "AddNot", "ReplaceComparisonOperator", "ReplaceBinaryOperator", "ReplaceUnaryOperator", "ZeroIterationForLoop",
             "ReplaceBreakWithContinue", "ReplaceContinueWithBreak")  # fmt: skip


class _Bare(ast.NodeTransformer):
    """Without annotations, docstrings and the texts of errors, which no test should pin word by word."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        for argument in (*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs):
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


def places(path: str) -> list[list[tuple[str, int, int]]]:
    """For each place of a file that can change, the operators that change it: name, occurrence, line."""
    tree, plugins = cosmic_ray("ast"), cosmic_ray("plugins")
    nodes = list(tree.ast_nodes(tree.get_ast_from_path(ROOT / path)))
    found: dict[tuple, list[tuple[str, int, int]]] = {}
    for name in plugins.operator_names():
        if name.split("/")[-1].startswith(OPERATORS):
            spots = [spot for node in nodes for spot in plugins.get_operator(name)().mutation_positions(node)]
            for occurrence, spot in enumerate(spots):
                found.setdefault(spot, []).append((name, occurrence, spot[0][0]))
    return [found[spot] for spot in sorted(found)]


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


def noticed(path: str, source: str, tests: list[str], limit: float) -> bool:
    """Whether a test fails, in a process of its own."""
    child = os.fork()
    if child == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        import pytest

        sys.meta_path.insert(0, _Finder(path[:-3].replace("/", "."), ROOT / path, source))
        try:
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
        except BaseException:
            code = 1
        os._exit(0 if code == 0 else 1)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status != 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def tests_of(path: str, shared: list[str]) -> list[str]:
    own = f"tests/{path.split('/')[0]}/test_{Path(path).stem}.py"
    return [own] * (ROOT / own).exists() + [test for test in shared if test != own]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--room", choices=[*ROOMS], action="append")
    options = parser.parse_args()
    for library in ("hypothesis", "pymatgen.core", "scipy.linalg"):
        importlib.import_module(library)  # once, not in every fork
    torch.set_num_threads(1)
    os.chdir(ROOT)
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, seed {options.seed}")
    for room in options.room or ROOMS:
        files, shared = ROOMS[room]
        spots = [(path, operators) for path in files for operators in places(path)]
        began = time.monotonic()
        for path in files[:1]:
            assert not noticed(path, (ROOT / path).read_text(), tests_of(path, shared), 1800.0), "tests fail unchanged"
        limit = 10.0 * (time.monotonic() - began) + 60.0
        generator = np.random.default_rng(options.seed)
        tried = survivors = 0
        for place in generator.permutation(len(spots)):
            path, operators = spots[place]
            name, occurrence, line = operators[generator.integers(len(operators))]
            source = mutated(path, name, occurrence)
            if source is None:
                continue
            tried += 1
            if not noticed(path, source, tests_of(path, shared), limit):
                survivors += 1
                before, after = ((text.splitlines()[line - 1]).strip() for text in ((ROOT / path).read_text(), source))
                print(f"survived {path}:{line} {name.split('/')[-1]}: {before}  →  {after}", flush=True)
            if tried % 20 == 0:
                print(f"  {room}: {tried} of {options.sample}, {survivors} survived", file=sys.stderr, flush=True)
            if tried == options.sample:
                break
        share = 100.0 * (1.0 - survivors / tried)
        print(f"{room}: {len(spots)} places, {tried} drawn, {tried - survivors} noticed ({share:.1f} %)", flush=True)


if __name__ == "__main__":
    main()
