"""Whole layers dropped, the others as the parent has them: the least drops with which every requirement holds.

`by_block_influence`: one layer after another, those that change the stream least first (Men et al., ShortGPT, arXiv 2403.03853).
`by_angular_distance`: one run of consecutive layers, the one whose input and output are closest (Gromov et al., The unreasonable
ineffectiveness of the deeper layers, arXiv 2403.17887). A layer whose drop the space or a requirement about layers rules out is
passed over; one that may not be the parent's is what is closest to it in parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from puzzledsl.ir.influence import BlockInfluence
from puzzledsl.ir.nodes import Logic
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.candidates import NO_MODEL, best_of_models, closest
from puzzledsl.search.exact import Found
from puzzledsl.search.metrics import holds
from puzzledsl.search.needs import influence_of
from puzzledsl.search.problem import Problems
from puzzledsl.search.rows import formulas_of
from puzzledsl.search.tables import PARENT

DROPPED = LayerAssignment(attention="noop", ffn="noop")
Layers = tuple[int, ...]


def by_block_influence(problems: Problems) -> Found:
    """The fewest layers of least block influence dropped."""
    return _fewest_drops(problems, _by_influence(problems, _measured(problems)))


def by_angular_distance(problems: Problems) -> Found:
    """The shortest run dropped, of its length the one of least angular distance."""
    return _fewest_drops(problems, _runs(problems, _measured(problems)))


def _measured(problems: Problems) -> BlockInfluence:
    tables = problems.tables
    influence = influence_of(tables.program, tables.search, tables.scores)
    assert influence is not None, "`tables_of` reports a table without influences"
    return influence


def _fewest_drops(problems: Problems, drops: Iterable[Layers]) -> Found:
    """The first model that meets every requirement."""
    parent = closest(problems.builder, PARENT)
    for dropped in drops:
        model = tuple(DROPPED if i in dropped else choice for i, choice in enumerate(parent))
        found = best_of_models(problems, [(model,)] * len(problems.boxes))
        if found.layers is not None:
            return found
    return NO_MODEL


def _by_influence(problems: Problems, influence: BlockInfluence) -> Iterator[Layers]:
    """No layer, the one of least influence, that and the next …; the first of equals first."""
    dropped: Layers = ()
    yield dropped
    formulas = _formulas(problems)
    for layer in sorted(range(len(influence.layers)), key=lambda i: (influence.layers[i], i)):
        if _may_drop(problems, formulas, (*dropped, layer)):
            dropped = (*dropped, layer)
            yield dropped


def _runs(problems: Problems, influence: BlockInfluence) -> Iterator[Layers]:
    """No layer, then of each length the run of least distance."""
    yield ()
    formulas = _formulas(problems)
    for length, distances in enumerate(influence.runs, start=1):
        runs = [tuple(range(start, start + length)) for start in range(len(distances))]
        allowed = [run for run in runs if _may_drop(problems, formulas, run)]
        if allowed:
            yield min(allowed, key=lambda run: (distances[run[0]], run[0]))


def _formulas(problems: Problems) -> list[Logic]:
    return [formula.logic for formula in formulas_of(problems.tables.search.requirements)]


def _may_drop(problems: Problems, formulas: Sequence[Logic], dropped: Layers) -> bool:
    """True where the space has each of these drops and no requirement about layers is false for them alone."""
    pairs = problems.builder.columns.pairs
    if any(DROPPED not in pairs[layer] for layer in dropped):
        return False
    layers = dict.fromkeys(dropped, DROPPED)
    return all(holds(formula, layers) is not False for formula in formulas)
