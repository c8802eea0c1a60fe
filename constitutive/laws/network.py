"""A scalar network of several inputs with closed-form first and second derivatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def softplus(x: Tensor) -> Tensor:
    """ln(1 + eˣ) to rounding; torch's default turns linear at 20, where its slope is off by 2e-9."""
    return functional.softplus(x, threshold=40.0)


class ScalarNetwork(torch.nn.Module):
    """N(z) = v · h_L with h_l = softplus(A_l h_{l−1} + b_l), h_0 = z: smooth, so stress and tangent are continuous.

    Parameters
    ----------
    inputs : int
        Number of inputs.
    widths : tuple of int
        Width of each hidden layer.
    seed : int
        Seed of the initial weights (Glorot and Bengio 2010, scaled normal).
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.widths = tuple(widths)
        sizes = (inputs, *self.widths)
        weights, biases = [], []
        for incoming, outgoing in zip(sizes[:-1], sizes[1:], strict=True):
            scale = (2.0 / (incoming + outgoing)) ** 0.5
            weight = torch.randn(outgoing, incoming, generator=generator, dtype=torch.float64) * scale
            bias = torch.randn(outgoing, generator=generator, dtype=torch.float64) * 0.5
            weights.append(torch.nn.Parameter(weight))
            biases.append(torch.nn.Parameter(bias))
        self.weights = torch.nn.ParameterList(weights)
        self.biases = torch.nn.ParameterList(biases)
        last = torch.randn(sizes[-1], generator=generator, dtype=torch.float64) / sizes[-1] ** 0.5
        self.last = torch.nn.Parameter(last)

    def forward(self, z: Tensor) -> Tensor:
        """Value (n,) at inputs (n, k)."""
        hidden = z
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = softplus(hidden @ weight.T + bias)
        return hidden @ self.last

    def gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Value (n,) and ∂N/∂z (n, k), by one backward sweep written out."""
        slopes = []
        hidden = z
        for weight, bias in zip(self.weights, self.biases, strict=True):
            activation = hidden @ weight.T + bias
            slopes.append(torch.sigmoid(activation))
            hidden = softplus(activation)
        back = self.last
        for weight, slope in zip(reversed(list(self.weights)), reversed(slopes), strict=True):
            back = (back * slope) @ weight
        return hidden @ self.last, back

    def curvature(self, z: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value, gradient, and the Hessian contracted with directions.

        Parameters
        ----------
        z : (n, k)
        directions : (n, k, m)
            ∂z/∂x of m variables x.

        Returns
        -------
        value (n,), gradient ∂N/∂z (n, k), and Σ_kl ∂²N/∂z_k∂z_l ∂z_k/∂x_i ∂z_l/∂x_j (n, m, m)

        Notes
        -----
        With a_l the activations, A_l = ∂a_l/∂x and r_l = ∂N/∂h_l, the second derivative is Σ_l A_lᵀ diag(σ″(a_l) r_l)
        A_l: one forward sweep for A_l, one backward for r_l, no automatic differentiation.
        """
        slopes, tangents = [], []
        # directions before neurons: all points and directions are rows of one product
        hidden, moved = z, directions.transpose(1, 2)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            activation = hidden @ weight.T + bias
            slope = torch.sigmoid(activation)
            tangent = moved @ weight.T
            slopes.append(slope)
            tangents.append(tangent)
            hidden = softplus(activation)
            moved = slope[:, None, :] * tangent
        value = hidden @ self.last
        back = self.last.expand(len(z), -1)
        m = directions.shape[2]
        hessian = torch.zeros(len(z), m, m, dtype=z.dtype, device=z.device)
        for weight, slope, tangent in zip(
            reversed(list(self.weights)), reversed(slopes), reversed(tangents), strict=True
        ):
            bent = slope * (1.0 - slope) * back
            hessian = hessian + (bent[:, None, :] * tangent) @ tangent.transpose(1, 2)
            back = (back * slope) @ weight
        return value, back, hessian
