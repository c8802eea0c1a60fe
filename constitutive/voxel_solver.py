"""Conjugate gradients on voxel images, six unit strains each, and the bounds that stand wherever they stop.

Theory in `constitutive.homogenization`. Fields are (images, loads, components, nx, ny, nz), Mandel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystals.mandel import IDENTITY

from .phase_field import PhaseField, gather
from .voxel_grid import VoxelGrid

#: Voxel strains (voxels × loads × images) advanced at once: small images share the overhead, large ones the cache.
CHUNK = 2**18
#: Voxels above which the lower bound keeps no stresses of all six loads.
_LARGE = 2**21
#: Steps below which the falls of the upper bound are no guide to the next.
_FEWEST = 8


def _mean(field: Tensor) -> Tensor:
    return field.mean(dim=(-3, -2, -1))


def never(product: Tensor, *_: Any) -> Tensor:
    """A `done` for `Solve.advance` that takes a fixed number of steps."""
    return torch.zeros_like(product, dtype=torch.bool)


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
        #: Steps of all loads and upper bound, of each image, wherever `bounds` was asked for with pores.
        self._uppers: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(self.images)]
        #: Voigt average, on whose scale a residual counts as zero.
        self.voigt = mean

    def _pieces(self) -> list[tuple[slice, slice]]:
        """Parts of (images, loads) small enough to advance together."""
        together = max(1, CHUNK // self.grid.voxels)
        if together >= 6:
            step = together // 6
            return [(slice(i, min(i + step, self.images)), slice(0, 6)) for i in range(0, self.images, step)]
        return [
            (slice(i, i + 1), slice(l, min(l + together, 6))) for i in range(self.images) for l in range(0, 6, together)
        ]

    def _part(self, images: Any) -> PhaseField:
        return self.field if self.images == 1 else self.field.of_images(images)

    def _forces(self, field: PhaseField, displacement: Tensor, loads: slice | None) -> Tensor:
        """Nodal forces of the stress of displacements, or, with loads, of displacements plus their unit strains."""
        if self.grid.element is not None:
            return self.grid.element.forces(field, displacement, None if loads is None else range(6)[loads])[0]
        strain = self.grid.strain(displacement, self.grid.points[0])
        if loads is not None:
            add_unit(strain, loads)
        return self.grid.force(field.stress(strain), self.grid.points[0])

    def unbalanced(self, images: slice, field: PhaseField, displacement: Tensor, loads: slice) -> Tensor:
        """Nodal forces out of balance before the first step."""
        if self.boundary != "stress":
            return self._clamp(self._forces(field, displacement, loads).neg_())
        solid = (self.table[images].abs().amax(dim=(2, 3)) > 0).to(torch.float64)
        body = gather(solid, self.labels[images])[:, None, None]
        stress = add_unit(displacement.new_zeros(*displacement.shape[:2], 6, *self.grid.shape), loads) * body
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
                r.copy_(self.unbalanced(images, field, u, loads))
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
        step = max(1, min(6, CHUNK // grid.voxels))
        for loads in (slice(l, min(l + step, 6)) for l in range(0, 6, step)):
            if grid.element is not None:
                force, stress = grid.element.forces(field, u[:, loads], range(6)[loads])
                mean[:, loads] = stress[0].T
            else:
                stress = field.stress(add_unit(grid.strain(u[:, loads], grid.points[0]), loads))
                mean[:, loads] = _mean(stress)[0].T
                force = grid.force(stress, grid.points[0])
            correction[:, loads] = grid.apply_green(green, force)
            work[:, loads] = products(u, force)
            # symmetric in the end; corrections of later loads are not there yet
            ready = slice(0, loads.stop)
            gap[ready, loads] = products(correction[:, ready], force)
            gap[loads, ready] = gap[ready, loads].T.clone()
        energy = mean + work
        upper = symmetric(energy)
        if inverse is not None and stored:
            for point in grid.points:
                tau = self._reference_stress(image, grid.strain(correction, point))
                dual += products(tau, inverse.stress(tau)) * grid.weight
            dual = symmetric(dual)
        upper_n, gap_n = upper.cpu().numpy(), gap.cpu().numpy()
        if not positive:
            return _floor(upper_n - self._estimated_gap(image, upper_n, gap_n)), upper_n, False
        if not stored:
            # C⁻¹ ≤ C₀⁻¹ / λ, the smallest eigenvalue λ over all phases
            dual = gap / self._smallest_ratio(image)
        flow = work.cpu().numpy()
        complementary = upper_n - flow - flow.T + dual.cpu().numpy()
        mean_n = mean.cpu().numpy()
        lower = mean_n @ np.linalg.solve(complementary, mean_n.T)
        return 0.5 * (lower + lower.T), upper_n, True

    def _estimated_gap(self, image: int, upper: np.ndarray, gap: np.ndarray) -> np.ndarray:
        """What the upper bound of one image may still fall (6, 6): the smaller of two estimates.

        One takes the smallest eigenvalue for half the smallest Ritz value, which is far too careful where the solid hangs
        together by corners. The other is twice the fall over the second half of the steps. On 1,600 porous images the
        smaller of both held for 99 in a hundred (`tests/benchmarks/pore_bracket.py`).
        """
        taken = int(self.iterations[image].sum())
        known = self._uppers[image]
        halves = [past for steps, past in known if 2 * steps <= taken]
        known.append((taken, upper))
        ritz = gap / (0.5 * self.smallest_ritz_value(image))
        if not halves or taken < 6 * _FEWEST:
            return ritz
        fall = 2.0 * (halves[-1] - upper)
        return fall if np.linalg.norm(fall) < np.linalg.norm(ritz) else ritz

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
            strain = add_unit(grid.strain(u, point), slice(0, 6))
            stress = field.stress(strain)
            upper += products(strain, stress) * grid.weight
            squares += products(strain, strain) * grid.weight
            forces += products(stress, stress) * grid.weight
            mean += _mean(stress)[0].T * grid.weight
        scale = float(torch.linalg.eigvalsh(self.voigt[image])[-1])
        z = grid.apply_green(self.green[image : image + 1], r)
        found = {"upper": upper, "gram": products(r, z), "squares": squares, "forces": forces / scale**2}
        found = {name: symmetric(matrix).cpu().numpy() for name, matrix in found.items()}
        if lower:
            found["lower"] = np.zeros((6, 6))
        if lower and bool(self.positive[image]):
            inverse = PhaseField(self.labels[image : image + 1], torch.linalg.inv(self._regular(image))[None])
            for point in grid.points:
                tau = self._reference_stress(image, grid.strain(z, point))
                dual += products(tau, inverse.stress(tau)) * grid.weight
            work = -products(u, r)
            complementary = upper - work - work.T + dual
            found["lower"] = symmetric(mean @ torch.linalg.solve(complementary, mean.T)).cpu().numpy()
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
                total = total + add_unit(strain, slice(l, l + 1)) * self.grid.weight
            strains.append(total[0, 0].cpu().numpy())
            stresses.append(field.stress(total)[0, 0].cpu().numpy())
        return np.stack(strains), np.stack(stresses)


def add_unit(strain: Tensor, loads: slice) -> Tensor:
    """Add the unit strain of each load case in place."""
    for place, load in enumerate(range(6)[loads]):
        strain[:, place, load] += 1.0
    return strain


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Mean over voxels of the product of two displacement-like fields, (images, loads)."""
    images, loads = a.shape[:2]
    flat_a, flat_b = a.reshape(images * loads, 1, -1), b.reshape(images * loads, -1, 1)
    return (flat_a @ flat_b).reshape(images, loads) / (a[0, 0, 0].numel())


def products(a: Tensor, b: Tensor) -> Tensor:
    """Mean over voxels of the products of the fields (1, loads, …) of two sets of loads (k, l)."""
    voxels = a[0, 0, 0].numel()
    return a.reshape(a.shape[1], -1) @ b.reshape(b.shape[1], -1).T / voxels


def symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.T)


def _floor(matrix: np.ndarray) -> np.ndarray:
    """The matrix with negative eigenvalues set to zero: no stiffness is below that."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T
