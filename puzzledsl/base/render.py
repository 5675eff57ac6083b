"""Diagnostics as text in the style of rustc, and as JSON for editors and CI.

Plain strings and ANSI codes: rendering needs no heavy import. Span columns are code points, whereas output is
measured in terminal cells: tabs are expanded, wide characters count twice, and control characters are replaced.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic, Label, Span
from puzzledsl.base.frozen import Record

TAB = 4
_STYLES = {"error": "1;31", "warning": "1;33", "gutter": "1;34", "bold": "1", "secondary": "1;34", "": ""}
"""Style -> ANSI code."""

Paint = Callable[[str, str], str]  # (text, style) -> the text, coloured if colours are on.


def _painted(color: bool, text: str, style: str) -> str:
    code = _STYLES[style]
    return f"\x1b[{code}m{text}\x1b[0m" if color and code and text else text


class _Underline(Record):
    """Underline within one line, from cell `start` to `stop` (exclusive), with its label; `primary`: drawn with `^`."""

    start: int
    stop: int
    text: str
    primary: bool


def render_all(
    diagnostics: Iterable[Diagnostic], sources: Mapping[str, str], *, color: bool, width: int = 120
) -> str:
    """Render every diagnostic, each followed by an empty line, and a line that counts them; nothing for none."""
    shown = list(diagnostics)
    text = "".join(render(d, sources, color=color, width=width) + "\n\n" for d in shown)
    return text + (counts(shown) + "\n" if shown else "")


def counts(diagnostics: Sequence[Diagnostic]) -> str:
    """Return the numbers of errors and warnings: `2 errors, 1 warning`."""
    errors = sum(d.severity == "error" for d in diagnostics)
    numbers = ((errors, "error"), (len(diagnostics) - errors, "warning"))
    return ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for n, word in numbers if n)


def render(diagnostic: Diagnostic, sources: Mapping[str, str], *, color: bool, width: int = 120) -> str:
    """Render one diagnostic with the source lines it refers to, without a final newline.

    `sources`: file name in spans -> text; for a missing file only the place is shown. `width`: terminal cells of a line.
    """
    paint = partial(_painted, color)
    severity = diagnostic.severity
    head = paint(f"{severity}[{diagnostic.code}]", severity) + paint(f": {clean(diagnostic.message)}", "bold")
    parts = _parts(diagnostic)
    last_line = max((span.end_line for span, _, _ in parts), default=1)
    gutter = len(str(last_line))
    out = [head]
    files = list(dict.fromkeys(span.file for span, _, _ in parts))
    for number, file in enumerate(files):
        here = [p for p in parts if p[0].file == file]
        at = here[0][0]
        arrow = "-->" if number == 0 else ":::"
        out.append(" " * gutter + paint(arrow, "gutter") + f" {clean(file)}:{at.line}:{at.column}")
        if file in sources:
            out += _excerpt(here, sources[file], gutter, severity, paint, width)
    told = [*(("note", note) for note in diagnostic.notes), ("help", diagnostic.help)]
    for word, text in told if diagnostic.help else told[:-1]:
        first, *rest = clean(text).split("\n")
        out.append(" " * (gutter + 1) + paint("=", "gutter") + f" {paint(word, 'bold')}: {first}")
        out += [" " * (gutter + 5 + len(word)) + line for line in rest]
    return "\n".join(out)


def sources_for(
    diagnostics: Iterable[Diagnostic], known: Mapping[str, str], roots: Iterable[Path]
) -> dict[str, str]:
    """Return `known` with the texts of the other files that diagnostics point into, where a folder of `roots` has them."""
    sources, folders = dict(known), [*roots]
    for diagnostic in diagnostics:
        for span in [diagnostic.span, *(label.span for label in diagnostic.secondary)]:
            if span is not None and span.file not in sources:
                found = [path for root in folders if (path := root / span.file).is_file()]
                if found:  # of others only the place is shown
                    sources[span.file] = found[0].read_text("utf-8", "replace")
    return sources


def to_json(diagnostics: Iterable[Diagnostic]) -> dict[str, object]:
    """Return diagnostics as one JSON document: 1-based lines and columns in code points, the end exclusive."""
    return {"format_version": "1.0", "diagnostics": [_one_as_json(d) for d in diagnostics]}


def _one_as_json(diagnostic: Diagnostic) -> dict[str, object]:
    """Return one diagnostic as a JSON object. The primary label, the secondary labels and the notes become `related`."""
    labels = [Label(diagnostic.span, diagnostic.label)] if diagnostic.span and diagnostic.label else []
    related = [{"message": label.text, **_place(label.span)} for label in (*labels, *diagnostic.secondary)]
    related += [{"message": note, **_place(None)} for note in diagnostic.notes]
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        **_place(diagnostic.span),
        "help": diagnostic.help,
        "related": related,
    }


def clean(text: str) -> str:
    """Return the text with placeholders for characters, but newlines and tabs, that move the cursor or reverse the writing."""
    if _is_one_cell_each(text.replace("\n", "")):
        return text
    return "".join(c if c == "\n" or _is_plain(c) else "\ufffd" for c in text)


def _place(span: Span | None) -> dict[str, object]:
    if span is None:
        return {"file": None, "start": None, "end": None}
    start = {"line": span.line, "column": span.column}
    return {"file": span.file, "start": start, "end": {"line": span.end_line, "column": span.end_column}}


def _parts(diagnostic: Diagnostic) -> list[tuple[Span, str, bool]]:
    """Return the spans to underline with their texts, the primary span first."""
    secondary = [(label.span, clean(label.text), False) for label in diagnostic.secondary]
    return ([(diagnostic.span, clean(diagnostic.label), True)] if diagnostic.span else []) + secondary


def _is_plain(character: str) -> bool:
    return character in " \t" or unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp", "Cs", "Cn")


def _is_one_cell_each(text: str) -> bool:
    """True for ASCII without control characters: nothing in it is replaced, and every character takes one cell."""
    return text.isascii() and text.isprintable()


def _expand(line: str) -> tuple[str, list[int]]:
    """Return the line as drawn, and the cell at which each of its code points (and its end) begins."""
    if _is_one_cell_each(line):
        return line, list(range(len(line) + 1))
    drawn: list[str] = []
    starts: list[int] = []
    cell = 0
    for character in line:
        starts.append(cell)
        if character == "\t":
            step = TAB - cell % TAB
            drawn.append(" " * step)
        elif not _is_plain(character):
            step = 1
            drawn.append("\ufffd")
        else:
            wide = unicodedata.east_asian_width(character) in "WF"
            step = 0 if unicodedata.combining(character) else 1 + wide
            drawn.append(character)
        cell += step
    return "".join(drawn), [*starts, cell]


def _excerpt(
    parts: list[tuple[Span, str, bool]], source: str, gutter: int, severity: str, paint: Paint, width: int
) -> list[str]:
    """Return the lines of an excerpt: first and last source line of every span in `parts` (of one file), underlined."""
    lines = source.removeprefix("\ufeff").split("\n")
    underlines: dict[int, list[_Underline]] = {}
    for span, text, primary in parts:
        for number, underline in _underlines(span, text, primary, lines):
            underlines.setdefault(number, []).append(underline)
    bar = paint("|", "gutter")
    out = [f"{' ' * gutter} {bar}"]
    previous = None
    for number in sorted(underlines):
        if previous is not None and number == previous + 2:
            between = _crop(_expand(_line(lines, previous + 1))[0], 0, width - gutter - 3)
            out.append(f"{paint(str(previous + 1).rjust(gutter), 'gutter')} {bar} {between}".rstrip())
        elif previous is not None and number > previous + 2:
            out.append(paint("...", "gutter"))
        drawn = _expand(_line(lines, number))[0]
        shown, rows = _window(drawn, underlines[number], width - gutter - 3)
        out.append(f"{paint(str(number).rjust(gutter), 'gutter')} {bar} {shown}".rstrip())
        out += [f"{' ' * gutter} {bar} {row}" for row in _draw(rows, severity, paint)]
        previous = number
    return out


def _line(lines: list[str], number: int) -> str:
    return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""


def _underlines(span: Span, text: str, primary: bool, lines: list[str]) -> list[tuple[int, _Underline]]:
    """Return the underlines of one span: on its single line, or on its first and last."""
    if span.end_line <= span.line:
        starts = _expand(_line(lines, span.line))[1]
        start, stop = _cell(starts, span.column), _cell(starts, span.end_column)
        return [(span.line, _Underline(start, max(stop, start + 1), text, primary))]
    first, last = _line(lines, span.line), _line(lines, span.end_line)
    starts, ends = _expand(first)[1], _expand(last)[1]
    begin = _cell(starts, span.column)
    indent = ends[len(last) - len(last.lstrip())]
    return [
        (span.line, _Underline(begin, max(starts[-1], begin + 1), "", primary)),
        (span.end_line, _Underline(indent, max(_cell(ends, span.end_column), indent + 1), text, primary)),
    ]


def _cell(starts: list[int], column: int) -> int:
    """Return the cell of a 1-based column; beyond the end of the line, columns are one cell wide."""
    index = max(column - 1, 0)
    return starts[index] if index < len(starts) else starts[-1] + 1


def _crop(drawn: str, start: int, room: int) -> str:
    """Return `room` cells of a line from `start` on, with `…` at each cut."""
    if start == 0 and len(drawn) <= room:
        return drawn
    shown = drawn[start : start + room]
    if start + room < len(drawn):
        shown = shown[:-1] + "…"
    return ("…" + shown[1:]) if start else shown


def _window(drawn: str, underlines: list[_Underline], room: int) -> tuple[str, list[_Underline]]:
    """Return the part of a long line that contains its underlines, and the underlines shifted accordingly."""
    room = max(room, 30)
    if len(drawn) <= room and max(line.stop for line in underlines) <= room:
        return drawn, underlines
    primary = next((m for m in underlines if m.primary), underlines[0])
    start = max(0, min(m.start for m in underlines) - 8)
    if primary.stop - start > room - len(primary.text):
        start = max(0, min(primary.start - 8, primary.stop + len(primary.text) + 2 - room))
    start = min(start, max(primary.start - 8, 0))
    moved = [
        _Underline(max(m.start - start, 0), min(m.stop - start, room), m.text, m.primary)
        for m in underlines
        if m.stop > start and m.start < start + room
    ]
    return _crop(drawn, start, room), moved


def _draw(underlines: list[_Underline], severity: str, paint: Paint) -> list[str]:
    """Return the rows below a source line: the underlines with the rightmost label, then the other labels, right to left."""
    underline = [" "] * max(m.stop for m in underlines)
    styles = [""] * len(underline)
    for line in sorted(underlines, key=lambda m: m.primary):  # the primary over the others
        for cell in range(line.start, line.stop):
            underline[cell] = "^" if line.primary else "-"
            styles[cell] = severity if line.primary else "secondary"
    labelled = sorted((m for m in underlines if m.text), key=lambda m: (m.start, m.primary))
    rows = [list(zip(underline, styles, strict=True))]
    if labelled and labelled[-1].stop == len(underline):
        beside = labelled.pop()
        rows[0] += [(c, severity if beside.primary else "secondary") for c in " " + beside.text]
    while labelled:
        line = labelled.pop()
        row = [(" ", "")] * line.start
        for left in labelled:
            if left.start < line.start:
                row[left.start] = ("|", severity if left.primary else "secondary")
        rows.append(row + [(c, severity if line.primary else "secondary") for c in line.text])
    return [_join(row, paint) for row in rows]


def _join(row: list[tuple[str, str]], paint: Paint) -> str:
    """Join (character, style) cells to text, with one colour code for each run of a style."""
    out: list[str] = []
    run, style = "", ""
    for character, its in row:
        if its != style and run:
            out.append(paint(run, style))
            run = ""
        style = its
        run += character
    return "".join([*out, paint(run, style)]).rstrip()
