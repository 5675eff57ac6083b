"""Loader of a program: its files, each with the names that it declares and uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar, assert_never

from puzzledsl.base.diagnostics import Args, Fix, Label, Near, Sink, Span
from puzzledsl.base.resources import listing, resource
from puzzledsl.base.suggest import closest
from puzzledsl.checker import errors
from puzzledsl.checker.expressions.values import POISON, Poison
from puzzledsl.checker.limits import MAX_FILES
from puzzledsl.checker.names.symbols import STD, SourceFile, Symbol, declared
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import normalise, parse, read_source

T = TypeVar("T")
Parse = Callable[[str, str, Sink], tree.Module]


@lru_cache(maxsize=16)
def _shipped(text: str, file: str) -> tree.Module:
    """Return the tree of a shipped file, which has no mistakes; one process may check a program often."""
    sink = Sink()
    module = parse(text, file, sink)
    assert not sink.items, f"{file} has mistakes"
    return module


class Loader:
    """Reads a program's files: each once, `use` resolved, duplicates and cycles reported.

    `unsaved` maps real paths to texts that stand for the files' own: what an editor has not written yet. `parse` is the
    parser, or one that remembers.
    """

    def __init__(self, sink: Sink, unsaved: Mapping[str, str] | None = None, parse: Parse = parse) -> None:
        self.sink = sink
        self.unsaved = unsaved or {}
        self.parse = parse
        self.sources: dict[str, str] = {}
        self.files: dict[str, SourceFile] = {}
        self.loading: list[str] = []
        self.root_folder = Path()

    def root(self, path: Path) -> SourceFile | None:
        """The program's own file with everything it uses; None where it cannot be read."""
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
        loaded.note_errors(self.sink.items[before:])
        self.files[key] = loaded
        self.loading.append(key)
        for item in loaded.module.items:
            self._declare(item, loaded)
        self.loading.pop()
        return loaded

    def _declare(self, item: tree.Item, file: SourceFile) -> None:
        match item:
            case tree.Use():
                self._use(item, file)
            case tree.Decl(kind=kind, name=name) if kind.text not in KINDS:
                self._bind(file, name.text, POISON, name.span)  # reported by the parser
            case tree.Param() | tree.Fn() | tree.Let() | tree.Decl():
                symbol = declared(item, file)
                self._bind(file, symbol.name, symbol, symbol.span)
            case tree.Assert():
                pass
            case _:
                assert_never(item)

    def _bind(self, file: SourceFile, name: str, symbol: Symbol | Poison, span: Span) -> None:
        before = (
            file.names.setdefault(name, symbol) if name else symbol
        )  # the parser reports one without a name
        if isinstance(before, Symbol) and isinstance(symbol, Symbol) and before is not symbol:
            label = Label(before.span, "first declared here")
            self.sink.add(errors.DuplicateName(span, "again here", name=name, secondary=[label]))

    def _use(self, use: tree.Use, file: SourceFile) -> None:
        used = self._used_file(use, file)
        if use.alias is not None:
            alias = use.alias
            symbol = Symbol(alias.text, "file", use, file, alias.span, target=used) if used else POISON
            self._bind(file, alias.text, symbol, alias.span)
        elif use.names:
            for name in use.names:
                self._bind(file, name.text, self._imported(name, use, used, file), name.span)
        elif used is None:
            file.lost_names = True
        else:
            for symbol in (symbol for symbol in used.symbols() if symbol.file is used):
                self._bind(file, symbol.name, symbol, use.path.span)

    def _imported(
        self, name: tree.Name, use: tree.Use, used: SourceFile | None, file: SourceFile
    ) -> Symbol | Poison:
        """Return what a name of a `use` in a file means in the file that is used; a missing one is reported."""
        if used is None or not name.text or used.declares_unread(name.text):
            return POISON
        if name.text in used.names:
            return used.names[name.text]
        near = closest(name.text, used.names)
        if near:  # uses with the right spelling are no mistake
            self._bind(file, near, used.names[near], name.span)
        names = [f"`{s.name}`" for s in used.symbols() if s.file is used]
        known = "it declares " + ", ".join(names[:12]) + (" …" if len(names) > 12 else "") if names else ""
        said: Args = {"path": use.path.value, "name": name.text}
        self.sink.add(errors.NotDeclaredThere(name.span, near=near, help=known, **said))
        return POISON

    def _used_file(self, use: tree.Use, file: SourceFile) -> SourceFile | None:
        """The file a `use` means. None where it is missing, unreadable or being read: reported."""
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
            what = "the program's set of files"
            self.sink.add(errors.TooMuch(use.path.span, what=what, limit=MAX_FILES))
            return None
        return self._load(path, shown_file, shown)

    def _instead(self, name: str, file: SourceFile) -> tuple[str, Near | None]:
        """Help for a path that leads nowhere, and the path that was likely meant."""
        known = [n for n in listing("spaces") if n.startswith(STD)]
        if (shipped := f"{STD}{Path(name).name}") in known and not name.startswith(STD):
            return f"did you mean the shipped `{shipped}`?", Near(shipped, alone=True)
        help, near = "shipped files: " + ", ".join(f"`{n}`" for n in known), closest(name, known)
        if not name.startswith(STD):
            folder = (file.path.parent / name).parent
            beside: list[str] = _tried(lambda: sorted(os.listdir(folder))[:1000], list[str]())
            near = closest(Path(name).name, [n for n in beside if n.endswith(".pzl")])
            near = near and Near((Path(name).parent / near).as_posix(), alone=near.alone)
            help = "a path is relative to the file that uses it; shipped files begin with `std/`"
        return f"did you mean `{near}`?" if near else help, near


def key_of(path: Path) -> str:
    """Return the key of a file: its real path, with links resolved."""
    return _tried(lambda: os.path.realpath(path), str(path))


def _tried(read: Callable[[], T], otherwise: T) -> T:
    """Return `read()`; `otherwise` for a name that no file can have, or a file that is not there."""
    try:
        return read()
    except (OSError, ValueError):
        return otherwise
