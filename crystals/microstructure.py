"""Voxel images of microstructures: phases or grains on a regular grid, their spacing and orientations.

Axis 0 of the image is x (component 11), axis 1 is y, axis 2 is z. `crystals.voxel_files` reads images,
`crystals.generators` makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from .rotations import check_rotation


@dataclass(frozen=True, eq=False)
class Microstructure:
    """A voxel image.

    Parameters
    ----------
    labels : (nx, ny, nz) int
        Phase number, or grain number where `grain_phases` or `orientations` are given. Not negative.
    spacing : (3,)
        Edges of a voxel along x, y, z. Only their ratios matter to stiffness.
    orientations : (m, 3, 3), optional
        Rotation Q, crystal → sample, of each label 0 … m − 1.
    grain_phases : (m,) int, optional
        Phase number of each label; by default a label is its own phase, or phase 0 where orientations are given.
    name : str
        What it is called in results.

    Raises
    ------
    ValueError, TypeError
        For an image that is not three-dimensional or not of whole numbers, and tables that do not reach every label.
    """

    labels: np.ndarray
    spacing: np.ndarray = field(default_factory=lambda: np.ones(3))
    orientations: np.ndarray | None = None
    grain_phases: np.ndarray | None = None
    name: str = "image"

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.dtype == bool:
            labels = labels.astype(np.uint8)
        if labels.dtype.kind not in "iu":
            raise TypeError(
                f"Microstructure: expected an image of whole numbers (phase or grain), got dtype {labels.dtype}. "
                "Segment it first, for instance (image > threshold).astype(int)."
            )
        if labels.ndim != 3 or min(labels.shape) < 1:
            coloured = labels.ndim == 4 and labels.shape[-1] in (3, 4)
            remedy = "Turn colours into one number for each phase" if coloured else "A flat image is image[:, :, None]"
            raise ValueError(f"Microstructure: expected an image of shape (nx, ny, nz), got {labels.shape}. {remedy}.")
        if labels.min() < 0:
            raise ValueError(f"Microstructure: expected labels ≥ 0, got {labels.min()}. Renumber them.")
        if np.shape(self.spacing) not in ((), (1,), (3,)):
            raise ValueError(
                f"Microstructure: expected a spacing (3,), got shape {np.shape(self.spacing)}. Give dx, dy, dz."
            )
        spacing = np.broadcast_to(np.asarray(self.spacing, dtype=float), (3,)).copy()
        if not np.all(np.isfinite(spacing)) or not np.all(spacing > 0):
            raise ValueError(
                f"Microstructure: expected a positive spacing (3,), got {spacing.tolist()}. Give dx, dy, dz."
            )
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "spacing", spacing)
        highest = int(labels.max())
        if self.orientations is not None:
            turns = check_rotation("Microstructure orientations", self.orientations)
            if turns.ndim != 3 or len(turns) <= highest:
                raise ValueError(
                    f"Microstructure: expected orientations ({highest + 1}, 3, 3), one for each label, got {turns.shape}. Give all."
                )
            object.__setattr__(self, "orientations", turns)
            if self.grain_phases is None:
                object.__setattr__(self, "grain_phases", np.zeros(len(turns), dtype=int))
        if self.grain_phases is not None:
            phases = np.asarray(self.grain_phases)
            if phases.ndim != 1 or phases.dtype.kind not in "iu" or len(phases) <= highest:
                raise ValueError(
                    f"Microstructure: expected grain_phases ({highest + 1},) of whole numbers, got {phases.shape} "
                    f"{phases.dtype}. Give one for each label."
                )
            object.__setattr__(self, "grain_phases", phases.astype(int))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        nx, ny, nz = self.labels.shape
        return nx, ny, nz

    @property
    def phases(self) -> np.ndarray:
        """Phase number of every voxel (nx, ny, nz)."""
        return self.labels if self.grain_phases is None else self.grain_phases[self.labels]

    @property
    def fractions(self) -> dict[int, float]:
        """Volume fraction of each phase that is there."""
        found, counts = np.unique(self.phases, return_counts=True)
        return {int(phase): float(count) / self.labels.size for phase, count in zip(found, counts, strict=True)}

    def compact(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels renumbered 0 … m − 1 without gaps (nx, ny, nz), and the original label of each (m,)."""
        kept, inverse = np.unique(self.labels, return_inverse=True)
        return inverse.reshape(self.labels.shape), kept

    def transformed(self, operation: np.ndarray) -> Microstructure:
        """The image turned or mirrored by one of the 48 operations of the cube, its spacing and orientations with it.

        Parameters
        ----------
        operation : (3, 3)
            Matrix with one entry ±1 in each row and column; a material point x goes to operation · x.

        Raises
        ------
        ValueError
            For another matrix.

        Notes
        -----
        Stiffness is even under inversion, so orientations turn by the proper one of ±operation.
        """
        matrix = np.asarray(operation, dtype=float)
        if (
            matrix.shape != (3, 3)
            or not np.array_equal(np.abs(matrix).sum(0), np.ones(3))
            or not np.array_equal(matrix @ matrix.T, np.eye(3))
        ):
            raise ValueError(
                f"transformed: expected one of the 48 operations of the cube, got {matrix.tolist()}. Other angles need a new image."
            )
        orientations = self.orientations
        if orientations is not None:
            proper = matrix * np.linalg.det(matrix).round()
            orientations = proper @ orientations
        axes = np.argmax(np.abs(matrix), axis=1)
        labels = np.transpose(self.labels, axes)
        flips = [axis for axis in range(3) if matrix[axis, axes[axis]] < 0]
        return replace(
            self,
            labels=np.ascontiguousarray(np.flip(labels, flips)),
            spacing=self.spacing[axes],
            orientations=orientations,
        )

    def mirrored(self) -> Microstructure:
        """The image and its mirror images in one periodic cell of twice the size.

        Mirroring makes any image periodic, and any result orthotropic.

        Raises
        ------
        ValueError
            Where crystals have orientations, which would have to be mirrored too.
        """
        if self.orientations is not None:
            raise ValueError(
                "mirrored: expected an image of phases, got one with orientations, which would have to be mirrored too. "
                "Use a periodic cell, or uniform boundary conditions."
            )
        labels = self.labels
        for axis in range(3):
            if labels.shape[axis] > 1:
                labels = np.concatenate([labels, np.flip(labels, axis)], axis)
        return replace(self, labels=labels)

    def subvolumes(self, parts: int) -> Iterator[Microstructure]:
        """parts³ equal boxes of the image; voxels left over at the far ends are dropped.

        Raises
        ------
        ValueError
            For parts < 2, or boxes of fewer than 4 voxels an edge.
        """
        edges = [n // parts for n in self.shape]
        if parts < 2 or min(edges) < 4:
            raise ValueError(
                f"subvolumes: expected 2 or more parts of at least 4 voxels an edge, got {parts} parts of {self.shape}."
            )
        for corner in np.ndindex(parts, parts, parts):
            box = tuple(slice(c * e, (c + 1) * e) for c, e in zip(corner, edges, strict=True))
            yield replace(self, labels=np.ascontiguousarray(self.labels[box]))

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.shape))
        fractions = self.fractions
        kinds = ", ".join(f"phase {phase} {100 * share:.1f} %" for phase, share in list(fractions.items())[:6])
        more = f", {len(fractions) - 6} more" if len(fractions) > 6 else ""
        grains = "" if self.orientations is None else f", {len(np.unique(self.labels))} grains"
        stretched = (
            ""
            if np.ptp(self.spacing) < 1e-9 * self.spacing.max()
            else ", spacing " + "×".join(f"{s:g}" for s in self.spacing)
        )
        return f"Microstructure({self.name}: {shape} voxels{stretched}{grains}, {kinds}{more})"
