"""Search in the syntax tree: nodes by type, by name and by source span."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TypeVar

from puzzledsl.base.diagnostics import Span
from puzzledsl.syntax import tree

Found = TypeVar("Found", bound=tree.Node)


def walk(node: tree.Node) -> Iterator[tree.Node]:
    """A node and everything in it, outer before inner."""
    stack: list[object] = [node]
    while stack:
        top = stack.pop()
        if isinstance(top, tuple):
            stack.extend(reversed(top))
        elif isinstance(top, tree.Node):
            yield top
            parts = [getattr(top, f.name) for f in dataclasses.fields(top) if f.name != "span"]
            stack.extend(reversed([p for p in parts if isinstance(p, tuple | tree.Node)]))


def named_by(module: tree.Module, span: Span) -> tree.Node | None:
    """The node whose name stands at a span: an attribute, a call, a pattern; else the name itself."""
    best: tree.Node | None = None
    for node in walk(module):
        match node:
            case tree.Attribute(name=name) | tree.Pattern(name=name) | tree.Section(name=name):
                if name.span == span:
                    return node
            case tree.Call(function=tree.Name() as function) if function.span == span:
                return node
            case tree.Name() if node.span == span:
                best = node
    return best


def enclosing(module: tree.Module, span: Span, kind: type[Found]) -> Found | None:
    """The innermost node of a kind that holds a span."""
    best: Found | None = None
    for node in walk(module):
        here = node.span
        holds = (here.line, here.column) <= (span.line, span.column) and (
            (span.end_line, span.end_column) <= (here.end_line, here.end_column)
        )
        if holds and isinstance(node, kind):
            best = node
    return best
