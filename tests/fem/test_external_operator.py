"""The adapter for dolfinx-external-operator: its two functions, and the package itself where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx.fem import petsc

from constitutive import VonMisesLaw
from crystals.rotations import rotation_about
from fem import EquilibriumProblem, QuadratureMaterial
from fem.dolfinx_versions import quadrature_space
from fem.external_operator import external_function
from fem.kinematics import strain_ufl

TURN = rotation_about([1.0, 2.0, -0.5], 0.7)


def test_functions_give_what_the_material_gives(cube, cubic_law):
    u, _, _ = cube()
    u.x.array[:] = 0.03 * np.random.default_rng(0).standard_normal(len(u.x.array))
    law = cubic_law()
    material = QuadratureMaterial(law, u, orientation=TURN)
    choose = external_function(law, orientation=TURN)
    strain = material.strain_sample.reshape(len(material.cells), -1)
    np.testing.assert_allclose(choose((0,))(strain), material.second_piola.reshape(-1), atol=1e-12)
    tangent = choose((1,))(strain).reshape(-1, 6, 6)
    rows, columns = np.triu_indices(6)
    own = material.tangent.x.array.reshape(-1, 21)
    np.testing.assert_allclose(tangent[:, rows, columns], own, atol=1e-11)
    with pytest.raises(ValueError, match=r"not supported: the derivative \(2,\)"):
        choose((2,))
    with pytest.raises(ValueError, match="without internal variables"):
        external_function(VonMisesLaw(200.0, 0.3, 0.4))


def test_the_package_assembles_the_same(cube, cubic_law):
    """Residual and matrix through dolfinx-external-operator equal ours."""
    package = pytest.importorskip("dolfinx_external_operator", reason="needs DOLFINx 0.10 and the package")
    u, _, _ = cube()
    u.x.array[:] = 0.03 * np.random.default_rng(0).standard_normal(len(u.x.array))
    law, space = cubic_law(), u.function_space
    v, du = ufl.TestFunction(space), ufl.TrialFunction(space)
    material = QuadratureMaterial(law, u, orientation=TURN)
    strain = strain_ufl(ufl.grad(u), "finite")
    stress = package.FEMExternalOperator(
        strain,
        function_space=quadrature_space(space.mesh, 2, 6),
        external_function=external_function(law, orientation=TURN),
    )
    form = ufl.inner(stress, material.strain_variation(v)) * material.dx
    residual, residual_operators = package.replace_external_operators(form)
    derivative = ufl.algorithms.expand_derivatives(ufl.derivative(form, u, du))
    jacobian, jacobian_operators = package.replace_external_operators(derivative)
    operands = package.evaluate_operands(residual_operators)
    package.evaluate_external_operators(residual_operators, operands)
    package.evaluate_external_operators(jacobian_operators, operands)
    b = petsc.assemble_vector(dfem.form(residual)).array
    matrix = petsc.assemble_matrix(dfem.form(jacobian))
    matrix.assemble()
    problem = EquilibriumProblem(material.virtual_work(v), u, [material])
    own = petsc.assemble_vector(problem._residual_form).array
    np.testing.assert_allclose(b, own, atol=1e-11 * np.abs(own).max())
    problem._assemble_matrix()
    vector = matrix.createVecRight()
    vector.array[:] = np.random.default_rng(1).standard_normal(len(vector.array))
    ours = (problem._matrix * vector).array
    np.testing.assert_allclose((matrix * vector).array, ours, atol=1e-11 * np.abs(ours).max())
