"""Damaged and foreign files, by the thousand: each ends in one sentence within a second and 200 MB, or reads unchanged.

    python tests/benchmarks/mutations.py 2000 [--kinds law npy …] [--seed 0] [--law 10000] [--keep FOLDER]

Each file is read in a child process, so that a crash of a C library is an outcome among others. Outcomes:

    refused     ValueError, TypeError or OSError in the package's own form: where, expected, got, remedy
    unchanged   the content of the untouched file, bit for bit
    legal       other content that the format cannot tell from an intact file, and why (`damage.Kind.legal`)
    faults      everything else: wrong content, another exception or form, more than a second of CPU or 200 MB beyond
                the imports and a first reading, a crash, a hang. The exit status is 1 where there is one.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import os
import pickle
import platform
import re
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from damage import Kind
from mutated_files import KINDS

SECONDS, MEGABYTES, PATIENCE = 1.0, 200.0, 20.0
#: The form of an error: where, expected, got, and at least one sentence of remedy.
FORM = re.compile(r"[^\n]{1,200}?: (expected .+[,;:] got .+|not supported: .+)\. \S.*\.", re.DOTALL)


def _status(key: str) -> float:
    """A line of /proc/self/status in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024.0
    raise OSError(f"mutations: expected {key} in /proc/self/status, got none. Run on Linux.")


def _same(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(
        np.asarray(a[k]).shape == np.asarray(b[k]).shape and np.array_equal(a[k], b[k]) for k in a
    )


def _outcome(
    kind: Kind, source: Path, target: Path, seed: int, number: int, good: Any
) -> tuple[str, str, float, float]:
    """Outcome, what was done or said, CPU seconds, megabytes."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.name.encode()), number])
    label, content = kind.mutate(source, rng)
    target.write_bytes(content)
    Path("/proc/self/clear_refs").write_text("5")  # peak memory from here on
    before, start = _status("VmRSS"), time.process_time()
    try:
        silent = io.StringIO()  # meshio prints what it thinks
        with warnings.catch_warnings(), redirect_stdout(silent), redirect_stderr(silent):
            warnings.simplefilter("ignore")
            found = kind.read(target)
        said = None
    except (ValueError, TypeError, OSError) as error:
        found, said = None, str(error)
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        return "fault", f"{label}: {type(error).__name__}: {str(error)[:200]} in {frames[-1].filename}", 0.0, 0.0
    seconds, size = time.process_time() - start, _status("VmHWM") - before
    if seconds > SECONDS or size > MEGABYTES:
        return "fault", f"{label}: {seconds:.2f} s, {size:.0f} MB", seconds, size
    if said is not None:
        return ("refused", label, seconds, size) if FORM.fullmatch(said) else (
            "fault", f"{label}: not our sentence: {said[:300]!r}", seconds, size)  # fmt: skip
    if _same(found, good):
        return "unchanged", label, seconds, size
    why = kind.legal(label, content, source.read_bytes(), found, good)
    return ("legal", why, seconds, size) if why else ("fault", f"{label}: read as whole, but differs", seconds, size)


def _work(kind: Kind, folder: Path, seed: int, start: int, stop: int, out: int) -> None:
    """In the child: outcomes of files start … stop − 1, pickled to a pipe, each announced before it is read."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    address = int(_status("VmSize")) * 2**20 + 4 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (address, address))
    sources = kind.originals(folder)
    goods = [kind.read(source) for source in sources]
    for number in range(start, stop):
        place = number % len(sources)
        target = folder / f"mutated-{os.getpid()}{''.join(sources[place].suffixes)}"
        os.write(out, pickle.dumps(("begin", number)))
        found = _outcome(kind, sources[place], target, seed, number, goods[place])
        os.write(out, pickle.dumps(("end", number, *found)))
    os._exit(0)


def _messages(pipe: int, pid: int) -> Any:
    """What the child says; ends when it dies or says nothing for too long."""
    stream = os.fdopen(pipe, "rb", buffering=0)
    while True:
        if not select.select([stream], [], [], PATIENCE)[0]:
            os.kill(pid, signal.SIGKILL)
            yield ("hang",)
            return
        try:
            yield pickle.load(stream)
        except EOFError:
            return


def run(kind: Kind, count: int, seed: int = 0, keep: Path | None = None) -> dict[str, Any]:
    """Outcomes of `count` mutated files of one kind."""
    tally: Counter[str] = Counter()
    legal: Counter[str] = Counter()
    faults: list[str] = []
    seconds = size = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder, number = Path(name), 0
        kind.originals(folder)
        while number < count:
            reading, writing = os.pipe()
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                os.close(reading)
                try:
                    _work(kind, folder, seed, number, count, writing)
                except BaseException:
                    traceback.print_exc()
                os._exit(3)
            os.close(writing)
            begun, hung = number, False
            for message in _messages(reading, pid):
                if message[0] == "begin":
                    begun = message[1]
                elif message[0] == "hang":
                    hung = True
                else:
                    _, number, outcome, what, used, grown = message
                    number += 1
                    tally[outcome] += 1
                    legal[what] += outcome == "legal"
                    seconds, size = max(seconds, used), max(size, grown)
                    if outcome == "fault":
                        faults.append(f"{kind.name} {message[1]}: {what}")
            state = os.waitpid(pid, 0)[1]
            if number < count:
                if not hung and os.WIFEXITED(state):
                    raise RuntimeError(f"mutations: the child of {kind.name} failed before it read anything.")
                how = "hang" if hung else f"crash by signal {os.WTERMSIG(state)}"
                tally["fault"] += 1
                faults.append(f"{kind.name} {begun}: {how}")
                number = begun + 1
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            sources = kind.originals(folder)
            for fault in faults:
                place = int(fault.split()[1].rstrip(":"))
                source = sources[place % len(sources)]
                rng = np.random.default_rng([seed, zlib.crc32(kind.name.encode()), place])
                (keep / f"{kind.name}-{place}{source.suffix}").write_bytes(kind.mutate(source, rng)[1])
    return {"tally": tally, "legal": +legal, "faults": faults, "seconds": seconds, "megabytes": size}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("--law", type=int, help="Number of law files, where it is another.")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Folder for the files that end in a fault.")
    options = parser.parse_args()
    print(f"{date.today()}, {platform.node() or 'machine'} {platform.machine()}, Python {platform.python_version()}, "
          f"seed {options.seed}")  # fmt: skip
    print(f"{'kind':<12}{'files':>7}{'refused':>9}{'unchanged':>11}{'legal':>7}{'faults':>8}{'CPU s':>8}{'MB':>6}")
    notes: list[str] = []
    broken = 0
    for name in options.kinds:
        count = options.law if name == "law" and options.law else options.count
        found = run(KINDS[name], count, options.seed, options.keep)
        tally = found["tally"]
        broken += tally["fault"]
        print(f"{name:<12}{count:>7}{tally['refused']:>9}{tally['unchanged']:>11}{tally['legal']:>7}{tally['fault']:>8}"
              f"{found['seconds']:>8.2f}{found['megabytes']:>6.0f}", flush=True)  # fmt: skip
        notes += [f"  {name}: {number} {why}" for why, number in found["legal"].most_common()]
        notes += [f"  FAULT {fault}" for fault in found["faults"]]
    print("legal content, and faults:", *notes, sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
