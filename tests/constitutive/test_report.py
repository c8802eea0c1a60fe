"""The report: one file that needs no other, with the law's own figures, safe against what files say."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constitutive import Law, NeoHookeanLaw, PolynomialLaw, fit, predicted_stress
from constitutive.laws.polynomial import higher_order_polynomials
from constitutive.report import main_directions, write_report
from crystals import PointGroup, StrainData, mandel
from crystals.atomistic import plan_strains
from crystals.moduli import hill_average, young
from crystals.rotations import random_rotations


@pytest.fixture(scope="module")
def fitted() -> tuple[Law, StrainData]:
    """A law fitted to a cubic solid whose file's cell is half a per cent too small, in a turned frame."""
    group = PointGroup("m-3m")
    voigt = np.pad(np.full((3, 3), 115.0), (0, 3)) + np.diag([57.0] * 3 + [90.0] * 3)
    polynomials = higher_order_polynomials(group, 3)
    coefficients = np.random.default_rng(3).normal(size=len(polynomials)) * 150.0
    truth = PolynomialLaw(group, 3, mandel.stiffness_from_voigt(voigt), coefficients)
    strain = plan_strains(48, 0.05)
    stretch = 1.005
    inner = (strain - 0.5 * (stretch**2 - 1) * mandel.IDENTITY) / stretch**2
    answer = truth.response(inner)
    gradient = mandel.right_stretch(strain)
    stress = stretch * answer.stress * (1 + 1e-3 * np.random.default_rng(0).normal(size=answer.stress.shape))
    data = StrainData(
        strain=strain, stress=stress, energy=stretch**3 * answer.energy, deformation_gradient=gradient,
        cauchy=mandel.cauchy_stress(stress, gradient), group=group, kind="relaxed-ion",
        provenance={"source": "<script>alert(1)</script> & co"},
    )  # fmt: skip
    return fit(data, order=3, progress=False), data


def pictures(page: str) -> list[bytes]:
    return [base64.b64decode(code) for code in re.findall(r'<img [^>]*src="data:image/png;base64,([^"]+)"', page)]


def without_pictures(page: str) -> str:
    return re.sub(r"<img [^>]*>", "", page)


def test_report_holds_the_figures_of_law_and_data(fitted: Any, tmp_path: Path) -> None:
    law, data = fitted
    write_report(law, data, tmp_path / "law.html", states=30)
    page = (tmp_path / "law.html").read_text()
    assert list(tmp_path.iterdir()) == [tmp_path / "law.html"]
    found = pictures(page)
    assert len(found) == 4 and all(code[:4] == b"\x89PNG" and len(code) > 8000 for code in found)
    text = without_pictures(page)
    # it needs no other file and runs nothing, and what the file says of itself is text
    assert not re.search(r"<script|<link|<iframe|src=|href=|url\(", text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in text
    for name, value in law.elastic_constants(2).items():
        assert f'<td>{name}</td><td class="n">{value:.2f}</td>' in text
    for name, value in law.elastic_constants(3).items():
        assert f'<td>{name}</td><td class="n">{value:.0f}</td>' in text
    bulk, shear = hill_average(law.stiffness())
    assert f'<td>Hill</td><td class="n">{bulk:.1f}</td><td class="n">{shear:.1f}</td>' in text
    assert f"{float(young(law.stiffness(), [1, 1, 1])):.1f} along (0.577, 0.577, 0.577)" in text
    # the split of the fit is found again: these are the law's own figures
    figures = law.metadata["fit"]
    for label, count, error in (
        ("training", figures["training_states"], figures["training_stress_error"]),
        ("held out", figures["held_out_states"], figures["held_out_stress_error"]),
    ):
        assert f'<td>{label}</td><td class="n">{count}</td><td class="n">{100 * error:.3g}</td>' in text
    assert "passed" in text and "FAILED" not in text


def test_split_is_not_claimed_for_other_data(fitted: Any, tmp_path: Path) -> None:
    """Control: with stresses that are not those of the fit, all states are shown alike, and with another unit refused."""
    law, data = fitted
    other = replace(data, stress=1.001 * data.stress)
    write_report(law, other, tmp_path / "law.html", states=5)
    text = without_pictures((tmp_path / "law.html").read_text())
    assert "all states" in text and "could not be drawn again" in text and "held out" not in text
    with pytest.raises(ValueError, match="expected data in GPa, the unit of the law, got Pa"):
        write_report(law, replace(data, units="Pa"), tmp_path / "other.html")
    with pytest.raises(ValueError, match="expected held_out as 48 booleans"):
        write_report(law, data, tmp_path / "other.html", held_out=np.zeros(3, dtype=bool))
    with pytest.raises(ValueError, match=r"predicted of shape \(48, 6\)"):
        write_report(law, data, tmp_path / "other.html", predicted=np.zeros((1, 6)))
    assert not (tmp_path / "other.html").exists()


def test_prediction_counts_from_the_file_s_cell(fitted: Any) -> None:
    law, data = fitted
    error = np.linalg.norm(predicted_stress(law, data.strain) - data.stress) / np.linalg.norm(data.stress)
    naive = np.linalg.norm(law.response(data.strain).stress - data.stress) / np.linalg.norm(data.stress)
    assert error < 5e-3 and naive > 10 * error


@pytest.mark.parametrize("law", [
    NeoHookeanLaw(40.0, 60.0, units="<GPa>"),
    PolynomialLaw(PointGroup("-1", random_rotations(1, np.random.default_rng(0))[0]), 2, np.diag([90.0, 80, 70, 60, 50, 40]),
                  max_strain=0.05),
], ids=["isotropic", "triclinic"])  # fmt: skip
def test_laws_without_data(law: Law, tmp_path: Path) -> None:
    write_report(law, None, tmp_path / "law.html", states=5)
    page = (tmp_path / "law.html").read_text()
    assert len(pictures(page)) == 3 and "<h2>Fit</h2>" not in page and "<GPa>" not in page


def test_directions_turn_with_the_frame() -> None:
    frame = random_rotations(1, np.random.default_rng(1))[0]
    turned, standard = main_directions(PointGroup("432", frame)), main_directions(PointGroup("432"))
    assert list(turned) == ["[100]", "[110]", "[111]"]
    for name, way in standard.items():
        np.testing.assert_allclose(turned[name], frame @ way, atol=1e-15)
    assert list(main_directions(PointGroup("2/m"))) == ["x", "y", "z"]


def test_what_has_no_report(tmp_path: Path) -> None:
    law = NeoHookeanLaw(1.0, 1.0)
    with pytest.raises(ValueError, match="ends in .html, got"):
        write_report(law, None, tmp_path / "law.pdf")
    small = PolynomialLaw(PointGroup("m-3m"), 2, 100.0 * np.eye(6), strain_measure="small")
    with pytest.raises(ValueError, match="Not supported: reports of small-strain"):
        write_report(small, None, tmp_path / "law.html")
    with pytest.raises(OSError, match="existing folder"):
        write_report(law, None, tmp_path / "nowhere" / "law.html")
