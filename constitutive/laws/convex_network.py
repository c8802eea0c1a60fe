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
    """Mean of one network N over selections z_c of its inputs: convex in z, non-decreasing in all but the last of each.

    N(z) = v · h_L + u · z with h_l = softplus(B_l h_{l−1} + A_l z + b_l), h_0 = 0 (Amos, Xu and Kolter 2017,
    arXiv:1609.07152). v, u, B_l and the columns of A_l for the non-decreasing inputs are the softplus of what is stored:
    any real parameters give a convex network.

    Parameters
    ----------
    places : int array (c, m)
        Copy c of the network sees input places[c, i] in place i; its last input may act with either sign.
    widths : tuple of int
        Width of each hidden layer.
    seed : int
        Seed of the initial weights.
    """

    places: Tensor

    def __init__(self, places: np.ndarray, widths: tuple[int, ...], seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.widths, m = tuple(widths), places.shape[1]
        self.register_buffer("places", torch.from_numpy(places), persistent=False)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        def positive(*shape: int) -> Tensor:
            return _unconstrained(torch.exp(0.3 * draw(*shape)) / shape[-1])

        inputs, hidden, biases = [], [], []
        for level, width in enumerate(self.widths):
            inputs.append(torch.nn.Parameter(torch.cat([positive(width, m - 1), draw(width, 1)], dim=1)))
            biases.append(torch.nn.Parameter(draw(width)))
            if level:
                hidden.append(torch.nn.Parameter(positive(width, self.widths[level - 1])))
        self.inputs, self.hidden, self.biases = (torch.nn.ParameterList(part) for part in (inputs, hidden, biases))
        self.last = torch.nn.Parameter(positive(self.widths[-1]))
        self.linear = torch.nn.Parameter(positive(m - 1))

    def _weights(self) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
        """A_l (w, m), B_l (w, w'), v (w,) and u (m,)."""
        inputs = [torch.cat([softplus(stored[:, :-1]), stored[:, -1:]], dim=1) for stored in self.inputs]
        linear = functional.pad(softplus(self.linear), (0, 1))
        return inputs, [softplus(stored) for stored in self.hidden], softplus(self.last), linear

    def _activations(self, seen: Tensor, inputs: list[Tensor], hidden: list[Tensor]) -> list[Tensor]:
        """Activations a_l (n, c, w) of every layer, for inputs (n, c, m)."""
        found: list[Tensor] = []
        for level, weight in enumerate(inputs):
            activation = seen @ weight.T + self.biases[level]
            if level:
                activation = activation + softplus(found[-1]) @ hidden[level - 1].T
            found.append(activation)
        return found

    def forward(self, z: Tensor) -> Tensor:
        """Value (n,) at inputs (n, k)."""
        inputs, hidden, last, linear = self._weights()
        seen = z[:, self.places]
        return (softplus(self._activations(seen, inputs, hidden)[-1]) @ last + seen @ linear).mean(dim=1)

    def gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Value (n,) and ∂N/∂z (n, k)."""
        value, slope, _ = self._derivatives(z, None)
        return value, slope

    def curvature(self, z: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value (n,), gradient (n, k) and Σ_kl ∂²N/∂z_k∂z_l ∂z_k/∂x_i ∂z_l/∂x_j (n, 6, 6), for ∂z/∂x (n, k, 6)."""
        value, slope, hessian = self._derivatives(z, directions)
        assert hessian is not None
        return value, slope, hessian

    def _derivatives(self, z: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """With r_l = ∂N/∂h_l the Hessian is Σ_l (∂a_l/∂x)ᵀ diag(σ″(a_l) r_l) ∂a_l/∂x, as in `network.ScalarNetwork`."""
        inputs, hidden, last, linear = self._weights()
        n, copies = len(z), len(self.places)
        seen = z[:, self.places]
        activations = self._activations(seen, inputs, hidden)
        slopes = [torch.sigmoid(activation) for activation in activations]
        moved: list[Tensor] = []
        if directions is not None:
            turned = directions[:, self.places]
            for level, weight in enumerate(inputs):
                tangent = weight @ turned
                if level:
                    tangent = tangent + hidden[level - 1] @ (slopes[level - 1][..., None] * moved[-1])
                moved.append(tangent)
        value = (softplus(activations[-1]) @ last + seen @ linear).mean(dim=1)
        by_input, back, hessian = linear.expand_as(seen), last.expand_as(activations[-1]), None
        for level in range(len(inputs) - 1, -1, -1):
            through = back * slopes[level]
            by_input = by_input + through @ inputs[level]
            if moved:
                bent = (through * (1.0 - slopes[level])).reshape(n, -1, 1)
                tangent = moved[level].reshape(n, bent.shape[1], -1)
                part = tangent.transpose(1, 2) @ (bent * tangent) / copies
                hessian = part if hessian is None else hessian + part
            if level:
                back = through @ hidden[level - 1]
        slope = torch.zeros_like(z).index_add(1, self.places.reshape(-1), by_input.reshape(n, -1) / copies)
        return value, slope, hessian
