"""Trilinear finite elements on a periodic voxel grid: strain of nodal displacements, nodal forces, Green operator.

Voxel v is a hexahedron between the nodes v and v + 1; displacements live at nodes, strains at the integration points of
voxels. Two rules:

- 'rotated': one point at the centre, which is the rotated scheme of Willot 2015 (doi:10.1016/j.crme.2014.12.005), equal
  to underintegrated hexahedra (Schneider, Merkert and Kabel 2017, doi:10.1002/nme.5336). On grids with an even edge the
  hourglass modes carry no energy, so they are left out.
- 'hexahedra': 2×2×2 Gauss points, the plain finite element.

The Green operator inverts the stiffness of the same elements filled with an isotropic reference: a real symmetric 3×3
matrix at each wave vector (Leuschner and Fritzen 2018, doi:10.1007/s00466-017-1501-5). Fields are
(images, loads, components, nx, ny, nz), Mandel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from .voxel_element import Hexahedron

SCHEMES = ("rotated", "hexahedra")
#: Strain component of each (displacement component, direction); shears are weighted 1/√2 in `strain`.
_SHEARS = ((3, 1, 2), (4, 0, 2), (5, 0, 1))


def transform(field: Tensor) -> Tensor:
    """Real Fourier transform over the last three axes."""
    if field.device.type == "cpu":
        # scipy's pocketfft takes a third of the time of torch's MKL on this kind of grid
        spectrum: Any = scipy.fft.rfftn(field.numpy(), axes=(-3, -2, -1))
        return torch.from_numpy(spectrum)
    return torch.fft.rfftn(field, dim=(-3, -2, -1))


def inverse_transform(field: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Inverse of `transform` onto a grid of `shape`. Overwrites `field`."""
    if field.device.type == "cpu":
        values: Any = scipy.fft.irfftn(field.numpy(), s=shape, axes=(-3, -2, -1), overwrite_x=True)
        return torch.from_numpy(values)
    return torch.fft.irfftn(field, s=shape, dim=(-3, -2, -1))


def _pairs(field: Tensor, axis: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Views (here, next) along an axis, and (last, first) where the period closes."""
    n = field.shape[axis]
    return (
        (field.narrow(axis, 0, n - 1), field.narrow(axis, 1, n - 1)),
        (field.narrow(axis, n - 1, 1), field.narrow(axis, 0, 1)),
    )


def _interpolate(field: Tensor, axis: int, place: float) -> Tensor:
    """(1 − place) · here + place · next."""
    out = torch.empty_like(field)
    n = field.shape[axis]
    (here, following), (last, first) = _pairs(field, axis)
    torch.lerp(here, following, place, out=out.narrow(axis, 0, n - 1))
    torch.lerp(last, first, place, out=out.narrow(axis, n - 1, 1))
    return out


def _difference(field: Tensor, axis: int) -> Tensor:
    """next − here."""
    out = torch.empty_like(field)
    n = field.shape[axis]
    (here, following), (last, first) = _pairs(field, axis)
    torch.sub(following, here, out=out.narrow(axis, 0, n - 1))
    torch.sub(first, last, out=out.narrow(axis, n - 1, 1))
    return out


def _interpolate_adjoint(field: Tensor, axis: int, place: float) -> Tensor:
    """(1 − place) · here + place · previous."""
    out = torch.empty_like(field)
    n = field.shape[axis]
    (here, following), (last, first) = _pairs(field, axis)
    torch.lerp(following, here, place, out=out.narrow(axis, 1, n - 1))
    torch.lerp(first, last, place, out=out.narrow(axis, 0, 1))
    return out


def _difference_adjoint(field: Tensor, axis: int) -> Tensor:
    """previous − here."""
    out = torch.empty_like(field)
    n = field.shape[axis]
    (here, following), (last, first) = _pairs(field, axis)
    torch.sub(here, following, out=out.narrow(axis, 1, n - 1))
    torch.sub(last, first, out=out.narrow(axis, 0, 1))
    return out


def device_of(name: str) -> torch.device:
    """The device of a name such as 'cpu' or 'cuda:0'.

    Raises
    ------
    ValueError
        Where this machine, or this torch, has none.
    """
    try:
        place = torch.device(name)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"device: expected a device that is there, got {name!r}: {reason}. Use device='cpu'."
        ) from error
    return place


class VoxelGrid:
    """Elements of a periodic grid.

    Parameters
    ----------
    shape : (3,) int
        Voxels along x, y, z.
    spacing : (3,)
        Edges of a voxel; scaled so that their geometric mean is 1.
    scheme : str
        'rotated' or 'hexahedra'.
    device : torch.device
    """

    def __init__(self, shape: tuple[int, int, int], spacing: np.ndarray, scheme: str, device: torch.device) -> None:
        if scheme not in SCHEMES:
            raise ValueError(f"homogenize: expected a scheme among {', '.join(SCHEMES)}, got {scheme!r}.")
        self.shape = shape
        self.spacing = np.asarray(spacing, dtype=float) / np.prod(spacing) ** (1.0 / 3.0)
        self.scheme = scheme
        self.device = device
        gauss = 0.5 / np.sqrt(3.0)
        places = (0.5,) if scheme == "rotated" else (0.5 - gauss, 0.5 + gauss)
        #: Integration points (fractions of the voxel), of equal weight.
        self.points = [(x, y, z) for x in places for y in places for z in places]
        self.weight = 1.0 / len(self.points)
        #: The element by its modes of strain, where it has more than one point.
        self.element = Hexahedron(self.spacing, device) if scheme == "hexahedra" else None

    @property
    def voxels(self) -> int:
        return int(np.prod(self.shape))

    def strain(self, displacement: Tensor, point: tuple[float, float, float]) -> Tensor:
        """Strain (…, 6, nx, ny, nz) at one integration point of displacements (…, 3, nx, ny, nz)."""
        x, y, z = point
        hx, hy, hz = self.spacing
        low = _interpolate(displacement, -1, z)
        mean = _interpolate(low, -2, y)
        gradient = [_difference(mean, -3).div_(hx)]
        gradient.append(_interpolate(_difference(low, -2), -3, x).div_(hy))
        del low, mean
        gradient.append(_interpolate(_interpolate(_difference(displacement, -1), -2, y), -3, x).div_(hz))
        out = displacement.new_empty(*displacement.shape[:-4], 6, *self.shape)
        for i in range(3):
            out[..., i, :, :, :] = gradient[i][..., i, :, :, :]
        for place, i, j in _SHEARS:
            shear = out[..., place, :, :, :]
            torch.add(gradient[j][..., i, :, :, :], gradient[i][..., j, :, :, :], out=shear).mul_(0.5**0.5)
        return out

    def force(self, stress: Tensor, point: tuple[float, float, float]) -> Tensor:
        """Adjoint of `strain`: nodal forces (…, 3, nx, ny, nz) of stresses (…, 6, nx, ny, nz) at one point."""
        x, y, z = point
        hx, hy, hz = self.spacing
        root = 0.5**0.5

        def columns(places: tuple[int, int, int], scale: float) -> Tensor:
            factors = stress.new_tensor([scale * (1.0 if p < 3 else root) for p in places]).reshape(3, 1, 1, 1)
            return torch.stack([stress[..., p, :, :, :] for p in places], dim=-4).mul_(factors)

        first = _difference_adjoint(columns((0, 5, 4), 1.0 / hx), -3)
        second = _interpolate_adjoint(columns((5, 1, 3), 1.0 / hy), -3, x)
        first = _interpolate_adjoint(first, -2, y).add_(_difference_adjoint(second, -2))
        out = _interpolate_adjoint(first, -1, z)
        del first, second
        third = _interpolate_adjoint(columns((4, 3, 2), 1.0 / hz), -3, x)
        return out.add_(_difference_adjoint(_interpolate_adjoint(third, -2, y), -1))

    def _symbols(self) -> tuple[list[Tensor], Tensor]:
        """Σ_q w conj(D_i) D_j as six real arrays (11 22 33 23 13 12), and their trace, at every wave vector."""
        axes = []
        for axis, n in enumerate(self.shape):
            number = np.fft.rfftfreq(n) if axis == 2 else np.fft.fftfreq(n)
            half = np.pi * number
            cosine = np.where(np.abs(number) == 0.5, 0.0, np.cos(half))
            view = [1, 1, 1]
            view[axis] = -1
            axes.append(
                (torch.tensor(cosine, device=self.device).reshape(view), torch.tensor(np.sin(half), device=self.device).reshape(view))
            )  # fmt: skip
        matrix: list[Tensor] = []
        for point in self.points:
            # interpolation and difference, but for the common phase e^{iξ/2}
            mean = [torch.complex(c, (2.0 * t - 1.0) * s) for (c, s), t in zip(axes, point, strict=True)]
            slope = [2.0 * s / h for (_, s), h in zip(axes, self.spacing, strict=True)]
            d = [slope[0] * mean[1] * mean[2], mean[0] * slope[1] * mean[2], mean[0] * mean[1] * slope[2]]
            for place, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
                # imaginary parts cancel over the Gauss points
                term = (d[i].conj() * d[j]).real * self.weight
                if len(matrix) == place:
                    matrix.append(term)
                else:
                    matrix[place] = matrix[place] + term
        return matrix, matrix[0] + matrix[1] + matrix[2]

    def gradient(self, displacement: Tensor, point: tuple[float, float, float]) -> Tensor:
        """Gradient ∂u_i/∂X_J (…, i, J, nx, ny, nz) at one integration point of displacements (…, 3, nx, ny, nz)."""
        x, y, z = point
        hx, hy, hz = self.spacing
        low = _interpolate(displacement, -1, z)
        parts = [
            _difference(_interpolate(low, -2, y), -3).div_(hx),
            _interpolate(_difference(low, -2), -3, x).div_(hy),
            _interpolate(_interpolate(_difference(displacement, -1), -2, y), -3, x).div_(hz),
        ]
        return torch.stack(parts, dim=-4)

    def gradient_force(self, stress: Tensor, point: tuple[float, float, float]) -> Tensor:
        """Adjoint of `gradient`: nodal forces (…, 3, nx, ny, nz) of stresses P_iJ (…, 3, 3, nx, ny, nz)."""
        x, y, z = point
        first, second, third = (stress[..., j, :, :, :] / h for j, h in enumerate(self.spacing))
        low = _interpolate_adjoint(_difference_adjoint(first, -3), -2, y)
        low += _difference_adjoint(_interpolate_adjoint(second, -3, x), -2)
        high = _interpolate_adjoint(_interpolate_adjoint(third, -3, x), -2, y)
        return _interpolate_adjoint(low, -1, z).add_(_difference_adjoint(high, -1))

    def wave_vectors(self) -> list[np.ndarray]:
        """Wave vector (3,) of the rotated scheme's gradient, real but for the common phase, on the half spectrum."""
        half = [np.pi * (np.fft.rfftfreq(n) if axis == 2 else np.fft.fftfreq(n)) for axis, n in enumerate(self.shape)]
        views = [[-1 if axis == other else 1 for other in range(3)] for axis in range(3)]
        sine = [np.sin(h).reshape(v) for h, v in zip(half, views, strict=True)]
        cosine = [
            np.where(np.abs(h) == 0.5 * np.pi, 0.0, np.cos(h)).reshape(v) for h, v in zip(half, views, strict=True)
        ]
        hx, hy, hz = self.spacing
        return [
            2.0 / hx * sine[0] * cosine[1] * cosine[2],
            2.0 / hy * cosine[0] * sine[1] * cosine[2],
            2.0 / hz * cosine[0] * cosine[1] * sine[2],
        ]

    def green(self, lame: Tensor, shear: Tensor) -> Tensor:
        """Inverse (images, 6, …) of the reference stiffness at every wave vector, entries 11 22 33 23 13 12.

        Parameters
        ----------
        lame, shear : (images,)
            Lamé constants of the isotropic reference of each image.
        """
        matrix, trace = self._symbols()
        empty = trace <= 1e-20 * trace.max()
        out = torch.empty(len(lame), 6, *trace.shape, dtype=torch.float64, device=self.device)
        for image in range(len(lame)):
            a, b, c, d, e, f = ((lame[image] + shear[image]) * m for m in matrix)
            diagonal = shear[image] * trace
            a, b, c = a + diagonal, b + diagonal, c + diagonal
            cofactors = (b * c - d * d, a * c - e * e, a * b - f * f, e * f - a * d, d * f - b * e, d * e - c * f)
            determinant = a * cofactors[0] + f * cofactors[5] + e * cofactors[4]
            determinant[empty] = 1.0
            for place, cofactor in enumerate(cofactors):
                torch.div(cofactor, determinant, out=out[image, place])
                out[image, place][empty] = 0.0
        return out

    def apply_green(self, green: Tensor, force: Tensor) -> Tensor:
        """Displacements (images, loads, 3, nx, ny, nz) of the reference under nodal forces of the same shape."""
        spectrum = transform(force)
        x, y, z = (spectrum[:, :, i] for i in range(3))
        a, b, c, d, e, f = (green[:, None, i] for i in range(6))
        out = torch.empty_like(spectrum)
        for place, (p, q, r) in enumerate(((a, f, e), (f, b, d), (e, d, c))):
            torch.mul(x, p, out=out[:, :, place]).addcmul_(y, q).addcmul_(z, r)
        del spectrum
        return inverse_transform(out, self.shape)
