"""Big children: several files with an index that every reader follows, and one tensor in memory at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.child.checkpoint import write
from puzzledsl.child.checkpoint.contents import load_child, write_shards
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.families.stored import inventory
from puzzledsl.models.families.tensors import INDEX, LazyTensor, open_weights
from tests.children import MIXED, PARENT, Choice, define, random_pieces
from tests.tiny import save_tiny, tiny_tokens

SHARD_BYTES = 20_000


def test_a_sharded_child_is_the_same_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = save_tiny(tmp_path / "parent", layers=4)
    pieces = random_pieces(load_parent(parent), MIXED)
    realise(define(MIXED), parent, pieces, tmp_path / "whole")
    monkeypatch.setattr(write, "write_shards", partial(write_shards, shard_bytes=SHARD_BYTES))
    realise(define(MIXED), parent, pieces, tmp_path / "sharded")
    files = sorted((tmp_path / "sharded").glob("*.safetensors"))
    assert len(files) > 2
    index = json.loads((tmp_path / "sharded" / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(w.nbytes for w in open_weights(tmp_path / "whole").values())
    for file in files:
        with safe_open(file, framework="pt") as opened:
            names = set(opened.keys())
        assert names == {name for name, where in index["weight_map"].items() if where == file.name}
        sizes = [tensor.nbytes for tensor in load_file(file).values()]
        assert sum(sizes) <= max(SHARD_BYTES, *sizes)
    tokens = tiny_tokens()
    expected = load_child(tmp_path / "whole")(tokens).logits
    remote = AutoModelForCausalLM.from_pretrained(tmp_path / "sharded", trust_remote_code=True).eval()
    assert torch.equal(load_child(tmp_path / "sharded")(tokens).logits, expected)
    assert torch.equal(remote(tokens).logits, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_safetensors_reads_what_we_write_and_we_read_what_it_writes(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    made = {name: torch.arange(size).to(dtype) for name, size in (("a", 7), ("b", 0), ("c", 1))}
    made["scalar"], made["matrix"] = torch.tensor(3).to(dtype), torch.eye(5).to(dtype)
    write_shards({name: LazyTensor.of(value) for name, value in made.items()}, tmp_path)
    theirs = load_file(tmp_path / "model.safetensors")
    ours = {name: weight.read() for name, weight in open_weights(tmp_path).items()}
    for name, value in made.items():
        assert torch.equal(theirs[name], value) and torch.equal(ours[name], value)


def test_no_two_tensors_are_in_memory_while_a_child_is_written(tmp_path: Path) -> None:
    """The next is read when the last was written."""
    alive: list[str] = []

    def lazy(name: str) -> LazyTensor:
        def read() -> torch.Tensor:
            alive.append(name)
            assert len(alive) == 1, alive
            value = torch.zeros(64)
            weakref.finalize(value, alive.remove, name)
            return value

        return LazyTensor((64,), torch.float32, read)

    write_shards({name: lazy(name) for name in "abcdef"}, tmp_path, 600)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3 and not alive


# ---------------------------------------------------------------- eight billion parameters, in small

BIG = {
    "num_hidden_layers": 5,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
"""An 8B's layers and embeddings; five of its 32 layers are 4.3 GB in bfloat16."""
CHILD: list[Choice] = [
    PARENT,
    (GqaAttention(kv_heads=2), MlpFfn(width=7168)),
    (LinearAttention(), NoOpFfn()),
    (NoOpAttention(), MlpFfn(width=14080)),
    PARENT,
]
PROBE = """
import sys, threading, time
from pathlib import Path
from puzzledsl.child.checkpoint.write import realise
from tests.child.checkpoint.test_shards import CHILD, big_pieces
from tests.children import define

def anonymous():
    with open("/proc/self/status") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("RssAnon", "RssShmem")))

before, peak, done = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not done.is_set():
        peak = max(peak, anonymous())
        time.sleep(0.002)

thread = threading.Thread(target=watch)
thread.start()
realise(define(CHILD), Path(sys.argv[1]), big_pieces, Path(sys.argv[2]))
done.set()
thread.join()
print(peak - before)
"""


def big_shape() -> Shape:
    return shape_of(CONFIG_MAPPING["llama"](**BIG))


def big_pieces(name: str) -> dict[str, torch.Tensor]:
    """Float32 pieces, as the library stores them, made when they are asked for."""
    sub_block, _, index = name.partition("-")
    alternative = CHILD[int(index)][sub_block == "ffn"]
    return {key: torch.full(size, 0.01) for key, size in alternative.stored(big_shape()).items()}


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc")
def test_realising_an_8b_takes_less_memory_than_a_shard(tmp_path: Path) -> None:
    """Anonymous memory over that before: less than 1.2 x the largest shard (it is one tensor, or one piece)."""
    parent, root = tmp_path / "parent", Path(__file__).parents[3]
    CONFIG_MAPPING["llama"](**BIG, dtype="bfloat16").save_pretrained(parent)

    def lazy(size: tuple[int, ...]) -> LazyTensor:
        return LazyTensor(size, torch.bfloat16, lambda: torch.full(size, 0.01, dtype=torch.bfloat16))

    weights = {name: lazy(size) for name, size in inventory(big_shape()).items()}
    sizes = [path.stat().st_size for path in write_shards(weights, parent, 1_500_000_000)]
    assert len(sizes) > 1 and sum(sizes) >= 4_000_000_000
    command = [sys.executable, "-c", PROBE, str(parent), str(tmp_path / "child")]
    environment = os.environ | {"PYTHONPATH": str(root)}
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root, env=environment)
    assert int(found.stdout) < 1.2 * max(sizes)
    assert len(open_weights(tmp_path / "child")) > 20
