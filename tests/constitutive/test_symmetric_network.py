"""The forms of a symmetric network and the strain measures: exact in every class, whatever the weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import grad, hessian, vmap

from constitutive import SymmetricLaw, audit, load
from constitutive.audit import sample_strains
from constitutive.laws.strain_measure import StrainMeasure
from constitutive.laws.symmetric_network import (
    AveragedNetwork,
    DirectionalNetwork,
    InvariantNetwork,
    NoNetwork,
    _volume_change,
    lattice_directions,
)
from crystals import STRAIN_CLASSES, PointGroup, mandel
from crystals.rotations import mandel_rotation, random_rotations, rotation_about

FINITE = [symbol for symbol in STRAIN_CLASSES if PointGroup(symbol).is_finite]
FORMS = [(symbol, form) for symbol in STRAIN_CLASSES for form in ("invariants", "average", "directions")
         if form == "invariants" or symbol in FINITE]  # fmt: skip


def some_law(symbol: str, form: str, measure: float, order: int = 3, members: int = 1) -> SymmetricLaw:
    """A law of random weights in a turned frame."""
    frame = random_rotations(1, np.random.default_rng(5))[0]
    law = SymmetricLaw(
        PointGroup(symbol, frame), order, (4, 3), network=form, members=members, measure=measure, stiffness=100.0 * np.eye(6),
        energy_scale=100.0, strain_scale=0.1, max_strain=0.1, seed=2,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in law.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    law.refresh()
    return law


@pytest.mark.parametrize("measure", [1.0, 0.0, -1.0])
@pytest.mark.parametrize(("symbol", "form"), FORMS)
def test_exact_whatever_the_weights(symbol: str, form: str, measure: float) -> None:
    # some of the directional networks with members
    law = some_law(symbol, form, measure, members=2 if (form, measure) == ("directions", 0.0) else 1)
    strain = sample_strains(0.15, 40, np.random.default_rng(1))
    stress, tangent = law.stress_and_tangent(strain)
    size = np.linalg.norm(law.stiffness())
    lengths = np.maximum(np.linalg.norm(strain, axis=1), 1e-3)

    for turn in mandel_rotation(law.group.laue.sample(6, np.random.default_rng(0))):
        image, image_tangent = law.stress_and_tangent(strain @ turn.T)
        assert np.max(np.linalg.norm(image - stress @ turn.T, axis=1) / lengths) / size < 1e-12
        assert np.max(np.linalg.norm(image_tangent - turn @ tangent @ turn.T, axis=(1, 2))) / size < 1e-12

    standard = torch.from_numpy(strain @ mandel_rotation(law.group.frame.T).T)
    back = mandel_rotation(law.group.frame)

    def energy(point: torch.Tensor) -> torch.Tensor:
        return law.energy_scale * law.forward(point[None])[0][0]

    slope = vmap(grad(energy))(standard).detach().numpy() @ back.T
    bend = back @ vmap(hessian(energy))(standard).detach().numpy() @ back.T
    assert np.max(np.linalg.norm(slope - stress, axis=1) / lengths) / size < 1e-12
    assert np.max(np.linalg.norm(bend - tangent, axis=(1, 2))) / size < 1e-12
    assert not np.any(law.response(np.zeros((1, 6))).stress)


@pytest.mark.parametrize(("symbol", "form"), [(s, f) for s, f in FORMS if s not in ("-1", "∞∞m")])
def test_a_rotation_outside_the_class_changes_the_stress(symbol: str, form: str) -> None:
    law = some_law(symbol, form, 0.0)
    strain = sample_strains(0.1, 40, np.random.default_rng(1))
    outside = mandel_rotation(law.group.frame @ rotation_about(np.array([0.3, 0.5, 0.8]), 0.61) @ law.group.frame.T)
    change = law.response(strain @ outside.T).stress - law.response(strain).stress @ outside.T
    assert np.abs(change).max() > 1e-3 * np.abs(law.response(strain).stress).max()


def members_of(law: SymmetricLaw) -> list[SymmetricLaw]:
    """Laws of the single members of a law's network."""
    config = {**law.config(), "members": 1}
    laws = [SymmetricLaw.from_config(config) for _ in range(law.members)]
    orbits = len(law.network.orbits) // law.members
    for k, one in enumerate(laws):
        one.load_state_dict({
            name: law.state_dict()[name.replace(f"orbits.{place}.", f"orbits.{place + k * orbits}.")]
            for name in one.state_dict() for place in [int(name.split(".")[2]) if "orbits" in name else 0]
        })  # fmt: skip
        one.refresh()
    return laws


@pytest.mark.parametrize("symbol", ["m-3m", "-3m", "-1"])
def test_members_are_averaged(symbol: str) -> None:
    law = some_law(symbol, "directions", 0.0, members=3)
    strain = sample_strains(0.1, 20, np.random.default_rng(2))
    answers = [one.response(strain) for one in members_of(law)]
    whole = law.response(strain)
    for name in ("energy", "stress", "tangent"):
        mean = np.mean([getattr(answer, name) for answer in answers], axis=0)
        assert np.allclose(getattr(whole, name), mean, rtol=1e-12, atol=1e-12 * np.abs(mean).max())
    assert np.abs(answers[0].stress - whole.stress).max() > 1e-3 * np.abs(whole.stress).max()


def test_only_directional_networks_have_members() -> None:
    with pytest.raises(ValueError, match="expected members of at least 1, and 1 but for network 'directions'"):
        SymmetricLaw("m-3m", 3, members=2)
    with pytest.raises(ValueError, match="expected members of at least 1"):
        SymmetricLaw("m-3m", 3, network="directions", members=0)


@pytest.mark.parametrize("form", ["average", "directions"])
def test_limit_groups_have_no_average(form: str) -> None:
    with pytest.raises(ValueError, match="not supported: network"):
        SymmetricLaw("∞∞m", 3, network=form)


@pytest.mark.parametrize("symbol", FINITE)
def test_directions_are_closed_under_the_group(symbol: str) -> None:
    orbits = lattice_directions(symbol)
    for orbit in orbits:
        for rotation in PointGroup(symbol).laue.rotations:
            nearness = np.abs(orbit @ rotation.T @ orbit.T)
            assert np.all(np.max(nearness, axis=1) > 1 - 1e-12)
    together = np.concatenate(orbits)
    nearness = np.abs(together @ together.T) - np.eye(len(together))
    assert nearness.max() < 1 - 1e-6
    # together they see all of a strain: their dyads span the six components
    assert np.linalg.matrix_rank(mandel.to_mandel(together[:, :, None] * together[:, None, :])) == 6


@pytest.mark.parametrize("symbol", FINITE)
def test_directions_are_those_of_the_lattice(symbol: str) -> None:
    """A cube's edges, face and body diagonals; around a threefold or sixfold axis that axis, and every 30° in the basal
    plane and at 45° to it. The group sorts them into orbits, and adds none."""
    together = np.concatenate(lattice_directions(symbol))
    if symbol.startswith(("-3", "6")):
        height = np.sort(np.abs(together[:, 2]))
        assert np.allclose(height, [0.0] * 6 + [0.5**0.5] * 12 + [1.0])
        turned = np.degrees(np.arctan2(together[:, 1], together[:, 0]))[np.abs(together[:, 2]) < 0.9] / 30.0
        assert np.allclose(turned, np.round(turned))
    else:
        whole = together / np.abs(together).max(axis=1)[:, None]
        assert len(together) == 13 and np.allclose(np.abs(whole), np.round(np.abs(whole)))
    sizes = {"m-3m": [3, 6, 4], "6/mmm": [1, 3, 3, 6, 6], "-1": [1] * 13}
    if symbol in sizes:
        assert [len(orbit) for orbit in lattice_directions(symbol)] == sizes[symbol]


def test_a_form_is_the_network_of_its_name() -> None:
    kinds = {
        "invariants": InvariantNetwork, "average": AveragedNetwork, "directions": DirectionalNetwork, "none": NoNetwork,
    }  # fmt: skip
    for form, kind in kinds.items():
        law = SymmetricLaw(PointGroup("m-3m", random_rotations(1, np.random.default_rng(5))[0]), 2, (3,), network=form)
        assert type(law.network) is kind
        # what the group decides is calculated again and not kept: a law file holds what was learned
        kept = set(law.state_dict()) - {name for name, _ in law.named_parameters()}
        assert kept == ({"network.sizes"} if form == "invariants" else set())


@pytest.mark.parametrize("measure", [1.0, 0.5, 0.0, -1.0])
def test_order_one_takes_its_stiffness_from_the_network(measure: float) -> None:
    law = some_law("m-3m", "directions", measure, order=1)
    step = 1e-5
    slope = (law.response(step * np.eye(6)).stress - law.response(-step * np.eye(6)).stress) / (2 * step)
    assert np.abs(slope - law.stiffness()).max() < 1e-6 * np.abs(law.stiffness()).max()
    with pytest.raises(ValueError, match="pinned"):
        SymmetricLaw("m-3m", 1, pinned=True)


@pytest.mark.parametrize(
    ("form", "order"),
    [(form, order) for form in ("invariants", "average", "directions") for order in (1, 2)] + [("none", 2)],
)
def test_a_law_is_what_its_formula_says(form: str, order: int) -> None:
    """Of order 1: W / w = N(E) − N(0) − ∇N(0)·E, and the network gives C(0). From 2 on: ½ E·C₀·E and N beyond its second
    order."""
    law = SymmetricLaw(
        "-3m", order, (4, 3), network=form, stiffness=70.0 * np.eye(6), saturated=False, energy_scale=50.0,
        strain_scale=0.1, seed=3,
    )  # fmt: skip
    strain = torch.from_numpy(sample_strains(0.1, 20, np.random.default_rng(0)))
    with torch.no_grad():
        value = law.network.at(strain, False)[0]
        start, slope, entries = law.network.at(torch.zeros(1, 6, dtype=torch.float64), True)
    bent = mandel.unpack_upper(entries[0].numpy())
    energy = value - start - strain @ slope[0]
    stiffness = 50.0 * bent
    if order == 2:
        energy = energy + 0.5 * ((70.0 / 50.0 * strain - strain @ torch.from_numpy(bent)) * strain).sum(dim=1)
        stiffness = 70.0 * np.eye(6)
    answer = law.response(strain)
    np.testing.assert_allclose(answer.energy, 50.0 * energy, atol=1e-13)
    np.testing.assert_allclose(law.stiffness(), stiffness, atol=1e-11)
    if form == "none":
        np.testing.assert_allclose(answer.stress, 70.0 * strain, atol=1e-13)
        assert law.response(strain, tangent=False).tangent is None


def test_measures_against_their_definition() -> None:
    strain = sample_strains(0.2, 200, np.random.default_rng(3))
    right = np.eye(3) + 2 * mandel.from_mandel(strain)
    inverse = np.linalg.inv(right)
    values, vectors = np.linalg.eigh(right)
    logarithm = np.einsum("nia,na,nja->nij", vectors, 0.5 * np.log(values), vectors)
    exact = {1.0: 0.5 * (right - np.eye(3)), 0.0: 0.25 * (right - inverse), -1.0: 0.5 * (np.eye(3) - inverse)}
    for m, tensor in exact.items():
        measured = StrainMeasure(torch.from_numpy(strain), m)
        assert np.abs(measured.value.numpy() - mandel.to_mandel(tensor)).max() < 1e-14
        step = 1e-6
        moved = StrainMeasure(torch.from_numpy(strain + step * np.eye(6)[2]), m).value
        against = StrainMeasure(torch.from_numpy(strain - step * np.eye(6)[2]), m).value
        assert np.abs(measured.jacobian()[:, :, 2] - (moved - against) / (2 * step)).max() < 1e-8
    cubed = np.linalg.norm(strain, axis=1) ** 3
    wrong = np.linalg.norm(mandel.to_mandel(exact[0.0] - logarithm), axis=1)
    assert np.all(wrong < 3 * cubed + 1e-15)
    assert np.max(np.linalg.norm(mandel.to_mandel(exact[1.0] - logarithm), axis=1) / (3 * cubed + 1e-15)) > 1.0
    with pytest.raises(ValueError, match="measure between"):
        SymmetricLaw("m-3m", measure=-2.0)
    with pytest.raises(ValueError, match="measure between"):
        SymmetricLaw("m-3m", measure=0.0, strain_measure="small")


@pytest.mark.parametrize(("form", "members"), [("invariants", 1), ("average", 1), ("directions", 3)])
def test_law_file_keeps_form_and_measure(form: str, members: int, tmp_path: Path) -> None:
    law = some_law("-3m", form, -1.0, members=members)
    law.save(tmp_path / "a.law")
    again = load(tmp_path / "a.law")
    strain = sample_strains(0.1, 30, np.random.default_rng(2))
    assert again.config() == law.config()
    assert np.array_equal(again.response(strain).stress, law.response(strain).stress)


def test_a_law_file_of_the_first_version_still_answers() -> None:
    # written before laws had forms and measures; its self-test vectors are checked at load
    law = load(Path(__file__).parent / "copper_first_version.law")
    assert law.config()["network"] == "invariants" and law.config()["measure"] == 1.0
    assert law.stiffness()[0, 0] == pytest.approx(172.5, abs=0.1)


def test_audit_passes_for_every_form() -> None:
    for form in ("average", "directions"):
        report = audit(some_law("m-3m", form, -1.0), number=30)
        assert [check.name for check in report.checks if check.passed is False] == []


def test_what_directions_see_of_the_volume_is_its_change() -> None:
    """b = (det(1 + 2E) − 1) / 2, a polynomial; to first order the trace."""
    strain = 0.3 * np.random.default_rng(4).normal(size=(20, 6))
    expected = 0.5 * (np.linalg.det(np.eye(3) + 2.0 * mandel.from_mandel(strain)) - 1.0)
    assert np.abs(_volume_change()(strain)[:, 0] - expected).max() < 1e-13
