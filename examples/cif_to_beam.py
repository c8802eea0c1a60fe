"""A CIF file → elastic constants → a beam in DOLFINx, held against beam theory.

Crystal networks read the structure alone and give its stiffness in a second (`constitutive.moduli`); the atomistic model
that they learned from, EMT, is asked for the same constants. A single-crystal cantilever is then cut along several
directions of that crystal and bent by a force at its end. Timoshenko's theory with E and G of the direction says how far
the end moves (Timoshenko 1921, doi:10.1080/14786442108636264; shear coefficient 5/6 of a rectangle).

    python examples/cif_to_beam.py                           # L1₂ Cu₃Au; everything below out/cif_to_beam
    python examples/cif_to_beam.py mine.cif --model binary_moduli
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import ufl
from ase import Atoms
from dolfinx import fem as dfem
from dolfinx import mesh
from mpi4py import MPI

import constitutive
from crystals import PointGroup, elastic_constants
from crystals.atomistic import StrainedCrystal, calculator_factory, relax_cell
from crystals.rotations import rotate_matrix, rotation_to_direction
from crystals.structures import as_atoms, standard_primitive
from fem import EquilibriumProblem, QuadratureMaterial
from fem.dolfinx_versions import lagrange_space

LENGTH, HEIGHT, WIDTH = 15.0, 1.0, 0.8
DIRECTIONS = ((1, 0, 0), (2, 1, 0), (1, 1, 0), (1, 1, 1))
BENT = 1e-4  # end deflection over length that beam theory is asked to give: small, so that theory is linear


def write_example(path: Path) -> None:
    """L1₂ Cu₃Au as a CIF file, with the cell in which EMT has no stress: networks take the cell as it stands."""
    faces = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    atoms = Atoms("AuCu3", scaled_positions=faces, cell=[3.75] * 3, pbc=True)
    relax_cell(atoms, calculator_factory("emt")).write(path)


def theory(stiffness: np.ndarray) -> float:
    """End deflection of a cantilever along x under a unit force along z, Timoshenko; stiffness (6, 6) in sample axes."""
    compliance = np.linalg.inv(stiffness)
    young, shear = 1.0 / compliance[0, 0], 0.5 / compliance[4, 4]  # a Mandel shear entry is half the engineering one
    area, inertia = WIDTH * HEIGHT, WIDTH * HEIGHT**3 / 12.0
    return LENGTH**3 / (3.0 * young * inertia) + LENGTH / (5.0 / 6.0 * shear * area)


def bend(law: constitutive.Law, orientation: np.ndarray, force: float, cells: tuple[int, int, int]) -> np.ndarray:
    """Deflection along the axis, rows of x and u_z: held at x = 0, a force along z spread over the other end."""
    corner = np.array([LENGTH, WIDTH, HEIGHT])
    beam = mesh.create_box(MPI.COMM_WORLD, [np.zeros(3), corner], list(cells), mesh.CellType.hexahedron)
    space = lagrange_space(beam, "CG", 2, (3,))
    u, v = dfem.Function(space), ufl.TestFunction(space)
    material = QuadratureMaterial(law, u, degree=4, orientation=orientation)
    facets = mesh.locate_entities_boundary(beam, 2, lambda x: np.isclose(x[0], LENGTH))
    end = mesh.meshtags(beam, 2, np.sort(facets), np.full(len(facets), 1, dtype=np.int32))
    ds = ufl.Measure("ds", domain=beam, subdomain_data=end)
    traction = dfem.Constant(beam, np.array([0.0, 0.0, force / (WIDTH * HEIGHT)]))

    def held(axis: int, where: Any) -> Any:
        sub, _ = space.sub(axis).collapse()
        dofs = dfem.locate_dofs_geometrical((space.sub(axis), sub), lambda x: np.isclose(x[0], 0.0) & where(x))
        return dfem.dirichletbc(dfem.Function(sub), dofs, space.sub(axis))

    # as beam theory has it: the section stays plane and may contract
    bcs = [
        held(0, lambda x: np.isfinite(x[0])), held(1, lambda x: np.isclose(x[1], WIDTH / 2)),
        held(2, lambda x: np.isclose(x[2], HEIGHT / 2)),
    ]  # fmt: skip
    residual = material.virtual_work(v) - ufl.inner(traction, v) * ds(1)
    EquilibriumProblem(residual, u, [material], bcs=bcs).solve()
    points = space.tabulate_dof_coordinates()
    axis = np.flatnonzero(np.isclose(points[:, 1], WIDTH / 2) & np.isclose(points[:, 2], HEIGHT / 2))
    line = np.stack([points[axis, 0], u.x.array.reshape(-1, 3)[axis, 2]], axis=1)
    return line[np.argsort(line[:, 0])]


def picture(result: Any, rows: dict[str, dict[str, float]], shapes: dict[str, np.ndarray], path: Path) -> None:
    figure, (empty, middle, right) = plt.subplots(1, 3, figsize=(13, 4.0), layout="constrained")
    angle = np.linspace(0.0, 2.0 * np.pi, 361)
    empty.remove()
    left: Any = figure.add_subplot(1, 3, 1, projection="polar")
    left.plot(angle, result.young(np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)))
    left.set_title(f"{result.formula}: Young's modulus\nin the plane (001), GPa")
    left.set_rlabel_position(90)
    left.set_rgrids([50, 100, 150] if result.young([1, 1, 0]) < 200 else [100, 200, 300])
    for name, line in shapes.items():
        middle.plot(line[:, 0], 1e3 * line[:, 1], label=f"[{name}]")
    middle.set(xlabel="along the beam, heights", ylabel="deflection, 10⁻³ heights", title="one force, beams along")
    middle.legend(frameon=False)
    places = np.arange(len(rows))
    right.bar(places - 0.2, [1e3 * row["theory"] for row in rows.values()], 0.4, label="Timoshenko", color="0.7")
    right.bar(places + 0.2, [1e3 * row["beam"] for row in rows.values()], 0.4, label="DOLFINx", color="C0")
    right.set_xticks(places, [f"[{name}]" for name in rows])
    right.set(xlabel="crystal direction along the beam", ylabel="deflection of the end, 10⁻³ heights")
    right.set_ylim(top=1.25e3 * max(row["theory"] for row in rows.values()))
    right.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(
    out: Path = Path("out/cif_to_beam"), structure: Path | None = None, model: str = "emt_alloys",
    cells: tuple[int, int, int] = (24, 2, 2),
) -> dict[str, Any]:  # fmt: skip
    """The whole story. Returns the figures that it prints."""
    out.mkdir(parents=True, exist_ok=True)
    own = structure is None
    if structure is None:
        structure = out / "Cu3Au.cif"
        write_example(structure)
    result = constitutive.moduli(structure, model=model)
    assert isinstance(result, constitutive.CrystalModuli)
    print(result)
    figures: dict[str, Any] = {"formula": result.formula, "constants": result.elastic_constants()}

    if own:
        factory = calculator_factory("emt")
        relaxed = relax_cell(standard_primitive(as_atoms(structure)), factory)
        emt = elastic_constants(
            StrainedCrystal(relaxed, factory).tangent(np.zeros(6)), PointGroup.from_structure(relaxed)
        )
        print("EMT itself: " + "  ".join(f"{name} {value:.1f}" for name, value in emt.items()) + " GPa")
        figures["emt"] = emt
        figures["constants_error"] = max(abs(figures["constants"][name] / emt[name] - 1.0) for name in emt)

    law, rows, shapes = result.law, {}, {}
    force = BENT * LENGTH / theory(result.stiffness)  # the same for all beams
    for direction in DIRECTIONS:
        name = "".join(map(str, direction))
        # directions are Cartesian in the frame of the structure, in which the law stands
        orientation = rotation_to_direction(np.array(direction, dtype=float), np.array([1.0, 0.0, 0.0]))
        expected = force * theory(rotate_matrix(orientation, result.stiffness))
        shapes[name] = bend(law, orientation, force, cells)
        found = float(shapes[name][-1, 1])
        rows[name] = {"theory": expected, "beam": found, "error": found / expected - 1.0}
        print(f"[{name}] E {float(result.young(direction)):6.1f} GPa  end moves {found:.4e}, Timoshenko {expected:.4e}, "
              f"{100 * rows[name]['error']:+.2f} %")  # fmt: skip
    figures |= {"beams": rows, "beam_error": max(abs(row["error"]) for row in rows.values())}
    picture(result, rows, shapes, out / "cif_to_beam.png")
    (out / "summary.json").write_text(json.dumps(figures, indent=2))
    print(f"{json.dumps(figures, indent=2)}\npicture in {out}/cif_to_beam.png")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structure", nargs="?", type=Path, help="CIF, POSCAR …; by default Cu₃Au")
    parser.add_argument("--out", type=Path, default=Path("out/cif_to_beam"), help="folder for the picture")
    parser.add_argument("--model", default="emt_alloys", help="networks: emt_alloys or binary_moduli")
    arguments = parser.parse_args()
    main(arguments.out, arguments.structure, arguments.model)
