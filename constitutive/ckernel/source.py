"""A law as one self-contained C file: weights inside, no library beyond libm, several points in the lanes of a vector.

`kernel.c` holds what all laws share (softplus, rotations, the strain measure, the loop over points); this folder writes what
one law needs into it. A polynomial becomes straight lines of code; a layer of a network a loop over its neurons, in
blocks that keep their sums in registers. Constants are written in hexadecimal, so that none is rounded.

Second derivatives of a network go as in `constitutive.laws.network.ScalarNetwork.curvature`: with a_l the activations, T_l =
∂a_l/∂x and r_l = ∂N/∂h_l, they are Σ_l T_lᵀ diag(σ″(a_l) r_l) T_l. x stands for the strain, or for the inputs z of the
network where these are fewer.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import numpy as np

from crystals import mandel
from crystals.invariants import Polynomials
from crystals.rotations import mandel_rotation

from ..laws.domain import REACH
from ..laws.law import Law
from ..laws.polynomial import PolynomialLaw, PolynomialMap
from ..laws.symmetric import SymmetricLaw
from ..laws.symmetric_network import AveragedNetwork, DirectionalNetwork, InvariantNetwork, NoNetwork
from .networks import ROWS, average, directions, invariants
from .polynomials import Monomials, array, number, single


def c_source(law: Law, name: str = "law", title: str | None = None) -> str:
    """C source of a law.

    Parameters
    ----------
    law : Law
        A `SymmetricLaw` or `PolynomialLaw`.
    name : str
        Prefix of the function that others see: `{name}_response`.
    title : str, optional
        First line of the file's comment; by default class and point group.

    Returns
    -------
    str
        C99 with GCC's vector types where the compiler has them. `header` declares what it defines.

    Raises
    ------
    ValueError
        For another family ('not supported: …'), and a name that is no C identifier.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        raise ValueError(f"c_source: expected a C identifier as name, got {name!r}. Use letters, digits and '_'.")
    reason = unsupported(law)
    if reason:
        raise ValueError(f"c_source: {reason}")
    assert isinstance(law, (SymmetricLaw, PolynomialLaw))
    title = title or f"{type(law).__name__} of {law.group.symbol}, {law.units}"
    # nothing that a name or a unit holds can end the comment
    title = re.sub(r"[^A-Za-z0-9 ,.()=/+_-]", "?", title).replace("*/", "?/").replace("/*", "/?")
    return _template().replace("@TITLE@", title).replace("@NAME@", name).replace("@LAW@", _law(law))


def header(name: str = "law") -> str:
    """The header that goes with `c_source`."""
    return f"""#ifndef {name.upper()}_H
#define {name.upper()}_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif
/* Response of the law at n points.
 * strain          n x 6, Mandel (11 22 33 23 13 12, shear times sqrt 2), sample frame
 * rotation        NULL, or proper rotations Q crystal -> sample, 3 x 3 row by row: that of point i begins at
 *                 rotation + i * rotation_stride, so stride 0 is one for all and 9 is one for each
 * energy          n, per reference volume
 * stress          n x 6, second Piola-Kirchhoff (Cauchy for a law of small strain), Mandel, sample frame
 * tangent         n x 21, upper triangle of the Mandel matrix row by row; or NULL, and tangent_single may take it in float
 * status          n: 0 inside the trained range, 1 outside, 2 no possible strain (the other values are then NaN)
 */
void {name}_response(int64_t n, const double *strain, const double *rotation, int64_t rotation_stride, double *energy,
                     double *stress, double *tangent, float *tangent_single, int8_t *status);
#ifdef __cplusplus
}}
#endif
#endif
"""


def unsupported(law: Law) -> str | None:
    """Why a law cannot be written in C, or None where it can."""
    if type(law) is SymmetricLaw or type(law) is PolynomialLaw:
        return None
    return (
        f"not supported: {type(law).__name__} in C. It is evaluated in torch; SymmetricLaw and PolynomialLaw go to C."
    )


def shared_source() -> str:
    """What all laws share (vectors of lanes, Mandel components), for kernels that need no law."""
    return (
        _template().split("#define UNUSED")[0].replace("@TITLE@", "Shared by all laws")
        + "#define UNUSED(x) ((void)(x))\n"
    )


@cache
def _template() -> str:
    return files("constitutive.ckernel").joinpath("kernel.c").read_text(encoding="utf-8")


def _outside(law: Law, frame: np.ndarray) -> str:
    """`outside(x)`: which strains, standard frame, lie outside the trained range."""
    if law.domain is None:
        if not np.isfinite(law.max_strain):
            return "INLINE vi outside(const v *x)\n{\n    UNUSED(x);\n    return WHOLE(0);\n}\n"
        return f"""INLINE vi outside(const v *x)
{{
    v sum = x[0] * x[0];
    for (int i = 1; i < 6; i++)
        sum += x[i] * x[i];
    return LESS(ALL({number((law.max_strain * (1.0 + 1e-9)) ** 2)}), sum);
}}
"""
    domain = law.domain
    whitening, exponents = domain.whitening.cpu().numpy(), domain.exponents.cpu().numpy()
    features, whitening = _factored(whitening)
    table = PolynomialMap(Polynomials(exponents, np.eye(len(exponents))))
    place = {row: i for i, row in enumerate(_table_rows(table))}
    columns = np.zeros((len(features), len(place)))
    columns[:, [place[tuple(row)] for row in exponents.tolist()]] = features
    monomials, lines = Monomials(table, "x"), []
    for k, column in enumerate(columns):
        lines += [f"    v f{k} = ALL(0.0);", *monomials.sum(f"f{k}", column)]
    for start in range(0, len(whitening), ROWS):
        rows = range(start, min(start + ROWS, len(whitening)))
        lines += [f"    v y{r} = ALL(0.0);" for r in rows]
        lines += [
            f"    y{r} += {number(whitening[r, k])} * f{k};"
            for k in range(len(features))
            for r in rows
            if whitening[r, k]
        ]
        lines += [f"    score += y{r} * y{r};" for r in rows]
    # the domain counts strains in the law's own frame
    turn = domain.turn.cpu().numpy() @ mandel_rotation(frame)
    for i, row in enumerate(np.where(np.abs(turn) < 1e-14 * np.abs(turn).max(), 0.0, turn).tolist()):
        terms = [f"{number(value)} * strain[{j}]" for j, value in enumerate(row) if value]
        lines.insert(i, f"    x[{i}] = {' + '.join(terms)};\n    size += x[{i}] * x[{i}];")
    near = f"LANE(size, l) < {number(domain.safe_radius() ** 2)}"
    lines.insert(
        6, f"    for (int l = 0; l < LANES; l++)\n        near &= {near};\n    if (near)\n        return WHOLE(0);"
    )
    inside = " & ".join(
        f"LESS({name} * {number(unit)}, ALL({number(np.nextafter(1.0, 2.0))}))"
        for name, unit in (("score", 1.0 / float(domain.limit)), ("size", REACH**-2))
    )
    return f"""static NOINLINE vi outside(const v *strain)
{{
    v x[6], score = ALL(0.0), size = ALL(0.0);
    int near = 1; /* all points so small that none can be outside */
{chr(10).join(lines)}
    return ~({inside});
}}
"""


def _factored(whitening: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (k, m) with few monomials each and a lower triangle (k, k), whose product has the rows' norm of `whitening`.

    The row space is that of invariants up to a degree, each of its own monomials: what elimination finds. Rows may be
    turned by any rotation: so QR makes what takes the features to scores a triangle. Half the work, or a fifth.
    """
    features, pivots = whitening.copy(), []
    for row in range(len(features)):
        column = int(np.argmax(np.abs(features[row])))
        features[row] /= features[row, column]
        for other in range(len(features)):
            if other != row:
                features[other] -= features[other, column] * features[row]
        pivots.append(column)
    features[np.abs(features) < 1e-11] = 0.0
    # of the rows' values at the pivots
    triangle = np.asarray(np.linalg.qr(whitening[:, pivots][:, ::-1], mode="r"))
    return features, np.tril(triangle[::-1, ::-1])


def _table_rows(table: PolynomialMap) -> list[tuple[int, ...]]:
    """Exponents of the monomials of a map."""
    rows = [(0,) * 6]
    for variable, parent in zip(table.variables.tolist()[1:], table.parents.tolist()[1:], strict=True):
        row = list(rows[parent])
        row[variable] += 1
        rows.append(tuple(row))
    return rows


def _nothing(_network: NoNetwork) -> str:
    """`raw` of a law that is its polynomial."""
    return """static void raw(const v *x, v *w, v *s, v *c)
{
    UNUSED(x);
    *w = ALL(0.0);
    for (int i = 0; i < 6; i++)
        s[i] = ALL(0.0);
    for (int i = 0; c && i < 21; i++)
        c[i] = ALL(0.0);
}
"""


def _law(law: SymmetricLaw | PolynomialLaw) -> str:
    """What `kernel.c` leaves to the law: its constants, `outside`, `at_reference` and `standard`."""
    frame = law.group.frame
    measure = law.measure if isinstance(law, SymmetricLaw) else 1.0
    text = f"#define GREEN_LAGRANGE {int(law.strain_measure == 'green_lagrange')}\n"
    text += f"#define MEASURED {int(measure != 1.0)}\n#define GREEN {number(0.5 * (1.0 + measure))}\n"
    text += f"#define MIRRORED {number(0.5 * (1.0 - measure))}\n"
    text += f"#define TURNED {int(law.turn is not None)}\n" + array("FRAME", frame)
    text += _outside(law, frame)
    if isinstance(law, PolynomialLaw):
        text += single("polynomial", law.fixed.cpu(), law.constants.cpu().numpy())
        return (
            text
            + """typedef struct { int none; } reference;
INLINE void at_reference(reference *rest) { rest->none = 0; }
static NOINLINE void standard(const reference *rest, const v *x, v *w, v *s, v *c)
{
    UNUSED(rest);
    *w = ALL(0.0);
    for (int i = 0; i < 6; i++)
        s[i] = ALL(0.0);
    for (int i = 0; c && i < 21; i++)
        c[i] = ALL(0.0);
    polynomial(x, w, s, c);
}
"""
        )
    networks = {
        InvariantNetwork: invariants, AveragedNetwork: average, DirectionalNetwork: directions, NoNetwork: _nothing,
    }  # fmt: skip
    text += networks[type(law.network)](law.network)
    fixed = law.fixed
    text += single("polynomial", fixed.polynomial, fixed.constants.numpy())
    text += f"#define SATURATED {int(law.saturated)}\n#define OVER_SCALE2 {number(law.strain_scale**-2)}\n"
    text += array("REST", mandel.pack_upper(fixed.hessian).numpy())
    return text + _SYMMETRIC.replace("@SCALE@", number(law.energy_scale))


#: The network less its value and slope at rest, which the same code computes as elsewhere, so that energy and stress there
#: are exactly zero, and less its Hessian there; then the polynomial.
_SYMMETRIC = """typedef struct { v value, slope[6]; } reference;
static void at_reference(reference *rest)
{
    v zero[6];
    for (int i = 0; i < 6; i++)
        zero[i] = ALL(0.0);
    raw(zero, &rest->value, rest->slope, NULL);
}
static NOINLINE void standard(const reference *rest, const v *x, v *w, v *s, v *c)
{
#if SATURATED
    v y[6], q = x[0] * x[0], over, g;
    for (int i = 1; i < 6; i++)
        q += x[i] * x[i];
    q *= OVER_SCALE2;
    over = 1.0 / (1.0 + q * q);
    g = root(root(over));
    for (int i = 0; i < 6; i++)
        y[i] = g * x[i];
#else
    const v *y = x;
#endif
    raw(y, w, s, c);
    *w -= rest->value;
    for (int i = 0; i < 6; i++) {
        v curved = REST[ENTRY[i][0]] * y[0];
        for (int j = 1; j < 6; j++)
            curved += REST[ENTRY[i][j]] * y[j];
        *w -= y[i] * (rest->slope[i] + 0.5 * curved);
        s[i] -= rest->slope[i] + curved;
    }
    for (int i = 0; c && i < 21; i++)
        c[i] -= REST[i];
#if SATURATED
    const v h = -q * over * g * OVER_SCALE2;
    v along = s[0] * x[0];
    for (int i = 1; i < 6; i++)
        along += s[i] * x[i];
    if (c) {
        const v bend = -2.0 * over * g * (1.0 - 2.5 * q * q * over) * (OVER_SCALE2 * OVER_SCALE2);
        v pulled[6], mixed[6], twice = ALL(0.0);
        for (int i = 0; i < 6; i++) {
            pulled[i] = c[ENTRY[i][0]] * x[0];
            for (int j = 1; j < 6; j++)
                pulled[i] += c[ENTRY[i][j]] * x[j];
            twice += pulled[i] * x[i];
        }
        twice = h * h * twice + bend * along;
        for (int i = 0; i < 6; i++)
            mixed[i] = g * h * pulled[i] + h * s[i] + 0.5 * twice * x[i];
        for (int i = 0; i < 6; i++)
            for (int j = i; j < 6; j++)
                c[ENTRY[i][j]] = g * g * c[ENTRY[i][j]] + mixed[i] * x[j] + x[i] * mixed[j] + (i == j ? h * along : ALL(0.0));
    }
    for (int i = 0; i < 6; i++)
        s[i] = g * s[i] + h * along * x[i];
#endif
    polynomial(x, w, s, c);
    *w *= @SCALE@;
    for (int i = 0; i < 6; i++)
        s[i] *= @SCALE@;
    for (int i = 0; c && i < 21; i++)
        c[i] *= @SCALE@;
}
"""
