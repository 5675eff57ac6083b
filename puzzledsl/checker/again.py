"""Cache of lowered spaces and searches, so that an editor's next check of a text lowers only what a keystroke changes."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeGuard

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.frozen import Frozen, Record
from puzzledsl.checker.context import Context, Lower
from puzzledsl.checker.expressions.values import Constructed, Function, Ref, Scope, SpaceInfo, Symbol
from puzzledsl.ir import nodes
from puzzledsl.ir.base import Where

_WORD = re.compile(r"[A-Za-z_]\w*")


class _Lowered(Record, eq=False):
    """A declaration without mistakes: what it was read from, its node, and what its lowering left in the context."""

    read: dict[str, Any]
    spans: dict[str, Span]
    node: nodes.Space | nodes.Search
    info: SpaceInfo
    scope: Scope
    pending: tuple[tuple[str, str], ...]
    steps: int


class Again:
    """Lowering of spaces or of searches that keeps nodes from check to check of a text, and returns one again while it holds.

    A node holds while what its declaration reads is the same: its text; for each name in it the node, if it is lowered already,
    else the text of its declaration with all that this reads; and the other files. If lines move, so do the node's places.
    """

    def __init__(self, lower: Lower) -> None:
        self._lower, self._known = lower, dict[str, _Lowered]()
        self._nodes = dict[str, tuple[object, object, Span]]()

    def __call__(self, ctx: Context, symbol: Symbol) -> object:
        """Return the node of a space or search, of an earlier check or lowered anew."""
        if symbol.file is not ctx.root or ctx.root.names.get(symbol.name) is not symbol:
            return self._lower(ctx, symbol)
        (read, spans), known = self._read(ctx, symbol), self._known.get(symbol.name)
        if known is not None and known.read == read and (known := _here(ctx, known, spans)) is not None:
            self._known[symbol.name] = known
            ctx.infos[symbol] = known.info
            ctx.scopes[symbol] = Scope(ctx.root).inner(known.scope.names)
            others = (ctx.loader.files[key].names.get(name) for key, name in known.pending)
            ctx.pending += [other for other in others if isinstance(other, Symbol)]
            ctx.steps += known.steps
            return known.node
        sink, mistakes, pending, steps = ctx.sink, _mistakes(ctx), len(ctx.pending), ctx.steps
        node, scope = self._lower(ctx, symbol), ctx.scopes.get(symbol)
        is_broken = ctx.root.module.broken  # mistakes of syntax hide unknown names
        is_whole = sink is ctx.sink and mistakes == _mistakes(ctx) and not is_broken
        if isinstance(node, nodes.Space | nodes.Search) and is_whole and _is_plain(scope):
            reached = tuple((other.file.key, other.name) for other in ctx.pending[pending:])
            left = ctx.infos[symbol], scope, reached, ctx.steps - steps
            self._known[symbol.name] = _Lowered(read, spans, node, *left)
        return node

    def _read(self, ctx: Context, symbol: Symbol) -> tuple[dict[str, Any], dict[str, Span]]:
        """Return what a declaration reads: name -> content without line numbers, and name -> span in the file.

        Nothing is lowered here: a name in a comment may be that of a declaration that reads this one.
        """
        others = [(file.key, file.text) for file in ctx.loader.files.values() if file is not ctx.root]
        found, spans = dict[str, Any]({"": others}), dict[str, Span]()
        scores = ctx.root.symbols("score") if symbol.kind == "search" else ()
        words = [symbol.name, *(score.name for score in scores)]
        for word in words:
            if word in found:
                continue
            other = ctx.root.names.get(word)
            if not isinstance(other, Symbol):
                found[word] = other
            elif other.file is not ctx.root or other.kind == "file":
                found[word] = other.name, (other.target or other.file).key
            elif other not in ctx.lowered:
                spans[word] = other.item.span
                text = ctx.root.source(spans[word])
                found[word] = text, spans[word].column, other.item
                words += _WORD.findall(text)
            else:
                spans[word], found[word] = other.item.span, self._version(ctx, other)
        return found, spans

    def _version(self, ctx: Context, symbol: Symbol) -> object:
        """Return an object that stands for a lowered declaration: the same one while the node is equal but for its places."""
        node, span = ctx.lowered[symbol], symbol.item.span
        version, known, at = self._nodes.get(symbol.name, (object(), None, span))
        if known is not node:
            try:
                is_same = _moved(known, ctx.root.shown, [(at, span.line - at.line)]) == node
            except ValueError:
                is_same = False
            version = version if is_same else object()
        self._nodes[symbol.name] = version, node, span
        return version


def _here(ctx: Context, known: _Lowered, spans: dict[str, Span]) -> _Lowered | None:
    """Return `known` with its places moved to where `spans` are now; None if `_moved` cannot move one of them."""
    if known.spans == spans:
        return known
    moves = [(old, spans[name].line - old.line) for name, old in known.spans.items()]
    try:
        node, roundings = (_moved(part, ctx.root.shown, moves) for part in (known.node, known.info.roundings))
    except ValueError:
        return None
    return replace(known, spans=spans, node=node, info=replace(known.info, roundings=roundings))


def _moved(value: Any, file: str, moves: Sequence[tuple[Span, int]]) -> Any:
    """Return a value with its places in a file moved. `moves`: spans, each with the lines by which what is in it moves.

    Raise ValueError for a place that is in none of the spans, or in two that move differently.
    """
    if not any(by for _, by in moves):
        return value
    if isinstance(value, Where):
        if value.file != file:
            return value
        [by] = {by for span, by in moves if span.line <= value.line and value.end_line <= span.end_line}
        return replace(value, line=value.line + by, end_line=value.end_line + by) if by else value
    if isinstance(value, tuple | list):
        parts = [_moved(part, file, moves) for part in value]
        return type(value)(parts) if any(a is not b for a, b in zip(parts, value, strict=True)) else value
    if not isinstance(value, Frozen) or "where" not in value.model_fields:
        return value  # no part of a node without a place has one
    changed = {name: moved for name, part in value if (moved := _moved(part, file, moves)) is not part}
    return value.model_copy(update=changed) if changed else value


def _mistakes(ctx: Context) -> int:
    return len(ctx.sink.items) + sum(map(len, ctx.unknown.values()))


def _is_plain(scope: Scope | None) -> TypeGuard[Scope]:
    """Return True for a scope none of whose names means what belongs to one check: a declaration, a `fn` or a constructor."""
    known = () if scope is None else scope.names.values()
    return scope is not None and not any(isinstance(each, Constructed | Function | Ref) for each in known)
