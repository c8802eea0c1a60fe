"""Which test runs which lines of the code, and how long it takes: measured once, kept in `out/` while neither changes.

Before each test the caches of the sources' functions are emptied, so that it is seen to run what an earlier test would have
computed for it. Needs coverage.py, which is no requirement of this project.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib
import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Seconds of CPU after which a test is too slow to be asked about a mutant.
SLOW = 4
#: Most cases of one test, spread over them: others run other groups through the same lines.
CASES = 6
Lines = dict[str, list[int]]


def in_child(work: Callable[[], Any], seconds: float, patience: float = 20.0) -> tuple[bool, Any]:
    """Do some work in a forked process, silently: whether it came to an end, and what it gave.

    Parameters
    ----------
    work : callable
        Returns something that JSON can hold.
    seconds : float
        CPU time after which the system ends the process; `patience` times as long by the clock.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        last = int(used + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (last, last))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        said = b""
        try:
            said = json.dumps([work()]).encode()
        except BaseException as error:
            said = json.dumps([None, repr(error)]).encode()
        finally:
            with os.fdopen(writing, "wb") as stream:
                stream.write(said)
            os._exit(0)
    os.close(writing)
    os.set_blocking(reading, False)
    end, said, open_ = time.monotonic() + patience * seconds + 5.0, b"", True
    while open_ and time.monotonic() < end:
        try:
            piece = os.read(reading, 1 << 16)
            said, open_ = said + piece, bool(piece)
        except BlockingIOError:
            time.sleep(0.005)
    os.close(reading)
    try:
        os.killpg(child, signal.SIGKILL)  # and what it may have started
    except ProcessLookupError:
        pass
    os.waitpid(child, 0)
    try:
        answer = json.loads(said)
    except ValueError:
        return False, None
    return len(answer) == 1, answer[0] if len(answer) == 1 else answer[1]


@contextmanager
def _recorded(sources: list[str], into: Lines) -> Iterator[None]:
    recorder = importlib.import_module("coverage").Coverage(
        data_file=None, include=[str(ROOT / source) for source in sources], config_file=False, messages=False
    )
    recorder.start()
    try:
        yield
    finally:
        recorder.stop()
        data = recorder.get_data()
        into.update({source: sorted(data.lines(str(ROOT / source)) or ()) for source in sources})
        for source in [source for source in into if not into[source]]:
            del into[source]


class _Measuring:
    """A plugin of pytest that collects as ever, and runs each test in a fork."""

    def __init__(self, sources: list[str]) -> None:
        self.sources = sources
        self.files: dict[str, dict[str, Any]] = {}
        self.caches: list[Any] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: Any) -> Any:
        if not isinstance(collector, pytest.Module):
            return (yield)
        lines: Lines = {}
        with _recorded(self.sources, lines):
            found = yield
        path = Path(collector.path).relative_to(ROOT).as_posix()
        self.files[path] = {"collected": lines, "tests": {}, "left out": []}
        return found

    def pytest_runtestloop(self, session: Any) -> bool:
        modules = {source[:-3].replace("/", ".") for source in self.sources}
        caches = [
            found for found in gc.get_objects()
            if isinstance(found, functools._lru_cache_wrapper) and found.__module__ in modules
        ]  # fmt: skip
        gc.collect()
        gc.freeze()
        signal.signal(signal.SIGPROF, _too_slow)
        for item in _spread(session.items):
            for cache in caches:
                cache.cache_clear()
            entry = self.files[Path(item.path).relative_to(ROOT).as_posix()]
            passed, seconds, lines = self._run(item)
            if passed:
                entry["tests"][item.nodeid] = {"seconds": seconds, "lines": lines}
            else:
                entry["left out"].append(item.nodeid)
        return True

    def _run(self, item: Any) -> tuple[bool, float, Lines]:
        from _pytest.runner import runtestprotocol

        lines: Lines = {}
        start = time.process_time()
        with _recorded(self.sources, lines):
            signal.setitimer(signal.ITIMER_PROF, SLOW)
            reports = runtestprotocol(item, nextitem=None, log=False)
            signal.setitimer(signal.ITIMER_PROF, 0)
        return not any(report.failed for report in reports), time.process_time() - start, lines


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SLOW} s")


def _spread(items: list[Any]) -> list[Any]:
    """At most `CASES` cases of each test, the first, the last and what lies between at equal distances."""
    cases: dict[str, list[Any]] = {}
    for item in items:
        cases.setdefault(item.nodeid.split("[")[0], []).append(item)
    return [
        some[place]
        for some in cases.values()
        for place in sorted({round(k * (len(some) - 1) / (CASES - 1)) for k in range(CASES)})
    ]


def _hash(*paths: str) -> str:
    return hashlib.sha256(b"\0".join((ROOT / path).read_bytes() for path in sorted(paths))).hexdigest()


def _measure(tests: list[str], sources: list[str], keep: Path) -> None:
    """In a process of its own: what each test of some files runs, into a file."""
    imported: Lines = {}
    with _recorded(sources, imported):
        for source in sources:
            importlib.import_module(source[:-3].replace("/", "."))
    plugin = _Measuring(sources)
    pytest.main(["-q", "-p", "no:cacheprovider", *tests], plugins=[plugin])
    keep.write_text(json.dumps({"imported": imported, "files": plugin.files}))


def reached(tests: list[str], sources: list[str], folder: Path) -> tuple[Lines, dict[str, dict[str, Any]]]:
    """Lines that an import runs, and of each test file the lines that its collection and each of its tests run.

    Parameters
    ----------
    tests, sources : list of str
        Paths below the root of the repository.
    folder : Path
        Where it is kept; a test file is measured again when it or one of the sources has changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = _hash(*sources)[:16]
    places = {test: folder / f"{Path(test).parent.name}-{Path(test).stem}.json" for test in tests}
    found: dict[str, dict[str, Any]] = {}
    for test in tests:
        key = f"{state} {_hash(test)}"
        if places[test].exists() and (kept := json.loads(places[test].read_text()))["key"] == key:
            found[test] = kept
            continue
        started, made = time.monotonic(), folder / "new.json"
        made.unlink(missing_ok=True)
        ended, why = in_child(lambda test=test, made=made: _measure([test], sources, made), 3600)
        if not ended or not made.exists():
            raise RuntimeError(f"reached_lines: measuring {test} failed: {why}.")
        raw = json.loads(made.read_text())
        found[test] = {"key": key, "imported": raw["imported"], **raw["files"][test]}
        places[test].write_text(json.dumps(found[test]))
        number, left = len(found[test]["tests"]), len(found[test]["left out"])
        print(f"  {test}: {number} tests, {left} left out, {time.monotonic() - started:.0f} s", flush=True)
    imported: Lines = {}
    for entry in found.values():
        for source, lines in entry["imported"].items():
            imported[source] = sorted({*imported.get(source, ()), *lines})
    return imported, found
