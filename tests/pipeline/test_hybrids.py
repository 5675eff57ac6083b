"""Whole programs on hybrids and mixtures: pieces, scores, a child that is healed, uptrained and evaluated."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.pipeline.tiny_program import SOURCE, ran, read, write_tiny_program
from tests.tiny import MIXTURES, save_tiny, tiny_tokens

SPACES = {
    "nemotron_h": """\
  attention = parent
  ffn = parent
  layers[0, 4].attention = parent | linear | noop
  layers[1, 5].attention = parent | gqa(kv_heads: 1) | linear | noop
  layers[2, 6].ffn = parent | mlp(width: 50%) | linear | noop
  layers[3, 7].ffn = parent | moe(experts: 4) | mlp(width: 50%) | linear | noop
""",
    "qwen3_next": """\
  attention = parent
  ffn = parent | moe(experts: 4) | mlp(width: 50%) | linear | noop
  layers[0, 2].attention = parent | linear | noop
  layers[1, 3].attention = parent | gqa(kv_heads: 1) | linear | noop
""",
    "qwen3_5_text": """\
  attention = parent
  ffn = parent | mlp(width: 50%) | linear | noop
  layers[0, 2].attention = parent | linear | noop
  layers[1, 3].attention = parent | gqa(kv_heads: 1) | linear | noop
""",
} | dict.fromkeys(
    MIXTURES, "  attention = parent | noop\n  ffn = parent | moe(experts: 3, top_k: 1) | noop\n"
)
LAYERS = {"nemotron_h": 8, "qwen3_next": 4, "qwen3_5_text": 4, "qwen3_moe": 3, "gpt_oss": 3}
SCORES = """\
score healed of pieces = replace_one(kl_divergence, samples: 64, healed: 128)
score blocks of pieces = replace_one(kl_divergence, samples: 64, unit: block)
score dropped of pieces = replace_one(kl_divergence, samples: 64, runs: 2..3)
score mended of pieces = replace_one(kl_divergence, samples: 64, runs: 2..2, healed: 128)
search measured of wide { minimize kl, require chat.throughput >= 1.1x, refine = measured(2) }
search shallow of wide { minimize dropped, require chat.throughput >= 1.1x }
"""


def run_of(folder: Path, family: str, more: str) -> None:
    """The tiny program with the family's space."""
    program = write_tiny_program(folder)
    save_tiny(folder / "parent", family, layers=LAYERS[family])
    start, end = SOURCE.index("space wide"), SOURCE.index("hardware toy")
    text = f"{SOURCE[:start]}space wide of tiny {{\n{SPACES[family]}}}\n{SOURCE[end:]}{more}"
    program.write_text(text)
    ran("run", program)


@pytest.mark.slow
@pytest.mark.parametrize("family", LAYERS)
def test_a_hybrid_from_program_to_child(tmp_path: Path, family: str) -> None:
    run_of(tmp_path, family, SCORES)
    child = AutoModelForCausalLM.from_pretrained(
        tmp_path / "build" / "models" / "final", trust_remote_code=True
    )
    assert torch.isfinite(child(tiny_tokens()).logits).all()
    made = {path.stem for path in (tmp_path / "build" / "scores").glob("*.json")}
    assert {"kl", "healed", "blocks", "dropped", "mended"} <= made
    for score in ("dropped", "mended"):  # layers of one sub-block count, too
        table = read(tmp_path / "build" / "scores" / f"{score}.json")
        pairs = {(i, 2) for i in range(LAYERS[family] - 1)}
        assert {(run["first"], run["length"]) for run in table["runs"]} >= pairs
