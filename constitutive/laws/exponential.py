"""The exponential of symmetric matrices, which keeps symmetry under a group and makes anything positive definite."""

from __future__ import annotations

from math import factorial

import torch
from torch import Tensor

#: 1/k! for k = 0 … 15, four in a row.
_TAYLOR = torch.tensor([1.0 / factorial(k) for k in range(16)], dtype=torch.float64).reshape(4, 4)


def symmetric_exponential(matrix: Tensor) -> Tensor:
    """exp of symmetric matrices (..., d, d) by scaling and squaring, each alone; NaN where the result means nothing.

    `torch.linalg.matrix_exp` was measured to lose 1e-9 at a matrix because a large one stood in the same batch, and
    derivatives of eigenvectors do not exist where eigenvalues meet, as they do in cubic crystals. With the trace taken
    out, what is left of a log-stretch or log-stiffness is of order one; beyond 20 the material would be a thousand
    million times stiffer one way than another.
    """
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    mean = torch.einsum("...ii->...", matrix)[..., None, None] / matrix.shape[-1]
    rest = matrix - mean * one
    known = torch.linalg.matrix_norm(rest.detach(), keepdim=True) < 20.0
    rest = torch.where(known, rest, torch.zeros_like(rest)) / 32.0
    # Taylor to degree 15, 0.6¹⁶/16! = 1e-17, in four groups of four powers (Paterson and Stockmeyer 1973)
    square = rest @ rest
    powers = torch.stack([one.expand_as(rest), rest, square, rest @ square])
    groups = torch.tensordot(_TAYLOR.to(matrix), powers, dims=1)
    fourth, result = square @ square, groups[3]
    for group in (2, 1, 0):
        result = result @ fourth + groups[group]
    for _ in range(5):
        result = result @ result
    result = torch.exp(mean) * 0.5 * (result + result.mT)
    return torch.where(known, result, torch.full_like(result, torch.nan))
