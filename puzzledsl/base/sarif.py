"""Diagnostics as SARIF 2.1.0, the format code hosts and editors read findings in.

Lines and columns are 1-based code points, the end exclusive, as in a `Span`: SARIF calls that `unicodeCodePoints`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from puzzledsl.base.diagnostics import Diagnostic, Fix, Span

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
Json = dict[str, object]


def to_sarif(diagnostics: Iterable[Diagnostic], version: str, locate: Callable[[str], str]) -> Json:
    """One SARIF log of one run. `locate` turns the file of a span into a path that exists (`std/…` is no path)."""
    shown = list(diagnostics)
    kinds = {d.code: type(d) for d in shown}
    codes = sorted(kinds)
    place = _Places(locate)
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {"name": "pzl", "version": version, "rules": [_rule(kinds[c]) for c in codes]}
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(d, codes.index(d.code), place) for d in shown],
            }
        ],
    }


def _rule(kind: type[Diagnostic]) -> Json:
    summary = (kind.__doc__ or "").split("\n", 1)[0]
    return {
        "id": kind.code,
        "name": kind.__name__,
        "shortDescription": {"text": summary},
        "help": {"text": f"{summary} See `pzl explain {kind.code}`."},
        "defaultConfiguration": {"level": kind.severity},
    }


def _result(diagnostic: Diagnostic, rule: int, place: _Places) -> Json:
    words = [diagnostic.message, diagnostic.label, *diagnostic.notes]
    if diagnostic.help:
        words.append(f"help: {diagnostic.help}")
    found: Json = {
        "ruleId": diagnostic.code,
        "ruleIndex": rule,
        "level": diagnostic.severity,
        "message": {"text": "\n".join(word for word in words if word)},
        "locations": [] if diagnostic.span is None else [place.location(diagnostic.span)],
    }
    related = [
        {
            "id": number,
            **place.location(label.span),
            **({"message": {"text": label.text}} if label.text else {}),
        }
        for number, label in enumerate(diagnostic.secondary)
    ]
    if related:
        found["relatedLocations"] = related
    if diagnostic.fixes:
        found["fixes"] = [place.fix(fix) for fix in diagnostic.fixes]
    return found


class _Places:
    """Spans to SARIF's locations."""

    def __init__(self, locate: Callable[[str], str]) -> None:
        self.locate = locate

    def location(self, span: Span) -> Json:
        return {"physicalLocation": {"artifactLocation": self.artifact(span.file), "region": _region(span)}}

    def artifact(self, file: str) -> Json:
        path = Path(self.locate(file))
        return {"uri": path.as_uri() if path.is_absolute() else quote(path.as_posix())}

    def fix(self, fix: Fix) -> Json:
        """A fix; its edits by file, as SARIF groups them."""
        files: Sequence[str] = list(dict.fromkeys(edit.span.file for edit in fix.edits))
        changes = [
            {
                "artifactLocation": self.artifact(file),
                "replacements": [
                    {"deletedRegion": _region(edit.span), "insertedContent": {"text": edit.text}}
                    for edit in fix.edits
                    if edit.span.file == file
                ],
            }
            for file in files
        ]
        return {"description": {"text": fix.title}, "artifactChanges": changes}


def _region(span: Span) -> Json:
    return {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
