"""Sizes of whole parents, as their cards state them."""

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import Shape


def active_params(shape: Shape) -> int:
    """Return the parameters that one token uses: all but those of the experts that it leaves out."""
    attention, ffn = ParentAttention(), ParentFfn()
    layers = ((len(of), attention.size(own).used + ffn.size(own).used) for own, of in shape.kinds())
    return facts.fixed_params(shape) + sum(number * params for number, params in layers)
