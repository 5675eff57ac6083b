"""The tasks as data: one class adds a stage, and order, status, dry runs and runs derive from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.files import write_text
from puzzledsl.cli import loading
from puzzledsl.ir import nodes
from puzzledsl.pipeline.context import Key
from puzzledsl.pipeline.dry_run import MEANINGS
from puzzledsl.pipeline.estimates import Work
from puzzledsl.pipeline.execute import tasks_of
from puzzledsl.pipeline.stamps import Stamps, data_fingerprint, meaning
from puzzledsl.pipeline.task import DeclaredTask
from puzzledsl.pipeline.tasks import TASKS
from tests.commands import said, told
from tests.pipeline.tiny_program import told_states, write_tiny_program


class Figures(DeclaredTask[nodes.Search]):
    """A task that nothing else knows."""

    stage, kind = "figures", "search"

    def needs(self) -> tuple[Key, ...]:
        return (("solve", self.name),)

    def inputs(self) -> dict[str, str]:
        return {"drawn": "1", "layers": self.ctx.made("solve", self.name, "the solutions")}

    def texts(self) -> Iterable[str | None]:
        return ("figures",)

    def work(self) -> Work:
        return Work(written_bytes=1 << 20)

    def run(self) -> list[Path]:
        path = self.ctx.build.root / "figures" / f"{self.name}.txt"
        write_text(path, self.name)
        return [path]


MORE = """
space narrow of wide = used_by(best, top: 4)
bld pairs of narrow { train = attention * ffn, tokens = 256, context = 32, batch = 2, data = corpus }
score together of pairs = replace_one(kl_divergence, samples: 128)
search second of narrow { minimize together }
score again of pieces = replace_one(kl_divergence, samples: 64)
search last of best { minimize again }
search better of best { minimize kl, refine = measured(2) }
frontier far of better = sweep(chat.throughput, 1.2x..1.6x, points: 2)
eval early of last = tasks("items.jsonl") { data = corpus, full = last + final }
"""
"""Declarations before what they read."""


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that one class adds."""
    report = TASKS["report"]
    monkeypatch.setitem(TASKS, "figures", Figures)
    monkeypatch.delitem(TASKS, "report")  # so that the report comes last, and is there again after the test
    monkeypatch.setitem(TASKS, "report", report)


@pytest.mark.usefixtures("known_rates")
def test_one_class_adds_a_stage(copied: Callable[[], Path], figures: None) -> None:
    program = copied()
    text = program.read_text()
    now = told_states(program)
    assert list(now)[-4:] == ["figures best", "figures greedy", "figures most", "report"]
    assert {now[key][0] for key in list(now)[-4:-1]} == {"missing"}
    steps = told("run", program, "--dry-run", "--only", "figures")["steps"]
    assert [(step["name"], step["bytes"]) for step in steps] == [
        (n, 1 << 20) for n in ("best", "greedy", "most")
    ]
    program.write_text(text + 'data figures = text("none.txt")\n')
    code, _, err = said("run", program, "--only", "figures")
    assert code == 1 and "data `figures`: no file matches `none.txt`" in err
    program.write_text(text)
    code, _, err = said("run", program, "--only", "figures")
    assert code == 0 and "figures most: done" in err, err
    assert (program.parent / "build" / "figures" / "best.txt").read_text() == "best"
    assert {state for key, (state, _) in told_states(program).items() if key != "report"} == {"done"}
    program.write_text(text.replace("chat.throughput >= 1.2x", "chat.throughput >= 1.3x"))
    assert told_states(program)["figures best"] == ("stale", "after solve best")


def test_every_task_comes_after_those_it_needs(tmp_path: Path) -> None:
    program = write_tiny_program(tmp_path)
    program.write_text(program.read_text() + MORE)
    seen: list[tuple[str, str]] = []
    for task in tasks_of(loading.context(program, None, tmp_path / "none")):
        seen.append(task.key)
        assert {stage for stage, _ in task.needs()} <= TASKS.keys()
    order = {key: place for place, key in enumerate(seen)}
    assert len(order) == len(seen)
    for task in tasks_of(loading.context(program, None, tmp_path / "none")):
        assert all(order.get(key, -1) < order[task.key] for key in task.needs()), task.title
    places = [order[key] for key in (("score", "again"), ("solve", "last"))]
    assert places == sorted(places)
    assert ("bld", "pairs") not in order, "its space is not known yet"


def test_every_input_has_a_name_in_words(finished: Path) -> None:
    """Except the pieces of each BLD and the tasks that a report shows, which have their own names."""
    program = loading.context(finished, None, None).program
    for stamp in Stamps(finished.parent / "build").all():
        if stamp.stage not in ("compile", "report"):
            assert stamp.inputs.keys() <= MEANINGS.keys() | program.blds.keys(), stamp.title


WHERE = nodes.Where(file="a.pzl", line=1, column=1, end_line=1, end_column=6)


def test_a_field_that_leaves_the_language_makes_nothing_stale() -> None:
    """A space has the digest it had with a width of the whole model."""
    layer = nodes.LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(),))
    space = nodes.Space(name="w", parent="p", layers=(layer,), where=WHERE)
    assert meaning(space) == "f45bdd18063163b4439663049346ea664c82f4eeaf74e225ac5da951b53ffede"


def test_a_local_data_set_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A data set of the hub has no files here: its declaration is all that is known of it."""
    local = nodes.Data(name="d", source=nodes.HfData(id="set"), where=WHERE)
    of_hub = data_fingerprint(local, tmp_path)
    columns = local.model_copy(update={"source": nodes.ParquetData(paths=("set/**/*.parquet",))})
    (tmp_path / "set" / "data").mkdir(parents=True)
    seen = {of_hub}
    for rows in (b"rows", b"other rows"):
        (tmp_path / "set" / "data" / "train.parquet").write_bytes(rows)
        seen |= {data_fingerprint(local, tmp_path), data_fingerprint(columns, tmp_path)}
    assert len(seen) == 5
