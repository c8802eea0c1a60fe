"""Mandel notation: the only index order and the only √2 table of the project.

A symmetric tensor A becomes the 6-vector (A11, A22, A33, √2 A23, √2 A13, √2 A12), so that dot products of vectors are
double contractions of tensors and a rotation acts by an orthogonal 6×6 matrix (Mandel 1965; Mehrabadi and Cowin 1990,
doi:10.1093/qjmam/43.1.15). Every function takes leading batch axes. Functions on components work on numpy arrays and
on torch tensors alike, because they only index and multiply.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Tensor indices (i, j) of the six components, in the order 11 22 33 23 13 12.
PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
ROWS = np.array([i for i, _ in PAIRS])
COLUMNS = np.array([j for _, j in PAIRS])
#: Mandel weight of each component: 1 for normal, √2 for shear components.
WEIGHTS = np.array([1.0, 1.0, 1.0, np.sqrt(2.0), np.sqrt(2.0), np.sqrt(2.0)])
#: Component of the 6-vector that holds tensor component (i, j).
POSITION = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
#: The second-order identity as a Mandel vector.
IDENTITY = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
#: Rows and columns of the 21 independent entries of a symmetric 6×6, row by row: 11 12 … 16 22 … 66.
UPPER_ROWS, UPPER_COLUMNS = np.triu_indices(6)
#: Where entry (i, j) of the symmetric 6×6 stands among the 21.
UPPER_POSITION = np.zeros((6, 6), dtype=int)
UPPER_POSITION[UPPER_ROWS, UPPER_COLUMNS] = np.arange(21)
UPPER_POSITION[UPPER_COLUMNS, UPPER_ROWS] = np.arange(21)


#: What an array of the wrong trailing shape probably is.
_REMEDIES = {
    (6,): "Put the batch first and the six components 11 22 33 23 13 12 last; tensors (3, 3) go through to_mandel",
    (21,): "Put the batch first; matrices (6, 6) go through pack_upper",
    (3, 3): "Put the batch first; Mandel vectors go through from_mandel",
    (6, 6): "Put the batch first; the 21 entries of an upper triangle go through unpack_upper",
    (3, 3, 3, 3): "Put the batch first; Mandel matrices (6, 6) go through stiffness_to_tensor",
}


def _expect_shape(where: str, array: Any, tail: tuple[int, ...]) -> None:
    if tuple(array.shape[-len(tail) :]) != tail:
        expected = "(..., " + ", ".join(map(str, tail)) + ")"
        raise ValueError(
            f"{where}: expected an array of shape {expected}, got {tuple(array.shape)}. {_REMEDIES[tail]}."
        )


def _checked(where: str, array: Any, tail: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(array, dtype=float)
    _expect_shape(where, array, tail)
    return array


def to_mandel(tensor: np.ndarray) -> np.ndarray:
    """Mandel 6-vector of a symmetric second-order tensor.

    Parameters
    ----------
    tensor : array (..., 3, 3)
        Symmetric tensor. Only the symmetric part is used.

    Returns
    -------
    array (..., 6)
    """
    tensor = np.asarray(tensor, dtype=float)
    _expect_shape("to_mandel", tensor, (3, 3))
    return 0.5 * (tensor[..., ROWS, COLUMNS] + tensor[..., COLUMNS, ROWS]) * WEIGHTS


def from_mandel(vector: np.ndarray) -> np.ndarray:
    """Symmetric tensor (..., 3, 3) of a Mandel 6-vector (..., 6)."""
    vector = np.asarray(vector, dtype=float)
    _expect_shape("from_mandel", vector, (6,))
    return (vector / WEIGHTS)[..., POSITION]


def pack_upper(matrix: Any) -> Any:
    """The 21 entries of the upper triangle, row by row, of symmetric matrices (..., 6, 6)."""
    _expect_shape("pack_upper", matrix, (6, 6))
    return matrix[..., UPPER_ROWS, UPPER_COLUMNS]


def unpack_upper(entries: Any) -> Any:
    """Symmetric matrices (..., 6, 6) from the 21 entries (..., 21) of their upper triangles."""
    _expect_shape("unpack_upper", entries, (21,))
    return entries[..., UPPER_POSITION]


def stress_to_voigt(vector: np.ndarray) -> np.ndarray:
    """Voigt stress (11 22 33 23 13 12) of a Mandel stress vector (..., 6)."""
    return _checked("stress_to_voigt", vector, (6,)) / WEIGHTS


def stress_from_voigt(vector_voigt: np.ndarray) -> np.ndarray:
    """Mandel stress vector of a Voigt stress (..., 6)."""
    return _checked("stress_from_voigt", vector_voigt, (6,)) * WEIGHTS


def strain_to_voigt(vector: np.ndarray) -> np.ndarray:
    """Voigt strain, with engineering shears 2 E23 …, of a Mandel strain vector (..., 6)."""
    return _checked("strain_to_voigt", vector, (6,)) * WEIGHTS


def strain_from_voigt(vector_voigt: np.ndarray) -> np.ndarray:
    """Mandel strain vector of a Voigt strain with engineering shears (..., 6)."""
    return _checked("strain_from_voigt", vector_voigt, (6,)) / WEIGHTS


def stiffness_to_voigt(matrix: np.ndarray) -> np.ndarray:
    """Voigt stiffness matrix (C11 … C66 of the textbooks) of a Mandel stiffness (..., 6, 6)."""
    return _checked("stiffness_to_voigt", matrix, (6, 6)) / np.outer(WEIGHTS, WEIGHTS)


def stiffness_from_voigt(matrix_voigt: np.ndarray) -> np.ndarray:
    """Mandel stiffness matrix of a Voigt stiffness (..., 6, 6)."""
    return _checked("stiffness_from_voigt", matrix_voigt, (6, 6)) * np.outer(WEIGHTS, WEIGHTS)


def stiffness_to_tensor(matrix: np.ndarray) -> np.ndarray:
    """Fourth-order tensor (..., 3, 3, 3, 3) of a Mandel stiffness matrix (..., 6, 6)."""
    voigt = stiffness_to_voigt(_checked("stiffness_to_tensor", matrix, (6, 6)))
    return voigt[..., POSITION[:, :, None, None], POSITION[None, None, :, :]]


def stiffness_from_tensor(tensor: np.ndarray) -> np.ndarray:
    """Mandel matrix (..., 6, 6) of a fourth-order tensor with minor symmetries (..., 3, 3, 3, 3)."""
    tensor = _checked("stiffness_from_tensor", tensor, (3, 3, 3, 3))
    i, j = ROWS[:, None], COLUMNS[:, None]
    k, l = ROWS[None, :], COLUMNS[None, :]
    return tensor[..., i, j, k, l] * np.outer(WEIGHTS, WEIGHTS)


def green_lagrange(deformation_gradient: np.ndarray) -> np.ndarray:
    """Green–Lagrange strain E = ½ (FᵀF − 1) as a Mandel vector (..., 6) from F (..., 3, 3).

    Evaluated as sym H + ½ HᵀH with H = F − 1, which keeps full relative accuracy at small strain.
    """
    gradient = np.asarray(deformation_gradient, dtype=float)
    _expect_shape("green_lagrange", gradient, (3, 3))
    gradient = gradient - np.eye(3)
    transposed = np.swapaxes(gradient, -1, -2)
    return to_mandel(gradient + 0.5 * transposed @ gradient)


def right_stretch(strain: np.ndarray) -> np.ndarray:
    """Right stretch tensor U = (1 + 2E)^½ (..., 3, 3) of a Green–Lagrange Mandel strain (..., 6).

    Raises
    ------
    ValueError
        Where 1 + 2E is not positive definite: no deformation has that strain.
    """
    values, vectors = np.linalg.eigh(np.eye(3) + 2.0 * from_mandel(strain))
    if np.any(values <= 0.0):
        raise ValueError(
            f"right_stretch: expected 1 + 2E positive definite, got a smallest eigenvalue of {values.min():.3g}. "
            "No deformation has such a strain; reduce it."
        )
    return np.einsum("...ia,...a,...ja->...ij", vectors, np.sqrt(values), vectors)


def second_piola(cauchy: np.ndarray, deformation_gradient: np.ndarray) -> np.ndarray:
    """Second Piola–Kirchhoff stress S = J F⁻¹ σ F⁻ᵀ, Mandel (..., 6), from Mandel Cauchy stress (..., 6) and F."""
    inverse = np.linalg.inv(deformation_gradient)
    jacobian = np.linalg.det(deformation_gradient)[..., None, None]
    return to_mandel(jacobian * inverse @ from_mandel(cauchy) @ np.swapaxes(inverse, -1, -2))


def cauchy_stress(second_piola: np.ndarray, deformation_gradient: np.ndarray) -> np.ndarray:
    """Cauchy stress σ = F S Fᵀ / J, Mandel (..., 6), from Mandel S (..., 6) and F (..., 3, 3)."""
    gradient = np.asarray(deformation_gradient, dtype=float)
    jacobian = np.linalg.det(gradient)[..., None, None]
    return to_mandel(gradient @ from_mandel(second_piola) @ np.swapaxes(gradient, -1, -2) / jacobian)
