"""What a piezoelectric law keeps: the full group with the field as a polar vector, objectivity, one enthalpy, units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.constants import epsilon_0
from torch.func import hessian, jacrev

from constitutive import (
    INVALID,
    OK,
    OUT_OF_RANGE,
    VACUUM_PERMITTIVITY,
    Law,
    NeoHookeanLaw,
    PiezoelectricLaw,
    PolynomialLaw,
    SymmetricLaw,
    audit,
    first_piola,
    first_piola_electromechanical,
    load,
)
from constitutive.laws.polynomial import higher_order_polynomials
from crystals import (
    CURIE_GROUPS,
    POINT_GROUPS,
    PointGroup,
    d_from_e,
    invariant_part,
    mandel,
    piezoelectric_constants,
    piezoelectric_from_constants,
    stiffness_from_constants,
    tensor_space,
)
from crystals.piezoelectricity import rotate_piezoelectric
from crystals.rotations import mandel_rotation, random_rotations, rotation_about

PIEZOELECTRIC = [s for s in POINT_GROUPS + CURIE_GROUPS if len(tensor_space(PointGroup(s), "i(jk)"))]
QUARTZ = {"C11": 86.74, "C12": 6.99, "C13": 11.91, "C14": -17.91, "C33": 107.2, "C44": 57.94}
QUARTZ_E = {"e11": 0.171, "e14": -0.0406}  # Bechmann 1958, doi:10.1103/PhysRev.110.1060
QUARTZ_KAPPA = np.diag([4.428, 4.428, 4.634]) * VACUUM_PERMITTIVITY


def elastic(symbol: str, generator: np.random.Generator, units: str = "GPa") -> PolynomialLaw:
    """A turned law with random second-, third- and fourth-order constants."""
    group = PointGroup(symbol, random_rotations(1, generator)[0])
    root = generator.normal(size=(6, 6))
    count = len(higher_order_polynomials(group, 4))
    stiffness = 60.0 * np.eye(6) + 10.0 * root @ root.T
    return PolynomialLaw(group, 4, stiffness, 300.0 * generator.normal(size=count), units=units)


def random_law(symbol: str, seed: int = 0) -> PiezoelectricLaw:
    generator = np.random.default_rng(seed)
    law = elastic(symbol, generator)
    space = tensor_space(law.group, "i(jk)")
    e = mandel.to_mandel(np.tensordot(generator.normal(size=len(space)), space, axes=1))
    root = generator.normal(size=(3, 3))
    kappa = invariant_part(np.eye(3) + root @ root.T, law.group, "(ij)")
    return PiezoelectricLaw(law, piezoelectric=e, permittivity=kappa)


def quartz(sign: float = 1.0) -> PiezoelectricLaw:
    group = PointGroup("32")
    e = sign * piezoelectric_from_constants(group, QUARTZ_E)
    return PiezoelectricLaw(
        PolynomialLaw(group, 2, stiffness_from_constants(group, QUARTZ)), piezoelectric=e, permittivity=QUARTZ_KAPPA
    )


def states(number: int, seed: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Strains of some percent, and fields of like energy."""
    generator = np.random.default_rng(seed)
    return 0.03 * generator.normal(size=(number, 6)), generator.normal(size=(number, 3))


def largest(array: np.ndarray) -> float:
    return float(np.max(np.abs(array)))


@pytest.mark.parametrize("symbol", PIEZOELECTRIC)
def test_the_full_group_leaves_the_enthalpy_alone(symbol: str) -> None:
    """H(gE, g𝓔) = H(E, 𝓔), S and D follow, for all operations, improper ones with the field as a polar vector."""
    law = random_law(symbol)
    strain, field = states(20)
    before = law.electromechanical(strain, field)
    for g in law.group.sample(6, np.random.default_rng(1)):
        turn = mandel_rotation(g)
        after = law.electromechanical(strain @ turn.T, field @ g.T)
        assert largest(after.enthalpy - before.enthalpy) < 1e-13 * largest(before.enthalpy)
        assert largest(after.stress - before.stress @ turn.T) < 1e-13 * largest(before.stress)
        assert largest(after.displacement - before.displacement @ g.T) < 1e-13 * largest(before.displacement)
        full = mandel.unpack_upper(after.tangent) - turn @ mandel.unpack_upper(before.tangent) @ turn.T
        assert largest(full) < 1e-13 * largest(before.tangent)
        assert largest(after.coupling - turn @ before.coupling @ g.T) < 1e-13 * largest(before.coupling)
        assert largest(after.permittivity - g @ before.permittivity @ g.T) < 1e-13 * largest(before.permittivity)


@pytest.mark.parametrize("symbol", PIEZOELECTRIC)
def test_operations_outside_the_group_do_not(symbol: str) -> None:
    """Negative control: the inversion, which W cannot see, and every other operation of the Laue class."""
    law = random_law(symbol)
    strain, field = states(20)
    before = law.electromechanical(strain, field)
    laue = [g for g in law.group.laue.sample(6, np.random.default_rng(1)) if g not in law.group]
    coupled = np.einsum("ni,ij,nj->n", field, law.piezoelectric.numpy(), strain)
    assert len(laue) > 0
    for g in [-np.eye(3), *laue]:
        after = law.electromechanical(strain @ mandel_rotation(g).T, field @ g.T)
        assert largest(after.enthalpy - before.enthalpy) > 0.1 * largest(coupled)
        zero = np.zeros_like(field)
        turned = law.electromechanical(strain @ mandel_rotation(g).T, zero).enthalpy
        assert np.allclose(turned, law.electromechanical(strain, zero).enthalpy, rtol=1e-12)


@pytest.mark.parametrize("symbol", ["1", "m", "32", "-43m", "∞m"])
def test_closed_form_is_the_derivative_of_one_enthalpy(symbol: str) -> None:
    """Against automatic differentiation of H written with full tensors; the second derivative is symmetric."""
    law = random_law(symbol)
    strain, field = states(10)
    full_e = torch.from_numpy(mandel.from_mandel(law.piezoelectric.numpy()))
    kappa = law.permittivity
    root = 2.0**-0.5
    place = torch.from_numpy(mandel.POSITION)
    weights = torch.tensor([1.0, 1.0, 1.0, root, root, root], dtype=torch.float64)

    def enthalpy(point: torch.Tensor) -> torch.Tensor:
        e_field, tensor = point[6:], (point[:6] * weights)[place]
        w = law.elastic._evaluate(point[None, :6], False)[0][0]
        coupled = torch.einsum("i,ijk,jk->", e_field, full_e, tensor)
        return w - coupled - 0.5 * e_field @ kappa @ e_field

    answer = law.electromechanical(strain, field)
    assert np.allclose(answer.coupling, -law.piezoelectric.numpy().T)
    for n in range(len(strain)):
        point = torch.from_numpy(np.concatenate([strain[n], field[n]]))
        gradient, second = jacrev(enthalpy)(point).numpy(), hessian(enthalpy)(point).numpy()
        closed = np.concatenate([answer.stress[n], -answer.displacement[n]])
        tangent = mandel.unpack_upper(answer.tangent)[n]
        blocks = np.block([[tangent, answer.coupling[n]], [answer.coupling[n].T, -answer.permittivity[n]]])
        assert abs(float(enthalpy(point)) - answer.enthalpy[n]) < 1e-13 * largest(answer.enthalpy)
        assert largest(gradient - closed) < 1e-13 * largest(closed)
        assert largest(second - blocks) < 1e-13 * largest(blocks)
        assert largest(blocks - blocks.T) < 1e-15 * largest(blocks)


def test_derivatives_by_central_differences() -> None:
    law = random_law("3m")
    strain, field = states(5)
    answer = law.electromechanical(strain, field)
    step = 1e-5
    for k in range(6):
        shift = step * np.eye(6)[k]
        plus, minus = (law.electromechanical(strain + s * shift, field, tangent=False) for s in (1, -1))
        assert plus.tangent is plus.coupling is plus.permittivity is None
        assert np.allclose((plus.enthalpy - minus.enthalpy) / (2 * step), answer.stress[:, k], rtol=1e-6, atol=1e-6)
        slope = (plus.displacement - minus.displacement) / (2 * step)
        assert np.allclose(slope, -answer.coupling[:, k], rtol=1e-7, atol=1e-7)
    for k in range(3):
        shift = step * np.eye(3)[k]
        plus, minus = (law.electromechanical(strain, field + s * shift, tangent=False) for s in (1, -1))
        assert np.allclose(
            (plus.enthalpy - minus.enthalpy) / (2 * step), -answer.displacement[:, k], rtol=1e-7, atol=1e-7
        )
        assert np.allclose((plus.stress - minus.stress) / (2 * step), answer.coupling[..., k], rtol=1e-6, atol=1e-6)
        slope = (plus.displacement - minus.displacement) / (2 * step)
        assert np.allclose(slope, answer.permittivity[..., k], rtol=1e-7, atol=1e-7)


def gradients(number: int, generator: np.random.Generator) -> np.ndarray:
    return random_rotations(number, generator) @ (np.eye(3) + 0.05 * generator.normal(size=(number, 3, 3)))


@pytest.mark.parametrize("symbol", ["1", "mm2", "32", "-43m", "∞m"])
def test_objectivity_and_symmetry_on_the_path_of_a_solver(symbol: str) -> None:
    """P(RF, Rf) = R P, D unchanged; P(FQᵀ, f) = P Qᵀ, D(FQᵀ, f) = Q D for the group, improper operations too."""
    law = random_law(symbol)
    generator = np.random.default_rng(2)
    deformation, field = gradients(20, generator), generator.normal(size=(20, 3))
    before = first_piola_electromechanical(law, deformation, field)
    turns = random_rotations(20, generator)
    turned_field = np.einsum("nij,nj->ni", turns, field)
    after = first_piola_electromechanical(law, turns @ deformation, turned_field)
    bound = 1e-12
    assert largest(after.stress - turns @ before.stress) < bound * largest(before.stress)
    assert largest(after.displacement - before.displacement) < bound * largest(before.displacement)
    expected = np.einsum("nia,nkb,naJbL->niJkL", turns, turns, before.dP_dF)
    assert largest(after.dP_dF - expected) < bound * largest(expected)
    expected = np.einsum("nia,nkb,naJb->niJk", turns, turns, before.dP_dfield)
    assert largest(after.dP_dfield - expected) < bound * largest(expected)
    # Negative control: the spatial field left behind
    wrong = first_piola_electromechanical(law, turns @ deformation, field)
    assert largest(wrong.stress - turns @ before.stress) > 1e-3 * largest(before.stress)
    for g in law.group.sample(4, generator):
        image = first_piola_electromechanical(law, deformation @ g.T, field)
        assert largest(image.stress - before.stress @ g.T) < bound * largest(before.stress)
        assert largest(image.displacement - before.displacement @ g.T) < bound * largest(before.displacement)
    if symbol != "1":
        image = first_piola_electromechanical(law, -deformation, field)
        assert largest(image.stress + before.stress) > 1e-3 * largest(before.stress)


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_derivatives_of_the_path(spatial: bool, turned: bool) -> None:
    """∂P/∂F, ∂P/∂f, ∂D/∂F, ∂D/∂f against central differences, at an orientation; one enthalpy for the material field."""
    law = random_law("3m", seed=4)
    generator = np.random.default_rng(3)
    deformation, field = gradients(5, generator), generator.normal(size=(5, 3))
    orientation = random_rotations(5, generator) if turned else None
    answer = first_piola_electromechanical(law, deformation, field, orientation, spatial=spatial)
    assert answer.dP_dF is not None and answer.dD_dF is not None
    assert answer.dP_dfield is not None and answer.dD_dfield is not None
    step = 1e-6

    def slope(shift_f: np.ndarray, shift_field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        plus, minus = (
            first_piola_electromechanical(
                law, deformation + s * step * shift_f, field + s * step * shift_field, orientation, spatial=spatial,
                tangent=False,
            )
            for s in (1, -1)
        )  # fmt: skip
        return (plus.stress - minus.stress) / (2 * step), (plus.displacement - minus.displacement) / (2 * step)

    for k in range(3):
        for column in range(3):
            shift = np.zeros((3, 3))
            shift[k, column] = 1.0
            stress, displacement = slope(shift, np.zeros(3))
            assert largest(stress - answer.dP_dF[..., k, column]) < 1e-7 * largest(answer.dP_dF)
            assert largest(displacement - answer.dD_dF[..., k, column]) < 1e-7 * largest(answer.dD_dF)
        stress, displacement = slope(np.zeros((3, 3)), np.eye(3)[k])
        assert largest(stress - answer.dP_dfield[..., k]) < 1e-7 * largest(answer.dP_dfield)
        assert largest(displacement - answer.dD_dfield[..., k]) < 1e-7 * largest(answer.dD_dfield)
    if not spatial:
        assert np.array_equal(answer.dD_dF, -np.einsum("niJK->nKiJ", answer.dP_dfield))
        flat = answer.dP_dF.reshape(5, 9, 9)
        assert largest(flat - np.swapaxes(flat, 1, 2)) < 1e-14 * largest(flat)


def test_orientation_and_both_kinds_of_field_agree() -> None:
    """A law turned by its frame is the law turned by its orientation; 𝓔 = Fᵀ f."""
    law, generator = quartz(), np.random.default_rng(6)
    q = random_rotations(1, generator)[0]
    group = PointGroup("32", q)
    turned = PiezoelectricLaw(
        PolynomialLaw(group, 2, stiffness_from_constants(group, QUARTZ)),
        piezoelectric=piezoelectric_from_constants(group, QUARTZ_E), permittivity=q @ QUARTZ_KAPPA @ q.T,
    )  # fmt: skip
    deformation, field = gradients(5, generator), generator.normal(size=(5, 3))
    one = first_piola_electromechanical(law, deformation, field, q)
    other = first_piola_electromechanical(turned, deformation, field)
    for first, second in zip(one, other, strict=True):
        assert np.allclose(first, second, atol=1e-12 * largest(first))
    material = np.einsum("nkK,nk->nK", deformation, field)
    third = first_piola_electromechanical(law, deformation, material, q, spatial=False)
    assert np.allclose(one.stress, third.stress, atol=1e-13) and np.allclose(one.displacement, third.displacement)
    # zero field: the elastic law's own path
    zero = first_piola_electromechanical(law, deformation, 0 * field, q)
    piola, derivative = first_piola(law.elastic, deformation, q)
    assert np.allclose(zero.stress, piola, atol=1e-13) and np.allclose(zero.dP_dF, derivative, atol=1e-11)


def test_free_quartz_strains_by_d_and_charges_by_d() -> None:
    """1 MV/m along x strains free quartz by d11 = 2.31 pC/N; a stress at zero field gives D = d σ (units, both effects)."""
    law = quartz()
    stiffness = law.stiffness()
    field = np.array([[1e-3, 0.0, 0.0]])  # GV/m
    clamped = law.electromechanical(np.zeros((1, 6)), field)
    free = -np.linalg.solve(stiffness, clamped.stress[0])
    assert largest(law.electromechanical(free[None], field).stress) < 1e-17
    assert np.array_equal(
        law.electromechanical([[0.0] * 6], [[1e-3, 0.0, 0.0]]).stress, clamped.stress
    )  # lists will do
    voigt = mandel.strain_to_voigt(free)
    assert np.allclose(voigt[:2], [2.31e-6, -2.31e-6], rtol=2e-3)
    assert np.isclose(voigt[3], 0.727e-6, rtol=3e-3)
    # d26 = −2 d11: the field along y shears xy
    across = law.electromechanical(np.zeros((1, 6)), np.array([[0.0, 1e-3, 0.0]])).stress[0]
    assert np.isclose(mandel.strain_to_voigt(-np.linalg.solve(stiffness, across))[5], -2 * voigt[0], rtol=1e-12)
    # direct effect: 10 MPa of tension along x at zero field, D1 = 2.31 pC/N · 10 MPa = 23.1 µC/m²
    pulled = np.linalg.solve(stiffness, np.array([0.01, 0, 0, 0, 0, 0]))
    charged = law.electromechanical(pulled[None], np.zeros((1, 3))).displacement[0]
    assert np.allclose(charged, [2.31e-5, 0, 0], rtol=2e-3, atol=1e-12)
    # energy of the clamped crystal: −½ κ 𝓔² = −½ · 39.2 pF/m · (1 MV/m)² = −19.6 J/m³ = −1.96e-8 GPa
    assert np.isclose(clamped.enthalpy[0], -1.96e-8, rtol=1e-3)


def test_a_law_in_pascal_is_the_same_crystal() -> None:
    law, group = quartz(), PointGroup("32")
    stiffness = 1e9 * stiffness_from_constants(group, QUARTZ)
    pascal = PiezoelectricLaw(
        PolynomialLaw(group, 2, stiffness, units="Pa"), piezoelectric=piezoelectric_from_constants(group, QUARTZ_E),
        permittivity=QUARTZ_KAPPA * 1e-9,
    )  # fmt: skip
    assert law.field_units == "GV/m" and pascal.field_units == "V/m"
    strain, field = states(5)
    ours, theirs = law.electromechanical(strain, 1e-3 * field), pascal.electromechanical(strain, 1e6 * field)
    assert np.allclose(ours.stress, 1e-9 * theirs.stress) and np.allclose(ours.displacement, theirs.displacement)
    with pytest.raises(ValueError, match="at least that of vacuum, 8.854e-12 F/m"):
        PiezoelectricLaw(pascal.elastic, piezoelectric=np.zeros((3, 6)), permittivity=1e-12 * np.eye(3))


def test_left_and_right_crystals_share_the_elastic_part() -> None:
    left, right = quartz(), quartz(-1.0)
    strain, field = states(10)
    assert np.array_equal(left.response(strain).stress, right.response(strain).stress)
    zero = 0 * field
    assert np.array_equal(left.electromechanical(strain, zero).enthalpy, right.electromechanical(strain, zero).enthalpy)
    assert np.array_equal(
        left.electromechanical(strain, zero).displacement, -right.electromechanical(strain, zero).displacement
    )
    # the mirror image of the left crystal is the right one, in every state
    mirror = np.diag([-1.0, 1.0, 1.0])
    assert np.allclose(rotate_piezoelectric(mirror, left.piezoelectric.numpy()), right.piezoelectric.numpy())
    image = right.electromechanical(strain @ mandel_rotation(mirror).T, field @ mirror.T)
    assert np.allclose(image.enthalpy, left.electromechanical(strain, field).enthalpy, rtol=1e-13)
    assert not np.allclose(
        right.electromechanical(strain, field).enthalpy, left.electromechanical(strain, field).enthalpy
    )


def test_response_is_the_short_circuited_crystal() -> None:
    law = random_law("32")
    strain, field = states(10)
    ours, theirs = law.response(strain), law.elastic.response(strain)
    for a, b in zip(ours, theirs, strict=True):
        assert np.array_equal(a, b)
    assert not np.allclose(law.electromechanical(strain, field).stress, theirs.stress)
    report = audit(quartz(), number=50)
    assert report.passed, str(report)


def test_any_hyperelastic_law_carries_a_crystal_of_its_own_or_lower_symmetry() -> None:
    kappa = np.diag([1700.0, 1700.0, 1470.0]) * VACUUM_PERMITTIVITY
    poled = PointGroup("∞m")
    e = piezoelectric_from_constants(poled, {"e31": -6.5, "e33": 23.3, "e15": 17.0})
    strain, field = states(5)
    laws: list[Law] = [NeoHookeanLaw(30.0, 60.0), SymmetricLaw(PointGroup("∞/mm"), max_strain=0.1)]
    for base in laws:
        law = PiezoelectricLaw(base, piezoelectric=e, permittivity=kappa, group=poled)
        answer = law.electromechanical(strain, field)
        assert np.allclose(answer.displacement, strain @ e.T + field @ kappa)
        assert np.allclose(answer.stress, base.response(strain).stress - field @ e)


def test_torch_float32_chunks_and_bad_points() -> None:
    law = random_law("32")
    strain, field = states(5000)
    reference = law.electromechanical(strain, field)
    single = law.electromechanical(torch.from_numpy(strain).float(), torch.from_numpy(field).float())
    assert single.stress.dtype == single.coupling.dtype == torch.float32
    assert largest(single.stress.numpy() - reference.stress) < 1e-5 * largest(reference.stress)
    again = law.electromechanical(torch.from_numpy(strain), torch.from_numpy(field))
    assert np.array_equal(again.stress.numpy(), reference.stress)
    bad_strain, bad_field = strain[:4].copy(), field[:4].copy()
    bad_strain[1, 0], bad_strain[3] = -0.6, np.nan
    bad_field[2, 1] = np.inf
    answer = law.electromechanical(bad_strain, bad_field)
    assert answer.status.tolist() == [OK, INVALID, INVALID, INVALID]
    for array in answer[:-1]:
        assert np.isfinite(array[0]).all() and np.isnan(array[1:]).all()
    limited = PiezoelectricLaw(
        SymmetricLaw(PointGroup("32"), max_strain=0.01), piezoelectric=np.zeros((3, 6)), permittivity=np.eye(3)
    )
    assert limited.electromechanical(strain[:1], field[:1]).status.tolist() == [OUT_OF_RANGE]


@pytest.mark.parametrize("base", ["polynomial", "symmetric", "neo-hooke"])
def test_law_file(base: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(8)
    if base == "polynomial":
        law = random_law("3m")
    else:
        group = PointGroup("4mm", random_rotations(1, generator)[0])
        inner = NeoHookeanLaw(30.0, 60.0) if base == "neo-hooke" else SymmetricLaw(group, max_strain=0.1, seed=3)
        e = piezoelectric_from_constants(group, {"e15": 1.0, "e31": -2.0, "e33": 3.0})
        kappa = group.frame @ np.diag([1.0, 1.0, 2.0]) @ group.frame.T
        law = PiezoelectricLaw(inner, piezoelectric=e, permittivity=kappa, group=group)
    law.metadata["kind"] = "relaxed-ion"
    law.save(tmp_path / "crystal.law")
    back = load(tmp_path / "crystal.law")
    assert isinstance(back, PiezoelectricLaw) and type(back.elastic) is type(law.elastic)
    assert repr(back) == repr(law) and "relaxed-ion" in repr(back)
    strain, field = states(20)
    for a, b in zip(law.electromechanical(strain, field), back.electromechanical(strain, field), strict=True):
        assert np.allclose(a, b, rtol=1e-13, atol=1e-13 * largest(a))


def test_repr_names_the_constants() -> None:
    assert repr(quartz()) == (
        "PiezoelectricLaw('32', C11=86.7 C33=107.2 C12=7.0 C13=11.9 C44=57.9 C14=-17.9 GPa, e11=0.171 e14=-0.0406 C/m², "
        "κ11=0.03921 κ33=0.04103 nF/m)"
    )


@pytest.mark.parametrize("symbol", [s for s in POINT_GROUPS + CURIE_GROUPS if s not in PIEZOELECTRIC])
def test_groups_that_are_not_piezoelectric_refuse_e(symbol: str) -> None:
    """The centrosymmetric groups, 432 and ∞∞, each with its reason; without e they are dielectrics."""
    group = PointGroup(symbol)
    base = PolynomialLaw(group, 2, 100.0 * np.eye(6))
    e = np.zeros((3, 6))
    law = PiezoelectricLaw(base, piezoelectric=e, permittivity=np.eye(3))
    answer = law.electromechanical(np.zeros((1, 6)), np.ones((1, 3)))
    assert np.allclose(answer.displacement, 1.0, rtol=1e-14) and not np.any(answer.stress)
    assert "not piezoelectric" in repr(law)
    e[0, 3] = e[1, 4] = e[2, 5] = 1e-6
    reason = "holds the inversion" if -np.eye(3) in group else "leave no third-rank tensor"
    with pytest.raises(ValueError, match=f"expected piezoelectric = 0 for {symbol}.*{reason}"):
        PiezoelectricLaw(base, piezoelectric=e, permittivity=np.eye(3))


def test_mistakes_are_named() -> None:
    group, law = PointGroup("32"), quartz()
    base, e = law.elastic, law.piezoelectric.numpy()
    d = d_from_e(e, law.stiffness())
    as_voigt = mandel.stress_from_voigt(mandel.strain_to_voigt(d))  # Voigt d given as Voigt e: d26 = −2 d11
    with pytest.raises(ValueError, match="e26 = -4.614 where the group needs -2.307.*factor 2"):
        PiezoelectricLaw(base, piezoelectric=as_voigt, permittivity=QUARTZ_KAPPA)
    assert piezoelectric_constants(d, group, "d")["d11"] == pytest.approx(2.307, abs=1e-3)
    off = e.copy()
    off[0, 0] *= 1 + 1e-6
    with pytest.raises(ValueError, match="e12 = "):
        PiezoelectricLaw(base, piezoelectric=off, permittivity=QUARTZ_KAPPA)
    PiezoelectricLaw(base, piezoelectric=e * (1 + 1e-15), permittivity=QUARTZ_KAPPA)
    turned = rotate_piezoelectric(rotation_about([0, 0, 1], np.pi / 6), e)
    with pytest.raises(ValueError, match="e16 = -?0.171 where the group needs 0"):
        PiezoelectricLaw(base, piezoelectric=turned, permittivity=QUARTZ_KAPPA)
    with pytest.raises(ValueError, match="κ11 = 0.1, where the group's mean is 0.15"):
        PiezoelectricLaw(base, piezoelectric=e, permittivity=np.diag([0.1, 0.2, 0.3]))
    for i, j in ((0, 2), (1, 2), (0, 1)):
        slanted = QUARTZ_KAPPA.copy()
        slanted[i, j] = slanted[j, i] = 1e-10 * slanted[2, 2]
        rounded = PiezoelectricLaw(base, piezoelectric=e, permittivity=slanted).permittivity.numpy()
        assert rounded[i, j] == rounded[j, i] == 0.0
        slanted[i, j] = slanted[j, i] = 1e-8 * slanted[2, 2]
        with pytest.raises(ValueError, match=f"κ{i + 1}{j + 1} = 4.103e-10, where the group's mean is 0"):
            PiezoelectricLaw(base, piezoelectric=e, permittivity=slanted)
    with pytest.raises(ValueError, match="expected a finite permittivity of shape"):
        PiezoelectricLaw(base, piezoelectric=e, permittivity=np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="expected a finite permittivity of shape"):
        PiezoelectricLaw(base, piezoelectric=e, permittivity=np.ones((2, 3)))
    with pytest.raises(ValueError, match="give κ in nF/m"):
        PiezoelectricLaw(base, piezoelectric=e, permittivity=1e-9 * QUARTZ_KAPPA)
    PiezoelectricLaw(base, piezoelectric=e, permittivity=VACUUM_PERMITTIVITY * np.eye(3))
    with pytest.raises(ValueError, match="vacuum, 0.008854 nF/m"):
        PiezoelectricLaw(base, piezoelectric=e, permittivity=0.999 * VACUUM_PERMITTIVITY * np.eye(3))
    with pytest.raises(ValueError, match="whose operations leave W alone"):
        PiezoelectricLaw(base, piezoelectric=0 * e, permittivity=QUARTZ_KAPPA, group=PointGroup("6mm"))
    with pytest.raises(ValueError, match="whose operations leave W alone"):
        turned_group = PointGroup("32", rotation_about([0, 0, 1], np.pi / 6))
        PiezoelectricLaw(base, piezoelectric=0 * e, permittivity=QUARTZ_KAPPA, group=turned_group)
    with pytest.raises(ValueError, match="units 'eV/Å³'"):
        PiezoelectricLaw(NeoHookeanLaw(1.0, 1.0, units="eV/Å³"), piezoelectric=0 * e, permittivity=np.eye(3))
    with pytest.raises(TypeError, match="Pass W"):
        PiezoelectricLaw(law, piezoelectric=e, permittivity=QUARTZ_KAPPA)
    with pytest.raises(ValueError, match=r"expected a field of shape \(2, 3\), got \(2, 6\)"):
        law.electromechanical(np.zeros((2, 6)), np.zeros((2, 6)))
    with pytest.raises(TypeError, match="both numpy or both torch"):
        law.electromechanical(np.zeros((2, 6)), torch.zeros(2, 3))
    with pytest.raises(TypeError, match="real fields"):
        law.electromechanical(np.zeros((2, 6)), np.zeros((2, 3), dtype=complex))
    with pytest.raises(ValueError, match="a field of shape"):
        first_piola_electromechanical(law, np.eye(3)[None], np.zeros((2, 3)))
    for gradient in (np.eye(3), np.zeros((1, 3, 2)), np.zeros((1, 1, 3, 3)), np.zeros((3, 3, 3, 3))):
        with pytest.raises(ValueError, match=r"expected F of shape \(n, 3, 3\)"):
            first_piola_electromechanical(law, gradient, np.zeros((len(gradient), 3)))
    small = PiezoelectricLaw(
        PolynomialLaw(group, 2, np.eye(6), strain_measure="small"), piezoelectric=e, permittivity=QUARTZ_KAPPA
    )
    with pytest.raises(ValueError, match="law of Green–Lagrange strain"):
        first_piola_electromechanical(small, np.eye(3)[None], np.zeros((1, 3)))


def test_an_elastic_law_may_give_all_36_entries() -> None:
    class Whole(NeoHookeanLaw):
        tangent_entries = 36

        def _evaluate(
            self, strain: torch.Tensor, tangent: bool
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
            energy, stress, entries = super()._evaluate(strain, tangent)
            return energy, stress, None if entries is None else mandel.unpack_upper(entries).reshape(-1, 36)

    generator = np.random.default_rng(0)
    gradient = np.eye(3) + 0.05 * generator.normal(size=(5, 3, 3))
    field = 0.01 * generator.normal(size=(5, 3))
    e = piezoelectric_from_constants(PointGroup("6mm"), {"e31": -0.5, "e33": 1.2, "e15": -0.4})
    upper, whole = (
        first_piola_electromechanical(
            PiezoelectricLaw(
                elastic(30.0, 60.0), piezoelectric=e, permittivity=0.1 * np.eye(3), group=PointGroup("6mm")
            ), gradient, field, rotation_about([1, 2, 3], 0.5),
        ) for elastic in (NeoHookeanLaw, Whole)
    )  # fmt: skip
    for ours, theirs in zip(whole, upper, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_the_permittivity_of_vacuum_in_the_units_of_the_law() -> None:
    """CODATA 2018: 8.8541878128e-12 F/m; C/m² over GV/m is 1e9 of it."""
    assert VACUUM_PERMITTIVITY == pytest.approx(8.854187812e-3, rel=1e-9)
    assert VACUUM_PERMITTIVITY / epsilon_0 == pytest.approx(1e9, rel=1e-15)
    for units, size, field in (("Pa", 1.0, "V/m"), ("MPa", 1e6, "MV/m"), ("GPa", 1e9, "GV/m")):
        base, vacuum = NeoHookeanLaw(1.0, 1.0, units=units), size * epsilon_0 * np.eye(3)
        law = PiezoelectricLaw(base, piezoelectric=np.zeros((3, 6)), permittivity=vacuum)
        assert law.field_units == field
        with pytest.raises(ValueError, match="expected a permittivity of at least that of vacuum"):
            PiezoelectricLaw(base, piezoelectric=np.zeros((3, 6)), permittivity=(1.0 - 1e-8) * vacuum)
