"""Mutants that no test notices: each that mutmut makes of the code that must be right, run against the tests that reach it.

    python -m benchmarks.mutants [--files GLOB] [--only GLOB] [--sample N] [--budget 10] [--floor 85] [--out FILE] [--again FILE]

`[tool.mutmut]` in pyproject.toml says what is changed and which tests look. mutmut makes the mutants; the runner is ours, because
mutmut's starts a pytest session a mutant and runs all tests that call the changed *function*, which in `ir/lower` are nearly all.
Here pytest collects once, each mutant is a fork of that process, and it meets the tests that reach the changed *statement*,
quickest first, until one fails. A mutant no test reaches counts as surviving. `--only` takes a glob over mutants' names.
Exit code 1 where, of what one pattern of `only_mutate` names, less than `--floor` per cent is noticed.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import fnmatch
import functools
import gc
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import pickle
import random
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
import pytest
from mutmut.configuration import config
from mutmut.mutation import trampoline
from mutmut.mutation.file_mutation import MutatedFile, mutate_file_contents

ROOT = Path(__file__).parents[1]
Status = Literal["killed", "timeout", "survived", "not reached"]
_CACHE = re.compile(
    r"^@functools\.(lru_)?cache.*\n", re.MULTILINE
)  # would hide a mutant, and mutmut skips what is decorated


@dataclass(frozen=True)
class Mutant:
    """One change. `lines`: where its statement stands in the unchanged copy that the mutated module holds."""

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


def mutated(path: Path) -> tuple[str, list[Mutant]]:
    """The source that holds every mutant of a module, and the mutants."""
    source = _CACHE.sub(lambda found: "\n" * found.group().count("\n"), path.read_text("utf-8"))
    made = mutate_file_contents(str(path), source)
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    starts = _function_starts(source)
    text = made.code.splitlines()
    return made.code, [_mutant(name, module, path, made, text, starts) for name in made.mutant_names]


def _mutant(
    name: str, module: str, path: Path, made: MutatedFile, text: Sequence[str], starts: dict[str, int]
) -> Mutant:
    function = name.rpartition("__mutmut_")[0]
    old, new = f"{function}__mutmut_orig", name
    before, after = (_lines(made, text, each, each) for each in (old, new))
    first = made.line_span_by_function_name[old].start + len(_leading(made, text, old))
    changes = [
        c for c in difflib.SequenceMatcher(None, before, after, False).get_opcodes() if c[0] != "equal"
    ]
    low, high = changes[0][1], max(changes[-1][2], changes[0][1] + 1)
    place = path.relative_to(ROOT)
    line = starts[function.replace("xǁ", "").replace("ǁ", ".") if "ǁ" in function else function[2:]] + low
    return Mutant(
        name=f"{module}.{name}",
        place=f"{place}:{line}",
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
        found.update({f"{prefix}{f.name}": f.lineno for f in inside if isinstance(f, ast.FunctionDef)})
    return found


def _statement(function: Sequence[str], low: int, high: int) -> Iterable[int]:
    """The offsets of lines one of which runs wherever the changed ones, `low` to before `high`, would."""
    indent = len(function[0]) - len(function[0].lstrip())
    tree = ast.parse("\n".join(line[indent:] for line in function)).body[0]
    assert isinstance(tree, ast.FunctionDef)
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


class Session:
    """A pytest session that has collected the tests, and runs mutants in place of them."""

    def __init__(self, mutants: Sequence[Mutant], budget_s: float) -> None:
        self.mutants, self.budget_s = mutants, budget_s
        self.failed = False
        self.items: list[pytest.Item] = []
        self.at_import: set[str] = set()
        self.results: dict[str, Status] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a test, or what it needs, failed."""
        self.failed |= report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Record which test reaches which line; then each mutant against its tests."""
        self.items = session.items
        self.at_import = set(_HITS)
        gc.collect()
        gc.freeze()
        began = time.monotonic()
        recorded = forked(self._record, cpu_s=600)
        print(
            f"recorded in {time.monotonic() - began:.0f} s: {sum(recorded[1]) if recorded else -1:.1f} CPU s"
        )
        assert recorded is not None, "the tests fail without a mutant"
        reached, cost_s = recorded
        kills: dict[str, Counter[int]] = {}
        for mutant in self.mutants:
            if mutant.function in self.at_import:
                continue
            tests = {test for line in mutant.lines for test in reached[mutant.file].get(line, ())}
            if not tests:
                self._note(mutant, "not reached")
                continue
            before = kills.setdefault(mutant.function, Counter())
            order, spent_s = [], 0.0
            for test in sorted(tests, key=lambda t: (-before[t], cost_s[t])):
                if spent_s <= self.budget_s:
                    order.append(test)
                    spent_s += cost_s[test]
            killer = forked(functools.partial(self._run, mutant, order), cpu_s=int(3 * self.budget_s + 10))
            if isinstance(killer, int) and killer >= 0:
                before[killer] += 1
            self._note(mutant, "timeout" if killer is None else "survived" if killer < 0 else "killed")
        return True

    def _note(self, mutant: Mutant, status: Status) -> None:
        self.results[mutant.name] = status
        if status in ("survived", "not reached"):
            print(
                f"\n{status} {mutant.name.removeprefix('puzzledsl.')}\n  {mutant.place}\n{mutant.diff}",
                flush=True,
            )

    def _record(self) -> tuple[dict[str, dict[int, list[int]]], list[float]] | None:
        """The tests that reach each line of the mutated files, and the CPU seconds of each test; None where one fails."""
        cover = coverage.Coverage(data_file=None, config_file=False, include=[m.file for m in self.mutants])
        cost_s = []
        cover.start()
        for index, item in enumerate(self.items):
            cover.switch_context(str(index))
            began = time.process_time()
            self._test(item, self.items[index + 1 :])
            cost_s.append(time.process_time() - began)
            if self.failed:
                print(f"{item.nodeid} fails without a mutant", flush=True)
                return None
        cover.stop()
        data = cover.get_data()
        contexts = {file: data.contexts_by_lineno(file) for file in {m.file for m in self.mutants}}
        return {
            file: {line: [int(i) for i in tests if i] for line, tests in lines.items()}
            for file, lines in contexts.items()
        }, cost_s

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
    mutants: Sequence[Mutant], tests: Sequence[str], budget_s: float
) -> tuple[dict[str, Status], set[str]]:
    """The fate of each mutant, but for those of functions, the second answer, that run at import."""
    trampoline.record_trampoline_hit = _hit
    trampoline.set_mutant_under_test("stats")
    import puzzledsl.base.units  # noqa: F401

    plugin = Session(mutants, budget_s)

    class Collected:
        def pytest_collection_finish(self) -> None:
            trampoline.set_mutant_under_test("")
            _warm()

    _pytest(tests, plugin, Collected())
    return plugin.results, plugin.at_import


_FATES: dict[int, Status] = {
    pytest.ExitCode.OK: "survived",
    pytest.ExitCode.TESTS_FAILED: "killed",
    pytest.ExitCode.INTERRUPTED: "killed",  # by an error while tests were collected
}


def at_import(mutant: Mutant) -> Status:
    """The fate of a mutant that is imported anew, against the tests that mirror its module."""
    path = Path(mutant.file).relative_to(ROOT / "puzzledsl")
    test = ROOT / "tests" / path.with_name(f"test_{path.name}")

    def work() -> int:
        trampoline.set_mutant_under_test(mutant.name)
        return _pytest(["-W", "ignore::pytest.PytestAssertRewriteWarning", str(test)])

    code = forked(work, cpu_s=60)
    assert code in (None, *_FATES), f"pytest ended with {code}"
    return "timeout" if code is None else _FATES[code]


def main() -> int:
    """Make the mutants, run them, print those that survive and the share that does not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", metavar="GLOB", help="mutants to run, by name")
    parser.add_argument(
        "--files", default="*", metavar="GLOB", help="files to change, of those in [tool.mutmut]"
    )
    parser.add_argument(
        "--tests", nargs="+", metavar="PATH", help="tests that look, in place of those of [tool.mutmut]"
    )
    parser.add_argument(
        "--budget", type=float, default=10, metavar="S", help="CPU seconds of tests a mutant meets"
    )
    parser.add_argument(
        "--floor", type=float, default=0, metavar="PERCENT", help="how many of each target are to be noticed"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the fate of each mutant to this JSON file"
    )
    parser.add_argument(
        "--again", type=Path, metavar="FILE", help="only those that survived in this JSON file"
    )
    parser.add_argument(
        "--sample", type=int, metavar="N", help="run so many of them, drawn at random, always the same"
    )
    options = parser.parse_args()
    os.chdir(ROOT)
    settings = config()
    paths = [p for p in sorted(ROOT.glob("puzzledsl/**/*.py")) if settings.should_mutate(p.relative_to(ROOT))]
    paths = [p for p in paths if fnmatch.fnmatch(p.relative_to(ROOT), f"*{options.files}*")]
    made = {".".join(p.relative_to(ROOT).with_suffix("").parts): (p, *mutated(p)) for p in paths}
    sources, files = ({name: each[i] for name, each in made.items()} for i in (1, 0))
    sys.meta_path.insert(0, MutatedModules(sources, files))
    wanted = [
        m for _, _, mutants in made.values() for m in mutants if fnmatch.fnmatch(m.name, f"*{options.only}*")
    ]
    if options.again:
        old = json.loads(options.again.read_text("utf-8"))
        wanted = [m for m in wanted if old.get(m.name) in ("survived", "not reached")]
    if options.sample:
        wanted = random.Random(0).sample(wanted, min(options.sample, len(wanted)))
    tests = options.tests or settings.pytest_add_cli_args_test_selection
    found = forked(lambda: session(wanted, tests, options.budget))
    assert found is not None, "the tests could not be run"
    results, imported = found
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        plugin.load()  # here, so that no fork has to
    for mutant in wanted:
        if mutant.function in imported:
            results[mutant.name] = at_import(mutant)
            if results[mutant.name] == "survived":
                print(f"\nsurvived {mutant.name.removeprefix('puzzledsl.')}\n  {mutant.place}\n{mutant.diff}")
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print()
    for path, _, mutants in made.values():
        _summary(str(path.relative_to(ROOT)), [results[m.name] for m in mutants if m.name in results])
    print()
    shares = []
    for target in settings.only_mutate:
        fates = [
            results[m.name] for m in wanted if fnmatch.fnmatch(str(Path(m.file).relative_to(ROOT)), target)
        ]
        shares += _summary(target, fates)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{used.ru_utime + used.ru_stime:.0f} CPU seconds")
    if min(shares, default=100.0) >= options.floor:
        return 0
    print(f"error: below {options.floor:g} %", file=sys.stderr)
    return 1


def _summary(what: str, fates: Sequence[Status]) -> list[float]:
    """Print how many were noticed, and in what way; their per cent, where there are any."""
    if not fates:
        return []
    counts = Counter(fates)
    caught = counts["killed"] + counts["timeout"]
    share = 100 * caught / len(fates)
    print(f"{what:34} {len(fates):5} mutants, {caught:5} noticed ({share:5.1f}%): {dict(counts)}")
    return [share]


if __name__ == "__main__":
    sys.exit(main())
