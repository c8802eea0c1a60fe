"""A law as one self-contained C file: weights inside, no library beyond libm, several points in the lanes of a vector.

`kernel.c` holds what all laws share (softplus, rotations, the strain measure, the loop over points); this file writes what
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
from typing import Any

import numpy as np

from crystals import mandel
from crystals.invariants import Polynomials

from .laws.domain import REACH
from .laws.law import Law
from .laws.network import ScalarNetwork
from .laws.polynomial import PolynomialLaw, PolynomialMap
from .laws.symmetric import SymmetricLaw
from .laws.symmetric_network import AveragedNetwork, DirectionalNetwork, InvariantNetwork

#: Sums kept in registers at once: sixteen vector registers less those for what is multiplied.
SUMS = 12
#: Rows of a matrix–vector product taken at once: enough to hide the latency of a multiply-add.
ROWS = 8


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


@cache
def _template() -> str:
    return files("constitutive").joinpath("kernel.c").read_text(encoding="utf-8")


def _number(value: float) -> str:
    """A constant, exactly."""
    if not np.isfinite(value):
        raise ValueError(f"c_source: expected finite parameters, got {value}. The law is spoilt; fit it again.")
    text = float(value).hex()
    return f"({text})" if text.startswith("-") else text


def _array(name: str, values: Any) -> str:
    flat = [_number(value).strip("()") for value in np.asarray(values, dtype=float).reshape(-1)]
    lines = [", ".join(flat[start : start + 6]) for start in range(0, len(flat), 6)] or ["0.0"]
    return f"static const double {name}[{max(1, len(flat))}] = {{\n    " + ",\n    ".join(lines) + "};\n"


def _entry(i: int, j: int, m: int) -> int:
    """Place of (i, j), i ≤ j, in the upper triangle of m rows."""
    return i * m - i * (i - 1) // 2 + j - i


# ---------------------------------------------------------------------------------------------- polynomials


class _Monomials:
    """Straight lines of C over the monomials of a `PolynomialMap` of `variable`: sums of them, and what they need."""

    def __init__(self, polynomial: PolynomialMap, variable: str) -> None:
        self.variables, self.parents = polynomial.variables.tolist(), polynomial.parents.tolist()
        self.variable, self.made = variable, [True] + [False] * (len(self.parents) - 1)

    def name(self, place: int) -> str:
        return f"m{place}" if place else "ALL(1.0)"

    def make(self, places: list[int]) -> list[str]:
        """Those monomials, each by one product from one of lower degree, where they are not made yet."""
        lines: list[str] = []
        for place in places:
            if not self.made[place]:
                self.made[place], parent = True, self.parents[place]
                one = f"{self.variable}[{self.variables[place]}]"
                lines += self.make([parent])
                lines.append(f"    const v m{place} = {f'm{parent} * {one}' if parent else one};")
        return lines

    def sum(self, target: str, column: np.ndarray, factor: str = "") -> list[str]:
        """target += [factor ·] Σ column · monomials."""
        terms = [(place, value) for place, value in enumerate(column.tolist()) if value != 0.0]
        if not terms:
            return []
        lines = self.make([place for place, _ in terms])
        products = [f"{_number(c)} * m{p}" if p else f"ALL({_number(c)})" for p, c in terms]
        if not factor:
            return [*lines, *(f"    {target} += {product};" for product in products)]
        return [
            *lines, f"    {{\n        v t = {products[0]};", *(f"        t += {p};" for p in products[1:]),
            f"        {target} += {factor} * t;\n    }}",
        ]  # fmt: skip


def _weighted_second(polynomial: PolynomialMap, monomials: _Monomials, weight: Any, scale: np.ndarray) -> list[str]:
    """c[·] += Σ_k weight_k ∂²p_k / scale_k, lines of C."""
    lines: list[str] = []
    second, of = polynomial.second.numpy(), polynomial.second_polynomial.tolist()
    entries = polynomial.scatter.numpy().argmax(axis=1).tolist()
    for column, (k, entry) in enumerate(zip(of, entries, strict=True)):
        lines += monomials.sum(f"c[{entry}]", second[:, column] / scale[k], weight(k))
    return lines


def _single(name: str, polynomial: PolynomialMap, quadratic: np.ndarray) -> str:
    """`name(x, w, s, c)` adds ½ x·quadratic·x + p(x) with its derivatives."""
    monomials = _Monomials(polynomial, "x")
    values, first = polynomial.values.numpy()[:, 0], polynomial.first.numpy().reshape(-1, 6)
    lines = [f"static NOINLINE void {name}(const v *x, v *w, v *s, v *c)", "{", "    v linear[6];"]
    for i in range(6):
        lines.append(f"    linear[{i}] = {' + '.join(f'{_number(q)} * x[{j}]' for j, q in enumerate(quadratic[i]))};")
    lines.append(
        "    for (int i = 0; i < 6; i++) {\n        *w += 0.5 * linear[i] * x[i];\n        s[i] += linear[i];\n    }"
    )
    lines += monomials.sum("*w", values)
    for i in range(6):
        lines += monomials.sum(f"s[{i}]", first[:, i])
    lines.append("    if (!c)\n        return;")
    packed = mandel.pack_upper(quadratic)
    second = np.zeros((len(values), 21))
    second[:, polynomial.scatter.numpy().argmax(axis=1)] = polynomial.second.numpy()
    for entry in range(21):
        column = second[:, entry].copy()
        column[0] += packed[entry]
        lines += monomials.sum(f"c[{entry}]", column)
    return "\n".join([*lines, "}", ""])


# ------------------------------------------------------------------------------------------------- networks


def _product(out: str, rows: int, columns: int, weight: str, x: str, bias: str | None) -> str:
    """out[r] = bias[r] + Σ_i weight(r, i) x[i], in blocks of rows; `weight` names r and i in braces."""
    text = ""
    whole = rows // ROWS * ROWS
    for first, block in ((0, ROWS if whole else 0), (whole, rows - whole)):
        if not block:
            continue
        loop = f"for (int r = {first}; r < {first + (whole if block == ROWS and not first else block)}; r += {block})"
        sums = "".join(f"        v a{k} = ALL({f'{bias}[r + {k}]' if bias else '0.0'});\n" for k in range(block))
        steps = "".join(f"            a{k} += {weight.format(r=f'(r + {k})', i='i')} * y;\n" for k in range(block))
        stores = "".join(f"        {out}[r + {k}] = a{k};\n" for k in range(block))
        text += (
            f"    {loop} {{\n{sums}        for (int i = 0; i < {columns}; i++) {{\n            const v y = {x}[i];\n"
            f"{steps}        }}\n{stores}    }}\n"
        )
    return text


def _moved(out: str, rows: int, columns: int, weight: str, x: str, m: int) -> str:
    """out[r·m + d] = Σ_i weight[r·columns + i] x[i·m + d]: how a layer's activations move in m directions."""
    text, start, block = "", 0, max(1, SUMS // m)
    while start < rows:
        block = min(block, rows - start)
        stop = start + (rows - start) // block * block
        names = [(k, d) for k in range(block) for d in range(m)]
        sums = "".join(f"        v a{k}_{d} = ALL(0.0);\n" for k, d in names)
        loads = "".join(f"            const v y{d} = {x}[{m} * i + {d}];\n" for d in range(m))
        steps = "".join(f"            a{k}_{d} += {weight}[(r + {k}) * {columns} + i] * y{d};\n" for k, d in names)
        stores = "".join(f"        {out}[{m} * (r + {k}) + {d}] = a{k}_{d};\n" for k, d in names)
        text += (
            f"    for (int r = {start}; r < {stop}; r += {block}) {{\n{sums}"
            f"        for (int i = 0; i < {columns}; i++) {{\n{loads}{steps}        }}\n{stores}    }}\n"
        )
        start = stop
    return text


def _dyads(rows: int, m: int, moved: str, bent: str) -> str:
    """h += Σ_r bent[r] T_r T_rᵀ, upper triangle of m × m."""
    text, i = "", 0
    while i < m:
        group = [i]
        while group[-1] + 1 < m and sum(m - k for k in group) + m - group[-1] - 1 <= SUMS:
            group.append(group[-1] + 1)
        pairs = [(k, l) for k in group for l in range(k, m)]
        text += "    {\n" + "".join(f"        v h{k}_{l} = h[{_entry(k, l, m)}];\n" for k, l in pairs)
        text += f"        for (int r = 0; r < {rows}; r++) {{\n            const v *t = {moved} + {m} * r;\n"
        for k in group:
            text += f"            const v b{k} = {bent}[r] * t[{k}];\n"
            text += "".join(f"            h{k}_{l} += b{k} * t[{l}];\n" for l in range(k, m))
        text += "        }\n" + "".join(f"        h[{_entry(k, l, m)}] = h{k}_{l};\n" for k, l in pairs) + "    }\n"
        i = group[-1] + 1
    return text


def _network(name: str, network: ScalarNetwork, m: int) -> str:
    """`name_value(first, z, value, dz, slope, bent)` and `name_bend(first, slope, bent, directions, h)`.

    `first` is the first layer's matrix (rows, k). Where `directions` is NULL, h (m = k) is the Hessian in z, else that in the
    m variables whose ∂z/∂x (k, m) `directions` holds. Slopes and bends of all layers stand one after the other.
    """
    widths, k = network.widths, network.weights[0].shape[1]
    text = ""
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        if layer:
            text += _array(f"{name}_w{layer}", weight.detach().numpy())
        text += _array(f"{name}_b{layer}", bias.detach().numpy())
    text += _array(f"{name}_last", network.last.detach().numpy())
    starts = np.concatenate([[0], np.cumsum(widths)]).tolist()
    widest = max(widths)

    text += (
        f"static NOINLINE void {name}_value(const double *first, const v *z, v *value, v *dz, v *slope, v *bent)\n{{\n"
    )
    text += f"    v a[{widest}], h[{widest}];\n    v sum = ALL(0.0);\n"
    for layer, width in enumerate(widths):
        before = k if layer == 0 else widths[layer - 1]
        matrix = "first" if layer == 0 else f"{name}_w{layer}"
        text += _product(
            "a", width, before, f"{matrix}[{{r}} * {before} + {{i}}]", "z" if layer == 0 else "h", f"{name}_b{layer}"
        )
        text += f"    for (int i = 0; i < {width}; i++)\n        softplus(a[i], &h[i], &slope[{starts[layer]} + i], &bent[{starts[layer]} + i]);\n"
    text += f"    for (int i = 0; i < {widths[-1]}; i++)\n        sum += {name}_last[i] * h[i];\n    *value = sum;\n"
    # a now holds what reaches the layer from above, h that times its slope
    for layer in range(len(widths) - 1, -1, -1):
        width, start = widths[layer], starts[layer]
        above = f"ALL({name}_last[i])" if layer == len(widths) - 1 else "a[i]"
        text += f"    for (int i = 0; i < {width}; i++) {{\n        const v back = {above};\n"
        text += f"        bent[{start} + i] *= back;\n        h[i] = back * slope[{start} + i];\n    }}\n"
        below = k if layer == 0 else widths[layer - 1]
        matrix = "first" if layer == 0 else f"{name}_w{layer}"
        text += _product("dz" if layer == 0 else "a", below, width, f"{matrix}[{{i}} * {below} + {{r}}]", "h", None)
    text += "}\n"

    text += f"static NOINLINE void {name}_bend(const double *first, const v *slope, const v *bent, const v *directions, v *h)\n{{\n"
    text += f"    v moved[{widest * m}], next[{widest * m}];\n    for (int i = 0; i < {m * (m + 1) // 2}; i++)\n        h[i] = ALL(0.0);\n"
    if m == k:
        text += f"    UNUSED(directions);\n    for (int i = 0; i < {widths[0] * k}; i++)\n        moved[i] = ALL(first[i]);\n"
    else:
        text += _moved("moved", widths[0], k, "first", "directions", m)
    here, there = "moved", "next"
    for layer, width in enumerate(widths):
        text += _dyads(width, m, here, f"(bent + {starts[layer]})")
        if layer + 1 == len(widths):
            break
        text += f"    for (int r = 0; r < {width}; r++)\n        for (int d = 0; d < {m}; d++)\n            {here}[{m} * r + d] *= slope[{starts[layer]} + r];\n"
        text += _moved(there, widths[layer + 1], width, f"{name}_w{layer + 1}", here, m)
        here, there = there, here
    return text + ("    UNUSED(next);\n" if len(widths) == 1 else "") + "}\n"


def _invariants(network: InvariantNetwork) -> str:
    """`raw` for a network of invariants."""
    s, k, sizes = network.scale, network.invariants.count, network.sizes.numpy()
    m, n = min(6, k), sum(network.widths)
    polynomial = network.invariants
    monomials = _Monomials(polynomial, "y")
    values, first = polynomial.values.numpy() / sizes, polynomial.first.numpy().reshape(-1, k, 6) / sizes[:, None]
    text = _network("net", network, m) + _array("net_w0", network.weights[0].detach().numpy())
    lines = ["static NOINLINE void invariants(const v *y, v *z, v *g)", "{"]
    for p in range(k):
        lines += [f"    z[{p}] = ALL(0.0);", *monomials.sum(f"z[{p}]", values[:, p])]
        for i in range(6):
            lines += [f"    g[{6 * p + i}] = ALL(0.0);", *monomials.sum(f"g[{6 * p + i}]", first[:, p, i])]
    monomials = _Monomials(polynomial, "y")
    lines += ["}", "static NOINLINE void invariants_bend(const v *y, const v *dz, v *c)", "{"]
    lines += [
        *_weighted_second(polynomial, monomials, lambda p: f"dz[{p}]", sizes),
        "    UNUSED(y);\n    UNUSED(dz);\n    UNUSED(c);\n}\n",
    ]
    text += "\n".join(lines)
    text += f"""static NOINLINE void raw(const v *x, v *value, v *s, v *c)
{{
    v y[6], z[{k}], g[{6 * k}], dz[{k}], slope[{n}], bent[{n}];
    for (int i = 0; i < 6; i++)
        y[i] = x[i] * {_number(1.0 / s)};
    invariants(y, z, g);
    net_value(net_w0, z, value, dz, slope, bent);
    *value *= {_number(s * s)};
    for (int i = 0; i < 6; i++) {{
        v sum = dz[0] * g[i];
        for (int p = 1; p < {k}; p++)
            sum += dz[p] * g[6 * p + i];
        s[i] = {_number(s)} * sum;
    }}
    if (!c)
        return;
"""
    if m == 6 and k > 6:
        text += "    net_bend(net_w0, slope, bent, g, c);\n"
    else:
        text += f"""    v h[{k * (k + 1) // 2}], half[{6 * k}];
    net_bend(net_w0, slope, bent, NULL, h);
    for (int p = 0; p < {k}; p++)
        for (int i = 0; i < 6; i++) {{
            v sum = ALL(0.0);
            for (int q = 0; q < {k}; q++)
                sum += h[p < q ? p * {k} - p * (p - 1) / 2 + q - p : q * {k} - q * (q - 1) / 2 + p - q] * g[6 * q + i];
            half[6 * p + i] = sum;
        }}
    for (int i = 0; i < 6; i++)
        for (int j = i; j < 6; j++) {{
            v sum = g[i] * half[j];
            for (int p = 1; p < {k}; p++)
                sum += g[6 * p + i] * half[6 * p + j];
            c[ENTRY[i][j]] = sum;
        }}
"""
    return text + "    invariants_bend(y, dz, c);\n}\n"


def _average(network: AveragedNetwork) -> str:
    """`raw` for the mean over rotations: each copy is a network of the strain itself with a first layer turned."""
    s, turns, n = network.scale, network.turns.numpy(), sum(network.widths)
    copies = len(turns)
    turned = np.einsum("jk,gki->gji", network.weights[0].detach().numpy(), turns)
    text = _network("net", network, 6) + _array("net_w0", turned)
    return (
        text
        + f"""static NOINLINE void raw(const v *x, v *value, v *s, v *c)
{{
    v y[6], dz[6], h[21], slope[{n}], bent[{n}], one;
    *value = ALL(0.0);
    for (int i = 0; i < 6; i++) {{
        y[i] = x[i] * {_number(1.0 / s)};
        s[i] = ALL(0.0);
    }}
    for (int i = 0; c && i < 21; i++)
        c[i] = ALL(0.0);
    for (int g = 0; g < {copies}; g++) {{
        const double *first = net_w0 + g * {turned[0].size};
        net_value(first, y, &one, dz, slope, bent);
        *value += one;
        for (int i = 0; i < 6; i++)
            s[i] += dz[i];
        if (c) {{
            net_bend(first, slope, bent, NULL, h);
            for (int i = 0; i < 21; i++)
                c[i] += h[i];
        }}
    }}
    *value *= {_number(s * s / copies)};
    for (int i = 0; i < 6; i++)
        s[i] *= {_number(s / copies)};
    for (int i = 0; c && i < 21; i++)
        c[i] *= {_number(1.0 / copies)};
}}
"""
    )


def _directions(network: DirectionalNetwork) -> str:
    """`raw` for functions of the stretch along lattice directions and of the change of volume."""
    s, volume = network.scale, network.volume
    monomials = _Monomials(volume, "x")
    text, first = "", volume.first.numpy().reshape(-1, 6)
    for number, orbit in enumerate(network.orbits):
        assert isinstance(orbit, ScalarNetwork)
        text += _network(f"net{number}", orbit, 2) + _array(f"net{number}_w0", orbit.weights[0].detach().numpy())
    text += _array("dyads", network.dyads.numpy())
    lines = ["static NOINLINE void volume(const v *x, v *change, v *slope)", "{", "    *change = ALL(0.0);"]
    lines += monomials.sum("*change", volume.values.numpy()[:, 0] / (3.0 * s))
    for i in range(6):
        lines += [f"    slope[{i}] = ALL(0.0);", *monomials.sum(f"slope[{i}]", first[:, i] / 3.0)]
    monomials = _Monomials(volume, "x")
    lines += ["}", "static NOINLINE void volume_bend(const v *x, v by_change, v *c)", "{"]
    lines += [*_weighted_second(volume, monomials, lambda _: "by_change", np.array([3.0 / s])), "}\n"]
    text += "\n".join(lines)
    n = max(sum(orbit.widths) for orbit in network.orbits if isinstance(orbit, ScalarNetwork))
    text += f"""static NOINLINE void raw(const v *x, v *value, v *s, v *c)
{{
    v z[2], dz[2], h[3], slope[{n}], bent[{n}], one, cs[6], mixed[6], by_change = ALL(0.0), twice = ALL(0.0);
    volume(x, &z[1], cs);
    *value = ALL(0.0);
    for (int i = 0; i < 6; i++)
        s[i] = mixed[i] = ALL(0.0);
    for (int i = 0; c && i < 21; i++)
        c[i] = ALL(0.0);
"""
    start = 0
    for number, size in enumerate(network.sizes):
        share = _number(1.0 / size)
        text += f"""    for (int direction = {start}; direction < {start + size}; direction++) {{
        const double *d = dyads + 6 * direction;
        v along = d[0] * x[0];
        for (int i = 1; i < 6; i++)
            along += d[i] * x[i];
        z[0] = along * {_number(1.0 / s)};
        net{number}_value(net{number}_w0, z, &one, dz, slope, bent);
        *value += {share} * one;
        by_change += {share} * dz[1];
        for (int i = 0; i < 6; i++)
            s[i] += ({share} * dz[0]) * d[i];
        if (c) {{
            net{number}_bend(net{number}_w0, slope, bent, NULL, h);
            twice += {share} * h[2];
            for (int i = 0; i < 6; i++) {{
                mixed[i] += ({share} * h[1]) * d[i];
                const v part = ({share} * h[0]) * d[i];
                for (int j = i; j < 6; j++)
                    c[ENTRY[i][j]] += part * d[j];
            }}
        }}
    }}
"""
        start += size
    return (
        text
        + f"""    *value *= {_number(s * s)};
    for (int i = 0; i < 6; i++)
        s[i] = {_number(s)} * (s[i] + by_change * cs[i]);
    if (!c)
        return;
    for (int i = 0; i < 6; i++)
        for (int j = i; j < 6; j++)
            c[ENTRY[i][j]] += mixed[i] * cs[j] + cs[i] * mixed[j] + twice * cs[i] * cs[j];
    volume_bend(x, by_change, c);
}}
"""
    )


# ----------------------------------------------------------------------------------------------------- laws


def _outside(law: Law, frame: np.ndarray) -> str:
    """`outside(x)`: which strains, standard frame, lie outside the trained range."""
    if law.domain is None:
        if not np.isfinite(law.max_strain):
            return "INLINE vi outside(const v *x)\n{\n    UNUSED(x);\n    return WHOLE(0);\n}\n"
        square = _number((law.max_strain * (1.0 + 1e-9)) ** 2)
        return f"INLINE vi outside(const v *x)\n{{\n    v sum = x[0] * x[0];\n    for (int i = 1; i < 6; i++)\n        sum += x[i] * x[i];\n    return LESS(ALL({square}), sum);\n}}\n"
    from crystals.rotations import mandel_rotation

    domain = law.domain
    whitening = domain.whitening.cpu().numpy()
    exponents = domain.exponents.cpu().numpy()
    # what the law's own frame is turned by is turned back
    matrix = domain.turn.cpu().numpy() @ mandel_rotation(frame)
    table = PolynomialMap(Polynomials(exponents, np.eye(len(exponents))))
    rows = [tuple(row) for row in exponents.tolist()]
    place = {row: number for number, row in enumerate(_table_rows(table))}
    lines = [
        "static NOINLINE vi outside(const v *strain)",
        "{",
        f"    v x[6], score = ALL(0.0), features[{len(whitening)}], table[{len(rows)}];",
    ]
    lines.append(
        "    v size = ALL(0.0);\n    for (int i = 0; i < 6; i++) {\n        x[i] = ALL(0.0);\n        for (int j = 0; j < 6; j++)\n            x[i] += domain_turn[6 * i + j] * strain[j];\n        size += x[i] * x[i];\n    }"
    )
    monomials = _Monomials(table, "x")
    lines += monomials.make([place[row] for row in rows])
    lines += [f"    table[{number}] = {monomials.name(place[row])};" for number, row in enumerate(rows)]
    lines.append(
        _product("features", len(whitening), len(rows), f"domain_whitening[{{r}} * {len(rows)} + {{i}}]", "table", None)
    )
    lines.append(f"    for (int i = 0; i < {len(whitening)}; i++)\n        score += features[i] * features[i];")
    lines.append(
        f"    return ~(LESS(score * {_number(1.0 / float(domain.limit))}, ALL(0x1.0000000000001p+0)) & LESS(size * {_number(REACH**-2)}, ALL(0x1.0000000000001p+0)));\n}}\n"
    )
    return _array("domain_turn", matrix) + _array("domain_whitening", whitening) + "\n".join(lines)


def _table_rows(table: PolynomialMap) -> list[tuple[int, ...]]:
    """Exponents of the monomials of a map."""
    rows = [(0,) * 6]
    for variable, parent in zip(table.variables.tolist()[1:], table.parents.tolist()[1:], strict=True):
        row = list(rows[parent])
        row[variable] += 1
        rows.append(tuple(row))
    return rows


def _law(law: SymmetricLaw | PolynomialLaw) -> str:
    """What `kernel.c` leaves to the law: its constants, `outside`, `at_reference` and `standard`."""
    frame = law.group.frame
    measure = law.measure if isinstance(law, SymmetricLaw) else 1.0
    text = f"#define GREEN_LAGRANGE {int(law.strain_measure == 'green_lagrange')}\n"
    text += f"#define MEASURED {int(measure != 1.0)}\n#define GREEN {_number(0.5 * (1.0 + measure))}\n"
    text += f"#define MIRRORED {_number(0.5 * (1.0 - measure))}\n"
    text += f"#define TURNED {int(law.turn is not None)}\n" + _array("FRAME", frame)
    text += _outside(law, frame)
    if isinstance(law, PolynomialLaw):
        text += _single("polynomial", law.fixed.cpu(), law.constants.cpu().numpy())
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
    networks = {InvariantNetwork: _invariants, AveragedNetwork: _average, DirectionalNetwork: _directions}
    text += networks[type(law.network)](law.network)
    text += _single("polynomial", law.fixed.polynomial, law.fixed.quadratic.numpy())
    return (
        text
        + f"""/* the network at rest: computed by the same code as elsewhere, so that energy and stress there are exactly zero */
typedef struct {{ v value, slope[6]; }} reference;
static void at_reference(reference *rest)
{{
    v zero[6];
    for (int i = 0; i < 6; i++)
        zero[i] = ALL(0.0);
    raw(zero, &rest->value, rest->slope, NULL);
}}
static NOINLINE void standard(const reference *rest, const v *x, v *w, v *s, v *c)
{{
    raw(x, w, s, c);
    *w -= rest->value;
    for (int i = 0; i < 6; i++) {{
        *w -= x[i] * rest->slope[i];
        s[i] -= rest->slope[i];
    }}
    polynomial(x, w, s, c);
    *w *= {_number(law.energy_scale)};
    for (int i = 0; i < 6; i++)
        s[i] *= {_number(law.energy_scale)};
    for (int i = 0; c && i < 21; i++)
        c[i] *= {_number(law.energy_scale)};
}}
"""
    )
