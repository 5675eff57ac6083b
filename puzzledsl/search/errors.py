"""Diagnostics of searches and their tables (E0501 to E0513)."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoSolution(Diagnostic, code="E0501", template="search `{name}` has no solution"):
    """Requirements that no child meets together."""


class ScoresNotThere(Diagnostic, code="E0502", template="scores `{name}` are not there yet"):
    """A search whose score table is not made yet."""

    help_template = "run `pzl score {file} {name}`"


class CostsNotThere(Diagnostic, code="E0503", template="costs of scenario `{name}` are not there yet"):
    """A search with a scenario whose costs are missing."""

    help_template = "run `pzl measure {file}`"


class AlternativeNotScored(Diagnostic, code="E0504"):
    """A score table without an alternative of the space."""

    template = "scores `{name}` have no entry for `{alternative}`{place}"
    help_template = "run `pzl score {file} {name}` again, or take the alternative out of the space"


class AlternativeNotCosted(Diagnostic, code="E0505"):
    """A cost table without an alternative of the space."""

    template = "the costs of scenario `{name}` leave out `{alternative}` in layer {layer}"
    help_template = "make the costs again, or take the alternative out of the space"


class ScoreTableUnreadable(Diagnostic, code="E0511"):
    """A score file that is missing or is not a table."""

    template = "cannot read the score table `{path}`: {reason}"
    help_template = "{help}"


class ScoreTableCell(Diagnostic, code="E0512", template="`{path}` {line}: {problem}"):
    """An invalid row of a score table."""

    help_template = "{help}"


class ScoreTableGap(Diagnostic, code="E0513", template="`{path}` has no score for {missing}"):
    """A score file without a row for an alternative of the space."""

    help_template = "add a row for each alternative of each layer; `parent` may be left out, it is 0"


class MetricUnknown(Diagnostic, code="E0508"):
    """A search that mentions a metric which its scenario's cost table does not have."""

    template = "the costs of scenario `{scenario}` do not give its {metric}"
    help_template = (
        "add a column `{scenario}.{column}` to the table, or take `{scenario}.{metric}` out of the search"
    )


class NoAnswerInTime(Diagnostic, code="E0507", template="search `{name}`: no solution found by {how}"):
    """A search that found no solution in its time, and no proof that there is none."""


class Unbounded(Diagnostic, code="E0506", template="{what} of search `{name}` is not a finite number"):
    """A score or cost that is not a finite number."""

    help_template = "make the table again: a score or cost in it is not finite"
