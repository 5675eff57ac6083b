"""Spaces and searches of a text's last check, so that an editor's next one lowers only what a keystroke changes."""

import re
from typing import Any, TypeGuard

from puzzledsl.base.frozen import Record
from puzzledsl.checker.context import Context, Lower
from puzzledsl.checker.expressions.values import Constructed, Function, Ref, Scope, SpaceInfo, Symbol
from puzzledsl.ir import nodes

_WORD = re.compile(r"[A-Za-z_]\w*")


class _Lowered(Record, eq=False):
    """A declaration without mistakes: what it was read from, its node, and what its lowering left in the context."""

    read: dict[str, Any]
    node: nodes.Space | nodes.Search
    info: SpaceInfo
    scope: Scope
    compared: dict[Any, Any]
    pending: tuple[tuple[str, int, int], ...]
    steps: int


class Again:
    """Lowering of spaces or of searches, one object for all checks of a text: of one that reads the same, its node of before.

    What it reads is its text and place; for every name in it the node of what is lowered already, and the text and place of
    other declarations with all that these read; and the other files.
    """

    def __init__(self, lower: Lower) -> None:
        self._lower, self._known, self._nodes = lower, dict[str, _Lowered](), dict[str, Any]()

    def __call__(self, ctx: Context, symbol: Symbol) -> object:
        """Return the node of a space or search."""
        if symbol.file is not ctx.root or ctx.root.names.get(symbol.name) is not symbol:
            return self._lower(ctx, symbol)
        read, known = self._read(ctx, symbol), self._known.get(symbol.name)
        if known is not None and known.read == read:
            ctx.infos[symbol] = known.info
            ctx.scopes[symbol] = Scope(ctx.root).inner(known.scope.names)
            ctx.compared |= known.compared
            ctx.pending += [found for place in known.pending if (found := ctx.symbol_at(place)) is not None]
            ctx.steps += known.steps
            return known.node
        sink, mistakes, pending, steps = ctx.sink, _mistakes(ctx), len(ctx.pending), ctx.steps
        outer, ctx.compared = ctx.compared, {}
        try:
            node = self._lower(ctx, symbol)
        finally:
            own, ctx.compared = ctx.compared, outer | ctx.compared
        scope = ctx.scopes.get(symbol)
        is_whole = sink is ctx.sink and mistakes == _mistakes(ctx)
        is_whole &= not ctx.root.module.broken  # mistakes of syntax hide unknown names
        if isinstance(node, nodes.Space | nodes.Search) and is_whole and _is_plain(scope):
            reached = tuple(other.place for other in ctx.pending[pending:])
            left = ctx.infos[symbol], scope, own, reached, ctx.steps - steps
            self._known[symbol.name] = _Lowered(read, node, *left)
        return node

    def _read(self, ctx: Context, symbol: Symbol) -> dict[str, Any]:
        """Return what a declaration reads, by name. Nothing is lowered for it: a comment may name what reads the declaration."""
        found: dict[str, Any] = {"": [f.module for f in ctx.loader.files.values() if f is not ctx.root]}
        scores = ctx.root.symbols("score") if symbol.kind == "search" else ()
        words = [symbol.name, *(score.name for score in scores)]
        for word in words:
            if word in found:
                continue
            other = ctx.root.names.get(word)
            if not isinstance(other, Symbol) or other.file is not ctx.root or other.kind == "file":
                found[word] = getattr(other, "place", other)
            elif other not in ctx.lowered:
                text = ctx.root.source(other.item.span)
                found[word] = other.item.span, text, other.item
                words += _WORD.findall(text)
            else:
                node = ctx.lowered[other]
                if word not in self._nodes or self._nodes[word] != node:
                    self._nodes[word] = node
                found[word] = self._nodes[word]  # to compare one with itself takes no time
        return found


def _mistakes(ctx: Context) -> int:
    return len(ctx.sink.items) + sum(map(len, ctx.unknown.values()))


def _is_plain(scope: Scope | None) -> TypeGuard[Scope]:
    """Return True for a scope whose names mean values, not declarations of one check."""
    known = () if scope is None else scope.names.values()
    return scope is not None and not any(isinstance(each, Constructed | Function | Ref) for each in known)
