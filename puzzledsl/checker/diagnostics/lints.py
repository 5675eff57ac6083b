"""Warnings: legal but probably unintended. W02xx names, W03xx searches, W04xx spaces."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class UnusedName(Diagnostic, code="W0201", template="{kind} `{name}` is never used"):
    """A name that is never used."""

    help_template = "use it, remove it, or call it `_{name}`"


class UnusedImport(Diagnostic, code="W0202", template="`{name}` of `{path}` is never used"):
    """A name that is imported by `use` and never used."""

    help_template = "leave it out"


class Shadowing(Diagnostic, code="W0203", template="`{name}` hides {what}"):
    """A name that hides another visible name."""

    help_template = "give one of them another name"


class AlwaysHolds(Diagnostic, code="W0301", template="every child of `{space}` meets this: {bound}"):
    """A requirement that every child of the space meets."""

    help_template = "{help}"


class NeverHolds(Diagnostic, code="W0302", template="no child of `{space}` meets this: {bound}"):
    """A requirement that no child of the space meets."""

    help_template = "{help}"


class ExcludeEachOther(Diagnostic, code="W0303"):
    """Two bounds on the same quantity that no child can meet together."""

    template = "no child of `{space}` meets both this bound and another bound on the same quantity"
    help_template = "together they ask for {low} and {high}: change one of the two"


class WrongWayRound(Diagnostic, code="W0304"):
    """A bound in the wrong direction, which the parent meets and better children violate."""

    template = "`{bound}` excludes only children that are better than the parent"
    help_template = "{direction} of `{what}` is better: write `{instead}`"


class WindowUnseen(Diagnostic, code="W0305"):
    """A score on short texts that cannot see the loss caused by a window."""

    template = "`{score}` judges windows of {windows} tokens on texts of {seen:,}, and `{scenario}` goes up to {length:,}"
    help_template = "write `context = {length}` in `{bld}`, and `samples: {length}` or more here"


class FewTokensAnExpert(Diagnostic, code="W0306"):
    """A calibration text that gives an expert fewer tokens than the expert has channels."""

    template = "an expert sees about {seen:,} of {calibration:,} calibration tokens, and has {width:,} channels to fit"
    help_template = "write `calibration = {needed}` or more"


class SameAlternative(Diagnostic, code="W0401", template="this choice has `{name}` twice"):
    """An alternative that the choice already contains."""

    help_template = "{help}"
