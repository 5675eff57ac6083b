"""Big children: several files with an index that every reader follows, and one tensor in memory at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from puzzledsl.child.checkpoint import write
from puzzledsl.child.checkpoint.contents import load_child, write_shards
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.families.tensors import INDEX, LazyTensor, open_weights
from tests.children import MIXED, define, random_pieces
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
        largest = max(t.numel() * t.element_size() for t in load_file(file).values())
        assert sum(t.numel() * t.element_size() for t in load_file(file).values()) <= max(
            SHARD_BYTES, largest
        )
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
            weakref_gone(value, lambda: alive.remove(name))
            return value

        return LazyTensor((64,), torch.float32, read)

    write_shards({name: lazy(name) for name in "abcdef"}, tmp_path, 600)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3 and not alive


def weakref_gone(value: torch.Tensor, then) -> None:
    import weakref

    weakref.finalize(value, then)


# ---------------------------------------------------------------- eight billion parameters, in small

BIG = {
    "layers": 5,
    "hidden": 4096,
    "heads": 32,
    "kv_heads": 8,
    "head_dim": 128,
    "intermediate": 14336,
    "vocab": 128256,
}
"""An 8B's layers and embeddings; five of its 32 layers are 4.3 GB in bfloat16."""
PROBE = """
import json, resource, sys, threading, time
from pathlib import Path
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.models.families.tensors import open_weights
from tests.child.checkpoint.test_shards import big_definition, big_pieces

def anonymous():
    with open("/proc/self/status") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("RssAnon", "RssShmem")))

parent, out = Path(sys.argv[1]), Path(sys.argv[2])
before, peak, done = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not done.is_set():
        peak = max(peak, anonymous())
        time.sleep(0.002)

thread = threading.Thread(target=watch)
thread.start()
realise(big_definition(), parent, big_pieces, out)
done.set()
thread.join()
print(json.dumps({"extra": peak - before}))
"""


def big_definition():
    from puzzledsl.alternatives.gqa import GqaAttention
    from puzzledsl.alternatives.linear import LinearAttention, NoOpAttention, NoOpFfn
    from puzzledsl.alternatives.mlp import MlpFfn
    from tests.children import PARENT

    return define(
        [
            PARENT,
            (GqaAttention(kv_heads=2), MlpFfn(width=7168)),
            (LinearAttention(), NoOpFfn()),
            (NoOpAttention(), MlpFfn(width=14080)),
            PARENT,
        ]
    )


def big_pieces(name: str) -> dict[str, torch.Tensor]:
    """Float32 pieces, as the library stores them, made when they are asked for."""
    from tests.tiny import CONFIG_MAPPING

    sub_block, _, index = name.partition("-")
    layer = big_definition().layers[int(index)]
    alternative = layer.attention if sub_block == "attention" else layer.ffn
    config = CONFIG_MAPPING["llama"](**big_config())
    from puzzledsl.models.families.access import shape_of

    return {key: torch.full(size, 0.01) for key, size in alternative.stored(shape_of(config)).items()}


def big_config() -> dict[str, object]:
    return {
        "num_hidden_layers": BIG["layers"],
        "hidden_size": BIG["hidden"],
        "num_attention_heads": BIG["heads"],
        "num_key_value_heads": BIG["kv_heads"],
        "head_dim": BIG["head_dim"],
        "intermediate_size": BIG["intermediate"],
        "vocab_size": BIG["vocab"],
        "tie_word_embeddings": False,
    }


def write_big_parent(directory: Path) -> int:
    """Sharded bfloat16 weights of an 8B's shape, without ever holding them; returns the largest shard's bytes."""
    from puzzledsl.models.families.access import shape_of
    from puzzledsl.models.families.stored import inventory
    from tests.tiny import CONFIG_MAPPING

    directory.mkdir()
    config = CONFIG_MAPPING["llama"](**big_config(), dtype="bfloat16")
    config.save_pretrained(directory)

    def lazy(size: tuple[int, ...]) -> LazyTensor:
        return LazyTensor(size, torch.bfloat16, lambda: torch.full(size, 0.01, dtype=torch.bfloat16))

    weights = {name: lazy(size) for name, size in inventory(shape_of(config)).items()}
    files = write_shards(weights, directory, 1_500_000_000)
    assert len(files) > 1
    assert sum(path.stat().st_size for path in files) >= 4_000_000_000
    return max(path.stat().st_size for path in files)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc")
def test_realising_an_8b_takes_less_memory_than_a_shard(tmp_path: Path) -> None:
    """Anonymous memory over that before: less than 1.2 x the largest shard (it is one tensor, or one piece)."""
    largest = write_big_parent(tmp_path / "parent")
    found = subprocess.run(
        [sys.executable, "-c", PROBE, str(tmp_path / "parent"), str(tmp_path / "child")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert found.returncode == 0, found.stderr
    extra = json.loads(found.stdout)["extra"]
    print(f"extra {extra / 1e9:.2f} GB, largest shard {largest / 1e9:.2f} GB")
    assert extra < 1.2 * largest
    assert len(open_weights(tmp_path / "child")) > 20
