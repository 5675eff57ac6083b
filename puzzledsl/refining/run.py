"""`pzl refine`: measure children around a search's optimum and refit the scores to them.

The search proves the optimum of a sum of scores, but a child's real loss is not a sum. Here whole children are assembled, healed
and measured, and each measured loss informs the next proposal. Every child is verified to meet every requirement. The result is
the best child that was measured; it is not proven optimal.
"""

from __future__ import annotations

from puzzledsl.ir.nodes import Program
from puzzledsl.ir.references import judged_by
from puzzledsl.ir.tables import (
    MeasuredChild,
    Refinement,
    SearchResult,
    Solution,
)
from puzzledsl.refining.candidates import Candidates
from puzzledsl.refining.inputs import RefineInputs
from puzzledsl.refining.judged import JudgedSearch, Requirements
from puzzledsl.refining.judges import Judges
from puzzledsl.refining.measuring import Meter
from puzzledsl.refining.proposals import Proposals


def run_refine(inputs: RefineInputs, result: SearchResult) -> Refinement:
    """Measure `refine.children` children of a solved search. Children measured by an earlier run are not measured again.

    Raises DiagnosticError: missing tables, pieces or text. ValueError for a search without `refine` or without a solution.
    """
    candidates = inputs.candidates()
    if not result.solutions:
        raise ValueError(f"search {inputs.search} has nothing to refine")
    inputs.work.mkdir(parents=True, exist_ok=True)
    meter = meter_of(inputs, candidates)
    inputs.progress.start(f"refine {inputs.search}", inputs.refine.children)
    return refined(inputs, result, candidates, meter)


def meter_of(inputs: RefineInputs, candidates: Candidates) -> Meter | Judges:
    """Return what measures children: the judges where requirements name some, else the score's own text."""
    if judged_by(inputs.program.searches[inputs.search]):
        return Judges(inputs)
    return Meter(inputs, candidates.score)


def judged(inputs: RefineInputs, result: SearchResult, candidates: Candidates, judges: Judges) -> Refinement:
    """Measure children until the best one that meets the requirements on judged figures is bracketed."""
    program, optimum = inputs.program, result.solutions[0]
    requirements = Requirements(program, program.searches[inputs.search])
    found = JudgedSearch(candidates, judges, requirements, _seed(program, candidates.score))
    found.run(optimum, inputs.refine.children, inputs.progress)
    bound = found.bound()
    model_optimum = candidates.optimum(found.surrogate.table(), bound) or optimum
    return Refinement(
        search=inputs.search,
        score=candidates.score,
        metric=f"{judges.first}.kl",
        healed=0,
        samples=judges.tokens,
        children=tuple(found.children),
        solution=found.solution(),
        parent_metrics=result.parent_metrics,
        model_optimum=model_optimum.layers,
        model_prediction=found.surrogate.predict(model_optimum.layers)[0],
        proven=optimum.objective,
    )


def refined(
    inputs: RefineInputs, result: SearchResult, candidates: Candidates, meter: Meter | Judges
) -> Refinement:
    """Propose and measure children until there are `refine.children` of them or no new one is proposed."""
    if isinstance(meter, Judges):
        return judged(inputs, result, candidates, meter)
    refine, progress = inputs.refine, inputs.progress
    optimum = result.solutions[0]
    proposals = Proposals(candidates, optimum, _seed(inputs.program, candidates.score))
    measured: list[MeasuredChild] = []
    best: tuple[float, Solution] | None = None
    while len(measured) < refine.children and (proposal := proposals.next()) is not None:
        loss = meter.loss(proposal.solution)
        proposals.tell(proposal.solution.layers, loss)
        if best is None or loss < best[0]:
            best = loss, proposal.solution
        measured.append(proposal.measured(loss))
        progress.advance(1, measured=loss, best=best[0])
    progress.advance(refine.children - len(measured))
    assert best is not None, "the optimum is proposed first"
    model_optimum = proposals.model_optimum() or optimum
    return Refinement(
        search=inputs.search,
        score=candidates.score,
        metric=meter.metric,
        healed=refine.healed,
        samples=meter.samples(),
        children=tuple(measured),
        solution=best[1],
        parent_metrics=result.parent_metrics,
        model_optimum=model_optimum.layers,
        model_prediction=proposals.predict(model_optimum.layers)[0],
        proven=optimum.objective,
    )


def _seed(program: Program, score: str) -> int:
    bld = program.scores[score].bld
    return 0 if bld is None else program.blds[bld].seed
