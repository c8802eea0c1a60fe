"""Generated C: the same law as in torch, for every class and form, and never depending on a point's neighbours."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from constitutive import INVALID, OK, OUT_OF_RANGE, Evaluator, NeoHookeanLaw, PolynomialLaw, SymmetricLaw
from constitutive.audit import ball_strains, relative_errors, sample_strains
from constitutive.ckernel import c_source, header, library
from constitutive.cli import main
from constitutive.laws.domain import Domain
from constitutive.laws.polynomial import higher_order_polynomials
from crystals import STRAIN_CLASSES, PointGroup, mandel
from crystals.rotations import random_rotations

SEED = 4
STRAIN = sample_strains(0.15, 251, np.random.default_rng(0))


def some_law(
    symbol: str, form: str = "invariants", measure: float = 1.0, order: int = 3, **options: object
) -> SymmetricLaw:
    """A law with every part switched on, in a turned frame, with a domain."""
    generator = np.random.default_rng(SEED)
    group = PointGroup(symbol, random_rotations(1, generator)[0])
    options = {"strain_measure": "green_lagrange", "widths": (9, 5), **options}
    law = SymmetricLaw(
        group, order, network=form, measure=measure, stiffness=100.0 * np.eye(6), energy_scale=100.0, strain_scale=0.1,
        max_strain=0.1, seed=2, **options,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in law.parameters():
            parameter.add_(0.3 * torch.from_numpy(generator.normal(size=tuple(parameter.shape))))
    law.requires_grad_(False)
    law.domain = Domain.from_strains(group, ball_strains(0.1, 200, np.random.default_rng(1)))
    return law


def error(law: SymmetricLaw | PolynomialLaw, strain: np.ndarray = STRAIN) -> float:
    ours, theirs = Evaluator(law, "c").response(strain), Evaluator(law, "torch").response(strain)
    assert np.array_equal(ours.status, theirs.status) and {OK, OUT_OF_RANGE} <= set(ours.status.tolist())
    assert np.max(np.abs(ours.energy - theirs.energy)) < 1e-13 * np.linalg.norm(law.stiffness()) * law.max_strain**2
    difference = mandel.unpack_upper(ours.tangent - theirs.tangent)
    return relative_errors(law, strain, ours.stress - theirs.stress, difference)


@pytest.mark.parametrize("measure", [1.0, 0.3])
def test_c_is_torch_where_a_fit_chose_no_network(measure: float) -> None:
    """Few data leave a law its polynomial alone."""
    assert error(some_law("m-3m", "none", measure=measure, widths=())) < 1e-13


@pytest.mark.parametrize(
    ("symbol", "measure"), [(symbol, (1.0, -1.0, 0.3)[i % 3]) for i, symbol in enumerate(STRAIN_CLASSES)]
)
def test_c_is_torch_for_every_class(symbol: str, measure: float) -> None:
    assert error(some_law(symbol, measure=measure)) < 1e-13


@pytest.mark.parametrize("symbol", ["-1", "2/m", "4/m", "-3", "-3m", "m-3m", "∞/mm", "∞∞m"])
def test_the_edge_of_the_domain_is_where_torch_has_it(symbol: str) -> None:
    """C sums the score in another order, of sparser features: the flags agree a billionth within and beyond the edge."""
    law = some_law(symbol, "none", widths=(), order=2)
    strain = ball_strains(0.1, 203, np.random.default_rng(3))
    strain *= 0.1 / np.linalg.norm(strain, axis=1)[:, None]
    low, high = np.zeros(len(strain)), np.full(len(strain), 2.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        inside = law.domain.contains(middle[:, None] * strain)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    for scale, flag in ((1.0 - 1e-9, OK), (1.0 + 1e-9, OUT_OF_RANGE)):
        edge = (scale * low)[:, None] * strain
        for backend in ("c", "torch"):
            assert np.all(Evaluator(law, backend).response(edge).status == flag)


@pytest.mark.parametrize(("symbol", "form"), [("m-3m", "average"), ("-3m", "directions"), ("m-3", "directions")])
def test_c_is_torch_for_every_form(symbol: str, form: str) -> None:
    assert error(some_law(symbol, form, -1.0, order=2)) < 1e-13


def test_c_is_torch_for_the_mean_of_members() -> None:
    assert error(some_law("m-3m", "directions", order=2, members=3)) < 1e-13


@pytest.mark.parametrize("widths", [(1,), (3, 17, 8)])
def test_any_number_and_width_of_layers(widths: tuple[int, ...]) -> None:
    assert error(some_law("4/mmm", widths=widths, order=1)) < 1e-12  # at order 1 C(0) is a network's, and may be small


@pytest.mark.parametrize(("symbol", "measure"), [("-1", "green_lagrange"), ("∞∞m", "small")])
def test_polynomial_laws(symbol: str, measure: str) -> None:
    group = PointGroup(symbol, random_rotations(1, np.random.default_rng(3))[0])
    count = len(higher_order_polynomials(group, 4))
    law = PolynomialLaw(
        group, 4, 100.0 * np.eye(6), 300.0 * np.random.default_rng(1).normal(size=count), max_strain=0.1,
        strain_measure=measure,
    )  # fmt: skip
    assert error(law) < 1e-13


def test_another_law_is_another_library() -> None:
    """Negative control: parity sees a change of one weight by a millionth."""
    law = some_law("m-3m")
    ours = Evaluator(law, "c").response(STRAIN)
    with torch.no_grad():
        law.network.weights[0][0, 0] += 1e-6
    theirs = Evaluator(law, "torch").response(STRAIN)
    zero = np.zeros((len(STRAIN), 1))
    assert relative_errors(law, STRAIN, ours.stress - theirs.stress, zero) > 1e-12
    assert error(law) < 1e-13


def test_neighbours_number_and_order_change_no_bit() -> None:
    law = some_law("-3m", measure=0.0)
    one, two = Evaluator(law, "c"), Evaluator(law, "c", threads=2)
    strain = sample_strains(0.12, 3 * library.SHARE + 1, np.random.default_rng(1))
    turn = random_rotations(len(strain), np.random.default_rng(2))
    whole = one.response(strain, orientation=turn)
    order = np.random.default_rng(3).permutation(len(strain))
    shuffled, threaded = one.response(strain[order], orientation=turn[order]), two.response(strain, orientation=turn)
    for name in ("energy", "stress", "tangent", "status"):
        assert np.array_equal(getattr(shuffled, name), getattr(whole, name)[order])
        assert np.array_equal(getattr(threaded, name), getattr(whole, name))
    for n in (0, 1, 2, 3, 5, 9):
        part = one.response(strain[:n], orientation=turn[:n])
        assert part.stress.shape == (n, 6) and np.array_equal(part.tangent, whole.tangent[:n])
        assert np.array_equal(one.response(strain[:n], tangent=False, orientation=turn[:n]).stress, whole.stress[:n])


def test_bad_points_leave_the_others_alone() -> None:
    evaluator = Evaluator(some_law("m-3m", measure=-1.0), "c")
    strain = sample_strains(0.05, 11, np.random.default_rng(0))
    clean, spoilt = evaluator.response(strain), strain.copy()
    spoilt[1, 3], spoilt[4, 1], spoilt[6, 0], spoilt[8] = np.nan, -np.inf, -0.6, 0.2
    answer = evaluator.response(spoilt)
    assert answer.status[[1, 4, 6, 8]].tolist() == [INVALID, INVALID, INVALID, OUT_OF_RANGE]
    for values, expected in zip(answer[:3], clean[:3], strict=True):
        assert np.isnan(values[[1, 4, 6]]).all() and np.isfinite(values[8]).all()
        good = [0, 2, 3, 5, 7, 9, 10]
        assert np.array_equal(values[good], expected[good])


def test_far_strains_saturate_activations_without_overflow() -> None:
    law = some_law("m-3m", order=2)
    far = np.array([[30.0, 30, 30, 0, 0, 0], [200.0, 0, 0, 0, 0, 0], [3.0, 1, 1, 0.5, 0, 0]])
    ours, theirs = Evaluator(law, "c").response(far), Evaluator(law, "torch").response(far)
    assert np.isfinite(ours.tangent).all()
    assert np.allclose(ours.stress, theirs.stress, rtol=1e-12) and np.allclose(ours.energy, theirs.energy, rtol=1e-12)


def test_the_reference_state_is_exact() -> None:
    rest = Evaluator(some_law("-3", measure=-1.0), "c").response(np.zeros((1, 6)))
    assert rest.energy[0] == 0.0 and not np.any(rest.stress)


def test_what_has_no_c_says_so() -> None:
    with pytest.raises(ValueError, match="not supported: NeoHookeanLaw in C"):
        c_source(NeoHookeanLaw(1.0, 1.0))
    with pytest.raises(ValueError, match="not supported: NeoHookeanLaw in C"):
        Evaluator(NeoHookeanLaw(1.0, 1.0), "c")
    law = some_law("m-3m")
    for name in ("9law", "a b", "x;y", ""):
        with pytest.raises(ValueError, match="C identifier"):
            c_source(law, name)
    with torch.no_grad():
        law.network.last[0] = np.nan
    with pytest.raises(ValueError, match="finite parameters"):
        c_source(law)


def test_a_title_cannot_leave_its_comment() -> None:
    source = c_source(some_law("m-3m"), title="x */ int main(void) { return 1; } /* \\\n")
    assert "*/" not in source.split("\n")[0] and source.count("int main") == 1 and "x ?" in source


def test_any_c99_compiler_will_do(tmp_path: Path) -> None:
    """Without GCC's vector types: one point at a time, the same answer, and no warning."""
    law = some_law("4/m", measure=0.0)
    (tmp_path / "law.c").write_text(c_source(law), encoding="utf-8")
    (tmp_path / "law.h").write_text(header(), encoding="utf-8")
    command, _, _ = library.compiler()
    subprocess.run(
        [*command, "-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-DONE_LANE", "-O1", "-fPIC", "-shared",
         "law.c", "-o", "law.so", "-lm"], cwd=tmp_path, check=True,
    )  # fmt: skip
    n = len(STRAIN)
    energy, stress, tangent, status = np.empty(n), np.empty((n, 6)), np.empty((n, 21)), np.empty(n, dtype=np.int8)
    library.CLibrary(tmp_path / "law.so")(STRAIN, None, energy, stress, tangent, status)
    theirs = Evaluator(law, "torch").response(STRAIN)
    assert np.array_equal(status, theirs.status)
    difference = mandel.unpack_upper(tangent - theirs.tangent)
    assert relative_errors(law, STRAIN, stress - theirs.stress, difference) < 1e-13


class TestCache:
    @pytest.fixture(autouse=True)
    def own_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        library.cache_folder.cache_clear()
        yield tmp_path / "constitutive"
        library.cache_folder.cache_clear()

    SOURCE = "int law_response(void) { return 0; }"

    def test_built_once_in_a_folder_of_ones_own(self, own_folder: Path, capfd: pytest.CaptureFixture) -> None:
        first = library.build(self.SOURCE, "a law")
        assert "compiled a law" in capfd.readouterr().err
        assert library.build(self.SOURCE, "a law") == first and capfd.readouterr().err == ""
        assert stat.S_IMODE(own_folder.stat().st_mode) == 0o700
        assert library.build(self.SOURCE.replace("0", "1"), "another") != first

    def test_an_open_folder_is_closed(self, own_folder: Path) -> None:
        own_folder.mkdir()
        own_folder.chmod(0o777)
        library.build(self.SOURCE, "a law", quiet=True)
        assert stat.S_IMODE(own_folder.stat().st_mode) == 0o700

    @pytest.mark.parametrize("how", ["content", "writable", "link", "no record"])
    def test_what_was_tampered_with_is_built_again(self, how: str, tmp_path: Path) -> None:
        path = library.build(self.SOURCE, "a law", quiet=True)
        good = path.read_bytes()
        evil = tmp_path / "evil.so"
        evil.write_bytes(good + b"x")
        if how == "content":
            path.write_bytes(good + b"x")
        elif how == "writable":
            path.chmod(0o722)
        elif how == "link":
            path.unlink()
            path.symlink_to(evil)
        else:
            path.with_suffix(".sha256").unlink()
        again = library.build(self.SOURCE, "a law", quiet=True)
        assert again == path and again.is_file() and not again.is_symlink()
        assert not stat.S_IMODE(again.stat().st_mode) & 0o022 and again.read_bytes() != good + b"x"
        assert evil.read_bytes() == good + b"x"

    def test_a_folder_that_is_not_ours_is_left_alone(self, tmp_path: Path, own_folder: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        own_folder.symlink_to(elsewhere)
        path = library.build(self.SOURCE, "a law", quiet=True)
        assert own_folder not in path.parents and not list(elsewhere.iterdir())
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    @pytest.mark.parametrize("how", ["owner", "everybody", "file"])
    def test_a_folder_that_others_rule_is_refused_in_a_sentence(
        self, how: str, tmp_path: Path, own_folder: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if how == "owner":
            if os.geteuid() != 0:
                pytest.skip("only root gives folders away")
            own_folder.mkdir()
            os.chown(own_folder, 65534, 65534)
        elif how == "everybody":
            (tmp_path / "open").mkdir()
            (tmp_path / "open").chmod(0o777)
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "open"))
            own_folder = tmp_path / "open" / "constitutive"
        else:
            own_folder.write_text("")
        path = library.build(self.SOURCE, "a law", quiet=True)
        assert own_folder not in path.parents and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        said = capfd.readouterr().err
        reason = {"owner": "it belongs to user 65534", "everybody": "everybody may write to", "file": "exists"}[how]
        assert "expected a folder of this user's own, got" in said and reason in said and "set XDG_CACHE_HOME" in said
        if how == "everybody":  # negative control: with the sticky bit, as /tmp has, nobody else can move it away
            (tmp_path / "open").chmod(0o1777)
            library.cache_folder.cache_clear()
            assert own_folder in library.build(self.SOURCE, "a law", quiet=True).parents

    def test_files_of_the_cache_belong_to_the_user_alone(self) -> None:
        path = library.build(self.SOURCE, "a law", quiet=True)
        for entry in path.parent.iterdir():
            assert not stat.S_IMODE(entry.stat().st_mode) & 0o022, entry.name

    def test_no_shell_reads_the_compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        library.compiler.cache_clear()
        monkeypatch.setenv("CC", f"cc; touch {tmp_path}/shell")
        with pytest.raises(OSError, match="expected a C compiler, got none"):
            library.compiler()
        library.compiler.cache_clear()
        assert not os.path.exists(tmp_path / "shell")


def test_an_exported_law_checks_itself(tmp_path: Path) -> None:
    law = tmp_path / "9 of-copper.law"
    some_law("m-3m", measure=-1.0).save(law)
    target = tmp_path / "9 of-copper.c"
    result = CliRunner().invoke(main, ["export", str(law), "--to", "c", "-o", str(target), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["function"] == "law_9_of_copper_response"

    def run(*flags: str) -> subprocess.CompletedProcess:
        command = [*library.compiler()[0], "-Wall", "-Wextra", "-Werror", "-Wno-psabi", *flags]
        files = [str(target), str(tmp_path / "9 of-copper_test.c"), "-o", str(tmp_path / "check"), "-lm"]
        subprocess.run([*command, *files], check=True)
        return subprocess.run([tmp_path / "check"], capture_output=True, text=True, check=False)

    for flags in (("-O3", "-march=native", "-fopenmp"), ("-O1", "-std=c99", "-DONE_LANE")):
        answer = run(*flags)
        assert answer.returncode == 0 and "64 states" in answer.stdout and "passed" in answer.stdout
    # negative control: one weight moved
    source = target.read_text(encoding="utf-8")
    label = "net_last[5] = {\n    "
    assert source.count(label) == 1
    target.write_text(source.replace(label, label + "1e-6 + "), encoding="utf-8")
    answer = run("-O1")
    assert answer.returncode == 1 and "FAILED" in answer.stdout


def test_export_mistakes_get_a_sentence(tmp_path: Path) -> None:
    law = tmp_path / "a.law"
    NeoHookeanLaw(1.0, 1.0).save(law)
    result = CliRunner().invoke(main, ["export", str(law), "-o", str(tmp_path / "a.c")])
    assert result.exit_code == 2 and "not supported: NeoHookeanLaw in C" in result.stderr
    result = CliRunner().invoke(main, ["export", str(law), "-o", str(tmp_path / "a.txt")])
    assert result.exit_code == 2 and "ends in .c" in result.stderr and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "stem", ["a'b", "$(touch owned)", "`touch owned`", "a; touch owned;", "*", "ü law", "int", "%s%n", "@LAW@", "a??="]
)
def test_names_reach_neither_shell_nor_c(stem: str, tmp_path: Path) -> None:
    law = PolynomialLaw(PointGroup("m-3m"), 2, 100.0 * np.eye(6), units="GPa */ int evil; /* ??/ @LAW@ @NAME@ \n#error")
    path = tmp_path / f"{stem}.law"
    law.save(path)
    told = CliRunner().invoke(main, ["export", str(path), "-o", str(tmp_path / f"{stem}.c")])
    assert told.exit_code == 0, told.output
    command = next(line for line in told.output.splitlines() if line.startswith("check it: "))[10:]
    result = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and "passed" in result.stdout, result.stderr
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("stem", ['a"b', "a\nint evil;", "a\\b"])
def test_names_that_c_cannot_include_are_refused(stem: str, tmp_path: Path) -> None:
    law = tmp_path / "a.law"
    PolynomialLaw(PointGroup("m-3m"), 2, 100.0 * np.eye(6)).save(law)
    told = CliRunner().invoke(main, ["export", str(law), "-o", str(tmp_path / f"{stem}.c")])
    assert told.exit_code == 2 and "expected a file name without quotes" in told.output
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.law"]
