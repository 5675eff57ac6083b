"""Mutants of a module, for `benchmarks.mutants`: what mutmut would change, and the source that holds the chosen changes."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import libcst as cst
from mutmut.mutation.file_mutation import (
    MutatedFile,
    Mutation,
    combine_mutations_to_source,
    create_mutations,
    group_by_top_level_node,
)

ROOT = Path(__file__).parents[1]
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_CACHE = re.compile(
    r"^@functools\.(lru_)?cache.*\n", re.MULTILINE
)  # would hide a mutant, and mutmut skips what is decorated


@dataclass(frozen=True)
class Change:
    """One change that mutmut would make of a function; `key` names it whatever else changes in its module."""

    key: str
    function: str
    mutation: Mutation


@dataclass(frozen=True)
class Source:
    """A module, and what mutmut would change in it."""

    path: Path
    text: str
    module: cst.Module
    ignored: tuple[set[str], set[str]]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Mutant:
    """One change. `lines`: where its statement stands in the unchanged copy that the mutated module holds."""

    key: str
    name: str
    place: str
    file: str
    lines: frozenset[int]
    diff: str

    @property
    def function(self) -> str:
        """The function that it is a mutant of."""
        return self.name.rpartition("__mutmut_")[0]


def source(path: Path) -> Source:
    """A module of the package, with every change that can be made of its functions and methods."""
    text = _CACHE.sub(lambda found: "\n" * found.group().count("\n"), path.read_text("utf-8"))
    module, mutations, *ignored = create_mutations(str(path), text)
    grouped = group_by_top_level_node(mutations)
    changes, seen = [], Counter[str]()
    for name, function in _functions(module):
        for mutation in grouped.get(function, ()):
            before, after = (
                cst.Module([]).code_for_node(node) for node in (mutation.original_node, mutation.mutated_node)
            )
            what = f"{path.relative_to(ROOT)}:{name}:{before}:{after}"
            key = hashlib.sha256(f"{what}:{seen[what]}".encode()).hexdigest()[:12]
            seen[what] += 1
            changes.append(Change(key, name, mutation))
    return Source(path, text, module, (ignored[0], ignored[1]), tuple(changes))


def _functions(module: cst.Module) -> Iterable[tuple[str, cst.FunctionDef]]:
    """Each function of a module, and each method as `Class.method`, in the order of the mutants."""
    for node in module.body:
        if isinstance(node, cst.FunctionDef):
            yield node.name.value, node
        elif isinstance(node, cst.ClassDef) and isinstance(node.body, cst.IndentedBlock):
            for inner in node.body.body:
                if isinstance(inner, cst.FunctionDef):
                    yield f"{node.name.value}.{inner.name.value}", inner


def mutated(source: Source, chosen: set[str]) -> tuple[str, list[Mutant]]:
    """The source that holds the mutants whose keys are chosen, and those mutants."""
    changes = [change for change in source.changes if change.key in chosen]
    made = combine_mutations_to_source(source.module, [c.mutation for c in changes], *source.ignored)
    module = ".".join(source.path.relative_to(ROOT).with_suffix("").parts)
    starts = _function_starts(source.text)
    lines = made.code.splitlines()
    pairs = zip(changes, made.mutant_names, strict=True)
    return made.code, [_mutant(c, name, module, source.path, made, lines, starts) for c, name in pairs]


def _mutant(
    change: Change,
    name: str,
    module: str,
    path: Path,
    made: MutatedFile,
    text: Sequence[str],
    starts: dict[str, int],
) -> Mutant:
    old = f"{name.rpartition('__mutmut_')[0]}__mutmut_orig"
    before, after = (_lines(made, text, each, each) for each in (old, name))
    first = made.line_span_by_function_name[old].start + len(_leading(made, text, old))
    changes = [
        c for c in difflib.SequenceMatcher(None, before, after, False).get_opcodes() if c[0] != "equal"
    ]
    low, high = changes[0][1], max(changes[-1][2], changes[0][1] + 1)
    return Mutant(
        key=change.key,
        name=f"{module}.{name}",
        place=f"{path.relative_to(ROOT)}:{starts[change.function] + low}",
        file=str(path),
        lines=frozenset(first + offset for offset in _statement(before, low, high)),
        diff="\n".join(d for d in difflib.ndiff(before, after) if d[0] in "-+"),
    )


def _leading(made: MutatedFile, text: Sequence[str], name: str) -> list[str]:
    """The comments and decorators before the `def` of a copy."""
    span = made.line_span_by_function_name[name]
    found = text[span.start - 1 : span.end]
    return [*found[: next(i for i, line in enumerate(found) if re.match(r"\s*(async )?def ", line))]]


def _lines(made: MutatedFile, text: Sequence[str], name: str, own: str) -> list[str]:
    span = made.line_span_by_function_name[name]
    return [
        line.replace(own, "_") for line in text[span.start - 1 + len(_leading(made, text, name)) : span.end]
    ]


def _function_starts(source: str) -> dict[str, int]:
    """The line of the `def` of each function, and of each method as `Class.method`."""
    found = {}
    for node in ast.parse(source).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        found.update({f"{prefix}{f.name}": f.lineno for f in inside if isinstance(f, _FUNCTIONS)})
    return found


def _statement(function: Sequence[str], low: int, high: int) -> Iterable[int]:
    """The offsets of lines one of which runs wherever the changed ones, `low` to before `high`, would."""
    indent = len(function[0]) - len(function[0].lstrip())
    tree = ast.parse("\n".join(line[indent:] for line in function)).body[0]
    assert isinstance(tree, _FUNCTIONS)
    if low < tree.body[0].lineno - 1:
        return range(len(function))  # a default of a parameter
    around = [
        n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n.lineno - 1 <= low < (n.end_lineno or 0)
    ]
    inner = max(around, key=lambda n: n.lineno)
    body = getattr(inner, "body", None) or getattr(inner, "cases", None)
    head = body[0].lineno - 1 if body and hasattr(body[0], "lineno") else inner.lineno
    return sorted({*range(low, high), *range(inner.lineno - 1, head if body else inner.end_lineno or high)})


class MutatedModules(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):  # type: ignore[misc]
    """Imports the modules that are mutated from the source that holds their mutants."""

    def __init__(self, sources: dict[str, str], paths: dict[str, Path]) -> None:
        self.sources, self.paths = sources, paths

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if fullname not in self.sources:
            return None
        return importlib.util.spec_from_file_location(fullname, self.paths[fullname], loader=self)

    def get_filename(self, fullname: str | None = None) -> str:
        assert fullname is not None, "importlib names the module"
        return str(self.paths[fullname])

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.sources[fullname], str(self.paths[fullname]), "exec", dont_inherit=True)
