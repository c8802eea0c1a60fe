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
replaced by the narrower of two estimates, and called estimated: upper − 2 G/θ, with G_ij the residuals' product in the
reference and θ the smallest Ritz value that the conjugate gradients have seen, and upper − 2 (upper at half the steps − upper).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .voxel_grid import VoxelGrid, device_of
from .voxel_solver import CHUNK, Solve, never, products, symmetric


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
        stiffness is then off by about its square, times the contrast; `Cell.width` says by how much at most.
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
        device_of(device),
    )
    # images are solved in groups so that memory does not grow with their number
    group = max(1, CHUNK * 8 // (6 * grid.voxels))
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
        grid = VoxelGrid((image.shape[0], image.shape[1], image.shape[2]), edges, scheme, device_of(device))
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
                free.unbalanced(slice(0, 1), free.field, free.displacement[:, l : l + 1] * 0.0, slice(l, l + 1))
                for l in range(6)
            ],
            1,
        )
        compliance = symmetric(products(free.displacement, load)).cpu().numpy() * padded.size / labels.size
    return np.linalg.inv(compliance), kinematic, max(steps, int(free.iterations.max()))


def _cells(
    solve: Solve, tolerance: float, error: float | None, maximum: int, steps: int | None, fields: bool
) -> list[Cell]:
    found: dict[int, tuple[np.ndarray, np.ndarray, bool]] = {}
    if steps is not None:
        solve.advance(never, steps)
    elif error is None:
        solve.advance(lambda product, *part: product <= tolerance**2 * solve.first[part], maximum)
        _check_converged(solve, tolerance, maximum)
    else:
        level = torch.full((solve.images,), float(error), dtype=torch.float64, device=solve.grid.device)
        scale = torch.diagonal(solve.voigt, dim1=1, dim2=2).mean(dim=1)
        open_images = list(range(solve.images))
        while open_images:
            # with pores the falls of the energy between looks say more than the residual does
            taken = int(solve.iterations.max())
            some = maximum if bool(solve.positive.all()) else max(8, int(0.4 * taken))
            solve.advance(
                lambda product, images, _: product <= (level * scale)[images, None], min(some, maximum - taken)
            )
            for image in open_images:
                found[image] = solve.bounds(image)
            open_images = [i for i in open_images if not _narrow(solve, i, *found[i][:2], error)]
            if not open_images:
                break
            level[[i for i in range(solve.images) if i not in open_images]] = float("inf")
            low = (solve.product <= (level * scale)[:, None]).all(dim=1).tolist()
            level[[i for i in open_images if low[i]]] *= 0.2
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
        f"{int(solve.iterations.max())}. Ask for a larger error or tolerance, or raise maximum. Solids that hang together by "
        "corners, and contrasts beyond 1e4, converge slowly; a pore converges faster at stiffness zero than at a tiny one."
    )
