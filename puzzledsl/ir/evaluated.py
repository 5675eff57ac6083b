"""Models that an evaluation measures, and those of them that are measured in full: with tasks and times."""

from __future__ import annotations

from puzzledsl.ir.nodes import Program


def search_behind(program: Program, of: str) -> str:
    """The search that a child (an uptrain's or a search's name) comes from."""
    return program.uptrains[of].search if of in program.uptrains else of


def space_evaluated(program: Program, evaluation: str) -> str:
    """The space whose children are evaluated."""
    return program.searches[search_behind(program, program.evals[evaluation].of)].space


def children_in_full(program: Program, evaluation: str) -> tuple[str, ...]:
    """Return the children that answer the tasks and are timed. The parent always is.

    They are those that `full` names; without it, the child of `of` and the untrained child it came from.
    """
    declaration = program.evals[evaluation]
    usual = (search_behind(program, declaration.of), declaration.of)
    return tuple(dict.fromkeys(declaration.full or usual))


def children_wanted(program: Program, evaluation: str) -> tuple[str, ...]:
    """Children without which there is no evaluation: those in full, and the untrained one that `of` came from."""
    declaration = program.evals[evaluation]
    first = (search_behind(program, declaration.of), declaration.of)
    return tuple(dict.fromkeys((*first, *declaration.full)))


def children_evaluated(program: Program, evaluation: str) -> tuple[str, ...]:
    """Every child that is measured: the wanted ones, then those of the space's other searches."""
    space = space_evaluated(program, evaluation)
    others = (name for name, search in program.searches.items() if search.space == space)
    return tuple(dict.fromkeys((*children_wanted(program, evaluation), *others)))


def evaluations_of(program: Program, child: str) -> list[str]:
    """Evaluations that name a child, after `of` or in `full`: its card shows what they measured."""
    return [name for name, e in program.evals.items() if child in (e.of, *e.full)]
