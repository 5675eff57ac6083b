"""Cache of syntax trees: every check reads shipped and unchanged files again, which need not be parsed again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from puzzledsl.base.diagnostics import Diagnostic, Sink
from puzzledsl.server.parts import Parts
from puzzledsl.syntax import tree

MOST = 64
"""Number of files in the cache."""


@dataclass(slots=True)
class _Known:
    parts: Parts = field(default_factory=Parts)
    text: str | None = None
    module: tree.Module | None = None
    mistakes: tuple[Diagnostic, ...] = ()


class Trees:
    """A parser that caches the last text of each file with its tree and syntax diagnostics.

    Of a text that has changed it parses the parts that have. What has not changed is the same object as before.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def parse(self, text: str, file: str, sink: Sink) -> tree.Module:
        """Parse like `syntax.parse.parse`; return the cached tree if the text of the file has not changed."""
        known = self._known.setdefault(file, _Known())
        if known.module is None or known.text != text:
            own = Sink()
            known.module = known.parts.parse(text, file, own)
            known.text, known.mistakes = text, tuple(own.items)
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        self._known.move_to_end(file)
        for diagnostic in known.mistakes:
            sink.add(diagnostic)
        return known.module
