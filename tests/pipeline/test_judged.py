"""Requirements on measured quality: children are built and judged until the best one that meets them is found."""

import json
import shutil
from pathlib import Path

import pytest

from puzzledsl.base.progress import Silent
from puzzledsl.evaluate.run import EvalInputs, run_eval
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import Refinement
from tests.commands import said
from tests.pipeline.tiny_program import (
    SOURCE,
    contents,
    events,
    kill_during,
    ran,
    told_states,
    write_tiny_program,
)

JUDGED = """
data tasting = text("tasting.txt")
judge taste of tiny = tasks("asked.jsonl") {{ data = tasting, tokens = 256, sure = 50% }}
search fast of wide {{
  maximize chat.throughput
  require taste.kl <= {kl}
  refine = measured({children})
}}
eval quality of fast = tasks("items.jsonl") {{ data = corpus, tokens = 256, full = fast }}
"""


def write_judged(folder: Path, kl: str = "0.3", children: int = 5) -> Path:
    """The tiny program with a judged search, its judge's text and questions."""
    program = write_tiny_program(folder)
    words = (folder / "corpus.txt").read_text().split()
    (folder / "tasting.txt").write_text("\n\n".join(" ".join(words[i::7][:40]) for i in range(40)))
    items = (folder / "items.jsonl").read_text()
    (folder / "asked.jsonl").write_text(items.replace("number", "figure"))
    head = SOURCE[: SOURCE.index("search best")]
    program.write_text(head + JUDGED.format(kl=kl, children=children))
    return program


def replace(program: Path, old: str, new: str) -> None:
    text = program.read_text()
    assert old in text
    program.write_text(text.replace(old, new, 1))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `.pzl` file of a program that was run. Not to be changed."""
    program = write_judged(tmp_path_factory.mktemp("judged"))
    ran("run", program)
    return program


def refinement(program: Path) -> Refinement:
    return Refinement.from_json((program.parent / "build" / "refined" / "fast.json").read_bytes())


def ir(program: Path) -> nodes.Program:
    return nodes.Program.from_json((program.parent / "build" / "ir.json").read_bytes())


@pytest.mark.states("judge.answer")
def test_the_fastest_measured_child_that_meets_the_requirement_is_built(judged: Path) -> None:
    found = refinement(judged)
    met = [child for child in found.children if not child.missed]
    assert met and found.best in met and found.best.judged["taste.kl"].value <= 0.3
    assert all((child.judged["taste.kl"].value > 0.3) == bool(child.missed) for child in found.children)
    assert len({child.layers for child in found.children}) == len(found.children)
    assert found.solution.layers == found.best.layers
    page = (judged.parent / "build" / "report.html").read_text("utf-8")
    assert "children that were built and judged" in page and "taste.kl &lt;= 0.3" in page
    assert f">{found.best.judged['taste.kl'].value:.4g}<" in page


@pytest.mark.states("judge.built")
def test_what_was_judged_is_what_was_built(judged: Path, tmp_path: Path) -> None:
    """An evaluation of the child that was built, on the judge's text and questions, has the same figures."""
    build, best, program = judged.parent / "build", refinement(judged).best, ir(judged)
    judge = program.judges["taste"]
    evaluation = nodes.Eval(
        name="again",
        where=judge.where,
        of="fast",
        tasks=judge.tasks,
        data=judge.data,
        tokens=judge.tokens,
        prompts=nodes.Prompts(),
    )
    program = program.model_copy(update={"evals": {"again": evaluation}})
    models = {"fast": build / "models" / "fast"}
    places = judged.parent / "parent", judged.parent, tmp_path / "tokens", tmp_path / "work", Silent()
    made = run_eval(EvalInputs(program, "again", models, {"fast"}, *places))
    child, (compared,) = made.models[1], made.comparisons
    figures = {name.removeprefix("taste."): figure.value for name, figure in best.judged.items()}
    assert figures["kl"] == pytest.approx(child.figures["kl"].value, rel=1e-6) and figures["kl"] > 0
    assert figures["agreement"] == child.figures["top1_agreement"].value
    ratio, kept = compared.perplexity_ratio, compared.kept["pooled"].chance_corrected
    assert ratio is not None and figures["perplexity"] == pytest.approx(ratio.value)
    assert figures.get("kept") == kept


@pytest.mark.states("judge.none")
def test_a_run_whose_children_all_miss_ends_with_what_to_do(tmp_path: Path) -> None:
    program = write_judged(tmp_path, kl="0.0000001", children=3)
    replace(program, "  maximize", "  require params <= 0.9x\n  maximize")
    code, out, err = said("run", program)
    assert code == 1, err
    assert "error[E0609]: none of 3 measured children of `fast` meets `taste.kl <= 0.0000001`" in err
    assert "realise fast: not made" in out + err
    assert told_states(program)["refine fast"][0] == "done"
    code, out, err = said("refine", program, "--json")
    (found,) = json.loads(out)
    assert code == 1 and "E0609" in err and len(found["children"]) == 3
    assert all(child["missed"] == ["taste.kl <= 0.0000001"] for child in found["children"])


@pytest.mark.states("judge.resumes")
def test_a_killed_run_measures_no_child_twice(judged: Path, tmp_path: Path) -> None:
    program = write_judged(tmp_path)
    build = program.parent / "build"
    kill_during(program, build, "refine")
    ran("run", program, "-o", build)
    whole, ours = contents(judged.parent / "build"), contents(build)
    same = [name for name in whole if name.startswith(("refined/", "models/", "evals/", "search/"))]
    assert same and all(ours[name] == whole[name] for name in same)
    judgements = [event for event in events(build) if event["event"] == "judged"]
    assert len(judgements) >= len(refinement(program).children)


@pytest.mark.states("judge.apart")
def test_a_judge_reads_no_documents_of_a_bld_and_asks_no_questions_of_an_evaluation(tmp_path: Path) -> None:
    """They are compared by what they say."""
    program = write_judged(tmp_path)
    tasting = (tmp_path / "tasting.txt").read_text()
    (tmp_path / "tasting.txt").write_text((tmp_path / "corpus.txt").read_text().replace(" ", "  "))
    assert said("check", program)[0] == 0
    code, _, err = said("run", program)
    assert code == 1 and "judge `taste` reads documents that bld `pieces` reads, too (" in err
    assert "bld pieces:" not in err.partition("error")[2] and not (tmp_path / "build" / "library").exists()
    (tmp_path / "tasting.txt").write_text(tasting)
    (tmp_path / "asked.jsonl").write_text((tmp_path / "items.jsonl").read_text())
    replace(program, "taste.kl <= 0.3", "taste.kept >= 90%")
    code, _, err = said("run", program)
    assert code == 1 and "judge `taste` reads questions that eval `quality` reads, too (6 of them)" in err


@pytest.mark.states("judge.apart")
def test_parts_of_one_file_are_apart(tmp_path: Path) -> None:
    program = write_judged(tmp_path)
    replace(program, 'text("corpus.txt")', 'text("corpus.txt", part: 0%..70%)')
    replace(program, 'text("tasting.txt")', 'text("corpus.txt", part: 70%..100%)')
    code, _, err = said("run", program, "--until", "bld")
    assert code == 0, err
    replace(program, "part: 70%", "part: 60%")
    code, _, err = said("check", program)
    assert code == 1 and "E0419" in err


def test_one_block_of_text_is_nothing_to_be_sure_of_and_questions_that_decide_nothing_are_not_asked(
    tmp_path: Path,
) -> None:
    program = write_judged(tmp_path, kl="0.9", children=1)
    replace(program, "sure = 50%", "sure = 80%")
    (tmp_path / "asked.jsonl").unlink()
    code, _, err = said("run", program, "--until", "refine")
    assert code == 1 and "none of 1 measured children of `fast` meets `taste.kl <= 0.9`" in err


def test_a_parent_that_guesses_has_no_accuracy_to_keep(tmp_path: Path) -> None:
    """It is told before a child is made, again and again."""
    program = write_judged(tmp_path)
    replace(program, "taste.kl <= 0.3", "taste.kept >= 90%")
    for _ in range(2):
        code, _, err = said("run", program, "--until", "refine")
        assert code == 1 and "error[E1611]: the parent is at chance on the questions of judge `taste`" in err
        assert "33.3% of 6 right, 25.0% by guessing" in err and "require taste.kept" in err
    assert "judged" not in {event["event"] for event in events(tmp_path / "build")}


@pytest.fixture
def healed(tmp_path: Path) -> Path:
    """A judged program whose children are healed on a text of their own."""
    program = write_judged(tmp_path, kl="0.9", children=2)
    (tmp_path / "healing.txt").write_text((tmp_path / "corpus.txt").read_text().replace("cat", "dog"))
    replace(program, "data = corpus\n}", "data = corpus, heal = 64, heal_data = other\n}")
    replace(program, "data tasting", 'data other = text("healing.txt")\ndata tasting')
    return program


@pytest.mark.more
def test_a_child_that_was_healed_to_be_judged_is_built_as_it_was(healed: Path) -> None:
    build, again = healed.parent / "build", healed.parent / "again"
    ran("run", healed, "--until", "realise")
    assert sum(event["event"] == "healed" for event in events(build)) == len(refinement(healed).children)
    assert not [*(build / "work" / "realise").glob("*")]
    ran("run", healed, "--until", "refine", "-o", again)
    for folder in (again / "work" / "realise").glob("*"):
        shutil.rmtree(folder)
    ran("run", healed, "--until", "realise", "-o", again)
    assert contents(again / "models") == contents(build / "models")


@pytest.mark.states("judge.resumes")
@pytest.mark.more
def test_a_moved_line_judges_nothing_again_and_another_text_of_healing_does(healed: Path) -> None:
    figures = healed.parent / "build" / "scores" / "figures"

    def judged_files() -> dict[str, int]:
        assert said("run", healed, "--until", "refine")[0] in (0, 1)
        return {path.name: len(path.read_text().splitlines()) for path in figures.glob("judged-*")}

    first = judged_files()
    replace(healed, "measured(2)", "measured(3)")
    replace(healed, "bld pieces", "\n\nbld pieces")
    (name,) = first
    assert judged_files() == {name: first[name] + 1}
    (healed.parent / "healing.txt").write_text(
        (healed.parent / "corpus.txt").read_text().replace("cat", "owl")
    )
    assert len(judged_files()) == 2
