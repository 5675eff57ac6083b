"""Files of a program, each with the names that it declares and uses, their loader, and scopes inside them.

A syntax error can hide a declared name, a part of a body or arguments of a call. Near one, the checker suppresses
diagnostics that such a loss would cause. The rest of the file is checked as usual.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar, assert_never

from puzzledsl.base.diagnostics import Args, Fix, Label, Near, Sink, Span
from puzzledsl.base.frozen import Record
from puzzledsl.base.phrases import closest
from puzzledsl.base.resources import listing, resource
from puzzledsl.base.settings import Call
from puzzledsl.checker import errors
from puzzledsl.ir.metric_records import metrics_under
from puzzledsl.language import words
from puzzledsl.language.kinds import ANYWHERE, HARDWARE_FACTS, KINDS, PARENT_FACTS
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import normalise, parse, read_source

T = TypeVar("T")
STD = "std/"
"""Paths of files that ship with the package begin so."""
_DECLARING = (*KINDS, "param", "let", "fn")


class Poison(Record):
    """The value of a faulty expression that is already reported."""


POISON = Poison()


@dataclass(slots=True, eq=False)
class Symbol:
    """A declared name. `kind`: a declaration's, or `param`, `let`, `fn`, `file`; of a local one `variable` or `parameter`."""

    name: str
    kind: str
    item: tree.Item
    file: SourceFile
    span: Span
    target: SourceFile | None = None  # of a `file`
    value: Any = None  # of a `let` or `param`, once evaluated
    busy: bool = False

    @property
    def place(self) -> tuple[str, int, int]:
        """Its file, line and column, by which it is known again in another check."""
        return self.file.key, self.span.line, self.span.column


Meant = Symbol | Poison


def declared(item: tree.Param | tree.Fn | tree.Let | tree.Decl, file: SourceFile) -> Symbol:
    """Return a new symbol of the name that an item of a file declares, also where another item has taken the name."""
    kind = item.kind.text if isinstance(item, tree.Decl) else type(item).__name__.lower()
    return Symbol(item.name.text, kind, item, file, item.name.span)


@dataclass(slots=True, eq=False)
class SourceFile:
    """A parsed file. `file` names it in spans, `shown` in the IR (relative to the program); `key` is its real path."""

    file: str
    shown: str
    path: Path
    text: str
    module: tree.Module
    key: str
    names: dict[str, Meant] = field(default_factory=dict)
    uses: dict[str, SourceFile] = field(default_factory=dict)  # the files that it uses, by what it writes
    lines: list[str] = field(default_factory=list)
    error_lines: set[int] = field(default_factory=set)  # where the parser reported something
    # (first, last) line of each of these mistakes with its labels, such as the open brace
    error_ranges: list[tuple[int, int]] = field(default_factory=list)
    lost_names: bool = False  # names may be declared that cannot be seen: a file used whole that is not there

    def __post_init__(self) -> None:
        self.lines = self.text.split("\n")

    def symbols(self, *kinds: str) -> list[Symbol]:
        """Return the symbols of the given kinds, or of all if none is given, also imported ones, in the order of the source."""
        found = (s for s in self.names.values() if isinstance(s, Symbol))
        return [s for s in found if not kinds or s.kind in kinds]

    def error_texts(self) -> list[str]:
        """Return the text of each line where the parser reported something."""
        return [self.lines[n - 1] for n in sorted(self.error_lines) if n <= len(self.lines)]

    def declares_unread(self, name: str) -> bool:
        """True where the text seems to declare `name` but parsing lost it: its uses are no further mistake."""
        if not self.module.broken:
            return False
        word = re.compile(rf"\b{re.escape(name)}\b")
        head, used = re.compile(rf"\s*(\w+)\s+{word.pattern}"), re.compile(rf"\s*use\b.*{word.pattern}")
        lines = [line for line in self.lines if name in line]
        found = any(map(word.search, self.error_texts())) or any(map(used.match, lines))
        heads = (match.group(1) for match in map(head.match, lines) if match)
        return found or any(text in _DECLARING or closest(text, _DECLARING) for text in heads)

    def is_damaged(self, span: Span) -> bool:
        """True where the parser reported something within a span: a part of it may be lost."""
        return any(start <= span.end_line and span.line <= end for start, end in self.error_ranges)

    def source(self, span: Span) -> str:
        """Return the text that a span of this file covers."""
        if span.line == span.end_line <= len(self.lines):
            return self.lines[span.line - 1][span.column - 1 : span.end_column - 1]
        return span.cut(self.lines)


class LocalNames(Record, Generic[T], eq=False):
    """A scope: local names and what they stand for. Names that it lacks are looked up in `outer`, if any, then in the file."""

    file: SourceFile
    names: dict[str, T] = field(default_factory=dict)
    outer: Self | None = None

    def inner(self, names: dict[str, T] | None = None) -> Self:
        """Return a scope inside this one, with `names` as its local names."""
        return type(self)(self.file, {} if names is None else names, self)

    def local(self, name: str) -> T | None:
        """Return what stands for a name bound by a body, a `for` or a `fn`; None where there is none."""
        if name in self.names or self.outer is None:
            return self.names.get(name)
        return self.outer.local(name)

    def all_local(self) -> dict[str, T]:
        """Every local name, nearest first."""
        outer = {} if self.outer is None else self.outer.all_local()
        return self.names | {name: found for name, found in outer.items() if name not in self.names}


MAX_FILES = 200
"""Files one program uses, itself included."""
Parse = Callable[[str, str, Sink], tree.Module]


@lru_cache(maxsize=16)
def _shipped(text: str, file: str) -> tree.Module:
    """Return the tree of a shipped file, which has no mistakes. Cached, since one process may check a program often."""
    sink = Sink()
    module = parse(text, file, sink)
    assert not sink.items, f"{file} has mistakes"
    return module


class Loader:
    """Reads a program's files, each once. `unsaved`: real path -> text to read in place of the file's. `parse` may cache."""

    def __init__(self, sink: Sink, unsaved: Mapping[str, str] | None = None, parse: Parse = parse) -> None:
        self.sink, self.unsaved, self.parse = sink, unsaved or {}, parse
        self.sources: dict[str, str] = {}
        self.files: dict[str, SourceFile] = {}
        self.loading: list[str] = []
        self.root_folder = Path()

    def root(self, path: Path) -> SourceFile | None:
        """Load the program's own file and all files that it uses; return the file, or None, reported, if it cannot be read."""
        self.root_folder = path.parent
        return self._load(path, str(path), path.name)

    def _load(self, path: Path, file: str, shown: str) -> SourceFile | None:
        key = key_of(path)
        if key in self.files:
            return self.files[key]
        text = normalise(self.unsaved[key]) if key in self.unsaved else read_source(path, self.sink)
        if text is None:
            return None
        self.sources[file] = text
        before = len(self.sink.items)
        is_shipped = shown.startswith(STD) and key not in self.unsaved and self.parse is parse
        module = _shipped(text, file) if is_shipped else self.parse(text, file, self.sink)
        loaded = SourceFile(file, shown, path, text, module, key)
        for mistake in self.sink.items[before:]:
            if mistake.span is not None:
                spans = [mistake.span, *(label.span for label in mistake.secondary)]
                loaded.error_lines.update(range(mistake.span.line, mistake.span.end_line + 1))
                loaded.error_ranges.append((min(s.line for s in spans), max(s.end_line for s in spans)))
        # an unknown number of names is lost by a broken `use`, or without a name
        items = (item for item in module.items if not isinstance(item, tree.Use | tree.Assert))
        nameless = module.broken and any(not item.name.text for item in items)
        uses = (re.search(r"\.pzl\"|^\s*use\b", line) for line in loaded.error_texts())
        loaded.lost_names = nameless or any(uses)
        self.files[key] = loaded
        self.loading.append(key)
        for item in loaded.module.items:
            self._declare(item, loaded)
        self.loading.pop()
        return loaded

    def _declare(self, item: tree.Item, file: SourceFile) -> None:
        match item:
            case tree.Use():
                used, alias = self._used_file(item, file), item.alias
                file.uses |= {item.path.value: used} if used is not None else {}
                if alias is not None:
                    own = Symbol(alias.text, "file", item, file, alias.span, target=used)
                    self._bind(file, alias.text, own if used else POISON, alias.span)
                elif item.names:
                    for name in item.names:
                        meant = self._imported(name, item.path.value, used, file)
                        self._bind(file, name.text, meant, name.span)
                elif used is None:
                    file.lost_names = True
                else:
                    for own in (own for own in used.symbols() if own.file is used):
                        self._bind(file, own.name, own, item.path.span)
            case tree.Decl(kind=kind, name=name) if kind.text not in KINDS:
                self._bind(file, name.text, POISON, name.span)  # reported by the parser
            case tree.Param() | tree.Fn() | tree.Let() | tree.Decl():
                known = declared(item, file)
                self._bind(file, known.name, known, known.span)
            case tree.Assert():
                pass
            case _:
                assert_never(item)

    def _bind(self, file: SourceFile, name: str, symbol: Meant, span: Span) -> None:
        # the parser reports one without a name
        before = file.names.setdefault(name, symbol) if name else symbol
        if before is symbol or span.line in file.error_lines:
            return
        if isinstance(before, Symbol) and isinstance(symbol, Symbol):
            label = Label(before.span, "first declared here")
            self.sink.add(errors.DuplicateName(span, "again here", name=name, secondary=[label]))

    def _imported(self, name: tree.Name, path: str, used: SourceFile | None, file: SourceFile) -> Meant:
        """Return what a name in a `use` imports; POISON, reported, if the file cannot be read or lacks the name."""
        if used is None or not name.text or used.declares_unread(name.text):
            return POISON
        if name.text in used.names:
            return used.names[name.text]
        near = closest(name.text, used.names)
        if near:  # uses with the right spelling are no mistake
            self._bind(file, near, used.names[near], name.span)
        names = [f"`{s.name}`" for s in used.symbols() if s.file is used]
        known = "it declares " + ", ".join(names[:12]) + (" …" if len(names) > 12 else "") if names else ""
        said: Args = {"path": path, "name": name.text}
        self.sink.add(errors.NotDeclaredThere(name.span, near=near, help=known, **said))
        return POISON

    def _used_file(self, use: tree.Use, file: SourceFile) -> SourceFile | None:
        """Return the file that a `use` names; None, reported, if it is missing, unreadable, one too many, or uses itself."""
        name = use.path.value
        if name.startswith(STD):
            path = _tried(lambda: resource("spaces", name), None)
            shown_file = shown = name
        else:
            path = file.path.parent / name
            shown_file = os.path.normpath(os.path.join(os.path.dirname(file.file), name))
            # its name alone where it is on another drive
            shown = Path(_tried(partial(os.path.relpath, path, self.root_folder), path.name)).as_posix()
        if path is None or not (_tried(path.is_file, False) or key_of(path) in self.unsaved):
            help, meant = self._instead(name, file)
            fixes = [Fix.replace(use.path.span, f'"{meant}"', safe=meant.alone)] if meant else []
            self.sink.add(errors.NoSuchFile(use.path.span, path=name, help=help, fixes=fixes))
            return None
        key = key_of(path)
        if key in self.loading:
            chain = [self.files[k].shown for k in self.loading[self.loading.index(key) :]]
            text = " uses ".join(f"`{c}`" for c in [*chain, chain[0]])
            self.sink.add(errors.CyclicUse(use.path.span, path=self.files[key].shown, chain=text))
            return None
        if len(self.files) >= MAX_FILES or len(self.loading) > MAX_FILES // 4:
            self.sink.add(errors.TooMuch(use.path.span, what="the program's set of files", limit=MAX_FILES))
            return None
        return self._load(path, shown_file, shown)

    def _instead(self, name: str, file: SourceFile) -> tuple[str, Near | None]:
        """Return the help for a path without a file, and the path that was probably meant, None if none is near."""
        known = [n for n in listing("spaces") if n.startswith(STD)]
        if (shipped := f"{STD}{Path(name).name}") in known and not name.startswith(STD):
            return f"did you mean the shipped `{shipped}`?", Near(shipped, alone=True)
        help, near = "shipped files: " + ", ".join(f"`{n}`" for n in known), closest(name, known)
        if not name.startswith(STD):
            folder = (file.path.parent / name).parent
            beside: list[str] = _tried(lambda: sorted(os.listdir(folder))[:1000], list[str]())
            near = closest(Path(name).name, [n for n in beside if n.endswith(".pzl")])
            near = near and Near((Path(name).parent / near).as_posix(), alone=near.alone)
            help = 'a path is relative to the file that uses it; shipped files are in std/, such as `"std/hardware.pzl"`'
        return f"did you mean `{near}`?" if near else help, near


def key_of(path: Path) -> str:
    """Return the key of a file: its real path, with links resolved."""
    return _tried(lambda: os.path.realpath(path), str(path))


def _tried(read: Callable[[], T], otherwise: T) -> T:
    """Return `read()`; `otherwise` where it raises OSError or ValueError, as for a file that is not there."""
    try:
        return read()
    except (OSError, ValueError):
        return otherwise


Category = Literal["kind", "type", "setting", "call", "function", "metric", "fact", "space", "word"]


class LanguageWord(Record):
    """A word of the language in its context. `doc` explains it there; `owner` is the construct that it belongs to."""

    name: str
    category: Category
    doc: str = ""
    owner: str = ""
    call: Call | None = field(default=None, compare=False, repr=False)


Meaning = Symbol | LanguageWord
Type = str
"""`layers`, `layer`, `attention`, `ffn` or a declaration's kind; "" for a value, and where only evaluation can tell."""
Typed = tuple[Meaning | None, Type]
SPACE_NAMES: dict[str, Typed] = {
    name: (LanguageWord(name, "space", doc), name if name in ("layers", "attention", "ffn") else "")
    for name, doc in words.SPACE_WORDS.items()
}
"""Names that a space defines for its statements and its searches' expressions."""
VALUE_KINDS = ("let", "param", "fn")
"""Kinds of symbols that stand for a value."""


class NameScope(LocalNames[Typed], eq=False):
    """Names visible at a place, with their meanings and types."""

    def declared(self, name: str) -> Symbol | None:
        """Return the declaration that a name refers to, in the file or in one that it uses; None if there is none."""
        symbol = self.file.names.get(name)
        return symbol if isinstance(symbol, Symbol) else None

    def find(self, name: str) -> Typed | None:
        """Return a name's meaning and type, local names first; None if undeclared. A `let c = chat` has the type of `chat`."""
        symbol = self.declared(name)
        if (local := self.local(name)) is not None or symbol is None:
            return local
        if symbol.kind not in VALUE_KINDS:
            return symbol, symbol.kind
        value = symbol.item.value if isinstance(symbol.item, tree.Let) else None
        other = symbol.file.names.get(value.text) if isinstance(value, tree.Name) else None
        return symbol, other.kind if isinstance(other, Symbol) and other.kind not in VALUE_KINDS else ""

    def visible(self) -> dict[str, Meaning]:
        """Return every visible name with its meaning, nearest first."""
        found = {name: meaning for name, (meaning, _) in self.all_local().items() if meaning is not None}
        declared = {name: symbol for name, symbol in self.file.names.items() if isinstance(symbol, Symbol)}
        return found | {name: symbol for name, symbol in declared.items() if name not in found}


def members(meaning: Meaning | None, kind: Type) -> dict[str, Meaning]:
    """Return the names that can follow the dot behind something of this type."""
    match kind:
        case "layers":
            return _words("space", words.SUB_BLOCKS)
        case "layer":
            return _words("space", words.LAYER_FACTS, kind)
        case "attention" | "ffn":
            return _words("fact", words.SUB_BLOCK_FACTS[kind], kind)
        case "scenario":
            call = getattr(getattr(meaning, "item", None), "value", None)
            traffic = isinstance(call, tree.Call) and getattr(call.function, "text", "") == "traffic"
            metrics = {name: metric.doc for name, metric in metrics_under(traffic=traffic).items()}
            owner = meaning.name if meaning is not None else ""
            return _words("metric", metrics, owner) | _words("fact", words.SCENARIO_FACTS, kind)
        case "parent":
            return _words("fact", PARENT_FACTS, kind)
        case "hardware":
            return _words("fact", HARDWARE_FACTS, kind)
        case "file" if isinstance(meaning, Symbol) and meaning.target is not None:
            return {n: s for n, s in meaning.target.names.items() if isinstance(s, Symbol)}
    return {}


def _words(category: Category, docs: dict[str, str], owner: str = "") -> dict[str, Meaning]:
    return {name: LanguageWord(name, category, doc, owner) for name, doc in docs.items()}


EXPLAINED: dict[str, str] = {**words.ENDS, **words.SUB_BLOCKS, **words.OTHER, **words.DTYPES, **words.VALUES}
"""Words of closed lists and of values, each with the line that explains it."""


def language_word(text: str) -> LanguageWord | None:
    """Return the word of the language for a name that nothing declares; None if the language has no such word."""
    if text in words.FUNCTIONS:
        return LanguageWord(text, "function", words.FUNCTIONS[text])
    if (call := ANYWHERE.get(text)) is not None:
        return LanguageWord(text, "call", call.doc, call=call)
    return LanguageWord(text, "word", EXPLAINED[text]) if text in EXPLAINED else None
