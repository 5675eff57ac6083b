"""Endings that a user must know of: read in the terminal, in JSON, in the exit code and on the report's top.

The program is run once; then the figures of its finished evaluation are written anew, as a run on another day would find them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.pipeline.stamps import Stamps
from tests.pipeline.test_run import pzl
from tests.pipeline.test_status import said
from tests.pipeline.tiny_program import write_tiny_program

Figures = dict[str, dict[str, Any]]
TIMED = """
hardware here = measured(device: cpu, dtype: fp32)
scenario reply on here = batch(1, 8 -> 8)
param most: Ratio = 5x
search best of wide {
  minimize kl
  require params <= 0.95x
  require reply.latency <= most
}
uptrain final of best {
  loss = 1 * kld, tokens = 128, context = 32, batch = 2, lr = cosine(1e-3), data = corpus
}
eval quality of final = tasks("items.jsonl") { data = corpus, tokens = 512, full = final }
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = write_tiny_program(tmp_path_factory.mktemp("endings"))
    text = program.read_text()
    program.write_text(text[: text.index("search best")] + TIMED)
    result = pzl("run", program, timeout=600)
    assert result.returncode in (0, 1), result.stderr
    return program


@pytest.fixture
def ended(finished: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """A copy of the program whose evaluation was changed."""

    def change(how: Callable[[dict[str, Any]], None]) -> Path:
        shutil.copytree(finished.parent, tmp_path / "copy")
        program = tmp_path / "copy" / finished.name
        build = program.parent / "build"
        path, stamps = build / "evals" / "quality.json", Stamps(build)
        stamp = stamps.read("eval", "quality")
        assert stamp is not None
        document = json.loads(path.read_text())
        how(document)
        path.write_text(json.dumps(document))
        stamps.write("eval", "quality", stamp.inputs, [path])
        return program

    return change


def model(document: dict[str, Any], name: str) -> Figures:
    found: Figures = next(m["figures"] for m in document["models"] if m["model"] == name)
    return found


def settle(document: dict[str, Any], latency: float = 1.0, kl: float = 0.1, width: float = 0.1) -> None:
    """Figures of a run that ends well, but for what is given: times the parent's latency, KL, width of the interval kept."""
    parent = model(document, "parent")
    for name, loss in (("final", kl), ("best", 0.2)):
        figures = model(document, name)
        figures["reply.latency_s"] = {**parent["reply.latency_s"], "stderr": 0.0}
        figures["reply.latency_s"]["value"] *= latency
        figures["kl"]["value"] = loss
    parent["reply.latency_s"]["stderr"] = 0.0
    for comparison in document["comparisons"]:
        comparison["text_gap"] = comparison["repetition"] = None
        for kept in comparison["kept"].values():
            kept |= {"verdict": "above_chance", "chance_corrected": 0.95, "low": 0.9, "high": 0.9 + width}


def endings(program: Path, *more: str) -> tuple[int, list[str], str, str]:
    """The exit code, codes of the JSON document, what the terminal shows, and the top of the report."""
    code, out, err = said("run", program, "--json", *more)
    document = json.loads(out)
    assert document["evaluations"][0]["eval"] == "quality"
    codes = [each["code"] for each in document["diagnostics"]]
    assert said("run", program, *more)[0] == code
    _, shown, errors = said("run", program, *more)
    assert said("report", program, *more)[0] == 0
    page = (program.parent / "build" / "report.html").read_text("utf-8")
    top = page[: page.index("<nav")]
    return code, codes, shown + errors + err, top


def test_a_good_ending_says_nothing(ended: Callable[..., Path]) -> None:
    code, codes, _, top = endings(ended(settle))
    assert code == 0 and not {"E0612", "W0614", "W0615", "W0616", "W0617"} & set(codes)
    assert 'class="endings"' not in top


def test_a_missed_requirement_ends_with_exit_code_1(ended: Callable[..., Path]) -> None:
    program = ended(lambda document: settle(document, latency=7.0))
    code, codes, shown, top = endings(program)
    text = "the finished child misses `reply.latency <= most`: 7"
    assert code == 1 and "E0612" in codes and f"error[E0612]: {text}" in shown
    assert 'li class="missed"' in top and "misses <code>reply.latency &lt;= most</code>" in top
    assert said("eval", program)[0] == 1


def test_a_requirement_that_is_missed_within_the_error_is_not_missed(ended: Callable[..., Path]) -> None:
    def unsure(document: dict[str, Any]) -> None:
        settle(document, latency=5.1)
        for each in document["models"]:
            if (figure := each["figures"].get("reply.latency_s")) is not None:
                figure["stderr"] = figure["value"] / 10

    code, codes, _, _ = endings(ended(unsure))
    assert code == 0 and "E0612" not in codes


def test_too_few_questions_are_no_headline(ended: Callable[..., Path]) -> None:
    code, codes, shown, top = endings(ended(lambda document: settle(document, width=0.6)))
    assert code == 0 and "W0614" in codes
    assert "questions are too few to say what `final` keeps of the accuracy: 90% to 150%" in shown
    assert "95.0" not in top and "not known" in top and 'li class="too_few"' in top


def test_uptraining_that_brought_nothing_is_said(ended: Callable[..., Path]) -> None:
    code, codes, shown, top = endings(ended(lambda document: settle(document, kl=0.25)))
    assert code == 0 and "W0615" in codes and "uptraining brought nothing" in shown
    assert 'li class="no_gain"' in top


def test_values_given_by_set_are_said(ended: Callable[..., Path]) -> None:
    program = ended(settle)
    code, codes, shown, top = endings(program, "--set", "most=5x")
    assert code == 0 and "W0616" in codes and "not as the file says: most = 5x, by `--set`" in shown
    assert 'li class="given"' in top


def beside(document: dict[str, Any], speed: float, kl: float) -> None:
    """A ladder of one file, so many times as fast as the child, whose divergence is 0.1."""
    settle(document)
    own = model(document, "final")["reply.throughput"]["value"]
    figures = {
        "reply.throughput": {"value": own * speed},
        "kl": {"value": kl},
        "checkpoint_bytes": {"value": 9},
    }
    file = {"model": "iq4_nl, weighed", "figures": figures}
    compared = {"model": file["model"]}
    ladder = {"engine": "llama.cpp", "child": "final", "child_bytes": 8}
    document["ladder"] = {**ladder, "models": [file], "comparisons": [compared]}


def test_a_file_that_is_as_fast_and_nearer_is_to_be_taken(ended: Callable[..., Path]) -> None:
    code, codes, shown, top = endings(ended(lambda document: beside(document, 1.02, 0.05)))
    assert code == 0 and "W0617" in codes and 'li class="ladder"' in top
    assert "`iq4_nl, weighed`, which llama.cpp itself makes of the parent, is as fast as `final`" in shown
    assert "take that file: `llama-quantize --imatrix imatrix.gguf parent.gguf iq4_nl.gguf iq4_nl`" in shown


@pytest.mark.parametrize(("speed", "kl"), [(0.9, 0.05), (1.2, 0.11)])
def test_a_file_that_is_slower_or_farther_is_not(ended: Callable[..., Path], speed: float, kl: float) -> None:
    code, codes, shown, _ = endings(ended(lambda document: beside(document, speed, kl)))
    assert code == 0 and "W0617" not in codes and "files of llama.cpp" in shown
