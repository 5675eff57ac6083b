"""Forms of requirements on all layers, of metrics, goals and preferences; and all forms, those on few layers first."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import groupby, pairwise

import benchmarks.structure_few  # noqa: F401, its forms
from benchmarks.structure_form import FORMS, Draw, Each, Meaning, at_most, equal, form, kv, table, width
from benchmarks.structure_text import KV_HEADS, MIXTURE, VOCAB, WINDOWS, Child, Layer

__all__ = ["FORMS"]

# fmt: off


# ---------------------------------------------------------------- all layers


@form("require.equality", "search.terms:count(attention is noop)", "require.which-layer")
def gaps_counted(d: Draw) -> Meaning:
    k = d.part(0.3)
    return Meaning(
        lambda c: sum(x.attention == "noop" for x in c) == k,
        {"count": f"require count(attention is noop) == {k}",
         "sum": f"require sum(if l.attention is noop then 1 else 0 for l in layers) == {k}",
         "others": f"require count(attention is not noop) >= {d.n - k} and count(attention is not noop) <= {d.n - k}"},
    )


@form("require.comparison", "require.for", "values.spread")
def each_width_often(d: Draw) -> Meaning:
    k = max(1, d.n // (2 * len(d.widths)))
    return Meaning(
        lambda c: all(sum(x.width == v for x in c) >= k for v in d.widths),
        {"counts": f"for v in {d.widths} {{ require count(l.ffn.width == v for l in layers) >= {k} }}",
         "sums": "\n".join(f"require sum(if l.ffn.width == {v} then 1 else 0 for l in layers) >= {k}" for v in d.widths),
         "all": f"require {' and '.join(f'count(l.ffn.width == {v} for l in layers) >= {k}' for v in d.widths)}"},
    )


@form("require.and", "search.terms:sum(l.ffn.width for l in layers[40..])", "values.chains")
def staged_heads(d: Draw) -> Meaning:
    size = max(2, d.n // 4)
    low, high = size * 3, size * 5
    stages = [range(a, min(a + size, d.n)) for a in range(0, d.n - d.n % size, size)]
    text = "sum(l.attention.kv_heads for l in layers[{0}..{1}])"
    spans = [(s[0], s[-1]) for s in stages]
    return Meaning(
        lambda c: all(low <= sum(c[i].kv_heads for i in stage) <= high for stage in stages),
        {"chain": "\n".join(f"require {low} <= {text.format(a, b)} <= {high}" for a, b in spans),
         "loop": f"for a in 0..{d.n - d.n % size - 1} step {size} {{ require {low} <= {text.format('a', f'a + {size - 1}')} and {text.format('a', f'a + {size - 1}')} <= {high} }}",
         "mean": "\n".join(f"require 3 <= mean(l.attention.kv_heads for l in layers[{a}..{b}]) <= 5" for a, b in spans)},
    )


@form("require.and", "search.terms:sum(l.ffn.width for l in layers[40..])")
def heads_of_short_slices(d: Draw) -> Meaning:
    size = min(5, d.n)
    heads, firsts = 2 * size + 6, range(0, d.n - d.n % size, size)
    text = f"sum(l.attention.kv_heads for l in layers[a..a + {size - 1}]) == {heads}"
    return Meaning(
        lambda c: all(sum(c[i].kv_heads for i in range(a, a + size)) == heads for a in firsts),
        {"loop": f"for a in 0..{firsts[-1]} step {size} {{ require {text} }}"},
    )


@form("search.terms:sum(ffn.width)", "require.ratio", "types.linear")
def half_the_width(d: Draw) -> Meaning:
    most = d.world.shape[2] * d.n // 2
    return Meaning(
        lambda c: sum(x.width for x in c) <= most,
        {"ratio": "require sum(ffn.width) <= 0.5x", "number": f"require sum(ffn.width) <= {most}",
         "mean": f"require mean(l.ffn.width for l in layers) <= {d.world.shape[2] // 2}"},
    )


@form("search.terms:count(attention is noop)", "values.spread", "overrides.step")
def wide_every_second(d: Draw) -> Meaning:
    k, least = d.part(0.3), d.widths[-2]
    return Meaning(
        lambda c: sum(x.width >= least for x in c.layers[::2]) >= k,
        {"where": f"require count(l.ffn.width >= {least} for l in layers where l.index mod 2 == 0) >= {k}",
         "slice": f"require count(l.ffn.width >= {least} for l in layers[0.. step 2]) >= {k}"},
    )


@form("search.terms:l.index", "types.linear", "values.products")
def weighted_by_depth(d: Draw) -> Meaning:
    least = sum(range(d.n)) * 3
    return Meaning(
        lambda c: sum(i * x.kv_heads for i, x in enumerate(c)) >= least,
        {"sum": f"require sum(l.index * l.attention.kv_heads for l in layers) >= {least}",
         "share": f"require sum(l.attention.kv_heads * (l.index / {d.n}) for l in layers) >= {Fraction(least, d.n)}",
         "terms": f"require {' + '.join(f'{i} * {kv(i)}' for i in range(d.n))} >= {least}"},
    )


@form("types.pair", "types.not-linear", "search.figures:width")
def products_added_up(d: Draw) -> Meaning:
    least = d.world.shape[2] * d.n * 2
    return Meaning(
        lambda c: sum(x.kv_heads * x.width for x in c) >= least,
        {"product": f"require sum(l.attention.kv_heads * l.ffn.width for l in layers) >= {least}",
         "if": f"require sum(if l.ffn is noop then 0 else l.ffn.width * l.attention.kv_heads for l in layers) >= {least}"},
    )


@form("types.table", "values.if")
def width_beside_attention(d: Draw) -> Meaning:
    most = d.world.shape[2] * d.n // 3
    return Meaning(
        lambda c: sum(x.width for x in c if x.attention != "noop") <= most,
        {"if": f"require sum(if l.attention is noop then 0 else l.ffn.width for l in layers) <= {most}",
         "times": f"require sum(l.ffn.width * (if l.attention is not noop then 1 else 0) for l in layers) <= {most}"},
    )


@form("types.table", "values.functions")
def ratio_of_sums(d: Draw) -> Meaning:
    hidden = d.world.shape[0]
    return Meaning(
        lambda c: sum(x.width for x in c) >= hidden * sum(min(x.kv_heads, 2) for x in c),
        {"sums": f"require sum(ffn.width) >= {hidden} * sum(min(l.attention.kv_heads, 2) for l in layers)",
         "one": f"require sum(l.ffn.width / {hidden} - min(l.attention.kv_heads, 2) for l in layers) >= 0"},
    )


def gaps(c: Child, holds: Callable[[Layer], bool]) -> list[int]:
    """The lengths of the runs of layers in which something holds."""
    return [len([*run]) for met, run in groupby(c, holds) if met]


@form("require.runs", "require.consecutive", "require.tally")
def two_gaps(d: Draw) -> Meaning:
    return Meaning(
        lambda c: 1 <= len(gaps(c, lambda x: x.attention == "noop")) <= 2,
        {"runs": "require 1 <= runs(attention is noop) <= 2", "layers": "require runs(l.attention is noop for l in layers) <= 2 and runs(attention is noop) >= 1",
         "or": "require runs(attention is noop) == 1 or runs(attention is noop) == 2"},
    )


@form("require.runs", "require.tally")
def short_gaps(d: Draw) -> Meaning:
    three = "layers[i].ffn is noop and layers[i + 1].ffn is noop and layers[i + 2].ffn is noop"
    return Meaning(
        lambda c: max(gaps(c, lambda x: x.ffn == "noop"), default=0) <= 2,
        {"longest": "require longest(ffn is noop) <= 2", "formula": f"for i in 0..{d.n - 3} {{ require not ({three}) }}",
         "counts": f"for i in 0..{d.n - 3} {{ require count(l.ffn is noop for l in layers[i..i + 2]) <= 2 }}"},
    )


@form("require.tally", "require.runs", "require.logic")
def one_gap_or_short_ones(d: Draw) -> Meaning:
    def holds(c: Child) -> bool:
        found = gaps(c, lambda x: x.attention == "noop")
        return len(found) <= 1 or max(found) <= 3

    return Meaning(
        holds,
        {"or": "require runs(attention is noop) <= 1 or longest(attention is noop) <= 3",
         "implies": "require longest(attention is noop) > 3 implies runs(l.attention is noop for l in layers) < 2"},
    )


@form("require.distinct", "search.figures:width")
def two_widths(d: Draw) -> Meaning:
    pairs = [(a, b) for k, a in enumerate(d.widths) for b in d.widths[:k]]
    either = [f"all(l.ffn.width == {a} or l.ffn.width == {b} for l in layers)" for a, b in pairs]
    return Meaning(
        lambda c: len({x.width for x in c}) <= 2,
        {"distinct": "require distinct(ffn.width) <= 2", "share": f"require distinct(l.ffn.width / {d.world.shape[2]} for l in layers) < 3",
         "all": f"require {' or '.join(either)}"},
    )


@form("require.distinct")
def two_attentions(d: Draw) -> Meaning:
    return Meaning(
        lambda c: len({x.attention for x in c}) == 2,
        {"distinct": "require distinct(attention) == 2", "params": "require distinct(l.attention.params for l in layers) == 2"},
    )


@form("require.distinct")
def three_layers(d: Draw) -> Meaning:
    return Meaning(
        lambda c: len({(x.attention, x.ffn) for x in c}) <= 3,
        {"layers": "require distinct(layers) <= 3", "each": "require distinct(l for l in layers[0..]) < 4"},
    )


@form("require.and", "require.equality", "require.comparison")
def tied_heads_and_narrowing(d: Draw) -> Meaning:
    numbers = f"{kv('i')} == {kv(0)} and {width('i')} <= {width('i - 1')}"
    values = f"{equal(kv(0), kv('i'), d.kv)} and {at_most(width('i'), width('i - 1'), d.widths)}"
    return Meaning(
        lambda c: len({x.kv_heads for x in c}) == 1 and all(b.width <= a.width for a, b in pairwise(c)),
        {"numbers": f"for i in 1..{d.n - 1} {{ require {numbers} }}", "values": f"for i in 1..{d.n - 1} {{ require {values} }}",
         "two": f"require distinct(attention.kv_heads) == 1\nfor i in 1..{d.n - 1} {{ require {width('i')} <= {width('i - 1')} }}"},
    )


@form("require.comparison", "require.for")
def wide_in_the_middle(d: Draw) -> Meaning:
    k = d.n // 2
    up, down = (f"for i in {a}..{b} {{{{ require {{}} }}}}" for a, b in ((1, k), (k + 1, d.n - 1)))
    return Meaning(
        lambda c: all((x.width <= y.width) if y.index <= k else (y.width <= x.width) for x, y in pairwise(c)),
        {"numbers": up.format(f"{width('i - 1')} <= {width('i')}") + "\n" + down.format(f"{width('i')} <= {width('i - 1')}"),
         "values": up.format(at_most(width("i - 1"), width("i"), d.widths)) + "\n" + down.format(at_most(width("i"), width("i - 1"), d.widths))},
    )


@form("require.layer", "require.logic", "solver.fixed")
def ends_kept_middle_dropped(d: Draw) -> Meaning:
    a, b = d.n // 2, d.n // 2 + max(0, d.n // 16 - 1)
    kept, middle = [0, 1, d.n - 1], range(a, b + 1)
    return Meaning(
        lambda c: all(c[i].attention == c[i].ffn == "parent" for i in kept) and all(c[i].dropped for i in middle),
        {"all": f"require all(l is parent for l in layers[..1, -1]) and all(l is noop for l in layers[{a}..{b}])",
         "for": f"for i in {kept} {{ require layers[i] is parent }}\nfor i in {a}..{b} {{ require layers[i].attention is noop and layers[i].ffn is noop }}",
         "count": f"require count(l is parent for l in layers[..1, -1]) == 3\nrequire count(l is noop for l in layers[{a}..{b}]) == {b - a + 1}"},
    )


@form("require.logic")
def chains_of_three(d: Draw) -> Meaning:
    triples = [d.rng.choice(d.n, 3, replace=False).tolist() for _ in range(d.n // 2)]
    least = d.widths[-2]
    one, two = "({0} == 0 implies {1} >= {3} or {2} >= 1)", "({0} > 0 or {1} >= {3} or {2} > 0)"
    text = [[way.format(kv(i), width(j), kv(k), least) for i, j, k in triples] for way in (one, two)]
    number = [f"{least} * {kv(i)} + {width(j)} + {least} * {kv(k)} >= {least}" for i, j, k in triples]
    return Meaning(
        lambda c: all(c[i].kv_heads or c[j].width >= least or c[k].kv_heads for i, j, k in triples),
        {way: "\n".join(f"require {t}" for t in texts) for way, texts in zip(("implies", "or", "numbers"), (*text, number), strict=True)},
    )


@form("score.runs", "search.terms:kl", runs=True)
def runs_scored(d: Draw) -> Meaning:
    return Meaning(lambda c: any(x.dropped for x in c), {"any": "require any(l is noop for l in layers)", "count": "require count(layers[i] is noop for i in 0..LAST) >= 1".replace("LAST", str(d.n - 1))})


# ---------------------------------------------------------------- metrics, goals, preferences


@form("require.throughput", "require.ratio", "search.terms:chat.memory", alone=True)
def budgets_alone(d: Draw) -> Meaning:
    share, limit = d.rng.choice(["0.5", "0.625", "0.8"]), d.between(0.5, 0.8)
    faster = 1 / Fraction(share)
    return Meaning(
        lambda c: c.metric("chat", "latency") <= Fraction(share) * c.parent.metric("chat", "latency")
        and c.metric("chat", "memory") <= limit * c.parent.metric("chat", "memory"),
        {"throughput": f"require chat.throughput >= {float(faster)}x and chat.memory <= {float(limit)}x",
         "latency": f"require chat.latency <= {share}x\nrequire chat.memory <= {float(limit)}x",
         "parts": f"require chat.ttft + 1024 * chat.tpot <= {share}x\nrequire chat.memory <= {float(limit)}x"},
        budgets=False,
    )


@form("require.ratio", "require.and", "search.batches", alone=True)
def pair_of_scenarios(d: Draw) -> Meaning:
    a, b = d.between(0.55, 0.8), d.between(0.6, 0.9)
    return Meaning(
        lambda c: c.share("chat", "tpot") <= a and c.share("rag", "ttft") <= b and c.share("rag", "kv_cache") <= a
        and c.share("chat", "weights") <= Fraction("0.9"),
        {"and": f"require chat.tpot <= {float(a)}x and rag.ttft <= {float(b)}x and rag.kv_cache <= {float(a)}x and chat.weights <= 0.9x",
         "each": f"require chat.tpot <= {float(a)}x\nrequire rag.ttft <= {float(b)}x\nrequire {float(a)}x >= rag.kv_cache\nrequire 0.9x >= chat.weights"},
        budgets=False,
    )


@form("hardware.running", "require.ratio", "search.terms:chat.memory", priced=True, alone=True)
def cost_and_energy(d: Draw) -> Meaning:
    a, b = d.between(0.5, 0.8), d.between(0.6, 0.9)
    return Meaning(
        lambda c: c.share("chat", "cost_per_mtok") <= a and c.share("rag", "joules_per_tok") <= b and c.share("chat", "flops") <= Fraction("0.9"),
        {"money": f"require chat.cost_per_mtok <= {float(a)}x\nrequire rag.joules_per_tok <= {float(b)}x\nrequire chat.flops <= 0.9x",
         "time": f"require chat.latency <= {float(a)}x and rag.latency <= {float(b)}x and chat.flops <= 0.9x"},
        budgets=False,
    )


@form("search.terms:params", "search.terms:layers[i].params", "require.ratio")
def fewer_params(d: Draw) -> Meaning:
    hidden = d.world.shape[0]
    each = d.world.params("parent") + d.world.params("parent", ffn=True)
    fixed = 2 * VOCAB * hidden + hidden
    most = (fixed + each * d.n) * 65 // 100
    return Meaning(
        lambda c: c.params <= most,
        {"params": f"require params <= {most}", "sum": f"require sum(l.params for l in layers) <= {most} - {fixed}",
         "halves": f"require sum(attention.params) + sum(ffn.params) + {fixed} <= {most}"},
    )


@form("search.goal", "search.grain", "require.ratio", "search.terms:kl", alone=True)
def fastest_within_a_loss(d: Draw) -> Meaning:
    most = Fraction(sum(d.world.scores[i, "noop", "noop"] for i in range(d.n)), 10**9 * 20)
    most = Fraction(f"{float(most):.6f}")
    return Meaning(
        lambda c: c.kl <= most,
        {"bound": f"require kl <= {float(most):.6f}", "half": f"require 0.5 * kl <= {float(most) / 2:.7f}"},
        goal="maximize chat.throughput", value=lambda c: c.metric("chat", "latency"), budgets=False,
    )


@form("search.goal", "types.linear", "require.equality", alone=True)
def goal_with_a_price(d: Draw) -> Meaning:
    return Meaning(
        lambda c: c[0].kv_heads == c[d.n - 1].kv_heads,
        {"equal": f"require {kv(0)} == {kv(-1)}", "chain": f"require {kv(0)} <= {kv(-1)} <= {kv(0)}"},
        goal="minimize kl + 0.001 * count(attention is noop)",
        value=lambda c: c.kl + Fraction(sum(x.attention == "noop" for x in c), 1000),
    )


@form("prefer.order", "prefer.statement", "search.goal", alone=True)
def preferences(d: Draw) -> Meaning:
    return Meaning(
        lambda c: sum(x.attention == "noop" for x in c) >= 1,
        {"counts": "require any(l.attention is noop for l in layers)\nprefer -count(l is noop for l in layers)\nprefer layers[0].ffn is not noop",
         "sums": "require count(attention is noop) >= 1\nprefer -sum(if l is noop then 1 else 0 for l in layers)\nprefer count(l.ffn is not noop for l in layers[..0])"},
        goal="maximize count(ffn is parent)", value=lambda c: -sum(x.ffn == "parent" for x in c),
        prefer=(lambda c: -sum(x.dropped for x in c), lambda c: c[0].ffn != "noop"),
    )


@form("solutions.apart", "search.goal", alone=True)
def several_answers(d: Draw) -> Meaning:
    return Meaning(
        lambda c: c[0].kv_heads >= c[1].kv_heads,
        {"numbers": f"require {kv(0)} >= {kv(1)}\nsolutions 4 apart 3", "values": f"require {at_most(kv(1), kv(0), d.kv)}\nsolutions 4 apart 3"},
        solutions=(4, 3),
    )


@form("search.inherits", "require.comparison", alone=True)
def inherited(d: Draw) -> Meaning:
    k = d.part(0.6)
    first = f"search first of w {{ minimize kl, require count(attention is not noop) <= {k}\n  BUDGETS }}"
    return Meaning(
        lambda c: sum(x.attention != "noop" for x in c) <= k and all(b.width <= 2 * a.width for a, b in pairwise(c) if a.width),
        {"numbers": f"for i in 1..{d.n - 1} {{ require {width('i')} <= 2 * {width('i - 1')} or {width('i - 1')} == 0 }}",
         "values": f"for i in 1..{d.n - 1} {{ require {table(width('i - 1'), width('i'), d.widths, d.widths, lambda v, u: not v or u <= 2 * v)} }}"},
        goal="", before=first, head="search best of first",
    )


@form("search.batches", "scenario.batch-term", "require.throughput", priced=True, alone=True)
def batch_left_open(d: Draw) -> Meaning:
    most = d.between(0.7, 0.9)
    return Meaning(
        lambda c: c.metric("chat", "memory") <= most * c.parent.metric("chat", "memory") and c.batches["chat"] >= 32
        and c.metric("chat", "throughput") >= Fraction("1.2") * c.parent.metric("chat", "throughput"),
        {"and": f"require chat.memory <= {float(most)}x and chat.batch >= 32 and chat.throughput >= 1.2x",
         "each": f"require chat.memory <= {float(most)}x\nrequire chat.batch > 31\nrequire chat.throughput >= 1.2x"},
        scenarios="scenario chat on h = batch(16 | 32 | 64, 128 -> 1024)\n", budgets=False,
    )


@form("search.score-space", "require.same", alone=True)
def two_spaces(d: Draw) -> Meaning:
    other = "space narrow of p { ffn = parent | noop }\nscore loss of narrow = table(\"scores.csv\")\nsearch other of narrow { minimize loss, require params <= 0.8x }"
    return Meaning(
        lambda c: (c[0].attention, c[0].ffn) == (c[d.n - 1].attention, c[d.n - 1].ffn),
        {"same": "require layers[0] same as layers[-1]", "distinct": "require distinct(layers[i] for i in [0, LAST]) == 1".replace("LAST", str(d.n - 1))},
        before=other,
    )


# ---------------------------------------------------------------- figures of other spaces


@form("search.figures:window", "search.figures:heads", "require.equality", menu=WINDOWS)
def capped(d: Draw) -> Meaning:
    k, heads = d.part(0.3), d.world.shape[1]
    return Meaning(
        lambda c: sum(x.window == 1024 for x in c) == k and sum(x.heads for x in c) >= heads * (d.n // 2),
        {"count": f"require count(l.attention.window == 1024 for l in layers) == {k}\nrequire count(attention is not noop) >= {d.n // 2}",
         "sum": f"require sum(attention.window) == {1024 * k}\nrequire sum(attention.heads) >= {heads * (d.n // 2)}",
         "pattern": f"require count(l.attention is gqa(window: 1Ki) for l in layers) == {k}\nrequire mean(attention.heads) >= {Fraction(heads * (d.n // 2), d.n)}"},
    )


@form("search.figures:window", "require.logic", menu=WINDOWS)
def windows_tied(d: Draw) -> Each:
    a, b = "layers[i].attention.window", "layers[i - 2].attention.window"
    return Each(
        f"i in 2..{d.n - 1}", range(2, d.n), lambda c, i: c[i].window == c[i - 2].window,
        {"numbers": f"{a} == {b}", "values": equal(a, b, [0, 1024])},
    )


@form("search.figures:experts", "search.figures:top_k", "search.figures:active_params", "require.equality", menu=MIXTURE)
def experts_tied(d: Draw) -> Each:
    a, b = "layers[i].ffn.experts", "layers[0].ffn.experts"
    values = sorted({e for _, e in d.world.ffns.values()})
    return Each(
        f"i in 1..{d.n - 1}", range(1, d.n), lambda c, i: c[i].experts == c[0].experts,
        {"numbers": f"{a} == {b}", "values": equal(a, b, values)}, {"distinct": "require distinct(ffn.experts) == 1"},
    )


@form("search.figures:experts", "search.figures:top_k", "search.figures:active_params", menu=MIXTURE)
def active_experts(d: Draw) -> Meaning:
    own = d.world.params("parent") + d.world.params("parent", ffn=True, active=True)
    most = own * d.n * 7 // 10
    return Meaning(
        lambda c: sum(x.active_params for x in c) <= most and sum(x.top_k for x in c) >= 8 * (d.n // 2),
        {"figures": f"require sum(l.attention.active_params + l.ffn.active_params for l in layers) <= {most}\nrequire sum(ffn.top_k) >= {8 * (d.n // 2)}",
         "counts": f"require sum(attention.active_params) + sum(ffn.active_params) <= {most} and count(l.ffn.experts > 0 for l in layers) >= {d.n // 2}"},
    )


# ---------------------------------------------------------------- embedding and head


@form("require.ends", "require.logic", ends=True, priced=True)
def rounded_head_keeps_attention(d: Draw) -> Meaning:
    return Meaning(
        lambda c: c.ends[1] != "parent@q4_0" or all(x.attention != "noop" for x in c),
        {"implies": "require head is parent(dtype: q4_0) implies all(l.attention is not noop for l in layers)",
         "each": f"for i in 0..{d.n - 1} {{ require head is not parent(dtype: q4_0) or layers[i].attention is not noop }}",
         "not": "require not (head is parent(dtype: q4_0) and any(l.attention is noop for l in layers))"},
    )


@form("require.ends", "require.which-layer", ends=True, priced=True)
def full_embedding_or_full_middle(d: Draw) -> Meaning:
    middle = d.n // 2
    return Meaning(
        lambda c: c.ends == ("parent@q8_0", "parent@q8_0") or c[middle].kv_heads == KV_HEADS,
        {"or": f"require embedding is parent(dtype: q8_0) and head is parent(dtype: q8_0) or {kv(middle)} == {KV_HEADS}",
         "each": f"require {kv(middle)} != {KV_HEADS} implies embedding is not parent(dtype: full)\n"
         f"require {kv(middle)} != {KV_HEADS} implies head is not parent(dtype: full | q4_0)"},
    )
