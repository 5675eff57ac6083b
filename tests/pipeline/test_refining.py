"""A refined search from the program to the child: planned, measured, taken by what comes after, and made again when it should."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from puzzledsl.ir.tables import Refinement, SearchResult
from tests.commands import said, told
from tests.pipeline.tiny_program import contents, events, run_with, seconds_of, told_states

REFINED = """
search refined of best { refine = measured(4, healed: 64, samples: 64) }
search rule of refined { refine = none }
search looked of best { realise = false }
uptrain final of refined { loss = 1 * kld, tokens = 128, context = 32, batch = 2, lr = cosine(1e-3), data = corpus }
eval quality of final = tasks("items.jsonl") { data = corpus, tokens = 256 }
"""


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `.pzl` file of a program whose search was refined, and all that follows. Not to be changed."""
    folder = tmp_path_factory.mktemp("refined")
    run_with(folder, REFINED)
    return folder / "tiny.pzl"


def refinement(program: Path) -> Refinement:
    return Refinement.from_json((program.parent / "build" / "refined" / "refined.json").read_bytes())


@pytest.mark.states("refine.answer")
def test_the_best_measured_child_is_built_and_the_optimum_stays_the_proven_one(refined: Path) -> None:
    build, found = refined.parent / "build", refinement(refined)
    result = SearchResult.from_json((build / "solutions" / "refined.json").read_bytes())
    assert (found.search, found.score, found.metric) == ("refined", "kl", "kl_divergence")
    assert 1 < len(found.children) <= 4 and found.children[0].origin == "optimum"
    assert found.best.measured == min(child.measured for child in found.children)
    assert found.children[0].layers == result.solutions[0].layers and found.proven == result.objective
    assert found.solution.objective >= found.proven
    card = (build / "models" / "refined" / "README.md").read_text("utf-8")
    rows = [f"| {i} | {layer.attention} | {layer.ffn} |" for i, layer in enumerate(found.solution.layers)]
    assert all(row in card for row in rows)
    assert f"best of {len(found.children)} that were measured" in card and "which nothing proves" in card
    assert not (build / "refined" / "rule.json").exists() and (build / "models" / "rule").is_dir()


@pytest.mark.states("realise.choice")
def test_a_search_for_looking_is_solved_and_not_built(refined: Path) -> None:
    build = refined.parent / "build"
    assert (build / "solutions" / "looked.json").is_file()
    assert not (build / "models" / "looked").exists() and not (build / "refined" / "looked.json").exists()
    assert {key for key in told_states(refined) if key.endswith(" looked")} == {"solve looked"}


def test_a_refined_search_is_done_once_and_again_only_when_its_inputs_change(
    refined: Path, copied: Callable[[Path], Path]
) -> None:
    program = copied(refined)
    text = program.read_text()

    def statuses(old: str, new: str) -> dict[str, tuple[str, str]]:
        program.write_text(text.replace(old, new))
        return told_states(program)

    assert {state for state, _ in told_states(program).values()} == {"done"}
    now = statuses("measured(4,", "measured(5,")
    assert now["refine refined"] == ("stale", "how children are measured changed")
    assert now["solve refined"][0] == now["realise best"][0] == now["realise rule"][0] == "done"
    assert now["realise refined"] == ("stale", "after refine refined")
    assert statuses(", samples: 64)", ",\n  samples: 64)")["refine refined"][0] == "done"
    now = statuses("1.2x", "1.1x")
    assert now["solve refined"][0] == "stale" and now["refine refined"][1].startswith("after solve refined")
    now = statuses("refine = measured(4, healed: 64, samples: 64)", "refine = none")
    assert "refine refined" not in now and now["solve refined"][0] == "done"


def test_a_damaged_refinement_is_made_again_and_the_same(
    refined: Path, copied: Callable[[Path], Path]
) -> None:
    program = copied(refined)
    build = program.parent / "build"
    before, seen = contents(build), len(events(build))
    (build / "refined" / "refined.json").write_text("{}")
    assert told_states(program)["refine refined"][0] == "stale"
    code, out, err = said("realise", program, "refined")
    assert code == 1 and "E0611" in err and "changed or damaged after `pzl refine` made it" in err, out
    stamp = build / "stamps" / "refine-refined.json"
    kept = stamp.read_text()
    other = json.loads(kept) | {"outputs": {"refined/refined.json": hashlib.sha256(b"{}").hexdigest()}}
    stamp.write_text(json.dumps(other))
    code, out, err = said("realise", program, "refined")
    assert code == 1 and "made by another version of puzzledsl" in err, out
    stamp.write_text(kept)
    code, _, err = said("refine", program)
    assert code == 0, err
    assert contents(build) == before
    assert [e["name"] for e in events(build)[seen:] if e["event"] == "end"] == ["refined"]


def test_the_commands_tell_the_best_child_and_what_is_proven(refined: Path) -> None:
    found = refinement(refined)
    code, out, err = said("refine", refined, "refined")
    assert code == 0, err
    best = next(line for line in out.splitlines() if "best measured child" in line)
    assert f"{found.best.measured:.4g} measured" in best and best.endswith("nothing proves it")
    assert "proven" not in best
    assert len([line for line in out.splitlines() if " ± " in line]) == len(found.children)
    assert told("refine", refined) == [found.model_dump(mode="json")]
    code, _, err = said("refine", refined, "best")
    assert code == 1 and "E0604" in err and "declared: refined" in err


@pytest.mark.usefixtures("known_rates")
def test_a_dry_run_counts_children(refined: Path, copied: Callable[[Path], Path], tmp_path: Path) -> None:
    program, nowhere = copied(refined), ("-o", tmp_path / "none")
    few = seconds_of(program, *nowhere)
    stages = [task.split()[0] for task in few]
    assert stages.index("solve") < stages.index("refine") < stages.index("realise")
    program.write_text(program.read_text().replace("measured(4, healed: 64", "measured(4000, healed: 6Ki"))
    assert seconds_of(program, *nowhere)["refine refined"] > few["refine refined"]
    assert [*seconds_of(program, *nowhere, "--only", "refine")] == ["refine refined"]
    until = {task.split()[0] for task in seconds_of(program, *nowhere, "--until", "refine")}
    assert "refine" in until and "realise" not in until


def test_a_stage_before_must_be_done(refined: Path, tmp_path: Path) -> None:
    for command in ("refine", "realise"):
        code, _, err = said(command, refined, "refined", "-o", tmp_path / "none")
        assert code == 1 and "E0603" in err and "pzl solve" in err
