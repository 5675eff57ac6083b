"""Cache of syntax trees: every check reads shipped and unchanged files again, which need not be parsed again."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from puzzledsl.base.diagnostics import Diagnostic, Sink
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse

MOST = 64
"""Number of files in the cache."""


class _Known(NamedTuple):
    text: str
    module: tree.Module
    mistakes: tuple[Diagnostic, ...]


class Trees:
    """A parser that caches the last text of each file with its tree and syntax diagnostics."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def parse(self, text: str, file: str, sink: Sink) -> tree.Module:
        """Parse like `syntax.parse.parse`; return the cached tree if the text of the file has not changed."""
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
