"""Diagnostics of types, dimensions and units, and of expressions that a search cannot represent: E03xx."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class UnlikeComparison(Diagnostic, code="E0301", template="`{op}` compares {left} with {right}"):
    """A comparison of two different dimensions."""


class UnlikeSum(Diagnostic, code="E0302", template="`{op}` combines {left} and {right}"):
    """A sum or difference of two different dimensions."""

    help_template = "both sides of `{op}` must have the same dimension"


class WrongType(Diagnostic, code="E0303", template="{what} must be {wanted}, not {got}"):
    """A value of another type or dimension than needed."""


class OutOfRange(Diagnostic, code="E0304", template="{what} must be {condition}, not {got}"):
    """A number of the right type that is out of range."""


class UnknownWord(Diagnostic, code="E0305", template="`{got}` is no {what}"):
    """A word that is not in a closed list."""


class DivisionByZero(Diagnostic, code="E0306", template="division by zero"):
    """Division or remainder by zero."""


class NotConstant(Diagnostic, code="E0307"):
    """A value that only a search decides, where a constant is needed."""

    template = "{what} must be known before the search, but {got} is what the search decides"


class NotLinear(Diagnostic, code="E0308"):
    """A product or quotient of two values that the search decides."""

    template = "`{op}` {verb} the search decides, so the expression is not linear"
    help_template = (
        "a search adds per-layer tables: write `constant * {example}`, or one `require` for each of the two; "
        "a product of two figures of one layer is a table of that layer and may stand"
    )


class ThroughputAlone(Diagnostic, code="E0309", template="`{metric}` cannot be combined with other terms"):
    """Throughput mixed with other terms: it is batch * output / latency, which is not linear."""


class NotPropositional(Diagnostic, code="E0310"):
    """`and`, `or`, `not`, `implies` over something that is not about a layer's choice."""

    template = "`{op}` joins statements about layers (`layers[3].ffn is noop`), not {got}"


class WhichLayer(Diagnostic, code="E0311", template="this is a statement about {layers} at once"):
    """A statement about all layers, where a statement about one layer is needed."""

    help_template = "name one layer (`layers[i].{sub_block}`), or count them: `count({text}) <= 8`"


class NothingToDecide(Diagnostic, code="E0312"):
    """A constraint or goal that depends on no decision."""

    template = "{what} does not depend on the child: it is always {value}"
    help_template = "name a metric, a score, `params`, `sum(…)`, `count(…)` or `layers[i]`; for constants there is `assert`"


class NotARequirement(Diagnostic, code="E0313", template="`{keyword}` needs {wanted}, not {got}"):
    """`require` of something that is neither a comparison nor a statement about layers."""


class BadEquality(Diagnostic, code="E0314", template="`{op}` cannot be required of {what}"):
    """`==` on a continuous metric, or `!=` on anything a search decides."""

    help_template = "{instead}"


class AgainstTheGrain(Diagnostic, code="W0316"):
    """A goal in the wrong direction: more of a cost, or less throughput."""

    template = "`{keyword}` asks for {direction} of `{what}`, of which {other} is better"


class RatioWithoutMetric(Diagnostic, code="E0315"):
    """A multiple such as `2x` that is not compared with a single metric."""

    template = "`{text}` means {text} the parent's value, so it stands alone on one side of a comparison"
    help_template = "{instead}"


class NotASum(Diagnostic, code="E0317"):
    """`runs`, `longest` or `distinct` in arithmetic, in a goal, or compared with a value that the search decides."""

    template = "`{text}` is no sum over layers, so it can only be compared with a whole number"
    help_template = "let it stand alone on one side of a comparison: `require {text} <= 2`"


class DiffersByLayer(Diagnostic, code="E0319", template="{what} differs from layer to layer"):
    """A figure of a parent or a space that differs from layer to layer."""


class NotAlike(Diagnostic, code="E0318", template="`same as` compares {left} with {right}"):
    """`same as` between two things that never choose the same."""
