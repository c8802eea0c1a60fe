"""What every law keeps, on 1,000 random states, along the path F → (P, ∂P/∂F), for every class a strain can see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, hessian, vmap

from constitutive import (
    INVALID,
    OK,
    OUT_OF_RANGE,
    InternalVariableLaw,
    Law,
    LogarithmicStrainLaw,
    NeoHookeanLaw,
    PolyconvexLaw,
    PolynomialLaw,
    SymmetricLaw,
    VonMisesLaw,
    audit,
    first_piola,
)
from constitutive.audit import outside_rotation, relative_errors, sample_strains
from constitutive.laws.convex_network import ConvexNetwork
from constitutive.laws.network import ScalarNetwork
from constitutive.laws.polynomial import higher_order_polynomials
from constitutive.laws.strain_measure import to_tensor
from crystals import POINT_GROUPS, STRAIN_CLASSES, PointGroup, mandel
from crystals.rotations import mandel_rotation, random_rotations, rotation_about


def random_stiffness(generator: np.random.Generator) -> np.ndarray:
    root = generator.normal(size=(6, 6))
    return 60.0 * np.eye(6) + 10.0 * root @ root.T


def random_law(symbol: str, seed: int = 0, turned: bool = True, **options: object) -> SymmetricLaw:
    """A law with every part switched on: random constants, third- and fourth-order terms, network of like size."""
    generator = np.random.default_rng(seed)
    group = PointGroup(symbol, random_rotations(1, generator)[0] if turned else None)
    law = SymmetricLaw(
        group, order=4, widths=(12, 12), stiffness=random_stiffness(generator), energy_scale=100.0, strain_scale=0.08,
        max_strain=0.08, seed=seed, **options,
    )  # fmt: skip
    with torch.no_grad():
        law.coefficients.copy_(torch.from_numpy(generator.normal(size=law.higher.count)))
    law.refresh()
    return law


@pytest.mark.parametrize("symbol", STRAIN_CLASSES)
def test_audit_of_a_turned_random_law_passes(symbol: str) -> None:
    """Objectivity, symmetry, tangent ≤ 1e-12; major symmetry ≤ 1e-14; negative control breaks."""
    report = audit(random_law(symbol), number=1000, seed=1, parity=False)
    assert report.passed, str(report)
    names = " ".join(check.name for check in report.checks)
    for word in ("objectivity", "symmetry", "automatic diff", "central diff", "stress-free"):
        assert word in names


@pytest.mark.parametrize(
    ("symbol", "supergroup"), [("m-3", "m-3m"), ("6/m", "6/mmm"), ("∞/m", "∞/mm"), ("4/m", "4/mmm"), ("-3", "-3m")]
)
def test_a_class_is_told_from_its_supergroup_at_third_order(symbol: str, supergroup: str) -> None:
    """Where linear elasticity agrees, the rotation of the supergroup leaves C(0) alone and changes the stress."""
    law = random_law(symbol, turned=False)
    extra = next(
        q for q in PointGroup(supergroup).sample(4, np.random.default_rng(0))
        if np.linalg.det(q) > 0 and _moves(law, q)
    )  # fmt: skip
    turn = mandel_rotation(extra)
    if symbol in ("m-3", "6/m", "∞/m"):
        assert np.allclose(turn @ law.stiffness() @ turn.T, law.stiffness(), atol=1e-10)
    strain = sample_strains(0.08, 50, np.random.default_rng(3))
    strain = strain[np.linalg.norm(strain, axis=1) > 0.01]
    change = law.response(strain @ turn.T).stress - law.response(strain).stress @ turn.T
    assert relative_errors(law, strain, change, np.zeros((len(strain), 1))) > 1e-4


def _moves(law: SymmetricLaw, rotation: np.ndarray) -> bool:
    turn = mandel_rotation(rotation)
    strain = 0.05 * np.random.default_rng(5).normal(size=(20, 6))
    return not np.allclose(law.response(strain @ turn.T).energy, law.response(strain).energy, rtol=1e-9)


@pytest.mark.parametrize("symbol", POINT_GROUPS)
def test_every_group_gives_the_law_of_its_laue_class(symbol: str) -> None:
    law, laue = random_law(symbol, turned=False), random_law(PointGroup(symbol).laue.symbol, turned=False)
    strain = sample_strains(0.1, 20, np.random.default_rng(2))
    assert np.array_equal(law.response(strain).stress, laue.response(strain).stress)


def test_audit_fails_a_law_that_breaks_its_class() -> None:
    """Negative control of the audit itself: a law that claims cubic symmetry with a tetragonal stiffness."""
    law = random_law("m-3m", turned=False)
    tetragonal = law.fixed._replace(constants=torch.diag(torch.tensor([1.0, 1.1, 1.0, 1, 1, 1], dtype=torch.float64)))
    law._precompute = lambda: tetragonal
    law.refresh()
    report = audit(law, number=50)
    assert not report.passed
    assert any(check.passed is False and check.name.startswith("symmetry") for check in report.checks)


def test_audit_fails_a_law_whose_tangent_is_not_a_number() -> None:
    class Broken(NeoHookeanLaw):
        def _evaluate(
            self, strain: torch.Tensor, tangent: bool
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
            energy, stress, entries = super()._evaluate(strain, tangent)
            far = torch.linalg.vector_norm(strain, dim=1) > 1e-3
            return energy, stress, None if entries is None else torch.where(far[:, None], torch.nan, entries)

    report = audit(Broken(40.0, 60.0), number=50)
    assert not report.passed
    assert not any(check.passed for check in report.checks if check.name.startswith("tangent"))


def test_a_law_of_ones_own_with_other_shapes_gets_a_sentence() -> None:
    class Wrong(NeoHookeanLaw):
        def _evaluate(
            self, strain: torch.Tensor, tangent: bool
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
            energy, stress, entries = super()._evaluate(strain, tangent)
            return energy, stress, None if entries is None else mandel.unpack_upper(entries)

    strain = 0.01 * np.eye(6)[:3]
    assert Wrong(40.0, 60.0).response(strain, tangent=False).tangent is None
    with pytest.raises(
        ValueError, match=r"Wrong._evaluate: expected .* \(3,\), \(3, 6\), \(3, 21\) at 3 points, got .*\(3, 6, 6\)"
    ):
        Wrong(40.0, 60.0).response(strain)


def test_a_law_more_symmetric_than_its_class_passes() -> None:
    isotropic = 50.0 * np.outer(mandel.IDENTITY, mandel.IDENTITY) + 80.0 * np.eye(6)
    assert audit(PolynomialLaw(PointGroup("m-3m"), 2, isotropic), number=50).passed


def test_training_never_meets_stale_parts() -> None:
    """An optimiser's step in place changes the answer at once, and leaves the reference exact."""
    law = random_law("m-3m")
    before = law.response(0.02 * np.ones((1, 6))).stress
    with torch.no_grad():
        for parameter in law.network.parameters():
            parameter.add_(0.1)
    assert np.abs(law.response(0.02 * np.ones((1, 6))).stress - before).max() > 1e-6
    assert np.all(law.response(np.zeros((1, 6))).stress == 0.0)


def test_outside_rotation_is_outside() -> None:
    for symbol in LAUE_WITH_OUTSIDE:
        law = random_law(symbol)
        strain = sample_strains(0.08, 30, np.random.default_rng(0))
        rotation, change = outside_rotation(law.group, law, strain[np.linalg.norm(strain, axis=1) > 0.01])
        distances = np.abs(law.group.laue.sample(50, np.random.default_rng(1)) - rotation).max(axis=(1, 2))
        assert distances.min() > 1e-3
        assert change > 1e-6


LAUE_WITH_OUTSIDE = [symbol for symbol in STRAIN_CLASSES if symbol not in ("-1", "∞∞m")]


@pytest.mark.parametrize("symbol", ["m-3m", "-3m", "-1"])
def test_reference_state_is_exact(symbol: str) -> None:
    law = random_law(symbol)
    rest = law.response(np.zeros((1, 6)))
    assert rest.energy[0] == 0.0
    assert np.all(rest.stress == 0.0)
    assert np.linalg.eigvalsh(law.stiffness())[0] > 0.0


def test_pinned_stiffness_is_kept_exactly() -> None:
    given = mandel.stiffness_from_voigt(
        np.diag([89.9] * 6)
        + np.array([[82.7 if i == j else 115.4 for j in range(3)] + [0] * 3 for i in range(3)] + [[0] * 6] * 3)
    )
    law = random_law("m-3m", turned=False)
    pinned = SymmetricLaw("m-3m", stiffness=given, pinned=True, energy_scale=100.0, strain_scale=0.08)
    assert np.linalg.norm(pinned.stiffness() - given) / np.linalg.norm(given) < 1e-14
    assert not pinned.log_stiffness.requires_grad
    assert np.linalg.norm(law.stiffness() - given) > 1.0


def test_stiffness_of_another_symmetry_is_projected_and_unstable_ones_are_refused() -> None:
    stiffness = random_stiffness(np.random.default_rng(0))
    law = SymmetricLaw("isotropic", stiffness=stiffness, energy_scale=100.0)
    bulk = np.array([1, 1, 1, 0, 0, 0]) @ stiffness @ np.array([1, 1, 1, 0, 0, 0]) / 9
    assert np.isclose(np.array([1, 1, 1, 0, 0, 0]) @ law.stiffness() @ np.array([1, 1, 1, 0, 0, 0]) / 9, bulk)
    with pytest.raises(ValueError, match="positive definite"):
        SymmetricLaw("m-3m", stiffness=np.diag([1.0, 1, 1, -1, -1, -1]))


def test_group_by_name_by_structure_and_by_operations() -> None:
    from ase.build import bulk
    from pymatgen.io.ase import AseAtomsAdaptor

    structure = AseAtomsAdaptor.get_structure(bulk("Cu", "fcc", a=3.6, cubic=True))
    found = PointGroup.from_structure(structure)
    by_operations = PointGroup.from_operations(found.operations)
    strain = sample_strains(0.08, 10, np.random.default_rng(0))
    answers = [SymmetricLaw(group).response(strain).stress for group in ("m-3m", found, by_operations)]
    assert np.allclose(answers[0], answers[1], atol=1e-13) and np.allclose(answers[0], answers[2], atol=1e-13)


def test_polynomial_law_is_its_own_taylor_series() -> None:
    group = PointGroup("m-3m")
    stiffness = mandel.stiffness_from_voigt(
        np.diag([80.0, 80, 80, 90, 90, 90]) + np.pad(np.full((3, 3), 115.0), (0, 3))
    )
    basis = higher_order_polynomials(group, 3)
    coefficients = np.arange(1.0, len(basis) + 1.0) * -50.0
    law = PolynomialLaw(group, 3, stiffness, coefficients)
    strain = sample_strains(0.1, 40, np.random.default_rng(1))
    energy = 0.5 * np.einsum("ni,ij,nj->n", strain, stiffness, strain) + basis(strain) @ coefficients
    assert np.allclose(law.response(strain).energy, energy, rtol=1e-12, atol=1e-15)
    assert audit(law, number=100).passed


@pytest.mark.parametrize("law", [random_law("-3m"), NeoHookeanLaw(40.0, 60.0)], ids=["symmetric", "neo-hooke"])
def test_orientation_turns_the_response(law: SymmetricLaw) -> None:
    """first_piola with orientation Q equals the law of the turned material: P_Q(F) = P(F Q) Qᵀ."""
    generator = np.random.default_rng(0)
    gradient = np.eye(3) + 0.03 * generator.normal(size=(20, 3, 3))
    turn = rotation_about(np.array([1.0, 2.0, 3.0]), 0.7)
    piola, derivative = first_piola(law, gradient, turn)
    expected, inner = first_piola(law, gradient @ turn)
    assert derivative is not None and inner is not None
    assert np.allclose(piola, expected @ turn.T, atol=1e-11)
    assert np.allclose(derivative, np.einsum("niAkB,JA,LB->niJkL", inner, turn, turn), atol=1e-10)


class TestSignature:
    """The frozen signature: shapes, types, chunks, bad points."""

    law = random_law("m-3m", turned=False)

    @pytest.mark.parametrize("n", [0, 1, 7, 2049])
    def test_shapes(self, n: int) -> None:
        answer = self.law.response(0.01 * np.ones((n, 6)))
        assert answer.energy.shape == (n,) and answer.stress.shape == (n, 6) and answer.tangent.shape == (n, 21)
        assert answer.state.shape == (n, 0) and answer.status.shape == (n,)
        assert self.law.response(0.01 * np.ones((n, 6)), tangent=False).tangent is None

    def test_numpy_and_torch_agree_and_keep_their_kind(self) -> None:
        strain = sample_strains(0.08, 30, np.random.default_rng(0))
        from_numpy, from_torch = self.law.response(strain), self.law.response(torch.from_numpy(strain))
        assert isinstance(from_numpy.stress, np.ndarray) and isinstance(from_torch.stress, torch.Tensor)
        assert np.array_equal(from_numpy.stress, from_torch.stress.numpy())
        single = self.law.response(torch.from_numpy(strain).float())
        assert {single.energy.dtype, single.stress.dtype, single.tangent.dtype, single.state.dtype} == {torch.float32}
        assert single.status.dtype == from_torch.status.dtype == torch.int8
        assert self.law.response(torch.from_numpy(strain), tangent=False).tangent is None

    def test_the_21_entries_are_the_upper_triangle_row_by_row(self) -> None:
        strain = sample_strains(0.08, 3, np.random.default_rng(0))
        stress, tangent = self.law.stress_and_tangent(strain)
        packed = self.law.response(strain).tangent
        rows = [(i, j) for i in range(6) for j in range(i, 6)]
        assert rows[:8] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 1), (1, 2)]
        for place, (i, j) in enumerate(rows):
            assert np.array_equal(packed[:, place], tangent[:, i, j]) and np.array_equal(
                tangent[:, i, j], tangent[:, j, i]
            )
        assert stress.shape == (3, 6)

    def test_order_of_points_and_chunks_change_nothing(self) -> None:
        strain = sample_strains(0.08, 5000, np.random.default_rng(0))
        whole = self.law.response(strain)
        order = np.random.default_rng(1).permutation(len(strain))
        shuffled = self.law.response(strain[order])
        scale = np.linalg.norm(self.law.stiffness())
        assert np.abs(shuffled.tangent - whole.tangent[order]).max() / scale < 1e-13
        alone = self.law.response(strain[17:18])
        assert np.abs(alone.stress - whole.stress[17]).max() / scale < 1e-13

    def test_bad_points_are_flagged_and_leave_the_others_alone(self) -> None:
        strain = sample_strains(0.05, 9, np.random.default_rng(0))
        clean = self.law.response(strain)
        spoilt = strain.copy()
        spoilt[2, 0], spoilt[4, 1], spoilt[6] = np.nan, np.inf, [-0.6, 0, 0, 0, 0, 0]
        spoilt[8] = 0.09 * np.array([1, 0, 0, 0, 0, 0])
        answer = self.law.response(spoilt)
        assert answer.status.tolist() == [OK, OK, INVALID, OK, INVALID, OK, INVALID, OK, OUT_OF_RANGE]
        assert np.isnan(answer.stress[[2, 4, 6]]).all() and np.isfinite(answer.stress[8]).all()
        good = [0, 1, 3, 5, 7]
        assert np.array_equal(answer.stress[good], clean.stress[good])

    def test_wrong_arguments_get_a_sentence(self) -> None:
        with pytest.raises(ValueError, match=r"shape \(n, 6\).*got \(6,\)"):
            self.law.response(np.zeros(6))
        with pytest.raises(TypeError, match="real strains"):
            self.law.response(np.zeros((2, 6), dtype=complex))
        with pytest.raises(ValueError, match="takes no inputs"):
            self.law.response(np.zeros((2, 6)), inputs=np.zeros(2))
        with pytest.raises(ValueError, match="state of shape"):
            self.law.response(np.zeros((2, 6)), state=np.zeros((2, 3)))
        with pytest.raises(ValueError, match="expected a Hermann"):
            SymmetricLaw("m3n")
        with pytest.raises(ValueError, match="order from 1 to 6"):
            SymmetricLaw("m-3m", order=9)

    def test_repr_says_constants_range_and_error(self) -> None:
        assert repr(self.law).startswith("SymmetricLaw('m-3m', C11=") and "trained to |E| ≤ 0.08)" in repr(self.law)
        law = PolynomialLaw(PointGroup("m-3m"), 2, 100.0 * np.eye(6), max_strain=0.05)
        law.metadata = {"kind": "relaxed-ion", "fit": {"training_states": 240, "held_out_stress_error": 0.00321}}
        assert repr(law) == (
            "PolynomialLaw('m-3m', C11=100.0 C12=0.0 C44=50.0 GPa, trained to |E| ≤ 0.05 on 240 states, "
            "held-out error 0.32 %, relaxed-ion)"
        )
        law.metadata = {"kind": "virial stress"}
        assert repr(law).endswith("trained to |E| ≤ 0.05, virial stress)")
        law.metadata, law.max_strain = {"kind": "unknown"}, float("inf")
        assert repr(law) == "PolynomialLaw('m-3m', C11=100.0 C12=0.0 C44=50.0 GPa)"

    def test_what_is_not_said_has_its_usual_value(self) -> None:
        assert SymmetricLaw("m-3m").config() == {
            "point_group": "m-3m", "frame": np.eye(3).tolist(), "order": 4, "widths": [16, 16], "network": "invariants", "members": 1,
            "measure": 1.0, "pinned": False, "saturated": True, "energy_scale": 1.0, "strain_scale": 0.05, "units": "GPa",
            "max_strain": float("inf"), "strain_measure": "green_lagrange",
        }  # fmt: skip
        assert self.law.elastic_constants() == self.law.elastic_constants(2)
        assert np.array_equal(self.law.stiffness(), self.law.stiffness(2))
        assert np.array_equal(self.law.stiffness_voigt(), self.law.stiffness_voigt(2))

    def test_degrees_belong_to_the_coefficients(self) -> None:
        assert self.law.degrees.tolist() == [3] * 6 + [4] * 11
        assert SymmetricLaw("m-3m", 2).degrees.shape == (0,)

    def test_a_device_that_is_not_there_is_one_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def to(*_: object, **__: object) -> None:
            raise RuntimeError("CUDA error: invalid device ordinal\nCUDA kernel errors might be reported elsewhere.\n")

        monkeypatch.setattr(torch.nn.Module, "to", to)
        with pytest.raises(ValueError) as caught:
            self.law.to("cuda:7")
        assert str(caught.value) == (
            "SymmetricLaw.to: expected a device that is there, got cuda:7: CUDA error: invalid device ordinal. Stay on the "
            "CPU."
        )

        def silent(*_: object, **__: object) -> None:
            raise AssertionError

        monkeypatch.setattr(torch.nn.Module, "to", silent)
        with pytest.raises(ValueError, match="got cuda:7: AssertionError. Stay on the CPU"):
            self.law.to("cuda:7")


LAWS = [random_law(symbol, seed) for seed, symbol in enumerate(("-1", "-3m", "m-3m", "∞/m"))]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    law=st.sampled_from(LAWS),
    strain=st.lists(st.floats(-0.12, 0.12), min_size=6, max_size=6).map(np.array),
    place=st.integers(0, 10**6),
)
def test_any_strain_and_its_image_under_the_group(law, strain, place) -> None:
    """W(gE) = W(E), S(gE) = g S(E), C(gE) = g C(E) gᵀ, for each of the class's operations and one strain at a time."""
    operations = law.group.sample(8, np.random.default_rng(place))
    turn = mandel_rotation(operations[place % len(operations)])
    one, other = law.response(strain[None]), law.response((turn @ strain)[None])
    scale = np.linalg.norm(law.stiffness())
    assert abs(one.energy - other.energy).max() < 1e-13 * scale
    assert np.abs(one.stress @ turn.T - other.stress).max() < 1e-12 * scale
    matrices = [mandel.unpack_upper(answer.tangent)[0] for answer in (one, other)]
    assert np.abs(turn @ matrices[0] @ turn.T - matrices[1]).max() < 1e-11 * scale
    # control: along a turn that belongs to no class the stress is another
    if np.linalg.norm(strain[3:]) > 0.03:
        outside = mandel_rotation(rotation_about(np.array([0.3, -0.5, 0.8]), 0.7))
        assert np.abs(law.response((outside @ strain)[None]).stress - one.stress @ outside.T).max() > 1e-6 * scale


SMALL = SymmetricLaw("m-3m", 3, (3,), strain_measure="small")


def test_a_small_strain_law_knows_no_collapse() -> None:
    """1 + 2E may be singular, or less: no stretch is asked for."""
    strain = np.outer([-0.5, -1.0, 0.5], np.eye(6)[0])
    answer = SMALL.response(strain)
    assert set(answer.status) == {OK} and all(np.isfinite(part).all() for part in answer)


@pytest.mark.parametrize("largest", [0.05, 1.2])
def test_where_the_trained_range_ends(largest: float) -> None:
    """|E| up to the largest and its rounding; det(1 + 2E) and its minors above 0, whichever comes first."""
    law = PolynomialLaw(PointGroup("m-3m"), 2, 100.0 * np.eye(6), max_strain=largest)
    directions = np.random.default_rng(0).normal(size=(20, 6))
    directions[:, :3] = np.abs(directions[:, :3])
    directions[:, 3:] *= 0.05
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    for factor, status in ((0.5, OK), (1.0 + 1e-11, OK), (1.0 + 1e-7, OUT_OF_RANGE), (1.5, OUT_OF_RANGE)):
        assert set(law.response(largest * factor * directions).status) == {status}
    small = PolynomialLaw(PointGroup("m-3m"), 2, 100.0 * np.eye(6), strain_measure="small")
    wide = PolynomialLaw(PointGroup("m-3m"), 2, 100.0 * np.eye(6))
    for turn in random_rotations(10, np.random.default_rng(1)):
        for smallest, status in ((1e-6, OK), (-1e-6, INVALID)):
            for others in ((0.3, 1.7), (3.0, 4.0)):
                square = turn @ np.diag([smallest, *others]) @ turn.T
                strain = mandel.to_mandel(0.5 * (square - np.eye(3)))[None]
                assert wide.response(strain).status == status and small.response(strain).status == OK
        # two negative eigenvalues have a positive determinant
        square = turn @ np.diag([-0.5, -0.7, 2.0]) @ turn.T
        assert wide.response(mandel.to_mandel(0.5 * (square - np.eye(3)))[None]).status == INVALID


def test_what_an_orientation_must_be() -> None:
    law = LAWS[1]
    strain = np.zeros((3, 6))
    turns = random_rotations(3, np.random.default_rng(0))
    law.response(strain, orientation=turns * (1.0 + 3e-9))
    for wrong in (turns * (1.0 + 1e-6), -turns, turns[:, ::-1], turns[:2], turns[:, :2], turns[0, :2], turns[None]):
        with pytest.raises(ValueError, match="orientation"):
            law.response(strain, orientation=wrong)
    # two rows that are orthonormal, and a third that is not all of their cross product
    for i in range(3):
        wrong = np.eye(3)
        wrong[i, i] = 0.0
        with pytest.raises(ValueError, match="expected proper rotations"):
            law.response(strain, orientation=wrong)
        wrong = turns.copy()
        wrong[1, 2, i] = 0.0
        with pytest.raises(ValueError, match="expected proper rotations"):
            law.response(strain, orientation=wrong)
    # the third is the cross product, and the two are no unit vectors or not orthogonal
    a, b = turns[0, 0], turns[0, 1]
    for first, second in ((a, (a + 2.0 * b) / 5**0.5), (1.001 * a, b), (a, 1.001 * b), (1.001 * a, b / 1.001)):
        with pytest.raises(ValueError, match="expected proper rotations"):
            law.response(strain, orientation=np.stack([first, second, np.cross(first, second)]))
    for k in range(3):
        for i in range(3):
            wrong = turns.copy()
            wrong[k, i] *= 1.0 + 1e-7
            with pytest.raises(ValueError, match="expected proper rotations"):
                law.response(strain, orientation=wrong)
            wrong[k, i] = -turns[k, i]
            with pytest.raises(ValueError, match="expected proper rotations"):
                law.response(strain, orientation=wrong)


def test_rotations_are_not_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick test of orientations lets all rotations pass, at any number of points; only the rest is looked at closely."""

    def doubted(*_: object) -> None:
        raise AssertionError("a rotation was doubted")

    monkeypatch.setattr("constitutive.laws.law.check_rotation", doubted)
    law, turns = LAWS[0], random_rotations(5000, np.random.default_rng(0))
    for n in (0, 1, 2048, 2049, 5000):
        law.response(np.zeros((n, 6)), orientation=turns[:n], tangent=False)
    law.response(np.zeros((3, 6)), orientation=torch.from_numpy(turns[0]))
    wrong = turns.copy()
    wrong[4999] = -wrong[4999]
    with pytest.raises(AssertionError, match="doubted"):
        law.response(np.zeros((5000, 6)), orientation=wrong)


def test_neo_hooke_from_its_formula() -> None:
    """W of tr C and det C; stress and tangent by automatic differentiation."""
    mu, lam = 40.0, 60.0
    strain = sample_strains(0.2, 20, np.random.default_rng(0))

    def energy(point: torch.Tensor) -> torch.Tensor:
        right = torch.eye(3, dtype=torch.float64) + 2.0 * to_tensor(point)
        log = 0.5 * torch.log(right[0] @ torch.linalg.cross(right[1], right[2]))  # det's own derivatives are too rough
        return 0.5 * mu * (torch.trace(right) - 3.0 - 2.0 * log) + 0.5 * lam * log**2

    answer, points = NeoHookeanLaw(mu, lam).response(strain), torch.from_numpy(strain)
    np.testing.assert_allclose(answer.energy, [float(energy(point)) for point in points], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(answer.stress, vmap(grad(energy))(points), atol=1e-12)
    np.testing.assert_allclose(mandel.unpack_upper(answer.tangent), vmap(hessian(energy))(points), atol=1e-11)


def test_all_36_entries_of_a_tangent_are_a_matrix_row_by_row() -> None:
    class Whole(NeoHookeanLaw):
        tangent_entries = 36

        def _evaluate(
            self, strain: torch.Tensor, tangent: bool
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
            energy, stress, entries = super()._evaluate(strain, tangent)
            return energy, stress, None if entries is None else torch.arange(36.0).double().expand(len(strain), 36)

    for strain in (np.zeros((5, 6)), torch.zeros(5, 6, dtype=torch.float64)):
        matrix = Whole(40.0, 60.0).stress_and_tangent(strain)[1]
        assert type(matrix) is type(strain)
        assert np.array_equal(matrix, np.tile(np.arange(36.0).reshape(6, 6), (5, 1, 1)))


def test_orders_and_scales_that_are_refused() -> None:
    stiffness = 100.0 * np.eye(6)
    for order in (1, 7):
        with pytest.raises(ValueError, match="expected an order from 2 to 6"):
            PolynomialLaw(PointGroup("m-3m"), order, stiffness)
    assert PolynomialLaw(PointGroup("m-3m"), 6, stiffness).order == 6
    for wrong in ({"energy_scale": 0.0}, {"strain_scale": 0.0}, {"energy_scale": -1.0}, {"strain_scale": float("nan")}):
        with pytest.raises(ValueError, match="expected positive scales"):
            SymmetricLaw("m-3m", 2, (2,), stiffness=stiffness, **wrong)
    for widths in ((), (0,), (2, 0)):
        with pytest.raises(ValueError, match="hidden widths of at least 1"):
            SymmetricLaw("m-3m", 2, widths, stiffness=stiffness)
    for measure in (-1.01, 1.01, float("nan")):
        with pytest.raises(ValueError, match="measure between −1 and 1"):
            SymmetricLaw("m-3m", 2, (1,), stiffness=stiffness, measure=measure)
    for measure in (-1.0, 1.0):
        SymmetricLaw("m-3m", 2, (1,), stiffness=stiffness, measure=measure)
    with pytest.raises(ValueError, match="1 for small strain"):
        SymmetricLaw("m-3m", 2, (1,), stiffness=stiffness, measure=0.0, strain_measure="small")


def test_ranges_and_measures_that_are_refused() -> None:
    for largest in (0.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="expected max_strain > 0"):
            SymmetricLaw("m-3m", 2, (1,), max_strain=largest)
    with pytest.raises(ValueError, match="'green_lagrange' or 'small', got 'hencky'"):
        SymmetricLaw("m-3m", 2, (1,), strain_measure="hencky")
    for mu, lam in ((0.0, 1.0), (-1.0, 3.0), (3.0, -2.0), (3.0, -2.1), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="expected μ > 0 and λ > −2μ/3"):
            NeoHookeanLaw(mu, lam)
    assert NeoHookeanLaw(3.0, -1.99).stiffness()[0, 0] == pytest.approx(4.01)


ISOTROPIC = 50.0 * np.outer(mandel.IDENTITY, mandel.IDENTITY) + 80.0 * np.eye(6)


@pytest.mark.parametrize(("law", "left_out"), [
    (NeoHookeanLaw(1.0, 2.0), {"units": "GPa"}),
    (PolynomialLaw(PointGroup("mmm"), 3, ISOTROPIC),
     {"units": "GPa", "max_strain": float("inf"), "strain_measure": "green_lagrange"}),
    (PolyconvexLaw("m-3m"), {"widths": [8, 8], "network": "directions", "strict": 1e-3, "energy_scale": 1.0,
     "strain_scale": 0.05, "units": "GPa", "max_strain": float("inf")}),
    (VonMisesLaw(70.0, 0.3, 0.1), {"kinematic": 0.0, "isotropic": 0.0, "saturation": 0.0, "saturation_rate": 0.0,
     "units": "GPa", "max_strain": float("inf")}),
    (InternalVariableLaw("m-3m", ISOTROPIC, 0.1, kinematic=1.0), {"isotropic": 0.0, "saturation": 0.0,
     "saturation_rate": 0.0, "viscosity": 0.0, "forms": 2, "seed": 0, "units": "GPa", "max_strain": float("inf")}),
    (LogarithmicStrainLaw(VonMisesLaw(70.0, 0.3, 0.1)), {"max_strain": float("inf")}),
], ids=lambda item: type(item).__name__)  # fmt: skip
def test_a_configuration_says_what_was_left_out_and_gives_the_law_back(law: Law, left_out: dict[str, object]) -> None:
    config = law.config()
    assert {name: config[name] for name in left_out} == left_out
    again = type(law).from_config(config)
    assert again.config() == config and again.group == law.group
    again.load_state_dict(law.state_dict())
    strain = sample_strains(0.002, 10, np.random.default_rng(0))
    ours, theirs = (one.stress_and_tangent(strain) for one in (law, again))
    assert np.array_equal(ours[0], theirs[0]) and np.array_equal(ours[1], theirs[1])


@pytest.mark.parametrize("widths", [(4,), (4, 3), (2, 5, 3)])
def test_network_is_its_formula(widths: tuple[int, ...]) -> None:
    """N = v · softplus(A_L … softplus(A_1 z + b_1) … + b_L)."""
    network = ScalarNetwork(3, widths, seed=2).requires_grad_(False)
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 3)))
    hidden = 10.0 * z.numpy()
    for weight, bias in zip(network.weights, network.biases, strict=True):
        hidden = np.logaddexp(0.0, hidden @ weight.numpy().T + bias.numpy())
    np.testing.assert_allclose(network(10.0 * z), hidden @ network.last.numpy(), rtol=1e-12)


PLACES = np.array([[0, 1, 2, 6], [3, 4, 5, 6], [1, 0, 5, 6]])


@pytest.mark.parametrize("widths", [(4,), (4, 3), (2, 5, 3)])
@pytest.mark.parametrize("convex", [False, True])
def test_slope_and_hessian_of_networks(widths: tuple[int, ...], convex: bool) -> None:
    """Against automatic differentiation; the input-convex network is averaged over copies."""
    network = ConvexNetwork(PLACES, widths, seed=3) if convex else ScalarNetwork(3, widths, seed=2)
    network.requires_grad_(False)
    shape = (9, 7, 6) if convex else (9, 3, 5)
    z, directions = (torch.from_numpy(np.random.default_rng(k).normal(size=shape[: 2 + k])) for k in (0, 1))

    def value(point: torch.Tensor) -> torch.Tensor:
        return network(point[None])[0]

    slope, bend = vmap(grad(value))(z), vmap(hessian(value))(z)
    found = network.curvature(z, directions)
    for ours in (network.gradient(z), found):
        torch.testing.assert_close(ours[0], network(z), rtol=1e-13, atol=0)
        torch.testing.assert_close(ours[1], slope, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found[2], directions.mT @ bend @ directions, rtol=1e-12, atol=1e-13)
    if convex:
        assert torch.linalg.eigvalsh(bend).min() > -1e-14 and slope[:, :6].min() > 0.0


def test_initial_weights_have_the_spread_of_glorot() -> None:
    """√(2/(in + out)) (Glorot and Bengio 2010); biases ½; the last layer 1/√width: outputs of order 1 at any width."""
    network = ScalarNetwork(300, (200, 400), seed=3)
    network.requires_grad_(False)
    for weight, size in zip(network.weights, ((200, 300), (400, 200)), strict=True):
        assert weight.shape == size
        assert float(weight.std()) == pytest.approx((2.0 / sum(size)) ** 0.5, rel=0.02)
        assert abs(float(weight.mean())) < 0.01 * float(weight.std())
    assert float(torch.cat(list(network.biases)).std()) == pytest.approx(0.5, rel=0.15)
    assert float(network.last.std()) == pytest.approx(400**-0.5, rel=0.15)
    again, other = ScalarNetwork(300, (200, 400), seed=3), ScalarNetwork(300, (200, 400), seed=4)
    assert torch.equal(again.last, network.last) and not torch.equal(other.last, network.last)
