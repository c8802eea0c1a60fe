"""Plain tables of F, P and W to strain data."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from . import mandel
from .groups import PointGroup
from .states import StrainData, convert


def read_tables(
    paths: list[Path],
    group: PointGroup,
    units: str,
    columns: str | None = None,
) -> StrainData:
    """States from plain text tables of deformation gradient, first Piola–Kirchhoff stress and energy density.

    Parameters
    ----------
    paths : list of Path
        Whitespace- or comma-separated tables; lines that start with # are comments.
    group : PointGroup
        Symmetry of the material in the frame of the table.
    units : str
        Unit of P and W (a key of `STRESS_UNITS`).
    columns : str, optional
        Column names, comma-separated: F11 … F33, P11 … P33, W; others are ignored. By default the names in the first
        comment line that has them, else F (row-major), P (row-major), W.
    """
    convert(0.0, units, "GPa")
    if not paths:
        raise ValueError("read_tables: expected at least one table, got none. Name the files.")
    wanted = [f"{letter}{i}{j}" for letter in "FP" for i in "123" for j in "123"]
    gradients, piolas, energies, names, series = [], [], [], [], []
    for path in map(Path, paths):
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise OSError(
                f"read_tables: expected a readable text file, got {str(path)!r}: {error}. Check the path."
            ) from error
        titles = [title.strip() for title in columns.split(",")] if columns else _titles(text)
        place = {title: i for i, title in enumerate(titles)}
        missing = [title for title in wanted if title not in place]
        if missing or len(place) < len(titles):
            fault = f"no {', '.join(missing)}" if missing else "the same name twice"
            raise ValueError(
                f"read_tables: expected columns F11 … F33 and P11 … P33 in {path.name}, got {fault}. Name them with "
                "--columns."
            )
        table, lines = _numbers(path.name, text, 1 + max(place[title] for title in wanted))
        if text and text[-1] not in "\r\n":
            raise ValueError(
                f"read_tables: expected a last line that ends, got one without its end in {path.name}: the file may have "
                f"been cut within a number. Copy it again, or where it is whole add a newline: echo >> {path.name}."
            )
        gradients.append(table[:, [place[title] for title in wanted[:9]]].reshape(-1, 3, 3))
        piolas.append(table[:, [place[title] for title in wanted[9:]]].reshape(-1, 3, 3))
        energies.append(table[:, place["W"]] if "W" in place and place["W"] < table.shape[1] else None)
        series += [len(gradients)] * len(lines)
        names += [f"{path.name} line {line}" for line in lines]
    gradient, piola = np.concatenate(gradients), np.concatenate(piolas)
    determinants = np.linalg.det(np.where(np.isfinite(gradient), gradient, 0.0))
    bad = ~(determinants > 0) | ~np.isfinite(piola).all(axis=(1, 2)) | ~np.isfinite(gradient).all(axis=(1, 2))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        finite = np.all(np.isfinite(gradient[first])) and np.all(np.isfinite(piola[first]))
        value = f"det F = {determinants[first]:.3g}" if finite else "NaN or infinity"
        raise ValueError(
            f"read_tables: expected finite F and P with det F > 0, got {value} in {names[first]} and "
            f"{int(bad.sum()) - 1} more. Check the columns (--columns), or remove these lines."
        )
    # S = F⁻¹ P; what is not symmetric in it is the table's own noise in the moment balance P Fᵀ = F Pᵀ.
    second = np.linalg.solve(gradient, piola)
    stress = mandel.to_mandel(second)
    skew = 0.5 * np.linalg.norm(second - np.swapaxes(second, 1, 2)) / max(float(np.linalg.norm(second)), 1e-300)
    if skew > 0.05:
        raise ValueError(
            f"read_tables: expected P with F⁻¹P symmetric, got a skew part of {100 * skew:.1f} %. Check that F and P "
            "are row-major and P is first Piola–Kirchhoff (--columns names transposed columns)."
        )
    energy = None if any(e is None for e in energies) else np.concatenate([e for e in energies if e is not None])
    return StrainData(
        strain=mandel.green_lagrange(gradient),
        stress=stress,
        energy=energy,
        deformation_gradient=gradient,
        cauchy=mandel.cauchy_stress(stress, gradient),
        group=group,
        units=units,
        names=names,
        # each table is a load path, whose neighbouring states are nearly the same; few of them cannot be split by path
        series=np.array(series) if len(paths) >= 4 else None,
        provenance={"source": [Path(path).name for path in paths], "reader": "table", "skew_part": float(skew)},
    )


def _numbers(name: str, text: str, width: int) -> tuple[np.ndarray, list[int]]:
    """Rows of numbers of a table, each at least `width` long, and their lines (from 1), without comments and titles."""
    rows: list[list[float]] = []
    lines: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#") or (not rows and not any(_is_number(word) for word in words)):
            continue
        if re.search(r"\d,\d", line) and re.search(r"\s", re.sub(r"\s*,\s*", ",", line.strip())):
            raise ValueError(
                f"read_tables: expected columns parted by spaces or by commas, got both in {name} line {number}. Write "
                "numbers with a decimal point."
            )
        wrong = next((word for word in words if not _is_number(word)), None)
        if wrong is not None:
            raise ValueError(
                f"read_tables: expected a table of numbers, got {wrong!r} in {name} line {number}. Correct it, or "
                "start the line with #."
            )
        if len(words) < width or (rows and len(words) != len(rows[0])):
            raise ValueError(
                f"read_tables: expected rows of at least {width} numbers, all of one length, got {len(words)} in "
                f"{name} line {number}. Name the columns with --columns."
            )
        rows.append([float(word) for word in words])
        lines.append(number)
    if not rows:
        remedy = "Part columns by commas or spaces" if ";" in text else "Check which file this is"
        raise ValueError(f"read_tables: expected rows of numbers, got none in {name}. {remedy}.")
    return np.array(rows), lines


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _titles(text: str) -> list[str]:
    for line in text.splitlines():
        if "F11" in line:
            return line.lstrip("# ").replace(",", " ").split()
    letters = [f"{letter}{i}{j}" for letter in "FP" for i in "123" for j in "123"]
    return [*letters, "W"]
