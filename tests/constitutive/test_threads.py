"""Threads: the number asked for is the number used, and the answer is that of one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from constitutive import Evaluator, SymmetricLaw
from constitutive.audit import relative_errors, sample_strains
from constitutive.ckernel import c_source, library
from crystals import mandel

STRAIN = sample_strains(0.1, 3 * library.SHARE + 5, np.random.default_rng(7))


def some_law() -> SymmetricLaw:
    law = SymmetricLaw(
        "m-3m", 3, (32, 32), stiffness=100.0 * np.eye(6), energy_scale=100.0, strain_scale=0.1, max_strain=0.1
    )
    with torch.no_grad():
        law.coefficients.fill_(0.5)
    return law.requires_grad_(False)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_c_takes_as_many_as_asked(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are inside at once, and no bit depends on their number."""
    law = some_law()
    one, many = Evaluator(law, "c").response(STRAIN), Evaluator(law, "c", threads=threads)
    gate, used, inner = threading.Barrier(threads, timeout=20), [], many._library._function

    def watched(*arguments: object) -> None:
        used.append(threading.get_ident())
        gate.wait()
        inner(*arguments)

    monkeypatch.setattr(many._library, "_function", watched)
    answer = many.response(STRAIN)
    assert len(used) == len(set(used)) == threads
    for name in ("energy", "stress", "tangent", "status"):
        assert getattr(answer, name).tobytes() == getattr(one, name).tobytes()
    gate.abort()  # nobody waits: one thread alone where points are few
    monkeypatch.setattr(many._library, "_function", lambda *arguments: used.append(-1))
    many.response(STRAIN[: library.SHARE])
    assert used[threads:] == [-1]


_EXPORTED = """
import ctypes, os, sys
import numpy as np
strain = np.load(sys.argv[2])
n = len(strain)
energy, stress, tangent, status = np.empty(n), np.empty((n, 6)), np.empty((n, 21)), np.empty(n, dtype=np.int8)
law = ctypes.CDLL(sys.argv[1]).law_response
before = len(os.listdir("/proc/self/task"))
pointers = [ctypes.c_void_p(a.ctypes.data) for a in (energy, stress, tangent)]
law(ctypes.c_int64(n), ctypes.c_void_p(strain.ctypes.data), None, ctypes.c_int64(0), *pointers, None,
    ctypes.c_void_p(status.ctypes.data))
print(1 + len(os.listdir("/proc/self/task")) - before)
np.savez(sys.argv[3], energy=energy, stress=stress, tangent=tangent, status=status)
"""

_TORCH = """
import os, sys
import numpy as np
import torch
torch.set_num_threads(int(sys.argv[4]))
before = len(os.listdir("/proc/self/task"))
from constitutive import Evaluator, load
law, strain = load(sys.argv[1]), np.load(sys.argv[2])
answer = Evaluator(law, "torch", chunk=len(strain)).response(strain)
assert torch.get_num_threads() == int(sys.argv[4])
print(1 + len(os.listdir("/proc/self/task")) - before)
np.savez(sys.argv[3], energy=answer.energy, stress=answer.stress, tangent=answer.tangent, status=answer.status)
"""


def run(script: str, threads: int, *arguments: str) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_DYNAMIC": "false"}
    done = subprocess.run([sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads of a process in /proc")
class TestCounted:
    def test_an_exported_law_with_openmp(self, tmp_path: Path) -> None:
        """What `constitutive export --to c` writes, compiled with -fopenmp: as many as OMP_NUM_THREADS, the same bits."""
        law = some_law()
        command, flags, _ = library.compiler()
        (tmp_path / "law.c").write_text(c_source(law))
        subprocess.run(
            [*command, *flags, "-fopenmp", "-fPIC", "-shared", "law.c", "-o", "law.so", "-lm"], cwd=tmp_path, check=True
        )
        np.save(tmp_path / "strain.npy", STRAIN)
        own = Evaluator(law, "c").response(STRAIN)
        for threads in (1, 2):
            paths = [str(tmp_path / name) for name in ("law.so", "strain.npy", "answer.npz")]
            assert run(_EXPORTED, threads, *paths) == threads
            with np.load(tmp_path / "answer.npz") as answer:
                for name in answer.files:
                    assert answer[name].tobytes() == getattr(own, name).tobytes()

    def test_torch(self, tmp_path: Path) -> None:
        law = some_law()
        law.save(tmp_path / "some.law")
        np.save(tmp_path / "strain.npy", STRAIN)
        one = Evaluator(law, "torch").response(STRAIN)
        for threads in (1, 2):
            paths = [str(tmp_path / name) for name in ("some.law", "strain.npy", "answer.npz")]
            assert run(_TORCH, threads, *paths, str(threads)) == threads
            with np.load(tmp_path / "answer.npz") as answer:
                assert np.array_equal(answer["status"], one.status)
                entries = mandel.unpack_upper(answer["tangent"] - one.tangent)
                assert relative_errors(law, STRAIN, answer["stress"] - one.stress, entries) < 1e-13
