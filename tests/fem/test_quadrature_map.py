"""The adapter for dolfinx_materials, by the calls its QuadratureMap makes: no registry has the package itself."""

from __future__ import annotations

import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx.fem import petsc

from constitutive import InternalVariableLaw, VonMisesLaw
from crystals.rotations import rotation_about
from fem import QuadratureMaterial
from fem.dolfinx_versions import compile_expression, compile_form, evaluate, quadrature_rule, quadrature_space
from fem.quadrature_map import LawMaterial

TURN = rotation_about([1.0, 2.0, -0.5], 0.7)
ROOT = np.sqrt(2)


def theirs(tensor):
    """Components as dolfinx_materials' symmetric_tensor_to_vector orders them."""
    return ufl.as_vector(
        [tensor[0, 0], tensor[1, 1], tensor[2, 2], ROOT * tensor[0, 1], ROOT * tensor[0, 2], ROOT * tensor[1, 2]]
    )


@pytest.mark.parametrize("plastic", [False, True])
def test_residual_and_tangent_through_their_forms(cube, cubic_law, plastic):
    """Stress and tangent in their order give our residual and our tangent's action."""
    u, _, _ = cube()
    u.x.array[:] = 0.005 * np.random.default_rng(0).standard_normal(len(u.x.array))
    law = VonMisesLaw(200.0, 0.3, 0.4, isotropic=10.0) if plastic else cubic_law(strain_measure="small")
    turn = None if plastic else TURN
    ours = QuadratureMaterial(law, u, kinematics="small", orientation=turn)
    material = LawMaterial(law, orientation=turn)
    points = len(ours.status)
    material.set_data_manager(points)
    material.set_initial_state_dict({name: np.zeros((points, size)) for name, size in material.variables.items()})
    strain = compile_expression(theirs(ufl.sym(ufl.grad(u))), quadrature_rule(ours.mesh, 2)[0])
    values = evaluate(strain, ours.mesh, ours.cells, 6)
    stress, internal, tangent = material.integrate(values)
    assert internal.shape == (points, sum(material.internal_state_variables.values()))
    flux = dfem.Function(quadrature_space(ours.mesh, 2, 6))
    block = dfem.Function(quadrature_space(ours.mesh, 2, 36))
    flux.x.array[:], block.x.array[:] = stress.ravel(), tangent.ravel()
    v, direction = ufl.TestFunction(u.function_space), dfem.Function(u.function_space)
    direction.x.array[:] = np.random.default_rng(1).standard_normal(len(u.x.array))
    jacobian = ufl.as_matrix([[block[6 * i + j] for j in range(6)] for i in range(6)])
    change = theirs(ufl.sym(ufl.grad(direction)))
    pairs = [
        (ufl.dot(flux, theirs(ufl.sym(ufl.grad(v)))) * ours.dx, ours.virtual_work(v)),
        (ufl.dot(ufl.dot(jacobian, change), theirs(ufl.sym(ufl.grad(v)))) * ours.dx,
         ufl.dot(ours.stress_variation(direction), ours.strain_variation(v)) * ours.dx),
    ]  # fmt: skip
    for form, own in pairs:
        a, b = (petsc.assemble_vector(compile_form(f)).array for f in (form, own))
        np.testing.assert_allclose(a, b, atol=1e-12 * np.abs(b).max())
    if plastic:
        np.testing.assert_allclose(material.get_final_state_dict()["accumulated"][:, 0], ours.trial_state[:, 6])
        assert ours.trial_state[:, 6].max() > 1e-4


def test_state_advances_when_told():
    """Integrating twice forgets the first; after an advance the second starts where the first ended."""
    law = VonMisesLaw(200.0, 0.3, 0.4, kinematic=5.0)
    material = LawMaterial(law)
    material.set_data_manager(2)
    load = np.array([[0.004, -0.002, -0.002, 0.003, 0.0, 0.001], [0.0, 0.0, 0.0, 0.006, 0.0, 0.0]])
    first, _, _ = material.integrate(load)
    again, _, _ = material.integrate(load)
    np.testing.assert_array_equal(first, again)
    virgin, _, _ = material.integrate(np.zeros((2, 6)))
    assert np.all(virgin == 0)
    material.integrate(load)
    material.data_manager.update()
    unloaded, internal, _ = material.integrate(np.zeros((2, 6)))
    own = law.response(np.zeros((2, 6)), state=law.response(load[:, [0, 1, 2, 5, 4, 3]]).state)
    assert np.abs(unloaded).max() > 0.1
    np.testing.assert_allclose(unloaded[:, [0, 1, 2, 5, 4, 3]], own.stress, atol=1e-14)
    np.testing.assert_allclose(internal[1, 3], own.state[1, 5], rtol=1e-14)  # shear 12 stands fourth in theirs
    material.data_manager.revert()
    np.testing.assert_allclose(material.get_final_state_dict()["Stress"], first, atol=1e-15)


def test_what_is_not_supported_says_so():
    stiffness = 150.0 * np.eye(6)
    stiffness[:3, :3] += 90.0
    law = InternalVariableLaw("isotropic", stiffness, 0.2, kinematic=1.0, isotropic=5.0, viscosity=200.0, forms=1)
    with pytest.raises(ValueError, match="not supported: a law that depends on the rate"):
        LawMaterial(law)
    with pytest.raises(ValueError, match="proper rotations"):
        LawMaterial(VonMisesLaw(200.0, 0.3, 0.4), orientation=np.diag([1.0, 1.0, -1.0]))
