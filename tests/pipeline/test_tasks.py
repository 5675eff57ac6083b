"""The tasks as data: their order, their inputs in words, and digests of what they read."""

from pathlib import Path

from puzzledsl.cli import loading
from puzzledsl.ir import nodes
from puzzledsl.pipeline.context import Stamps, data_fingerprint
from puzzledsl.pipeline.dry_run import MEANINGS
from puzzledsl.pipeline.execute import tasks_of
from puzzledsl.pipeline.tasks import TASKS
from tests.pipeline.tiny_program import write_tiny_program

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
