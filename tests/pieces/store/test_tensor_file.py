"""Files written tensor by tensor are those of safetensors, byte for byte."""

import hashlib
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from puzzledsl.models.families.tensors import DTYPES
from puzzledsl.pieces.store.library import write_tensors

MIXED = {
    f"{code.lower()}.{i}": torch.arange(3 * i).to(dtype) for code, dtype in DTYPES.items() for i in (2, 0, 1)
}
SQUARE = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "tensors",
    [{}, MIXED, {"b": SQUARE, "a": SQUARE.bfloat16(), "scalar": torch.tensor(2.5)}, {'é\n"': SQUARE}],
    ids=["none", "all dtypes", "a matrix and a number", "a strange name"],
)
@pytest.mark.parametrize("job", ["", '{"id":"a","x":"\\u00e9 é\t"}'])
def test_a_file_is_the_one_of_safetensors(tmp_path: Path, tensors: dict[str, torch.Tensor], job: str) -> None:
    expected = save(tensors, metadata={"job": job})
    digest = write_tensors(tmp_path / "file", tensors, {"job": job})
    assert (tmp_path / "file").read_bytes() == expected
    assert digest == hashlib.sha256(expected).hexdigest()


def test_a_view_is_written_as_what_it_shows(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"turned": SQUARE.T}, {"job": ""})
    assert (tmp_path / "file").read_bytes() == save({"turned": SQUARE.T.contiguous()}, metadata={"job": ""})


def test_the_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    tensors = {str(i): torch.zeros(1 << 18) for i in range(8)}
    tracemalloc.start()
    try:
        write_tensors(tmp_path / "file", tensors, {"job": ""})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 19 < (tmp_path / "file").stat().st_size  # hashing reads 256 KiB at a time
