"""Tensors survive the object store, in whatever they are held; what holds none is not copied."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from puzzledsl.cluster.workers import Packed, pack, unpack

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool)


@dataclass(frozen=True)
class Holder:
    name: str
    held: tuple[torch.Tensor, ...]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 5)])
def test_every_dtype_and_shape_comes_back(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape).mul(3).to(dtype)
    again = unpack(pickle.loads(pickle.dumps(pack(tensor))))
    assert again.dtype == dtype and again.shape == tensor.shape and torch.equal(again, tensor)


def test_views_are_packed_without_their_storage_and_come_back_writable() -> None:
    whole = torch.arange(12.0).view(3, 4)
    packed = pack(whole[:, 1])
    packed.array.flags.writeable = False  # as in the object store
    again = unpack(packed)
    again += 1
    assert again.tolist() == [2, 6, 10] and whole[0, 1] == 1


def test_numpy_arrays_leave_the_pickle_out_of_band() -> None:
    """Ray maps out-of-band buffers into the reader's memory; anything else is copied byte by byte."""
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(pack([torch.zeros(1000)]), protocol=5, buffer_callback=buffers.append)
    assert len(content) < 1000 and sum(buffer.raw().nbytes for buffer in buffers) == 4000


def test_containers_are_followed_and_left_alone_where_nothing_changes() -> None:
    held = {"a": [Holder("x", (torch.ones(2),))], "b": None}
    packed = pack(held)
    assert isinstance(packed["a"][0].held[0], Packed) and packed["b"] is None
    assert torch.equal(unpack(packed)["a"][0].held[0], torch.ones(2))
    plain = {"a": [1, ("two", np.float64(3))], "b": Holder("y", ())}
    assert pack(plain) is plain
