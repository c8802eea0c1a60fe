"""A picture of an image and of the Young's modulus it has along every direction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystals.whole_file import whole_file

if TYPE_CHECKING:
    from .moduli import ModuliResult

#: Voxels an edge beyond which the drawing skips some.
_FINEST = 64


def draw(result: ModuliResult, path: Path) -> None:
    """Write the picture (.png, .pdf, .svg)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(9.0, 4.2), layout="constrained")
    left: Any = figure.add_subplot(1, 2, 1, projection="3d")
    _draw_image(left, result)
    right: Any = figure.add_subplot(1, 2, 2, projection="3d")
    try:
        _draw_young(figure, right, result)
    except ValueError:
        right.set_axis_off()
        right.text2D(0.5, 0.5, "no stiffness in some direction", ha="center", transform=right.transAxes)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)


def _draw_image(axes: Any, result: ModuliResult) -> None:
    """The three faces of the image towards the viewer, coloured by phase, or by grain."""
    import matplotlib

    image = result.image
    step = max(1, int(np.ceil(max(image.shape) / _FINEST)))
    grains = image.orientations is not None
    shown = image.labels if grains else np.searchsorted(list(image.fractions), image.phases)
    if grains:
        # neighbouring numbers apart in colour
        shown = (shown * 7) % 20
        colours = matplotlib.colormaps["tab20"](np.arange(20))
    else:
        count = max(len(image.fractions), 2)
        colours = matplotlib.colormaps["cividis"](np.linspace(0.1, 0.95, count))
    shown = shown[::step, ::step, ::step]
    edges = np.array(image.shape) * image.spacing
    edges = edges / edges.max()
    x, y, z = (np.linspace(0.0, e, n + 1) for e, n in zip(edges, shown.shape, strict=True))
    faces = (
        (np.meshgrid(x, y, indexing="ij"), shown[:, :, -1], 2, edges[2], 1.0),
        (np.meshgrid(x, z, indexing="ij"), shown[:, 0, :], 1, 0.0, 0.85),
        (np.meshgrid(y, z, indexing="ij"), shown[-1, :, :], 0, edges[0], 0.7),
    )
    for (a, b), values, axis, height, light in faces:
        flat = np.full_like(a, height)
        place = {2: (a, b, flat), 1: (a, flat, b), 0: (flat, a, b)}[axis]
        colour = colours[values].copy()
        colour[..., :3] *= light
        axes.plot_surface(*place, facecolors=colour, rstride=1, cstride=1, shade=False, linewidth=0, antialiased=False)
    axes.view_init(elev=28, azim=-55)
    axes.set_box_aspect(edges)
    axes.set(xlabel="x", ylabel="y", zlabel="z", xticks=[], yticks=[], zticks=[])
    parts = [f"phase {phase}: {100 * share:.1f} %" for phase, share in list(image.fractions.items())[:4]]
    title = f"{len(np.unique(image.labels))} grains" if grains and len(parts) == 1 else ", ".join(parts)
    axes.set_title(f"{image.name}\n{title}", fontsize=10)
    if not grains:
        from matplotlib.patches import Patch

        names = list(image.fractions)[:6]
        handles = [Patch(color=colours[i], label=f"phase {phase}") for i, phase in enumerate(names)]
        axes.legend(handles=handles, frameon=False, fontsize=8, loc="lower left")


def _draw_young(figure: Any, axes: Any, result: ModuliResult) -> None:
    """Surface whose distance from the centre, and colour, is Young's modulus along that direction."""
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    polar, around = np.meshgrid(np.linspace(0.0, np.pi, 61), np.linspace(0.0, 2.0 * np.pi, 121), indexing="ij")
    directions = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=-1)
    modulus = result.young(directions)
    low, high = float(modulus.min()), float(modulus.max())
    # a nearly isotropic surface is one colour, not rounding blown up
    spread = max(high - low, 0.02 * high)
    norm = Normalize(0.5 * (low + high) - 0.5 * spread, 0.5 * (low + high) + 0.5 * spread)
    colours = matplotlib.colormaps["viridis"](
        norm(0.25 * (modulus[1:, 1:] + modulus[:-1, 1:] + modulus[1:, :-1] + modulus[:-1, :-1]))
    )
    x, y, z = np.moveaxis(directions * modulus[..., None], -1, 0)
    axes.plot_surface(x, y, z, facecolors=colours, rstride=1, cstride=1, shade=False, linewidth=0, antialiased=True)
    for lim in (axes.set_xlim, axes.set_ylim, axes.set_zlim):
        lim(-high, high)
    axes.set_box_aspect((1, 1, 1))
    axes.view_init(elev=28, azim=-55)
    axes.tick_params(labelsize=7)
    axes.set(xlabel="x", ylabel="y", zlabel="z")
    axes.set_title(
        f"Young's modulus {low:.4g} … {high:.4g} {result.units}\nbracket {100 * result.width:.2g} %", fontsize=10
    )
    shade = ScalarMappable(norm=norm, cmap="viridis")
    figure.colorbar(shade, ax=axes, shrink=0.6, pad=0.12, label=result.units)
