"""Strained, relaxed cells of a crystal: energy and stress from any ASE calculator.

The plan of strains is drawn once from a seed; each state is a pure stretch of the reference cell whose atoms are then
relaxed at fixed cell (clamped ions give wrong constants wherever atoms may move inside the cell).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from tqdm import tqdm

from . import mandel
from .calculators import CalculatorFactory, calculator_factory
from .groups import PointGroup
from .moduli import smallest_acoustic_eigenvalue
from .progress import bar_interval
from .state_journal import StateJournal
from .states import EV_PER_A3, StrainData
from .strain_plan import plan_strains
from .structures import standard_primitive, structure_to_dict
from .transformation import Bonds, energy_jump

__all__ = ["StrainedCrystal", "calculator_factory", "plan_strains", "relax_cell", "strained_states"]

#: Step of the central differences of stress that give a state's tangent (strain, dimensionless).
DIFFERENCE_STEP = 1e-4
#: Largest force (eV/Å) left after relaxing the atoms of a state. 1e-4 leaves an error of 3e-5 in stress against energy.
FORCE_TOLERANCE = 1e-5


def relax_cell(atoms: Atoms, factory: CalculatorFactory) -> Atoms:
    """The stress-free cell of a crystal with relaxed atoms; its symmetry and axes are kept."""
    relaxed = atoms.copy()
    relaxed.calc = factory()
    # ASE's optimisers stop on forces; the filter scales stress × volume to a force.
    cell: Any = FrechetCellFilter(relaxed)
    with BFGS(cell, logfile=None) as optimiser:
        if not optimiser.run(fmax=1e-5, steps=500):
            raise RuntimeError(
                f"relax_cell: expected the cell of {atoms.get_chemical_formula()} to relax within 500 steps; it did "
                "not. Check the structure and the calculator."
            )
    # The filter may leave a rotation of 1e-8; the reference has to stay in the standard frame.
    stretch = np.linalg.solve(atoms.cell.array, relaxed.cell.array).T
    left, _, right = np.linalg.svd(stretch)
    relaxed.set_cell(relaxed.cell.array @ (left @ right), scale_atoms=True)
    relaxed.calc = None  # a calculator may not travel to other processes
    return relaxed


class StrainedCrystal:
    """Energy and stress of one reference crystal at given Green–Lagrange strains.

    Parameters
    ----------
    reference : Atoms
        Undeformed cell.
    factory : callable
        Makes an ASE calculator.
    """

    def __init__(self, reference: Atoms, factory: CalculatorFactory) -> None:
        self.reference = reference.copy()
        self.reference.calc = None
        self.volume = float(reference.get_volume())
        self.atoms = reference.copy()
        self.atoms.calc = factory()
        self.energy_zero = 0.0
        self.energy_zero = float(self.evaluate(np.zeros(6))[0])

    def evaluate(self, strain: np.ndarray, relax: bool = True) -> tuple[float, np.ndarray, np.ndarray, float]:
        """Energy density (GPa), Cauchy stress (GPa, Mandel, (6,)), cell (Å) and largest force (eV/Å), atoms relaxed."""
        cell = self.place(strain)
        force = self.relax(strain) if relax else _largest_force(self.atoms)
        cauchy = mandel.stress_from_voigt(self.atoms.get_stress(voigt=True) * EV_PER_A3)
        return self.energy(), cauchy, cell, force

    def place(self, strain: np.ndarray) -> np.ndarray:
        """Put the atoms where the strain carries them with the cell; the cell (3, 3), Å, rows."""
        cell = self.reference.cell.array @ mandel.right_stretch(strain).T
        self.atoms.set_cell(cell)
        self.atoms.set_scaled_positions(self.reference.get_scaled_positions(wrap=False))
        return cell

    def relax(self, strain: np.ndarray) -> float:
        """Relax the atoms in the cell they lie in; the largest force (eV/Å) that is left."""
        force = _largest_force(self.atoms)
        if force > FORCE_TOLERANCE:
            with BFGS(self.atoms, logfile=None) as optimiser:
                if not optimiser.run(fmax=FORCE_TOLERANCE, steps=1000):
                    raise RuntimeError(
                        f"StrainedCrystal: expected atoms to relax within 1000 steps at strain "
                        f"{np.round(strain, 4).tolist()}; they did not. Use a smaller --max-strain."
                    )
            force = _largest_force(self.atoms)
        return force

    def energy(self) -> float:
        """Energy density (GPa) of the atoms as they lie, from that of the reference."""
        return float(self.atoms.get_potential_energy() * EV_PER_A3 / self.volume - self.energy_zero)

    def stress(self, strain: np.ndarray, relax: bool = True) -> np.ndarray:
        """Second Piola–Kirchhoff stress (6,), GPa, Mandel."""
        return mandel.second_piola(self.evaluate(strain, relax)[1], mandel.right_stretch(strain))

    def tangent(self, strain: np.ndarray, step: float = DIFFERENCE_STEP, relax: bool = True) -> np.ndarray:
        """∂S/∂E (6, 6), GPa, Mandel, by central differences of the stress, symmetrised; relaxed-ion unless told."""
        columns = [
            (self.stress(strain + step * unit, relax) - self.stress(strain - step * unit, relax)) / (2 * step)
            for unit in np.eye(6)
        ]
        matrix = np.array(columns).T
        return 0.5 * (matrix + matrix.T)


def _largest_force(atoms: Atoms) -> float:
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


class _Worker:
    """One process's crystal, and what it compares states with."""

    def __init__(self, reference: Atoms, calculator: str, released: np.ndarray) -> None:
        self.crystal = StrainedCrystal(reference, calculator_factory(calculator, reference.get_chemical_symbols()))
        self.bonds, self.released = Bonds(self.crystal.reference), released

    def state(self, strain: np.ndarray) -> dict[str, Any]:
        """Result of one state, JSON values; or why there is none that counts, under 'left_out'."""
        crystal = self.crystal
        try:
            cell = crystal.place(strain)
            clamped, affine = crystal.energy(), crystal.atoms.positions.copy()
            force = crystal.relax(strain)
            energy = crystal.energy()
            reason = self.bonds.changed(affine, crystal.atoms.positions, mandel.right_stretch(strain))
            reason = reason or energy_jump(clamped, energy, 0.5 * float(strain @ self.released @ strain))
            if reason:
                return {"left_out": f"transformed: {reason}"}
            cauchy = mandel.stress_from_voigt(crystal.atoms.get_stress(voigt=True) * EV_PER_A3)
            gradient = mandel.right_stretch(strain)
            second = mandel.second_piola(cauchy, gradient)
            acoustic = smallest_acoustic_eigenvalue(crystal.tangent(strain), second, gradient)
        except Exception as error:  # one state that a calculator cannot do must not cost the others
            return {"left_out": f"failed: {type(error).__name__}: {error}"}
        found = {
            "energy": energy, "cauchy": cauchy, "cell": cell, "max_force": force, "deformation_gradient": gradient,
            "stress": second, "acoustic": float(acoustic),
        }  # fmt: skip
        if not all(np.all(np.isfinite(value)) for value in found.values()):
            return {"left_out": "failed: the calculator gave NaN or infinity"}
        return {name: np.asarray(value).tolist() for name, value in found.items()}


_worker: _Worker | None = None


def _start_worker(reference: Atoms, calculator: str, released: np.ndarray, parent: int) -> None:
    global _worker

    def watch() -> None:
        # a killed parent cannot tell its workers
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    _worker = _Worker(reference, calculator, released)


def _state(strain: np.ndarray) -> dict[str, Any]:
    assert _worker is not None
    return _worker.state(strain)


def strained_states(
    structure: Any,
    calculator: str = "emt",
    *,
    number: int = 300,
    max_strain: float = 0.08,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
    journal: str | Path | None = None,
) -> StrainData:
    """Relax a crystal, strain it, and record energy and stress.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path
        Crystal, turned to the standard frame and relaxed to zero stress first.
    calculator : str
        'emt', the import path of an ASE calculator, or 'lammps:FILE'; see `calculators.calculator_factory`.
    number : int
        Number of states, spread over the ball of strains modulo the crystal's symmetry.
    max_strain : float
        Radius |E| of the ball of strains.
    seed : int
        Seed of the plan.
    workers : int
        Processes.
    progress : bool
        Whether to show a progress bar.
    journal : path, optional
        File that holds every finished state. Where it exists, the states in it are not computed again.

    Returns
    -------
    StrainData
        Relaxed-ion states in GPa, with the smallest acoustic eigenvalue of each and the point group of the reference.
        States where the crystal transformed (see `transformation`) or the calculator failed are left out;
        `provenance["left_out"]` names their strains and the reason.

    Raises
    ------
    RuntimeError
        Where more than half of the states are left out.
    ValueError
        Where the journal belongs to other work.
    """
    start = standard_primitive(structure)
    symbols = start.get_chemical_symbols()
    factory = calculator_factory(calculator, symbols)
    identity = {
        "structure": structure_to_dict(start), "calculator": calculator, "states": number, "max_strain": max_strain,
        "seed": seed, "ase": ase.__version__,
    }  # fmt: skip
    kept = None if journal is None else StateJournal(Path(journal), identity)
    try:
        header = {} if kept is None else kept.header
        if "cell" in header:
            # the very numbers, so that resumed states are those of one run
            reference = Atoms(symbols, cell=np.array(header["cell"]), positions=np.array(header["positions"]), pbc=True)
            stiffness, released = np.array(header["stiffness"]), np.array(header["released"])
        else:
            reference = relax_cell(start, factory)
            crystal = StrainedCrystal(reference, factory)
            # what the law's elastic constants are compared with
            stiffness = crystal.tangent(np.zeros(6))
            released = crystal.tangent(np.zeros(6), relax=False) - stiffness
            if kept is not None:
                kept.note(
                    cell=reference.cell.array.tolist(), positions=reference.positions.tolist(),
                    stiffness=stiffness.tolist(), released=released.tolist(),
                )  # fmt: skip
        group = PointGroup.from_structure(reference)
        strains = plan_strains(number, max_strain, seed, group)
        results: dict[int, dict[str, Any]] = {} if kept is None else dict(kept.states)
        missing = [place for place in range(number) if place not in results]
        bar = tqdm(
            total=number, initial=number - len(missing), desc="strained cells", unit="state", disable=not progress,
            mininterval=bar_interval(),
        )  # fmt: skip
        with bar:
            for place, found in _computed(strains, missing, reference, calculator, released, workers):
                results[place] = found
                if kept is not None:
                    kept.add(place, found)
                bar.update()
    finally:
        if kept is not None:
            kept.close()
    source = Path(structure).name if isinstance(structure, (str, Path)) else reference.get_chemical_formula()
    provenance = {
        "source": source, "calculator": calculator, "ase": ase.__version__, "seed": seed, "max_strain": max_strain,
        "stiffness": stiffness.tolist(),
    }  # fmt: skip
    return gathered_states(reference, group, strains, results, provenance)


def _computed(
    strains: np.ndarray, missing: list[int], reference: Atoms, calculator: str, released: np.ndarray, workers: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and result of each state as it is done."""
    if workers <= 1 or len(missing) <= 1:
        worker = _Worker(reference, calculator, released) if missing else None
        for place in missing:
            assert worker is not None
            yield place, worker.state(strains[place])
        return
    arguments = (reference, calculator, released, os.getpid())
    with ProcessPoolExecutor(
        min(workers, len(missing)), mp_context=get_context("spawn"), initializer=_start_worker, initargs=arguments
    ) as pool:
        try:
            futures = {pool.submit(_state, strains[place]): place for place in missing}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def gathered_states(
    reference: Atoms,
    group: PointGroup,
    strains: np.ndarray,
    results: dict[int, dict[str, Any]],
    provenance: dict[str, Any],
    kind: str = "relaxed-ion",
) -> StrainData:
    """The data set of the states that count, in the order of the plan.

    Raises
    ------
    RuntimeError
        Where more than half are left out, with the first reason.
    """
    reasons = {place: results[place]["left_out"] for place in sorted(results) if "left_out" in results[place]}
    places = [place for place in sorted(results) if place not in reasons]
    if len(places) < max(1, len(strains) // 2):
        reason = next(iter(reasons.values()), "no results")
        raise RuntimeError(
            f"strained_states: expected most of {len(strains)} states to count, got {len(reasons)} left out, the first: "
            f"{reason}. Use a smaller --max-strain, or check structure and calculator."
        )
    arrays: dict[str, Any] = {name: np.array([results[place][name] for place in places]) for name in results[places[0]]}
    acoustic = arrays.get("acoustic")
    if acoustic is not None:
        arrays["flags"] = (acoustic <= 0).astype(np.int8)
        provenance = {**provenance, "non_elliptic_states": int(np.sum(acoustic <= 0))}
    provenance = {
        **provenance,
        "left_out": [{"strain": strains[place].tolist(), "reason": reason} for place, reason in reasons.items()],
    }
    return StrainData(
        strain=strains[places], **arrays, group=group, units="GPa", kind=kind,
        cell_ref=reference.cell.array, structure=structure_to_dict(reference), provenance=provenance,
        names=[f"state {place}" for place in places],
    )  # fmt: skip
