"""Fits on a GPU: sums over batches stay there until they are all known."""

from __future__ import annotations

import torch
from torch import nn

from puzzledsl.pieces.initialise.gauss_newton import Fit, Point, _shares, curvatures
from tests.pretended_gpu import Gpu


def points(count: int, batches: int) -> list[Point]:
    generator = torch.Generator().manual_seed(0)
    return [
        Point([], [torch.randn(2, 5, 3, generator=generator).to("cuda") for _ in range(batches)], [], 0.0)
        for _ in range(count)
    ]


def test_the_inner_products_of_a_step_are_read_together(pretended: Gpu):
    known = points(4, batches=6)
    pretended.waits.clear()
    shares = _shares(known)
    assert pretended.waits.total() == 1 and abs(sum(shares) - 1) < 1e-9


def test_a_point_waits_twice_however_many_batches_there_are(pretended: Gpu):
    waits = []
    for batches in (2, 5):
        generator = torch.Generator().manual_seed(1)
        linear, wanted = (nn.Linear(6, 4, bias=False).to("cuda") for _ in range(2))
        data = [torch.randn(8, 6, generator=generator).to("cuda") for _ in range(batches + 1)]
        fit = Fit(
            [linear],
            lambda x, linear=linear, wanted=wanted: linear(x) - wanted(x).detach(),
            data[:-1],
            data[-1:],
        )
        pretended.waits.clear()
        fit.run(points=1)
        waits.append(pretended.waits.total())
    assert waits[0] == waits[1]


def test_probes_are_drawn_where_they_are_used(pretended: Gpu):
    linear = nn.Linear(6, 4, bias=False).to("cuda")
    data = [torch.randn(8, 6).to("cuda") for _ in range(4)]
    pretended.waits.clear()
    (curvature,) = curvatures([linear], linear, data)
    assert curvature.inputs.is_cuda and not pretended.waits_in("copy")
