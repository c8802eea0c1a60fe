"""muGrid on a voxel image, in a process of its own: it wants numpy 2, and DOLFINx of Debian 12 wants numpy 1.

    PYTHON_WITH_MUGRID tests/benchmarks/mugrid_peer.py problem.npz answer.npz

Trilinear hexahedra with eight points, as the scheme 'hexahedra'; conjugate gradients preconditioned by the Green operator of
the mean material (Ladecký et al. 2023, doi:10.1016/j.amc.2023.127835). Needs muGrid 1.2 or later and numpy, no more.
"""

from __future__ import annotations

import sys
import time

import muGrid  # pyright: ignore
import numpy as np
from muGrid.Preconditioners import make_reference_stiffness_preconditioner  # pyright: ignore
from muGrid.Solvers import conjugate_gradients  # pyright: ignore

#: Mandel components.
PLACES = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
WEIGHTS = np.array([1.0, 1.0, 1.0, 2.0**0.5, 2.0**0.5, 2.0**0.5])


def main(problem: str, answer: str) -> None:
    given = np.load(problem)
    labels, lame, shear, tolerance = given["labels"], given["lame"], given["shear"], float(given["tolerance"])
    start, spent = time.perf_counter(), time.process_time()
    spacing = [1.0 / n for n in labels.shape]
    comm, element = muGrid.Communicator(), muGrid.FEMElement.q1
    engine = muGrid.FFTEngine(labels.shape, comm, nb_ghosts_left=(1, 1, 1), nb_ghosts_right=(1, 1, 1))
    first, second = engine.real_space_field("lambda"), engine.real_space_field("mu")
    for field, values in ((first, lame), (second, shear)):
        field.p[...] = values[labels]
        engine.communicate_ghosts(field)
    moved, load = engine.real_space_field("displacement", (3,)), engine.real_space_field("load", (3,))
    operator = muGrid.IsotropicStiffnessOperator3D(spacing, element)
    green = make_reference_stiffness_preconditioner(
        engine, element=element, grid_spacing=spacing, lambda_ref=lame.mean(), mu_ref=shear.mean()
    )

    def stiffness(displacement, force):
        engine.communicate_ghosts(displacement)
        operator.apply(displacement, first, second, force)

    found, iterations = np.zeros((6, 6)), []
    for case, (i, j) in enumerate(PLACES):
        strain = np.zeros((3, 3))
        strain[i, j] = strain[j, i] = 1.0 / WEIGHTS[case]
        operator.apply_macro_rhs(first, second, strain.ravel().tolist(), load)
        load.s[...] *= -1.0
        moved.s[...] = 0.0
        steps = [0]
        conjugate_gradients(
            comm, engine.real_space_collection, load, moved, hessp=stiffness, prec=green, rtol=tolerance, maxiter=2000,
            callback=lambda step, _, steps=steps: steps.append(step),
        )  # fmt: skip
        iterations.append(steps[-1])
        engine.communicate_ghosts(moved)
        stress = np.array(operator.average_stress(moved, first, second, strain.ravel().tolist())).reshape(3, 3)
        found[:, case] = [weight * stress[place] for weight, place in zip(WEIGHTS, PLACES, strict=True)]
    np.savez(
        answer, stiffness=found, iterations=max(iterations), seconds=time.perf_counter() - start,
        processor=time.process_time() - spent,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
