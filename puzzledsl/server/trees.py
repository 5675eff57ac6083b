"""What was parsed lately: shipped files and unchanged ones are read again at every check, and need not be parsed again."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from puzzledsl.diagnostics import Diagnostic, Sink
from puzzledsl.lang import tree
from puzzledsl.lang.parse import parse

MOST = 64
"""Files that are remembered."""


class _Known(NamedTuple):
    text: str
    module: tree.Module
    mistakes: tuple[Diagnostic, ...]


class Trees:
    """A parser that remembers the last text of each file, with what is wrong with it."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def parse(self, text: str, file: str, sink: Sink) -> tree.Module:
        """`lang.parse.parse`, at once where this was the file's text the last time."""
        known = self._known.get(file)
        if known is None or known.text != text:
            own = Sink()
            known = self._known[file] = _Known(text, parse(text, file, own), tuple(own.items))
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        self._known.move_to_end(file)
        for diagnostic in known.mistakes:
            sink.add(diagnostic)
        return known.module
