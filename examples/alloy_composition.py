"""One law for an alloy: copper–nickel from EMT, with the composition as an input beside the strain.

Five cubic crystals on the fcc lattice (Cu, Cu₃Ni in L1₂, CuNi in D4, CuNi₃ in L1₂, Ni) are strained, counted from one
common lattice and fitted as W(E; x). Two further compositions, Cu₇Ni and CuNi₇ (Ca₇Ge type), are never fitted: there the
law is asked what it does not know. EMT relaxes all atoms. These are ordered crystals, one for each x; a random alloy is
another material, and what the law says between them is interpolation.

    python examples/alloy_composition.py                # everything below out/alloy_composition
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.build import bulk
from tqdm import tqdm

import constitutive
from constitutive import ParametricLaw, fit_parametric
from crystals import PointGroup, StrainData, elastic_constants, mandel
from crystals.atomistic import StrainedCrystal, calculator_factory, plan_strains, relax_cell

MAX_STRAIN = 0.05
CALCULATOR = "emt"


def crystals_of(a: str, b: str) -> dict[float, Atoms]:
    """Cubic ordered crystals A₁₋ₓBₓ on the fcc lattice, by x; all of point group m-3m."""
    corner_and_faces = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]

    def l12(corner: str, faces: str) -> Atoms:
        return Atoms([corner] + [faces] * 3, scaled_positions=corner_and_faces, cell=[3.6] * 3, pbc=True)

    def doubled(chosen: list[int]) -> Atoms:
        """Fcc with all edges of the primitive cell doubled: 8 atoms, those chosen by the number of odd steps are B."""
        atoms = bulk("Cu", "fcc", a=3.6) * (2, 2, 2)
        steps = (np.rint(2 * atoms.get_scaled_positions()).astype(int) % 2).sum(axis=1)
        atoms.symbols = [b if step in chosen else a for step in steps]
        return atoms

    return {
        0.0: bulk(a, "fcc", a=3.6), 0.125: doubled([0]), 0.25: l12(b, a), 0.5: doubled([2, 3]), 0.75: l12(a, b),
        0.875: doubled([1, 2, 3]), 1.0: bulk(b, "fcc", a=3.6),
    }  # fmt: skip


def edge(atoms: Atoms) -> float:
    """Edge of the cubic fcc cell with the volume per atom of a crystal, Å."""
    return float((4.0 * atoms.get_volume() / len(atoms)) ** (1.0 / 3.0))


def strained(reference: Atoms, x: float, common: float, number: int, seed: int) -> StrainData:
    """States of one composition, counted from the fcc lattice with edge `common`."""
    crystal = StrainedCrystal(reference, calculator_factory(CALCULATOR))
    strains = plan_strains(number, MAX_STRAIN, seed)
    found = [crystal.evaluate(strain) for strain in tqdm(strains, desc=f"x = {x}", unit="state", leave=False)]
    gradients = mandel.right_stretch(strains)
    cauchy = np.array([state[1] for state in found])
    data = StrainData(
        strain=strains, stress=mandel.second_piola(cauchy, gradients), energy=np.array([state[0] for state in found]),
        deformation_gradient=gradients, cauchy=cauchy, group=PointGroup.from_structure(reference), kind="relaxed-ion",
        max_force=np.array([state[3] for state in found]), inputs=np.full((number, 1), x), input_names=("composition",),
        provenance={"source": reference.get_chemical_formula(), "calculator": CALCULATOR, "seed": seed},
    )  # fmt: skip
    return data.referred_to(edge(reference) / common * np.eye(3))


def error(law: ParametricLaw, data: StrainData) -> float:
    """Pooled relative stress error √(Σ‖ΔS‖² / Σ‖S‖²)."""
    answer = law.response(data.strain, inputs=data.inputs, tangent=False).stress
    return float(np.sqrt(np.sum((answer - data.stress) ** 2) / np.sum(data.stress**2)))


def picture(
    law: ParametricLaw, edges: dict[float, float], constants: dict[float, dict[str, float]], unseen: StrainData,
    fitted: list[float], common: float, figures: dict[str, Any], path: Path,
) -> None:  # fmt: skip
    """Edge of the cell, elastic constants, and stresses at the compositions left out."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), constrained_layout=True)
    grid = np.linspace(0.0, 1.0, 101)
    stretch = np.sqrt(1.0 + 2.0 * law.free_strain(grid)[:, 0])
    left.plot(grid, common * stretch, "k-", lw=1, label="law")
    left.plot(grid, edges[0.0] + grid * (edges[1.0] - edges[0.0]), "k:", lw=1, label="Vegard")
    laws = [elastic_constants(law.stiffness(inputs=x), law.group) for x in grid]
    for name, colour in zip(("C11", "C12", "C44"), ("C0", "C1", "C2"), strict=True):
        middle.plot(grid, [values[name] for values in laws], color=colour, lw=1, label=name)
    for x in edges:
        style: dict[str, Any] = {"ls": "", "marker": "o", "ms": 6, "mfc": None if x in fitted else "white"}
        left.plot(x, edges[x], color="C3", **style)
        for name, colour in zip(("C11", "C12", "C44"), ("C0", "C1", "C2"), strict=True):
            middle.plot(x, constants[x][name], color=colour, **style)
    left.plot([], [], "o", color="C3", label="EMT, fitted")
    left.plot([], [], "o", color="C3", mfc="white", label="EMT, not fitted")
    left.set(xlabel="x in Cu₁₋ₓNiₓ", ylabel="edge of the stress-free cell, Å")
    left.legend()
    middle.set(xlabel="x in Cu₁₋ₓNiₓ", ylabel="elastic constants of the stress-free cell, GPa")
    middle.legend()
    answer = law.response(unseen.strain, inputs=unseen.inputs, tangent=False).stress
    right.plot(unseen.stress.ravel(), answer.ravel(), ".", ms=4)
    ends = [float(unseen.stress.min()), float(unseen.stress.max())]
    right.plot(ends, ends, "k-", lw=0.7)
    right.set(xlabel="S from EMT, GPa", ylabel="S from the law, GPa",
              title=f"compositions never fitted: {100 * figures['unseen_composition_error'][0]:.2f} %")  # fmt: skip
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(out: Path = Path("out/alloy_composition"), states: int = 60, seeds: int = 3) -> dict[str, Any]:
    """The whole path. Returns the figures that it prints."""
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    factory = calculator_factory(CALCULATOR)

    print("1. crystals, relaxed to zero stress with EMT")
    cells = {x: relax_cell(atoms, factory) for x, atoms in crystals_of("Cu", "Ni").items()}
    edges = {x: edge(atoms) for x, atoms in cells.items()}
    constants = {
        x: elastic_constants(StrainedCrystal(atoms, factory).tangent(np.zeros(6)), PointGroup.from_structure(atoms))
        for x, atoms in cells.items()
    }
    common = edges[0.0]
    fitted = [0.0, 0.25, 0.5, 0.75, 1.0]
    for x, atoms in cells.items():
        role = "fitted" if x in fitted else "left out"
        print(f"   x = {x:<5}  {atoms.get_chemical_formula():<6} {role:<8}  edge {edges[x]:.4f} Å")

    print(f"2. strained cells, |E| ≤ {MAX_STRAIN}, counted from the lattice of copper")
    parts = {x: strained(atoms, x, common, states, seed) for seed, (x, atoms) in enumerate(cells.items())}
    data = StrainData.joined([replace(parts[x], structure=None) for x in fitted])
    unseen = StrainData.joined([parts[x] for x in cells if x not in fitted])
    data.write(out / "copper_nickel.h5")
    print(f"   {data}")

    # order 6, the default, was measured to take three times as long for 0.5 % instead of 0.7 % at the unseen
    print("3. law: W(E; x), a fifth of the states held out, two compositions never seen")
    held_out, left_out, law = [], [], None
    for seed in range(seeds):
        found = fit_parametric(data, order=4, seed=seed)
        law = found if law is None else law
        held_out.append(found.metadata["fit"]["held_out_stress_error"])
        left_out.append(error(found, unseen))
        print(f"   seed {seed}: degree {found.degree} in x, order {found.order}; held-out stress error "
              f"{100 * held_out[-1]:.2f} %, at the compositions never fitted {100 * left_out[-1]:.2f} %")  # fmt: skip
    assert law is not None
    law.save(out / "copper_nickel.law")
    loaded = constitutive.load(out / "copper_nickel.law")
    assert isinstance(loaded, ParametricLaw)
    law = loaded
    print(f"   {law!r}")

    print("4. law against EMT: edge of the stress-free cell, elastic constants by finite differences, GPa")
    wrong_edge: dict[bool, float] = {True: 0.0, False: 0.0}
    wrong: dict[bool, float] = {True: 0.0, False: 0.0}
    for x in cells:
        found_edge = common * float(np.sqrt(1.0 + 2.0 * law.free_strain(x)[0]))
        values = elastic_constants(law.stiffness(inputs=x), law.group)
        row = "  ".join(f"{name} {values[name]:.1f} / {constants[x][name]:.1f}" for name in values)
        print(f"   x = {x:<5}  {found_edge:.4f} / {edges[x]:.4f} Å   {row}{'' if x in fitted else '   (not fitted)'}")
        known = x in fitted
        wrong_edge[known] = max(wrong_edge[known], abs(found_edge / edges[x] - 1.0))
        wrong[known] = max([wrong[known], *(abs(values[name] / constants[x][name] - 1.0) for name in values)])
    figures: dict[str, Any] = {
        "misfit": edges[1.0] / edges[0.0] - 1.0,
        "edge_error": wrong_edge[True],
        "edge_error_unseen": wrong_edge[False],
        "constants_error": wrong[True],
        "constants_error_unseen": wrong[False],
        "held_out_stress_error": held_out,
        "unseen_composition_error": left_out,
        "degree": law.degree,
        "order": law.order,
        "seconds": time.monotonic() - began,
    }
    picture(law, edges, constants, unseen, fitted, common, figures, out / "alloy_composition.png")
    (out / "summary.json").write_text(json.dumps(figures, indent=2))
    print(f"\n{json.dumps(figures, indent=2)}\npicture, law and data in {out}/ (open alloy_composition.png)")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/alloy_composition"), help="folder for data, law, picture")
    parser.add_argument("--states", type=int, default=60, help="strained cells of each composition")
    arguments = parser.parse_args()
    main(arguments.out, arguments.states)
