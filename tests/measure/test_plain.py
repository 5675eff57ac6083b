"""The timer runs the parent as plain `generate` does: same tokens, and a frozen head costs nothing extra."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from puzzledsl.measure.whole import Forward, Workload
from puzzledsl.models.families.load import frozen, load_parent
from tests.tiny import save_tiny, tiny_model


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


def test_the_timer_decodes_the_tokens_of_generate(tmp_path):
    parent = load_parent(save_tiny(tmp_path / "parent"))
    forward = Forward(parent, Workload(2, 7, 3))
    with torch.inference_mode():
        forward.prefill()
        forward.decode_step()
    tokens = parent.generate(forward._ids, max_new_tokens=2, do_sample=False, min_new_tokens=2)
    assert torch.equal(tokens[:, -1:], forward._next)
