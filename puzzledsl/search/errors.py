"""Mistakes that show when a search meets its tables: E05xx."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic, Span
from puzzledsl.ir.nodes import Where


def span_of(where: Where) -> Span:
    """The span of a piece of source."""
    return Span(where.file, where.line, where.column, where.end_line, where.end_column)


class NoSolution(Diagnostic):
    """Requirements that no child meets together."""

    code = "E0501"
    template = "search `{name}` has no solution"


class ScoresNotThere(Diagnostic):
    """A search whose score table is not made yet."""

    code = "E0502"
    template = "scores `{name}` are not there yet"
    help_template = "run `pzl score {file} {name}`"


class CostsNotThere(Diagnostic):
    """A search that reads a scenario whose costs are not there."""

    code = "E0503"
    template = "costs of scenario `{name}` are not there yet"
    help_template = "run `pzl measure {file}`"


class AlternativeNotScored(Diagnostic):
    """A score table that leaves out something a layer may become."""

    code = "E0504"
    template = "scores `{name}` do not say what `{alternative}` in layer {layer} scores"
    help_template = "run `pzl score {file} {name}` again, or take the alternative out of the space"


class AlternativeNotCosted(Diagnostic):
    """A cost table that leaves out something a layer may become."""

    code = "E0505"
    template = "the costs of scenario `{name}` leave out `{alternative}` in layer {layer}"
    help_template = "make the costs again, or take the alternative out of the space"


class ScoreTableUnreadable(Diagnostic):
    """A score file that is missing or no table."""

    code = "E0511"
    template = "cannot read the score table `{path}`: {reason}"
    help_template = "{help}"


class ScoreTableCell(Diagnostic):
    """A row of a score table that is not understood."""

    code = "E0512"
    template = "`{path}` line {line}: {problem}"
    help_template = "{help}"


class ScoreTableGap(Diagnostic):
    """A score file without a row for something a layer may become."""

    code = "E0513"
    template = "`{path}` has no score for {missing}"
    help_template = "add a row for each alternative of each layer; `parent` may be left out, it is 0"


class Unbounded(Diagnostic):
    """A number too large to compute with."""

    code = "E0506"
    template = "{what} of search `{name}` is not a finite number"
    help_template = "make the table again: a score or cost in it is not finite"
