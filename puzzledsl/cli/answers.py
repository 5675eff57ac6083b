"""Answers of a search as text and JSON: the proof, the child's figures, and tables of several children side by side.

Also frontiers, and `pzl why`: one line per layer with its regrets, and the cost of each requirement.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from puzzledsl.alternatives.alternative import ENDS, SUB_BLOCKS
from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.phrases import aligned, ranges
from puzzledsl.base.render import to_json
from puzzledsl.costs.table import notes as notes_of
from puzzledsl.ir import tables
from puzzledsl.ir.facts import dropped_names
from puzzledsl.ir.nodes import MetricTerm, Program, Refine, ReplaceOne, ScoreTerm, Search
from puzzledsl.ir.references import mentioned_scores, terms_of
from puzzledsl.ir.search_nodes import describe, describe_term
from puzzledsl.pipeline.text.child_text import bound_text, metric_text, solve_note
from puzzledsl.report.numbers import by_regret, next_best, regret_text
from puzzledsl.report.pictures.curves import one_child


def as_json(result: tables.SearchResult, seconds: float, refine: Refine | None = None) -> dict[str, object]:
    """Return the JSON form of one result, as `pzl solve --help` documents it. `refine`: the search's setting `refine`, if any."""
    return {
        "search": result.search,
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
    """Return the JSON form of a search that could not be run, with the mistakes in its tables or in the program."""
    return {"search": search, "status": "error", "diagnostics": to_json(diagnostics)["diagnostics"]}


def as_text(program: Program, result: tables.SearchResult, seconds: float) -> str:
    """Return a result that has a solution as text: proof, figures beside the parent's, layers, and further solutions."""
    best, search = result.solutions[0], program.searches[result.search]
    by = f"by {result.solver}"
    if result.found_by:
        proven = "proven" if result.status == "optimal" else "bound"
        by = f"found by {result.found_by}, {proven} by {result.proved_by}"
    lines = [f"search {result.search}: {_proof(search, result)} in {seconds:.2f} s, {by}, verified"]
    if search.refine is not None:
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


def layers_as_text(program: Program, result: tables.SearchResult) -> Iterator[str]:
    """Yield a line for each alternative that the best child uses, the most frequent first: layer count, name, layer numbers."""
    for part in SUB_BLOCKS:
        layers: dict[str, list[int]] = {}
        for number, layer in enumerate(result.solutions[0].of_layers):
            layers.setdefault(getattr(layer, part), []).append(number)
        for i, name in enumerate(sorted(layers, key=lambda name: (-len(layers[name]), name))):
            yield f"  {'' if i else part:<20} {len(layers[name])} x {name}: {ranges(layers[name])}"
    if program.spaces[program.searches[result.search].space].ends is not None:
        yield from (f"  {site:<20} {name}" for site, name in result.solutions[0].ends)


def _dropped(program: Program, result: tables.SearchResult) -> Iterator[str]:
    """Yield one line with the layers that are dropped whole, if there are any and a score measures runs of layers."""
    methods = [program.scores[name].method for name in mentioned_scores(program.searches[result.search])]
    shape = program.parents[program.spaces[program.searches[result.search].space].parent].shape
    layers = enumerate(zip(result.solutions[0].of_layers, dropped_names(shape), strict=True))
    dropped = [i for i, (layer, gone) in layers if (layer.attention, layer.ffn) == gone]
    if dropped and any(isinstance(method, ReplaceOne) and method.runs for method in methods):
        yield f"  {'dropped':<20} layers {ranges(dropped)}, those in a row scored as one"


def _goal_text(search: Search, value: float, digits: int = 6) -> str:
    """Format a value of the objective, or a difference of two: with its unit if it is one metric, else to `digits` digits."""
    if len(search.objective.terms) == 1 and isinstance(term := search.objective.terms[0].term, MetricTerm):
        return metric_text(f"{term.scenario}.{term.metric}", value)
    return f"{value:.{digits}g}"


def _proof(search: Search, result: tables.SearchResult) -> str:
    """Return e.g. `optimal (objective 1.134, bound 1.134, gap 0)`; for an answer not proven optimal, the bound and gap so far."""
    objective = f"objective {_goal_text(search, result.solutions[0].objective)}"
    if result.bound is None:
        return f"{result.status} ({objective}; nothing is proven)"
    bound = f"bound {_goal_text(search, result.bound)}"
    if result.status == "optimal":
        return f"optimal ({objective}, {bound}, gap {result.gap or 0:.2g})"
    gap = "unknown" if result.gap is None else f"{result.gap * 100:.2g} %"
    return f"feasible, not proven to be the best ({objective}; proven so far: {bound}, gap {gap})"


def _further(search: Search, result: tables.SearchResult) -> list[str]:
    """Return a table of all solutions in their order: each is the best child at least `apart` layers from those before it."""
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
    """Return `params` and the metrics and scores that a search mentions, in the order of mention, each once."""
    mentioned = (term for term in terms_of(search) if isinstance(term, MetricTerm | ScoreTerm))
    names = (f"{t.scenario}.{t.metric}" if isinstance(t, MetricTerm) else t.score for t in mentioned)
    return list(dict.fromkeys(["params", *names]))


def _children(
    search: Search, head: Sequence[str], rows: Iterable[tuple[Sequence[str], tables.Solution | None]]
) -> Iterator[str]:
    """Return a table of children under `head`: each row's given cells, then the figures of its child (None: empty)."""
    columns = columns_of(search)
    cells = [[*head, *columns]]
    for own, child in rows:
        known = {} if child is None else child.figures
        cells.append([*own, *(metric_text(name, known[name]) if name in known else "" for name in columns)])
    return aligned(cells, "<>", "  ")


def frontier_json(result: tables.FrontierResult) -> dict[str, object]:
    """Return a frontier as JSON: its points, each with its target and the answer there."""
    points = [{"target": p.target, **as_json(p.result, 0.0)} for p in result.points]
    return {"frontier": result.frontier, "search": result.search, "points": points}


def frontier_text(program: Program, result: tables.FrontierResult, wrote: Path) -> str:
    """Return the points of a frontier as a table, and the file they were written to."""
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


def why_as_text(program: Program, result: tables.WhyResult, file: str, *, is_whole: bool) -> str:
    """Return regrets and margins as text. `is_whole`: of all layers; else every alternative of the sub-blocks in `result`."""
    words = _Words(program, result)
    if not is_whole:
        return "\n".join([words.head(), *(line for s in result.sub_blocks for line in ("", *words.place(s)))])
    example = next((s for s in result.sub_blocks if len(s.regrets) > 1), result.sub_blocks[0])
    more = f"`pzl why {file} {result.search} {place_of(example)}` lists every alternative of one sub-block"
    return "\n".join([words.head(), "", *words.layers(), "", *words.margins(), "", more])


def place_of(sub_block: tables.SubBlockRegrets) -> str:
    """Return a place as the language writes it: `layers[3].ffn`, `head`."""
    is_end = sub_block.sub_block in ENDS
    return sub_block.sub_block if is_end else f"layers[{sub_block.layer}].{sub_block.sub_block}"


class _Words:
    def __init__(self, program: Program, result: tables.WhyResult) -> None:
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

    def regret(self, regret: tables.Regret | tables.Move) -> str:
        """Return a regret as text, in the unit of the objective."""
        return regret_text(regret, self.figure)

    def place(self, sub_block: tables.SubBlockRegrets) -> Iterator[str]:
        """Yield every alternative of one sub-block, the best first."""
        yield f"{place_of(sub_block)}: {sub_block.chosen} is chosen"
        rows = [["alternative", "regret", "of the objective"]]
        for regret in by_regret(sub_block):
            worse, objective = regret.at_most, abs(self.result.objective)
            share = "" if worse is None or not objective else f"{worse / objective * 100:.3g} %"
            chosen = regret.alternative == sub_block.chosen
            rows.append([regret.alternative, *(("chosen", "") if chosen else (self.regret(regret), share))])
        yield from aligned(rows, "<>", "  ")

    def layers(self) -> Iterator[str]:
        """Return one line per layer (and end): for each sub-block the chosen alternative, and the next best with its regret."""
        rows = [["layer", "attention", "next best", "regret", "FFN", "next best", "regret"]]
        by_place = {(s.layer, s.sub_block): s for s in self.result.sub_blocks}
        ends = [s for s in self.result.sub_blocks if s.sub_block in ENDS]
        for layer in sorted({s.layer for s in self.result.sub_blocks if s not in ends}):
            cells = [self._cells(by_place[layer, "attention"]), self._cells(by_place[layer, "ffn"])]
            rows.append([str(layer), *cells[0], *cells[1]])
        rows += [[end.sub_block, *self._cells(end), "", "", ""] for end in ends]
        return aligned(rows, "<>", "  ")

    def _cells(self, sub_block: tables.SubBlockRegrets) -> list[str]:
        other = next_best(sub_block)
        return [sub_block.chosen, *(("", "") if other is None else (other.alternative, self.regret(other)))]

    def margins(self) -> Iterator[str]:
        """Yield for each requirement what the optimum loses or gains if its bound is moved or dropped."""
        yield "requirements: what the optimum loses (or gains) when a bound is moved"
        if not self.result.margins:
            yield "  none"
        for margin in self.result.margins:
            yield f"  line {margin.line}: {margin.text}"
            said = "; ".join(map(self._move, margin.moves)) or "not computed in the time given"
            if margin.moves and all(move.at_least == move.at_most == 0 for move in margin.moves):
                said = "does not bind: nothing changes, not even without it"
            yield f"    {said}"

    def _move(self, move: tables.Move) -> str:
        """Return the effect of moving or dropping one bound, such as `1 % tighter costs 0.021`."""
        what = "without it" if move.kind == "without" else f"{move.by} {move.kind}"
        if move.at_least is None:
            return f"{what} {'it ' if move.kind == 'without' else ''}cannot be met"
        if move.at_most is not None and move.at_least == move.at_most:
            if not move.at_most:
                return f"{what} changes nothing"
            verb = "costs" if move.at_most > 0 else "saves"
            return f"{what} {verb} {self.figure(abs(move.at_most))}"
        return f"{what} costs {self.regret(move)}"
