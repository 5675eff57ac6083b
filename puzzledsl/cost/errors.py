"""Mistakes that show when costs are made: a hardware profile that cannot run what is asked, a cost table that
does not fit."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic, Span
from puzzledsl.ir.nodes import Where


def span_of(where: Where) -> Span:
    """The span a diagnostic of this stage points at: the declaration."""
    return Span(where.file, where.line, where.column, where.end_line, where.end_column)


class NoPeakForDtype(Diagnostic):
    """A profile without a FLOP rate for the dtype it is to run in."""

    code = "E1001"
    template = "hardware `{name}` has no FLOP/s for {dtype}, which its {role} use"
    help_template = "it has {known}"


class UnknownDtype(Diagnostic):
    """A dtype whose size is not known."""

    code = "E1002"
    template = "hardware `{name}`: `{dtype}` is no dtype"
    help_template = "dtypes: {known}"


class NoLink(Diagnostic):
    """Several GPUs and no link between them."""

    code = "E1003"
    template = "hardware `{name}` has {gpus} GPUs and no bandwidth between them"
    help_template = "give the profile a `link`, in GB/s, or use one GPU"


class TableUnreadable(Diagnostic):
    """A cost table that is missing or no CSV or Parquet."""

    code = "E1011"
    template = "cannot read the cost table `{path}`: {reason}"
    help_template = "{help}"


class TableColumn(Diagnostic):
    """A column that is missing, twice there, or not understood."""

    code = "E1012"
    template = "`{path}`: {problem}"
    help_template = (
        "columns: `layer`, `attention`, `ffn`, and `SCENARIO.METRIC[UNIT]` such as `{scenario}.latency[us]`"
    )


class TableMetrics(Diagnostic):
    """A scenario whose columns do not determine its costs."""

    code = "E1013"
    template = "`{path}` does not say {missing} of scenario `{scenario}`"
    help_template = (
        "a scenario needs `memory`, or `weights` and `kv_cache`; and `latency`, or `ttft` and `tpot`: "
        "add `{scenario}.{example}`"
    )


class TableCell(Diagnostic):
    """A cell that is no number, out of range, empty, or a second row for the same thing."""

    code = "E1014"
    template = "`{path}` line {line}: {problem}"


class TableMissing(Diagnostic):
    """The space has an alternative that the table does not cost."""

    code = "E1015"
    template = "`{path}` has no cost of {what} for scenario `{scenario}` in {layers}"
    help_template = "{help}"


class TableBatch(Diagnostic):
    """A batch that the table was not measured at."""

    code = "E1016"
    template = "`{path}` has no rows for scenario `{scenario}` at batch {batch}"
    help_template = "{help}"


class TableParams(Diagnostic):
    """A parameter count that belongs to another model."""

    code = "E1017"
    template = "`{path}` line {line}: {what} has {got} parameters in the table, {expected} in this parent"
    help_template = (
        "the table was made for another parent; without its `params` column counts come from the shape"
    )
