"""Spaces of declarations, and models that an evaluation measures: some in full, with tasks and times."""

from __future__ import annotations

from typing import assert_never

from puzzledsl.ir.nodes import Bld, Eval, Export, Frontier, Program, Score, Search, Space, Uptrain

OfASpace = Space | Bld | Score | Search | Frontier | Uptrain | Eval | Export
"""A declaration that belongs to one space."""


def search_behind(program: Program, of: str) -> str:
    """The search that a child (an uptrain's or a search's name) comes from."""
    return program.uptrains[of].search if of in program.uptrains else of


def space_of(program: Program, declaration: OfASpace) -> str:
    """Return the space that a declaration belongs to: of an evaluation, the one whose children it measures."""
    match declaration:
        case Space():
            return declaration.name
        case Bld() | Score() | Search():
            return declaration.space
        case Frontier() | Uptrain():
            return program.searches[declaration.search].space
        case Eval() | Export():
            return program.searches[search_behind(program, declaration.of)].space
        case _:
            assert_never(declaration)


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
    space = space_of(program, program.evals[evaluation])
    others = (name for name, search in program.searches.items() if search.space == space)
    return tuple(dict.fromkeys((*children_wanted(program, evaluation), *others)))


def evaluations_of(program: Program, child: str) -> list[str]:
    """Evaluations that name a child, after `of` or in `full`: its card shows what they measured."""
    return [name for name, e in program.evals.items() if child in (e.of, *e.full)]
