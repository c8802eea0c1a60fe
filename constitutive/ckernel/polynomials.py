"""Polynomials of strain as straight lines of C."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np

from crystals import mandel

from ..laws.polynomial import PolynomialMap


def number(value: float) -> str:
    """A constant, exactly."""
    if not np.isfinite(value):
        raise ValueError(f"c_source: expected finite parameters, got {value}. The law is spoilt; fit it again.")
    text = float(value).hex()
    return f"({text})" if text.startswith("-") else text


def array(name: str, values: Any) -> str:
    flat = [number(value).strip("()") for value in np.asarray(values, dtype=float).reshape(-1)]
    lines = [", ".join(flat[start : start + 6]) for start in range(0, len(flat), 6)] or ["0.0"]
    return f"static const double {name}[{max(1, len(flat))}] = {{\n    " + ",\n    ".join(lines) + "};\n"


class Monomials:
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
        products = []
        for coefficient, places in _alike(terms):
            total = " ".join(f"{'-' if negative else '+'} {self.name(place)}" for place, negative in places)
            products.append(f"{number(coefficient)} * ({total.removeprefix('+ ')})")
        if not factor:
            return [*lines, *(f"    {target} += {product};" for product in products)]
        return [
            *lines, f"    {{\n        v t = {products[0]};", *(f"        t += {p};" for p in products[1:]),
            f"        {target} += {factor} * t;\n    }}",
        ]  # fmt: skip


def _alike(terms: list[tuple[int, float]]) -> list[tuple[float, list[tuple[int, bool]]]]:
    """Terms (place, coefficient) by coefficient: one for those that are equal to rounding but for the sign.

    Symmetry makes many of them equal; additions are cheaper than products where processors have units of their own for them.
    """
    groups: list[tuple[float, list[tuple[int, bool]]]] = []
    for place, value in terms:
        for coefficient, places in groups:
            if abs(abs(value) - abs(coefficient)) <= 8e-16 * abs(coefficient):
                places.append((place, value * coefficient < 0.0))
                break
        else:
            groups.append((value, [(place, False)]))
    return groups


def side_by_side(sums: list[list[str]], number: int = 4) -> list[str]:
    """Lines of several sums, a few in turns: the terms of one alone would wait for each other."""
    lines = []
    for start in range(0, len(sums), number):
        some = sums[start : start + number]
        lines += [line for one in some for line in one if line.startswith("    const v m")]
        terms = [[line for line in one if not line.startswith("    const v m")] for one in some]
        lines += [line for turn in zip_longest(*terms) for line in turn if line is not None]
    return lines


def weighted_second(polynomial: PolynomialMap, monomials: Monomials, weight: Any, scale: np.ndarray) -> list[str]:
    """c[·] += Σ_k weight_k ∂²p_k / scale_k, lines of C."""
    lines: list[str] = []
    second, of = polynomial.second.numpy(), polynomial.second_polynomial.tolist()
    entries = polynomial.scatter.numpy().argmax(axis=1).tolist()
    for column, (k, entry) in enumerate(zip(of, entries, strict=True)):
        lines += monomials.sum(f"c[{entry}]", second[:, column] / scale[k], weight(k))
    return lines


def single(name: str, polynomial: PolynomialMap, quadratic: np.ndarray) -> str:
    """`name(x, w, s, c)` adds ½ x·quadratic·x + p(x) with its derivatives."""
    monomials = Monomials(polynomial, "x")
    values, first = polynomial.values.numpy()[:, 0], polynomial.first.numpy().reshape(-1, 6)
    lines = [f"static NOINLINE void {name}(const v *x, v *w, v *s, v *c)", "{", "    v linear[6];"]
    for i in range(6):
        products = [f"{number(q)} * x[{j}]" for j, q in enumerate(quadratic[i]) if q != 0.0]
        lines.append(f"    linear[{i}] = {' + '.join(products) or 'ALL(0.0)'};")
    lines.append(
        "    for (int i = 0; i < 6; i++) {\n        *w += 0.5 * linear[i] * x[i];\n        s[i] += linear[i];\n    }"
    )
    sums = [monomials.sum("*w", values), *(monomials.sum(f"s[{i}]", first[:, i]) for i in range(6))]
    lines += side_by_side(sums)
    lines.append("    if (!c)\n        return;")
    packed = mandel.pack_upper(quadratic)
    second = np.zeros((len(values), 21))
    second[:, polynomial.scatter.numpy().argmax(axis=1)] = polynomial.second.numpy()
    second[0] += packed
    lines += side_by_side([monomials.sum(f"c[{entry}]", second[:, entry]) for entry in range(21)])
    return "\n".join([*lines, "}", ""])
