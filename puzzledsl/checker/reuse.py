"""Reuse of what the last check of a program found out, for editors, which check after every keystroke.

Spaces and searches are most of a check's work. An editor's parser gives the same tree for a declaration that no edit has
touched or moved. A declaration is not lowered again if an earlier check found no mistake in it and all that it reads is the
same: its tree, and for every name in it the tree of that `let`, `param`, `fn` or search with all that this reads, or the node
of any other declaration.

A reused declaration leaves the same traces as a lowered one: warnings, names, what it queues, steps of work. All other
declarations are lowered anew, and a node equal to the last check's becomes that object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import TypeVar

from puzzledsl.base.diagnostics import Diagnostic, Sink
from puzzledsl.base.frozen import record
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions import values
from puzzledsl.checker.names.resolve import value_of
from puzzledsl.checker.names.syntax_error_regions import declares_unread
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.syntax import tree

T = TypeVar("T")
REUSED = ("space", "search")
"""Kinds of declarations that are reused."""
READ_AS_TREES = ("let", "param", "fn", "file", "search")
"""Kinds of declarations that others read by more than their node."""
_Results = dict[tuple[object, ...], tuple[tuple[object, ...], object]]
_Place = tuple[str, str]
"""A symbol, by its file's name in spans and its own name."""
_Node = tuple[object, SpaceInfo | None]
"""A declaration's node; of a space, with what is known of it."""


@dataclass(slots=True)
class _Frame:
    """One declaration while it is lowered. `before` counts what the context had, as `_counts` does."""

    symbol: values.Symbol
    sink: Sink
    warnings: list[Diagnostic]
    before: tuple[int, int, int, int]
    depth: int
    needs: list[values.Symbol] = field(default_factory=list)
    used: dict[values.Symbol, None] = field(default_factory=dict)
    inner_steps: int = 0
    inner_warnings: list[Diagnostic] = field(default_factory=list)
    usable: bool = True


@record
class _Record:
    """A lowered declaration: what it reads, its node, and what its lowering does to the context."""

    items: tuple[tree.Item, ...]
    meanings: dict[str, object]
    needs: tuple[tuple[_Place, _Node], ...]
    named: tuple[tuple[_Place, str], ...]
    node: _Node
    names: dict[str, values.Value] | None
    used: tuple[_Place, ...]
    warnings: tuple[Diagnostic, ...]
    pending: tuple[_Place, ...]
    steps: int
    depth: int


class Reuse:
    """Results of earlier checks of one text. One object serves the checks of all its versions, one after another."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._nodes: dict[_Place, _Node] = {}
        self._old_nodes: dict[_Place, _Node] = {}
        self._results: _Results = {}
        self._old_results: _Results = {}
        self._others: tuple[tree.Module, ...] = ()
        self._frames: list[_Frame] = []

    def begin(self, ctx: Context) -> None:
        """Prepare for the check of a text whose files are loaded."""
        others = tuple(f.module for f in ctx.loader.files.values() if f is not ctx.root)
        if [*map(id, others)] != [*map(id, self._others)]:
            self._records = {}
        self._others = others
        self._records = {name: known for name, known in self._records.items() if name in ctx.root.names}
        self._old_nodes, self._nodes = self._nodes, {}
        if self._results:  # a text with mistakes has none
            self._old_results, self._results = self._results, {}
        self._frames = []

    def result(self, work: Callable[..., T], *arguments: object) -> T:
        """Return `work(*arguments)`, or what the last check got for the same objects."""
        key = (work, *map(id, arguments))
        known = self._results.get(key) or self._old_results.get(key)
        if known is None:
            known = arguments, work(*arguments)
        self._results[key] = known
        return known[1]  # type: ignore[return-value]

    # ------------------------------------------------------------ declarations

    def lower(self, ctx: Context, symbol: values.Symbol, anew: Callable[[], object]) -> object:
        """Return the node of a declaration: an earlier check's where nothing has changed, else `anew()`."""
        known = self._records.get(symbol.name) if _may_be_reused(ctx, symbol) else None
        frame = _Frame(symbol, ctx.sink, ctx.warnings, _counts(ctx), ctx.depth)
        self._frames.append(frame)
        node: object = None
        try:
            if known is not None and self._still_holds(ctx, symbol, known, frame):
                _replay(ctx, symbol, known)
                node = known.node[0]
                self._nodes[_place(symbol)] = known.node
            else:
                known = None
                node = self._interned(ctx, symbol, anew())
        finally:
            self._leave(ctx, frame, known, node)
        return node

    def needed(self, ctx: Context, symbol: values.Symbol) -> None:
        """Register that the declaration being lowered reads another one, which has been lowered."""
        if self._frames:
            self._frames[-1].needs.append(symbol)

    def uses(self, symbol: values.Symbol) -> None:
        """Register that the declaration being lowered reads a name."""
        if self._frames:
            self._frames[-1].used[symbol] = None

    def _interned(self, ctx: Context, symbol: values.Symbol, node: object) -> object:
        """Return the last check's node if it is equal, so that what reads it sees the same object."""
        place, info = _place(symbol), ctx.infos.get(symbol)
        before, known = self._old_nodes.get(place, (None, None))
        if before == node and _infos_equal(known, info):
            node, info = before, known
            if info is not None:
                ctx.infos[symbol] = info
        self._nodes[place] = node, info
        return node

    def _leave(self, ctx: Context, frame: _Frame, known: _Record | None, node: object) -> None:
        self._frames.pop()
        mistakes, warned, _, steps = frame.before
        is_clean = (
            frame.usable and node is not None and frame.sink is ctx.sink and _counts(ctx)[0] == mistakes
        )
        warnings = ctx.warnings[warned:] if frame.warnings is ctx.warnings else []
        if known is None and is_clean and _may_be_reused(ctx, frame.symbol):
            self._record(ctx, frame, warnings)
        if self._frames:
            outer = self._frames[-1]
            outer.inner_steps += ctx.steps - steps
            outer.inner_warnings += warnings
            outer.usable &= is_clean and frame.sink is outer.sink

    def _record(self, ctx: Context, frame: _Frame, warnings: list[Diagnostic]) -> None:
        symbol, root = frame.symbol, ctx.root
        scope = ctx.scopes.get(symbol)
        names = None if scope is None else dict(scope.names)
        if root.lost_names or any(map(_names_symbols, (names or {}).values())):
            return
        if any(ctx.lowered.get(other) is None for other in frame.needs):
            return
        items, meanings = _reads(root, symbol)
        named = [
            item for item in items if not isinstance(item, tree.Decl)
        ]  # whose values others may have had computed
        if root.module.broken and (
            any(root.is_damaged(item.span, 1) for item in items)
            or any(_may_be_lost(root, name) for name in _names(named) if meanings[name] is None)
        ):
            return
        inner = {id(warning) for warning in frame.inner_warnings}
        touched = (symbol, *frame.needs, *frame.used)
        self._records[symbol.name] = _Record(
            items=tuple(items),
            meanings=meanings,
            needs=tuple((_place(s), (ctx.lowered[s], ctx.infos.get(s))) for s in frame.needs),
            named=tuple((_place(s), ctx.names[s]) for s in touched if s in ctx.names),
            node=self._nodes[_place(symbol)],
            names=names,
            used=tuple(map(_place, frame.used)),
            warnings=tuple(warning for warning in warnings if id(warning) not in inner),
            pending=tuple(map(_place, ctx.pending[frame.before[2] :])),
            steps=ctx.steps - frame.before[3] - frame.inner_steps,
            depth=frame.depth,
        )

    def _still_holds(self, ctx: Context, symbol: values.Symbol, known: _Record, frame: _Frame) -> bool:
        """Return True if a declaration reads what it read before. Lowers what it needs."""
        root = ctx.root
        if ctx.depth > known.depth or any(root.is_damaged(item.span, 1) for item in known.items):
            return False
        if any(_meaning(root, name, symbol) != meant for name, meant in known.meanings.items()):
            return False
        for place, (node, info) in known.needs:
            other = _symbol(ctx, place)
            if other is None or other.kind not in ctx.lower_kind:
                return False
            ctx.lower(other, object)
            if ctx.lowered.get(other) is not node or ctx.infos.get(other) is not info:
                return False
        if not frame.usable or _counts(ctx)[0] != frame.before[0]:
            return False
        others = ((_symbol(ctx, place), name) for place, name in known.named)
        return all(other is not None and ctx.name_of(other) == name for other, name in others)


def _replay(ctx: Context, symbol: values.Symbol, known: _Record) -> None:
    """Do to the context what lowering a declaration does."""
    for other in filter(None, (_symbol(ctx, place) for place in known.used)):
        ctx.note_used(other)
        if isinstance(other.item, tree.Param):
            value_of(ctx, other)
    if known.node[1] is not None:
        ctx.infos[symbol] = known.node[1]
    if known.names is not None:
        ctx.scopes[symbol] = values.Scope(symbol.file).inner(dict(known.names))
    ctx.warnings += known.warnings
    ctx.pending += filter(None, (_symbol(ctx, place) for place in known.pending))
    ctx.steps += known.steps


def _counts(ctx: Context) -> tuple[int, int, int, int]:
    """Return the numbers of mistakes (or names that may be lost), warnings, queued declarations and steps so far."""
    mistakes = len(ctx.sink.items) + sum(map(len, ctx.unknown.values())) + ctx.root.unread
    return mistakes, len(ctx.warnings), len(ctx.pending), ctx.steps


# ---------------------------------------------------------------- what a declaration reads


def _reads(root: values.SourceFile, symbol: values.Symbol) -> tuple[list[tree.Item], dict[str, object]]:
    """Return the items whose trees a declaration reads, and the meaning of every name in them."""
    items, meanings = [symbol.item], dict[str, object]()
    for item in items:
        for name in _names([item]):
            if name in meanings:
                continue
            meanings[name] = _meaning(root, name, symbol)
            other = root.names.get(name)
            if isinstance(other, values.Symbol) and other.file is root and _is_tree(other, symbol):
                items.append(other.item)
    return items, meanings


def _names(items: Iterable[tree.Item]) -> Iterator[str]:
    yield from (node.text for item in items for node in tree.walk(item) if isinstance(node, tree.Name))


def _may_be_lost(root: values.SourceFile, name: str) -> bool:
    return declares_unread(name, root.lines, root.module, root.error_regions)


def _meaning(root: values.SourceFile, name: str, of: values.Symbol) -> object:
    """Return what a name in the declaration `of` means, to be compared with what it means later."""
    symbol = root.names.get(name)
    if not isinstance(symbol, values.Symbol):
        return symbol
    return symbol.kind, id(symbol.item) if symbol.file is not root or _is_tree(symbol, of) else None


def _is_tree(symbol: values.Symbol, of: values.Symbol) -> bool:
    """Return True if the declaration `of` reads another one's tree; False if it reads the node alone."""
    return symbol.kind in READ_AS_TREES or symbol.kind == of.kind


def _may_be_reused(ctx: Context, symbol: values.Symbol) -> bool:
    return symbol.kind in REUSED and symbol.file is ctx.root and ctx.root.names.get(symbol.name) is symbol


def _place(symbol: values.Symbol) -> _Place:
    return symbol.file.file, symbol.name


def _symbol(ctx: Context, place: _Place) -> values.Symbol | None:
    """Return the declaration at a place; None if there is none."""
    file = ctx.file_named(place[0])
    found = None if file is None else file.names.get(place[1])
    return found if isinstance(found, values.Symbol) else None


def _names_symbols(value: values.Value) -> bool:
    """Return True for a value that refers to declarations of the check that made it."""
    match value:
        case values.Ref() | values.Function() | values.Constructed():
            return True
        case values.Options(options=options):
            return any(_names_symbols(option.value) for option in options)
        case values.ListValue(items=items):
            return any(map(_names_symbols, items))
    return False


def _infos_equal(one: SpaceInfo | None, other: SpaceInfo | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(getattr(one, f.name) == getattr(other, f.name) for f in fields(SpaceInfo))
