"""vLLM's KV capacity for a heterogeneous child: as many pages as the costs say fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.checker.check import shipped_profiles
from puzzledsl.costs.flops import Workload
from puzzledsl.export.write import write_export
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_parent
from tests.child.checkpoint.test_checkpoint import Made
from tests.children import Choice
from tests.profiles import kv_cache_bytes

VENV = Path(os.environ.get("PZL_VLLM_VENV") or Path(sys.prefix).parent / ".venv-vllm")
SPACE_GIB = 1
CHILD: tuple[Choice, ...] = (
    (ParentAttention(), ParentFfn()),
    (GqaAttention(kv_heads=2), MlpFfn(width=64)),
    (NoOpAttention(), ParentFfn()),
    (GqaAttention(kv_heads=1), NoOpFfn()),
    (ParentAttention(), MlpFfn(width=128)),
)
SCRIPT = """
import json, sys
import vllm
llm = vllm.LLM(model=sys.argv[1], dtype="bfloat16", enforce_eager=True, trust_remote_code=True, max_model_len=128,
               max_num_seqs=2, enable_prefix_caching=False, skip_tokenizer_init=True)
config = llm.llm_engine.vllm_config.cache_config
json.dump({"pages": config.num_gpu_blocks, "page_tokens": config.block_size}, open(sys.argv[2], "w"))
llm.llm_engine.engine_core.shutdown()
"""
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": str(SPACE_GIB),
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


@pytest.mark.slow
@pytest.mark.skipif(not (VENV / "bin" / "python").exists(), reason="needs vLLM: make vllm")
def test_pages_that_vllm_has_are_those_that_fit(tmp_path: Path) -> None:
    made = Made(tmp_path, CHILD, hidden=64, heads=8, kv_heads=4, head_dim=32, intermediate=128, vocab=260)
    target = tmp_path / "for-vllm"
    write_export(made.out, target, "hf", "vllm")
    answer = tmp_path / "answer.json"
    command = [str(VENV / "bin" / "python"), "-c", SCRIPT, str(target), str(answer)]
    done = subprocess.run(
        command,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert answer.exists(), done.stderr[-3000:]
    reported = json.loads(answer.read_text())
    shape = shape_of(load_parent(made.parent).config)
    page = reported["page_tokens"]
    hardware = shipped_profiles()["h100_sxm"].model_copy(update={"kv_dtype": "bf16", "page_tokens": page})
    one_page = sum(kv_cache_bytes(hardware, shape, attention, Workload(1, page, 0)) for attention, _ in CHILD)
    assert reported["pages"] == SPACE_GIB * 2**30 // one_page
