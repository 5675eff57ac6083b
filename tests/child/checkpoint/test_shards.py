"""Big children: several files with an index that every reader follows, and one tensor in memory at a time."""

import json
import weakref
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
