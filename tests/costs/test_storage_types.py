"""Bytes and times of quantised sub-blocks: codes and scales by hand, and what follows from them."""

from fractions import Fraction

import pytest

from puzzledsl.alternatives.parent import ParentFfn
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.memory import size_on, weights_bytes
from puzzledsl.costs.roofline import bandwidth, line_of
from tests.costs.cases import PROFILES, SMALL

HIDDEN, WIDTH = 64, 192
ONE = Workload(1, 16, 16)
SHAPE = SMALL.model_copy(update={"heads": 8, "head_dim": 8, "intermediate": WIDTH})
HARDWARE = PROFILES["h100_sxm"]


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("q8_0", 8.5), ("q5_0", 5.5), ("q4_1", 5), ("q4_0", 4.5), ("iq4_nl", 4.5), ("int4", 4.25), (None, 16)],
)
def test_an_ffns_bytes(dtype, bits: float) -> None:
    """Three matrices of 64 x 192; int4 has groups of 64 in all, as 64 divides both; the norm is bf16."""
    size = size_on(HARDWARE, SHAPE, ParentFfn(dtype=dtype))
    assert weights_bytes(HARDWARE, size) == 3 * HIDDEN * WIDTH * bits / 8 + 2 * HIDDEN


def test_decode_reads_what_is_stored() -> None:
    """A quantised FFN's share of the time is its share of the bytes, if reading weights bounds it."""
    slow = HARDWARE.model_copy(update={"bandwidth_bytes_per_s": Fraction(1)})
    times = [line_of(slow, SHAPE, ParentFfn(dtype=dtype), ONE).decode.read for dtype in (None, "q4_0")]
    assert times[1] / times[0] == Fraction(9, 32)
    assert times[0] == 3 * HIDDEN * WIDTH * 2 / bandwidth(slow)


def test_the_parts_of_a_quantised_sub_block_on_several_gpus() -> None:
    """Matrices are halved; a row that is cut keeps its scale on both."""
    both = HARDWARE.model_copy(update={"gpus": 2})
    halves = size_on(both, SHAPE, ParentFfn(dtype="int8"))
    assert halves.matrices == 3 * HIDDEN * WIDTH // 2
    assert halves.stored is not None and halves.stored.scales == 2 * WIDTH // 2 + HIDDEN
    blocks = size_on(both, SHAPE, ParentFfn(dtype="q8_0"))
    assert blocks.stored is not None and blocks.stored.scales == 3 * HIDDEN * WIDTH // 32 // 2
