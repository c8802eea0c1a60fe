"""`constitutive export`: a law for programs that know nothing of Python."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click

from crystals.whole_file import whole_file

from .command import check_output, json_option, main, sentence, show_result, timed

#: States that the test program checks, and the largest deviation that it lets pass.
STATES = 64
TOLERANCE = 1e-12


@main.command(short_help="A law as one C file.")
@click.argument("law", type=click.Path(path_type=Path))
@click.option("--to", "language", type=click.Choice(["c"]), default="c", show_default=True, help="Language.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="C file to write. Default: LAW with .c, here.")
@json_option
@sentence
@timed
def export(law: Path, language: str, output: Path | None, as_json: bool) -> None:
    """Write a law as one C file without dependencies, with its header and a test program that checks it.

    \b
    constitutive export copper.law --to c
    cc -O3 copper.c copper_test.c -o copper_test -lm && ./copper_test
    """
    from ..ckernel import c_source, header
    from ..storage import load

    target = output or Path(law.stem).with_suffix(".c")
    check_output(target, (".c",), law)
    if re.search(r"[\"\\\x00-\x1f\x7f]", target.name):
        # the test program includes the header by its name
        raise ValueError(
            f"--output: expected a file name without quotes, backslashes and line ends, got {target.name!r}. Choose another."
        )
    name = re.sub(r"[^A-Za-z0-9_]", "_", target.stem)
    name = f"law_{name}" if name[0].isdigit() else name
    found = load(law)
    test = target.with_name(f"{target.stem}_test.c")
    texts = {
        target: c_source(found, name, f"{law.name}: {type(found).__name__} of {found.group.symbol}, {found.units}"),
        target.with_suffix(".h"): header(name),
        test: _test_program(found, name, target.with_suffix(".h").name),
    }
    for path, text in texts.items():
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    written, program = " ".join(str(path) for path in texts), test.with_suffix("")
    command = shlex.join(["cc", "-O3", "-march=native", f"{target}", f"{test}", "-o", f"{program}", "-lm"])
    show_result(f"written: {written}\ncheck it: {command} && {shlex.quote(str(program.absolute()))}",
                {"law": str(law), "language": language, "files": [str(path) for path in texts], "function": f"{name}_response"},
                as_json)  # fmt: skip


def _test_program(law: Any, name: str, header_name: str) -> str:
    """C program that evaluates the exported law at stored strains and compares; exit status 1 where it deviates."""
    import numpy as np

    from ..audit import sample_strains
    from ..evaluator import Evaluator

    radius = min(law.max_strain, 0.1)
    strain = sample_strains(1.2 * radius, STATES, np.random.default_rng(0))
    strain[0], strain[1] = 0.0, [-0.6, 0, 0, 0, 0, 0]  # at rest, and what no deformation does
    answer = Evaluator(law, "torch").response(strain)
    energy, stress, tangent = (np.nan_to_num(a, nan=0.0) for a in answer[:3])
    scale = float(np.linalg.norm(law.stiffness()))

    def table(label: str, array: np.ndarray) -> str:
        flat = [float(value).hex() for value in np.asarray(array, dtype=float).reshape(-1)]
        rows = [", ".join(flat[start : start + 6]) for start in range(0, len(flat), 6)]
        return f"static const double {label}[{len(flat)}] = {{\n    " + ",\n    ".join(rows) + "};\n"

    return f"""/* Checks {name}_response against {STATES} stored states of the law that it was made from. */
#include <math.h>
#include <stdio.h>
#include "{header_name}"
#define N {STATES}
{table("STRAIN", strain)}{table("ENERGY", energy)}{table("STRESS", stress)}{table("TANGENT", tangent)}
static const int STATUS[N] = {{{", ".join(str(int(s)) for s in answer.status)}}};

int main(void)
{{
    static double energy[N], stress[6 * N], tangent[21 * N];
    static int8_t status[N];
    double worst = 0.0;
    int wrong = 0;
    {name}_response(N, STRAIN, NULL, 0, energy, stress, tangent, NULL, status);
    for (int i = 0; i < N; i++) {{
        double size = 0.0, ds = 0.0, dc = 0.0;
        wrong += status[i] != STATUS[i];
        if (STATUS[i] == 2) {{
            wrong += !isnan(stress[6 * i]);
            continue;
        }}
        for (int k = 0; k < 6; k++) {{
            size += STRAIN[6 * i + k] * STRAIN[6 * i + k];
            ds += pow(stress[6 * i + k] - STRESS[6 * i + k], 2);
        }}
        for (int k = 0; k < 21; k++)
            dc += pow(tangent[21 * i + k] - TANGENT[21 * i + k], 2);
        /* |dS| / (|C(0)| max(|E|, 1e-3)), |dC| / |C(0)|, |dW| / (|C(0)| r^2) */
        const double errors[3] = {{sqrt(ds) / ({scale.hex()} * fmax(sqrt(size), 1e-3)), sqrt(dc) / {scale.hex()},
                                  fabs(energy[i] - ENERGY[i]) / {(scale * radius**2).hex()}}};
        for (int k = 0; k < 3; k++)
            if (!(errors[k] <= worst)) /* also where it is not a number */
                worst = errors[k];
    }}
    printf("{name}: %d states, largest deviation %.1e, %d of another status: %s\\n", N, worst, wrong,
           worst <= {TOLERANCE} && !wrong ? "passed" : "FAILED");
    return !(worst <= {TOLERANCE} && !wrong);
}}
"""
