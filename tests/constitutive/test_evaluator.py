"""The evaluator: one answer by every backend, the backend it takes and says, memory, orientation, mixed precision."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from constitutive import Evaluator, NeoHookeanLaw, PolynomialLaw, SymmetricLaw, VonMisesLaw, evaluator, streaming
from constitutive.audit import relative_errors, sample_strains
from constitutive.ckernel import library
from constitutive.laws.law import INVALID
from crystals import PointGroup, mandel
from crystals.rotations import mandel_rotation, random_rotations

STRAIN = sample_strains(0.1, 300, np.random.default_rng(0))
TURNS = random_rotations(300, np.random.default_rng(1))


def some_law(symbol: str = "m-3m", widths: tuple[int, ...] = (8, 8)) -> SymmetricLaw:
    law = SymmetricLaw(
        PointGroup(symbol, random_rotations(1, np.random.default_rng(2))[0]), 3, widths, stiffness=100.0 * np.eye(6),
        energy_scale=100.0, strain_scale=0.1, max_strain=0.1,
    )  # fmt: skip
    with torch.no_grad():
        law.coefficients.copy_(torch.from_numpy(np.random.default_rng(3).normal(size=law.higher.count)))
    return law.requires_grad_(False)


def difference(law: SymmetricLaw, one: object, other: object, strain: np.ndarray = STRAIN) -> float:
    stress = np.asarray(one.stress, dtype=float) - np.asarray(other.stress, dtype=float)
    entries = np.asarray(one.tangent, dtype=float) - np.asarray(other.tangent, dtype=float)
    return relative_errors(law, strain, stress, mandel.unpack_upper(entries))


class TestChoice:
    def test_c_from_the_point_where_it_pays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evaluator, "WORTHWHILE", 700)
        law = some_law()
        first = law.response(STRAIN)
        assert law.evaluator.backend == "torch"
        law.response(STRAIN)
        assert law.evaluator.backend == "torch"
        third = law.response(STRAIN)
        assert law.evaluator.backend == "c" and repr(law.evaluator) == "Evaluator(SymmetricLaw, backend='c', 1 thread)"
        assert difference(law, first, third) < 1e-13
        # few points go where the library is, tensors too
        assert np.array_equal(law.response(torch.from_numpy(STRAIN[:3])).stress.numpy(), third.stress[:3])

    def test_a_short_script_compiles_nothing(self) -> None:
        law = some_law()
        law.response(np.zeros((evaluator.WORTHWHILE - 1, 6)), tangent=False)
        assert law.evaluator.backend == "torch"

    def test_changed_parameters_are_never_met_by_an_old_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evaluator, "WORTHWHILE", 300)
        law = some_law()
        before = law.response(STRAIN)
        assert law.evaluator.backend == "c"
        with torch.no_grad():
            law.network.last.mul_(1.5)
        assert law.evaluator.backend == "torch"
        after = Evaluator(law, "torch").response(STRAIN)
        assert difference(law, before, after) > 1e-3
        assert difference(law, law.response(STRAIN), after) < 1e-13
        asked = Evaluator(law, "c")
        with torch.no_grad():
            law.network.last.mul_(1.5)
        assert difference(law, asked.response(STRAIN), Evaluator(law, "torch").response(STRAIN)) < 1e-13
        assert asked.backend == "c"
        law.max_strain = 0.01  # what decides the status counts too
        assert np.count_nonzero(law.response(STRAIN).status) > np.count_nonzero(before.status)

    def test_a_copy_has_an_evaluator_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evaluator, "WORTHWHILE", 300)
        law = some_law()
        law.response(STRAIN)
        twin = copy.deepcopy(law)
        with torch.no_grad():
            twin.network.last.mul_(2.0)
        assert twin.evaluator.law is twin and twin.evaluator.backend == "torch"
        assert difference(law, law.response(STRAIN), twin.response(STRAIN)) > 1e-3
        with pytest.raises(ValueError, match="evaluator of this law"):
            twin.evaluator = law.evaluator

    def test_without_a_compiler_torch_and_one_line(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(evaluator, "WORTHWHILE", 300)
        monkeypatch.setattr(evaluator, "_said", set())
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CC", raising=False)
        library.compiler.cache_clear()
        try:
            laws = [some_law(), some_law("4/m")]
            for law in laws * 2:
                law.response(STRAIN)
            said = capfd.readouterr().err
            assert said.count("expected a C compiler, got none") == 1
            assert laws[0].evaluator.backend == "torch" and "apt install gcc" in repr(laws[0].evaluator)
            with pytest.raises(ValueError, match="apt install gcc"):
                Evaluator(laws[0], "c")
        finally:
            library.compiler.cache_clear()

    def test_a_library_that_disagrees_is_not_used(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
    ) -> None:
        """Negative control of the check: a compiler that gets a constant wrong."""
        from constitutive import ckernel

        right, constant = ckernel.c_source, "0x1.555555555555ap-3"
        assert constant in right(some_law())
        monkeypatch.setattr(ckernel, "c_source", lambda law: right(law).replace(constant, "0x1.5555554p-3"))
        with pytest.raises(ValueError, match="C disagrees with torch"):
            Evaluator(some_law(), "c")
        assert "not used" in capfd.readouterr().err

    def test_other_families_stay_in_torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evaluator, "WORTHWHILE", 10)
        law = NeoHookeanLaw(40.0, 60.0)
        law.response(STRAIN)
        assert law.evaluator.backend == "torch" and "not supported: NeoHookeanLaw" in repr(law.evaluator)

    def test_mistakes_get_a_sentence(self) -> None:
        law = some_law()
        for options, match in (
            ({"backend": "fortran"}, "backend in auto"),
            ({"threads": 0}, "threads ≥ 1"),
            ({"chunk": 0}, "chunk ≥ 1"),
            ({"tangent_dtype": np.float16}, "float64 or float32"),
        ):
            with pytest.raises(ValueError, match=match):
                Evaluator(law, **options)


@pytest.mark.parametrize("backend", ["torch", "c"])
class TestEveryBackend:
    @pytest.mark.parametrize("n", [0, 1, 7, 300])
    def test_any_number_of_points(self, backend: str, n: int) -> None:
        law = some_law()
        answer = Evaluator(law, backend).response(STRAIN[:n])
        assert answer.tangent.shape == (n, 21) and answer.state.shape == (n, 0) and answer.status.dtype == np.int8
        if n:
            assert difference(law, answer, Evaluator(law, "torch").response(STRAIN[:n]), STRAIN[:n]) < 1e-13

    def test_chunks_and_order(self, backend: str) -> None:
        law = some_law("-3")
        whole = Evaluator(law, backend).response(STRAIN)
        order = np.random.default_rng(0).permutation(len(STRAIN))
        parts = Evaluator(law, backend, chunk=7).response(STRAIN[order], orientation=None)
        for field in ("energy", "stress", "tangent"):
            got, expected = getattr(parts, field), getattr(whole, field)[order]
            assert np.abs(got - expected).max() < 1e-13 * np.linalg.norm(law.stiffness())

    def test_single_precision_strains(self, backend: str) -> None:
        law = some_law()
        answer = Evaluator(law, backend).response(torch.from_numpy(STRAIN).float())
        assert answer.stress.dtype == answer.tangent.dtype == torch.float32
        assert difference(law, answer, Evaluator(law, "torch").response(STRAIN)) < 1e-5

    @pytest.mark.parametrize("one", [False, True])
    def test_orientation(self, backend: str, one: bool) -> None:
        """Crystal → sample, for each point or for all; turned by hand it is the same, the inverse is not."""
        law = some_law("-3m")
        turns = TURNS[0] if one else TURNS
        matrix = np.broadcast_to(mandel_rotation(turns), (300, 6, 6))
        answer = Evaluator(law, backend).response(STRAIN, orientation=turns)
        inside = law.response(np.einsum("nji,nj->ni", matrix, STRAIN))
        stress = np.einsum("nij,nj->ni", matrix, inside.stress)
        tangent = matrix @ mandel.unpack_upper(inside.tangent) @ np.swapaxes(matrix, 1, 2)
        assert (
            relative_errors(law, STRAIN, answer.stress - stress, mandel.unpack_upper(answer.tangent) - tangent) < 1e-13
        )
        assert np.allclose(answer.energy, inside.energy, rtol=1e-10, atol=1e-14)
        alone = Evaluator(law, backend).response(STRAIN, tangent=False, orientation=turns).stress
        assert relative_errors(law, STRAIN, alone - stress, np.zeros((300, 1))) < 1e-13
        inverse = Evaluator(law, backend).response(STRAIN, orientation=np.swapaxes(turns, -1, -2))
        assert difference(law, inverse, answer) > 1e-2

    def test_orientation_mistakes(self, backend: str) -> None:
        answer = Evaluator(some_law(), backend).response
        with pytest.raises(ValueError, match=r"orientation of shape \(3, 3\) or \(300, 3, 3\)"):
            answer(STRAIN, orientation=TURNS[:4])
        for spoil in (-1.0, 1.0 + 1e-6, np.nan):
            turns = TURNS.copy()
            turns[299] *= spoil
            with pytest.raises(ValueError, match="proper rotations"):
                answer(STRAIN, orientation=turns)

    def test_newton_with_a_tangent_in_float32(self, backend: str) -> None:
        """S(E) = S* to 1e-12 with float64 stress and float32 tangent; a stress of float32 stalls (negative control)."""
        law = some_law()
        target = law.response(STRAIN, tangent=False).stress
        mixed = Evaluator(law, backend, tangent_dtype=np.float32)

        def solve(rounded: bool) -> float:
            strain = np.zeros_like(STRAIN)
            for _ in range(12):
                answer = mixed.response(strain)
                assert answer.tangent.dtype == np.float32 and answer.stress.dtype == np.float64
                stress = answer.stress.astype(np.float32) if rounded else answer.stress
                step = np.linalg.solve(mandel.unpack_upper(answer.tangent).astype(float), (target - stress)[..., None])
                strain = strain + step[..., 0]
            return float(np.abs(mixed.response(strain).stress - target).max() / np.abs(target).max())

        assert solve(rounded=False) < 1e-12
        assert solve(rounded=True) > 1e-9

    def test_stress_alone_is_cheaper(self, backend: str) -> None:
        law = some_law(widths=(32, 32))
        tool, strain = Evaluator(law, backend), np.tile(STRAIN, (30, 1))

        def seconds(tangent: bool) -> float:
            start = time.process_time()
            tool.response(strain, tangent=tangent)
            return time.process_time() - start

        both = [(seconds(False), seconds(True)) for _ in range(7)]
        assert min(alone for alone, _ in both) < 0.75 * min(whole for _, whole in both)


def test_orientation_of_a_law_with_a_state() -> None:
    """Laws that only torch evaluates take an orientation too: an isotropic one does not notice."""
    law = VonMisesLaw(100.0, 0.3, 0.3)
    straight, turned = law.response(STRAIN, dt=0.1), law.response(STRAIN, dt=0.1, orientation=TURNS)
    assert np.any(straight.state != 0.0)
    assert np.allclose(turned.stress, straight.stress, atol=1e-12)
    assert np.allclose(turned.tangent, straight.tangent, atol=1e-11)


def test_compiled_torch_is_torch() -> None:
    """Of the law that compiles fastest; `tests/benchmarks/evaluator.py` prints it for a network."""
    law = NeoHookeanLaw(40.0, 60.0)
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler, and there is none")
    compiled, plain = Evaluator(law, "compiled", chunk=128), Evaluator(law, "torch")
    assert compiled.backend == "compiled" and "backend='compiled'" in repr(compiled)
    for n in (0, 1, 127, 300):  # a last chunk that is not whole is filled up
        ours, theirs = compiled.response(STRAIN[:n]), plain.response(STRAIN[:n])
        assert difference(law, ours, theirs, STRAIN[:n]) < 1e-13 if n else ours.stress.shape == (0, 6)
        assert np.array_equal(ours.status, theirs.status)
    alone = compiled.response(STRAIN, tangent=False)
    assert alone.tangent is None and np.abs(alone.stress - theirs.stress).max() < 1e-13 * 100.0
    with pytest.raises(ValueError, match="not supported: VonMisesLaw through torch.compile"):
        Evaluator(VonMisesLaw(200.0, 0.3, 0.2), "compiled")


class TestStream:
    """Chunks through a device in two slots; on the CPU all of it runs but the CUDA calls themselves."""

    @pytest.mark.parametrize("n", [0, 1, 64, 65, 300])
    @pytest.mark.parametrize("turns", ["none", "one", "each"])
    def test_is_torch(self, n: int, turns: str) -> None:
        law = some_law()
        strain, turn = STRAIN[:n].copy(), {"none": None, "one": TURNS[0], "each": TURNS[:n]}[turns]
        strain[n // 2 : n // 2 + 1] = np.nan
        stream, plain = Evaluator(law, "stream", chunk=64), Evaluator(law, "torch")
        assert stream.backend == "stream"
        for tangent in (True, False, True):
            ours = stream.response(strain, tangent=tangent, orientation=turn)
            theirs = plain.response(strain, tangent=tangent, orientation=turn)
            assert np.array_equal(ours.status, theirs.status) and (ours.tangent is None) is not tangent
            for a, b in zip(ours[: 2 + tangent], theirs[: 2 + tangent], strict=True):
                assert a.shape == b.shape and np.allclose(a, b, rtol=1e-13, atol=1e-12, equal_nan=True)

    def test_slots_take_turns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A chunk is under way while the next is filled in; negative control: with one slot for both, chunks are lost."""
        under_way: list[int] = []
        run = streaming._Slot.compute

        def watched(slot: object, evaluate: object) -> None:
            under_way.append(sum(other.under_way is not None for other in stream._slots))
            run(slot, evaluate)

        monkeypatch.setattr(streaming._Slot, "compute", watched)
        stream = streaming.ChunkStream(lambda rows: [2.0 * rows], 3, 2, [(2, torch.float64)], torch.device("cpu"))
        rows, answer = (
            torch.arange(20.0, dtype=torch.float64).reshape(10, 2),
            torch.full((10, 2), -1.0, dtype=torch.float64),
        )
        stream.run([rows], [answer])
        assert torch.equal(answer, 2.0 * rows) and under_way == [0, 1, 1, 1]
        monkeypatch.setattr(streaming.ChunkStream, "_collect", lambda *_: None)
        stream.run([rows + 1.0], [answer])
        assert torch.equal(answer, 2.0 * rows)

    def test_parameters_that_change(self) -> None:
        law = some_law()
        stream = Evaluator(law, "stream", chunk=64)
        before = stream.response(STRAIN)
        with torch.no_grad():
            law.network.last.mul_(1.5)
        after = stream.response(STRAIN)
        assert difference(law, before, after) > 1e-3
        assert difference(law, after, Evaluator(law, "torch").response(STRAIN)) < 1e-13

    def test_float32_tangent_and_mistakes(self) -> None:
        law = some_law()
        single = Evaluator(law, "stream", chunk=64, tangent_dtype=np.float32).response(STRAIN)
        assert single.tangent.dtype == np.float32 and single.stress.dtype == np.float64
        assert difference(law, single, Evaluator(law, "torch").response(STRAIN)) < 1e-5
        with pytest.raises(ValueError, match="not supported: VonMisesLaw through streams"):
            Evaluator(VonMisesLaw(200.0, 0.3, 0.2), "stream")

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the stream's CUDA calls have never run")
    def test_on_a_gpu(self) -> None:
        law = some_law()
        there = copy.deepcopy(law).cuda()
        ours = Evaluator(there, "stream", chunk=64).response(STRAIN, orientation=TURNS)
        assert difference(law, ours, law.response(STRAIN, orientation=TURNS)) < 1e-13
        on_device = there.response(torch.from_numpy(STRAIN).cuda())
        assert on_device.stress.device.type == "cuda"


_MILLIONS = """
import resource, sys, numpy as np, torch
from constitutive import Evaluator, PolynomialLaw
from crystals import PointGroup
n = int(sys.argv[1])
strain = np.full((n, 6), 0.01)
tool = Evaluator(PolynomialLaw(PointGroup("m-3m"), 3, 100.0 * np.eye(6)), sys.argv[2])
tool.response(strain[:5000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
answer = tool.response(strain)
own = sum(a.nbytes for a in answer)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert np.all(answer.stress == answer.stress[0]) if sys.argv[2] == "c" else True
print((after - before) * 1024 - own)
"""


@pytest.mark.parametrize(("backend", "n"), [("c", 10**7), ("torch", 10**5)])
def test_memory_is_the_callers_own_arrays(backend: str, n: int) -> None:
    """10⁷ points, stress and 21 entries: what is used beyond strain and answer does not grow with n (1 GiB allowed)."""
    answer = subprocess.run(
        [sys.executable, "-c", _MILLIONS, str(n), backend], capture_output=True, text=True, check=True, timeout=300
    )
    assert int(answer.stdout.split()[-1]) < 2**28


def test_a_million_points() -> None:
    law = PolynomialLaw(PointGroup("m-3m"), 3, 100.0 * np.eye(6))
    strain = np.tile(STRAIN, (3334, 1))[: 10**6]
    answer = law.response(strain)
    assert law.evaluator.backend == "c"
    few = Evaluator(law, "torch").response(STRAIN)
    assert np.array_equal(answer.stress[:300], answer.stress[300:600])
    assert np.abs(answer.tangent[-100:] - few.tangent[(10**6 - 100) % 300 :][:100]).max() < 1e-11


SYMMETRIC = some_law("-3")
PLASTIC = VonMisesLaw(200.0, 0.3, 0.4, isotropic=10.0, kinematic=5.0)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    law=st.sampled_from([SYMMETRIC, PLASTIC]),
    n=st.integers(0, 60),
    chunk=st.integers(1, 70),
    backend=st.sampled_from(["torch", "stream"]),
    tangent=st.booleans(),
    how=st.sampled_from(["no turn", "one turn", "turns"]),
)
def test_any_chunk_gives_the_answer_of_the_whole(law, n, chunk, backend, tangent, how) -> None:
    """Points answer for themselves: however they are cut, with whatever NaN among them, and in their order."""
    backend = "torch" if law is PLASTIC else backend
    strain = STRAIN[:n].copy()
    strain[n // 2 : n // 2 + 1, 3] = np.nan
    turns = {"no turn": None, "one turn": TURNS[0], "turns": TURNS[:n]}[how]
    whole = Evaluator(law, "torch", chunk=1000).response(strain, dt=1.0, tangent=tangent, orientation=turns)
    parts = Evaluator(law, backend, chunk=chunk).response(strain, dt=1.0, tangent=tangent, orientation=turns)
    assert np.array_equal(parts.status, whole.status) and (parts.status == INVALID).sum() == min(n, 1)
    scale = np.linalg.norm(law.stiffness())
    for field in ("energy", "stress", "state", *(["tangent"] if tangent else [])):
        got, expected = getattr(parts, field), getattr(whole, field)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13 * scale, equal_nan=True)
    assert tangent or parts.tangent is None
