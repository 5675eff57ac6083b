"""Algorithm portfolio: exact engines in turn on one problem, which share the incumbent and the bound.

Label setting, branch and bound on the decision diagram, and CP-SAT take turns in slices of deterministic work (numbers of labels,
CP-SAT's deterministic time). The first proof of optimality ends the search.

A requirement that at most k of n statements hold, such as `distinct(layers) <= 3`, excludes little early: nearly every choice of
the first layers leaves it open. So it may be split into cases. In a case k statements may hold and no other: the columns of the
others go, and the requirement with them. Prices bound all cases at once; the cases are solved in the order of their bounds.

The answer is canonical: of all best answers, the one whose columns come first in the order of the space (layer 0 decides first).
So it does not depend on seeds or the number of workers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb, inf
from time import monotonic

import numpy as np

from puzzledsl.search.cpsat.solve import alike_layers, canonical_answer, run_cpsat
from puzzledsl.search.lagrangian.bound import Bound, certify, lagrangian_bound
from puzzledsl.search.portfolio.branching import Branching, LabelSetting, Ledger, beam
from puzzledsl.search.problem import instance
from puzzledsl.search.problem.columns import Floats, Ints, Mask
from puzzledsl.search.problem.residuals import Atom, Count, Joined, places_of

CASES = "cases"
MOST_CASES = 60_000  # cases; a price bounds so many of 80 layers in about .1 s
LONG = 3  # least layers of the requirement: of two it is a table
AT_ONCE = 4_000  # cases that are bounded in one array
FIRST_PRICES = (0.5, 1.0, 2.0)  # first prices, as multiples of the whole problem's

Solve = Callable[[instance.Problem, Bound, int], instance.Outcome]


@dataclass(frozen=True, eq=False)
class Cases:
    """Cases of a problem. `cases` [case][k]: statements that may hold. `statement[column]`: the one it makes true, or -1."""

    problem: instance.Problem
    statement: Ints
    cases: Ints

    def mask(self, case: int) -> Mask:
        """Return the mask of a case's columns."""
        return np.isin(self.statement, self.cases[case]) | (self.statement < 0)

    def bounds(self, prices: Floats) -> Ints:
        """Return a lower bound on each case's sum, [case]: the Lagrangian one at `prices` [rows], without formulas."""
        bound = certify(replace(self.problem, diagram=None, formulas=()), prices)
        columns = self.problem.columns
        number = int(self.statement.max()) + 1
        never = int(np.abs(bound.reduced).max()) * 2 + 1
        least = np.full((number + 1, columns.layers), never, dtype=np.int64)  # the last row: no statement
        np.minimum.at(least, (self.statement, columns.layer_of), bound.reduced)
        paid = sum(price * int(limit) for price, limit in zip(bound.prices, self.problem.limits, strict=True))
        found = np.empty(len(self.cases), dtype=np.int64)
        for first in range(0, len(self.cases), AT_ONCE):
            part = self.cases[first : first + AT_ONCE]
            best = least[number]
            for place in range(part.shape[1]):
                best = np.minimum(best, least[part[:, place]])
            found[first : first + AT_ONCE] = -(-(best.sum(axis=-1) - paid) // bound.scale)
        return found


def cases_of(problem: instance.Problem) -> Cases | None:
    """Return the cases of the formula that gives the fewest; None if no formula can be split, or all give too many."""
    pool, found = problem.normal, list[tuple[int, Count]]()
    for formula in pool.formulas:
        for part in pool.parts(formula):
            node, layers = pool.nodes[part], pool.layers[part].bit_count()
            if isinstance(node, Count) and layers >= LONG and comb(len(node.parts), node.most) <= MOST_CASES:
                found.append((comb(len(node.parts), node.most), node))
    for _, node in sorted(found, key=lambda each: each[0]):
        statement = np.full(len(problem.columns), -1, dtype=np.int64)
        if all(_mark(problem, statement, number, part) for number, part in enumerate(node.parts)):
            cases = np.array([*combinations(range(len(node.parts)), node.most)], dtype=np.int64)
            return Cases(problem, statement, cases)
    return None


def _mark(problem: instance.Problem, statement: Ints, number: int, part: int) -> bool:
    """Mark the columns that make `part` true by `number`; False if it is no disjunction of atoms, or one has a mark already."""
    nodes = problem.normal.nodes
    node = nodes[part]
    atoms = [nodes[each] for each in node.parts] if isinstance(node, Joined) and not node.every else [node]
    for atom in atoms:
        if not isinstance(atom, Atom):
            return False
        columns = int(problem.columns.start[atom.layer]) + np.array(places_of(atom.mask), dtype=np.int64)
        if (statement[columns] >= 0).any():
            return False
        statement[columns] = number
    return True


def by_cases(ledger: Ledger, cases: Cases, solve: Solve) -> bool:
    """Solve cases by `solve` until no other can be better. Return True if the ledger's answer, or that none exists, is proven."""
    problem = ledger.problem
    lower = np.full(len(cases.cases), ledger.lower, dtype=np.int64)
    for factor in FIRST_PRICES:
        np.maximum(lower, cases.bounds(ledger.bound.float_prices * factor), out=lower)
    unproven = ledger.top + 1
    while (lower <= ledger.most).any():
        case = int(lower.argmin())
        ledger.raise_lower(min(int(lower[case]), unproven), CASES)
        if ledger.effort.left_s <= 0 or (ledger.effort.gap and ledger.close_enough()):
            return ledger.close_enough()
        keep = cases.mask(case)
        known, lower[case] = int(lower[case]), np.iinfo(np.int64).max  # done
        if not problem.columns.covers(keep):
            continue
        part = replace(problem, diagram=None, is_large=False).only(keep)
        bound = lagrangian_bound(part, ledger.bound.float_prices, ledger.effort.deadline)
        if bound.infeasible:
            continue
        np.maximum(lower, cases.bounds(bound.float_prices), out=lower)
        if bound.value > ledger.most:
            continue
        found = solve(part, bound, ledger.most)
        ledger.take(found, keep.nonzero()[0], found.found_by)
        if not found.proven:
            unproven = min(unproven, max(known, bound.value, found.bound or known))
    ledger.raise_lower(min(unproven, ledger.most), CASES)
    return unproven > ledger.most


# labels of a first turn, with a decision diagram and without: without one, label setting is nearly always enough
LABELS, FREE_LABELS = 10_000, 200_000
LATER = 2  # times as many labels a turn afterwards
CPSAT = 0.3  # CP-SAT's deterministic seconds in its first turn
COUNTED = 3.0  # the same where it counts layers that are alike, which labels and bounds cannot tell apart
GROWTH = 3  # of turns, from round to round
LEAST_TIED = 50_000  # least number of labels with a decision diagram, even if the effort allows fewer
EARLY = 0.2  # CP-SAT's deterministic seconds before a large diagram is built
# seconds that a bound and a first answer have in any case: each takes 4-40 ms on 80 layers x 54
FIRST_S = 0.1
CP_SAT = "CP-SAT"
EARLIER = "an earlier goal"
NONE = instance.Outcome(proven=True, proved_by="presolve")


def minimise(
    problem: instance.Problem,
    effort: instance.Effort,
    canonical: bool = True,
    at_least: int | None = None,
    bound: Bound | None = None,
    at_most: int | None = None,
    start: Ints | None = None,
) -> instance.Outcome:
    """Find a best answer of a problem: the canonical one unless `canonical` is False or a gap stopped the proof early.

    `at_least`: a lower bound on the sum that is already proven, for example by a relaxation. `bound`: the problem's Lagrangian
    bound, if it is known. `at_most`: consider only answers with a sum up to this; "no answer" then means none of these. `start`:
    an answer that is known.
    """
    presolved = instance.presolve(problem, quick=True, deadline=effort.deadline)
    if presolved is None:
        return NONE
    value = None if start is None else problem.goal.of(start)
    known = instance.Outcome(start, value, at_least, False, found_by=EARLIER)
    if problem.formulas and instance.is_unfinished(presolved.problem.diagram):
        short = replace(slice_of(effort, EARLY), labels=0)
        known = _minimise(presolved, short, canonical, known, None, at_most)
        if known.proven or effort.left_s <= 0 or (effort.work is not None and effort.work <= EARLY):
            return known
        cases = None if effort.work is not None else cases_of(presolved.problem)
        if cases is not None:
            return _minimise(presolved, effort, canonical, known, None, at_most, cases)
        presolved = instance.presolve(problem, deadline=effort.deadline)
        if presolved is None:
            return NONE
    if presolved.problem is not problem:
        bound = None
    return _minimise(presolved, effort, canonical, known, bound, at_most)


def _minimise(
    presolved: instance.Presolved,
    effort: instance.Effort,
    canonical: bool,
    known: instance.Outcome,
    bound: Bound | None,
    at_most: int | None,
    cases: Cases | None = None,
) -> instance.Outcome:
    """Minimise a presolved problem, starting from the answer and bound in `known`; case by case if there are `cases`."""
    problem, origin = presolved.problem, presolved.origin
    if bound is None:
        bound = lagrangian_bound(problem, deadline=_soon(effort))
    if bound.infeasible:
        return replace(NONE, proved_by="Lagrangian bound")
    floor = bound.value if known.bound is None else max(known.bound, bound.value)
    ledger = Ledger(problem, bound, effort, floor, at_most)
    if known.chosen is not None and known.value is not None:
        ledger.better(np.searchsorted(origin, known.chosen), known.value, known.found_by)
    if cases is not None:

        def of_case(part: instance.Problem, bound: Bound, most: int) -> instance.Outcome:
            at_most = None if ledger.value is None else most  # a limit spares the search for a first answer
            return minimise(part, replace(effort, gap=0.0), canonical, bound=bound, at_most=at_most)

        found = ledger.outcome(by_cases(ledger, cases, of_case), CASES)
    else:
        found = Portfolio(ledger, canonical).run()
    return found if found.chosen is None else replace(found, chosen=origin[found.chosen])


def _soon(effort: instance.Effort) -> float:
    """Return the deadline for a bound or a first answer: the effort's, or FIRST_S from now if later, so that both are tried."""
    return max(effort.deadline, monotonic() + FIRST_S)


class Portfolio:
    """The engines on one problem, and the order in which they run."""

    def __init__(self, ledger: Ledger, canonical: bool) -> None:
        self.ledger, self.canonical = ledger, canonical
        self.problem, self.bound, self.effort = ledger.problem, ledger.bound, ledger.effort

    def run(self) -> instance.Outcome:
        """Look for a first answer by beam search and repair, then run the engines in turn until a proof or the effort's end."""
        ledger, effort, problem = self.ledger, self.effort, self.problem
        structured = instance.paths_of(problem) is not None
        if ledger.lower > ledger.top:  # no answer counts
            return ledger.outcome(True)
        if ledger.at_most is None and (ledger.value is None or ledger.value > ledger.lower):
            keep, beam_first = self.bound.within(ledger.top), structured and not problem.is_coarse
            core = problem.only(keep), self.bound, keep.nonzero()[0], "beam search"
            if beam_first:
                beam(ledger, *core)
            found = None if ledger.value is not None else find_incumbent(problem, self.bound, _soon(effort))
            if found is not None:
                ledger.better(found, problem.goal.of(found), "repair")
            if ledger.value is None and not beam_first:
                beam(ledger, *core)
        if effort.gap and ledger.close_enough():
            return ledger.outcome(True)
        left = max(effort.labels, LEAST_TIED if structured else 0)
        left = left if problem.goal.values.any() else 0  # a constant goal prunes no label
        branching = Branching(ledger) if structured and left else None
        share = LABELS if structured else FREE_LABELS
        work, turn = 0.0, 1
        best = ledger.value is not None and ledger.value <= ledger.lower
        # labels of many as good are slow
        if best and (not self.canonical or self.cpsat(slice_of(effort, CPSAT))):
            return ledger.outcome(True)
        alike = bool(alike_layers(problem))
        if (alike or problem.is_coarse) and self.cpsat(slice_of(effort, COUNTED if alike else CPSAT)):
            return ledger.outcome(True)
        labels = LabelSetting(ledger)
        while True:
            if left > 0 and labels.run(min(left, share)):
                return ledger.outcome(True)
            left -= share
            if branching is not None and branching.run(share):
                return ledger.outcome(True)
            close = ledger.close_enough() and (bool(effort.gap) or not self.canonical)
            if close or effort.left_s <= 0:
                return ledger.outcome(ledger.close_enough())
            over = (left <= 0 or not labels.usable) and (branching is None or not branching.usable)
            allowed = effort if over else slice_of(effort, turn * CPSAT)
            if effort.work is not None:
                allowed = replace(allowed, work=min(allowed.work or effort.work, effort.work - work))
            if self.cpsat(allowed):
                return ledger.outcome(True)
            work += allowed.work or 0.0
            if over or effort.left_s <= 0 or (effort.work is not None and work >= effort.work):
                return ledger.outcome(ledger.close_enough())
            share *= GROWTH * (LATER if structured and turn == 1 else 1)
            turn *= GROWTH

    def cpsat(self, effort: instance.Effort) -> bool:
        """Run CP-SAT on the columns that the bound leaves. Return True if the ledger's answer, or that none exists, is proven."""
        ledger, known = self.ledger, self.ledger.value
        if known is None or ledger.lower < known:
            found = self._better(effort)
            if found.proven and found.chosen is None and (self.canonical or known is None):
                ledger.raise_lower(ledger.most, CP_SAT)
                return True
            if not found.proven and not ledger.close_enough():
                return False
        if self.canonical and ledger.chosen is not None and ledger.value == ledger.lower:
            first = canonical_answer(ledger.problem, ledger.bound, ledger.chosen, ledger.effort)
            ledger.better(first, ledger.value, CP_SAT)
        return ledger.value is None or ledger.close_enough()

    def _better(self, effort: instance.Effort) -> instance.Outcome:
        """Search by CP-SAT for an answer as good as the known one or better; if canonical, another, which is easier to refute."""
        ledger = self.ledger
        keep = ledger.bound.within(ledger.most)
        if not ledger.problem.columns.covers(keep):
            return instance.Outcome(proven=True)
        core, before = ledger.problem.only(keep), ledger.value
        hint = None
        if ledger.chosen is not None:
            hint = (np.cumsum(keep) - 1)[ledger.chosen].astype(np.int64)
            if self.canonical:
                core = core.with_rows(core.apart_from(ledger.problem.choice(ledger.chosen), 1))
        found = run_cpsat(core, effort, hint, ledger.lower, before if before is not None else ledger.at_most)
        ledger.take(found, keep.nonzero()[0], CP_SAT)
        if found.bound is not None:
            ledger.raise_lower(found.bound if before is None else min(found.bound, before), CP_SAT)
        return found


def slice_of(effort: instance.Effort, work: float) -> instance.Effort:
    """Return the effort of one turn: `work` deterministic seconds, one worker and seed 0, so that its result is deterministic."""
    left = work if effort.work is None else min(work, effort.work)
    return replace(effort, work=left, workers=1, seed=0)


TRIES = 64  # best columns tried, because formulas may forbid some
REPAIR = 50_000  # layers of formulas looked at by a repair: about .2 s
LOCAL = 8  # most layers of a broken formula that one column may mend


def find_incumbent(problem: instance.Problem, bound: Bound, deadline: float = inf) -> Ints | None:
    """Return an answer by repair: swap the cheapest columns one by one to meet formulas, then rows; None if that fails."""
    columns, rows = problem.columns, problem.matrix
    reduced = bound.reduced.astype(np.float64)
    layer_of = columns.layer_of
    pool = problem.normal
    parts = [part for formula in (*pool.runs, *pool.formulas) for part in pool.parts(formula)]
    around: list[dict[int, None]] = [{} for _ in range(columns.layers)]  # parts of each layer, in order
    for part in parts:
        for layer in places_of(pool.layers[part]):
            around[layer][part] = None
    size = [sum(pool.layers[part].bit_count() for part in here) for here in around]
    work = REPAIR - sum(size)
    cheapest = np.array([*map(np.argmin, np.split(reduced, columns.start[1:-1]))], dtype=np.int64)
    chosen = cheapest + columns.start[:-1]
    scale = np.maximum(np.abs(rows).max(axis=1, initial=1), 1).astype(np.float64)
    broken = [part for part in parts if not pool.truth(part, chosen[None, :])[0]]
    while work > 0 and monotonic() <= deadline:
        use = rows[:, chosen].sum(axis=1)
        excess = float((np.maximum(use - problem.limits, 0) / scale).sum())
        if excess == 0 and not broken:
            return chosen
        after = use[:, None] - rows[:, chosen][:, layer_of] + rows
        gain = excess - (np.maximum(after - problem.limits[:, None], 0) / scale[:, None]).sum(axis=0)
        if broken:
            open_to = places_of(pool.layers[broken[0]])
            if len(open_to) > LOCAL:
                return None
            gain[~np.isin(layer_of, open_to)] = 0
            for layer in open_to:
                here = np.arange(columns.start[layer], columns.start[layer + 1])
                before = sum(part in around[layer] for part in broken)
                gain[here] += before - _broken(problem, around[layer], _swapped(chosen, layer_of, here))
                work -= size[layer]
        price = reduced - reduced[chosen][layer_of]
        with np.errstate(divide="ignore", invalid="ignore"):
            worth = np.where(gain > 1e-12, (price + 1e-9 * (1 + np.abs(price))) / gain, np.inf)
        first = np.argsort(worth, kind="stable")[: 1 if broken or not parts else TRIES]
        first = first[np.isfinite(worth[first])]
        if parts and not broken:
            touched = list(dict.fromkeys(part for layer in layer_of[first] for part in around[layer]))
            first = first[_broken(problem, touched, _swapped(chosen, layer_of, first)) == 0]
            work -= sum(pool.layers[part].bit_count() for part in touched)
        if not len(first):
            return None
        layer = int(layer_of[first[0]])
        chosen[layer] = first[0]
        broken = [part for part in broken if part not in around[layer]]
        broken += [part for part in around[layer] if not pool.truth(part, chosen[None, :])[0]]
        work -= size[layer] + 1
    return None


def _broken(problem: instance.Problem, parts: Iterable[int], answers: Ints) -> Ints:
    """Return the number of formulas, of `parts`, that each answer [answer][layer] breaks."""
    broken = np.zeros(len(answers), dtype=np.int64)
    for part in parts:
        broken += ~problem.normal.truth(part, answers)
    return broken


def _swapped(chosen: Ints, layer_of: Ints, columns: Ints) -> Ints:
    """Return for each of `columns` the answer `chosen` with that column in its layer, [column][layer]."""
    answers = np.tile(chosen, (len(columns), 1))
    answers[np.arange(len(columns)), layer_of[columns]] = columns
    return answers
