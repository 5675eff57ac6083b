"""The timer runs the parent as plain `generate` does: same products, same tokens; a frozen head costs nothing extra."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from puzzledsl.measure.place import measure_plain, plain_twin
from puzzledsl.measure.whole import Forward, Workload
from puzzledsl.models.families.load import frozen, load_parent
from tests.tiny import FAMILIES, save_tiny, tiny_model


class Products(TorchDispatchMode):
    """Counter of batched products, which multiply a copy of a weight for each sequence."""

    def __init__(self):
        super().__init__()
        self.batched = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.bmm.default:
            self.batched.append(tuple(args[1].shape))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_the_head_of_a_frozen_model_multiplies_a_slice_as_one_matrix(batch):
    model = tiny_model().to(torch.bfloat16)
    vocab, hidden = model.lm_head.weight.shape
    ids = torch.zeros(batch, 5, dtype=torch.int64)
    model.requires_grad_(True)
    wanted = model(ids, logits_to_keep=1).logits
    model.requires_grad_(False)
    with Products() as before:
        model(ids, logits_to_keep=1)
    assert before.batched == [(batch, hidden, vocab)]
    frozen(model)
    with Products() as after:
        logits = model(ids, logits_to_keep=1).logits
    assert after.batched == [] and torch.equal(logits, wanted)
    frozen(model)
    assert len(model.lm_head._forward_pre_hooks) == 1


@pytest.mark.parametrize("family", [*FAMILIES])
@torch.no_grad()
def test_the_plain_twin_is_the_parent_with_gradients_and_without_hooks(tmp_path, family):
    parent = load_parent(save_tiny(tmp_path / "parent", family))
    twin = plain_twin(parent)
    assert all(p.requires_grad for p in twin.parameters())
    assert not twin.get_output_embeddings()._forward_pre_hooks
    assert not any(p.requires_grad for p in parent.parameters())
    theirs = dict(parent.named_parameters())
    assert all(p.data_ptr() == theirs[name].data_ptr() for name, p in twin.named_parameters())
    ids = torch.arange(6)[None]
    assert torch.equal(twin(ids).logits, parent(ids).logits)


def test_both_are_timed_over_the_same_tokens(tmp_path):
    parent = load_parent(save_tiny(tmp_path / "parent"))
    seen = []
    parent.register_forward_hook(
        lambda m, args, kwargs, out: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    workload = Workload(2, 7, 3)
    check = measure_plain(parent, workload, turns=1)
    assert seen == [(2, 7), *[(2, 1)] * 3] * 2
    assert min(check.prefill_s, check.decode_s, check.plain_prefill_s, check.plain_decode_s) > 0
    forward = Forward(parent, workload)
    with torch.inference_mode():
        forward.prefill()
        forward.decode_step()
    untyped = plain_twin(parent)
    tokens = untyped.generate(forward._ids, max_new_tokens=2, do_sample=False, min_new_tokens=2)
    assert torch.equal(tokens[:, -1:], forward._next)
