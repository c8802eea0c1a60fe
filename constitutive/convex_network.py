"""Input-convex network of several inputs, averaged over permutations of them, with closed-form derivatives."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .network import softplus


def _unconstrained(positive: Tensor) -> Tensor:
    """x with softplus(x) = a positive number."""
    return positive + torch.log(-torch.expm1(-positive))


class ConvexNetwork(torch.nn.Module):
    """Mean over permutations p of N(z_p): convex in z, and non-decreasing in every input but the last.

    N(z) = v · h_L + u · z with h_l = softplus(B_l h_{l−1} + A_l z + b_l), h_0 = 0 (Amos, Xu and Kolter 2017,
    arXiv:1609.07152). v, u, B_l and the columns of A_l for the non-decreasing inputs are the softplus of what is stored:
    any real parameters give a convex network.

    Parameters
    ----------
    permutations : int array (c, k)
        Copy c of the network sees input permutations[c, i] in place i. The last input, which may act with either sign,
        stays in its place.
    widths : tuple of int
        Width of each hidden layer.
    seed : int
        Seed of the initial weights.
    """

    order: Tensor

    def __init__(self, permutations: np.ndarray, widths: tuple[int, ...], seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.widths, k = tuple(widths), permutations.shape[1]
        # A_l z_p = A_l[:, p⁻¹] z: the weights are permuted, not the inputs of each point
        self.register_buffer("order", torch.from_numpy(np.argsort(permutations, axis=1)), persistent=False)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        def positive(*shape: int) -> Tensor:
            # spread over orders of magnitude, so that units of positive weights do not all see the mean of the inputs
            return _unconstrained(torch.exp(draw(*shape) * 1.5 - 1.1) / shape[-1])

        inputs, hidden, biases = [], [], []
        for level, width in enumerate(self.widths):
            inputs.append(torch.nn.Parameter(torch.cat([positive(width, k - 1), draw(width, 1)], dim=1)))
            biases.append(torch.nn.Parameter(draw(width)))
            if level:
                hidden.append(torch.nn.Parameter(positive(width, self.widths[level - 1])))
        self.inputs, self.hidden, self.biases = (torch.nn.ParameterList(part) for part in (inputs, hidden, biases))
        self.last = torch.nn.Parameter(positive(self.widths[-1]))
        self.linear = torch.nn.Parameter(positive(k - 1))

    def _weights(self) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
        """A_l (c, w, k) of every copy, B_l (w, w'), v / c (w,) and mean of u (k,)."""
        copies = len(self.order)
        inputs = []
        for stored in self.inputs:
            signed = torch.cat([softplus(stored[:, :-1]), stored[:, -1:]], dim=1)
            inputs.append(signed[:, self.order].transpose(0, 1))
        linear = functional.pad(softplus(self.linear), (0, 1))[self.order].mean(dim=0)
        return inputs, [softplus(stored) for stored in self.hidden], softplus(self.last) / copies, linear

    def _activations(self, z: Tensor, weights: tuple[list[Tensor], list[Tensor], Tensor, Tensor]) -> list[Tensor]:
        """Activations a_l (n, c, w) of every layer."""
        inputs, hidden, _, _ = weights
        found: list[Tensor] = []
        for level, weight in enumerate(inputs):
            copies, width, k = weight.shape
            activation = (z @ weight.reshape(copies * width, k).T).reshape(-1, copies, width) + self.biases[level]
            if level:
                activation = activation + softplus(found[-1]) @ hidden[level - 1].T
            found.append(activation)
        return found

    def forward(self, z: Tensor) -> Tensor:
        """Value (n,) at inputs (n, k)."""
        weights = self._weights()
        return (softplus(self._activations(z, weights)[-1]) @ weights[2]).sum(dim=1) + z @ weights[3]

    def gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Value (n,) and ∂N/∂z (n, k)."""
        value, slope, _ = self._derivatives(z, None)
        return value, slope

    def curvature(self, z: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value (n,), gradient (n, k) and Σ_kl ∂²N/∂z_k∂z_l ∂z_k/∂x_i ∂z_l/∂x_j (n, m, m), for ∂z/∂x (n, k, m)."""
        value, slope, hessian = self._derivatives(z, directions)
        assert hessian is not None
        return value, slope, hessian

    def _derivatives(self, z: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """With r_l = ∂N/∂h_l the Hessian is Σ_l (∂a_l/∂x)ᵀ diag(σ″(a_l) r_l) ∂a_l/∂x, as in `network.ScalarNetwork`."""
        weights = self._weights()
        inputs, hidden, last, linear = weights
        activations = self._activations(z, weights)
        slopes = [torch.sigmoid(activation) for activation in activations]
        moved: list[Tensor] = []
        if directions is not None:
            for level, weight in enumerate(inputs):
                copies, width, k = weight.shape
                tangent = (weight.reshape(copies * width, k) @ directions).reshape(len(z), copies, width, -1)
                if level:
                    tangent = tangent + hidden[level - 1] @ (slopes[level - 1][..., None] * moved[-1])
                moved.append(tangent)
        value = (softplus(activations[-1]) @ last).sum(dim=1) + z @ linear
        gradient, back, hessian = linear.expand(len(z), -1), last.expand_as(activations[-1]), None
        for level in range(len(inputs) - 1, -1, -1):
            copies, width, k = inputs[level].shape
            through = back * slopes[level]
            gradient = gradient + through.reshape(len(z), copies * width) @ inputs[level].reshape(copies * width, k)
            if moved:
                bent = (through * (1.0 - slopes[level])).reshape(len(z), copies * width, 1)
                tangent = moved[level].reshape(len(z), copies * width, -1)
                part = tangent.transpose(1, 2) @ (bent * tangent)
                hessian = part if hessian is None else hessian + part
            if level:
                back = through @ hidden[level - 1]
        return value, gradient, hessian
