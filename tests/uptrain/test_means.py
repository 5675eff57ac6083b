"""Memory of an uptraining, by arithmetic: what is chosen fits, is the cheapest that does, and nothing is loaded before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.uptrain import means
from puzzledsl.uptrain.errors import NoEightBit, NoRoomToUptrain
from puzzledsl.uptrain.means import PLAIN, Budget, Bytes, Means, Sizes, chosen, means_for
from puzzledsl.uptrain.ranks import SINGLE_PROCESS, Ranks
from tests.tiny import tiny_model
from tests.uptrain.cases import make_case

GB, H100 = 10**9, 80 * 10**9
LLAMA_8B = Sizes(8_030_000_000, 218_112_000, 1_050_677_248, 32, 4096, 128_256)
LLAMA_70B = Sizes(70_553_000_000, 855_654_400, 2_101_354_496, 80, 8192, 128_256)


def budget(sizes: Sizes, ranks: Ranks = SINGLE_PROCESS, *, host: int = 256 * GB, **changes: object) -> Budget:
    settings = {"context": 2048, "blocks": 4, "fixed": False, "number": 2, "tile": 2048, "cosine": True}
    room = Bytes(int(0.9 * H100), host)
    return Budget(sizes, sizes, ranks, room, on_gpu=True, **(settings | changes))  # type: ignore[arg-type]


def test_llama_8b_fits_one_h100_with_the_hosts_memory() -> None:
    one = budget(LLAMA_8B)
    assert one.needed(Means(recompute=True)).device > 1.9 * H100
    found = chosen(one)
    assert found is not None and found.offload and found.recompute and not found.eight_bit
    need = one.needed(found)
    assert need.host == 16 * LLAMA_8B.weights and 2 * LLAMA_8B.weights < need.device < 0.6 * H100
    little = chosen(budget(LLAMA_8B, host=100 * GB))
    assert little is not None and little.offload and little.eight_bit
    assert chosen(budget(LLAMA_8B, host=50 * GB)) is None


def test_llama_8b_on_8_and_70b_on_8_and_16_and_405b_is_too_much() -> None:
    found = chosen(budget(LLAMA_8B, Ranks(0, 8)))
    assert found is not None and not found.offload and not found.eight_bit
    of_70b = chosen(budget(LLAMA_70B, Ranks(0, 8)))
    assert of_70b is not None and of_70b.offload and not of_70b.local_gradients
    on_64 = chosen(budget(LLAMA_70B, Ranks(0, 64, 8)))
    assert on_64 is not None and not on_64.offload and not on_64.hybrid, "no machine holds it all"


def test_machines_that_hold_everything_are_replicas() -> None:
    found = chosen(budget(LLAMA_8B, Ranks(0, 16, 8)))
    assert found is not None and found.hybrid and not found.offload
    alone = chosen(budget(LLAMA_8B, Ranks(0, 8, 8)))
    assert alone is not None and not alone.hybrid


def test_local_gradients_and_the_background_need_spare_room() -> None:
    small = replace(LLAMA_8B, weights=2_000_000_000)
    found = chosen(budget(small, Ranks(0, 8), host=256 * GB))
    assert found is not None and found.local_gradients and found.background
    assert budget(small, Ranks(0, 8)).needed(found).device < H100
    poor = chosen(budget(small, Ranks(0, 8), host=1 * GB))
    assert poor is not None and not poor.background
    cpu = replace(budget(small, Ranks(0, 8)), on_gpu=False, room=Bytes(H100))
    assert chosen(cpu) == PLAIN, "a CPU's results do not depend on its free memory"


@given(
    weights=st.integers(10**8, 10**12),
    world=st.sampled_from([1, 2, 8, 64]),
    host=st.integers(0, 10**12),
    blocks=st.integers(1, 32),
)
def test_what_is_chosen_fits_and_what_is_cheaper_does_not(
    weights: int, world: int, host: int, blocks: int
) -> None:
    sizes = replace(LLAMA_8B, weights=weights)
    asked = budget(sizes, Ranks(0, world, min(world, 8)), host=host, blocks=blocks)
    found, order = chosen(asked), list(asked.candidates())
    if found is None:
        assert not any(asked.fits(one) for one in order)
        return
    assert asked.fits(found)
    plain = replace(found, hybrid=False, local_gradients=False, background=False)
    assert not any(asked.fits(one) for one in order[: order.index(plain)])


def test_sizes_are_those_of_the_weights(tmp_path) -> None:
    case, parent = make_case(tmp_path), tiny_model(layers=3, scale=0.3)
    sizes = Sizes.of(case.parent, child=False)
    assert sizes.weights == sum(w.numel() for w in parent.parameters())
    assert sizes.outside == 2 * 260 * 24 + 24 and sizes.layers == 3
    assert sizes.layer == sum(w.numel() for w in parent.model.layers[0].parameters())
    assert Sizes.of(case.child, child=True).weights < sizes.weights


def test_it_fails_before_anything_is_loaded(tmp_path, monkeypatch) -> None:
    case = make_case(tmp_path)
    declaration, cpu = case.program.uptrains["final"], torch.device("cpu")
    given = declaration, case.parent, case.child, cpu
    assert means_for(*given, Ranks()) == PLAIN
    for path in (*case.parent.glob("*.safetensors"), *case.child.glob("*.safetensors")):
        path.unlink()
    asked = budget(Sizes.of(case.parent, child=False), tile=256, context=16, blocks=128, number=4)
    least = replace(asked, child=Sizes.of(case.child, child=True), on_gpu=False).needed(
        Means(recompute=True, eight_bit=True)
    )
    monkeypatch.setattr(means, "room_bytes", lambda: least.device)
    monkeypatch.setattr(means, "has_eight_bit", lambda: False)
    with pytest.raises(DiagnosticError) as error:
        means_for(*given, Ranks())
    assert isinstance(error.value.diagnostics[0], NoEightBit)
    assert "pip install 'puzzledsl[eightbit]'" in error.value.diagnostics[0].help
    monkeypatch.setattr(means, "room_bytes", lambda: least.device - 1)
    with pytest.raises(DiagnosticError) as error:
        means_for(*given, Ranks())
    (problem,) = error.value.diagnostics
    assert isinstance(problem, NoRoomToUptrain) and "in each of 1 processes" in problem.message
