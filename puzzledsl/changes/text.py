"""Changes as text: `+` added, `-` removed, `~` changed; then the work, then one line that counts."""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.changes.compare import Detail, ProgramChanges, Sign

_COLORS: dict[Sign, str] = {"+": "32", "-": "31", "~": "33"}


def as_text(changes: ProgramChanges, *, color: bool) -> str:
    """The whole answer, without a final newline."""
    if not changes:
        return "No changes: both programs mean the same."
    return "\n".join(_lines(changes, color))


def _lines(changes: ProgramChanges, color: bool) -> Iterator[str]:
    told: dict[tuple[str, tuple[Detail, ...]], str] = {}
    for change in changes.changes:
        yield f"{_painted(change.sign, color)} {change.kind} {change.name}"
        first = told.setdefault((change.kind, change.details), change.name)
        if first != change.name and change.details:
            yield f"    {_painted('~', color)} as {first}"
            continue
        for detail in change.details:
            yield f"    {_painted(detail.sign, color)} {_detail(detail)}"
    yield ""
    for name, pieces in changes.pieces.items():
        if pieces.make or pieces.drop:
            dropped = f", {pieces.drop:,} no longer needed" if pieces.drop else ""
            yield (
                f"bld {name}: {pieces.make:,} pieces to make ({pieces.tokens:,} tokens), "
                f"{pieces.keep:,} as before{dropped}"
            )
    for name in changes.waiting:
        yield f"bld {name}: known once its space's search is solved"
    if changes.again:
        yield "Runs again: " + ", ".join(f"{stage} {name}".strip() for stage, name in changes.again)
    yield (
        f"Plan: {changes.count('+')} to add, {changes.count('~')} to change, {changes.count('-')} to remove."
    )


def _detail(detail: Detail) -> str:
    if detail.sign == "~":
        return f"{detail.what}: {detail.old} -> {detail.new}"
    return f"{detail.what}: {detail.new or detail.old}"


def _painted(sign: Sign, color: bool) -> str:
    return f"\x1b[{_COLORS[sign]}m{sign}\x1b[0m" if color else sign
