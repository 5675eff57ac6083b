"""Case by case: a requirement that at most k of n statements hold, such as `distinct(layers) <= 3`, each over many layers.

Any other engine meets it late: nearly every choice of the first layers leaves it open. But in a case, where k statements are
named and no other holds, columns go and the requirement with them. Prices bound all cases at once; the cases are solved in the
order of their bounds, and the prices of each bound the others, until no other case can be better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

import numpy as np

from puzzledsl.search.lagrangian.bound import Bound, certify, lagrangian_bound
from puzzledsl.search.portfolio.branching import Ledger
from puzzledsl.search.problem.columns import Floats, Ints, Mask
from puzzledsl.search.problem.instance import Outcome, Problem
from puzzledsl.search.problem.residuals import Atom, Count, Joined, places_of

NAME = "cases"
MOST = 60_000  # cases; a price bounds so many of 80 layers in about .1 s
MANY = 3  # least layers of the requirement: of two it is a table
AT_ONCE = 4_000  # cases that are bounded in one array
START = (0.5, 1.0, 2.0)  # first prices, as multiples of the whole problem's

Minimise = Callable[[Problem, Bound, int], Outcome]


@dataclass(frozen=True, eq=False)
class Cases:
    """Cases of a problem, [case][k]: the statements that may hold. `statement[column]`: the one it makes true, -1 for none."""

    problem: Problem
    statement: Ints
    cases: Ints

    def mask(self, case: int) -> Mask:
        """Return the mask of a case's columns."""
        return np.isin(self.statement, self.cases[case]) | (self.statement < 0)

    def bounds(self, prices: Floats) -> Ints:
        """Return a lower bound of each case at prices."""
        bound = certify(replace(self.problem, diagram=None, formulas=()), prices)
        columns = self.problem.columns
        number = int(self.statement.max()) + 1
        never = int(np.abs(bound.reduced).max()) * 2 + 1
        least = np.full((number + 1, columns.layers), never, dtype=np.int64)  # the last row: no statement
        np.minimum.at(least, (self.statement, columns.layer_of), bound.reduced)
        spent = sum(
            price * int(limit) for price, limit in zip(bound.prices, self.problem.limits, strict=True)
        )
        found = np.empty(len(self.cases), dtype=np.int64)
        for first in range(0, len(self.cases), AT_ONCE):
            part = self.cases[first : first + AT_ONCE]
            best = least[number]
            for place in range(part.shape[1]):
                best = np.minimum(best, least[part[:, place]])
            found[first : first + AT_ONCE] = -(-(best.sum(axis=-1) - spent) // bound.scale)
        return found


def cases_of(problem: Problem) -> Cases | None:
    """Return the fewest cases that a formula of a problem gives; None if all give too many."""
    pool, found = problem.normal, list[tuple[int, Count]]()
    for formula in pool.formulas:
        for part in pool.parts(formula):
            node, layers = pool.nodes[part], pool.layers[part].bit_count()
            if isinstance(node, Count) and layers >= MANY and comb(len(node.parts), node.most) <= MOST:
                found.append((comb(len(node.parts), node.most), node))
    for _, node in sorted(found, key=lambda each: each[0]):
        statement = np.full(len(problem.columns), -1, dtype=np.int64)
        if all(_mark(problem, statement, number, part) for number, part in enumerate(node.parts)):
            cases = np.array([*combinations(range(len(node.parts)), node.most)], dtype=np.int64)
            return Cases(problem, statement, cases)
    return None


def _mark(problem: Problem, statement: Ints, number: int, part: int) -> bool:
    """Mark the columns that make a statement true; False if it is no disjunction of atoms, or one of them has a mark."""
    pool = problem.normal
    node = pool.nodes[part]
    atoms = (
        [pool.nodes[inner] for inner in node.parts] if isinstance(node, Joined) and not node.every else [node]
    )
    for atom in atoms:
        if not isinstance(atom, Atom):
            return False
        columns = int(problem.columns.start[atom.layer]) + np.array(places_of(atom.mask), dtype=np.int64)
        if (statement[columns] >= 0).any():
            return False
        statement[columns] = number
    return True


def by_cases(ledger: Ledger, cases: Cases, minimise: Minimise) -> bool:
    """Solve cases by `minimise` until no other can be better. Return True if the ledger's answer is then proven."""
    problem = ledger.problem
    lower = np.full(len(cases.cases), ledger.lower, dtype=np.int64)

    for factor in START:
        np.maximum(lower, cases.bounds(ledger.bound.float_prices * factor), out=lower)
    unproven = ledger.top + 1
    while (lower <= ledger.most).any():
        case = int(lower.argmin())
        ledger.raise_lower(min(int(lower[case]), unproven), NAME)
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
        found = minimise(part, bound, ledger.most)
        ledger.take(found, keep.nonzero()[0], found.found_by)
        if not found.proven:
            unproven = min(unproven, max(known, bound.value, found.bound or known))
    ledger.raise_lower(min(unproven, ledger.most), NAME)
    return unproven > ledger.most
