"""Plane strain, plane stress and bodies of revolution: patch tests, tangents, rates, and values from the literature."""

from __future__ import annotations

import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh
from dolfinx.fem import petsc
from mpi4py import MPI
from plane_problems import assert_matrix_is_the_slope, cook_problem, everywhere, isotropic, square

from constitutive.driver import constrained_response
from constitutive.laws.neo_hooke import NeoHookeanLaw
from crystals import mandel
from crystals.rotations import rotation_about
from fem import EquilibriumProblem, QuadratureMaterial
from fem.dolfinx_versions import compile_form, lagrange_space
from fem.residual import tangent_form

TURN = rotation_about([1.0, 2.0, -0.5], 0.7)
#: turns the crystal in the meridian plane (r, z) and leaves the mirror normal to θ
ABOUT_THETA = rotation_about([0.0, 0.0, 1.0], 0.4)
PLANES = ("plane_strain", "plane_stress", "axisymmetric")
FREE = np.array([False, False, True, True, True, False])


@pytest.mark.parametrize("cell", ["quadrilateral", "triangle"])
@pytest.mark.parametrize("kinematics", ["finite", "small"])
@pytest.mark.parametrize("section", PLANES[:2])
def test_patch(cubic_law, section, kinematics, cell):
    """A linear field on the boundary of a distorted mesh is reproduced; the stress is that of the law in 3D."""
    u = square(cell=cell)
    gradient = 0.04 * np.random.default_rng(0).standard_normal((2, 2))
    value, bc = everywhere(u, lambda x: gradient @ x[:2])
    law = cubic_law(strain_measure={"finite": "green_lagrange", "small": "small"}[kinematics])
    material = QuadratureMaterial(law, u, kinematics=kinematics, section=section, orientation=TURN)
    EquilibriumProblem(material.virtual_work(ufl.TestFunction(u.function_space)), u, [material], bcs=[bc]).solve()
    np.testing.assert_allclose(u.x.array, value.x.array, atol=1e-12)
    full = np.zeros((3, 3))
    full[:2, :2] = gradient
    strain = mandel.to_mandel(full) if kinematics == "small" else mandel.green_lagrange(np.eye(3) + full)
    stress = material.second_piola
    assert np.ptp(stress, axis=0).max() < 1e-10
    given = np.zeros(6, dtype=bool) if section == "plane_strain" else FREE
    point = constrained_response(law, strain[None], stress_given=given, orientation=TURN)
    np.testing.assert_allclose(stress[0], point.stress[0], atol=1e-9)
    np.testing.assert_allclose(material.strain_sample[0], point.strain[0], atol=1e-12)
    if section == "plane_strain":
        # no mirror across z: the constraint takes shear stresses out of the plane
        assert np.abs(stress[0, 3:5]).min() > 0.1
    else:
        assert np.abs(stress[:, 2:5]).max() == 0.0 and np.abs(material.strain_sample[0, 2:5]).min() > 1e-4
        # the deformation gradient gives the strain back, and Cauchy stress stays in the plane
        deformation = material.deformation_gradient()
        again = mandel.green_lagrange(deformation)
        if kinematics == "small":
            again = mandel.to_mandel(deformation - np.eye(3))
        np.testing.assert_allclose(again, material.strain_sample, atol=1e-12)
        np.testing.assert_allclose(material.cauchy()[:, 2:5], 0.0, atol=1e-10)


@pytest.mark.parametrize("kinematics", ["finite", "small"])
@pytest.mark.parametrize("section", PLANES)
def test_tangent(cubic_law, section, kinematics):
    u = square(2)
    u.x.array[:] = 0.03 * np.random.default_rng(0).standard_normal(len(u.x.array))
    law = cubic_law(strain_measure={"finite": "green_lagrange", "small": "small"}[kinematics])
    turn = ABOUT_THETA if section == "axisymmetric" else TURN
    material = QuadratureMaterial(law, u, kinematics=kinematics, section=section, orientation=turn)
    v = ufl.TestFunction(u.function_space)
    residual = (
        1.5 * material.virtual_work(v)
        + ufl.inner(material.second_piola_ufl, material.gradient_of(v)) * 0.2 * material.dx
    )
    matrix = petsc.assemble_matrix(compile_form(tangent_form(residual, u, [material])))
    matrix.assemble()
    assert_matrix_is_the_slope(material, u, residual, matrix)


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("kinematics", ["finite", "small"])
def test_rates_of_a_manufactured_solution(cubic_law, kinematics, degree):
    """Errors fall like h^(p+1) in L2 and h^p in H1; body force from the exact solution, anisotropic crystal."""
    law = cubic_law(strain_measure={"finite": "green_lagrange", "small": "small"}[kinematics])
    errors = []
    for n in (8, 16):
        u = square(n, degree=degree, low=(0.0, 0.0), high=(1.0, 1.0), distort=False)
        space, domain = u.function_space, u.function_space.mesh
        x = ufl.SpatialCoordinate(domain)
        exact = 0.05 * ufl.as_vector([ufl.sin(2 * x[0] + x[1]), ufl.cos(x[0] - 1.5 * x[1])])
        material = QuadratureMaterial(
            law, u, degree=2 * degree, kinematics=kinematics, section="plane_strain", orientation=TURN
        )
        # stress of the exact solution in UFL: a quadratic law, S = C E with the turned stiffness
        stiffness = ufl.as_matrix(mandel.unpack_upper(material.tangent.x.array[:21]).tolist())
        gradient = ufl.as_tensor([[ufl.grad(exact)[i, j] if max(i, j) < 2 else 0 for j in range(3)] for i in range(3)])
        from fem.kinematics import strain_ufl, tensor_ufl

        stress = tensor_ufl(ufl.dot(stiffness, strain_ufl(gradient, kinematics)))
        piola = stress if kinematics == "small" else ufl.dot(ufl.Identity(3) + gradient, stress)
        v = ufl.TestFunction(space)
        force = ufl.as_vector([sum(piola[i, j].dx(j) for j in range(2)) for i in range(2)])
        residual = material.virtual_work(v) + ufl.dot(force, v) * ufl.dx(metadata={"quadrature_degree": 6})
        value, bc = everywhere(u, lambda x: 0.05 * np.vstack([np.sin(2 * x[0] + x[1]), np.cos(x[0] - 1.5 * x[1])]))
        EquilibriumProblem(residual, u, [material], bcs=[bc]).solve()
        fine = ufl.dx(domain=domain, metadata={"quadrature_degree": 8})
        squares = [ufl.inner(u - exact, u - exact) * fine, ufl.inner(ufl.grad(u - exact), ufl.grad(u - exact)) * fine]
        errors.append([float(np.sqrt(dfem.assemble_scalar(compile_form(form)))) for form in squares])
    rates = np.log2(np.array(errors[0]) / errors[1])
    np.testing.assert_allclose(rates, [degree + 1, degree], atol=0.12)


def test_lame_cylinder():
    """A tube under inner pressure, axially held: u = A r + B/r; forces are those of the whole circumference."""
    inner, outer, young, poisson, pressure = 1.0, 2.0, 200.0, 0.3, 0.5
    u = square(12, degree=2, low=(inner, 0.0), high=(outer, 0.5), distort=False)
    space, domain = u.function_space, u.function_space.mesh
    material = QuadratureMaterial(isotropic(young, poisson), u, degree=4, kinematics="small", section="axisymmetric")
    v = ufl.TestFunction(space)
    facets = mesh.locate_entities_boundary(domain, 1, lambda x: np.isclose(x[0], inner))
    tags = mesh.meshtags(domain, 1, np.sort(facets), np.full(len(facets), 1, dtype=np.int32))
    ds = ufl.Measure("ds", domain=domain, subdomain_data=tags)
    residual = material.virtual_work(v) - pressure * v[0] * material.weight_ufl * ds(1)
    axial, _ = space.sub(1).collapse()
    ends = dfem.locate_dofs_geometrical((space.sub(1), axial), lambda x: np.isclose(x[1], 0) | np.isclose(x[1], 0.5))
    zero = dfem.Function(axial)
    held = dfem.dirichletbc(zero, ends, space.sub(1))
    problem = EquilibriumProblem(residual, u, [material], bcs=[held])
    problem.solve()
    scale = pressure * inner**2 / (outer**2 - inner**2)
    radius = space.tabulate_dof_coordinates()[:, 0]
    exact = (1 + poisson) / young * scale * ((1 - 2 * poisson) * radius + outer**2 / radius)
    np.testing.assert_allclose(u.x.array.reshape(-1, 2)[:, 0], exact, rtol=2e-5)
    at = material.points()[:, 0]
    np.testing.assert_allclose(material.second_piola[:, 2], scale * (1 + outer**2 / at**2), rtol=5e-3)
    assert material.volumes().sum() == pytest.approx(np.pi * (outer**2 - inner**2) * 0.5, rel=1e-12)
    # hoop stress over the section balances the pressure
    areas = material.volumes() / (2 * np.pi * at)
    assert areas @ material.second_piola[:, 2] == pytest.approx(pressure * inner * 0.5, rel=1e-4)


def test_nothing_holds_a_tube(cubic_law):
    """Only the axial translation is a rigid motion of a body of revolution."""
    u = square(2)
    material = QuadratureMaterial(isotropic(200.0, 0.3), u, kinematics="small", section="axisymmetric")
    with pytest.raises(ValueError, match="got 1 free rigid motion: translation along y"):
        EquilibriumProblem(material.virtual_work(ufl.TestFunction(u.function_space)), u, [material]).solve()
    plane = QuadratureMaterial(isotropic(200.0, 0.3), u, kinematics="small", section="plane_stress")
    with pytest.raises(ValueError, match="got 3 free rigid motions: translation along x, .*rotation about z"):
        EquilibriumProblem(plane.virtual_work(ufl.TestFunction(u.function_space)), u, [plane]).solve()


def test_cook_membrane():
    """Plane stress, E = 1, ν = 1/3, F = 1: the middle of the loaded edge rises by 23.96, the value usual since Cook (1974, J. Struct. Div.
    ASCE 100:1851) and its refinements."""
    problem, _, tip = cook_problem(isotropic(1.0, 1 / 3), 12, 2, 1.0, kinematics="small", section="plane_stress")
    assert problem.solve().iterations == 1
    assert tip() == pytest.approx(23.96, abs=0.02)
    np.testing.assert_allclose(problem.reaction(problem.bcs[0]), [0.0, -1.0], atol=1e-9)
    # negative control: plane strain is stiffer
    problem, _, tip = cook_problem(isotropic(1.0, 1 / 3), 12, 2, 1.0, kinematics="small", section="plane_strain")
    problem.solve()
    assert tip() < 22.5


def test_plane_stress_of_a_thin_sheet_in_3d(cubic_law):
    """A thin clamped sheet in 3D, free faces, against plane stress: a crystal turned about z."""
    turn = rotation_about([0.0, 0.0, 1.0], 0.3)
    law = cubic_law()
    domain = mesh.create_box(
        MPI.COMM_WORLD, [np.zeros(3), np.array([1.0, 1.0, 0.02])], (6, 6, 1), mesh.CellType.hexahedron
    )
    ends = []
    for space, options in (
        (lagrange_space(domain, "CG", 2, (3,)), {}),
        (square(6, degree=2, low=(0, 0), high=(1, 1), distort=False).function_space, {"section": "plane_stress"}),
    ):
        u, v = dfem.Function(space), ufl.TestFunction(space)
        material = QuadratureMaterial(law, u, degree=4, orientation=turn, **options)
        moved = dfem.Function(space)
        moved.interpolate(lambda x, dim=space.mesh.geometry.dim: np.vstack([0.05 * x[0], 0.02 * x[0], 0 * x[0]][:dim]))
        bcs = []
        for k in range(2):
            sub, _ = space.sub(k).collapse()
            dofs = dfem.locate_dofs_geometrical(
                (space.sub(k), sub), lambda x: np.isclose(x[0], 0) | np.isclose(x[0], 1)
            )
            bcs.append(dfem.dirichletbc(moved.sub(k).collapse(), dofs, space.sub(k)))
        if len(u) == 3:
            sub, _ = space.sub(2).collapse()
            middle = dfem.locate_dofs_geometrical((space.sub(2), sub), lambda x: np.isclose(x[2], 0.01))
            bcs.append(dfem.dirichletbc(dfem.Function(sub), middle, space.sub(2)))
        EquilibriumProblem(material.virtual_work(v), u, [material], bcs=bcs).solve()
        places = material.points()
        near = np.argmin(np.linalg.norm(places[:, :2] - 0.5, axis=1))
        ends.append((material.cauchy()[near], np.diag(material.deformation_gradient()[near])))
    (solid, stretch), (plane, thinned) = ends
    np.testing.assert_allclose(plane, solid, atol=0.01 * np.abs(solid).max())
    np.testing.assert_allclose(thinned, stretch, atol=2e-4)


def test_axisymmetric_laws_that_would_twist(cubic_law):
    u = square(2)
    law = cubic_law(strain_measure="small")
    options = {"kinematics": "small", "section": "axisymmetric"}
    with pytest.raises(ValueError, match="expected an orientation of a law that is not isotropic"):
        QuadratureMaterial(law, u, **options)
    with pytest.raises(ValueError, match="mirror plane normal to θ.*'m-3m' oriented without one"):
        QuadratureMaterial(law, u, orientation=TURN, **options)
    QuadratureMaterial(law, u, orientation=ABOUT_THETA, **options)
    with pytest.raises(ValueError, match=r"radii x\[0\] ≥ 0, got a point at -0.[0-9]+"):
        QuadratureMaterial(isotropic(1.0, 0.3), square(2, low=(-1, 0)), **options)


def test_plane_strain_of_neo_hooke_is_the_3d_law(cube):
    """One layer of cells between fixed planes, and plane strain."""
    law = NeoHookeanLaw(40.0, 60.0)
    u, _, _ = cube(shape=(2, 2, 1))
    u.interpolate(lambda x: np.vstack([0.1 * x[0] * x[1], 0.05 * x[0] - 0.1 * x[1], 0 * x[0]]))
    solid = QuadratureMaterial(law, u)
    flat = square(2, low=(0, 0), high=(1, 1), distort=False)
    flat.interpolate(lambda x: np.vstack([0.1 * x[0] * x[1], 0.05 * x[0] - 0.1 * x[1]]))
    plane = QuadratureMaterial(law, flat, section="plane_strain")
    first, second = (np.unique(np.round(m.cauchy(), 10), axis=0) for m in (solid, plane))
    np.testing.assert_allclose(first, second, atol=1e-9)
