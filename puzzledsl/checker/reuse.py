"""Reuse of what the last check of a program found out, for editors, which check after every keystroke.

Spaces and searches are most of a check's work. One is not lowered again if an earlier check found no mistake in it and all
that it reads is the same: its text, and for every name in it the text of that `let`, `param`, `fn`, `use` or search with all
that this reads, or the node of any other declaration. If all of it has moved by some lines, so do the places in its node.

A reused declaration leaves the same traces as a lowered one: warnings, names, what it queues, steps of work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.frozen import Frozen, record
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.values import Scope, SpaceInfo, Symbol, Value
from puzzledsl.checker.names.words import value_of
from puzzledsl.ir.base import Where
from puzzledsl.syntax import tree

T = TypeVar("T")
READ_AS_TEXT = ("let", "param", "fn", "file", "search")
"""Kinds of declarations that others read by more than their node."""
_Place = tuple[str, str]
"""A symbol, by its file's name in spans and its own name."""
_Node = tuple[Any, SpaceInfo | None]
"""A declaration's node; of a space, with what is known of it."""


@record
class _Record:
    """A lowered declaration: what it reads, its node, and what its lowering does to the context."""

    line: int
    meanings: dict[str, object]
    needs: tuple[tuple[_Place, _Node], ...]
    node: _Node
    names: dict[str, Value] | None
    used: tuple[_Place, ...]
    warnings: tuple[Diagnostic, ...]
    pending: tuple[_Place, ...]
    steps: int


class Reuse:
    """Results of earlier checks of one text. One object serves the checks of all its versions, one after another."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._around: tuple[Sequence[object], ...] = ()  # what all records depend on
        self._nodes: dict[Symbol, _Node] = {}  # of this check, with the places of their records
        self._inner: set[int] = set()  # warnings of declarations that were lowered within others
        self._results: dict[tuple[object, int], tuple[tuple[object, ...], Any]] = {}
        self._old_results = self._results

    def begin(self, ctx: Context) -> None:
        """Prepare for the check of a text whose files are loaded."""
        ctx.once, ctx.reused = self.result, self.lower
        ctx.name_all()
        renamed = sorted((_place(s), name) for s, name in ctx.names.items() if name != s.name)
        around = [f.module for f in ctx.loader.files.values() if f is not ctx.root], renamed
        known = [*map(id, around[0])] == [*map(id, *self._around[:1])] if self._around else False
        if not known or renamed != self._around[1]:
            self._records = {}
        self._around, self._nodes, self._inner = around, {}, set()
        if self._results:  # a text with mistakes has none
            self._old_results, self._results = self._results, {}

    def result(self, work: Callable[..., T], *arguments: object) -> T:
        """Return `work(*arguments)`, or what the last check got for the same first argument and equal others."""
        key = work, id(arguments[0])
        known = self._results.get(key) or self._old_results.get(key)
        if known is None or known[0] != arguments:
            known = arguments, work(*arguments)
        self._results[key] = known
        found: T = known[1]
        return found

    def lower(self, ctx: Context, symbol: Symbol, anew: Callable[[], object]) -> object:
        """Return the node of a declaration: an earlier check's where nothing has changed, else `anew()`."""
        is_own = symbol.file is ctx.root and _symbol(ctx, _place(symbol)) is symbol
        if symbol.kind not in ("space", "search") or not is_own:
            return anew()
        known = self._records.get(symbol.name)
        if known is not None and self._still_holds(ctx, symbol, known):
            for other in _symbols(ctx, known.used):
                ctx.used[other] = None
                if isinstance(other.item, tree.Param):
                    value_of(ctx, other)
            (node, info), by = known.node, symbol.span.line - known.line
            self._nodes[symbol] = known.node
            if info is not None:
                roundings = [*_moved(tuple(info.roundings), by, ctx.root.shown)]
                ctx.infos[symbol] = replace(info, roundings=roundings)
            if known.names is not None:
                ctx.scopes[symbol] = Scope(symbol.file).inner(dict(known.names))
            ctx.warnings += known.warnings
            ctx.pending += _symbols(ctx, known.pending)
            ctx.steps += known.steps
            return _moved(node, by, ctx.root.shown)
        outer, ctx.needs, ctx.used = (ctx.needs, ctx.used), {}, {}
        sink, warnings, before = ctx.sink, ctx.warnings, (len(ctx.warnings), len(ctx.pending), ctx.steps)
        mistakes = _mistakes(ctx)
        try:
            made = anew()
            is_tried = sink is not ctx.sink or warnings is not ctx.warnings
            if made is not None and not ctx.root.lost_names and not is_tried and mistakes == _mistakes(ctx):
                self._record(ctx, symbol, made, before)
        finally:
            self._inner.update(map(id, ctx.warnings[before[0] :]))
            ctx.needs, ctx.used = outer[0] | ctx.needs, outer[1] | ctx.used
        return made

    def _record(self, ctx: Context, symbol: Symbol, node: object, before: tuple[int, int, int]) -> None:
        warned, queued, steps = before
        names = dict(ctx.scopes[symbol].names) if symbol in ctx.scopes else None
        is_lost = values.POISON in (s.value for s in ctx.used)
        is_lost |= any(ctx.lowered.get(s) is None for s in ctx.needs)
        if is_lost or any(map(_names_symbols, (names or {}).values())):
            return
        self._records[symbol.name] = _Record(
            line=symbol.span.line,
            meanings=_meanings(symbol),
            needs=tuple((_place(s), self._node(ctx, s)) for s in ctx.needs),
            node=(node, ctx.infos.get(symbol)),
            names=names,
            used=tuple(map(_place, ctx.used)),
            warnings=tuple(w for w in ctx.warnings[warned:] if id(w) not in self._inner),
            pending=tuple(map(_place, ctx.pending[queued:])),
            steps=ctx.steps - steps,
        )

    def _node(self, ctx: Context, symbol: Symbol) -> _Node:
        return self._nodes.get(symbol) or (ctx.lowered[symbol], ctx.infos.get(symbol))

    def _still_holds(self, ctx: Context, symbol: Symbol, known: _Record) -> bool:
        """Return True if a declaration reads what it read before. Lowers what it needs."""
        if known.warnings and known.line != symbol.span.line:
            return False
        if any(_meaning(name, symbol) != meant for name, meant in known.meanings.items()):
            return False
        for place, before in known.needs:
            other = _symbol(ctx, place)
            if other is None or other.kind not in ctx.lower_kind or ctx.lower(other, object) is None:
                return False
            node, info = self._node(ctx, other)
            if node is not before[0] and node.model_copy(update={"where": before[0].where}) != before[0]:
                return False
            if _facts(info) != _facts(before[1]):
                return False
        return True


def _facts(info: SpaceInfo | None) -> list[object] | None:
    return None if info is None else [getattr(info, each.name) for each in fields(info)]


def _mistakes(ctx: Context) -> int:
    """Return the number of mistakes found so far, and of names that the parser may have lost."""
    return len(ctx.sink.items) + sum(map(len, ctx.unknown.values())) + ctx.root.unread


def _moved(value: Any, by: int, file: str) -> Any:
    """Return a node, or a tuple of them, with the places in a file `by` lines further down."""
    if isinstance(value, Where):
        lines = {"line": value.line + by, "end_line": value.end_line + by}
        return value.model_copy(update=lines) if value.file == file else value
    if isinstance(value, tuple):
        found = tuple([_moved(each, by, file) for each in value])
        return found if any(new is not old for new, old in zip(found, value, strict=True)) else value
    if not by or not isinstance(value, Frozen) or "where" not in value.model_fields:
        return value
    return value.model_copy(update={name: _moved(part, by, file) for name, part in value})


def _meanings(of: Symbol) -> dict[str, object]:
    """Return the meaning of every name in a declaration, and in those that it reads as text."""
    found, queue = dict[str, object](), [of.name]
    for name in queue:
        if name not in found:
            found[name], known = _meaning(name, of), of.file.names.get(name)
            if isinstance(known, Symbol) and _is_text(known, of):
                queue += [node.text for node in tree.walk(known.item) if isinstance(node, tree.Name)]
    return found


def _meaning(name: str, of: Symbol) -> object:
    """Return what a name in the declaration `of` means, to be compared with what it means later."""
    symbol = of.file.names.get(name)
    if not isinstance(symbol, Symbol):
        return symbol
    if not _is_text(symbol, of):
        return symbol.kind, symbol.file is of.file or id(symbol.item)
    span = symbol.item.span
    if of.file.is_damaged(span, 1):
        return object()  # a part of it may be lost
    doc = symbol.item.doc if isinstance(symbol.item, tree.Decl) else ""
    return symbol.kind, of.file.source(span), doc, span.column, span.line - of.item.span.line


def _is_text(symbol: Symbol, of: Symbol) -> bool:
    """Return True if the declaration `of` reads another one's text; False if it reads the node alone."""
    return symbol.file is of.file and symbol.kind in (*READ_AS_TEXT, of.kind)


def _place(symbol: Symbol) -> _Place:
    return symbol.file.file, symbol.name


def _symbol(ctx: Context, place: _Place) -> Symbol | None:
    """Return the declaration at a place; None if there is none."""
    file = ctx.file_named(place[0])
    found = None if file is None else file.names.get(place[1])
    return found if isinstance(found, Symbol) else None


def _symbols(ctx: Context, places: Iterable[_Place]) -> list[Symbol]:
    return [found for place in places if (found := _symbol(ctx, place)) is not None]


def _names_symbols(value: Value) -> bool:
    """Return True for a value that refers to declarations of the check that made it."""
    if isinstance(value, values.Options):
        return any(_names_symbols(option.value) for option in value.options)
    if isinstance(value, values.ListValue):
        return any(map(_names_symbols, value.items))
    return isinstance(value, values.Ref | values.Function | values.Constructed)
