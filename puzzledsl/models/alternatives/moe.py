"""A mixture with fewer or narrower experts, or a dense FFN in its place; down projections and router are fitted to its outputs.

Shapes: T tokens, H hidden.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.base.diagnostics import CannotRealise, DiagnosticError
from puzzledsl.models.alternatives.realisation import ParentLayer, State, cannot_initialise, like
from puzzledsl.models.families.access import sub_block_of
from puzzledsl.models.mixtures.experts import SHARED, Mixture, ModuleRules, contributing, dense, expert_of
from puzzledsl.models.mixtures.smaller import damage_order, reap, smaller


@torch.no_grad()
def initialise(alternative: MoeFfn, parent: ParentLayer) -> State:
    """Return the mixture of these sizes that is nearest to the parent's. Shared experts are the parent's own."""
    shape = parent.shape
    if shape.ffn != "moe":
        raise DiagnosticError(CannotRealise(None, alternative=alternative.name))
    if alternative.experts > shape.experts or alternative.width > shape.expert_width:
        why = f"the parent has {shape.experts} experts of {shape.expert_width} channels"
        raise cannot_initialise(alternative, why)
    own = parent.weights_on_demand("ffn")
    full, inputs_TH = _mixture(parent, own), _inputs(parent)
    state = {name: own[name].clone() for name in own if name.startswith("shared_expert")}
    statistics, outputs_TH = parent.statistics, full(inputs_TH)
    if statistics.expert_orders is None and alternative.experts < shape.experts:
        saliency = reap(full, inputs_TH)
        by_saliency = sorted(range(shape.experts), key=saliency.__getitem__)
        statistics.expert_orders = [damage_order(full, inputs_TH, outputs_TH), by_saliency]
    orders = statistics.expert_orders or []
    sizes = {"experts": alternative.experts, "top_k": alternative.top_k, "width": alternative.width}
    made = smaller(full, orders, inputs_TH, outputs_TH, **sizes)
    return state | {name: like(weight, full.router) for name, weight in made.state().items()}


@torch.no_grad()
def initialise_dense(alternative: MlpFfn, parent: ParentLayer) -> State:
    """Return a dense FFN fitted to the parent's mixture with shared experts, or (`channel_contribution`) its largest channels."""
    own = parent.weights_on_demand("ffn")
    shared = [expert_of(own, SHARED)] if f"{SHARED}up_proj.weight" in own else []
    full, inputs_TH = _mixture(parent, own), _inputs(parent)
    if parent.init.mlp == "channel_contribution":
        made = contributing(full, shared, inputs_TH, alternative.width)
    else:
        outputs_TH = _flat([trace.ffn_output for _, trace in parent.statistics.calls])
        made = dense(full, shared, inputs_TH, outputs_TH, alternative.width)
    return {name: like(weight, full.router) for name, weight in made.state("").items()}


def _mixture(parent: ParentLayer, weights: Mapping[str, Tensor]) -> Mixture:
    return Mixture.of(weights, parent.shape.top_k, ModuleRules(sub_block_of(parent.layer, "ffn")))


def _inputs(parent: ParentLayer) -> Tensor:
    """The router's inputs on all calibration tokens, float32 [T, H]."""
    return _flat([trace.ffn_input for _, trace in parent.statistics.calls])


def _flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten(0, -2) for part in parts]).float()
