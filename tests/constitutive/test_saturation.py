"""Saturation: nothing changes near zero, and far outside the network is held where a free one runs away."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from constitutive import SymmetricLaw
from constitutive.laws.saturation import Saturation


def test_never_longer_than_its_scale_and_the_strain_itself_at_first() -> None:
    strain = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 6)))
    strain = strain / strain.norm(dim=1, keepdim=True)
    far = Saturation(1e3 * strain, 0.1).value
    torch.testing.assert_close(far, 0.1 * strain, rtol=1e-6, atol=0.0)
    # y = x + O(|x|⁵)
    near = Saturation(1e-3 * strain, 0.1).value
    assert float((near - 1e-3 * strain).norm(dim=1).max()) <= 0.26 * 1e-15 / 0.1**4


@pytest.mark.parametrize("form", ["invariants", "average", "directions"])
def test_the_network_is_held_far_outside(form: str) -> None:
    """The polynomial apart, energy stays what it is at the edge; without saturation it does not."""
    ray = np.array([[0.5, -0.2, 0.1, 0.3, 0.0, 0.2]])
    ray /= np.linalg.norm(ray)

    def of_network(saturated: bool, size: float) -> float:
        law = SymmetricLaw("m-3m", 2, (8, 8), network=form, saturated=saturated, strain_scale=0.02, seed=1)
        law.requires_grad_(False)
        energy = law.response(size * ray, tangent=False).energy[0]
        return float(energy - 0.5 * size**2 * (ray @ law.stiffness() @ ray.T)[0, 0])

    edge, far = of_network(True, 0.1), of_network(True, 0.2)
    assert edge != 0.0 and abs(far / edge - 1.0) < 0.01
    assert abs(of_network(False, 0.2) / of_network(False, 0.1)) > 2.0
