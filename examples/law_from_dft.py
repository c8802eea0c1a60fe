"""From a DFT code's strained cells to a law: extended XYZ in; questions, cross-validation, law and audit out.

With a file of your own (`law_from_dft.py silicon.extxyz --reference-cell 10.93746`) its frames are read as ASE writes them:
energy, stress, and forces, in eV and Å. Without one, the example writes such a file itself, with ASE's EMT in the place
of the DFT code: 60 strained cells of L1₂ Cu₃Au. Then the truth is known, and the law's elastic constants are held against
finite differences of the calculator. For a few dozen states `fit` mostly chooses a polynomial of invariants, so the search
for a network, most of the time of a fit, is left out here; `--network` has it search.

    python examples/law_from_dft.py                                                   # everything below out/law_from_dft
    python examples/law_from_dft.py silicon.extxyz --reference-cell 10.93746
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.io import write
from tqdm import tqdm

import constitutive
from constitutive import SymmetricLaw, audit, cross_validate, fit, uniaxial
from crystals import PointGroup, StrainData, elastic_constants, mandel
from crystals.atomistic import StrainedCrystal, calculator_factory, plan_strains, relax_cell

MAX_STRAIN = 0.06


def write_states(path: Path, number: int, seed: int) -> Atoms:
    """What a DFT code leaves: strained cells with energy, forces and stress; here of EMT. Returns the unstrained cell."""
    factory = calculator_factory("emt")
    faces = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    reference = relax_cell(Atoms("AuCu3", scaled_positions=faces, cell=[3.75] * 3, pbc=True), factory)
    frames = []
    strains = plan_strains(number, MAX_STRAIN, seed)
    for stretch in tqdm(mandel.right_stretch(strains), desc="strained cells", unit="state", leave=False):
        frame = reference.copy()
        frame.set_cell(reference.cell.array @ stretch.T, scale_atoms=True)
        frame.calc = factory()
        frame.get_forces()  # computed here, and written with the frame
        frame.get_stress()
        frames.append(frame)
    write(path, frames, format="extxyz")
    return reference


def picture(law: Any, data: StrainData, validated: Any, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    answer = constitutive.predicted_stress(law, data.strain)
    left.plot(data.stress.ravel(), answer.ravel(), ".", ms=4)
    ends = [float(data.stress.min()), float(data.stress.max())]
    left.plot(ends, ends, "k-", lw=0.7)
    left.set(xlabel="S of the data, GPa", ylabel="S of the law, GPa",
             title=f"all states; cross-validated error {100 * validated.law:.2g} %")  # fmt: skip
    for direction in ((1, 0, 0), (1, 1, 0), (1, 1, 1)):
        reach = 0.6 * law.max_strain
        for sign in (-1, 1):
            steps = list(uniaxial(law, direction, to=sign * reach, steps=20))
            name = "[" + "".join(map(str, direction)) + "]" if sign > 0 else None
            colour = {1: "C0", 2: "C1", 3: "C2"}[sum(direction)]
            right.plot([0, *(100 * s.strain for s in steps)], [0, *(s.stress for s in steps)], color=colour, label=name)
    right.axhline(0, color="k", lw=0.5)
    right.axvline(0, color="k", lw=0.5)
    right.set(xlabel="nominal strain, %", ylabel="nominal stress, GPa", title="pulled along, lateral faces free")
    right.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(
    out: Path = Path("out/law_from_dft"), source: Path | None = None, reference: str | None = None, skip: tuple[int, ...] = (),
    states: int = 60, seed: int = 0, network: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The whole story. Returns the figures that it prints."""
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    figures: dict[str, Any] = {}
    cell: Any = reference
    if source is None:
        source = out / "strained.extxyz"
        cell = write_states(source, states, seed)

    # frames that are no strained copies of the reference are errors that name the frame
    data = StrainData.read(source, reference=cell, skip=skip)
    print(f"1. {data}")
    fixed: dict[str, Any] = {} if network else {"network": "none"}
    validated = cross_validate(data, seed=seed, **fixed)
    print(f"2. {validated}")
    # asks first whether stresses predict the energies, in the stated unit and sign
    law = fit(data, seed=seed, **fixed)
    chosen = law.metadata["fit"]
    print(
        f"3. {chosen['energies']}\n   order {chosen['order']}, network {chosen['network']}, {chosen['parameters']} parameters"
    )
    law.save(out / "fitted.law")
    report = audit(law)
    print(f"4. {law!r}\n   audit {'passed' if report.passed else 'FAILED'}; in {out}/fitted.law")
    figures |= {"states": len(data), "group": law.group.symbol, "constants": law.elastic_constants()}
    figures |= {"cross_validated_error": validated.law, "audit_passed": report.passed}
    if isinstance(cell, Atoms):
        crystal = StrainedCrystal(cell, calculator_factory("emt"))
        truth = elastic_constants(crystal.tangent(np.zeros(6)), PointGroup.from_structure(cell))
        figures["truth"] = truth
        figures["constants_error"] = max(abs(figures["constants"][name] / truth[name] - 1.0) for name in truth)
    assert isinstance(law, SymmetricLaw)
    picture(law, data, validated, out / "law_from_dft.png")
    figures["seconds"] = time.monotonic() - began
    (out / "summary.json").write_text(json.dumps(figures, indent=2))
    print(f"{json.dumps(figures, indent=2)}\npicture and law in {out}/")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, help="extended XYZ; by default one that EMT fills")
    parser.add_argument("--reference-cell", help="undeformed cell: cube edge (Å), 3 or 9 numbers, or a structure file")
    parser.add_argument("--skip-frames", type=int, nargs="*", default=[], help="frames to leave out, counted from 0")
    parser.add_argument("--network", action="store_true", help="let the fit search for a network too: a minute or two")
    parser.add_argument("--out", type=Path, default=Path("out/law_from_dft"), help="folder for law and picture")
    arguments = parser.parse_args()
    if arguments.source is not None and arguments.reference_cell is None:
        parser.error(
            "expected --reference-cell with a file of your own: the edge of the undeformed cube, or a structure"
        )
    main(
        arguments.out, arguments.source, arguments.reference_cell, tuple(arguments.skip_frames), network=arguments.network
    )  # fmt: skip
