"""Structure of the package: no circles of imports, no crowded folder, no retired name."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

import puzzledsl

PACKAGE = Path(puzzledsl.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_MODULES = 20

RETIRED = set(
    "meters layered tails truths merging polish likeness damage seals collector "
    "School Pupil enrol revive go_on Crew Alone shelves everything".split()
)
"""Private words that no identifier may be. docs/architecture.md has the field's terms."""
RETIRED_DEFINITIONS = RETIRED | set(
    "marks prices looking following planned readings readers front starting teaching".split()
)
"""Words that name no file, class or function. A variable may have them: dual prices, the following token."""


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    """The package's files, parsed."""
    return {path: ast.parse(path.read_text("utf-8")) for path in FILES}


# ---------------------------------------------------------------- imports


def module_of(path: Path, root: Path = PACKAGE) -> str:
    """Return the dotted name of a file below the package, without the package's."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield every module or name that a file imports from the package, also in functions and for types alone."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), level=0):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.Import():
                yield from (f"{alias.name}.*" for alias in node.names)
            case _:
                pass


def import_graph(sources: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Return module -> modules it imports, of the modules given by name."""
    graph: dict[str, set[str]] = {}
    for name, tree in sources.items():
        targets = (full.removeprefix("puzzledsl.") for full in imported(tree))
        found = {target if target in sources else target.rpartition(".")[0] for target in targets}
        graph[name] = (found & sources.keys()) - {name}
    return graph


def circles(graph: Mapping[str, Set[str]]) -> list[set[str]]:
    """Return the strongly connected components of more than one module (Kosaraju 1978)."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(node: str, edges: Mapping[str, Set[str]], out: list[str]) -> None:
        if node not in seen:
            seen.add(node)
            for target in sorted(edges[node]):
                visit(target, edges, out)
            out.append(node)

    for node in graph:
        visit(node, graph, order)
    backward: dict[str, set[str]] = {node: set() for node in graph}
    for node, targets in graph.items():
        for target in targets:
            backward[target].add(node)
    seen.clear()
    components = []
    for node in reversed(order):
        component: list[str] = []
        visit(node, backward, component)
        components.append(set(component))
    return [component for component in components if len(component) > 1]


def test_files_import_each_other_in_no_circle(trees: dict[Path, ast.Module]) -> None:
    graph = import_graph({module_of(path): tree for path, tree in trees.items()})
    assert sum(map(len, graph.values())) > len(FILES), "the imports were not found"
    found = [sorted(circle) for circle in circles(graph)]
    assert not found, f"files that import each other: {found}"


# ---------------------------------------------------------------- folders


def test_no_folder_has_more_than_twenty_modules() -> None:
    counts: dict[str, int] = {}
    for path in FILES:
        folder = path.parent.relative_to(PACKAGE.parent).as_posix()
        counts[folder] = counts.get(folder, 0) + (path.name != "__init__.py")
    crowded = {folder: count for folder, count in counts.items() if count > MOST_MODULES}
    assert not crowded, f"split these folders: {crowded}"


# ---------------------------------------------------------------- names


def retired_names(tree: ast.Module) -> set[str]:
    """Return the retired names among the identifiers of a file; a leading `_` makes no difference."""
    found: set[str] = set()
    for node in ast.walk(tree):
        names, words = [], RETIRED
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names, words = [name], RETIRED_DEFINITIONS
            case (
                ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name))
            ):
                names = [name]
            case ast.alias(name=name, asname=other):
                names = [*name.split("."), other or ""]
            case ast.ImportFrom(module=str(name)):
                names = name.split(".")
            case _:
                pass
        found |= {name.strip("_") for name in names} & words
    return found


def test_no_retired_name_is_left(trees: dict[Path, ast.Module]) -> None:
    found = set()
    for path in FILES:
        place = path.relative_to(PACKAGE)
        parts = set(place.with_suffix("").parts)
        words = retired_names(trees[path]) | (parts & RETIRED_DEFINITIONS)
        found |= {f"{place.as_posix()}: {word}" for word in words}
    assert not found, "\n".join(["retired names:", *sorted(found)])


# ---------------------------------------------------------------- private names

OF_A_LIBRARY = {
    "torch": "models/transformers_private.py",
    "transformers": "models/transformers_private.py",
    "llama_cpp_py_sync": "export/engines/llama_cpp_engine.py",
    "pygments": "syntax/pygments_lexer.py",
    "typer": "cli/app.py",
    "Python": "base/process.py",
}
"""Library -> the one file that may use its private names, which says why nothing public does."""


def private_names(tree: ast.Module) -> set[str]:
    """Return the private names that a file uses and neither defines nor inherits."""
    own, used = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                own.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.keyword(arg=str(name)):
                own.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                own.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls" | "os"), attr=name):
                pass  # inherited; `os._exit` is documented
            case ast.Attribute(attr=name):
                used.add(name)
            case ast.ImportFrom(module=str(module), names=names):
                used |= {part for alias in names for part in (*module.split("."), alias.name)}
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr" | "delattr"),
                args=[ast.Name(id=holder), ast.Constant(value=str(name)), *_],
            ) if holder != "self":
                used.add(name)
    return {name for name in used - own if name.startswith("_") and not name.endswith("__")}


def test_private_names_of_a_library_stand_in_its_one_file(trees: dict[Path, ast.Module]) -> None:
    """The files that travel with a checkpoint run without the package, so they have their own."""
    allowed = set(OF_A_LIBRARY.values())
    found = {
        str(path.relative_to(PACKAGE)): names
        for path in FILES
        if "remote" not in path.parts and (names := private_names(trees[path]))
    }
    assert found.keys() == allowed, {path: found[path] for path in found.keys() - allowed}
