"""`constitutive moduli`: a voxel image, or crystal structures → elastic moduli."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import check_output, json_option, main, refuse_unread, sentence, show_result, timed
from .crystal import crystal_command


@main.command(short_help="Stiffness of a voxel image, or of a structure.")
@click.argument("sources", metavar="IMAGE | STRUCTURE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--phase", "phases", multiple=True,
              help="Material of a phase: 0=pore, 1='E=70 nu=0.2', 2='K=37 G=44', 'C11=168.4 C12=121.4 C44=75.4', "
              "copper.law. Without a number it serves all.")  # fmt: skip
@click.option("--error", default=0.01, show_default=True, help="Relative error to stay below, for gear auto.")
@click.option("--gear", type=click.Choice(["auto", "fast", "accurate", "exact"]), default="auto",
              show_default=True,
              help="auto: until the bracket is below --error. exact: converged. fast, accurate: learned, inside bounds.")  # fmt: skip
@click.option("--boundary", type=click.Choice(["periodic", "mirror", "uniform"]), default="periodic", show_default=True,
              help="For images that do not repeat: mirror (orthotropic result), uniform (bounds).")  # fmt: skip
@click.option(
    "--boxes", type=click.IntRange(min=0), default=0, help="Also solve N³ boxes of the image: is it large enough?"
)
@click.option("--spacing", help="Voxel edges along x, y, z: 1,1,2.5. Default: the file's own, or cubes.")
@click.option("--shape", help="Voxels along x, y, z of a raw file: 256,256,100.")
@click.option("--dtype", default="uint8", show_default=True, help="Number type of a raw file.")
@click.option("--dataset", help="Array inside npz, HDF5, VTK or VTI.")
@click.option("--order", type=click.Choice(["xyz", "zyx"]), help="Which axis the file's first one is.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Result to write: .json, .h5, or .law for DOLFINx."
)
@click.option("--plot", type=click.Path(path_type=Path), help="Picture to write (.png, .pdf, .svg).")
@click.option("--model", default="binary_moduli", show_default=True,
              help="Networks for structures: binary_moduli (inorganic crystals), emt_alloys, or a file.")  # fmt: skip
@json_option
@click.pass_context
@sentence
@timed
def moduli(
    context: click.Context,
    sources: tuple[Path, ...],
    phases: tuple[str, ...],
    error: float,
    gear: str,
    boundary: str,
    boxes: int,
    spacing: str | None,
    shape: str | None,
    dtype: str,
    dataset: str | None,
    order: str | None,
    output: Path | None,
    plot: Path | None,
    model: str,
    as_json: bool,
) -> None:
    """Elastic moduli of a voxel image, between bounds, or of crystals from their structure.

    IMAGE is .npy, .npz, .tif, .h5, .dream3d, .vtk, .vti or raw; its values are phases (or grains, where the file has
    orientations). Stiffness in GPa.

    \b
    constitutive moduli rock.tif --phase 0=pore --phase 1="E=70 nu=0.2"
    constitutive moduli grains.dream3d --phase copper.law -o aggregate.law

    STRUCTURE is .cif, POSCAR, .extxyz …: learned networks read the crystal itself; several give a table.

    \b
    constitutive moduli nacl.cif --plot nacl.png
    """
    from ..crystal_moduli import is_structure
    from ..moduli import moduli as run_moduli

    if all(is_structure(source) for source in sources):
        unread = ("phases", "error", "gear", "boundary", "boxes", "spacing", "shape", "dtype", "dataset", "order")
        refuse_unread(context, unread, "crystal structures")
        crystal_command(sources, model, output, plot, as_json)
        return
    if len(sources) > 1:
        raise ValueError(f"moduli: expected one image, or crystal structures only, got {len(sources)} files. One each.")
    refuse_unread(context, ("model",), "voxel images")
    image = list(sources)[0]

    if output is not None:
        check_output(output, (".json", ".h5", ".hdf5", ".law"), image)
    if plot is not None:
        check_output(plot, (".png", ".pdf", ".svg"), image, "--plot")
    result = run_moduli(
        image, _phases(phases), gear=gear, error=error, boundary=boundary, boxes=boxes, dataset=dataset, dtype=dtype, order=order,
        spacing=_triple("--spacing", spacing, float), shape=_triple("--shape", shape, int),
    )  # fmt: skip
    written = []
    if output is not None:
        result.save(output)
        written.append(str(output))
    if plot is not None:
        result.plot(plot)
        written.append(str(plot))
    machine = {**result.to_dict(), "written": written}
    show_result("\n".join([str(result), *(f"written to {name}" for name in written)]), machine, as_json)


def _phases(texts: tuple[str, ...]) -> Any:
    """{number: material}, or one material for all phases."""
    found: dict[int, str] = {}
    for text in texts:
        number, _, material = text.partition("=")
        if number.strip().isdigit():
            found[int(number)] = material.strip()
        elif len(texts) == 1:
            return text
        else:
            raise ValueError(f"--phase: expected a number first, such as 0=pore, got {text!r}.")
    return found


def _triple(option: str, text: str | None, kind: type) -> Any:
    if text is None:
        return None
    try:
        values = tuple(kind(part) for part in text.replace(",", " ").replace("x", " ").split())
    except ValueError:
        values = ()
    if len(values) != 3:
        example = "1,1,2.5" if kind is float else "256,256,100"
        raise ValueError(f"{option}: expected three numbers such as {example}, got {text!r}.")
    return values
