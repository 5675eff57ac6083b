"""Costs at any batch, and the largest batch that fits."""

from fractions import Fraction
from math import ceil
from random import Random

import pytest

from puzzledsl.costs.flops import Workload, fixed_flop, sub_block_flop
from puzzledsl.costs.memory import share_read
from puzzledsl.costs.metrics import fits
from puzzledsl.costs.roofline import AnyBatch, CostLine, Pass, fixed_line, line_of, sub_block_cost
from puzzledsl.ir.tables import LayerAssignment
from tests.cases import ALL, cases
from tests.profiles import ATTENTION, FFN, a_child, a_profile, a_scenario, a_shape, any_batch, mixed_any_batch


@pytest.mark.drawn
@pytest.mark.parametrize("seed", range(cases(60)))
def test_a_line_is_the_roofline_at_every_batch(seed: int) -> None:
    rng = Random(seed)
    shape, hardware, scenario = a_shape(rng), a_profile(rng, 64), a_scenario(rng, "chat", "h")
    for batch in (1, 2, 3, rng.randint(4, 64), rng.randint(65, 5000)):
        work = Workload(batch, scenario.prompt, scenario.output)
        holds_to_fractions(fixed_line(hardware, shape), batch, fixed_flop(shape, work))
        for alternative in (*ATTENTION, *FFN):
            line = line_of(hardware, shape, alternative, scenario)
            holds_to_fractions(line, batch, *sub_block_flop(shape, alternative, work))
            assert line.at(batch) == sub_block_cost(hardware, shape, alternative, work), alternative


def seconds(each: Pass, batch: int) -> Fraction:
    """The time of a pass in fractions, as its docstring has it."""
    share = Fraction(*share_read(*each.routing, batch * each.tokens))
    products = max(each.read + each.experts * share, batch * each.compute)
    return products + batch * (each.attention + each.link) + each.link_start + each.overhead


def holds_to_fractions(line: CostLine, batch: int, *flop: int) -> None:
    """Whole nanoseconds are the exact seconds, rounded up; FLOP are counted for the batch."""
    found = line.at(batch)
    times = [ceil(seconds(each, batch) * 10**9) if line.params else 0 for each in (line.prefill, line.decode)]
    assert [found.prefill_ns, found.decode_ns] == times
    assert {found.prefill_flop, found.decode_flop} == ({*flop} if line.params else {0})


def brute_force(made: AnyBatch, layers: tuple[LayerAssignment, ...]) -> int:
    """Every batch tried, from the roofline's own costs: 0 where none fits."""
    here, found = made.hardware, 0
    for batch in range(1, here.max_batch + 1):
        work = Workload(batch, made.scenario.prompt, made.scenario.output)
        costs = [fixed_line(here, made.shape).at(batch)]
        for own, layer, choice in zip(made.shape.each, made.layers, layers, strict=True):
            for offered, name in ((layer.attention, choice.attention), (layer.ffn, choice.ffn)):
                (chosen,) = (alternative for alternative in offered if alternative.name == name)
                costs.append(sub_block_cost(here, own, chosen, work))
        free = here.memory_bytes - here.reserve_bytes - sum(c.weights_bytes for c in costs)
        if sum(c.kv_cache_bytes for c in costs) <= here.kv_fraction * free:
            found = batch
    return found


@pytest.mark.drawn
@pytest.mark.parametrize(("drawn", "count"), [(any_batch, 500), (mixed_any_batch, 200)])
def test_the_largest_batch_is_brute_forces(drawn, count: int) -> None:
    """Of profiles and children of one kind of layer, and of several."""
    seen = set()
    for seed in range(cases(count)):
        rng = Random(seed)
        made = drawn(rng, max_batch=12)
        layers = a_child(made.layers, rng)
        found = made.largest(layers)
        assert found == brute_force(made, layers), seed
        assert found == max((b for b in range(1, 13) if fits(made.at(b), layers)), default=0)
        low, high = made.reach
        assert low <= found <= high
        seen.add(found)
    assert not ALL or seen == set(range(13)), "none, all, and every number between"
