"""Endings that a user must know of: read in the terminal, in JSON, in the exit code and on the report's top.

The program is run once; then the figures of its finished evaluation are written anew, as a run on another day would find them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.pipeline.context import Stamps
from tests.commands import said
from tests.forked import pzl
from tests.pipeline.tiny_program import SOURCE, read, write_tiny_program

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
def timed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = write_tiny_program(tmp_path_factory.mktemp("endings"))
    program.write_text(SOURCE[: SOURCE.index("search best")] + TIMED)
    result = pzl("run", program)
    assert result.returncode in (0, 1), result.stderr
    return program


Ended = Callable[..., tuple[int, list[str], str, str]]


@pytest.fixture
def ended(timed: Path, copied: Callable[[Path], Path]) -> Ended:
    """A run whose evaluation was changed: the exit code, codes of the JSON document, the terminal, the top of the report."""

    def run(*options: str, **figures: Any) -> tuple[int, list[str], str, str]:
        program = copied(timed)
        build = program.parent / "build"
        path, stamps = build / "evals" / "quality.json", Stamps(build)
        stamp = stamps.read("eval", "quality")
        assert stamp is not None
        document = read(path)
        settle(document, **figures)
        path.write_text(json.dumps(document))
        stamps.write("eval", "quality", stamp.inputs, [path])
        code, out, err = said("run", program, "--json", *options)
        found = json.loads(out)
        assert found["evaluations"][0]["eval"] == "quality"
        again, shown, errors = said("run", program, *options)
        assert again == code == said("eval", program, *options)[0]
        assert said("report", program, *options)[0] == 0
        page = (build / "report.html").read_text("utf-8")
        codes = [each["code"] for each in found["diagnostics"]]
        return code, codes, shown + errors + err, page[: page.index("<nav")]

    return run


def settle(
    document: dict[str, Any],
    latency: float = 1.0,
    error: float = 0.0,
    kl: float = 0.1,
    width: float = 0.1,
    ladder: tuple[float, float] | None = None,
    gap: dict[str, Any] | None = None,
) -> None:
    """Figures of a run that ends well, but for what is given: times the parent's latency and the error of it, KL, width of the
    interval kept, the speed and KL of a ladder of one file beside a child whose divergence is 0.1, and a gap between texts.
    """
    models = {model["model"]: model["figures"] for model in document["models"]}
    parent = models["parent"]
    parent["reply.latency_s"]["stderr"] = error * parent["reply.latency_s"]["value"]
    for name, loss in (("final", kl), ("best", 0.2)):
        value = latency * parent["reply.latency_s"]["value"]
        models[name]["reply.latency_s"] = {
            **parent["reply.latency_s"],
            "value": value,
            "stderr": error * value,
        }
        models[name]["kl"]["value"] = loss
    for comparison in document["comparisons"]:
        comparison["text_gap"], comparison["repetition"] = gap, None
        for kept in comparison["kept"].values():
            kept |= {"verdict": "above_chance", "chance_corrected": 0.95, "low": 0.9, "high": 0.9 + width}
    if ladder is not None:
        throughput = ladder[0] * models["final"]["reply.throughput"]["value"]
        figures = {"reply.throughput": throughput, "kl": ladder[1], "checkpoint_bytes": 9}
        file = {"model": "iq4_nl, weighed", "figures": {key: {"value": figures[key]} for key in figures}}
        document["ladder"] = {
            "engine": "llama.cpp",
            "child": "final",
            "child_bytes": 8,
            "models": [file],
            "comparisons": [{"model": file["model"]}],
        }


def test_a_good_ending_says_nothing(ended: Ended) -> None:
    code, codes, _, top = ended()
    assert code == 0 and not {"E0612", "W0614", "W0615", "W0616", "W0617"} & set(codes)
    assert 'class="endings"' not in top


def test_a_missed_requirement_ends_with_exit_code_1(ended: Ended) -> None:
    code, codes, shown, top = ended(latency=7.0)
    assert code == 1 and "E0612" in codes
    assert "error[E0612]: the finished child misses `reply.latency <= most`: 7" in shown
    assert 'li class="missed"' in top and "misses <code>reply.latency &lt;= most</code>" in top


def test_a_requirement_that_is_missed_within_the_error_is_not_missed(ended: Ended) -> None:
    code, codes, _, _ = ended(latency=5.1, error=0.1)
    assert code == 0 and "E0612" not in codes


def test_too_few_questions_are_no_headline(ended: Ended) -> None:
    code, codes, shown, top = ended(width=0.6)
    assert code == 0 and "W0614" in codes
    assert "questions are too few to say what `final` keeps of the accuracy: 90% to 150%" in shown
    assert "95.0" not in top and "not known" in top and 'li class="too_few"' in top


def test_uptraining_that_brought_nothing_is_said(ended: Ended) -> None:
    code, codes, shown, top = ended(kl=0.25)
    assert code == 0 and "W0615" in codes and "uptraining brought nothing" in shown
    assert 'li class="no_gain"' in top


def test_texts_that_disagree_are_a_warning(ended: Ended) -> None:
    code, codes, shown, _ = ended(gap={"near": "prose", "far": "code", "near_kl": 0.2312, "far_kl": 1.414})
    assert code == 0 and "W1601" in codes
    assert "child `final` is made for `prose`: its KL is 0.231 there and 1.41 on `code`" in shown


def test_values_given_by_set_are_said(ended: Ended) -> None:
    code, codes, shown, top = ended("--set", "most=5x")
    assert code == 0 and "W0616" in codes and "not as the file says: most = 5x, by `--set`" in shown
    assert 'li class="given"' in top


def test_a_file_that_is_as_fast_and_nearer_is_to_be_taken(ended: Ended) -> None:
    code, codes, shown, top = ended(ladder=(1.02, 0.05))
    assert code == 0 and "W0617" in codes and 'li class="ladder"' in top
    assert "`iq4_nl, weighed`, which llama.cpp itself makes of the parent, is as fast as `final`" in shown
    assert "take that file: `llama-quantize --imatrix imatrix.gguf parent.gguf iq4_nl.gguf iq4_nl`" in shown


@pytest.mark.parametrize(("speed", "kl"), [(0.9, 0.05), (1.2, 0.11)])
def test_a_file_that_is_slower_or_farther_is_not(ended: Ended, speed: float, kl: float) -> None:
    code, codes, shown, _ = ended(ladder=(speed, kl))
    assert code == 0 and "W0617" not in codes and "files of llama.cpp" in shown
