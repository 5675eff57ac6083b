"""A narrower FFN: the channels that matter most, and the down projection refitted to them."""

from typing import cast

from torch import Tensor

from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.models.alternatives.moe import initialise_dense
from puzzledsl.models.alternatives.realisation import ParentLayer, State, cannot_initialise, like
from puzzledsl.models.least_squares.grams import contribution_order, elimination_order, refit_down


def initialise(alternative: MlpFfn, parent: ParentLayer) -> State:
    """Return the weights of the kept channels, the down projection refitted by default. A mixture becomes one dense FFN."""
    if parent.shape.ffn == "moe":
        return initialise_dense(alternative, parent)
    width, full = alternative.width, parent.shape.intermediate
    if not 1 <= width <= full:
        raise cannot_initialise(alternative, f"the parent's FFN has {full} channels")
    own = parent.weights("ffn")
    if width == full:
        return own
    kept = _kept_channels(width, parent)
    for name in own:
        if name.startswith(("gate_proj.", "up_proj.")):
            own[name] = own[name][kept].contiguous()
    down = own["down_proj.weight"]
    if parent.init.mlp == "least_squares":
        own["down_proj.weight"] = like(refit_down(parent.statistics.activations, down.T, kept).T, down)
    else:
        own["down_proj.weight"] = down[:, kept].contiguous()
    return own


def _kept_channels(width: int, parent: ParentLayer) -> Tensor:
    """The parent's channels that an FFN of `width` keeps, ascending (width,), int64."""
    statistics = parent.statistics
    down = cast(Tensor, parent.sub_block("ffn").down_proj.weight).detach().T
    if parent.init.mlp == "channel_contribution":
        order = contribution_order(statistics.activation_abs, down)
    else:
        if statistics.channel_order is None:
            statistics.channel_order = elimination_order(statistics.activations.xx, down)
        order = statistics.channel_order
    return order[len(order) - width :].sort().values
