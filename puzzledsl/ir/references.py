"""Declarations that a lowered one refers to, and the measured scores that searches read."""

from collections.abc import Iterator
from typing import assert_never

from puzzledsl.ir import nodes
from puzzledsl.ir.nodes import Program, ReplaceOne, ScoreTerm, Search


def references(node: object) -> Iterator[str]:
    """Yield the names of the declarations `node` refers to."""
    names: tuple[str | None, ...] = ()
    match node:
        case nodes.Data(source=source):
            if isinstance(source, nodes.MixData):
                names = tuple(part.name for part in source.parts)
        case nodes.Scenario():
            names = (node.hardware,)
        case nodes.Space():
            names = node.parent, node.used_by.search if node.used_by else None
        case nodes.Bld():
            names = node.space, node.data, node.heal_data
        case nodes.Judge():
            names = node.parent, node.data
        case nodes.Score(method=method):
            names = node.space, node.bld, method.data if isinstance(method, ReplaceOne) else None
        case Search():
            judges = (requirement.judge for requirement in judged_by(node))
            text = node.refine.data if node.refine else None
            names = node.space, text, *judges, *map(_of_term, terms_of(node))
        case nodes.Frontier():
            names = node.search, _of_term(node.term)
        case nodes.Uptrain():
            names = node.search, node.data
        case nodes.Eval():
            names = node.of, node.data, *node.more_data, *node.full
        case nodes.Export():
            names = (node.of,)
    yield from (name for name in names if name is not None)


def terms_of(search: Search) -> Iterator[nodes.Term]:
    """Yield the terms of a search's goal, linear requirements and preferences, in the order written."""
    yield from (weighted.term for weighted in search.objective.terms)
    for requirement in search.requirements:
        if isinstance(requirement, nodes.LinearRequirement):
            yield from (weighted.term for weighted in requirement.left.terms)
    yield from (weighted.term for preference in search.preferences for weighted in preference.goal.terms)


def places_of(search: Search) -> tuple[str, ...]:
    """Return the scenarios of a search's metrics, under traffic for each number of sequences, in alphabetical order."""
    return tuple(sorted({term.place for term in terms_of(search) if isinstance(term, nodes.MetricTerm)}))


def scenarios_read(search: Search) -> set[str]:
    """Return the scenarios whose costs a search reads."""
    return {term.scenario for term in terms_of(search) if isinstance(term, nodes.MetricTerm)}


def _of_term(term: nodes.Term) -> str | None:
    if isinstance(term, nodes.MetricTerm):
        return term.scenario
    return term.score if isinstance(term, ScoreTerm) else None


_OnASpace = nodes.Space | nodes.Bld | nodes.Score | Search
OfASpace = _OnASpace | nodes.Frontier | nodes.Uptrain | nodes.Eval | nodes.Export
"""A declaration that belongs to one space."""


def search_behind(program: Program, of: str) -> str:
    """Return the search that a child (an uptrain's or a search's name) comes from."""
    return program.uptrains[of].search if of in program.uptrains else of


def space_of(program: Program, declaration: OfASpace) -> str:
    """Return the space that a declaration belongs to: of an evaluation, the one whose children it measures."""
    match declaration:
        case nodes.Space():
            return declaration.name
        case nodes.Bld() | nodes.Score() | Search():
            return declaration.space
        case nodes.Frontier() | nodes.Uptrain():
            return program.searches[declaration.search].space
        case nodes.Eval() | nodes.Export():
            return program.searches[search_behind(program, declaration.of)].space
        case _:
            assert_never(declaration)


def children_in_full(program: Program, evaluation: str) -> tuple[str, ...]:
    """Return the children that answer the tasks and are timed: `full`, else the child `of` and the untrained one it came from."""
    return tuple(dict.fromkeys(program.evals[evaluation].full or children_wanted(program, evaluation)))


def children_wanted(program: Program, evaluation: str) -> tuple[str, ...]:
    """Return the children without which there is no evaluation: the untrained one that `of` came from, `of`, those of `full`."""
    declaration = program.evals[evaluation]
    first = (search_behind(program, declaration.of), declaration.of)
    return tuple(dict.fromkeys((*first, *declaration.full)))


def children_evaluated(program: Program, evaluation: str) -> tuple[str, ...]:
    """Return every child that is measured: the wanted ones, then those of the space's other searches."""
    space = space_of(program, program.evals[evaluation])
    others = (name for name, search in program.searches.items() if search.space == space)
    return tuple(dict.fromkeys((*children_wanted(program, evaluation), *others)))


def evaluations_of(program: Program, child: str) -> list[str]:
    """Return the evaluations that name a child, after `of` or in `full`."""
    return [name for name, e in program.evals.items() if child in (e.of, *e.full)]


def mentioned_scores(search: Search) -> list[str]:
    """Return the scores in a search's objective, requirements and preferences, in the order written, repeats included."""
    return [term.score for term in terms_of(search) if isinstance(term, ScoreTerm)]


def judged_by(search: Search) -> tuple[nodes.Judged, ...]:
    """Return the requirements of a search on figures that judges measure of whole children."""
    bounds = (r.judged for r in search.requirements if isinstance(r, nodes.LinearRequirement))
    return tuple(judged for judged in bounds if judged is not None)


def judges_of(program: Program, search: Search) -> list[nodes.Judge]:
    """Return the judges that requirements of a search name, each with questions only where accuracy is required."""
    asked = {judged.judge for judged in judged_by(search) if judged.figure == "kept"}
    names = dict.fromkeys(judged.judge for judged in judged_by(search))
    judges = (program.judges[name] for name in names)
    return [judge if judge.name in asked else judge.model_copy(update={"tasks": ()}) for judge in judges]


def without_judges(program: Program, search: str) -> Program:
    """Return a program whose search has no requirements on figures that judges measure."""
    declared = program.searches[search]
    kept = [r for r in declared.requirements if isinstance(r, nodes.LogicRequirement) or not r.judged]
    changed = declared.model_copy(update={"requirements": tuple(kept)})
    return program.model_copy(update={"searches": {**program.searches, search: changed}})


def refined_score(program: Program, search: Search) -> str | None:
    """Return the score that measured children refit: a judged requirement's, else the one minimised on text; None without."""
    for requirement in search.requirements:
        if isinstance(requirement, nodes.LinearRequirement) and requirement.judged:
            term = requirement.left.terms[0].term
            return term.score if isinstance(term, ScoreTerm) else None
    goal = search.objective.terms
    if search.sense != "minimize" or len(goal) != 1 or goal[0].coefficient <= 0:
        return None
    term = goal[0].term
    return term.score if isinstance(term, ScoreTerm) and on_text(program, term.score) else None


def refined_text(program: Program, search: Search) -> str | None:
    """Return the data that a refining search measures children on: its own, else its score's; None if it refines no score."""
    score = refined_score(program, search)
    method = None if score is None else program.scores[score].method
    if search.refine is None or not isinstance(method, ReplaceOne):
        return None
    return search.refine.data or method.data


def on_text(program: Program, score: str) -> bool:
    """Return True for a score that `pzl` measures on text, so that a child can be measured by it too."""
    method = program.scores[score].method
    return isinstance(method, ReplaceOne) and method.metric != "accuracy"


def overlap(one: nodes.Data, other: nodes.Data) -> bool:
    """Return True if both read the same files or data set, in parts that meet."""
    pairs = ((a, b) for a in sources_of(one) for b in sources_of(other) if _places(a) & _places(b))
    parts = ((a.part or (0, 1), b.part or (0, 1)) for a, b in pairs)
    return any(max(low, first) < min(high, last) for (low, high), (first, last) in parts)


def _places(source: nodes.PlainData) -> set[str]:
    match source:
        case nodes.HfData(id=id, subset=subset, split=split):
            return {f"{id} {subset} {split}"}
        case nodes.TextData() | nodes.JsonlData() | nodes.ParquetData() | nodes.TaskData():
            return set(source.paths)
        case _:
            assert_never(source)


def sources_of(data: nodes.Data) -> tuple[nodes.PlainData, ...]:
    """Return the sources of a text: those of its parts, if it is a mix."""
    if isinstance(data.source, nodes.MixData):
        return tuple(part.source for part in data.source.parts)
    return (data.source,)


def readers_of(program: Program) -> dict[str, list[str]]:
    """Return the texts that declarations other than judges read, each with its readers: ``bld `pieces` ``."""
    found: dict[str, list[str]] = {}
    for declared in (program.blds, program.scores, program.searches, program.uptrains, program.evals):
        for name, node in declared.items():
            texts = [text for text in references(node) if text in program.data]
            if isinstance(node, nodes.Bld) and not node.heal_tokens:
                texts = [node.data] if node.data else []
            for text in dict.fromkeys(texts):
                found.setdefault(text, []).append(f"{type(node).__name__.lower()} `{name}`")
    return found
