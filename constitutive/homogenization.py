"""Periodic homogenisation of voxel images: the full effective stiffness, between rigorous bounds.

    cell = homogenize(labels, stiffness)      # labels (nx, ny, nz); stiffness of each label (m, 6, 6), Mandel
    cell.lower ≤ true stiffness of the voxel model ≤ cell.upper

Six unit strains are imposed on the periodic cell and equilibrium is solved by conjugate gradients, preconditioned with
the elements of a homogeneous isotropic reference in Fourier space (Moulinec and Suquet 1998,
doi:10.1016/S0045-7825(97)00218-1; Zeman, Vondřejc, Novák and Marek 2010, doi:10.1016/j.jcp.2010.07.010; in displacements
Leuschner and Fritzen 2018, doi:10.1007/s00466-017-1501-5).

Bounds, in the sense that differences are positive semi-definite matrices, on the stiffness of the discrete problem, for
whatever displacements u_i stand when the iteration stops, with strains ε_i = E_i + ∇u_i:

- upper: <ε_i · C ε_j> (minimum potential energy);
- lower: with σ_i = C ε_i minus the stress of the reference that balances its nodal forces, M_ij = <σ_j>_i and
  D_ij = <σ_i · C⁻¹ σ_j>, the bound is M D⁻¹ Mᵀ (minimum complementary energy).

Both are off by the square of the error of the strains. Where a phase has no stiffness the lower one does not exist; it is
replaced by upper − G/θ, with G_ij the residuals' product in the reference and θ the smallest Ritz value that the conjugate
gradients have seen, and called estimated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystals.mandel import IDENTITY

from .voxel_grid import VoxelGrid

#: Voxel strains (voxels × loads × images) advanced at once: small images share the overhead, large ones the cache.
_CHUNK = 2**18
#: Voxels above which the lower bound keeps no stresses of all six loads.
_LARGE = 2**21


@dataclass(frozen=True, eq=False)
class Cell:
    """What homogenisation found for one image.

    Attributes
    ----------
    stiffness : (6, 6)
        Effective stiffness, Mandel, in the unit of the phases: the energy of the last iterate, hence `upper`.
    lower, upper : (6, 6)
        Bounds on the stiffness of the discrete problem (differences are positive semi-definite).
    certified : bool
        Whether `lower` is a bound; False with pores, where it is an estimate.
    iterations : int
        Conjugate-gradient steps of the slowest load case.
    residual : float
        Largest residual of the six load cases, relative to the first, in the norm of the reference.
    strain, stress : (6, 6, nx, ny, nz) or None
        Fields of the six unit strains (load, component, voxel), averaged over each voxel's points, where asked for.
    """

    stiffness: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    certified: bool
    iterations: int
    residual: float
    strain: np.ndarray | None = None
    stress: np.ndarray | None = None

    @property
    def width(self) -> float:
        """‖upper − lower‖ / ‖upper‖, Frobenius: no stiffness between the bounds is further from either."""
        return relative_width(self.lower, self.upper)


def relative_width(lower: np.ndarray, upper: np.ndarray) -> float:
    """Frobenius norm of the gap between two bounds, relative to the upper one."""
    return float(np.linalg.norm(upper - lower) / np.linalg.norm(upper))


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
            self.lame = _gather(lame, labels)[:, None]
            self.twice_shear = _gather(2.0 * shear, labels)[:, None, None]
        else:
            self.entries = [
                (i, j, _gather(table[:, :, i, j], labels)[:, None])
                for i in range(6)
                for j in range(i, 6)
                if bool((table[:, :, i, j] != 0).any())
            ]

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


def _gather(table: Tensor, labels: Tensor) -> Tensor:
    """Values (images, nx, ny, nz) of a table (images, m) at labels."""
    images = torch.arange(len(labels), device=labels.device).reshape(-1, 1, 1, 1)
    return table[images, labels.long()]


def _mean(field: Tensor) -> Tensor:
    return field.mean(dim=(-3, -2, -1))


class Solve:
    """Conjugate gradients on a batch of images of one shape, six unit strains each, to be stopped and taken up again.

    Parameters
    ----------
    grid : VoxelGrid
    labels : (images, nx, ny, nz) int
    table : (images, m, 6, 6)
        Stiffness of each label, symmetric, positive semi-definite.
    boundary : str
        'periodic'; 'strain': displacements of the faces of the cell are those of the unit strain; 'stress': unit
        stresses act on the voxels of some stiffness, as tractions on their surface.
    """

    def __init__(self, grid: VoxelGrid, labels: Tensor, table: Tensor, boundary: str = "periodic") -> None:
        self.grid = grid
        self.boundary = boundary
        self.images = len(labels)
        self.labels, self.table = labels, table
        self.field = PhaseField(labels, table)
        counts = torch.stack([torch.bincount(image.reshape(-1).long(), minlength=table.shape[1]) for image in labels])
        mean = torch.einsum("bm,bmij->bij", counts.to(table) / grid.voxels, table)
        one = torch.tensor(IDENTITY, device=table.device)
        bulk = torch.einsum("i,bij,j->b", one, mean, one) / 9.0
        self.shear0 = (torch.einsum("bii->b", mean) - 3.0 * bulk) / 10.0
        self.lame0 = bulk - 2.0 * self.shear0 / 3.0
        self.green = grid.green(self.lame0, self.shear0)
        present = torch.where(counts > 0, torch.linalg.eigvalsh(table)[..., 0], torch.inf)
        stiffest = torch.linalg.eigvalsh(table)[..., -1].amax(dim=1)
        #: Images in which every phase has a positive definite stiffness.
        self.positive = present.amin(dim=1) > 1e-12 * stiffest
        shape = (self.images, 6, 3, *grid.shape)
        self.displacement = torch.zeros(shape, dtype=torch.float64, device=grid.device)
        self.residual = torch.zeros_like(self.displacement)
        self.direction = torch.zeros_like(self.displacement)
        self.product = torch.zeros(self.images, 6, dtype=torch.float64, device=grid.device)
        self.first = torch.zeros_like(self.product)
        self.iterations = torch.zeros(self.images, 6, dtype=torch.int64, device=grid.device)
        self.steps: list[list[list[tuple[float, float]]]] = [[[] for _ in range(6)] for _ in range(self.images)]
        self._started = False
        #: Voigt average, on whose scale a residual counts as zero.
        self.voigt = mean

    def _pieces(self) -> list[tuple[slice, slice]]:
        """Parts of (images, loads) small enough to advance together."""
        together = max(1, _CHUNK // self.grid.voxels)
        if together >= 6:
            step = together // 6
            return [(slice(i, min(i + step, self.images)), slice(0, 6)) for i in range(0, self.images, step)]
        return [
            (slice(i, i + 1), slice(l, min(l + together, 6))) for i in range(self.images) for l in range(0, 6, together)
        ]

    def _part(self, images: Any) -> PhaseField:
        if self.images == 1:
            return self.field
        part = PhaseField.__new__(PhaseField)
        part.lame = None if self.field.lame is None else self.field.lame[images]
        if part.lame is not None:
            part.twice_shear = self.field.twice_shear[images]
        else:
            part.entries = [(i, j, value[images]) for i, j, value in self.field.entries]
        return part

    def _forces(self, field: PhaseField, displacement: Tensor, loads: slice | None) -> Tensor:
        """Nodal forces of the stress of displacements, or, with loads, of displacements plus their unit strains."""
        out = None
        for point in self.grid.points:
            strain = self.grid.strain(displacement, point)
            if loads is not None:
                _add_unit(strain, loads)
            force = self.grid.force(field.stress(strain), point)
            out = force if out is None else out.add_(force)
        assert out is not None
        return out.mul_(self.grid.weight)

    def _load(self, images: slice, field: PhaseField, displacement: Tensor, loads: slice) -> Tensor:
        """Nodal forces out of balance before the first step."""
        if self.boundary != "stress":
            return self._clamp(self._forces(field, displacement, loads).neg_())
        solid = (self.table[images].abs().amax(dim=(2, 3)) > 0).to(torch.float64)
        body = _gather(solid, self.labels[images])[:, None, None]
        stress = _add_unit(displacement.new_zeros(*displacement.shape[:2], 6, *self.grid.shape), loads) * body
        forces = (self.grid.force(stress, point) for point in self.grid.points)
        return torch.stack([force * self.grid.weight for force in forces]).sum(dim=0)

    def _clamp(self, field: Tensor) -> Tensor:
        """Zero on the nodes of the faces, where their displacement is prescribed."""
        if self.boundary == "strain":
            for axis in (-3, -2, -1):
                field.select(axis, 0).zero_()
        return field

    def _precondition(self, green: Tensor, residual: Tensor) -> Tensor:
        return self._clamp(self.grid.apply_green(green, residual))

    def advance(self, done: Callable[[Tensor, Any, slice], Tensor], maximum: int) -> None:
        """Iterate every load case until `done` or for `maximum` more steps.

        Parameters
        ----------
        done : callable
            Of the products r·K₀⁻¹r (images, loads) of a piece, its images (slice or index) and loads → bool.
        maximum : int
        """
        queue: list[tuple[Any, slice, int]] = [(*piece, maximum) for piece in self._pieces()]
        while queue:
            images, loads, left = queue.pop()
            field, green = self._part(images), self.green[images]
            state = (self.displacement, self.residual, self.direction, self.product)
            u, r, p, product = (array[images, loads] for array in state)
            if not self._started:
                r.copy_(self._load(images, field, u, loads))
                p.copy_(self._precondition(green, r))
                product.copy_(_dot(r, p))
                # what rounding leaves of a vanishing load, as in a homogeneous image, counts as zero
                scale = torch.diagonal(self.voigt[images], dim1=1, dim2=2)[:, loads]
                product[product <= 1e-28 * scale] = 0.0
                self.first[images, loads] = product
            for step in range(left):
                active = ~done(product, images, loads) & (product > 0)
                busy = active.any(dim=1)
                if 2 * int(busy.sum()) <= len(busy):
                    # most images of the piece are done: go on with the others alone
                    if bool(busy.any()):
                        rest = torch.arange(self.images, device=busy.device)[images][busy]
                        queue.append((rest, loads, left - step))
                    break
                force = self._clamp(self._forces(field, p, None))
                curvature = _dot(p, force)
                active &= curvature > 0
                alpha = torch.where(active, product / torch.where(active, curvature, 1.0), 0.0)
                u.addcmul_(alpha[..., None, None, None, None], p)
                r.addcmul_(-alpha[..., None, None, None, None], force)
                del force
                z = self._precondition(green, r)
                new = _dot(r, z)
                beta = torch.where(active, new / torch.where(active, product, 1.0), 0.0)
                # a load case that is done keeps its direction, to be taken up again
                keep = torch.where(active, beta, 1.0)[..., None, None, None, None]
                p.mul_(keep).addcmul_(active.to(z)[..., None, None, None, None], z)
                product.copy_(torch.where(active, new, product))
                self.iterations[images, loads] += active
                self._record(images, loads, alpha, beta, active)
            if not isinstance(images, slice):
                for array, local in zip(state, (u, r, p, product), strict=True):
                    array[images, loads] = local
        self._started = True

    def _record(self, images: Any, loads: slice, alpha: Tensor, beta: Tensor, active: Tensor) -> None:
        alphas, betas, flags = alpha.tolist(), beta.tolist(), active.tolist()
        for i, image in enumerate(torch.arange(self.images)[images].tolist()):
            for l, load in enumerate(range(6)[loads]):
                if flags[i][l]:
                    self.steps[image][load].append((alphas[i][l], betas[i][l]))

    def smallest_ritz_value(self, image: int) -> float:
        """Smallest Ritz value of the preconditioned stiffness over the load cases (Lanczos, from the steps)."""
        smallest = 1.0
        for steps in self.steps[image]:
            if not steps:
                continue
            alpha, beta = np.array(steps).T
            diagonal = 1.0 / alpha
            diagonal[1:] += beta[:-1] / alpha[:-1]
            matrix = np.diag(diagonal) + np.diag(np.sqrt(beta[:-1]) / alpha[:-1], 1)
            smallest = min(smallest, float(np.linalg.eigvalsh(matrix, UPLO="U")[0]))
        return smallest

    def bounds(self, image: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """Lower and upper bound (6, 6) of one image now, and whether the lower one is certified."""
        grid, field = self.grid, self._part(slice(image, image + 1))
        green = self.green[image : image + 1]
        u = self.displacement[image : image + 1]
        positive = bool(self.positive[image])
        inverse = None
        if positive:
            inverse = PhaseField(self.labels[image : image + 1], torch.linalg.inv(self._regular(image))[None])
        stored = positive and grid.voxels <= _LARGE
        mean = torch.zeros(6, 6, dtype=torch.float64, device=grid.device)
        work, dual, gap = torch.zeros_like(mean), torch.zeros_like(mean), torch.zeros_like(mean)
        correction = torch.empty_like(u)
        step = max(1, min(6, _CHUNK // grid.voxels))
        for loads in (slice(l, min(l + step, 6)) for l in range(0, 6, step)):
            force = torch.zeros_like(u[:, loads])
            for point in grid.points:
                stress = field.stress(_add_unit(grid.strain(u[:, loads], point), loads))
                mean[:, loads] += _mean(stress)[0].T * grid.weight
                force += grid.force(stress, point) * grid.weight
            correction[:, loads] = grid.apply_green(green, force)
            work[:, loads] = _products(u, force)
            # symmetric in the end; corrections of later loads are not there yet
            ready = slice(0, loads.stop)
            gap[ready, loads] = _products(correction[:, ready], force)
            gap[loads, ready] = gap[ready, loads].T.clone()
        energy = mean + work
        upper = _symmetric(energy)
        if inverse is not None and stored:
            for point in grid.points:
                tau = self._reference_stress(image, grid.strain(correction, point))
                dual += _products(tau, inverse.stress(tau)) * grid.weight
            dual = _symmetric(dual)
        upper_n, gap_n = upper.cpu().numpy(), gap.cpu().numpy()
        if not positive:
            theta = 0.5 * self.smallest_ritz_value(image)
            return _floor(upper_n - gap_n / theta), upper_n, False
        if not stored:
            # C⁻¹ ≤ C₀⁻¹ / λ, the smallest eigenvalue λ over all phases
            dual = gap / self._smallest_ratio(image)
        flow = work.cpu().numpy()
        complementary = upper_n - flow - flow.T + dual.cpu().numpy()
        mean_n = mean.cpu().numpy()
        lower = mean_n @ np.linalg.solve(complementary, mean_n.T)
        return 0.5 * (lower + lower.T), upper_n, True

    def trace(self, image: int, lower: bool = False) -> dict[str, np.ndarray]:
        """What a learned guess reads off one image now, each (6, 6) and turning with the image.

        'upper' bound; 'gram', the product of the residuals in the reference; 'squares' <ε_i·ε_j> and 'forces'
        <Cε_i·Cε_j>/c², c being the largest eigenvalue of the Voigt average; and, where asked for, 'lower', zero with pores.
        The residuals are those that the iteration carries along.
        """
        grid, field = self.grid, self._part(slice(image, image + 1))
        u, r = self.displacement[image : image + 1], self.residual[image : image + 1]
        upper, squares, forces, mean, dual = (
            torch.zeros(6, 6, dtype=torch.float64, device=grid.device) for _ in range(5)
        )
        for point in grid.points:
            strain = _add_unit(grid.strain(u, point), slice(0, 6))
            stress = field.stress(strain)
            upper += _products(strain, stress) * grid.weight
            squares += _products(strain, strain) * grid.weight
            forces += _products(stress, stress) * grid.weight
            mean += _mean(stress)[0].T * grid.weight
        scale = float(torch.linalg.eigvalsh(self.voigt[image])[-1])
        z = grid.apply_green(self.green[image : image + 1], r)
        found = {"upper": upper, "gram": _products(r, z), "squares": squares, "forces": forces / scale**2}
        found = {name: _symmetric(matrix).cpu().numpy() for name, matrix in found.items()}
        if lower:
            found["lower"] = np.zeros((6, 6))
        if lower and bool(self.positive[image]):
            inverse = PhaseField(self.labels[image : image + 1], torch.linalg.inv(self._regular(image))[None])
            for point in grid.points:
                tau = self._reference_stress(image, grid.strain(z, point))
                dual += _products(tau, inverse.stress(tau)) * grid.weight
            work = -_products(u, r)
            complementary = upper - work - work.T + dual
            found["lower"] = _symmetric(mean @ torch.linalg.solve(complementary, mean.T)).cpu().numpy()
        return found

    def upper_bound(self, start: Tensor) -> np.ndarray:
        """Upper bounds (images, 6, 6) now, from the residuals at the start: V − u_l·r⁰_k − u_k·r_l, no fields made."""
        u = self.displacement.flatten(2)
        first, now = start.flatten(2), self.residual.flatten(2)
        change = (first @ u.transpose(1, 2) + u @ now.transpose(1, 2)) / self.grid.voxels
        answer = self.voigt - change
        return (0.5 * (answer + answer.transpose(1, 2))).cpu().numpy()

    def _regular(self, image: int) -> Tensor:
        """The table of one image, labels that do not occur set to the identity."""
        table = self.table[image].clone()
        seen = torch.bincount(self.labels[image].reshape(-1).long(), minlength=len(table)) > 0
        table[~seen] = torch.eye(6).to(table)
        return table

    def _reference_stress(self, image: int, strain: Tensor) -> Tensor:
        out = strain * (2.0 * self.shear0[image])
        out[:, :, :3] += self.lame0[image] * strain[:, :, :3].sum(dim=2, keepdim=True)
        return out

    def _smallest_ratio(self, image: int) -> float:
        one = torch.tensor(IDENTITY, device=self.table.device)
        reference = self.lame0[image] * torch.outer(one, one) + 2.0 * self.shear0[image] * torch.eye(6).to(self.table)
        root = torch.linalg.inv(torch.linalg.cholesky(reference))
        ratios = torch.linalg.eigvalsh(root @ self._regular(image) @ root.T)[:, 0]
        seen = torch.bincount(self.labels[image].reshape(-1).long(), minlength=len(ratios)) > 0
        return float(ratios[seen].min())

    def local_fields(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """Strain and stress (6, 6, nx, ny, nz) of each load, averaged over the points of a voxel."""
        field = self._part(slice(image, image + 1))
        strains, stresses = [], []
        for l in range(6):
            total: Any = 0.0
            for point in self.grid.points:
                strain = self.grid.strain(self.displacement[image : image + 1, l : l + 1], point)
                total = total + _add_unit(strain, slice(l, l + 1)) * self.grid.weight
            strains.append(total[0, 0].cpu().numpy())
            stresses.append(field.stress(total)[0, 0].cpu().numpy())
        return np.stack(strains), np.stack(stresses)


def _add_unit(strain: Tensor, loads: slice) -> Tensor:
    """Add the unit strain of each load case in place."""
    for place, load in enumerate(range(6)[loads]):
        strain[:, place, load] += 1.0
    return strain


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Mean over voxels of the product of two displacement-like fields, (images, loads)."""
    images, loads = a.shape[:2]
    flat_a, flat_b = a.reshape(images * loads, 1, -1), b.reshape(images * loads, -1, 1)
    return (flat_a @ flat_b).reshape(images, loads) / (a[0, 0, 0].numel())


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Mean over voxels of the products of the fields (1, loads, …) of two sets of loads (k, l)."""
    voxels = a[0, 0, 0].numel()
    return a.reshape(a.shape[1], -1) @ b.reshape(b.shape[1], -1).T / voxels


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.T)


def _floor(matrix: np.ndarray) -> np.ndarray:
    """The matrix with negative eigenvalues set to zero: no stiffness is below that."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


def check_phases(where: str, labels: np.ndarray, stiffness: np.ndarray) -> np.ndarray:
    """Stiffness table (..., m, 6, 6), symmetrised, or ValueError: every label needs a symmetric, non-negative one."""
    table = np.asarray(stiffness, dtype=float)
    if table.ndim < 3 or table.shape[-2:] != (6, 6) or not np.all(np.isfinite(table)):
        raise ValueError(f"{where}: expected a finite Mandel stiffness for each label, (m, 6, 6), got {table.shape}.")
    if labels.min() < 0 or labels.max() >= table.shape[-3]:
        raise ValueError(
            f"{where}: expected labels from 0 to {table.shape[-3] - 1}, one stiffness each, got {labels.min()} to {labels.max()}."
        )
    largest = np.max(np.abs(table), axis=(-1, -2), keepdims=True)
    if np.any(np.abs(table - np.swapaxes(table, -1, -2)) > 1e-9 * largest):
        raise ValueError(f"{where}: expected symmetric stiffness matrices, got one that is not. Check its components.")
    table = 0.5 * (table + np.swapaxes(table, -1, -2))
    lowest = np.linalg.eigvalsh(table)[..., 0]
    if np.any(lowest < -1e-12 * largest[..., 0, 0]):
        raise ValueError(
            f"{where}: expected stiffness without negative eigenvalues, got {lowest.min():.3g}. Such a phase is unstable."
        )
    return table


def homogenize(
    labels: np.ndarray,
    stiffness: np.ndarray,
    *,
    spacing: Any = (1.0, 1.0, 1.0),
    scheme: str = "rotated",
    tolerance: float = 1e-5,
    error: float | None = None,
    maximum: int = 2000,
    steps: int | None = None,
    fields: bool = False,
    device: str = "cpu",
) -> Any:
    """Effective stiffness of one periodic voxel image, or of many of one shape.

    Parameters
    ----------
    labels : (nx, ny, nz) or (images, nx, ny, nz) int
        Which stiffness each voxel has. Axis 0 is x.
    stiffness : (m, 6, 6) or (images, m, 6, 6)
        Of each label, Mandel, any unit; zero for a pore. Contrasts to 10⁴ either way have been tried.
    spacing : (3,)
        Edges of a voxel.
    scheme : str
        'rotated' (one point a voxel) or 'hexahedra' (eight; costs four times as much, for a cross-check).
    tolerance : float
        Stop where the residual of every load case, in the energy norm of the reference, has fallen by this factor. The
        stiffness is then off by about its square.
    error : float, optional
        Stop instead as soon as ‖upper − lower‖ ≤ error · ‖upper‖.
    maximum : int
        Iterations allowed.
    steps : int, optional
        Stop instead after that many steps, converged or not. The bounds hold all the same.
    fields : bool
        Whether to return local strain and stress: 72 numbers a voxel.
    device : str
        Where torch computes: 'cpu', 'cuda'.

    Returns
    -------
    Cell, or list of Cell for many images

    Raises
    ------
    ValueError
        For labels without a stiffness, stiffness that is not symmetric and non-negative, and images without any.
    RuntimeError
        Where the iteration does not converge.
    """
    where = "homogenize"
    labels = np.asarray(labels)
    if labels.ndim not in (3, 4) or labels.dtype.kind not in "iub":
        raise ValueError(f"{where}: expected whole-number labels (nx, ny, nz), got {labels.shape} {labels.dtype}.")
    table = check_phases(where, labels, stiffness)
    many = labels.ndim == 4
    batch = labels if many else labels[None]
    tables = np.broadcast_to(table if table.ndim == 4 else table[None], (len(batch), *table.shape[-3:]))
    if not tolerance > 0 or (error is not None and not error > 0):
        raise ValueError(f"{where}: expected tolerance > 0 and error > 0, got {tolerance} and {error}.")
    for image, one in zip(batch, tables, strict=True):
        if not np.any(one[np.unique(image)]):
            raise ValueError(f"{where}: expected an image with some stiffness, got pores alone. Check the phases.")
    grid = VoxelGrid(
        (batch.shape[1], batch.shape[2], batch.shape[3]),
        np.broadcast_to(np.asarray(spacing, float), (3,)),
        scheme,
        torch.device(device),
    )
    # images are solved in groups so that memory does not grow with their number
    group = max(1, _CHUNK * 8 // (6 * grid.voxels))
    cells: list[Cell] = []
    with torch.no_grad():
        for start in range(0, len(batch), group):
            part = slice(start, start + group)
            solve = Solve(
                grid,
                torch.tensor(batch[part].astype(np.int32), device=grid.device),
                torch.tensor(np.array(tables[part]), dtype=torch.float64, device=grid.device),
            )
            cells += _cells(solve, tolerance, error, maximum, steps, fields)
    return cells if many else cells[0]


def uniform_bounds(
    labels: np.ndarray,
    stiffness: np.ndarray,
    *,
    spacing: Any = (1.0, 1.0, 1.0),
    scheme: str = "rotated",
    tolerance: float = 1e-6,
    maximum: int = 4000,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray, int]:
    """Stiffness of an image that does not repeat, under uniform stress and under uniform strain on its faces.

    Every boundary condition of Hill's kind, the periodic one among them, gives a stiffness between the two (Huet 1990,
    doi:10.1016/0022-5096(90)90041-2; Hazanov and Huet 1994, doi:10.1016/0022-5096(94)90022-1). Uniform strain keeps the
    nodes of the faces; uniform stress puts a layer of pores around the image.

    Parameters
    ----------
    labels : (nx, ny, nz) int
    stiffness : (m, 6, 6)
    spacing, scheme, tolerance, maximum, device
        As in `homogenize`.

    Returns
    -------
    static, kinematic : (6, 6)
        The softer is zero where there are pores, on whose faces no traction can act.
    iterations : int

    Raises
    ------
    ValueError, RuntimeError
        As `homogenize`.
    """
    labels = np.asarray(labels)
    table = check_phases("uniform_bounds", labels, stiffness)
    edges = np.broadcast_to(np.asarray(spacing, float), (3,))

    def solved(image: np.ndarray, phases: np.ndarray, boundary: str) -> Solve:
        grid = VoxelGrid((image.shape[0], image.shape[1], image.shape[2]), edges, scheme, torch.device(device))
        solve = Solve(
            grid, torch.tensor(image[None].astype(np.int32)).to(grid.device),
            torch.tensor(phases[None], dtype=torch.float64).to(grid.device), boundary,
        )  # fmt: skip
        solve.advance(lambda product, *part: product <= tolerance**2 * solve.first[part], maximum)
        _check_converged(solve, tolerance, maximum)
        return solve

    with torch.no_grad():
        clamped = solved(labels, table, "strain")
        kinematic = clamped.trace(0)["upper"]
        steps = int(clamped.iterations.max())
        if not bool(clamped.positive[0]):
            return np.zeros((6, 6)), kinematic, steps
        # one layer along each axis parts the opposite faces
        padded = np.pad(labels, ((0, 1),) * 3, constant_values=len(table))
        free = solved(padded, np.concatenate([table, np.zeros((1, 6, 6))]), "stress")
        load = torch.cat(
            [
                free._load(slice(0, 1), free.field, free.displacement[:, l : l + 1] * 0.0, slice(l, l + 1))
                for l in range(6)
            ],
            1,
        )
        compliance = _symmetric(_products(free.displacement, load)).cpu().numpy() * padded.size / labels.size
    return np.linalg.inv(compliance), kinematic, max(steps, int(free.iterations.max()))


def _cells(
    solve: Solve, tolerance: float, error: float | None, maximum: int, steps: int | None, fields: bool
) -> list[Cell]:
    found: dict[int, tuple[np.ndarray, np.ndarray, bool]] = {}
    if steps is not None:
        solve.advance(lambda product, *_: torch.zeros_like(product, dtype=torch.bool), steps)
    elif error is None:
        solve.advance(lambda product, *part: product <= tolerance**2 * solve.first[part], maximum)
        _check_converged(solve, tolerance, maximum)
    else:
        level = torch.full((solve.images,), float(error), dtype=torch.float64, device=solve.grid.device)
        scale = torch.diagonal(solve.voigt, dim1=1, dim2=2).mean(dim=1)
        open_images = list(range(solve.images))
        while open_images:
            solve.advance(lambda product, images, _: product <= (level * scale)[images, None], maximum)
            for image in open_images:
                found[image] = solve.bounds(image)
            open_images = [i for i in open_images if not _narrow(solve, i, *found[i][:2], error)]
            if not open_images:
                break
            level[[i for i in range(solve.images) if i not in open_images]] = float("inf")
            level[open_images] *= 0.2
            reached = solve.product / solve.first.clamp_min(1e-300)
            if int(solve.iterations.max()) >= maximum or float(reached[open_images].max()) < 1e-24:
                raise _not_converged(solve, f"a bracket of {error:g}", maximum)
    cells = []
    for image in range(solve.images):
        lower, upper, certified = found.get(image) or solve.bounds(image)
        first = solve.first[image].clamp_min(1e-300)
        residual = float(torch.sqrt(torch.where(solve.first[image] > 0, solve.product[image] / first, 0.0)).max())
        strain, stress = solve.local_fields(image) if fields else (None, None)
        cells.append(Cell(upper, lower, upper, certified, int(solve.iterations[image].max()), residual, strain, stress))
    return cells


def _narrow(solve: Solve, image: int, lower: np.ndarray, upper: np.ndarray, error: float) -> bool:
    """Whether a bracket is narrower than asked, or all of it next to nothing: a solid that does not connect."""
    voigt = float(torch.linalg.norm(solve.voigt[image]))
    return relative_width(lower, upper) <= error or float(np.linalg.norm(upper)) <= 1e-7 * voigt


def _check_converged(solve: Solve, tolerance: float, maximum: int) -> None:
    if bool((solve.product > tolerance**2 * solve.first).any()):
        raise _not_converged(solve, f"a residual of {tolerance:g}", maximum)


def _not_converged(solve: Solve, goal: str, maximum: int) -> RuntimeError:
    reached = torch.sqrt(solve.product / solve.first.clamp_min(1e-300)).max()
    return RuntimeError(
        f"homogenize: expected {goal} within {maximum} iterations, got a residual of {float(reached):.2g} after "
        f"{int(solve.iterations.max())}. Raise maximum, loosen the tolerance, or give pores stiffness zero rather than a "
        "tiny one (contrasts beyond 1e4 converge slowly)."
    )
