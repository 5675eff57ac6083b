"""One search kept warm: its statements, its answers so far, and the requirements of a question."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.base.diagnostics import DiagnosticError, Edit, Fix
from puzzledsl.base.fixes import apply
from puzzledsl.explore.edits import Edited, edited
from puzzledsl.explore.question import BadQuestion, Choice, Question, pattern_of
from puzzledsl.explore.statements import Bound, Source, Statement, amount_of, statements_of, unit_of
from puzzledsl.ir import nodes
from puzzledsl.ir.nodes import LinearRequirement, LogicRequirement, Requirement

if TYPE_CHECKING:
    from puzzledsl.api.answer import Answer
    from puzzledsl.api.program import Program
    from puzzledsl.api.regrets import Regrets
    from puzzledsl.api.variations import Variations

REMEMBERED = 512
SETTLED = ("optimal", "infeasible")


def alternatives_of(choice: nodes.LayerChoice, sub_block: SubBlock) -> tuple[Alternative, ...]:
    """Return the alternatives of a sub-block in a layer."""
    found: tuple[Alternative, ...] = choice.attention if sub_block == "attention" else choice.ffn
    return found


@dataclass
class Sheet:
    """One search of a program. `params`: values of the program's `param`s, as for `puzzledsl.load`."""

    program: Program
    name: str
    source: Source
    params: dict[str, str]
    _answers: OrderedDict[object, Answer] = field(default_factory=OrderedDict)
    _read: dict[str, dict[int, list[Requirement]]] = field(default_factory=dict)

    @cached_property
    def variations(self) -> Variations:
        """The solver with its tables."""
        return self.program.variations(self.name)

    @property
    def search(self) -> nodes.Search:
        """The search as the file declares it."""
        return self.program.ir.searches[self.name]

    @property
    def space(self) -> nodes.Space:
        """The search's space."""
        return self.program.ir.spaces[self.search.space]

    @property
    def shape(self) -> nodes.Shape:
        """The parent's shape."""
        return self.program.ir.parents[self.space.parent].shape

    @cached_property
    def statements(self) -> list[Statement]:
        """The search's requirements as the file states them."""
        return statements_of(self.search, self.source, self.variations.extent)

    @cached_property
    def bounds(self) -> dict[int, Bound]:
        """Every bound, by its number."""
        return {bound.number: bound for statement in self.statements for bound in statement.bounds}

    def requirements(self, question: Question) -> tuple[Requirement, ...]:
        """Return the requirements of a question. Raises BadQuestion."""
        stated = self.stated(question).items()
        kept = [requirement for number, own in stated if number not in question.off for requirement in own]
        return (*kept, *map(self._choice, question.choices))

    def stated(self, question: Question) -> dict[int, list[Requirement]]:
        """Check the text with a question's bounds. Return the requirements of every statement, also of those left out.

        A statement may say nothing any more, and then has none. Raises BadQuestion.
        """
        self._check(question)
        edits = tuple(Edit(self.bounds[number].span, bound) for number, bound in question.bounds.items())
        text = apply(self.source.file.text, [Fix("", edits)])
        if text not in self._read:
            try:
                source, after = self._checked(text)
            except DiagnosticError as error:
                raise BadQuestion(error.diagnostics[0].message) from error
            found: dict[int, list[Requirement]] = {s.number: [] for s in self.statements}
            numbers = {s.place: s.number for s in self.statements}
            for requirement in after:
                if (place := source.place(requirement.where)) in numbers:
                    found[numbers[place]].append(requirement)
            self._read = {**dict([*self._read.items()][-REMEMBERED:]), text: found}
        return self._read[text]

    def _check(self, question: Question) -> None:
        numbers = {statement.number for statement in self.statements}
        if not question.bounds.keys() <= self.bounds.keys() or not question.off <= numbers:
            raise BadQuestion("the file has changed since: load the page again")
        for number, text in question.bounds.items():
            unit = self.bounds[number].unit
            if unit_of(text) != unit:
                raise BadQuestion(f"`{text}` is not a number of {unit.strip() or 'no unit'}")
            amount_of(text)
        for choice in question.choices:
            if not 0 <= choice.layer < len(self.space.layers):
                raise BadQuestion("there is no such layer")
            names = {a.name for a in alternatives_of(self.space.layers[choice.layer], choice.sub_block)}
            if not choice.names or not names.issuperset(choice.names):
                raise BadQuestion(f"layer {choice.layer} has no such alternative")

    def _checked(self, text: str) -> tuple[Source, tuple[Requirement, ...]]:
        """Check another text of the file and return this search's requirements in it. Raises DiagnosticError."""
        from puzzledsl.pipeline.opening import open_program

        opened = open_program(self.program.file, self.params, self.program.build, text)
        if opened.context is None or opened.found is None:
            raise DiagnosticError(*opened.diagnostics)
        found = opened.context.program.searches[self.name]
        return Source(opened.found.root, opened.found.compared), found.requirements

    def _choice(self, choice: Choice) -> LogicRequirement:
        chosen: nodes.Logic = nodes.Is(
            layer=choice.layer, sub_block=choice.sub_block, alternatives=choice.names
        )
        at, line = self.search.where, self.search.where.end_line
        text = self.condition(choice)
        place = nodes.Where(file=at.file, line=line, column=1, end_line=line, end_column=1, text=text)
        if choice.kind == "pin":
            return LogicRequirement(formula=chosen, where=place, because="pinned")
        return LogicRequirement(formula=nodes.Not(operand=chosen), where=place, because="forbidden")

    def condition(self, choice: Choice) -> str:
        """Return a choice as the condition of a `require`. Raises BadQuestion for one that no pattern can tell."""
        own, layer = self.shape.at(choice.layer), self.space.layers[choice.layer]
        every = alternatives_of(layer.with_parent(), choice.sub_block)
        patterns = [pattern_of(a, every, own) for a in every if a.name in choice.names]
        if None in patterns:
            raise BadQuestion("no pattern tells this alternative from the others of its layer")
        shown = " | ".join(pattern or "" for pattern in patterns)
        shown = f"({shown})" if len(patterns) > 1 else shown
        return f"layers[{choice.layer}].{choice.sub_block} is {'' if choice.kind == 'pin' else 'not '}{shown}"

    def answer(self, question: Question, time_s: float, *, with_conflict: bool = False) -> Answer:
        """Return the answer to a question, with its conflict where there is no child; one that is proven is kept."""
        known = self._answers.get(question.key)
        lacks = with_conflict and known is not None and known.status == "infeasible" and not known.conflict
        if known is None or lacks:
            ask = self.variations.explain if with_conflict else self.variations.solve
            known = ask(self.requirements(question), time_s=time_s)
            if known.status in SETTLED:
                self._answers[question.key] = known
                while len(self._answers) > REMEMBERED:
                    self._answers.popitem(last=False)
        return known

    def why(self, question: Question, layer: int, time_s: float) -> Regrets | Answer:
        """Return the regrets of one layer against the best answer that leaves this layer free."""
        free = tuple(choice for choice in question.choices if choice.layer != layer)
        asked = Question(question.bounds, question.off, free)
        return self.variations.why(self.requirements(asked), layer, time_s=time_s)

    def along(self, question: Question, bound: Bound, points: int) -> Iterator[Question]:
        """Yield the question with one bound at several places of its slider, from left to right."""
        last = bound.grid.last
        for position in dict.fromkeys(round(last * i / (points - 1)) for i in range(points)):
            text = bound.grid.number(position) + bound.unit
            yield Question({**question.bounds, bound.number: text}, question.off, question.choices)

    def edited(self, question: Question) -> Edited:
        """Return the file's text with a question in it. Raises BadQuestion where the program would say something else."""
        wanted = self.requirements(question)
        conditions = [self.condition(choice) for choice in question.choices]
        found = edited(self.source, self.name, self.statements, question, conditions)
        with suppress(DiagnosticError):
            if _meanings(self._checked(found.text)[1]) == _meanings(wanted):
                return found
        raise BadQuestion("this change cannot be written into the file: change its text by hand")


def _meanings(requirements: Sequence[Requirement]) -> Counter[object]:
    """Return what requirements say, without their places, order of names and reasons."""

    def meaning(requirement: Requirement) -> object:
        match requirement:
            case LinearRequirement():
                return requirement.left, requirement.op, requirement.bound, requirement.parent_ratio
            case LogicRequirement(formula=nodes.Is() as said):
                return said.layer, said.sub_block, frozenset(said.alternatives)
            case LogicRequirement(formula=nodes.Not(operand=nodes.Is() as said)):
                return "not", said.layer, said.sub_block, frozenset(said.alternatives)
            case LogicRequirement(formula=formula):
                return formula

    return Counter(map(meaning, requirements))
