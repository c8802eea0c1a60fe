"""Plane meshes, laws and boundary values that several tests of the fem room share."""

from __future__ import annotations

import numpy as np
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from dolfinx.fem import petsc
from mpi4py import MPI

from constitutive import PolynomialLaw
from crystals import PointGroup
from fem import EquilibriumProblem, QuadratureMaterial
from fem.dolfinx_versions import compile_form, create_mesh, lagrange_space


def isotropic(young, poisson, measure="small"):
    lam, mu = young * poisson / ((1 + poisson) * (1 - 2 * poisson)), young / (2 * (1 + poisson))
    stiffness = 2 * mu * np.eye(6)
    stiffness[:3, :3] += lam
    return PolynomialLaw(PointGroup("isotropic"), 2, stiffness, strain_measure=measure, units="GPa")


def square(n=3, cell="quadrilateral", degree=1, low=(1.0, 0.0), high=(2.0, 1.0), distort=True):
    domain = mesh.create_rectangle(
        MPI.COMM_WORLD, [np.array(low), np.array(high)], (n, n), getattr(mesh.CellType, cell)
    )
    x = domain.geometry.x
    if distort:
        inner = np.all((x[:, :2] > np.array(low) + 0.01) & (x[:, :2] < np.array(high) - 0.01), axis=1)
        x[inner, :2] += 0.08 * np.random.default_rng(1).uniform(-1, 1, (inner.sum(), 2))
    return dfem.Function(lagrange_space(domain, "CG", degree, (2,)))


def everywhere(u, field):
    """Boundary values of a field on the whole boundary."""
    space = u.function_space
    domain = space.mesh
    domain.topology.create_connectivity(1, 2)
    facets = mesh.exterior_facet_indices(domain.topology)
    value = dfem.Function(space)
    value.interpolate(field)
    return value, dfem.dirichletbc(value, dfem.locate_dofs_topological(space, 1, facets))


def cook(n):
    """Cook's membrane: corners (0, 0), (48, 44), (48, 60), (0, 44)."""
    s, t = np.meshgrid(np.linspace(0, 1, n + 1), np.linspace(0, 1, n + 1), indexing="ij")
    points = np.stack([48 * s, 44 * s + t * (44 * (1 - s) + 16 * s)], axis=-1).reshape(-1, 2)
    number = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    cells = np.stack([number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]], axis=-1).reshape(-1, 4)
    return create_mesh(MPI.COMM_WORLD, cells, points, "quadrilateral")


def cook_problem(law, n, degree, force, **options):
    domain = cook(n)
    space = lagrange_space(domain, "CG", degree, (2,))
    u, v = dfem.Function(space), ufl.TestFunction(space)
    material = QuadratureMaterial(law, u, degree=2 * degree, **options)
    facets = mesh.locate_entities_boundary(domain, 1, lambda x: np.isclose(x[0], 48.0))
    tags = mesh.meshtags(domain, 1, np.sort(facets), np.full(len(facets), 1, dtype=np.int32))
    ds = ufl.Measure("ds", domain=domain, subdomain_data=tags)
    load = dfem.Constant(domain, force / 16.0)
    left = dfem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], 0.0))
    held = dfem.dirichletbc(np.zeros(2), left, space)
    problem = EquilibriumProblem(material.virtual_work(v) - load * v[1] * ds(1), u, [material], bcs=[held])
    middle = dfem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], 48.0) & np.isclose(x[1], 52.0))

    def tip():
        return u.x.array.reshape(-1, 2)[middle[0], 1]

    return problem, load, tip


def assert_matrix_is_the_slope(material, u, residual, matrix, tolerance=1e-8):
    """The matrix times a random direction equals central differences of the residual along it."""
    compiled = compile_form(residual)
    direction, start = np.random.default_rng(1).standard_normal(len(u.x.array)), u.x.array.copy()

    def at(step):
        u.x.array[:] = start + step * direction
        assert material.update(tangent=False)
        return petsc.assemble_vector(compiled).array.copy()

    difference = (at(1e-6) - at(-1e-6)) / 2e-6
    vector = matrix.createVecRight()
    vector.array[:] = direction
    assert np.abs((matrix * vector).array - difference).max() < tolerance * np.abs(difference).max()
