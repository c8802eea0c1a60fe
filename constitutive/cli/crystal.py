"""What `constitutive moduli` does with crystal structures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .command import check_output, show_result


def crystal_command(
    structures: Sequence[Path], model: str, output: Path | None, plot: Path | None, as_json: bool
) -> None:
    """Print the moduli of one structure, or a line for each of several; write the result and the picture of one.

    Of several, those that cannot be read are named after the others, and the exit status is 1.
    """
    from crystals.structures import symmetrised

    from ..crystal_moduli import moduli_of_crystals

    if len(structures) > 1 and (output is not None or plot is not None):
        raise ValueError(
            f"--output, --plot: expected one structure, got {len(structures)}. Use --json for several, or one at a time."
        )
    if output is not None:
        check_output(output, (".json", ".law"), structures[0])
    if plot is not None:
        check_output(plot, (".png", ".pdf", ".svg"), structures[0], "--plot")
    crystals, failed = {}, {}
    for path in structures:
        try:
            crystals[path] = symmetrised(path)
        except (ValueError, OSError) as error:
            if len(structures) == 1:
                raise
            failed[path] = str(error)
    results = list(moduli_of_crystals(crystals.values(), model=model))
    written = []
    if output is not None:
        results[0].save(output)
        written.append(str(output))
    if plot is not None:
        results[0].plot(plot)
        written.append(str(plot))
    if len(structures) == 1:
        human = "\n".join([str(results[0]), *(f"written to {name}" for name in written)])
        show_result(human, {**results[0].to_dict(), "written": written}, as_json)
        return
    lines = [f"{'':<28}{'group':<8}{'bulk, GPa':>16}{'shear, GPa':>16}"]
    for path, one in zip(crystals, results, strict=True):
        lines.append(
            f"{path.name[:27]:<28}{one.group.symbol:<8}{one.bulk:>8.1f} ± {one.bulk_std:<5.1f}{one.shear:>8.1f} ± "
            f"{one.shear_std:<5.1f}" + (f" unknown: {', '.join(one.unknown_elements)}" if one.unknown_elements else "")
        )
    notes = sorted({note for one in results for note in one.notes})
    lines += [f"note: {note}" for note in notes]
    lines += [f"no answer for {path}: {reason}" for path, reason in failed.items()]
    machine = [{"structure": str(path), **one.to_dict()} for path, one in zip(crystals, results, strict=True)]
    machine += [{"structure": str(path), "error": reason} for path, reason in failed.items()]
    show_result("\n".join(lines), {"structures": machine}, as_json)
    if failed:
        raise SystemExit(1)
