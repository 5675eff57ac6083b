"""Reuse of what the last check of a program found out, for editors, which check after every keystroke.

Spaces and searches are most of a check's work. One is not lowered again if an earlier check found no mistake in it and
everything that it reads is the same: its text, and for every word in it the declaration of that name. Of a `let`, `param`,
`fn` or search, that is its text with all that this reads; of any other declaration, its kind and the node that it was
lowered to. Lines may have moved: the places in the node are moved with them.

A reused declaration leaves the same traces as a lowered one: warnings, names, what it queues, steps of work. All other
declarations are lowered anew, and a node equal to the last check's becomes that object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel

from puzzledsl.base.diagnostics import Diagnostic, Sink
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.values import (
    Constructed,
    Function,
    ListValue,
    Options,
    Ref,
    Scope,
    SourceFile,
    Symbol,
    Value,
)
from puzzledsl.checker.names.resolve import value_of
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir.nodes import Space, Where
from puzzledsl.syntax import tree

T = TypeVar("T")
Results = dict[tuple[object, ...], tuple[tuple[object, ...], object]]
REUSED = ("space", "search")
"""Kinds of declarations that are reused."""
READ_AS_TEXT = ("let", "param", "fn", "file", "search")
"""Kinds of declarations that others read by more than their node."""

_Moves = list[tuple[tree.Item, tuple[int, int], int]]
"""Items with the lines that they had, and the number of lines that they have moved down."""
_Place = tuple[str, str]
"""A symbol, by its file's name in spans and its own name."""


@dataclass(slots=True)
class _Frame:
    """One declaration while it is lowered: what it does to the context."""

    symbol: Symbol
    sink: Sink
    warnings: list[Diagnostic]
    diagnostics_before: int
    warnings_before: int
    unknown_before: int
    pending_before: int
    steps_before: int
    depth: int
    needs: list[Symbol] = field(default_factory=list)
    used: dict[Symbol, None] = field(default_factory=dict)
    inner_steps: int = 0
    inner_warnings: list[Diagnostic] = field(default_factory=list)
    usable: bool = True


@dataclass(frozen=True, slots=True)
class _Need:
    """A declaration that another one reads: its node, and what is known of it if it is a space."""

    place: _Place
    node: object
    info: SpaceInfo | None


@dataclass(frozen=True, slots=True)
class _Record:
    """A lowered declaration: what it reads, its node, and what its lowering does to the context.

    `lines` are the first and last lines of the declarations whose text it reads.
    """

    reads: dict[str, object]
    lines: dict[str, tuple[int, int]]
    node: object
    info: SpaceInfo | None
    names: dict[str, Value] | None
    needs: tuple[_Need, ...]
    used: tuple[_Place, ...]
    warnings: tuple[Diagnostic, ...]
    pending: tuple[_Place, ...]
    named: tuple[tuple[_Place, str], ...]
    steps: int
    depth: int


class _Elsewhere(Exception):
    """Raised for a place in the text of a declaration that is read by its node."""


class Reuse:
    """Results of earlier checks of one text. One object serves the checks of all its versions, one after another."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._nodes: dict[_Place, tuple[object, SpaceInfo | None]] = {}
        self._results: Results = {}
        self._old_nodes: dict[_Place, tuple[object, SpaceInfo | None]] = {}
        self._old_results: Results = {}
        self._others: tuple[object, ...] = ()
        self._frames: list[_Frame] = []
        self._texts: dict[int, str] = {}
        self._unread: dict[str, bool] = {}
        self._compared: dict[tuple[int, int], bool] = {}

    def begin(self, ctx: Context) -> None:
        """Prepare for the check of a text whose files are loaded."""
        others = tuple(f.module for f in ctx.loader.files.values() if f is not ctx.root)
        if [id(module) for module in others] != [id(module) for module in self._others]:
            self._records = {}
        self._others = others
        self._records = {name: known for name, known in self._records.items() if name in ctx.root.names}
        self._old_nodes, self._nodes = self._nodes, {}
        if self._results:  # a text with mistakes has none
            self._old_results, self._results = self._results, {}
        self._frames, self._texts, self._unread, self._compared = [], {}, {}, {}

    # ------------------------------------------------------------ results of pure functions

    def result(self, work: Callable[..., T], *arguments: object) -> T:
        """Return `work(*arguments)`, or what the last check got for the same objects."""
        key = (work, *map(id, arguments))
        known = self._results.get(key) or self._old_results.get(key)
        if known is None:
            known = arguments, work(*arguments)
        self._results[key] = known
        return known[1]  # type: ignore[return-value]

    # ------------------------------------------------------------ declarations

    def lower(self, ctx: Context, symbol: Symbol, anew: Callable[[], object]) -> object:
        """Return the node of a declaration: an earlier check's where nothing has changed, else `anew()`."""
        known = self._records.get(symbol.name) if _may_be_reused(ctx, symbol) else None
        frame = self._enter(ctx, symbol)
        node: object = None
        try:
            moved = None if known is None else self._again(ctx, symbol, known, frame)
            if moved is not None and known is not None:
                self._replay(ctx, symbol, known, moved[1])
                node = self._interned(ctx, symbol, moved[0])
            else:
                known = None
                node = self._interned(ctx, symbol, anew())
        finally:
            self._leave(ctx, frame, known, node)
        return node

    def needed(self, ctx: Context, symbol: Symbol) -> None:
        """Register that the declaration being lowered reads another one, which has been lowered."""
        if self._frames:
            self._frames[-1].needs.append(symbol)

    def uses(self, symbol: Symbol) -> None:
        """Register that the declaration being lowered reads a name."""
        if self._frames:
            self._frames[-1].used[symbol] = None

    def _interned(self, ctx: Context, symbol: Symbol, node: object) -> object:
        """Return a node with the parts of the last check's, if they are alike, so that what reads it sees the same objects."""
        place = _place(symbol)
        before, known = self._old_nodes.get(place, (None, None))
        info = ctx.infos.get(symbol)
        if _alike(before, node) and isinstance(before, BaseModel):
            node = _with_place_of(before, node)
            if (
                isinstance(node, Space)
                and known is not None
                and info is not None
                and known.roundings == info.roundings
                and _infos_equal(known, info)
            ):
                ctx.infos[symbol] = info = known
        self._nodes[place] = node, info
        return node

    # ------------------------------------------------------------ the frame of a declaration

    def _enter(self, ctx: Context, symbol: Symbol) -> _Frame:
        frame = _Frame(
            symbol,
            ctx.sink,
            ctx.warnings,
            len(ctx.sink.items),
            len(ctx.warnings),
            _unknown(ctx),
            len(ctx.pending),
            ctx.steps,
            ctx.depth,
        )
        self._frames.append(frame)
        return frame

    def _leave(self, ctx: Context, frame: _Frame, known: _Record | None, node: object) -> None:
        self._frames.pop()
        is_clean = (
            frame.usable
            and node is not None
            and frame.sink is ctx.sink
            and len(ctx.sink.items) == frame.diagnostics_before
            and _unknown(ctx) == frame.unknown_before
        )
        warnings = ctx.warnings[frame.warnings_before :] if frame.warnings is ctx.warnings else []
        if known is None and is_clean and _may_be_reused(ctx, frame.symbol):
            self._record(ctx, frame, node, warnings)
        if self._frames:
            outer = self._frames[-1]
            outer.inner_steps += ctx.steps - frame.steps_before
            outer.inner_warnings += warnings
            outer.usable &= is_clean and frame.sink is outer.sink

    def _record(self, ctx: Context, frame: _Frame, node: object, warnings: list[Diagnostic]) -> None:
        symbol, root = frame.symbol, ctx.root
        scope = ctx.scopes.get(symbol)
        names = None if scope is None else dict(scope.names)
        if root.lost_names or any(map(_names_symbols, (names or {}).values())):
            return
        if any(ctx.lowered.get(other) is None for other in frame.needs):
            return
        reads, items = self._reads(root, symbol)
        if root.module.broken and (
            any(root.is_damaged(item.span, 1) for item in items.values())
            or any(bound is None and self._is_unread(root, word) for word, bound in reads.items())
        ):
            return
        own = {id(warning) for warning in frame.inner_warnings}
        self._records[symbol.name] = _Record(
            reads=reads,
            lines={word: (item.span.line, item.span.end_line) for word, item in items.items()},
            node=node,
            info=ctx.infos.get(symbol),
            names=names,
            needs=tuple(
                _Need(_place(s), ctx.lowered[s], ctx.infos.get(s) if s.kind == "space" else None)
                for s in frame.needs
            ),
            used=tuple(map(_place, frame.used)),
            warnings=tuple(warning for warning in warnings if id(warning) not in own),
            pending=tuple(map(_place, ctx.pending[frame.pending_before :])),
            named=tuple(
                (_place(s), ctx.names[s]) for s in (symbol, *frame.needs, *frame.used) if s in ctx.names
            ),
            steps=ctx.steps - frame.steps_before - frame.inner_steps,
            depth=frame.depth,
        )

    # ------------------------------------------------------------ what a declaration reads

    def _reads(self, root: SourceFile, symbol: Symbol) -> tuple[dict[str, object], dict[str, tree.Item]]:
        """Return the meaning of every word that a declaration reads, and the items whose text it reads."""
        found: dict[str, object] = {}
        items = {symbol.name: symbol.item}
        queue = [symbol.item]
        while queue:
            for word in _words(self._text(root, queue.pop())):
                if word in found:
                    continue
                found[word] = self._meaning(root, word, symbol)
                other = root.names.get(word)
                if isinstance(other, Symbol) and other.file is root and _is_text(other, symbol):
                    items[word] = other.item
                    queue.append(other.item)
        return found, items

    def _meaning(self, root: SourceFile, word: str, of: Symbol) -> object:
        """Return what a word of the declaration `of` names, to be compared with what it names later."""
        symbol = root.names.get(word)
        if not isinstance(symbol, Symbol):
            return symbol
        if symbol.file is not root:
            return symbol.kind, symbol.file.file, symbol.name
        if not _is_text(symbol, of):
            return (symbol.kind,)
        item = symbol.item
        return symbol.kind, self._text(root, item), item.span.column, getattr(item, "doc", "")

    def _text(self, root: SourceFile, item: tree.Item) -> str:
        found = self._texts.get(id(item))
        if found is None:
            found = self._texts[id(item)] = root.source(item.span)
        return found

    def _is_unread(self, root: SourceFile, word: str) -> bool:
        if word not in self._unread:
            self._unread[word] = root.declares_unread(word)
        return self._unread[word]

    # ------------------------------------------------------------ reuse

    def _again(
        self, ctx: Context, symbol: Symbol, known: _Record, frame: _Frame
    ) -> tuple[object, SpaceInfo | None] | None:
        """Return the node of a declaration that reads what it read before; None otherwise. Lowers what it needs."""
        root = ctx.root
        if ctx.depth > known.depth:
            return None
        if any(self._meaning(root, word, symbol) != meant for word, meant in known.reads.items()):
            return None
        moves = list(_moves(root, known))
        if any(root.error_regions.touches(item.span, 1) for item, _, _ in moves):
            return None
        for need in known.needs:
            other = _symbol(ctx, need.place)
            if other is None or other.kind not in ctx.lower_kind:
                return None
            ctx.lower(other, object)
            if not self._still(ctx, other, need, symbol, moves):
                return None
        if not frame.usable or len(ctx.sink.items) != frame.diagnostics_before:
            return None
        for place, name in known.named:
            other = _symbol(ctx, place)
            if other is None or ctx.name_of(other) != name:
                return None
        info, of = known.info, None
        if info is not None:
            of = next((need.place for need in known.needs if need.info is info), None)
        if of is not None and (space := _symbol(ctx, of)) is not None:  # a search's is its space's
            info = ctx.infos.get(space)
        if not any(by for _, _, by in moves):
            return known.node, info
        if known.warnings:
            return None
        try:
            if of is None and info is not None and info.roundings:
                info = replace(info, roundings=[_moved(each, root, moves) for each in info.roundings])
            return _moved(known.node, root, moves), info
        except _Elsewhere:
            return None

    def _still(self, ctx: Context, other: Symbol, need: _Need, symbol: Symbol, moves: _Moves) -> bool:
        """Return True if a needed declaration has the node that it had, apart from its place."""
        node = ctx.lowered.get(other)
        if not self._compare(_alike, need.node, node):
            if not _is_text(other, symbol):
                return False
            try:
                if _moved(need.node, ctx.root, moves) != node:
                    return False
            except _Elsewhere:
                return False
        return need.info is None or self._compare(_infos_equal, need.info, ctx.infos.get(other))

    def _compare(self, equal: Callable[[Any, Any], bool], one: object, other: object) -> bool:
        """Return `equal(one, other)`; many declarations need the same space."""
        if one is other:
            return True
        key = id(one), id(other)
        if key not in self._compared:
            self._compared[key] = equal(one, other)
        return self._compared[key]

    def _replay(self, ctx: Context, symbol: Symbol, known: _Record, info: SpaceInfo | None) -> None:
        """Do to the context what lowering a declaration does."""
        for place in known.used:
            other = _symbol(ctx, place)
            if other is not None:
                ctx.note_used(other)
                if isinstance(other.item, tree.Param):
                    value_of(ctx, other)
        if info is not None:
            ctx.infos[symbol] = info
        if known.names is not None:
            ctx.scopes[symbol] = Scope(symbol.file).inner(dict(known.names))
        ctx.warnings += known.warnings
        ctx.pending += [other for place in known.pending if (other := _symbol(ctx, place)) is not None]
        ctx.steps += known.steps


def _may_be_reused(ctx: Context, symbol: Symbol) -> bool:
    return symbol.kind in REUSED and symbol.file is ctx.root and ctx.root.names.get(symbol.name) is symbol


def _is_text(symbol: Symbol, of: Symbol) -> bool:
    """Return True if the declaration `of` reads another one's text; False if it reads the node alone."""
    return symbol.kind in READ_AS_TEXT or symbol is of or symbol.kind == of.kind


def _unknown(ctx: Context) -> int:
    return sum(map(len, ctx.unknown.values()))


@lru_cache(maxsize=1000)
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Za-z_]\w*", text))


def _place(symbol: Symbol) -> _Place:
    return symbol.file.file, symbol.name


def _symbol(ctx: Context, place: _Place) -> Symbol | None:
    """Return the declaration at a place; None if there is none."""
    file = ctx.file_named(place[0])
    found = None if file is None else file.names.get(place[1])
    return found if isinstance(found, Symbol) else None


def _names_symbols(value: Value) -> bool:
    """Return True for a value that refers to declarations of the check that made it."""
    match value:
        case Ref() | Function() | Constructed():
            return True
        case Options(options=options):
            return any(_names_symbols(option.value) for option in options)
        case ListValue(items=items):
            return any(map(_names_symbols, items))
    return False


# ---------------------------------------------------------------- nodes and their places


def _moves(root: SourceFile, known: _Record) -> Iterator[tuple[tree.Item, tuple[int, int], int]]:
    for word, lines in known.lines.items():
        symbol = root.names[word]
        assert isinstance(symbol, Symbol)
        yield symbol.item, lines, symbol.item.span.line - lines[0]


def _moved(value: Any, root: SourceFile, moves: _Moves) -> Any:
    """Return a node with its places moved. Only nodes that have a place of their own contain others that do."""
    if isinstance(value, Where):
        return _place_moved(value, root, moves)
    if isinstance(value, tuple):
        new = tuple([_moved(each, root, moves) for each in value])
        return value if all(a is b for a, b in zip(new, value, strict=True)) else new
    if not isinstance(value, BaseModel) or "where" not in type(value).model_fields:
        return value
    found = {name: _moved(getattr(value, name), root, moves) for name in type(value).model_fields}
    changes = {name: new for name, new in found.items() if new is not getattr(value, name)}
    return value.model_copy(update=changes) if changes else value


def _place_moved(where: Where, root: SourceFile, moves: _Moves) -> Where:
    if where.file != root.shown:
        return where
    for _, (first, last), by in moves:
        if first <= where.line <= last:
            changes = {"line": where.line + by, "end_line": where.end_line + by}
            return where.model_copy(update=changes) if by else where
    raise _Elsewhere


def _alike(one: object, other: object) -> bool:
    """Return True for nodes that differ at most in their own place and text."""
    if one is other:
        return True
    if not isinstance(one, BaseModel) or not isinstance(other, BaseModel) or type(one) is not type(other):
        return False
    return bool(_with_place_of(one, other) == other)


def _with_place_of(one: BaseModel, other: object) -> BaseModel:
    """Return a node at the place, and with the comment, of another one."""
    places: dict[str, Any] = {
        name: getattr(other, name) for name in ("where", "doc") if name in type(one).model_fields
    }
    if isinstance(one, Space) and isinstance(other, Space) and _asked(one) == _asked(other):
        places["roundings"] = other.roundings
    if all(getattr(one, name) == value for name, value in places.items()):
        return one
    return one.model_copy(update=places)


def _asked(space: Space | SpaceInfo) -> list[tuple[object, ...]]:
    """Return the widths that a space rounds, without their places."""
    return [(rounding.asked, rounding.exact, rounding.width) for rounding in space.roundings]


def _infos_equal(one: SpaceInfo, other: SpaceInfo | None) -> bool:
    """Return True for the same knowledge of a space, at whatever places."""
    if other is None or _asked(one) != _asked(other):
        return False
    names = [f.name for f in fields(SpaceInfo) if f.name != "roundings"]
    return all(getattr(one, name) == getattr(other, name) for name in names)
