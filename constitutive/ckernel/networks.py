"""Networks with their first and second derivatives as loops of C, in blocks that keep their sums in registers."""

from __future__ import annotations

import numpy as np

from ..laws.network import ScalarNetwork
from ..laws.symmetric_network import AveragedNetwork, DirectionalNetwork, InvariantNetwork
from .polynomials import Monomials, array, number, weighted_second

#: Sums kept in registers at once: sixteen vector registers less those for what is multiplied.
SUMS = 12
#: Rows of a matrix–vector product taken at once, about: enough to hide the latency of a multiply-add.
ROWS = 8


def entry(i: int, j: int, m: int) -> int:
    """Place of (i, j), i ≤ j, in the upper triangle of m rows."""
    return i * m - i * (i - 1) // 2 + j - i


def product(out: str, rows: int, columns: int, weight: str, x: str, bias: str | None) -> str:
    """out[r] = bias[r] + Σ_i weight(r, i) x[i], in blocks of rows; `weight` names r and i in braces."""
    text, start = "", 0
    # a few rows left over would wait for themselves: as many in each block as in the others, but for one
    blocks = max(1, (rows + ROWS // 2 - 1) // ROWS)
    sizes = [rows // blocks + (k < rows % blocks) for k in range(blocks)]
    for block in sorted(set(sizes), reverse=True):
        stop = start + block * sizes.count(block)
        sums = "".join(f"        v a{k} = ALL({f'{bias}[r + {k}]' if bias else '0.0'});\n" for k in range(block))
        steps = "".join(f"            a{k} += {weight.format(r=f'(r + {k})', i='i')} * y;\n" for k in range(block))
        stores = "".join(f"        {out}[r + {k}] = a{k};\n" for k in range(block))
        text += (
            f"    for (int r = {start}; r < {stop}; r += {block}) {{\n{sums}        for (int i = 0; i < {columns}; i++) {{\n"
            f"            const v y = {x}[i];\n{steps}        }}\n{stores}    }}\n"
        )
        start = stop
    return text


def moved(out: str, rows: int, columns: int, weight: str, x: str, m: int, used: np.ndarray | None = None) -> str:
    """out[r·m + d] = Σ_i weight[r·columns + i] x[i·m + d]: how a layer's activations move in m directions.

    Three directions at a time: four rows of three sums, three x and a weight are sixteen registers. Where `used` (i, d) is
    given, x is zero elsewhere, and the sum over i is written out.
    """
    text = ""
    for group in (range(d, min(d + 3, m)) for d in range(0, m, 3)):
        start, block = 0, SUMS // len(group)
        while start < rows:
            block = min(block, rows - start)
            stop = start + (rows - start) // block * block
            names = [(k, d) for k in range(block) for d in group]

            def step(i: str, some: list[int], block: int = block) -> str:
                lines = "".join(f"            v y{d} = {x}[{m} * {i} + {d}];\n            PIN(y{d});\n" for d in some)
                for k in range(block):
                    lines += "".join(
                        f"            a{k}_{d} += {weight}[(r + {k}) * {columns} + {i}] * y{d};\n" for d in some
                    )
                return lines

            text += f"    for (int r = {start}; r < {stop}; r += {block}) {{\n"
            text += "".join(f"        v a{k}_{d} = ALL(0.0);\n" for k, d in names)
            if used is None:
                text += f"        for (int i = 0; i < {columns}; i++) {{\n{step('i', list(group))}        }}\n"
            else:
                some = [[d for d in group if used[i, d]] for i in range(columns)]
                text += "".join(f"        {{\n{step(str(i), ds)}        }}\n" for i, ds in enumerate(some) if ds)
            text += "".join(f"        {out}[{m} * (r + {k}) + {d}] = a{k}_{d};\n" for k, d in names) + "    }\n"
            start = stop
    return text


def dyads(rows: int, m: int, rates: str, bent: str, slope: str | None) -> str:
    """h += Σ_r bent[r] T_r T_rᵀ, upper triangle of m × m; then T_r *= slope[r], unless that is None."""
    text, i, groups = "", 0, []
    while i < m:
        group = [i]
        while group[-1] + 1 < m and sum(m - k for k in group) + m - group[-1] - 1 <= SUMS:
            group.append(group[-1] + 1)
        groups.append(group)
        i = group[-1] + 1
    for group in reversed(groups):  # the first, which reads all of T, comes last
        pairs = [(k, l) for k in group for l in range(k, m)]
        text += "    {\n" + "".join(f"        v h{k}_{l} = h[{entry(k, l, m)}];\n" for k, l in pairs)
        text += f"        for (int r = 0; r < {rows}; r++) {{\n            v *t = {rates} + {m} * r;\n"
        for k in group:
            text += f"            const v b{k} = {bent}[r] * t[{k}];\n"
            text += "".join(f"            h{k}_{l} += b{k} * t[{l}];\n" for l in range(k, m))
        if slope is not None and group[0] == 0:
            text += f"            const v s = {slope}[r];\n"
            text += "".join(f"            t[{l}] *= s;\n" for l in range(m))
        text += "        }\n" + "".join(f"        h[{entry(k, l, m)}] = h{k}_{l};\n" for k, l in pairs) + "    }\n"
    return text


def network_source(name: str, network: ScalarNetwork, m: int, used: np.ndarray | None = None) -> str:
    """`name_value(first, z, value, dz, slope, bent)` and `name_bend(first, slope, bent, directions, h)`.

    `first` is the first layer's matrix (rows, k). Where `directions` is NULL, h (m = k) is the Hessian in z, else that in the
    m variables whose ∂z/∂x (k, m) `directions` holds;
    it is zero but where `used` says. Slopes and bends of all layers stand one after the other.
    """
    widths, k = network.widths, network.weights[0].shape[1]
    text = ""
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        if layer:
            text += array(f"{name}_w{layer}", weight.detach().numpy())
        text += array(f"{name}_b{layer}", bias.detach().numpy())
    text += array(f"{name}_last", network.last.detach().numpy())
    starts = np.concatenate([[0], np.cumsum(widths)]).tolist()
    widest = max(widths)

    text += (
        f"static NOINLINE void {name}_value(const double *first, const v *z, v *value, v *dz, v *slope, v *bent)\n{{\n"
    )
    text += f"    v a[{widest}], h[{widest}];\n    v sum0 = ALL(0.0), sum1 = sum0, sum2 = sum0, sum3 = sum0;\n"
    for layer, width in enumerate(widths):
        before = k if layer == 0 else widths[layer - 1]
        matrix = "first" if layer == 0 else f"{name}_w{layer}"
        weight = f"{matrix}[{{r}} * {before} + {{i}}]"
        text += product("a", width, before, weight, "z" if layer == 0 else "h", f"{name}_b{layer}")
        text += f"    softplus({width}, a, h, slope + {starts[layer]}, bent + {starts[layer]});\n"
    whole = widths[-1] // 4 * 4  # in four chains of sums: one would wait for itself
    text += f"    for (int i = 0; i < {whole}; i += 4) {{\n"
    text += "".join(f"        sum{c} += {name}_last[i + {c}] * h[i + {c}];\n" for c in range(4)) + "    }\n"
    text += f"    for (int i = {whole}; i < {widths[-1]}; i++)\n        sum0 += {name}_last[i] * h[i];\n"
    text += "    *value = (sum0 + sum1) + (sum2 + sum3);\n"
    # a now holds what reaches the layer from above, h that times its slope
    for layer in range(len(widths) - 1, -1, -1):
        width, start = widths[layer], starts[layer]
        above = f"ALL({name}_last[i])" if layer == len(widths) - 1 else "a[i]"
        text += f"    for (int i = 0; i < {width}; i++) {{\n        const v back = {above};\n"
        text += f"        bent[{start} + i] *= back;\n        h[i] = back * slope[{start} + i];\n    }}\n"
        below = k if layer == 0 else widths[layer - 1]
        matrix = "first" if layer == 0 else f"{name}_w{layer}"
        text += product("dz" if layer == 0 else "a", below, width, f"{matrix}[{{i}} * {below} + {{r}}]", "h", None)
    text += "}\n"

    text += f"static NOINLINE void {name}_bend(const double *first, const v *slope, const v *bent, const v *directions, v *h)\n{{\n"
    text += f"    v moved[{widest * m}], next[{widest * m}];\n    for (int i = 0; i < {m * (m + 1) // 2}; i++)\n        h[i] = ALL(0.0);\n"
    if m == k:
        text += f"    UNUSED(directions);\n    for (int i = 0; i < {widths[0] * k}; i++)\n        moved[i] = ALL(first[i]);\n"
    else:
        text += moved("moved", widths[0], k, "first", "directions", m, used)
    here, there = "moved", "next"
    for layer, width in enumerate(widths):
        last = layer + 1 == len(widths)
        text += dyads(width, m, here, f"(bent + {starts[layer]})", None if last else f"(slope + {starts[layer]})")
        if last:
            break
        text += moved(there, widths[layer + 1], width, f"{name}_w{layer + 1}", here, m)
        here, there = there, here
    return text + ("    UNUSED(next);\n" if len(widths) == 1 else "") + "}\n"


def invariants(network: InvariantNetwork) -> str:
    """`raw` for a network of invariants."""
    s, k, sizes = network.scale, network.invariants.count, network.sizes.numpy()
    m, n = min(6, k), sum(network.widths)
    polynomial = network.invariants
    monomials = Monomials(polynomial, "y")
    values, first = polynomial.values.numpy() / sizes, polynomial.first.numpy().reshape(-1, k, 6) / sizes[:, None]
    text = network_source("net", network, m, np.any(first != 0.0, axis=0))
    text += array("net_w0", network.weights[0].detach().numpy())
    lines = ["static NOINLINE void invariants(const v *y, v *z, v *g)", "{"]
    for p in range(k):
        lines += [f"    z[{p}] = ALL(0.0);", *monomials.sum(f"z[{p}]", values[:, p])]
        for i in range(6):
            lines += [f"    g[{6 * p + i}] = ALL(0.0);", *monomials.sum(f"g[{6 * p + i}]", first[:, p, i])]
    monomials = Monomials(polynomial, "y")
    lines += ["}", "static NOINLINE void invariants_bend(const v *y, const v *dz, v *c)", "{"]
    lines += [
        *weighted_second(polynomial, monomials, lambda p: f"dz[{p}]", sizes),
        "    UNUSED(y);\n    UNUSED(dz);\n    UNUSED(c);\n}\n",
    ]
    text += "\n".join(lines)
    text += f"""static NOINLINE void raw(const v *x, v *value, v *s, v *c)
{{
    v y[6], z[{k}], g[{6 * k}], dz[{k}], slope[{n}], bent[{n}];
    for (int i = 0; i < 6; i++)
        y[i] = x[i] * {number(1.0 / s)};
    invariants(y, z, g);
    net_value(net_w0, z, value, dz, slope, bent);
    *value *= {number(s * s)};
    for (int i = 0; i < 6; i++) {{
        v sum = dz[0] * g[i];
        for (int p = 1; p < {k}; p++)
            sum += dz[p] * g[6 * p + i];
        s[i] = {number(s)} * sum;
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


def average(network: AveragedNetwork) -> str:
    """`raw` for the mean over rotations: each copy is a network of the strain itself with a first layer turned."""
    s, turns, n = network.scale, network.turns.numpy(), sum(network.widths)
    copies = len(turns)
    turned = np.einsum("jk,gki->gji", network.weights[0].detach().numpy(), turns)
    text = network_source("net", network, 6) + array("net_w0", turned)
    return (
        text
        + f"""static NOINLINE void raw(const v *x, v *value, v *s, v *c)
{{
    v y[6], dz[6], h[21], slope[{n}], bent[{n}], one;
    *value = ALL(0.0);
    for (int i = 0; i < 6; i++) {{
        y[i] = x[i] * {number(1.0 / s)};
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
    *value *= {number(s * s / copies)};
    for (int i = 0; i < 6; i++)
        s[i] *= {number(s / copies)};
    for (int i = 0; c && i < 21; i++)
        c[i] *= {number(1.0 / copies)};
}}
"""
    )


def directions(network: DirectionalNetwork) -> str:
    """`raw` for functions of the stretch along lattice directions and of the change of volume."""
    s, volume = network.scale, network.volume
    monomials = Monomials(volume, "x")
    text, first = "", volume.first.numpy().reshape(-1, 6)
    for which, orbit in enumerate(network.orbits):
        assert isinstance(orbit, ScalarNetwork)
        text += network_source(f"net{which}", orbit, 2) + array(f"net{which}_w0", orbit.weights[0].detach().numpy())
    text += array("dyads", network.dyads.numpy())
    lines = ["static NOINLINE void volume(const v *x, v *change, v *slope)", "{", "    *change = ALL(0.0);"]
    lines += monomials.sum("*change", volume.values.numpy()[:, 0] / (3.0 * s))
    for i in range(6):
        lines += [f"    slope[{i}] = ALL(0.0);", *monomials.sum(f"slope[{i}]", first[:, i] / 3.0)]
    monomials = Monomials(volume, "x")
    lines += ["}", "static NOINLINE void volume_bend(const v *x, v by_change, v *c)", "{"]
    lines += [*weighted_second(volume, monomials, lambda _: "by_change", np.array([3.0 / s])), "}\n"]
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
    for which, size in enumerate(network.sizes):
        share = number(1.0 / (size * network.members))
        text += f"""    for (int direction = {start}; direction < {start + size}; direction++) {{
        const double *d = dyads + 6 * direction;
        v along = d[0] * x[0];
        for (int i = 1; i < 6; i++)
            along += d[i] * x[i];
        z[0] = along * {number(1.0 / s)};
        net{which}_value(net{which}_w0, z, &one, dz, slope, bent);
        *value += {share} * one;
        by_change += {share} * dz[1];
        for (int i = 0; i < 6; i++)
            s[i] += ({share} * dz[0]) * d[i];
        if (c) {{
            net{which}_bend(net{which}_w0, slope, bent, NULL, h);
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
        + f"""    *value *= {number(s * s)};
    for (int i = 0; i < 6; i++)
        s[i] = {number(s)} * (s[i] + by_change * cs[i]);
    if (!c)
        return;
    for (int i = 0; i < 6; i++)
        for (int j = i; j < 6; j++)
            c[ENTRY[i][j]] += mixed[i] * cs[j] + cs[i] * mixed[j] + twice * cs[i] * cs[j];
    volume_bend(x, by_change, c);
}}
"""
    )
