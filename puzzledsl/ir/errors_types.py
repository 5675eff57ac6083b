"""Mistakes in types, dimensions and units, and in what a search can express: E03xx."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class UnlikeComparison(Diagnostic):
    """Two dimensions compared."""

    code = "E0301"
    template = "`{op}` compares {left} with {right}"


class UnlikeSum(Diagnostic):
    """Two dimensions added or subtracted."""

    code = "E0302"
    template = "`{op}` combines {left} and {right}"
    help_template = "both sides of `{op}` must have the same dimension"


class WrongType(Diagnostic):
    """A value of another type or dimension than needed."""

    code = "E0303"
    template = "{what} must be {wanted}, not {got}"


class OutOfRange(Diagnostic):
    """A number of the right type that cannot be meant."""

    code = "E0304"
    template = "{what} must be {condition}, not {got}"


class UnknownWord(Diagnostic):
    """A word outside a closed list."""

    code = "E0305"
    template = "`{got}` is no {what}"


class DivisionByZero(Diagnostic):
    """Division or remainder by zero."""

    code = "E0306"
    template = "division by zero"


class NotConstant(Diagnostic):
    """A value that only a search decides, where a constant is needed."""

    code = "E0307"
    template = "{what} must be known before the search, but {got} is what the search decides"


class NotLinear(Diagnostic):
    """A product or quotient of two things the search decides."""

    code = "E0308"
    template = "`{op}` {verb} the search decides, so the expression is not linear"
    help_template = (
        "a search adds per-layer tables: write `constant * {example}`, or one `require` for each of the two"
    )


class ThroughputAlone(Diagnostic):
    """Throughput mixed with other terms: it is batch * output / latency, which is not linear."""

    code = "E0309"
    template = "`{metric}` cannot be combined with other terms"


class NotPropositional(Diagnostic):
    """`and`, `or`, `not`, `implies` over something that is not about a layer's choice."""

    code = "E0310"
    template = "`{op}` joins statements about layers (`layers[3].ffn is noop`), not {got}"


class WhichLayer(Diagnostic):
    """A statement about all layers at once where one layer is meant."""

    code = "E0311"
    template = "this speaks of {count} layers at once"
    help_template = "name one layer (`layers[i].{sub_block}`), or count them: `count({text}) <= 8`"


class NothingToDecide(Diagnostic):
    """A constraint or goal without any decision in it."""

    code = "E0312"
    template = "{what} says nothing about the child: it is always {value}"
    help_template = "name a metric, a score, `params`, `sum(…)`, `count(…)` or `layers[i]`; for constants there is `assert`"


class NotARequirement(Diagnostic):
    """`require` of something that is neither a comparison nor a statement about layers."""

    code = "E0313"
    template = "`{keyword}` needs {wanted}, not {got}"


class BadEquality(Diagnostic):
    """`==` on a continuous metric, or `!=` on anything a search decides."""

    code = "E0314"
    template = "`{op}` cannot be required of {what}"
    help_template = "{instead}"


class RatioWithoutMetric(Diagnostic):
    """`2x` means twice the parent's metric: it needs one on the other side, alone."""

    code = "E0315"
    template = "`{text}` means {text} the parent's value, so it stands alone on one side of a comparison"
    help_template = "{instead}"
