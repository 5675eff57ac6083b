"""Structure of the package: imports, folders, names, docstrings and diagnostics."""

from __future__ import annotations

import ast
import graphlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import puzzledsl
from puzzledsl.base.diagnostics import Mistake
from puzzledsl.cli.commands.explain import all_codes

PACKAGE = Path(puzzledsl.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_MODULES = 20

Nodes = list[ast.AST]


def nodes_of(path: Path) -> Nodes:
    return [*ast.walk(ast.parse(path.read_text("utf-8")))]


@pytest.fixture(scope="module")
def nodes() -> dict[Path, Nodes]:
    """The nodes of every file of the package."""
    return {path: nodes_of(path) for path in FILES}


# ---------------------------------------------------------------- imports


def module_of(path: Path) -> str:
    """Return the dotted name of a file of the package, without the package's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(nodes: Nodes) -> Iterator[str]:
    """Yield every module or name that a file imports from the package, also in functions and for types alone."""
    for node in nodes:
        match node:
            case ast.ImportFrom(module=str(module), level=0):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.Import():
                yield from (f"{alias.name}.*" for alias in node.names)
            case _:
                pass


def test_files_import_each_other_in_no_circle(nodes: dict[Path, Nodes]) -> None:
    names = {module_of(path) for path in FILES}
    graph: dict[str, set[str]] = {}
    for path in FILES:
        targets = (full.removeprefix("puzzledsl.") for full in imported(nodes[path]))
        found = {target if target in names else target.rpartition(".")[0] for target in targets}
        graph[module_of(path)] = (found & names) - {module_of(path)}
    assert sum(map(len, graph.values())) > len(FILES), "the imports were not found"
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


# ---------------------------------------------------------------- folders


def test_no_folder_has_more_than_twenty_modules() -> None:
    counts = Counter(path.parent.relative_to(PACKAGE) for path in FILES if path.name != "__init__.py")
    crowded = {str(folder): count for folder, count in counts.items() if count > MOST_MODULES}
    assert not crowded, f"split these folders: {crowded}"


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


def private_names(nodes: Nodes) -> set[str]:
    """Return the private names that a file uses and neither defines nor inherits."""
    own, used = set(), set()
    for node in nodes:
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


def test_private_names_of_a_library_stand_in_its_one_file(nodes: dict[Path, Nodes]) -> None:
    """The files that travel with a checkpoint run without the package, so they have their own."""
    allowed = set(OF_A_LIBRARY.values())
    found = {
        str(path.relative_to(PACKAGE)): names
        for path in FILES
        if "remote" not in path.parts and (names := private_names(nodes[path]))
    }
    assert found.keys() == allowed, {path: found[path] for path in found.keys() - allowed}


# ---------------------------------------------------------------- docstrings and diagnostics

OPENING = re.compile(r"\s*(What|How|Where|Whether|Of|That)\b")


def test_docstrings_open_with_a_verb_or_a_noun_phrase(nodes: dict[Path, Nodes]) -> None:
    """Also strings that document an assignment; never a question word or a dangling "of" or "that"."""
    others = (PACKAGE.parent / folder for folder in ("benchmarks", "examples", "scripts"))
    found = nodes | {path: nodes_of(path) for folder in others for path in folder.rglob("*.py")}
    for path in found:
        for node in found[path]:
            match node:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    assert not OPENING.match(text), f"{path}:{node.lineno}: {text.strip().splitlines()[0]}"
                case _:
                    pass


def mistakes(nodes: dict[Path, Nodes]) -> Iterator[tuple[str, ast.Call]]:
    """The name of every kind of mistake, with its record."""
    for path in FILES:
        for node in nodes[path]:
            match node:
                case ast.Assign(
                    targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="Mistake")) as made
                ):
                    yield name, made


def test_a_mistake_is_at_most_eight_lines(nodes: dict[Path, Nodes]) -> None:
    found = {ast.literal_eval(made.args[0]): made for _, made in mistakes(nodes)}
    assert all((made.end_lineno or 0) - made.lineno < 8 for made in found.values())
    assert found.keys() == all_codes().keys()


def test_every_report_fills_the_words_of_its_message(nodes: dict[Path, Nodes]) -> None:
    """Every field of a template is given by each place that reports it: else the message would be a KeyError."""
    kinds: dict[str, list[Mistake]] = {}
    for name, made in mistakes(nodes):
        kinds.setdefault(name, []).append(all_codes()[ast.literal_eval(made.args[0])])
    reports = 0
    for path in FILES:
        for node in nodes[path]:
            match node:
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in kinds:
                    given = {k.arg for k in node.keywords}
                case _:
                    continue
            texts = [kind.template + ("" if "help" in given else kind.help_template) for kind in kinds[name]]
            wanted = [{*re.findall(r"(?<!\{)\{(\w+)", text)} - {"help"} for text in texts]
            assert None in given or any(words <= given for words in wanted), (path, node.lineno, name)
            reports += None not in given
    assert reports > 150
