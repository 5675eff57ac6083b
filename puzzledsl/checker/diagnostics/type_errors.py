"""Diagnostics of types, dimensions and units, and of expressions that a search cannot represent: E03xx."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class UnlikeComparison(Diagnostic):
    """A comparison of two different dimensions.

    Both sides of a comparison must have the same dimension. A ratio such as `1.5x` compared with a metric means that
    multiple of the parent's.

    Wrong:
        search s of w { minimize kl, require chat.memory <= 12_000 }
    Right:
        search s of w { minimize kl, require chat.memory <= 12GiB }
    """

    code = "E0301"
    template = "`{op}` compares {left} with {right}"


class UnlikeSum(Diagnostic):
    """A sum or difference of two different dimensions.

    Only equal dimensions can be added: bytes to bytes, seconds to seconds.

    Wrong:
        let total = 8GiB + 3
    Right:
        let total = 8GiB + 3GiB
    """

    code = "E0302"
    template = "`{op}` combines {left} and {right}"
    help_template = "both sides of `{op}` must have the same dimension"


class WrongType(Diagnostic):
    """A value of another type or dimension than needed.

    Every setting and argument has a type and, where it is a quantity, a dimension.

    Wrong:
        space v of p { ffn = mlp(width: 8GiB) }
    Right:
        space v of p { ffn = mlp(width: 96) }
    """

    code = "E0303"
    template = "{what} must be {wanted}, not {got}"


class OutOfRange(Diagnostic):
    """A number of the right type that is out of range.

    The setting or argument does not accept this value.

    Wrong:
        scenario talk on h = batch(0, 128 -> 64)
    Right:
        scenario talk on h = batch(1, 128 -> 64)
    """

    code = "E0304"
    template = "{what} must be {condition}, not {got}"


class UnknownWord(Diagnostic):
    """A word that is not in a closed list.

    Only certain words are allowed here; the help names them.

    Wrong:
        hardware here = measured(device: cpu, dtype: floot32)
    Right:
        hardware here = measured(device: cpu, dtype: fp32)
    """

    code = "E0305"
    template = "`{got}` is no {what}"


class DivisionByZero(Diagnostic):
    """Division or remainder by zero.

    Constants are computed when the program is checked, and the divisor came out as zero.

    Wrong:
        let share = 1 / (p.layers - 4)
    Right:
        let share = 1 / p.layers
    """

    code = "E0306"
    template = "division by zero"


class NotConstant(Diagnostic):
    """A value that only a search decides, where a constant is needed.

    Widths, bounds of ranges and assertions are computed before any search; metrics, scores and `params` are its
    results.

    Wrong:
        assert chat.memory <= 8GiB
    Right:
        search s of w { minimize kl, require chat.memory <= 8GiB }
    """

    code = "E0307"
    template = "{what} must be known before the search, but {got} is what the search decides"


class NotLinear(Diagnostic):
    """A product or quotient of two values that the search decides.

    A search adds up one table per term, which allows it to prove its answer. A product of two tables is not such a
    sum.

    Wrong:
        search s of w { minimize kl * params }
    Right:
        search s of w { minimize kl, require params <= 90% * p.params }
    """

    code = "E0308"
    template = "`{op}` {verb} the search decides, so the expression is not linear"
    help_template = (
        "a search adds per-layer tables: write `constant * {example}`, or one `require` for each of the two; "
        "a product of two figures of one layer is a table of that layer and may stand"
    )


class ThroughputAlone(Diagnostic):
    """Throughput mixed with other terms: it is batch * output / latency, which is not linear.

    Throughput is batch x output / latency. Bounding it or maximising it is linear in the latency; adding
    something to it is not.

    Wrong:
        search s of w { maximize chat.throughput + chat.throughput / 2 + kl }
    Right:
        search s of w { maximize chat.throughput }
    """

    code = "E0309"
    template = "`{metric}` cannot be combined with other terms"


class NotPropositional(Diagnostic):
    """`and`, `or`, `not`, `implies` over something that is not about a layer's choice.

    `and`, `or`, `not` and `implies` join statements about what a layer becomes. Bounds on sums are
    requirements of their own.

    Wrong:
        search s of w { minimize kl, require layers[0].ffn is noop or kl }
    Right:
        search s of w { minimize kl, require layers[0].ffn is noop or layers[1].ffn is noop }
    """

    code = "E0310"
    template = "`{op}` joins statements about layers (`layers[3].ffn is noop`), not {got}"


class WhichLayer(Diagnostic):
    """A statement about all layers, where a statement about one layer is needed.

    A statement about many layers is neither true nor false as a whole: count the layers where it holds, or name one
    layer.

    Wrong:
        search s of w { minimize kl, require attention is noop }
    Right:
        search s of w { minimize kl, require count(attention is noop) <= 2 }
    """

    code = "E0311"
    template = "this is a statement about {layers} at once"
    help_template = "name one layer (`layers[i].{sub_block}`), or count them: `count({text}) <= 8`"


class NothingToDecide(Diagnostic):
    """A constraint or goal that depends on no decision.

    No choice of the search changes its value. Write a condition on constants as an `assert`.

    Wrong:
        search s of w { minimize kl, require p.layers <= 8 }
    Right:
        assert p.layers <= 8
        search s of w { minimize kl }
    """

    code = "E0312"
    template = "{what} does not depend on the child: it is always {value}"
    help_template = "name a metric, a score, `params`, `sum(…)`, `count(…)` or `layers[i]`; for constants there is `assert`"


class NotARequirement(Diagnostic):
    """`require` of something that is neither a comparison nor a statement about layers.

    `require` needs a condition; `minimize`, `maximize` and `prefer` need an amount.

    Wrong:
        search s of w { minimize kl, require chat.memory }
    Right:
        search s of w { minimize kl, require chat.memory <= 8GiB }
    """

    code = "E0313"
    template = "`{keyword}` needs {wanted}, not {got}"


class BadEquality(Diagnostic):
    """`==` on a continuous metric, or `!=` on anything a search decides.

    Metrics and scores take scattered values, so that hardly any child meets one exactly; and `!=` leaves
    out single points, which a bound cannot.

    Wrong:
        search s of w { minimize kl, require chat.memory == 8GiB }
    Right:
        search s of w { minimize kl, require chat.memory <= 8GiB }
    """

    code = "E0314"
    template = "`{op}` cannot be required of {what}"
    help_template = "{instead}"


class AgainstTheGrain(Diagnostic):
    """A goal in the wrong direction: more of a cost, or less throughput.

    Scores are losses, and memory and times are costs: less of them is better. `prefer E` asks for more of `E`, so
    write a minus sign to prefer less.

    Wrong:
        search s of w { minimize kl, prefer chat.latency }
    Right:
        search s of w { minimize kl, prefer -chat.latency }
    """

    code = "W0316"
    severity = "warning"
    template = "`{keyword}` asks for {direction} of `{what}`, of which {other} is better"


class RatioWithoutMetric(Diagnostic):
    """A multiple such as `2x` that is not compared with a single metric.

    `2x` means two times the parent's value of the metric on the other side, so the other side must be one metric
    alone.

    Wrong:
        search s of w { minimize kl, require chat.memory <= 0.5x * chat.memory }
    Right:
        search s of w { minimize kl, require chat.memory <= 0.5x }
    """

    code = "E0315"
    template = "`{text}` means {text} the parent's value, so it stands alone on one side of a comparison"
    help_template = "{instead}"


class NotASum(Diagnostic):
    """`runs`, `longest` or `distinct` in arithmetic, in a goal, or compared with a value that the search decides.

    A search adds up one table per layer. The number of runs, the length of the longest run and the number of
    different values are not such sums: each can only be compared with a constant whole number.

    Wrong:
        search s of w { minimize kl, require runs(attention is noop) + 1 <= 3 }
    Right:
        search s of w { minimize kl, require runs(attention is noop) <= 2 }
    """

    code = "E0317"
    template = "`{text}` is no sum over layers, so it can only be compared with a whole number"
    help_template = "let it stand alone on one side of a comparison: `require {text} <= 2`"


class DiffersByLayer(Diagnostic):
    """A figure of a parent or a space that differs from layer to layer.

    Layers of a parent can have different windows, heads, widths and mixers. A figure without a layer is that of all.

    Wrong:
        parent q = shape(family: qwen2, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192,
            vocab: 256, window: 64, full_every: 2)
        assert q.window == 64
    Right:
        parent q = shape(family: qwen2, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192,
            vocab: 256, window: 64, full_every: 2)
        assert q.layers[0].window == 64
    """

    code = "E0319"
    template = "{what} differs from layer to layer"


class NotAlike(Diagnostic):
    """`same as` between two things that never choose the same.

    `same as` compares two layers, two attentions or two FFNs, by the alternatives that they choose.

    Wrong:
        search s of w { minimize kl, require layers[1] same as layers[2].ffn }
    Right:
        search s of w { minimize kl, require layers[1].ffn same as layers[2].ffn }
    """

    code = "E0318"
    template = "`same as` compares {left} with {right}"
