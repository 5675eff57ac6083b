"""Terminal output of a solved search: its proof, the child's figures, and tables of several children side by side.

Regrets and margins as text: one line per layer, the cost of each requirement, and the choices that hardly matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from puzzledsl.alternatives.alternative import ENDS
from puzzledsl.base.phrases import aligned

if TYPE_CHECKING:
    from puzzledsl.base.diagnostics import Diagnostic
    from puzzledsl.ir.nodes import Program, Refine, Search
    from puzzledsl.ir.tables import (
        FrontierResult,
        Move,
        Regret,
        SearchResult,
        Solution,
        SubBlockRegrets,
        WhyResult,
    )


def as_json(
    result: SearchResult, seconds: float, name: str = "", refine: Refine | None = None
) -> dict[str, object]:
    """Return the documented JSON form of one result. `refine`: the settings of the search that measures children around it."""
    return {
        "search": name or result.search,
        "status": result.status,
        "objective": result.objective,
        "bound": result.bound,
        "gap": result.gap,
        "seconds": round(seconds, 3),
        "found_by": result.found_by or result.solver,
        "proved_by": result.proved_by,
        "solutions": [
            {
                "objective": solution.objective,
                "layers": [layer.model_dump() for layer in solution.layers],
                "metrics": solution.figures,
                **({"simulated": solution.simulated} if solution.simulated else {}),
            }
            for solution in result.solutions
        ],
        "conflict": [
            {"line": item.line, "text": item.text, "reachable": item.reachable} for item in result.conflict
        ],
        **({} if refine is None else {"refine": refine.model_dump(exclude={"where"})}),
    }


def unsolved(search: str, diagnostics: Iterable[Diagnostic]) -> dict[str, object]:
    """Return the documented JSON form of a search that was not run, with the mistakes in its tables or in the program."""
    from puzzledsl.base.render import to_json

    return {"search": search, "status": "error", "diagnostics": to_json(diagnostics)["diagnostics"]}


def as_text(program: Program, result: SearchResult, seconds: float) -> str:
    """Return one result as text: the proof, the figures beside the parent's, the layers, and further solutions."""
    from puzzledsl.costs.table import notes as notes_of
    from puzzledsl.pipeline.text.child_text import metric_text

    best, search = result.solutions[0], program.searches[result.search]
    lines = [
        f"search {result.search}: {_proof(search, result)} in {seconds:.2f} s, {_parts(result)}, verified"
    ]
    if search.refine is not None:
        from puzzledsl.pipeline.text.child_text import solve_note

        lines.append(f"  {solve_note(search)}")
    for name, value in sorted(best.metrics.items()):
        parent = result.parent_metrics.get(name)
        ratio = f"  {value / parent:.3g}x of the parent's {metric_text(name, parent)}" if parent else ""
        served = best.simulated.get(name)
        seen = "" if served is None else f"  simulated {metric_text(name, served)}"
        lines.append(f"  {name:<20} {metric_text(name, value)}{ratio}{seen}")
    for name, batch in sorted(best.batches.items()):
        if "@" not in name and len(program.scenarios[name].batches) != 1:
            lines.append(f"  {name + '.batch':<20} {batch}, chosen")
    lines += layers_as_text(program, result)
    lines += [f"  note: {text}" for text in notes_of(program, search, best)]
    lines += _dropped(program, result)
    for number, preference in enumerate(search.preferences, start=1):
        what = f"{preference.sense} {preference.where.text.lstrip('-').strip()}"
        lines.append(f"  {f'preference {number}':<20} {what}, among what the goals before leave")
    if len(result.solutions) > 1:
        lines += ["", *_further(search, result)]
    return "\n".join(lines)


def layers_as_text(program: Program, result: SearchResult) -> Iterator[str]:
    """Yield the alternatives of each sub-block, the most frequent first: number of layers, name, and which layers."""
    from puzzledsl.alternatives.alternative import SUB_BLOCKS
    from puzzledsl.base.phrases import ranges

    for part in SUB_BLOCKS:
        layers: dict[str, list[int]] = {}
        for number, layer in enumerate(result.solutions[0].of_layers):
            layers.setdefault(getattr(layer, part), []).append(number)
        for i, name in enumerate(sorted(layers, key=lambda name: (-len(layers[name]), name))):
            yield f"  {'' if i else part:<20} {len(layers[name])} x {name}: {ranges(layers[name])}"
    if program.spaces[program.searches[result.search].space].ends is not None:
        yield from (f"  {site:<20} {name}" for site, name in result.solutions[0].ends)


def _dropped(program: Program, result: SearchResult) -> Iterator[str]:
    """Yield the dropped layers if a score of the search measures runs of layers."""
    from puzzledsl.base.phrases import ranges
    from puzzledsl.ir.facts import dropped_names
    from puzzledsl.ir.nodes import ReplaceOne
    from puzzledsl.ir.references import mentioned_scores

    methods = [program.scores[name].method for name in mentioned_scores(program.searches[result.search])]
    shape = program.parents[program.spaces[program.searches[result.search].space].parent].shape
    layers = enumerate(zip(result.solutions[0].of_layers, dropped_names(shape), strict=True))
    dropped = [i for i, (layer, gone) in layers if (layer.attention, layer.ffn) == gone]
    if dropped and any(isinstance(method, ReplaceOne) and method.runs for method in methods):
        yield f"  {'dropped':<20} layers {ranges(dropped)}, those in a row scored as one"


def _parts(result: SearchResult) -> str:
    """`found by label setting, proven by CP-SAT`."""
    if not result.found_by:
        return f"by {result.solver}"
    return f"found by {result.found_by}, {'proven' if result.status == 'optimal' else 'bound'} by {result.proved_by}"


def _goal_text(search: Search, value: float, digits: int = 6) -> str:
    """Format a value of the goal, or a difference of two: with its unit where the goal is one metric."""
    from puzzledsl.ir.nodes import MetricTerm
    from puzzledsl.pipeline.text.child_text import metric_text

    if len(search.objective.terms) == 1 and isinstance(term := search.objective.terms[0].term, MetricTerm):
        return metric_text(f"{term.scenario}.{term.metric}", value)
    return f"{value:.{digits}g}"


def _proof(search: Search, result: SearchResult) -> str:
    """`optimal (objective 1.134, proven: no other is better)`; an answer that time cut short says what is proven."""
    objective = f"objective {_goal_text(search, result.solutions[0].objective)}"
    if result.bound is None:
        return f"{result.status} ({objective}; nothing is proven)"
    bound = f"bound {_goal_text(search, result.bound)}"
    if result.status == "optimal":
        return f"optimal ({objective}, {bound}, gap {result.gap or 0:.2g})"
    gap = "unknown" if result.gap is None else f"{result.gap * 100:.2g} %"
    return f"feasible, not proven to be the best ({objective}; proven so far: {bound}, gap {gap})"


def _further(search: Search, result: SearchResult) -> list[str]:
    """All solutions, in the order in which they were proven: each is the best of those far enough from the ones before."""
    proven = "each proven to be the best given those before"
    proven = proven if result.status == "optimal" else "not all proven"
    best, rows = result.solutions[0], []
    for number, solution in enumerate(result.solutions, start=1):
        apart = sum(a != b for a, b in zip(solution.layers, best.layers, strict=True))
        worse = abs(solution.objective - best.objective)
        share = f"{worse / abs(best.objective) * 100:.3g} %" if best.objective else f"{worse:.3g}"
        rows.append(([str(number), f"{solution.objective:.6g}", share, str(apart)], solution))
    return [
        f"  {len(result.solutions)} solutions, any two {search.apart} or more layers apart, {proven}",
        *_children(search, ["#", "objective", "worse by", "layers unlike #1"], rows),
    ]


def columns_of(search: Search) -> list[str]:
    """Return `params` and the metrics that a search mentions, in the order of mention."""
    from puzzledsl.ir.nodes import MetricTerm, ScoreTerm
    from puzzledsl.ir.references import terms_of

    names = ["params"]
    for term in terms_of(search):
        match term:
            case MetricTerm(scenario=scenario, metric=metric):
                names.append(f"{scenario}.{metric}")
            case ScoreTerm(score=score):
                names.append(score)
            case _:
                pass
    return list(dict.fromkeys(names))


def _children(
    search: Search, head: Sequence[str], rows: Iterable[tuple[Sequence[str], Solution | None]]
) -> Iterator[str]:
    """Return a table of children: own cells of each, then the figures that the search mentions."""
    from puzzledsl.pipeline.text.child_text import metric_text

    columns = columns_of(search)
    cells = [[*head, *columns]]
    for own, child in rows:
        known = {} if child is None else child.figures
        cells.append([*own, *(metric_text(name, known[name]) if name in known else "" for name in columns)])
    return aligned(cells, "<>", "  ")


def frontier_json(result: FrontierResult) -> dict[str, object]:
    """Return a frontier as JSON: its points, each with its target and the answer there."""
    points = [{"target": p.target, **as_json(p.result, 0.0)} for p in result.points]
    return {"frontier": result.frontier, "search": result.search, "points": points}


def frontier_text(program: Program, result: FrontierResult, wrote: str) -> str:
    """Return the points of a frontier as a table, and the file they were written to."""
    from puzzledsl.costs.table import notes as notes_of
    from puzzledsl.ir.search_nodes import describe_term
    from puzzledsl.pipeline.text.child_text import bound_text
    from puzzledsl.report.pictures.curves import one_child

    frontier, search = program.frontiers[result.frontier], program.searches[result.search]
    swept = describe_term(frontier.term)
    rows = []
    for point in result.points:
        answer = point.result
        own = [bound_text(swept, point.target, point.ratio), answer.status]
        own += ["" if answer.objective is None else f"{answer.objective:.6g}"]
        own += [f"{answer.gap:.2g}" if answer.solutions and answer.gap is not None else ""]
        rows.append((own, next(iter(answer.solutions), None)))
    lines = _children(search, [swept, "status", "objective", "gap"], rows)
    proven = sum(p.result.status in ("optimal", "infeasible") for p in result.points)
    head = f"frontier {result.frontier}: {proven} of {len(result.points)} points proven"
    last = [point.result.solutions[0] for point in result.points if point.result.solutions][-1:]
    notes = [f"note, last point: {text}" for best in last for text in notes_of(program, search, best)]
    notes += [f"note: {text}" for text in one_child(search, frontier.term, result)]
    return "\n".join([head, *lines, *notes, f"wrote {wrote}"])


NAMES = {"attention": "attention", "ffn": "FFN"}


def why_as_text(program: Program, result: WhyResult, file: str, *, is_whole: bool) -> str:
    """Return all regrets and margins of a search; if it is not the whole, the alternatives of one place."""
    from puzzledsl.report.numbers import indifferent

    words = _Words(program, result)
    if not is_whole:
        return "\n".join([words.head(), *(line for s in result.sub_blocks for line in ("", *words.place(s)))])
    lines = [words.head(), "", *words.layers(), "", *words.margins(), "", *words.free(indifferent(result))]
    example = next((s for s in result.sub_blocks if len(s.regrets) > 1), result.sub_blocks[0])
    lines += [
        "",
        f"`pzl why {file} {result.search} {place_of(example)}` lists every alternative of one sub-block",
    ]
    return "\n".join(lines)


def place_of(sub_block: SubBlockRegrets) -> str:
    """Return a place as the language writes it: `layers[3].ffn`, `head`."""
    is_end = sub_block.sub_block in ENDS
    return sub_block.sub_block if is_end else f"layers[{sub_block.layer}].{sub_block.sub_block}"


class _Words:
    def __init__(self, program: Program, result: WhyResult) -> None:
        from puzzledsl.ir.search_nodes import describe

        self.result = result
        self.search = program.searches[result.search]
        self.objective = describe(self.search.objective)

    def figure(self, value: float) -> str:
        """Return a difference of the objective as text."""
        return _goal_text(self.search, value, 3) if value else "0"

    def head(self) -> str:
        """Return the optimum and the meaning of a regret."""
        result = self.result
        proof = "proven" if result.proven else "the best found, not proven"
        return (
            f"search {result.search}: {result.sense} {self.objective}, optimum {result.objective:.6g} ({proof})\n"
            "regret: how much worse the optimum gets with an alternative fixed there and all else chosen anew"
        )

    def regret(self, regret: Regret | Move) -> str:
        """Return a regret as text, in the unit of the objective."""
        from puzzledsl.report.numbers import regret_text

        return regret_text(regret, self.figure)

    # -------------------------------------------------------- places

    def place(self, sub_block: SubBlockRegrets) -> Iterator[str]:
        """Yield every alternative of one sub-block, the best first."""
        from puzzledsl.report.numbers import by_regret

        yield f"{place_of(sub_block)}: {sub_block.chosen} is chosen"
        rows = [["alternative", "regret", "of the objective"]]
        for regret in by_regret(sub_block):
            if regret.alternative == sub_block.chosen:
                rows.append([regret.alternative, "chosen", ""])
            else:
                worse, objective = regret.at_most, abs(self.result.objective)
                share = "" if worse is None or not objective else f"{worse / objective * 100:.3g} %"
                rows.append([regret.alternative, self.regret(regret), share])
        yield from aligned(rows, "<>", "  ")

    def layers(self) -> Iterator[str]:
        """Return one line per layer: the chosen alternative, and the next best with its regret."""
        rows = [["layer", "attention", "next best", "regret", "FFN", "next best", "regret"]]
        by_place = {(s.layer, s.sub_block): s for s in self.result.sub_blocks}
        ends = [s for s in self.result.sub_blocks if s.sub_block in ENDS]
        for layer in sorted({s.layer for s in self.result.sub_blocks if s not in ends}):
            cells = [self._cells(by_place[layer, "attention"]), self._cells(by_place[layer, "ffn"])]
            rows.append([str(layer), *cells[0], *cells[1]])
        rows += [[end.sub_block, *self._cells(end), "", "", ""] for end in ends]
        return aligned(rows, "<>", "  ")

    def _cells(self, sub_block: SubBlockRegrets) -> list[str]:
        from puzzledsl.report.numbers import next_best

        other = next_best(sub_block)
        if other is None:
            return [sub_block.chosen, "", ""]
        return [sub_block.chosen, other.alternative, self.regret(other)]

    def free(self, places: tuple[list[SubBlockRegrets], list[SubBlockRegrets]]) -> Iterator[str]:
        """Yield the sub-blocks with a negligible regret for any, or for some other, alternative."""
        limit = self.figure(self.result.negligible)
        if self.result.objective:
            limit += f", {self.result.negligible / abs(self.result.objective) * 100:.2g} % of the objective,"
        yield f"do not care (a regret of at most {limit} is negligible)"
        for head, those in zip(("any alternative will do:", "another will do as well:"), places, strict=True):
            yield f"  {head:<25}{_listed(those) or 'none'}"

    # -------------------------------------------------------- requirements

    def margins(self) -> Iterator[str]:
        """Yield the cost of each requirement."""
        yield "requirements: what the optimum loses (or gains) when a bound is moved"
        if not self.result.margins:
            yield "  none"
        for margin in self.result.margins:
            yield f"  line {margin.line}: {margin.text}"
            said = "; ".join(map(self._move, margin.moves)) or "not computed in the time given"
            if margin.moves and all(move.at_least == move.at_most == 0 for move in margin.moves):
                said = "does not bind: nothing changes, not even without it"
            yield f"    {said}"

    def _move(self, move: Move) -> str:
        """`1 % tighter costs 0.021`."""
        what = "without it" if move.kind == "without" else f"{move.by} {move.kind}"
        if move.at_least is None:
            return f"{what} {'it ' if move.kind == 'without' else ''}cannot be met"
        if move.at_most is not None and move.at_least == move.at_most:
            if not move.at_most:
                return f"{what} changes nothing"
            verb = "costs" if move.at_most > 0 else "saves"
            return f"{what} {verb} {self.figure(abs(move.at_most))}"
        return f"{what} costs {self.regret(move)}"


def _listed(places: Sequence[SubBlockRegrets]) -> str:
    """`attention of layers 0, 3..5; FFN of layer 7`."""
    from puzzledsl.base.phrases import layers_in_words

    parts = []
    for sub_block, name in NAMES.items():
        layers = [s.layer for s in places if s.sub_block == sub_block]
        if layers:
            parts.append(f"{name} of {layers_in_words(layers)}")
    parts += [f"the {place.sub_block}" for place in places if place.sub_block in ENDS]
    return "; ".join(parts)
