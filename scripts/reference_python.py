"""docs/python.md from the docstrings of the Python API, which follow Google's convention."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import puzzledsl as pzl
from puzzledsl import api

SECTIONS = ("Args", "Returns", "Raises")
_HEAD = re.compile(rf"^({'|'.join(SECTIONS)}):\n", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\S[^:\n]*): (.*(?:\n {6,}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Docstring:
    """A docstring in parts. `entries` are the named lines of `Args` and `Raises`."""

    text: str
    entries: dict[str, dict[str, str]] = field(default_factory=dict)
    returns: str = ""

    @classmethod
    def of(cls, thing: object) -> Docstring:
        """The docstring of a function, class or property. Raises ValueError where there is none."""
        text = inspect.getdoc(thing)
        if not text:
            raise ValueError(f"{thing} has no docstring")
        first, *rest = _HEAD.split(text + "\n")
        parts = dict(zip(rest[::2], rest[1::2], strict=True))
        entries = {
            name: {key: _line(words) for key, words in _ENTRY.findall(parts[name])}
            for name in ("Args", "Raises")
            if name in parts
        }
        return cls(first.strip(), entries, _line(parts.get("Returns", "")))


def python(made: str) -> Iterator[str]:
    """The lines of the page. `made` says that it is made from the code."""
    yield f"# Python\n\n{made}\n"
    yield inspect.getdoc(api) or ""
    yield ""
    for name in pzl.__all__:
        if name == "__version__":
            continue
        thing = getattr(pzl, name)
        yield f"## {name}\n"
        yield from _class(name, thing) if inspect.isclass(thing) else _function(name, thing)


def members(kind: type) -> dict[str, Any]:
    """The public methods and properties that a class itself defines, in the order of its source."""
    return {
        name: member
        for name, member in vars(kind).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }


def _class(name: str, kind: type) -> Iterator[str]:
    yield f"{_flowing(Docstring.of(kind).text)}\n"
    if issubclass(kind, Exception) or kind is pzl.Diagnostic:
        return
    properties = {n: m for n, m in members(kind).items() if isinstance(m, property)}
    if properties:
        yield "| property | type | meaning |\n|---|---|---|"
        for each, member in properties.items():
            kind_of = member.fget.__annotations__["return"].removeprefix("nodes.")
            yield f"| `{each}` | `{_cell(kind_of)}` | {_cell(_line(Docstring.of(member).text))} |"
        yield ""
    for each, member in members(kind).items():
        if each not in properties:
            yield f"### {name}.{each}\n"
            yield from _function(each, member)


def _function(name: str, function: Callable[..., Any]) -> Iterator[str]:
    doc = Docstring.of(function)
    yield f"```text\n{_signature(name, function)}\n```\n\n{_flowing(doc.text)}\n"
    if arguments := doc.entries.get("Args"):
        yield "| argument | meaning |\n|---|---|"
        yield from (f"| `{_cell(each)}` | {_cell(text)} |" for each, text in arguments.items())
        yield ""
    if doc.returns:
        yield f"Returns: {doc.returns}\n"
    yield from (f"- raises `{each}`: {text}" for each, text in doc.entries.get("Raises", {}).items())
    if "Raises" in doc.entries:
        yield ""


def _signature(name: str, function: Callable[..., Any]) -> str:
    """`solve(search: str) -> Answer`, one argument a line where it is long."""
    signature = inspect.signature(function)
    parts, plain = [], False
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not plain:
            parts.append("*")
        plain = plain or parameter.kind is parameter.KEYWORD_ONLY
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        kind = str(parameter.annotation).replace("nodes.", "")
        parts.append(f"{stars}{parameter.name}: {kind}{default}")
    line = f"{name}({', '.join(parts)}) -> {signature.return_annotation}"
    if len(line) <= 100:
        return line
    body = "".join(f"    {part},\n" for part in parts)
    return f"{name}(\n{body}) -> {signature.return_annotation}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _flowing(text: str) -> str:
    return "\n\n".join(_line(part) for part in text.split("\n\n"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
