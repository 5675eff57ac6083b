"""Tensors survive the object store, in whatever they are held."""

import pickle
from typing import NamedTuple

import pytest
import torch

from puzzledsl.cluster.ray_tasks import array_of, carry_tensors, tensor_of
from tests.cluster.ray_here import MARKS, ray_with

pytestmark = MARKS


class Holder(NamedTuple):
    name: str
    held: tuple[torch.Tensor, ...]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 5)])
def test_every_dtype_and_shape_comes_back(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape).mul(3).to(dtype)
    again = tensor_of(pickle.loads(pickle.dumps(array_of(tensor))))
    assert again.dtype == dtype and again.shape == tensor.shape and torch.equal(again, tensor)


def test_views_are_carried_without_their_storage_and_come_back_writable() -> None:
    whole = torch.arange(12.0).view(3, 4)
    array, dtype = array_of(whole[:, 1])
    array.flags.writeable = False  # as in the object store
    again = tensor_of((array, dtype))
    again += 1
    assert again.tolist() == [2, 6, 10] and whole[0, 1] == 1


def test_arrays_leave_the_pickle_out_of_band() -> None:
    """Ray maps out-of-band buffers into the reader's memory; anything else is copied byte by byte."""
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(array_of(torch.zeros(1000)), protocol=5, buffer_callback=buffers.append)
    assert len(content) < 1000 and sum(buffer.raw().nbytes for buffer in buffers) == 4000


@pytest.mark.slow
def test_the_store_follows_containers() -> None:
    with ray_with(1):
        import ray

        carry_tensors()
        held = {"a": [Holder("x", (torch.ones(2, dtype=torch.bfloat16),))], "b": None}
        again = ray.get(ray.put(held))
        again["a"][0].held[0].add_(1)
        assert again["a"][0].held[0].tolist() == [2, 2] and again["b"] is None
