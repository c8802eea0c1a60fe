"""Boundary-value problems with DOLFINx: a constitutive law at the quadrature points of the user's own weak form.

    material = QuadratureMaterial(law, u, degree=2, kinematics="finite", orientation=Q)
    residual = material.virtual_work(v) - ufl.dot(traction, v) * ufl.ds
    problem = EquilibriumProblem(residual, u, [material], bcs=bcs)
    for step in problem.steps(load, targets=np.linspace(0, 1, 11)):
        print(step.load, step.iterations, step.reaction)
    write_xdmf("result.xdmf", u, [material.project("cauchy")])

Stress and tangent are quadrature Functions in Mandel components and in the sample frame; the tangent of the problem is
the exact derivative of whatever residual the user wrote. In three dimensions, plane strain,
plane stress and axisymmetric sections; serial and MPI.
"""

try:
    import dolfinx  # noqa: F401
    import mpi4py  # noqa: F401
    import petsc4py  # noqa: F401
    import ufl  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"fem: expected DOLFINx with petsc4py and mpi4py, got: {error}. Install them with `apt install python3-dolfinx "
        "python3-petsc4py-real`, or `conda install -c conda-forge fenics-dolfinx petsc mpich`, or let `make demo` set "
        "them up. The packages crystals and constitutive work without."
    ) from error

from .arc_length import ArcStep, arc_length_steps
from .diagnosis import NotConverged, OutOfRange
from .material import QuadratureMaterial
from .orientation import orientation_from_voxels
from .output import as_meshio, write_points, write_vtx, write_xdmf
from .problem import EquilibriumProblem, Solution
from .rank_errors import end_together
from .steps import Step
from .tagged_mesh import TaggedMesh, read_mesh

__all__ = [
    "ArcStep",
    "EquilibriumProblem",
    "NotConverged",
    "OutOfRange",
    "QuadratureMaterial",
    "Solution",
    "Step",
    "TaggedMesh",
    "arc_length_steps",
    "as_meshio",
    "orientation_from_voxels",
    "read_mesh",
    "write_points",
    "write_vtx",
    "write_xdmf",
]

end_together()
