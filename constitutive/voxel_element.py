"""The plain hexahedron by its modes of strain instead of its integration points: nodal forces as products of matrices.

At the 2×2×2 Gauss points (x, y, z) = ½ ± g, g = 1/√12, the strain of a trilinear hexahedron is a sum of seven fields,

    ε = E₀ + E₁ sx + E₂ sy + E₃ sz + E₄ sx sy + E₅ sx sz + E₆ sy sz,    sx, sy, sz = ±1,

whose products average to zero over the points. With one stiffness C a voxel the nodal forces are therefore Σ_m B_mᵀ C B_m u
with E_m = B_m u, and 30 of the 42 rows of B are not zero: a mode that varies along x has no strain 11. The sum is that of the
eight points to rounding (as in the stabilisation of Flanagan and Belytschko 1981, doi:10.1002/nme.1620170504, but exact).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Voxel strains handled at once: the numbers of a piece stay in the cache.
_PIECE = 2**14
_CORNERS = list(itertools.product((0, 1), repeat=3))
_SHEARS = ((3, 1, 2), (4, 0, 2), (5, 0, 1))


def _modes(spacing: np.ndarray) -> np.ndarray:
    """B (8, 6, 24): Mandel strain of every mode, the last zero, of displacements (component, corner)."""
    gauss = 0.5 / np.sqrt(3.0)
    # along one axis: mean and deviation over the two points of the value, and of the derivative
    value, slope = np.array([[0.5, 0.5], [-gauss, gauss]]), np.array([[-1.0, 1.0], [0.0, 0.0]])
    gradient = []
    for axis, h in enumerate(spacing):
        x, y, z = (slope / h if axis == other else value for other in range(3))
        gradient.append(np.einsum("ai,bj,ck->abcijk", x, y, z).reshape(8, 8))
    out = np.zeros((8, 6, 3, 8))
    for i in range(3):
        out[:, i, i] = gradient[i]
    for place, i, j in _SHEARS:
        out[:, place, i], out[:, place, j] = 0.5**0.5 * gradient[j], 0.5**0.5 * gradient[i]
    return out.reshape(8, 6, 24)


class Hexahedron:
    """Strain modes of a voxel with edges `spacing`, and the forces of their stresses.

    Attributes
    ----------
    rows : list of (mode, component)
        Of the matrix B that are not zero; mode 0 first, all six.
    """

    def __init__(self, spacing: np.ndarray, device: torch.device) -> None:
        modes = _modes(spacing)
        self.rows = [(m, i) for m in range(8) for i in range(6) if np.abs(modes[m, i]).max() > 0.0]
        strain = np.array([modes[row] for row in self.rows])
        traces = modes[:7, :3].sum(axis=1)
        self._both = torch.tensor(np.concatenate([strain, traces]), device=device)
        self._adjoint = torch.tensor(strain.T.copy(), device=device)

    def forces(self, field: Any, displacement: Tensor, loads: range | None) -> tuple[Tensor, Tensor]:
        """Nodal forces of the stress of displacements (images, loads, 3, nx, ny, nz), and its mean.

        Parameters
        ----------
        field : PhaseField
            Stiffness of the voxels.
        displacement : Tensor
        loads : range, optional
            Unit strains to add, one to the strains of each load.

        Returns
        -------
        forces, mean : Tensor
            Of the shape of `displacement`, and (images, loads, 6).
        """
        images, cases, _, nx, ny, nz = displacement.shape
        # nodes laid out with one more plane along each axis: the corners of all voxels are then one row, shifted
        plane = (ny + 1) * (nz + 1)
        shifts = [a * plane + b * (nz + 1) + c for a, b, c in _CORNERS]
        nodes = displacement.new_zeros(images, cases, 3, (nx + 1) * plane + nz + 2)
        padded = nodes[..., : (nx + 1) * plane].view(images, cases, 3, nx + 1, ny + 1, nz + 1)
        padded[..., :nx, :ny, :nz] = displacement
        padded[..., nx, :ny, :nz] = displacement[..., 0, :, :]
        padded[..., ny, :nz] = padded[..., 0, :nz]
        padded[..., nz] = padded[..., 0]
        out = torch.zeros_like(nodes)
        mean = displacement.new_zeros(6, images, cases)
        planes = max(1, min(nx, _PIECE // (ny * nz)))
        some = max(1, min(cases, _PIECE // (nx * ny * nz)))
        many = max(1, min(images, _PIECE // (nx * ny * nz * cases)))
        # one buffer for all pieces: fresh memory costs more than the arithmetic
        most = planes * plane * some * many
        spare = displacement.new_empty((24 + len(self._both)) * most)
        for i, l, x in itertools.product(range(0, images, many), range(0, cases, some), range(0, nx, planes)):
            there, which = slice(i, min(i + many, images)), slice(l, min(l + some, cases))
            slab = slice(x, min(x + planes, nx))
            start, length = x * plane, (slab.stop - x) * plane
            count = (there.stop - i) * (which.stop - l) * length
            corners = spare[: 24 * count].view(3, 8, there.stop - i, which.stop - l, length)
            for place, shift in enumerate(shifts):
                part = nodes[there, which, :, start + shift : start + shift + length]
                corners[:, place] = part.movedim(2, 0)
            strain = spare[24 * count : (24 + len(self._both)) * count].view(len(self._both), -1)
            strain = torch.mm(self._both, corners.view(24, -1), out=strain).view(-1, *corners.shape[2:])
            if loads is not None:
                for place, load in enumerate(loads[which]):
                    strain[load, :, place] += 1.0
                    if load < 3:
                        strain[len(self.rows), :, place] += 1.0
            stress = field.stress_rows(strain, self.rows, there, slab)
            if loads is not None:
                mean[:, there, which] += stress[:6].sum(dim=-1)
            nodal = torch.mm(self._adjoint, stress.view(len(self.rows), -1), out=corners.view(24, -1))
            nodal = nodal.view(corners.shape)
            for place, shift in enumerate(shifts):
                part = out[there, which, :, start + shift : start + shift + length]
                part += nodal[:, place].movedim(0, 2)
        out = out[..., : (nx + 1) * plane].view(padded.shape)
        out[..., 0, :, :] += out[..., nx, :, :]
        out[..., 0, :] += out[..., ny, :]
        out[..., 0] += out[..., nz]
        return out[..., :nx, :ny, :nz].contiguous(), mean.movedim(0, 2) / (nx * ny * nz)
