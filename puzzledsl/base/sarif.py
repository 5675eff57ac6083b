"""Diagnostics as SARIF 2.1.0, the format code hosts and editors read findings in.

Lines and columns are 1-based code points, the end exclusive, as in a `Span`: SARIF calls that `unicodeCodePoints`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from puzzledsl.base.diagnostics import Diagnostic, Fix, Span
from puzzledsl.base.resources import resource
from puzzledsl.base.version import __version__

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
Json = dict[str, object]


def to_sarif(diagnostics: Iterable[Diagnostic]) -> Json:
    """Return one SARIF log of one run."""
    shown = list(diagnostics)
    kinds = {d.code: type(d) for d in shown}
    codes = sorted(kinds)
    driver = {"name": "pzl", "version": __version__, "rules": [_rule(kinds[code]) for code in codes]}
    results = [_result(d, codes.index(d.code)) for d in shown]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(kind: type[Diagnostic]) -> Json:
    summary = (kind.__doc__ or "").split("\n", 1)[0]
    return {
        "id": kind.code,
        "name": kind.__name__,
        "shortDescription": {"text": summary},
        "help": {"text": f"{summary} See `pzl explain {kind.code}`."},
        "defaultConfiguration": {"level": kind.severity},
    }


def _result(diagnostic: Diagnostic, rule: int) -> Json:
    words = [diagnostic.message, diagnostic.label, *diagnostic.notes]
    if diagnostic.help:
        words.append(f"help: {diagnostic.help}")
    found: Json = {
        "ruleId": diagnostic.code,
        "ruleIndex": rule,
        "level": diagnostic.severity,
        "message": {"text": "\n".join(word for word in words if word)},
        "locations": [] if diagnostic.span is None else [_location(diagnostic.span)],
    }
    if diagnostic.secondary:
        found["relatedLocations"] = [
            {"id": n, **_location(label.span), **({"message": {"text": label.text}} if label.text else {})}
            for n, label in enumerate(diagnostic.secondary)
        ]
    if diagnostic.fixes:
        found["fixes"] = [_fix(fix) for fix in diagnostic.fixes]
    return found


def _location(span: Span) -> Json:
    return {"physicalLocation": {"artifactLocation": _artifact(span.file), "region": _region(span)}}


def _artifact(file: str) -> Json:
    """Return the place of a span's file; `std/…` names a shipped one."""
    path = Path(file)
    if file.startswith("std/") and not path.is_file():
        path = resource("spaces", file)
    return {"uri": path.as_uri() if path.is_absolute() else quote(path.as_posix())}


def _fix(fix: Fix) -> Json:
    """Return a fix; its edits by file, as SARIF groups them."""
    changes = [
        {
            "artifactLocation": _artifact(file),
            "replacements": [
                {"deletedRegion": _region(edit.span), "insertedContent": {"text": edit.text}}
                for edit in fix.edits
                if edit.span.file == file
            ],
        }
        for file in dict.fromkeys(edit.span.file for edit in fix.edits)
    ]
    return {"description": {"text": fix.title}, "artifactChanges": changes}


def _region(span: Span) -> Json:
    end = {"endLine": span.end_line, "endColumn": span.end_column}
    return {"startLine": span.line, "startColumn": span.column, **end}
