"""Elastic surfaces of pores as a linear correction of a voxel image's stiffness, fitted to known stiffnesses.

    terms = [surface_term(image, phases) for image in images]            # per unit of surface modulus
    found = fit_surface(stiffness, terms, reference)                     # reference ≈ scale · C + modulus · term
    found.predict(moduli(new, phases).stiffness, surface_term(new, phases))

A membrane of stiffness κ on the surface of the pores (Gurtin and Murdoch 1975, doi:10.1007/BF00261375, without surface
tension and with a surface Poisson ratio of zero) adds the energy ½ κ ∫ ε_s : ε_s dA, ε_s being the strain in the surface.
To first order in κ the strains are those of the body without it, so the effective stiffness grows by κ T with

    T_ij = 1/V ∫ ε_s,i : ε_s,j dA

over the strains of the six unit loads. T scales with surface area a volume: halving the voxel doubles it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crystals import mandel

from .homogenization import homogenize
from .moduli import as_microstructure, voxel_stiffness
from .phases import stiffness_table


def surface_term(source: Any, phases: Any, *, error: float = 0.01, **reading: Any) -> np.ndarray:
    """T (6, 6), Mandel, in 1/length of the image's spacing: growth of the stiffness per unit of surface modulus.

    The area is that of the faces between solid and pore voxels, on average half as large again as a smooth surface's of
    random orientation; the fitted modulus is smaller by as much. The strain is that of the solid voxel at the face.

    Parameters
    ----------
    source, phases, **reading
        As `constitutive.moduli` takes them. Periodic.
    error : float
        Relative width of the bracket of the solve.

    Raises
    ------
    ValueError, TypeError, OSError, RuntimeError
        As `moduli`, and for an image without pores.
    """
    image = as_microstructure(source, **reading)
    labels, table = voxel_stiffness(image, stiffness_table("surface_term", image.fractions, phases)[0])
    solid = np.abs(table).max(axis=(1, 2))[labels] > 0
    if solid.all():
        raise ValueError("surface_term: expected an image with pores, got none. Only free surfaces are membranes here.")
    cell = homogenize(labels, table, spacing=image.spacing, error=error, fields=True)
    assert cell.strain is not None
    strain = mandel.from_mandel(np.moveaxis(cell.strain, 1, -1))
    volume = labels.size * np.prod(image.spacing)
    term = np.zeros((6, 6))
    for axis in range(3):
        area = np.prod(np.delete(image.spacing, axis))
        faces = sum((solid & ~np.roll(solid, step, axis)).astype(float) for step in (1, -1))
        plane = [i for i in range(3) if i != axis]
        tangential = strain[..., plane, :][..., plane].reshape(6, labels.size, 4)
        weighted = tangential * (np.asarray(faces).reshape(-1, 1) * area / volume)
        term += np.einsum("ivk,jvk->ij", weighted, tangential, optimize=True)
    return term


@dataclass(frozen=True, eq=False)
class SurfaceFit:
    """reference ≈ scale · C + modulus · T.

    Attributes
    ----------
    scale : float
        Of the stiffness without surfaces: what a common error of the phase's constants amounts to.
    modulus : float
        Surface modulus κ, in units of stiffness times length of the spacing.
    scale_error, modulus_error : float
        Standard errors of both, from what is left over.
    error, error_before : float
        Relative RMS error √(Σ‖ΔC‖² / Σ‖C_ref‖²) on the given stiffnesses, with the correction and without.
    """

    scale: float
    modulus: float
    scale_error: float
    modulus_error: float
    error: float
    error_before: float

    def predict(self, stiffness: np.ndarray, term: np.ndarray) -> np.ndarray:
        """Corrected stiffness (..., 6, 6)."""
        return self.scale * np.asarray(stiffness) + self.modulus * np.asarray(term)


def fit_surface(stiffness: Any, term: Any, reference: Any) -> SurfaceFit:
    """Scale and surface modulus by least squares on stiffnesses relative to their norms, so that soft images count alike.

    Parameters
    ----------
    stiffness, term, reference : (n, 6, 6)
        Of n images: as homogenised without surfaces, `surface_term`, and as known from experiment or atomistics. Mandel.

    Raises
    ------
    ValueError
        For shapes that differ, fewer than two images, and images whose surfaces act like a scale, which is then not told
        from it (vary the surface per volume).
    """
    c, t, known = (np.asarray(part, dtype=float) for part in (stiffness, term, reference))
    if c.ndim != 3 or c.shape[1:] != (6, 6) or t.shape != c.shape or known.shape != c.shape or len(c) < 2:
        raise ValueError(
            f"fit_surface: expected stiffness, term and reference of the same shape (n, 6, 6), n ≥ 2, got {c.shape}, {t.shape} "
            f"and {known.shape}."
        )
    size = np.linalg.norm(known, axis=(1, 2))[:, None, None]
    # an entry off the diagonal stands for two
    weight = mandel.pack_upper(np.where(np.eye(6) > 0, 1.0, 2.0**0.5))
    columns = np.stack([(mandel.pack_upper(part / size) * weight).ravel() for part in (c, t)], axis=1)
    target = (mandel.pack_upper(known / size) * weight).ravel()
    norms = np.linalg.norm(columns, axis=0)
    if not norms.all() or not np.linalg.svd(columns / norms, compute_uv=False)[-1] > 1e-3:
        raise ValueError(
            "fit_surface: expected images that tell a surface from a scale, got terms in proportion to the stiffness. "
            "Add images with other pore sizes or fractions."
        )
    found = np.linalg.lstsq(columns, target, rcond=None)[0]
    left = target - columns @ found
    spread = np.sqrt(left @ left / (len(target) - 2) * np.diag(np.linalg.inv(columns.T @ columns)))
    total = np.sum(known**2)
    after = np.sum((found[0] * c + found[1] * t - known) ** 2)
    return SurfaceFit(
        float(found[0]), float(found[1]), float(spread[0]), float(spread[1]),
        float(np.sqrt(after / total)), float(np.sqrt(np.sum((c - known) ** 2) / total)),
    )  # fmt: skip
