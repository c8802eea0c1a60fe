"""Every cell of the table family × class × guarantee: 'yes' measured on random laws, 'no' by a law that breaks it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from constitutive import (
    FAMILIES,
    Guarantees,
    Law,
    LogarithmicStrainLaw,
    NeoHookeanLaw,
    PolyconvexLaw,
    PolynomialLaw,
    SymmetricLaw,
    guarantee_table,
    guarantees,
)
from constitutive.cli import main
from constitutive.laws.polynomial import higher_order_polynomials, project_stiffness
from crystals import POINT_GROUPS, STRAIN_CLASSES, PointGroup, mandel
from crystals.moduli import smallest_acoustic_eigenvalue

SUPPORTED = {
    "polynomial": STRAIN_CLASSES,
    "symmetric, invariants": STRAIN_CLASSES,
    "symmetric, average": STRAIN_CLASSES[:11],
    "symmetric, directions": STRAIN_CLASSES[:11],
    "network alone": STRAIN_CLASSES,
    "polyconvex": STRAIN_CLASSES[:11] + ("∞/mm", "∞∞m"),
    "neo-hooke": ("∞∞m",),
    "logarithmic": STRAIN_CLASSES,
}
CELLS = [(family, symbol) for family in FAMILIES for symbol in SUPPORTED[family]]


def stiffness(symbol: str, seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(6, 6))
    return project_stiffness(PointGroup(symbol), np.eye(6) + 0.2 * root @ root.T)


@cache
def random_law(family: str, symbol: str, seed: int) -> Law:
    """A law of stiffness about 1 with every parameter drawn at random."""
    generator = np.random.default_rng(seed)
    group = PointGroup(symbol)
    if family == "neo-hooke":
        mu, bulk = np.exp(generator.normal(size=2))
        return NeoHookeanLaw(mu, bulk - 2.0 / 3.0 * mu)
    if family == "polynomial":
        coefficients = generator.normal(size=len(higher_order_polynomials(group, 3)))
        return PolynomialLaw(group, 3, stiffness(symbol, seed), coefficients)
    if family == "logarithmic":
        coefficients = generator.normal(size=len(higher_order_polynomials(group, 3)))
        return logarithmic(symbol, stiffness(symbol, seed), coefficients)
    if family == "polyconvex":
        law: Law = PolyconvexLaw(symbol, (4, 4), strain_scale=0.2, seed=seed)
    elif family == "network alone":
        law = SymmetricLaw(symbol, 1, (4,), strain_scale=0.2, seed=seed)
    else:
        law = SymmetricLaw(symbol, 3, (4,), network=family.split(", ")[1], strain_scale=0.2, seed=seed)
    with torch.no_grad():
        for parameter in law.parameters():
            parameter += torch.from_numpy(generator.normal(size=tuple(parameter.shape)))
    return law


def logarithmic(symbol: str, constants: np.ndarray, coefficients: np.ndarray | None = None) -> Law:
    order = 2 if coefficients is None else 3
    return LogarithmicStrainLaw(
        PolynomialLaw(PointGroup(symbol), order, constants, coefficients, strain_measure="small")
    )


def falling(symbol: str) -> Law:
    """A logarithmic law whose third order wins where the body is squeezed from all sides."""
    values = higher_order_polynomials(PointGroup(symbol), 3)(-mandel.IDENTITY[None])[0]
    return logarithmic(symbol, stiffness(symbol, 0), -values)


def plain_law(family: str, symbol: str, constants: np.ndarray) -> Law:
    """A law without higher orders and network: Saint Venant–Kirchhoff, or Hencky."""
    if family == "logarithmic":
        return logarithmic(symbol, constants)
    if family == "polynomial":
        return PolynomialLaw(PointGroup(symbol), 2, constants)
    law = SymmetricLaw(symbol, 3, (2,), network=family.split(", ")[1], stiffness=constants, pinned=True)
    with torch.no_grad():
        for name, parameter in law.network.named_parameters():
            if name.endswith("last"):
                parameter.zero_()
    return law


def upside_down(symbol: str) -> Law:
    """A network alone whose energy falls from the reference state: with a maximum there, of a network's own minimum."""
    law = SymmetricLaw(symbol, 1, (4,), strain_scale=0.2)
    with torch.no_grad():
        law.network.last.copy_(-law.network.last.abs())
        if np.trace(law.stiffness()) > 0:
            law.network.last.neg_()
    return law


def acoustic(law: Law, stretches: tuple[float, float, float], less: np.ndarray | None = None) -> float:
    """Smallest eigenvalue of the acoustic tensor at F = diag(stretches), of W − ½ E·less·E."""
    gradient = np.diag(stretches)[None]
    strain = mandel.green_lagrange(gradient)
    stress, tangent = law.stress_and_tangent(strain)
    if less is not None:
        stress, tangent = stress - strain @ less, tangent - less
    return float(smallest_acoustic_eigenvalue(tangent, stress, gradient)[0])


def grows(law: Law) -> bool:
    """Whether W rises without bound on the way to J = 0: squeezed along x, from x and y, from all sides."""
    found = []
    for shape in ((1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (1 / 3, 1 / 3, 1 / 3)):
        stretches = np.array([[j ** np.array(shape)] for j in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)])[:, 0]
        energy = law.response(mandel.green_lagrange(stretches[:, :, None] * np.eye(3)), tangent=False).energy
        found.append(bool(np.all(np.diff(energy) > 0.0) and energy[-1] > 100.0 * abs(energy[0])))
    return all(found)


def check(name: str, promised: bool, family: str, symbol: str) -> None:
    laws = [random_law(family, symbol, seed) for seed in range(2)]
    if name == "reference":
        assert promised
        for law in laws:
            rest, scale = law.response(np.zeros((1, 6))), np.linalg.norm(law.stiffness())
            assert rest.energy[0] == 0.0 and np.abs(rest.stress).max() <= 1e-15 * scale
    elif family == "network alone":
        assert not promised
        breaking = upside_down(symbol)
        if name == "pinned_stiffness":
            with pytest.raises(ValueError, match="order ≥ 2 for a pinned stiffness"):
                SymmetricLaw(symbol, 1, (4,), pinned=True)
        elif name == "positive_stiffness":
            assert np.linalg.eigvalsh(breaking.stiffness())[0] < 0.0
        elif name == "polyconvex":
            assert acoustic(breaking, (1.0, 1.0, 1.0)) < 0.0
        else:
            assert not grows(breaking)
    elif name == "positive_stiffness":
        assert promised
        assert all(np.linalg.eigvalsh(law.stiffness())[0] > 0.0 for law in laws)
    elif name == "pinned_stiffness" and promised:
        check_pinned(family, symbol)
    elif name == "pinned_stiffness":
        # C(0) taken to a half by subtraction: no longer elliptic, at a stretch where the law itself is
        law = laws[0]
        assert acoustic(law, (3.0, 3.0, 3.0)) > 0.0 > acoustic(law, (3.0, 3.0, 3.0), 0.5 * law.stiffness())
    elif name == "polyconvex" and promised:
        gradient = np.exp(np.random.default_rng(0).uniform(-1.2, 1.2, size=(6, 3)))
        for law in laws:
            assert min(acoustic(law, tuple(stretches)) for stretches in gradient) > 0.0
            assert convex(law)
    elif name == "polyconvex":
        if family == "neo-hooke":
            assert acoustic(NeoHookeanLaw(1.0, 100.0), (5.0, 1.0, 1.0)) < 0.0
        elif family == "logarithmic":
            assert acoustic(plain_law(family, symbol, stiffness(symbol, 0)), (5.0, 1.0, 1.0)) < 0.0
        else:
            assert acoustic(plain_law(family, symbol, stiffness(symbol, 0)), (0.3, 1.0, 1.0)) < 0.0
    elif name == "growth" and promised:
        assert all(grows(law) for law in laws)
    elif name == "growth":
        breaking = {"neo-hooke": lambda: NeoHookeanLaw(1.0, -0.6), "logarithmic": lambda: falling(symbol)}.get(
            family, lambda: plain_law(family, symbol, stiffness(symbol, 0))
        )()
        assert not grows(breaking)
    else:
        raise AssertionError(f"no test for {name}")


def check_pinned(family: str, symbol: str) -> None:
    given = stiffness(symbol, 3)
    if family == "neo-hooke":
        law: Law = NeoHookeanLaw(2.0, 3.0)
        given = 4.0 * np.eye(6) + 3.0 * np.outer(mandel.IDENTITY, mandel.IDENTITY)
    elif family == "logarithmic":
        law = logarithmic(symbol, given, np.ones(len(higher_order_polynomials(PointGroup(symbol), 3))))
    elif family == "polynomial":
        coefficients = np.ones(len(higher_order_polynomials(PointGroup(symbol), 3)))
        law = PolynomialLaw(PointGroup(symbol), 3, given, coefficients)
    else:
        form = family.split(", ")[1]
        law = SymmetricLaw(symbol, 3, (4,), network=form, stiffness=given, pinned=True, strain_scale=0.2)
        with torch.no_grad():
            for parameter in law.parameters():
                if parameter.requires_grad:
                    parameter += 0.7
    assert np.linalg.norm(law.stiffness() - given) < 1e-12 * np.linalg.norm(given)


def convex(law: Law) -> bool:
    """Whether G(F, H, J) lies below its chords on 300 random segments."""
    assert isinstance(law, PolyconvexLaw)
    generator = np.random.default_rng(1)

    def ends() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        f, h = (torch.from_numpy(generator.normal(size=(300, 3, 3)) * 1.5) for _ in range(2))
        return f, h, torch.from_numpy(np.exp(generator.normal(size=300)))

    first, second = ends(), ends()
    middle = law.extended_energy(*((a + b) / 2.0 for a, b in zip(first, second, strict=True)))
    chord = (law.extended_energy(*first) + law.extended_energy(*second)) / 2.0
    return bool(torch.all(chord - middle > -1e-14 * chord.abs()))


@pytest.mark.parametrize("name", Guarantees._fields)
@pytest.mark.parametrize(("family", "symbol"), CELLS)
def test_cell(family: str, symbol: str, name: str) -> None:
    check(name, getattr(guarantees(family, symbol), name), family, symbol)


@pytest.mark.parametrize("family", FAMILIES)
def test_unsupported_cells_raise_in_the_table_and_in_the_law(family: str) -> None:
    for symbol in sorted(set(STRAIN_CLASSES) - set(SUPPORTED[family])):
        with pytest.raises(ValueError, match="not supported: "):
            guarantees(family, symbol)
        if family != "neo-hooke":  # which takes no group
            with pytest.raises(ValueError, match="not supported: "):
                random_law(family, symbol, 0)


def test_every_group_has_the_guarantees_of_its_laue_class_and_unknown_families_are_named() -> None:
    for symbol in POINT_GROUPS:
        assert guarantees("polyconvex", symbol) == guarantees("polyconvex", PointGroup(symbol).laue)
    with pytest.raises(ValueError, match="expected a family among polynomial"):
        guarantees("linear", "m-3m")


def test_the_printed_table_says_what_the_function_says() -> None:
    result = CliRunner().invoke(main, ["families"])
    assert result.exit_code == 0 and result.output.strip() == guarantee_table()
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in guarantee_table().splitlines())
    assert head[2:] == [name.replace("_", " ") for name in Guarantees._fields]
    for row in rows:
        assert row[2:] == ["yes" if cell else "no" for cell in guarantees(row[0], SUPPORTED[row[0]][-1])]
        refused = set(STRAIN_CLASSES) - set(SUPPORTED[row[0]])
        stated = set(row[1].removeprefix("all but ").split(", ")) if row[1].startswith("all but") else set()
        assert stated == refused or row[1:2] == list(SUPPORTED[row[0]])
