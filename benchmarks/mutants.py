"""Mutants that no test notices: each that mutmut makes of the code that must be right, run against the tests that reach it.

    python -m benchmarks.mutants [--files GLOB] [--sample N] [--budget 10] [--floor 85] [--out FILE] [--again FILE]
    python -m benchmarks.mutants --folder search --sample 200 [--out FILE]

`[tool.mutmut]` in pyproject.toml says what is changed and which tests look; with `--folder` it is a folder of the package, and
the tests of the same name (`LOOK` says where more do). mutmut makes the mutants; the runner is ours, because mutmut's starts a
pytest session a mutant and runs all tests that call the changed *function*, which in `ir/lower` are nearly all. Here pytest
collects once, each mutant is a fork of that process, and it meets the tests that reach the changed *statement*, quickest first,
until one fails. A mutant no test reaches counts as surviving. `--out` adds a line of JSON a mutant, and those that it has already
are not run again: an interrupted run goes on. A sample is drawn by a hash of each change, so that it stays nearly the same while
the code around it changes.
Exit code 1 where, of what one pattern of `only_mutate` names, less than `--floor` per cent is noticed.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import gc
import importlib.metadata
import json
import os
import pickle
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import coverage
import pytest
from mutmut.configuration import config
from mutmut.mutation import trampoline

from benchmarks.mutations import ROOT, Mutant, MutatedModules, mutated, source
from benchmarks.strength import UNNOTICED, compared, noticed

Status = Literal["killed", "timeout", "survived", "not reached"]
LOOK = {
    "alternatives": (
        "tests/costs",
        "tests/families",
        "tests/plan",
        "tests/checker/test_spaces.py",
        "tests/language/test_spaces.py",
        "tests/checker/test_diagnostics.py",
    )
}
"""Tests of other folders that look at a folder, whose tests of its own are few."""
_COPIED = "puzzledsl/child/checkpoint/remote/*"  # tests run the copies that lie in checkpoints


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
        order, spent_s = list[int](), 0.0
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
    vars(trampoline)["record_trampoline_hit"] = _hit
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
    pytest.ExitCode.USAGE_ERROR: "killed",  # by one while a conftest.py was imported
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
    """The fate of each mutant, by its key; in a file as well, where one is named, from which an interrupted run goes on."""

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
    option("--tests", nargs="+", metavar="PATH", help="tests that look, in place of the usual ones")
    option("--budget", type=float, default=10, metavar="S", help="CPU seconds of tests a mutant meets")
    option(
        "--floor", type=float, default=0, metavar="PERCENT", help="how many of each target are to be noticed"
    )
    option("--out", type=Path, metavar="FILE", help="add a line for the fate of each mutant to this file")
    option("--again", type=Path, metavar="FILE", help="only those that survived in this file")
    option("--sample", type=int, metavar="N", help="run so many of them, drawn by their hashes")
    option(
        "--record",
        type=Path,
        metavar="FILE",
        help="fail where a smaller share is noticed than this file says",
    )
    option("--write", action="store_true", help="write the share to the file of --record")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PZL_CASES"] = "1"  # all cases: a test that draws a few would notice less
    settings = config()
    targets, tests = settings.only_mutate, options.tests or settings.pytest_add_cli_args_test_selection
    if options.folder:
        targets = [f"puzzledsl/{options.folder}/*.py"]
        tests = options.tests or [f"tests/{options.folder}", *LOOK.get(options.folder, ())]
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
    shares = []
    for target in targets:
        shares += _summary(
            target, [fates.found[m.key] for m in mutants if fnmatch.fnmatch(names[Path(m.file)], target)]
        )
    if options.record:
        told = {options.folder: dict(sorted(Counter(fates.found[m.key] for m in mutants).items()))}
        return compared(options.record, "mutants", told, noticed, options.write)
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
