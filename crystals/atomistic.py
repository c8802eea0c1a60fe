"""Strained, relaxed cells of a crystal: energy and stress from any ASE calculator.

The plan of strains is drawn once from a seed; each state is a pure stretch of the reference cell whose atoms are then
relaxed at fixed cell (clamped ions give wrong constants wherever atoms may move inside the cell).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from scipy.stats import norm, qmc
from tqdm import tqdm

from . import mandel
from .groups import PointGroup
from .moduli import smallest_acoustic_eigenvalue
from .states import EV_PER_A3, StrainData
from .structures import standard_primitive, structure_to_dict

#: Step of the central differences of stress that give a state's tangent (strain, dimensionless).
DIFFERENCE_STEP = 1e-4
#: Largest force (eV/Å) left after relaxing the atoms of a state. 1e-4 leaves an error of 3e-5 in stress against energy.
FORCE_TOLERANCE = 1e-5

CalculatorFactory = Callable[[], Any]


def calculator_factory(name: str) -> CalculatorFactory:
    """A function that makes a calculator: 'emt', 'lj', or the import path 'package.module:Name' of any.

    Raises
    ------
    ValueError
        Where nothing of that name can be imported and called.
    """
    path = {"emt": "ase.calculators.emt:EMT", "lj": "ase.calculators.lj:LennardJones"}.get(name.lower(), name)
    module_name, _, attribute = path.partition(":")
    if not attribute:
        module_name, _, attribute = path.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"calculator: expected 'emt' or the import path of an ASE calculator, such as "
            f"'ase.calculators.lj:LennardJones', got {name!r}: {error}. Install its package, or correct the path."
        ) from error
    if not callable(factory):
        raise ValueError(
            f"calculator: expected something to call, got {path!r} of type {type(factory).__name__}. Name a class or a "
            "function that returns a calculator."
        )
    return factory


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


def plan_strains(number: int, max_strain: float, seed: int = 0) -> np.ndarray:
    """Strains (number, 6) that fill the ball |E| ≤ max_strain in all six Mandel components.

    Sobol points (Sobol' 1967) carried to directions by the normal quantile and to radii with a density that falls like
    1/r⁴ against the uniform ball, so that small strains, which fix the elastic constants, are not crowded out.
    """
    if number < 1 or not 0 < max_strain < 0.5:
        raise ValueError(
            f"plan_strains: expected at least 1 state and 0 < max_strain < 0.5, got {number} and {max_strain}. "
            "Green–Lagrange strain reaches −0.5 where a cell has no volume."
        )
    sobol: Any = qmc.Sobol  # the seed is rng in newer scipy, which still takes it
    points = sobol(7, seed=seed).random_base2(int(np.ceil(np.log2(number))) if number > 1 else 0)[:number]
    points = np.clip(points, 1e-9, 1 - 1e-9)
    directions = norm.ppf(points[:, :6])
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    return max_strain * np.sqrt(points[:, 6:]) * directions


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

    def evaluate(self, strain: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
        """Energy density (GPa), Cauchy stress (GPa, Mandel, (6,)), cell (Å) and largest force (eV/Å), atoms relaxed."""
        cell = self.reference.cell.array @ mandel.right_stretch(strain).T
        self.atoms.set_cell(cell)
        self.atoms.set_scaled_positions(self.reference.get_scaled_positions(wrap=False))
        force = _largest_force(self.atoms)
        if force > FORCE_TOLERANCE:
            with BFGS(self.atoms, logfile=None) as optimiser:
                if not optimiser.run(fmax=FORCE_TOLERANCE, steps=1000):
                    raise RuntimeError(
                        f"StrainedCrystal: expected atoms to relax within 1000 steps at strain "
                        f"{np.round(strain, 4).tolist()}; they did not. Use a smaller --max-strain."
                    )
            force = _largest_force(self.atoms)
        energy = self.atoms.get_potential_energy() * EV_PER_A3 / self.volume - self.energy_zero
        cauchy = mandel.stress_from_voigt(self.atoms.get_stress(voigt=True) * EV_PER_A3)
        return float(energy), cauchy, cell, force

    def stress(self, strain: np.ndarray) -> np.ndarray:
        """Second Piola–Kirchhoff stress (6,), GPa, Mandel."""
        return mandel.second_piola(self.evaluate(strain)[1], mandel.right_stretch(strain))

    def tangent(self, strain: np.ndarray, step: float = DIFFERENCE_STEP) -> np.ndarray:
        """∂S/∂E (6, 6), GPa, Mandel, relaxed-ion, by central differences of the stress, symmetrised."""
        columns = [
            (self.stress(strain + step * unit) - self.stress(strain - step * unit)) / (2 * step) for unit in np.eye(6)
        ]
        matrix = np.array(columns).T
        return 0.5 * (matrix + matrix.T)


def _largest_force(atoms: Atoms) -> float:
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


_worker: StrainedCrystal | None = None


def _start_worker(reference: Atoms, calculator: str) -> None:
    global _worker
    _worker = StrainedCrystal(reference, calculator_factory(calculator))


def _state(strain: np.ndarray) -> dict[str, Any]:
    assert _worker is not None
    energy, cauchy, cell, force = _worker.evaluate(strain)
    gradient = mandel.right_stretch(strain)
    second = mandel.second_piola(cauchy, gradient)
    acoustic = smallest_acoustic_eigenvalue(_worker.tangent(strain), second, gradient)
    return {
        "energy": energy, "cauchy": cauchy, "cell": cell, "max_force": force, "deformation_gradient": gradient,
        "stress": second, "acoustic": float(acoustic),
    }  # fmt: skip


def strained_states(
    structure: Any,
    calculator: str = "emt",
    *,
    number: int = 300,
    max_strain: float = 0.08,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> StrainData:
    """Relax a crystal, strain it, and record energy and stress.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path
        Crystal, turned to the standard frame and relaxed to zero stress first.
    calculator : str
        'emt', or the import path of an ASE calculator.
    number : int
        Number of states.
    max_strain : float
        Radius |E| of the ball of strains.
    seed : int
        Seed of the plan.
    workers : int
        Processes.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    StrainData
        Relaxed-ion states in GPa, with the smallest acoustic eigenvalue of each and the point group of the reference.
    """
    factory = calculator_factory(calculator)
    reference = relax_cell(standard_primitive(structure), factory)
    group = PointGroup.from_structure(reference)
    strains = plan_strains(number, max_strain, seed)
    # what the law's elastic constants are compared with
    stiffness = StrainedCrystal(reference, factory).tangent(np.zeros(6))
    if workers > 1:
        with ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(reference, calculator)
        ) as pool:
            states = list(_shown(pool.map(_state, strains, chunksize=4), number, progress))
    else:
        _start_worker(reference, calculator)
        states = list(_shown(map(_state, strains), number, progress))
    arrays: dict[str, Any] = {name: np.array([state[name] for state in states]) for name in states[0]}
    acoustic = arrays["acoustic"]
    return StrainData(
        strain=strains,
        **arrays,
        flags=(acoustic <= 0).astype(np.int8),
        group=group,
        units="GPa",
        kind="relaxed-ion",
        cell_ref=reference.cell.array,
        structure=structure_to_dict(reference),
        provenance={
            "source": Path(structure).name if isinstance(structure, (str, Path)) else reference.get_chemical_formula(),
            "calculator": calculator,
            "ase": ase.__version__,
            "seed": seed,
            "max_strain": max_strain,
            "non_elliptic_states": int(np.sum(acoustic <= 0)),
            "stiffness": stiffness.tolist(),
        },
    )


def _shown(states: Iterable[dict[str, Any]], number: int, progress: bool) -> Iterable[dict[str, Any]]:
    return tqdm(states, total=number, desc="strained cells", unit="state", disable=not progress)
