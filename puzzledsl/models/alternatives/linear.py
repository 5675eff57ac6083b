"""One matrix in place of a sub-block: the least-squares map from its inputs to its outputs (ridge)."""

from puzzledsl.alternatives.linear import LinearAttention, LinearFfn
from puzzledsl.models.alternatives.realisation import ParentLayer, State, like
from puzzledsl.models.least_squares.grams import TOWARDS_ZERO, solve_ridge


def initialise(alternative: LinearAttention | LinearFfn, parent: ParentLayer) -> State:
    """Return the matrix, as `nn.Linear` stores it."""
    statistics, own = parent.statistics, parent.sub_block(alternative.sub_block)
    gram = statistics.attention if isinstance(alternative, LinearAttention) else statistics.ffn
    weight = solve_ridge(gram.xx, gram.xy, relative=gram.ridge(TOWARDS_ZERO)).T
    return {"linear.weight": like(weight, next(own.parameters()))}
