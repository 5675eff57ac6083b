"""Baselines that drop whole layers of the parent: as few as needed to meet every requirement.

`by_block_influence`: layers one after another, by ascending block influence (Men et al., ShortGPT, arXiv 2403.03853).
`by_angular_distance`: one run of consecutive layers, the one whose input and output are closest (Gromov et al., The unreasonable
ineffectiveness of the deeper layers, arXiv 2403.17887). Layers that the space or a logical requirement forbids to drop are
skipped. A kept layer that may not be the parent's takes the choice closest to it in parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from puzzledsl.ir.logic import holds
from puzzledsl.ir.nodes import Logic
from puzzledsl.ir.tables.scores import BlockInfluence
from puzzledsl.search.baselines.candidates import NO_MODEL, best_of_models, closest
from puzzledsl.search.batches.exact import Found
from puzzledsl.search.needs import influence_of
from puzzledsl.search.problem.problem import Problems
from puzzledsl.search.problem.rows import formulas_of
from puzzledsl.search.tables import PARENT

Layers = tuple[int, ...]


def by_block_influence(problems: Problems) -> Found:
    """Drop as few layers as possible, by ascending block influence."""
    return _fewest_drops(problems, _by_influence(problems, _measured(problems)))


def by_angular_distance(problems: Problems) -> Found:
    """Drop the shortest run of layers that suffices, considering for each length only the run of least angular distance."""
    return _fewest_drops(problems, _runs(problems, _measured(problems)))


def _measured(problems: Problems) -> BlockInfluence:
    tables = problems.tables
    influence = influence_of(tables.program, tables.search, tables.scores)
    assert influence is not None, "`tables_of` reports a table without influences"
    return influence


def _fewest_drops(problems: Problems, drops: Iterable[Layers]) -> Found:
    """Return the first model, in the order of `drops`, that meets every requirement; NO_MODEL if none does."""
    parent, gone = closest(problems.builder, PARENT), problems.tables.dropped()
    for dropped in drops:
        model = tuple((gone[i] if i in dropped else None) or choice for i, choice in enumerate(parent))
        found = best_of_models(problems, [(model,)] * len(problems.boxes))
        if found.layers is not None:
            return found
    return NO_MODEL


def _by_influence(problems: Problems, influence: BlockInfluence) -> Iterator[Layers]:
    """Yield nested sets of dropped layers, from none on, each with the next layer of least influence added."""
    dropped: Layers = ()
    yield dropped
    formulas = _formulas(problems)
    for layer in sorted(range(len(influence.layers)), key=lambda i: (influence.layers[i], i)):
        if _may_drop(problems, formulas, (*dropped, layer)):
            dropped = (*dropped, layer)
            yield dropped


def _runs(problems: Problems, influence: BlockInfluence) -> Iterator[Layers]:
    """Yield no layer, then for each length the allowed run of least angular distance (the first of equals)."""
    yield ()
    formulas = _formulas(problems)
    for length, distances in enumerate(influence.runs, start=1):
        runs = [tuple(range(start, start + length)) for start in range(len(distances))]
        allowed = [run for run in runs if _may_drop(problems, formulas, run)]
        if allowed:
            yield min(allowed, key=lambda run: (distances[run[0]], run[0]))


def _formulas(problems: Problems) -> list[Logic]:
    return [formula.logic for formula in formulas_of(problems.tables)]


def _may_drop(problems: Problems, formulas: Sequence[Logic], dropped: Layers) -> bool:
    """True if the space allows these drops and no logical requirement is false whatever the other layers are."""
    pairs, gone = problems.builder.columns.pairs, problems.tables.dropped()
    layers = {i: choice for i in dropped if (choice := gone[i]) is not None and choice in pairs[i]}
    if len(layers) < len(dropped):
        return False
    return all(holds(formula, layers) is not False for formula in formulas)
