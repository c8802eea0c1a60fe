"""What notebooks show: well-formed HTML with the matrix, moduli and a picture; lazily, escaped, without side effects."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

import constitutive
from crystals import POINT_GROUPS, PointGroup, StrainData, mandel, stiffness_from_constants
from crystals.elastic_constants import independent_constants
from crystals.microstructure import Microstructure
from crystals.notebook import stiffness_html, stiffness_pattern, young_surface

ROOT = Path(__file__).parents[2]
CUBIC = stiffness_from_constants(PointGroup("m-3m"), {"C11": 168.4, "C12": 121.4, "C44": 75.4})


class Page(HTMLParser):
    """Texts and pictures of well-formed HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.pictures: list[bytes] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "img":
            self.open.append(tag)
            return
        source = dict(attrs)["src"] or ""
        assert source.startswith("data:image/png;base64,") and dict(attrs)["alt"]
        self.pictures.append(base64.b64decode(source.partition(",")[2], validate=True))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def shown() -> list[tuple[str, Any, tuple[str, ...]]]:
    group = PointGroup("m-3m")
    law = constitutive.PolynomialLaw(group, 2, CUBIC)
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    labels[:2] = 1
    image = constitutive.moduli(
        Microstructure(labels, name="<b>half</b>"), {0: "E=3 nu=0.3", 1: "E=70 nu=0.2"}, gear="exact"
    )
    strains = 0.02 * np.random.default_rng(0).uniform(-1, 1, (30, 6))
    answer, stretch = law.response(strains), mandel.right_stretch(strains)
    data = StrainData(
        strain=strains, stress=answer.stress, energy=answer.energy, deformation_gradient=stretch, group=group,
        cauchy=mandel.cauchy_stress(answer.stress, stretch),
    )  # fmt: skip
    return [
        ("law", law, ("168.4", "121.4", "75.4", "GPa")),
        ("plastic", constitutive.VonMisesLaw(210.0, 0.3, 0.25), ("282.7", "GPa")),
        ("image", image, ("&lt;b&gt;half&lt;/b&gt;", "bracket")),
        ("crystal", constitutive.moduli(bulk("NaCl", "rocksalt", a=5.64)), ("NaCl", "m-3m")),
        ("table", constitutive.elastic_table(data, order=2), ("168.4", "±")),
    ]


@pytest.fixture(scope="module")
def results() -> list[tuple[str, Any, tuple[str, ...]]]:
    return shown()


def test_html_has_matrix_moduli_and_a_picture(results):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    for name, result, expected in results:
        html = result._repr_html_()
        page = Page(html)
        assert all(text in html for text in expected), name
        assert "Young's modulus" in " ".join(page.texts) and "bulk, shear (Hill)" in page.texts, name
        (picture,) = page.pictures
        assert picture.startswith(b"\x89PNG") and 5_000 < len(picture) < 200_000, name
        assert len(html) < 300_000
    assert plt.get_fignums() == before


def test_repr_is_one_readable_line(results):
    for name, result, _ in results:
        assert 20 < len(repr(result)) < 250 and "\n" not in repr(result) and "array(" not in repr(result), name


def test_names_cannot_become_markup():
    html = stiffness_html("<script>alert(1)</script>", [("a<b", '"><img src=x onerror=y>')], CUBIC, "<i>GPa</i>")
    page = Page(html)
    assert page.tags <= {"div", "b", "table", "tr", "td", "caption", "img"} and len(page.pictures) == 1
    assert "<script>alert(1)</script>" in page.texts


def test_a_stiffness_that_gives_way_has_no_picture_and_says_why():
    page = Page(stiffness_html("powder", [], np.diag([1.0, 1, 1, 0, 0, 0]), "GPa"))
    assert not page.pictures and any("no modulus in some direction" in text for text in page.texts)


def test_the_surface_is_youngs_modulus():
    directions, young = young_surface(CUBIC)
    compliance = np.linalg.inv(CUBIC)
    assert young[0, 0] == pytest.approx(1.0 / compliance[2, 2]) and np.allclose(np.linalg.norm(directions, axis=-1), 1)
    assert young.max() / young.min() > 2  # copper; negative control: an isotropic body is a sphere
    isotropic = stiffness_from_constants(PointGroup("isotropic"), {"C11": 3.0, "C12": 1.0})
    assert np.ptp(young_surface(isotropic)[1]) < 1e-12


@pytest.mark.parametrize("symbol", POINT_GROUPS)
def test_group_html_and_pattern(symbol):
    group = PointGroup(symbol)
    page = Page(group._repr_html_())
    assert f"point group {symbol}" in page.texts and len(page.pictures) == group.is_finite
    # the pattern, read as arithmetic, is the stiffness of random constants
    names = independent_constants(group)
    values = dict(zip(names, np.random.default_rng(3).uniform(1, 2, len(names)), strict=True))
    expected = mandel.stiffness_to_voigt(stiffness_from_constants(group, values))
    for row, entries in enumerate(stiffness_pattern(group)):
        for column, text in enumerate(entries):
            sum_ = text.replace("½", "0.5*").replace("−", "-").replace("·", "0")
            assert eval(sum_, {"__builtins__": {}}, values) == pytest.approx(expected[row, column], abs=1e-9), text


def test_a_turned_group_says_so():
    group = PointGroup("-3m", np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]))
    assert "point group -3m, frame turned" in Page(group._repr_html_()).texts


def test_nothing_is_drawn_before_it_is_shown():
    code = (
        "import sys, constitutive, crystals; law = constitutive.NeoHookeanLaw(1.0, 2.0); repr(law)\n"
        "assert 'matplotlib.figure' not in sys.modules\n"
        "law._repr_html_(); assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
