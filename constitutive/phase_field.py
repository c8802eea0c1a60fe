"""The stiffness of every voxel, and the stress of a strain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crystals.mandel import IDENTITY


class PhaseField:
    """A field of stiffness: σ = C(x) ε for labels (images, nx, ny, nz) and a table (images, m, 6, 6)."""

    def __init__(self, labels: Tensor, table: Tensor) -> None:
        one = torch.tensor(IDENTITY, device=table.device)
        bulk = torch.einsum("i,bmij,j->bm", one, table, one) / 9.0
        shear = (torch.einsum("bmii->bm", table) - 3.0 * bulk) / 10.0
        lame = bulk - 2.0 * shear / 3.0
        isotropic = lame[..., None, None] * torch.outer(one, one) + 2.0 * shear[..., None, None] * torch.eye(6).to(
            table
        )
        defect = (table - isotropic).abs().amax(dim=(-1, -2)) / table.abs().amax(dim=(-1, -2)).clamp_min(1e-300)
        self.lame: Tensor | None = None
        if bool((defect <= 1e-13).all()):
            self.lame = gather(lame, labels)[:, None]
            self.twice_shear = gather(2.0 * shear, labels)[:, None, None]
        else:
            self.entries = [
                (i, j, gather(table[:, :, i, j], labels)[:, None])
                for i in range(6)
                for j in range(i, 6)
                if bool((table[:, :, i, j] != 0).any())
            ]

    def of_images(self, images: Any) -> PhaseField:
        """The field of some of the images (slice or index)."""
        part = PhaseField.__new__(PhaseField)
        part.lame = None if self.lame is None else self.lame[images]
        if part.lame is not None:
            part.twice_shear = self.twice_shear[images]
        else:
            part.entries = [(i, j, value[images]) for i, j, value in self.entries]
        return part

    def stress(self, strain: Tensor) -> Tensor:
        """σ (images, loads, 6, …) of strains of that shape."""
        if self.lame is not None:
            out = strain * self.twice_shear
            pressure = (strain[:, :, 0] + strain[:, :, 1]).add_(strain[:, :, 2]).mul_(self.lame)
            out[:, :, :3] += pressure[:, :, None]
            return out
        out = torch.zeros_like(strain)
        for i, j, value in self.entries:
            out[:, :, i].addcmul_(value, strain[:, :, j])
            if i != j:
                out[:, :, j].addcmul_(value, strain[:, :, i])
        return out

    def stress_rows(self, strain: Tensor, rows: list[tuple[int, int]], images: slice, planes: slice) -> Tensor:
        """Stress of some components of strain modes in a piece of the image; overwrites `strain`.

        Parameters
        ----------
        strain : (r + m, images, loads, p)
            r rows, then the trace of each of the m modes, of the voxels of some planes across axis 0 with one row and one
            column more each, where the stress is zero.
        rows : list of (mode, component)
        images, planes : slice
            The piece.

        Returns
        -------
        (r, images, loads, p)
        """

        def laid_out(values: Tensor) -> Tensor:
            return torch.nn.functional.pad(values[images, :, planes], (0, 1, 0, 1)).flatten(2)

        if self.lame is not None:
            stress, pressure = strain[: len(rows)], strain[len(rows) :]
            stress *= laid_out(self.twice_shear[:, 0])
            pressure *= laid_out(self.lame)
            for place, (mode, component) in enumerate(rows):
                if component < 3:
                    stress[place] += pressure[mode]
            return stress
        stress = torch.zeros_like(strain[: len(rows)])
        place = {row: k for k, row in enumerate(rows)}
        for i, j, value in self.entries:
            some = laid_out(value)
            for mode in range(len(strain) - len(rows)):
                one, two = place.get((mode, i)), place.get((mode, j))
                if one is not None and two is not None:
                    stress[one].addcmul_(some, strain[two])
                    if i != j:
                        stress[two].addcmul_(some, strain[one])
        return stress


def gather(table: Tensor, labels: Tensor) -> Tensor:
    """Values (images, nx, ny, nz) of a table (images, m) at labels."""
    images = torch.arange(len(labels), device=labels.device).reshape(-1, 1, 1, 1)
    return table[images, labels.long()]
