"""The pieces of an output head: the parent's matrix in a storage type, with error compensation (GPTQ) on the calibration text.

The inputs are the parent's last states behind its final norm.

Shapes: V tokens of the vocabulary, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.base.progress import Progress
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import Gram
from puzzledsl.models.placement import reachable_parent
from puzzledsl.models.precision.ends import ROWS
from puzzledsl.models.precision.gptq import gptq
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.train.finished import Enter
from puzzledsl.pieces.train.order import Order


@torch.inference_mode()
def make_heads(
    order: Order, jobs: Sequence[BldJob], library: Library, enter: Enter, progress: Progress
) -> None:
    """Make the pieces of an order's head, and call `enter` for each whose file is written. The loss is that of the outputs."""
    runner = LayerRunner(reachable_parent(order.parent_dir, progress, once=True))
    gram = Gram.zeros(runner.hidden_size, 0, runner.device)
    for tokens_BS in order.calibration_batches():
        entering = runner.embed(tokens_BS.to(runner.device))
        gram.add(runner.final_norm(runner.run_suffix(0, entering)))
    weight_VH = runner.head_weights()[0].detach()
    whole = _size(weight_VH, gram)
    for job in jobs:
        assert job.head is not None
        precision = PRECISIONS[job.head]
        found_VH = torch.cat(
            [gptq(rows, gram.xx, precision, gram.tokens) for rows in torch.split(weight_VH, ROWS)]
        )
        loss = _size(found_VH - weight_VH.float(), gram) / whole
        piece = library.write(job, {"weight": found_VH.cpu()}, loss, loss, 0, order.made_from)
        enter(piece, "initial")
        progress.advance(head=job.head, loss=f"{loss:.3g}")


def _size(weight_VH: torch.Tensor, gram: Gram) -> float:
    """Return the mean square of the outputs of a matrix."""
    sized = [((rows.double() @ gram.xx) * rows).sum() for rows in torch.split(weight_VH, ROWS)]
    return float(torch.stack(sized).sum()) / max(1, gram.tokens)
