"""Forms of requirements on one layer, on two, and on windows of a few, for every layer of a loop."""

from __future__ import annotations

from benchmarks.structure_form import Draw, Each, Meaning, at_most, equal, form, kv, table, width

# fmt: off


# ---------------------------------------------------------------- two layers


@form("require.equality", "require.for", "require.distinct")
def heads_tied(d: Draw) -> Each:
    return Each(
        f"i in 1..{d.n - 1}", range(1, d.n), lambda c, i: c[i].kv_heads == c[0].kv_heads,
        {"numbers": f"{kv('i')} == {kv(0)}", "values": equal(kv(0), kv("i"), d.kv)},
        {"distinct": "require distinct(attention.kv_heads) <= 1"},
    )


@form("require.equality", "require.for", "require.distinct")
def widths_tied(d: Draw) -> Each:
    return Each(
        f"i in 1..{d.n - 1}", range(1, d.n), lambda c, i: c[i].width == c[0].width,
        {"numbers": f"{width('i')} == {width('0')}", "values": equal(width("i"), width(0), d.widths)},
        {"slice": "require distinct(l.ffn.width for l in layers[0..]) == 1"},
    )


@form("require.equality", "require.and", "require.for")
def tied_in_groups(d: Draw) -> Each:
    a, b = "i", "i - i mod 4"
    return Each(
        f"i in 0..{d.n - 1} where i mod 4 != 0", [i for i in range(d.n) if i % 4],
        lambda c, i: c[i].kv_heads == c[i - i % 4].kv_heads and c[i].width == c[i - i % 4].width,
        {"numbers": f"{width(a)} == {width(b)} and {kv(a)} == {kv(b)}",
         "values": f"{equal(width(a), width(b), d.widths)} and {equal(kv(a), kv(b), d.kv)}"},
        {"slices": f"for g in 0..{d.n - 1} step 4 {{ require distinct(l.ffn.width for l in layers[g..{'min(g + 3, ' + str(d.n - 1) + ')'}]) <= 1"
         f" and distinct(l.attention.kv_heads for l in layers[g..min(g + 3, {d.n - 1})]) <= 1 }}"},
    )


@form("require.equality", "require.and")
def ten_tied(d: Draw) -> Meaning:
    first, *others = sorted(d.rng.choice(d.n, min(11, d.n), replace=False).tolist())
    return Each(
        f"i in {others}", others, lambda c, i: c[i].width == c[first].width and c[i].kv_heads == c[first].kv_heads,
        {"numbers": f"{width('i')} == {width(first)} and {kv('i')} == {kv(first)}",
         "values": f"{equal(width('i'), width(first), d.widths)} and {equal(kv('i'), kv(first), d.kv)}"},
    ).plain()


@form("require.equality", "require.same", "require.same-sides", "search.figures:params")
def ffns_tied(d: Draw) -> Each:
    return Each(
        f"i in 1..{d.n - 1}", range(1, d.n), lambda c, i: c[i].ffn == c[i - 1].ffn,
        {"numbers": "layers[i].ffn.params == layers[i - 1].ffn.params", "same": "layers[i].ffn same as layers[i - 1].ffn"},
        {"distinct": "require distinct(ffn) == 1"},
    )


@form("require.same", "require.same-word", "require.same-sides")
def period(d: Draw) -> Each:
    k = max(2, d.n // 4)
    return Each(
        f"i in {k}..{d.n - 1}", range(k, d.n), lambda c, i: (c[i].attention, c[i].ffn) == (c[i - k].attention, c[i - k].ffn),
        {"same": f"layers[i] same as layers[i - {k}]",
         "halves": f"layers[i].attention same as layers[i - {k}].attention and layers[i].ffn same as layers[i - {k}].ffn",
         "numbers": f"layers[i].attention.params == layers[i - {k}].attention.params and layers[i].ffn.params == layers[i - {k}].ffn.params"},
    )


@form("require.comparison", "search.terms:layers[i].ffn.width")
def widths_never_grow(d: Draw) -> Each:
    return Each(
        f"i in 1..{d.n - 1}", range(1, d.n), lambda c, i: c[i].width <= c[i - 1].width,
        {"numbers": f"{width('i')} <= {width('i - 1')}", "values": at_most(width("i"), width("i - 1"), d.widths)},
    )


@form("require.comparison", "search.figures:kv_heads")
def heads_never_grow(d: Draw) -> Meaning:
    return Each(
        f"i in 0..{d.n - 2}", range(d.n - 1), lambda c, i: c[i + 1].kv_heads <= c[i].kv_heads,
        {"numbers": f"{kv('i')} - {kv('i + 1')} >= 0", "values": at_most(kv("i + 1"), kv("i"), d.kv)},
    ).plain()


@form("require.comparison", "require.and")
def width_steps(d: Draw) -> Each:
    most = d.widths[len(d.widths) // 2]
    a, b = width("i"), width("i - 1")
    return Each(
        f"i in 1..{d.n - 1}", range(1, d.n), lambda c, i: abs(c[i].width - c[i - 1].width) <= most,
        {"chain": f"-{most} <= {a} - {b} <= {most}", "two": f"{a} - {b} <= {most} and {b} - {a} <= {most}",
         "values": table(a, b, d.widths, d.widths, lambda v, u: abs(v - u) <= most)},
    )


@form("require.comparison", "types.linear")
def heads_double(d: Draw) -> Meaning:
    a, b = kv("i"), kv("i - 1")
    return Each(
        f"i in 1..{d.n - 1}", range(1, d.n), lambda c, i: c[i].kv_heads <= 2 * c[i - 1].kv_heads + 1,
        {"numbers": f"{a} <= 2 * {b} + 1", "values": table(b, a, d.kv, d.kv, lambda v, u: u <= 2 * v + 1)},
    ).plain()


@form("require.logic", "require.which-layer")
def alternating(d: Draw) -> Each:
    a, b = "layers[i].attention is noop", "layers[i - 1].attention is noop"
    return Each(
        f"i in 1..{d.n - 1}", range(1, d.n), lambda c, i: (c[i].attention == "noop") != (c[i - 1].attention == "noop"),
        {"formula": f"not ({a} and {b}) and ({a} or {b})", "count": "count(l.attention is noop for l in layers[i - 1..i]) == 1",},
    )


@form("require.same", "require.distinct", "values.spread")
def neighbours_differ(d: Draw) -> Each:
    a, b = "layers[i]", "layers[i - 1]"
    return Each(
        f"i in 1..{d.n - 1}", range(1, d.n), lambda c, i: (c[i].attention, c[i].ffn) != (c[i - 1].attention, c[i - 1].ffn),
        {"same": f"not {a} same as {b}", "halves": f"not ({a}.attention same as {b}.attention and {a}.ffn same as {b}.ffn)",
         "distinct": "distinct(l for l in layers[i - 1..i]) == 2"},
    )


@form("require.equality", "require.logic")
def widths_differ(d: Draw) -> Each:
    a, b = width("i"), width("i - 1")
    return Each(
        f"i in 1..{d.n - 1}", range(1, d.n), lambda c, i: c[i].width != c[i - 1].width,
        {"not": f"not {a} == {b}", "values": table(a, b, d.widths, d.widths, lambda v, u: v != u)},
    )


# ---------------------------------------------------------------- windows of a few layers


@form("require.comparison", "search.terms:count(attention is noop)", "require.which-layer")
def few_gaps_in_four(d: Draw) -> Each:
    noop = "layers[{}].attention is noop"
    pairs = " and ".join(f"not ({noop.format(f'i + {a}')} and {noop.format(f'i + {b}')})" for a in range(4) for b in range(a))
    return Each(
        f"i in 0..{d.n - 4}", range(d.n - 3), lambda c, i: sum(x.attention == "noop" for x in c.layers[i : i + 4]) <= 1,
        {"count": "count(l.attention is noop for l in layers[i..i + 3]) <= 1",
         "sum": "sum(if l.attention is noop then 1 else 0 for l in layers[i..i + 3]) <= 1", "pairs": pairs},
    )


@form("require.comparison", "types.linear", "search.terms:sum(l.ffn.width for l in layers[40..])")
def heads_in_windows(d: Draw) -> Each:
    five = " + ".join(kv(f"i + {k}") for k in range(4))
    return Each(
        f"i in 0..{d.n - 4}", range(d.n - 3), lambda c, i: sum(x.kv_heads for x in c.layers[i : i + 4]) >= 6,
        {"sum": "sum(l.attention.kv_heads for l in layers[i..i + 3]) >= 6",
         "terms": f"{five} >= 6"},
    )


@form("require.logic", "require.which-layer")
def a_full_one_in_three(d: Draw) -> Each:
    top = d.kv[-1]
    return Each(
        f"i in 0..{d.n - 3}", range(d.n - 2), lambda c, i: any(x.kv_heads == top for x in c.layers[i : i + 3]),
        {"any": f"any(l.attention.kv_heads == {top} for l in layers[i..i + 2])", "count": f"count(l.attention.kv_heads == {top} for l in layers[i..i + 2]) >= 1",
         "or": " or ".join(f"{kv(f'i + {k}')} == {top}" for k in range(3))},
    )


@form("require.logic")
def no_cliff(d: Draw) -> Each:
    top, a, b = d.widths[-1], width("i"), width("i - 1")
    return Each(
        f"i in 1..{d.n - 1}", range(1, d.n), lambda c, i: not (c[i - 1].width == top and c[i].width == 0),
        {"not": f"not ({b} == {top} and {a} == 0)", "implies": f"({b} == {top} implies {a} > 0)", "numbers": f"{b} - {a} < {top}"},
    )


@form("require.logic", "types.linear")
def wide_between_gaps(d: Draw) -> Each:
    least = d.widths[-2]
    return Each(
        f"i in 1..{d.n - 2}", range(1, d.n - 1), lambda c, i: c[i].width >= least or c[i - 1].kv_heads + c[i + 1].kv_heads > 0,
        {"implies": f"({kv('i - 1')} == 0 and {kv('i + 1')} == 0 implies {width('i')} >= {least})",
         "or": f"{width('i')} >= {least} or {kv('i - 1')} >= 1 or {kv('i + 1')} > 0",
         "numbers": f"{width('i')} + {least} * {kv('i - 1')} + {least} * {kv('i + 1')} >= {least}"},
    )


# ---------------------------------------------------------------- one layer


@form("require.logic", "types.table", "require.for")
def one_of_the_two(d: Draw) -> Each:
    a, f = "layers[i].attention is noop", "layers[i].ffn is noop"
    return Each(
        f"i in 0..{d.n - 1}", range(d.n), lambda c, i: c[i].attention != "noop" or c[i].ffn != "noop",
        {"implies": f"({a} implies not {f})", "layer": "layers[i] is not noop", "number": "layers[i].params > 0"},
    )


@form("types.pair", "types.not-linear", "values.functions")
def product_of_a_layer(d: Draw) -> Each:
    least = d.widths[1] * 2
    allowed = " or ".join(f"{kv('i')} == {v} and {width('i')} >= {-(-least // v)}" for v in d.kv if v)
    return Each(
        f"i in 0..{d.n - 1} step 3", range(0, d.n, 3), lambda c, i: c[i].kv_heads * c[i].width >= least,
        {"product": f"{kv('i')} * {width('i')} >= {least}", "values": f"({allowed})",},
    )


@form("types.table", "values.if")
def narrow_without_attention(d: Draw) -> Each:
    most = d.widths[-2]
    return Each(
        f"i in 0..{d.n - 1}", range(d.n), lambda c, i: c[i].attention != "noop" or c[i].width <= most,
        {"if": f"(if layers[i].attention is noop then {width('i')} else 0) <= {most}",
         "implies": f"(layers[i].attention is noop implies {width('i')} <= {most})"},
    )


@form("require.layer", "patterns.several", "types.table")
def widths_of_a_list(d: Draw) -> Each:
    kept = [d.widths[0], d.widths[1], d.widths[-1]]
    return Each(
        f"i in 0..{d.n - 1} where i mod 2 == 0", range(0, d.n, 2), lambda c, i: c[i].width in kept,
        {"any": f"any({width('i')} == v for v in {kept})", "or": " or ".join(f"{width('i')} == {v}" for v in kept),
         "not": " and ".join(f"{width('i')} != {v}" for v in d.widths if v not in kept) or f"{width('i')} >= 0"},
    )


@form("search.terms:layers[i].params", "require.ratio")
def small_layers(d: Draw) -> Each:
    own = d.world.params("parent") + d.world.params("parent", ffn=True)
    return Each(
        f"i in 0..{d.n - 1} step 2", range(0, d.n, 2), lambda c, i: c[i].params <= own * 7 // 10,
        {"figure": f"layers[i].params <= {own * 7 // 10}", "sum": f"layers[i].attention.params + layers[i].ffn.params <= {own * 7 // 10}"},
    )


@form("require.constant", "require.for", "types.constant", "values.short-circuit")
def later_layers(d: Draw) -> Each:
    k = d.n // 2
    return Each(
        f"i in 0..{d.n - 1}", range(d.n), lambda c, i: i < k or c[i].attention != "noop" or c[i].ffn != "noop",
        {"or": f"(i < {k} or layers[i] is not noop)", "implies": f"(i >= {k} implies layers[i] is not noop)"},
        {"constant": f"for i in {k}..{d.n - 1} {{\n  require i >= {k}\n  require not layers[i] is noop }}"},
    )
