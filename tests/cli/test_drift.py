"""`pzl run` compares the parent's time with the cost table's: W1814, from a real measurement to the warning."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from puzzledsl.cli.main import run
from puzzledsl.evaluate import bench
from puzzledsl.evaluate import units as speed
from puzzledsl.ir.tables import CostTable
from puzzledsl.measure import estimate
from puzzledsl.measure.whole import Samples
from tests.tiny import save_tiny

PROGRAM = """\
parent tiny = hf("parent")
space wide of tiny { ffn = parent | noop }
hardware here = measured(device: cpu)
scenario chat on here = batch(1, 8 -> 4)
data corpus = text("train.txt")
bld pieces of wide { tokens = 0, context = 16, data = corpus, train = attention + ffn }
score kl of pieces = replace_one(kl_divergence, samples: 2)
search small of wide { minimize kl, require count(ffn is noop) >= 1 }
eval quality of small { tokens = 64, prompts = none }
"""
NS = 10**9


@pytest.mark.slow
def test_a_parent_that_is_slower_than_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The evaluation finds prefill 10 % and a decode step 50 % slower than `pzl measure` did: only the second is far off."""
    monkeypatch.setattr(estimate, "ROUNDS", 1)
    monkeypatch.setattr(estimate, "CHECK_ROUNDS", 1)
    save_tiny(tmp_path / "parent", layers=2)
    (tmp_path / "train.txt").write_text("A sentence of some words, and another one. " * 40, "utf-8")
    file = tmp_path / "drift.pzl"
    file.write_text(PROGRAM, "utf-8")
    assert run(["measure", str(file)]) == 0
    [path] = (tmp_path / "build").rglob("wide.measured.json")
    [timing] = CostTable.from_json(path.read_bytes()).timings
    before: Callable[[Samples], speed.Speed] = speed.usual_speed

    def slower(samples: Samples) -> speed.Speed:
        times = {
            "prefill_s": 1.1 * timing.parent_prefill_ns / NS,
            "decode_step_s": 1.5 * timing.parent_decode_ns / NS,
        }
        return before(samples).model_copy(update=times)

    for module in (speed, bench):
        monkeypatch.setattr(module, "usual_speed", slower)
    capsys.readouterr()
    assert run(["run", str(file)]) == 0
    said = capsys.readouterr().err
    [warning] = re.findall(r"warning\[W1814\]: .*", said)
    assert "scenario `chat`: a decode step of the parent takes" in warning
    assert "in evaluation `quality`" in warning and "measure again when the machine is quiet" in said
