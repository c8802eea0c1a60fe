"""An image in, its elastic moduli out, between bounds.

result = constitutive.moduli("rock.tif", {0: "pore", 1: "E=70 nu=0.2"})
print(result)                              # stiffness, engineering moduli, bracket
material = QuadratureMaterial(result.law, u)
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit

from crystals import moduli as averages
from crystals.exchange import elastic_tensor
from crystals.groups import PointGroup
from crystals.mandel import IDENTITY, stiffness_to_voigt
from crystals.microstructure import Microstructure
from crystals.notebook import stiffness_html
from crystals.record import hdf5_bytes
from crystals.rotations import rotate_matrix
from crystals.voxel_files import SUFFIXES, read_image
from crystals.whole_file import whole_file

from .crystal_moduli import CrystalModuli, crystal_moduli, is_structure
from .homogenization import check_phases, homogenize, relative_width, uniform_bounds
from .laws.polynomial import PolynomialLaw
from .phases import isotropic_stiffness, stiffness_table
from .voxel_grid import VoxelGrid, device_of
from .voxel_network import Guess, guess, kind_of
from .voxel_solver import Solve

#: Bracket of the gear 'exact'.
_EXACT = 1e-7
#: The network reads moments of all six loads at once, 72 numbers a voxel.
_LARGEST_GUESS = 2**22
GEARS = ("auto", "fast", "accurate", "exact")
BOUNDARIES = ("periodic", "mirror", "uniform")


@dataclass(frozen=True, eq=False)
class ModuliResult:
    """Elastic moduli of an image.

    Attributes
    ----------
    stiffness : (6, 6)
        Effective stiffness, Mandel, in `units`, axes of the image.
    lower, upper : (6, 6)
        Bounds on the stiffness of the voxel model: upper − true and true − lower are positive semi-definite.
    certified : bool
        Whether `lower` is a bound. With pores it is an estimate.
    voigt, reuss : (6, 6)
        Averages of stiffness and of compliance over the image: what is known without solving. Reuss is zero with pores.
    units, gear, boundary : str
    error : float or None
        Width of the bracket that was asked for.
    iterations : int
    seconds : float
    image : Microstructure
    phases : dict of int to (6, 6)
        Stiffness of each phase, in the crystal's own frame where grains have orientations.
    notes : tuple of str
        What a reader must know beside the numbers.
    scatter : (6, 6) or None
        Half width of the 95 % interval of each component's mean over the material, from boxes of the image, where asked
        for: how far the image may stand from the material, apart from the bracket, which is about the image alone.
    expected_error : float or None
        Of a learned guess: relative error (Frobenius) that nine in ten held-out images stayed below.
    """

    stiffness: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    certified: bool
    voigt: np.ndarray
    reuss: np.ndarray
    units: str
    gear: str
    boundary: str
    error: float | None
    iterations: int
    seconds: float
    image: Microstructure
    phases: dict[int, np.ndarray]
    notes: tuple[str, ...] = field(default=())
    scatter: np.ndarray | None = None
    expected_error: float | None = None

    @property
    def width(self) -> float:
        """‖upper − lower‖ / ‖upper‖, Frobenius: the stiffness is within that of the voxel model's."""
        return relative_width(self.lower, self.upper)

    @property
    def stiffness_voigt(self) -> np.ndarray:
        """Stiffness (6, 6) in Voigt notation, the C11 … C66 of the textbooks."""
        return stiffness_to_voigt(self.stiffness)

    @property
    def compliance(self) -> np.ndarray:
        """Inverse of the stiffness (6, 6), Mandel.

        Raises
        ------
        ValueError
            Where the image does not carry every load.
        """
        values = np.linalg.eigvalsh(self.stiffness)
        if not values[0] > 1e-6 * np.linalg.eigvalsh(self.voigt)[-1]:
            raise ValueError(
                f"ModuliResult: expected a stiffness that resists every strain, got a smallest eigenvalue of "
                f"{values[0]:.2g} {self.units}. The solid of {self.image.name} does not connect in every direction."
            )
        return np.linalg.inv(self.stiffness)

    def young(self, direction: Any = None) -> Any:
        """Young's modulus along directions (..., 3), or (3,) along the axes x, y, z by default."""
        _ = self.compliance
        return averages.young(self.stiffness, np.eye(3) if direction is None else np.asarray(direction, dtype=float))

    @property
    def engineering(self) -> dict[str, float]:
        """E1 E2 E3 G23 G13 G12 (in `units`) and nu12 nu13 nu23 along the axes of the image: nu12 = −ε22/ε11 under σ11."""
        s = self.compliance
        out = {f"E{i + 1}": 1.0 / s[i, i] for i in range(3)}
        # a Mandel shear entry is half the engineering compliance
        out |= {name: 0.5 / s[k, k] for k, name in ((3, "G23"), (4, "G13"), (5, "G12"))}
        out |= {f"nu{i + 1}{j + 1}": -s[i, j] / s[i, i] for i, j in ((0, 1), (0, 2), (1, 2))}
        return {name: float(value) for name, value in out.items()}

    @property
    def isotropic(self) -> dict[str, float]:
        """K, G, E, nu of Hill's isotropic average of the stiffness, and its universal anisotropy index A."""
        _ = self.compliance
        bulk, shear = (float(value) for value in averages.hill_average(self.stiffness))
        return {
            "K": bulk, "G": shear, "E": 9.0 * bulk * shear / (3.0 * bulk + shear),
            "nu": (3.0 * bulk - 2.0 * shear) / (2.0 * (3.0 * bulk + shear)),
            "A": float(averages.universal_anisotropy(self.stiffness)),
        }  # fmt: skip

    @property
    def law(self) -> PolynomialLaw:
        """The stiffness as a law for DOLFINx and the rest: quadratic in Green–Lagrange strain, axes of the image."""
        return self.as_law()

    def as_law(self, strain_measure: str = "green_lagrange") -> PolynomialLaw:
        """`law` of the given strain measure, 'green_lagrange' or 'small'; triclinic, or orthotropic of a mirrored cell."""
        _ = self.compliance
        group = PointGroup("mmm" if self.boundary == "mirror" else "-1")
        law = PolynomialLaw(group, 2, self.stiffness, units=self.units, strain_measure=strain_measure)
        law.metadata = {"kind": "homogenised", "homogenisation": self._summary()}
        return law

    def _summary(self) -> dict[str, Any]:
        return {
            "image": self.image.name, "voxels": list(self.image.shape), "spacing": self.image.spacing.tolist(),
            "fractions": {str(k): v for k, v in self.image.fractions.items()},
            "phases": {str(k): v.tolist() for k, v in self.phases.items()}, "gear": self.gear, "boundary": self.boundary,
            "error_asked": self.error, "bracket_width": self.width, "certified": self.certified,
            "iterations": self.iterations, "seconds": self.seconds, "notes": list(self.notes),
            "expected_error": self.expected_error,
            "scatter": None if self.scatter is None else self.scatter.tolist(),
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; matrices are Mandel but for `stiffness_voigt`."""
        try:
            scalars: dict[str, Any] = {"engineering": self.engineering, "isotropic": self.isotropic}
        except ValueError:
            scalars = {"engineering": None, "isotropic": None}
        matrices = ("stiffness", "stiffness_voigt", "lower", "upper", "voigt", "reuss")
        return {
            "units": self.units, **{name: getattr(self, name).tolist() for name in matrices}, **scalars, **self._summary(),
        }  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write the result: .json, .h5, or .law for `law`.

        Raises
        ------
        ValueError
            For another suffix.
        """
        path = Path(path)
        if path.suffix == ".law":
            self.law.save(path)
        elif path.suffix == ".json":
            with whole_file(path) as temporary:
                temporary.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        elif path.suffix in (".h5", ".hdf5"):
            with whole_file(path) as temporary:
                temporary.write_bytes(hdf5_bytes(self._fill))
        else:
            raise ValueError(
                f"ModuliResult.save: expected a name that ends in .json, .h5 or .law, got {path.name!r}. Rename it."
            )

    def _fill(self, file: Any) -> None:
        for name in ("stiffness", "lower", "upper", "voigt", "reuss"):
            file[name] = getattr(self, name)
            file[name].attrs["components"] = "Mandel 11 22 33 23 13 12"
            file[name].attrs["units"] = self.units
        file.attrs["result"] = json.dumps(self._summary())

    def plot(self, path: str | Path) -> None:
        """Draw the image and the surface of Young's modulus over directions (.png, .pdf, .svg)."""
        from .moduli_picture import draw

        draw(self, Path(path))

    def __repr__(self) -> str:
        try:
            mean = " ".join(f"{name}={self.isotropic[name]:.4g}" for name in ("E", "K", "G"))
        except ValueError:
            mean = "no stiffness in some direction,"
        return f"ModuliResult({self.image.name}, {mean} {self.units}, bracket {_percent(self.width)}, gear {self.gear})"

    def elastic_tensor(self) -> Any:
        """The stiffness as pymatgen's `ElasticTensor` (3, 3, 3, 3), GPa, in the same frame."""
        return elastic_tensor(self.stiffness, self.units)

    def _repr_html_(self) -> str:
        kind = "certified" if self.certified else "upper bound certified, lower estimated"
        facts = [
            ("image", f"{self.image.name}, {' × '.join(map(str, self.image.shape))} voxels"),
            ("bracket", f"{_percent(self.width)} of the stiffness, {kind}; gear {self.gear}"),
            *(("note", note) for note in self.notes),
        ]
        return stiffness_html("effective stiffness", facts, self.stiffness, self.units)

    def __str__(self) -> str:
        unit = self.units
        lines = [repr(self.image), f"stiffness, {unit}, Voigt:"]
        lines += ["  " + "".join(f"{value:11.4g}" for value in row) for row in _clean(self.stiffness_voigt)]
        try:
            names = self.engineering
            lines.append(
                "  " + "  ".join(f"{k} {names[k]:.4g}" for k in ("E1", "E2", "E3", "G23", "G13", "G12")) + f"  {unit}"
            )
            lines.append("  " + "  ".join(f"{k} {names[k]:.3f}" for k in ("nu12", "nu13", "nu23")))
            mean = self.isotropic
            lines.append(
                f"isotropic average (Hill): K {mean['K']:.4g}  G {mean['G']:.4g}  E {mean['E']:.4g} {unit}  nu {mean['nu']:.3f}"
                f"  anisotropy {mean['A']:.3g}"
            )
        except ValueError:
            lines.append(f"no moduli: the solid of {self.image.name} does not connect in every direction")
        lines.append(f"bounds, {unit}, as Voigt's averages of each stiffness:")
        lines.append(" " * 17 + "".join(f"{name:>10}" for name in ("Reuss", "lower", "result", "upper", "Voigt")))
        for name, part in (("bulk", _bulk), ("shear", _shear)):
            row = (self.reuss, self.lower, self.stiffness, self.upper, self.voigt)
            lines.append(f"  {name:8}" + " " * 7 + "".join(f"{part(c):10.4g}" for c in row))
        kind = "certified" if self.certified else "upper bound certified, lower estimated"
        lines.append(
            f"bracket {_percent(self.width)} of the stiffness, {kind}; gear {self.gear}, {self.iterations} iterations, "
            f"{self.seconds:.1f} s"
        )
        if self.expected_error is not None:
            lines.append(
                f"learned: error expected below {_percent(self.expected_error)} for nine images in ten like those trained on"
            )
        if self.scatter is not None:
            share = float(np.linalg.norm(self.scatter) / np.linalg.norm(self.stiffness))
            lines.append(f"image against material, 95 %: ± {_percent(share)} of the stiffness, from boxes of the image")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def _clean(matrix: np.ndarray) -> np.ndarray:
    """The matrix with entries that are rounding next to its largest set to zero, for printing."""
    return np.where(np.abs(matrix) < 1e-9 * np.abs(matrix).max(), 0.0, matrix)


def _one_crystal(table: list[np.ndarray]) -> bool:
    """Whether several phases are made of one and the same anisotropic material."""
    first = table[0]
    isotropic = isotropic_stiffness(_bulk(first), _shear(first))
    same = len(table) > 1 and all(np.array_equal(first, other) for other in table[1:])
    return same and np.abs(first - isotropic).max() > 1e-6 * np.abs(first).max()


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _bulk(stiffness: np.ndarray) -> float:
    return float(IDENTITY @ stiffness @ IDENTITY / 9.0)


def _shear(stiffness: np.ndarray) -> float:
    return float((np.trace(stiffness) - 3.0 * _bulk(stiffness)) / 10.0)


def as_microstructure(source: Any, **reading: Any) -> Microstructure:
    """The image of a path, an array or a Microstructure; `reading` goes to `crystals.voxel_files.read_image`."""
    if isinstance(source, Microstructure):
        return source
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"moduli({path.name}): expected an image ({', '.join(SUFFIXES)}), got {path.suffix or 'no suffix'!r}. "
                "Name the file by its format."
            )
        return read_image(path, **reading)
    return Microstructure(np.asarray(source), np.asarray(reading.get("spacing") or 1.0, dtype=float))


def _of_crystal(source: Any, model: Any, more: Any) -> CrystalModuli:
    if more:
        raise ValueError(
            "moduli: expected no phases and no options of images for a crystal structure, got some. Leave them out."
        )
    return crystal_moduli(source, model=model)


def moduli(
    source: Any,
    phases: Any = None,
    *,
    gear: str = "auto",
    error: float = 0.01,
    boundary: str = "periodic",
    boxes: int = 0,
    scheme: str = "rotated",
    units: str = "GPa",
    device: str = "cpu",
    model: Any = None,
    **reading: Any,
) -> ModuliResult | CrystalModuli:
    """Effective elastic moduli of a voxel image, with bounds, or of a crystal, from its structure.

    Parameters
    ----------
    source : path, Microstructure, array (nx, ny, nz) of int, pymatgen Structure or ASE Atoms
        Image of phases or grains; axis 0 is x (component 11). See `crystals.voxel_files.read_image` for files. A crystal
        structure or its file goes to `crystal_moduli`, and only `model` beside it.
    phases : dict of int to material, or one material
        What each phase is: 'pore', 'rigid', 'E=70 nu=0.2', 'K=37 G=44', 'C11=168.4 C12=121.4 C44=75.4', '-3m C11=…',
        a law file or Law, a Mandel matrix (6, 6). One material serves all phases, as of a polycrystal.
    gear : str
        'auto': iterate until the bracket is narrower than `error`. 'exact': until it is narrower than 10⁻⁷.
        'fast', 'accurate': one or two steps, or two to eight, with pores four or eight, or four to 64, as each image needs,
        and a trained network between their bounds; `expected_error` says how far off nine in ten such images are. See
        `constitutive.voxel_network`.
    error : float
        Relative error (Frobenius) that 'auto' may leave, certified where all phases have some stiffness.
    boundary : str
        'periodic': the image repeats. 'mirror': it is mirrored first, for images that do not; the result is then
        orthotropic, whatever the image. 'uniform': no repetition; `lower` and `upper` are the stiffness under uniform
        stress and uniform strain on the faces, converged, and `stiffness` their mean. `error` is then of no effect.
    boxes : int
        Also homogenise boxes³ equal boxes of the image, for `scatter`; 0 for none.
    scheme : str
        'rotated' or 'hexahedra'; see `constitutive.homogenize`.
    units : str
        Of the phases, and so of the result.
    device : str
        'cpu' or 'cuda'.
    model : optional
        Of crystals: see `crystal_moduli`.
    **reading
        dataset, spacing, shape, dtype, order for `read_image`.

    Returns
    -------
    ModuliResult or CrystalModuli
        Both have `stiffness`, `young`, `law`, `save` and `plot`.

    Raises
    ------
    ValueError, TypeError, OSError
        For an image or a material that cannot be read, and phases without a material.
    RuntimeError
        Where the iteration does not reach what was asked for.
    """
    if is_structure(source):
        return _of_crystal(
            source, model, phases is not None or boxes or reading or gear != "auto" or boundary != "periodic"
        )
    if model is not None:
        raise ValueError("moduli: expected no model for a voxel image, which needs none. Leave it out.")
    start = time.perf_counter()
    where = "moduli"
    if gear not in GEARS or boundary not in BOUNDARIES:
        raise ValueError(
            f"{where}: expected gear among {', '.join(GEARS)} and boundary among {', '.join(BOUNDARIES)}, got {gear!r} and "
            f"{boundary!r}."
        )
    if not 1e-10 < error < 1:
        raise ValueError(f"{where}: expected an error between 1e-10 and 1, got {error}.")
    image = as_microstructure(source, **reading)
    materials, notes = stiffness_table(where, image.fractions, phases)
    if image.orientations is None and _one_crystal(list(materials.values())):
        notes.append(
            "the image has no orientations and its phases are one crystal: the result is that crystal, unturned"
        )
    cell_image = image
    if boundary == "mirror":
        cell_image = image.mirrored()
        notes.append("the image was mirrored to repeat: the result is orthotropic, whatever the image")
    labels, table = voxel_stiffness(cell_image, materials)
    table = check_phases(where, labels, table)
    asked = None if boundary == "uniform" else {"auto": error, "exact": _EXACT}.get(gear)
    expected = None
    options: dict[str, Any] = {"spacing": image.spacing, "scheme": scheme, "device": device}
    if boundary == "uniform":
        lower, upper, iterations = uniform_bounds(labels, table, **options)
        stiffness, certified = 0.5 * (lower + upper), True
        notes.append("lower and upper: uniform stress and uniform strain on the faces; the result is their mean")
        if not lower.any():
            notes.append("no traction can act on pores in the faces: the lower bound is zero")
    elif gear in ("fast", "accurate"):
        found = _guess(labels, table, image.spacing, gear, scheme, device)
        stiffness, lower, upper, iterations = found.stiffness, found.lower, found.upper, found.steps
        certified, expected = True, found.error
        if not lower.any():
            notes.append("with pores the certified lower bound is zero; gear auto estimates a better one")
    else:
        cell = homogenize(labels, table, error=asked, **options)
        stiffness, lower, upper = cell.stiffness, cell.lower, cell.upper
        certified, iterations = cell.certified, cell.iterations
        if not certified:
            notes.append("with pores no lower bound is certified: 'lower' is an estimate from the residual")
    scatter = _scatter(image, materials, boxes, asked, options) if boxes else None
    shares = np.bincount(labels.ravel(), minlength=len(table)) / labels.size
    voigt = np.einsum("m,mij->ij", shares, table)
    reuss = np.zeros((6, 6))
    if np.linalg.eigvalsh(table)[:, 0].min() > 1e-12 * np.abs(table).max():
        reuss = np.linalg.inv(np.einsum("m,mij->ij", shares, np.linalg.inv(table)))
    return ModuliResult(
        stiffness=stiffness, lower=lower, upper=upper, certified=certified, voigt=voigt, reuss=reuss, units=units,
        gear=gear, boundary=boundary, error=asked, iterations=iterations, seconds=time.perf_counter() - start,
        image=image, phases=materials, notes=tuple(notes), scatter=scatter,
        expected_error=expected,
    )  # fmt: skip


def _guess(labels: np.ndarray, table: np.ndarray, spacing: np.ndarray, gear: str, scheme: str, device: str) -> Guess:
    if scheme != "rotated":
        raise ValueError(
            f"moduli: expected scheme 'rotated' for gear {gear!r}, which was trained on it, got {scheme!r}."
        )
    if labels.size > _LARGEST_GUESS:
        raise ValueError(
            f"moduli: expected at most {_LARGEST_GUESS} voxels for gear {gear!r}, got {labels.size}. Use 'auto'."
        )
    place = device_of(device)
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    with torch.no_grad():
        solve = Solve(
            VoxelGrid(shape, spacing, scheme, place), torch.tensor(labels[None].astype(np.int32), device=place),
            torch.tensor(table[None], device=place),
        )  # fmt: skip
        _check_contrast(table[np.unique(labels)], gear, kind_of(solve))
        return guess(solve, gear)[0]


def _check_contrast(table: np.ndarray, gear: str, kind: str) -> None:
    """Refuse phases further apart than the networks were trained on."""
    bulk = np.einsum("i,mij,j->m", IDENTITY, table, IDENTITY) / 9.0
    shear = (np.einsum("mii->m", table) - 3.0 * bulk) / 10.0
    young = (9.0 * bulk * shear)[shear > 0] / (3.0 * bulk + shear)[shear > 0]
    most = 110.0 if kind == "solid" else 2.0
    if young.max() > most * young.min():
        what = "two isotropic phases" if kind == "solid" else "crystals or one solid with pores"
        raise ValueError(
            f"moduli: expected Young's moduli within a factor of {most:g} for gear {gear!r}, which knows {what}, got "
            f"{young.max() / young.min():.3g}. Use gear 'auto'."
        )


def _scatter(
    image: Microstructure, materials: dict[int, np.ndarray], boxes: int, error: float | None, options: dict[str, Any]
) -> np.ndarray:
    """Half width (6, 6) of the 95 % interval of the mean over boxes³ boxes, as if they were independent (Student's t)."""
    found = np.stack(
        [
            homogenize(*voxel_stiffness(box, materials), error=error, **options).stiffness
            for box in image.subvolumes(boxes)
        ]
    )
    count = len(found)
    return float(stdtrit(count - 1, 0.975)) * found.std(axis=0, ddof=1) / np.sqrt(count)


def voxel_stiffness(image: Microstructure, materials: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Compact labels (nx, ny, nz) and the stiffness (m, 6, 6) of each, grains turned into the sample."""
    labels, kept = image.compact()
    phases = kept if image.grain_phases is None else image.grain_phases[kept]
    table = np.stack([materials[int(phase)] for phase in phases])
    if image.orientations is not None:
        table = rotate_matrix(image.orientations[kept], table)
    return labels, table
