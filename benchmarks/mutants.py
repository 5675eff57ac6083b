"""Mutants that no test notices: each that mutmut makes of the code that must be right, run against the tests that reach it.

    python -m benchmarks.mutants [--files GLOB] [--sample N] [--budget 10] [--floor 85] [--out FILE] [--again FILE]
    python -m benchmarks.mutants --folder search --sample 200 [--out FILE]

`[tool.mutmut]` in pyproject.toml says what is changed and which tests look; with `--folder` it is a folder of the package, and the
tests of the same name. mutmut makes the mutants; the runner is ours, because mutmut's starts a pytest session a mutant and runs all
tests that call the changed *function*, which in `ir/lower` are nearly all. Here pytest collects once, each mutant is a fork of that
process, and it meets the tests that reach the changed *statement*, quickest first, until one fails. A mutant no test reaches counts
as surviving. `--out` adds a line of JSON a mutant, and those that it has already are not run again: an interrupted run goes on.
A sample is drawn by a hash of each change, so that it stays nearly the same while the code around it changes.
Exit code 1 where, of what one pattern of `only_mutate` names, less than `--floor` per cent is noticed.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import fnmatch
import functools
import gc
import hashlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import pickle
import re
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal

import coverage
import libcst as cst
import pytest
from mutmut.configuration import config
from mutmut.mutation import trampoline
from mutmut.mutation.file_mutation import (
    MutatedFile,
    Mutation,
    combine_mutations_to_source,
    create_mutations,
    group_by_top_level_node,
)

ROOT = Path(__file__).parents[1]
Status = Literal["killed", "timeout", "survived", "not reached"]
UNNOTICED = ("survived", "not reached")
_COPIED = "puzzledsl/child/checkpoint/remote/*"  # tests run the copies that lie in checkpoints
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


# ---------------------------------------------------------------- making them


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
    return found[: next(i for i, line in enumerate(found) if re.match(r"\s*(async )?def ", line))]


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


class MutatedModules(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports the modules that are mutated from the source that holds their mutants."""

    def __init__(self, sources: dict[str, str], paths: dict[str, Path]) -> None:
        self.sources, self.paths = sources, paths

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if fullname not in self.sources:
            return None
        return importlib.util.spec_from_file_location(fullname, self.paths[fullname], loader=self)

    def get_filename(self, fullname: str) -> str:
        return str(self.paths[fullname])

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.sources[fullname], str(self.paths[fullname]), "exec", dont_inherit=True)


# ---------------------------------------------------------------- running them


def forked(work: Callable[[], Any], cpu_s: int | None = None) -> Any:
    """Return the result of `work`, run in a fork of this process; None where a signal ended it, as after `cpu_s`."""
    with tempfile.TemporaryFile() as answer:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            try:
                if cpu_s is not None:
                    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
                    null = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(null, 1)
                    os.dup2(null, 2)
                result = (work(), "")
            except BaseException:
                result = (None, traceback.format_exc())
            try:
                pickle.dump(result, answer)
                answer.flush()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return None
        answer.seek(0)
        value, error = pickle.load(answer)
        assert not error, error
        return value


@dataclass(frozen=True)
class Reached:
    """The tests that reach each line of the mutated files; the CPU seconds of each test, and those that set its module up."""

    tests: dict[str, dict[int, list[int]]]
    cost_s: dict[int, float]
    setup_s: dict[Path, float]


class Session:
    """A pytest session that has collected the tests, and runs mutants in place of them."""

    def __init__(
        self, mutants: Sequence[Mutant], budget_s: float, note: Callable[[Mutant, Status], None]
    ) -> None:
        self.mutants, self.budget_s, self.note = mutants, budget_s, note
        self.failed = False
        self.set_up = 0.0
        self.items: list[pytest.Item] = []
        self.at_import: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a test, or what it needs, failed; and when it was set up."""
        self.failed |= report.failed
        if report.when == "setup":
            self.set_up = time.process_time()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Record which test reaches which line; then each mutant against its tests."""
        self.items = session.items
        self.at_import = set(_HITS)
        gc.collect()
        gc.freeze()
        reached: Reached | None = forked(self._record)
        assert reached is not None, "the tests could not be recorded"
        print(
            f"{sum(reached.cost_s.values()):.0f} CPU seconds of tests, with their lines recorded", flush=True
        )
        kills: dict[str, Counter[int]] = {}
        for mutant in self.mutants:
            if mutant.function not in self.at_import:
                self.note(mutant, self._fate(mutant, reached, kills.setdefault(mutant.function, Counter())))
        return True

    def _fate(self, mutant: Mutant, reached: Reached, kills: Counter[int]) -> Status:
        tests = {test for line in mutant.lines for test in reached.tests[mutant.file].get(line, ())}
        if not tests:
            return "not reached"
        order, spent_s = self._order(tests, reached, kills)
        killer = forked(functools.partial(self._run, mutant, order), cpu_s=int(3 * spent_s + 10))
        if killer is None:
            return "timeout"
        if killer < 0:
            return "survived"
        kills[killer] += 1
        return "killed"

    def _order(self, tests: set[int], reached: Reached, kills: Counter[int]) -> tuple[list[int], float]:
        """Tests for the budget, module by module, those first that noticed others and are quick; and their seconds."""
        modules: dict[Path, list[int]] = {}
        for test in sorted(tests, key=lambda t: (-kills[t], reached.cost_s[t])):
            modules.setdefault(self.items[test].path, []).append(test)
        order, spent_s = [], 0.0
        for path in sorted(
            modules, key=lambda p: (-kills[modules[p][0]], reached.setup_s[p] + reached.cost_s[modules[p][0]])
        ):
            if spent_s <= self.budget_s:
                spent_s += reached.setup_s[path]
            for test in modules[path]:
                if not order or spent_s <= self.budget_s:
                    order.append(test)
                    spent_s += reached.cost_s[test]
        return order, spent_s

    def _record(self) -> Reached:
        """The lines that each test reaches, of those that pass without a mutant."""
        cover = coverage.Coverage(data_file=None, config_file=False, include=[m.file for m in self.mutants])
        cost_s, setup_s = {}, dict.fromkeys((item.path for item in self.items), 0.0)
        cover.start()
        for index, item in enumerate(self.items):
            cover.switch_context(str(index))
            began = self.set_up = time.process_time()
            self.failed = False
            self._test(item, self.items[index + 1 :])
            if self.failed:
                print(f"{item.nodeid} fails without a mutant, and is left out", flush=True)
                continue
            cost_s[index] = time.process_time() - self.set_up
            setup_s[item.path] = max(setup_s[item.path], self.set_up - began)
        cover.stop()
        data = cover.get_data()
        contexts = {file: data.contexts_by_lineno(file) for file in {m.file for m in self.mutants}}
        return Reached(
            {
                file: {
                    line: [int(i) for i in tests if i and int(i) in cost_s] for line, tests in lines.items()
                }
                for file, lines in contexts.items()
            },
            cost_s,
            setup_s,
        )

    def _run(self, mutant: Mutant, order: Sequence[int]) -> int:
        """The test that fails, -1 where none does."""
        trampoline.set_mutant_under_test(mutant.name)
        for place, index in enumerate(order):
            self._test(self.items[index], [self.items[i] for i in order[place + 1 :]])
            if self.failed:
                return index
        return -1

    def _test(self, item: pytest.Item, rest: Sequence[pytest.Item]) -> None:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=rest[0] if rest else None)


_HITS: set[str] = set()
"""Functions that ran while modules were imported: a fork made afterwards cannot run their mutants."""


def _hit(name: str, caller: str | None = None) -> None:
    _HITS.add(name)


def _warm() -> None:
    """Import what tests import, and read the grammar, once for all forks."""
    from puzzledsl.checker.check import check

    check(ROOT / "examples" / "nemotron51b.pzl", {})


def _pytest(tests: Sequence[str], *plugins: object) -> int:
    quiet = [
        "-q",
        "-x",
        "-s",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-m",
        "not slow",
        "--hypothesis-seed=0",
    ]
    return int(pytest.main([*quiet, *tests], plugins=list(plugins)))


def session(
    mutants: Sequence[Mutant], tests: Sequence[str], budget_s: float, note: Callable[[Mutant, Status], None]
) -> set[str]:
    """Find the fate of each mutant, but for those of functions, the answer, that run at import."""
    trampoline.record_trampoline_hit = _hit
    trampoline.set_mutant_under_test("stats")
    import puzzledsl.base.units  # noqa: F401

    plugin = Session(mutants, budget_s, note)

    class Collected:
        def pytest_collection_finish(self) -> None:
            trampoline.set_mutant_under_test("")
            _warm()

    _pytest(tests, plugin, Collected())
    return plugin.at_import


_FATES: dict[int, Status] = {
    pytest.ExitCode.OK: "survived",
    pytest.ExitCode.TESTS_FAILED: "killed",
    pytest.ExitCode.INTERRUPTED: "killed",  # by an error while tests were collected
}


def at_import(mutant: Mutant) -> Status:
    """The fate of a mutant that is imported anew, against the tests that mirror its module, or else its folder."""
    path = Path(mutant.file).relative_to(ROOT / "puzzledsl")
    test = ROOT / "tests" / path.with_name(f"test_{path.name}")
    while not test.exists():
        test = test.parent

    def work() -> int:
        trampoline.set_mutant_under_test(mutant.name)
        return _pytest(["-W", "ignore::pytest.PytestAssertRewriteWarning", str(test)])

    code = forked(work, cpu_s=60 if test.is_file() else 600)
    assert code in (None, *_FATES), f"pytest ended with {code}"
    return "timeout" if code is None else _FATES[code]


class Fates:
    """What became of each mutant, by its key; in a file as well, where one is named, from which an interrupted run goes on."""

    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.found: dict[str, Status] = fates_of(out) if out and out.exists() else {}

    def note(self, mutant: Mutant, status: Status) -> None:
        """Keep a mutant's fate; show the mutant that no test noticed."""
        self.found[mutant.key] = status
        if status in UNNOTICED:
            print(f"\n{status} {mutant.key}\n  {mutant.place}\n{mutant.diff}", flush=True)
        if self.out:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            with self.out.open("a", encoding="utf-8") as file:
                print(json.dumps({"key": mutant.key, "place": mutant.place, "fate": status}), file=file)


def fates_of(file: Path) -> dict[str, Status]:
    """The fate of each mutant that a file of `--out` has."""
    lines = map(json.loads, file.read_text("utf-8").splitlines())
    return {line["key"]: line["fate"] for line in lines}


def main() -> int:
    """Make the mutants, run them, print those that survive and the share that does not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--files", default="*", metavar="GLOB", help="files to change, of those in [tool.mutmut]")
    option(
        "--folder",
        metavar="NAME",
        help="a folder of the package to change, in place of those in [tool.mutmut]",
    )
    option("--budget", type=float, default=10, metavar="S", help="CPU seconds of tests a mutant meets")
    option(
        "--floor", type=float, default=0, metavar="PERCENT", help="how many of each target are to be noticed"
    )
    option("--out", type=Path, metavar="FILE", help="add a line for the fate of each mutant to this file")
    option("--again", type=Path, metavar="FILE", help="only those that survived in this file")
    option("--sample", type=int, metavar="N", help="run so many of them, drawn by their hashes")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    settings = config()
    targets, tests = settings.only_mutate, settings.pytest_add_cli_args_test_selection
    if options.folder:
        targets, tests = [f"puzzledsl/{options.folder}/*.py"], [f"tests/{options.folder}"]
    names = {p: str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("puzzledsl/**/*.py"))}
    sources = [
        source(path)
        for path, name in names.items()
        if any(fnmatch.fnmatch(name, t) for t in targets)
        and fnmatch.fnmatch(name, f"*{options.files}*")
        and not fnmatch.fnmatch(name, _COPIED)
    ]
    keys = [change.key for each in sources for change in each.changes]
    if options.again:
        old = fates_of(options.again)
        keys = [key for key in keys if old.get(key) in UNNOTICED]
    chosen = set(sorted(keys)[: options.sample])
    fates = Fates(options.out)
    made = {s.path: mutated(s, chosen) for s in sources if any(c.key in chosen for c in s.changes)}
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in made}
    sys.meta_path.insert(0, MutatedModules({name: made[p][0] for name, p in modules.items()}, modules))
    mutants = [mutant for _, found in made.values() for mutant in found]
    wanted = [mutant for mutant in mutants if mutant.key not in fates.found]
    if wanted:
        _run_all(wanted, tests, options.budget, fates)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\n{used.ru_utime + used.ru_stime:.0f} CPU seconds")
    for path, (_, found) in made.items():
        _summary(names[path], [fates.found[m.key] for m in found])
    print()
    shares = []
    for target in targets:
        shares += _summary(
            target, [fates.found[m.key] for m in mutants if fnmatch.fnmatch(names[Path(m.file)], target)]
        )
    if min(shares, default=100.0) >= options.floor:
        return 0
    print(f"error: below {options.floor:g} %", file=sys.stderr)
    return 1


def _run_all(mutants: Sequence[Mutant], tests: Sequence[str], budget_s: float, fates: Fates) -> None:
    """Find the fate of each mutant."""

    def work() -> tuple[set[str], dict[str, Status]]:
        return session(mutants, tests, budget_s, fates.note), fates.found

    found = forked(work)
    assert found is not None, "the tests could not be run"
    imported, fates.found = found
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        plugin.load()  # here, so that no fork has to
    for mutant in mutants:
        if mutant.function in imported:
            fates.note(mutant, at_import(mutant))


def _summary(what: str, fates: Sequence[Status]) -> list[float]:
    """Print how many were noticed, and in what way; their per cent, where there are any."""
    if not fates:
        return []
    counts = Counter(fates)
    caught = len(fates) - sum(counts[each] for each in UNNOTICED)
    share = 100 * caught / len(fates)
    print(f"{what:34} {len(fates):5} mutants, {caught:5} noticed ({share:5.1f}%): {dict(counts)}")
    return [share]


if __name__ == "__main__":
    sys.exit(main())
