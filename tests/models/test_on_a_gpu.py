"""Dtypes and kernels on a GPU: bfloat16 with float32 results, no grouped attention in float32, sums in a fixed order."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch

from puzzledsl.models.families.load import load_parent
from puzzledsl.models.kernels.products import repeatable
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import Gram, elimination_order
from puzzledsl.models.placement import placement
from tests.pretended_gpu import Gpu, pretended_gpu
from tests.tiny import save_tiny

GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def parent_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("gpu") / "parent")


def test_parents_run_in_bfloat16_where_a_gpu_has_it(parent_dir: Path):
    """An old one takes it only for large parents."""
    for capability, dtype in (((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float32)):
        with pretended_gpu(capability=capability):
            assert placement(parent_dir) == (torch.device("cuda"), dtype)
    stored = sum(path.stat().st_size for path in parent_dir.glob("*.safetensors"))
    with pretended_gpu(3 * stored, capability=(7, 5)):
        assert placement(parent_dir)[1] == torch.bfloat16


def test_sums_for_least_squares_multiply_in_bfloat16_and_do_not_wait(pretended: Gpu):
    x, y = torch.randn(32, 8).bfloat16(), torch.randn(32, 5).bfloat16()
    there, here = Gram.zeros(8, 5, GPU), Gram.zeros(8, 5)
    for gram, device in ((there, "cuda"), (here, "cpu")):
        x_there, y_there = x.to(device), y.to(device)
        pretended.waits.clear()
        gram.add(x_there, y_there)
        assert not pretended.waits
    assert set(+pretended.flop) == {torch.bfloat16}
    for name in ("xx", "xy", "x_sum"):
        torch.testing.assert_close(getattr(there, name).cpu(), getattr(here, name))
    assert there.yy == pytest.approx(here.yy)


def test_logits_are_float32(parent_dir: Path, pretended: Gpu):
    model = load_parent(parent_dir, dtype=torch.bfloat16, device="cuda")
    runner, normed = LayerRunner(model), torch.randn(2, 3, 24).bfloat16().to("cuda")
    found = runner.logits(normed)
    weight = model.lm_head.weight.float().cpu()
    torch.testing.assert_close(found.cpu(), normed.float().cpu() @ weight.T)
    assert not torch.equal(found, runner.head(normed).float())


def test_repeatable_kernels_are_for_the_context_alone(pretended: Gpu):
    deterministic = torch.are_deterministic_algorithms_enabled
    with repeatable(torch.device("cpu")):
        assert not deterministic()
    with suppress(ZeroDivisionError), repeatable(GPU):
        assert deterministic() and not torch.utils.deterministic.fill_uninitialized_memory
        raise ZeroDivisionError
    assert not deterministic() and torch.utils.deterministic.fill_uninitialized_memory


def test_channels_are_eliminated_with_one_copy_a_round(pretended: Gpu):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(400, 96, dtype=torch.float64, generator=generator)
    down = torch.randn(96, 6, generator=generator)
    here = elimination_order(a.T @ a, down)
    gram, weights = (a.T @ a).to("cuda"), down.to("cuda")
    pretended.waits.clear()
    there = elimination_order(gram, weights)
    assert torch.equal(there.cpu(), here) and sorted(here.tolist()) == list(range(96))
    copies = pretended.waits_in("copy to CPU").total()
    assert copies < 96 and pretended.waits.total() <= 3 * copies + 4
