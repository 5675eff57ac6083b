"""Mistakes found when text is read."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic, Span
from puzzledsl.ir.nodes import Where


def span_of(where: Where) -> Span:
    """The place a declaration was written at."""
    return Span(where.file, where.line, where.column, where.end_line, where.end_column)


class DataMissing(Diagnostic):
    """No file matches."""

    code = "E1201"
    template = "data `{name}`: no file matches `{pattern}` in `{base}`"
    help_template = "paths start at the `.pzl` file's directory; correct the path or put the files there"


class DataUnreadable(Diagnostic):
    """A file is there but is not what it should be."""

    code = "E1202"
    template = "data `{name}`: cannot read `{file}`: {reason}"
    help_template = "{fix}"


class ColumnMissing(Diagnostic):
    """A record lacks the column that holds the text."""

    code = "E1203"
    template = "data `{name}`: `{file}` has no text in column `{column}` ({place})"
    help_template = "columns there: {columns}"


class NotEnoughText(Diagnostic):
    """The text is shorter than the budget."""

    code = "E1204"
    template = "data `{name}` has {got} tokens of text; {needed} are needed ({blocks} blocks of {context})"
    help_template = "add text, or ask for at most {got} tokens in all"


class LibraryNotInstalled(Diagnostic):
    """A data format needs a package that is not installed."""

    code = "E1205"
    template = "data `{name}` needs the Python package `{package}`, which is not installed"
    help_template = '`pip install {package}`, or save the text as files and use `text("…")` or `jsonl("…")`'


class TasksMissing(Diagnostic):
    """A task file cannot be read."""

    code = "E1206"
    template = "cannot read the tasks `{file}`: {reason}"
    help_template = "paths start at the `.pzl` file's directory"


class BadTask(Diagnostic):
    """A line of a task file is no item."""

    code = "E1207"
    template = "line {line} of `{file}` is no multiple-choice item: {reason}"
    help_template = 'a line looks like {{"context": "2 + 2 is", "choices": ["four", "five"], "answer": 0}}'
