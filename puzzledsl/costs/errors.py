"""Diagnostics of costs: a hardware profile that cannot run the workload, a cost table that does not fit the space."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoPeakForDtype(Diagnostic, code="E1001"):
    """A profile without a FLOP rate for a dtype that it computes in."""

    template = "hardware `{name}` has no FLOP/s for {dtype}, which its {role} use"
    help_template = "it has {known}"


class TableUnreadable(Diagnostic, code="E1011", template="cannot read the cost table `{path}`: {reason}"):
    """A cost table that is missing or no CSV."""

    help_template = "{help}"


class TableColumn(Diagnostic, code="E1012", template="`{path}`: {problem}"):
    """A column that is missing, duplicate or not understood."""

    help_template = (
        "columns: `layer`, `attention`, `ffn`, and `SCENARIO.METRIC[UNIT]` such as `{scenario}.latency[us]`"
    )


class TableMetrics(Diagnostic, code="E1013"):
    """A scenario of which a table has no columns."""

    template = "`{path}` gives neither sizes nor times of scenario `{scenario}`"
    help_template = "add columns such as `{scenario}.memory[bytes]` and `{scenario}.latency[us]`"


class TableCell(Diagnostic, code="E1014", template="`{path}` {line}: {problem}"):
    """A cell that is not a number, out of range or empty, or a duplicate row."""

    help_template = "{help}"


class TableMissing(Diagnostic, code="E1015"):
    """The space has an alternative without a cost in the table."""

    template = "`{path}` has no cost of {what} for scenario `{scenario}` in {layers}"
    help_template = "{help}"


class TableBatch(Diagnostic, code="E1016"):
    """A batch at which the table was not measured."""

    template = "`{path}` has no rows for scenario `{scenario}` at batch {batch}"
    help_template = "{help}"
