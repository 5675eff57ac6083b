"""One search kept warm: its statements, its answers so far, and the requirements of a question."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.explore.edits import Edited, edited
from puzzledsl.explore.patterns import alternatives_of, pattern_of
from puzzledsl.explore.question import BadQuestion, Choice, Question
from puzzledsl.explore.sources import Source
from puzzledsl.explore.statements import Bound, Statement, replaced, statements_of
from puzzledsl.ir.nodes import (
    Is,
    LinearRequirement,
    Logic,
    LogicRequirement,
    Not,
    Requirement,
    Search,
    Shape,
    Space,
    Where,
)

if TYPE_CHECKING:
    from puzzledsl.api.answer import Answer
    from puzzledsl.api.program import Program
    from puzzledsl.api.regrets import Regrets
    from puzzledsl.api.variations import Variations

REMEMBERED = 512
SETTLED = ("optimal", "infeasible")


@dataclass
class Sheet:
    """One search of a program. `params`: values of the program's `param`s, as for `puzzledsl.load`."""

    program: Program
    name: str
    source: Source
    params: dict[str, str]
    _answers: OrderedDict[object, Answer] = field(default_factory=OrderedDict)
    _read: dict[str, tuple[Requirement, ...]] = field(default_factory=dict)

    @cached_property
    def variations(self) -> Variations:
        """The solver with its tables."""
        return self.program.variations(self.name)

    @property
    def search(self) -> Search:
        """The search as the file declares it."""
        return self.program.ir.searches[self.name]

    @property
    def space(self) -> Space:
        """The search's space."""
        return self.program.ir.spaces[self.search.space]

    @property
    def shape(self) -> Shape:
        """The parent's shape."""
        return self.program.ir.parents[self.space.parent].shape

    @cached_property
    def statements(self) -> list[Statement]:
        """The search's requirements as the file states them."""
        shown = self.program.file.name
        return statements_of(self.search, self.source, shown, self.reread, self.variations.extent)

    @cached_property
    def bounds(self) -> dict[int, Bound]:
        """Every bound, by its number."""
        return {bound.number: bound for statement in self.statements for bound in statement.bounds}

    @cached_property
    def can_be_edited(self) -> bool:
        """True if the search is declared in the file itself."""
        return self.source.declaration("search", self.name) is not None

    # ------------------------------------------------------------ questions

    def requirements(self, question: Question) -> tuple[Requirement, ...]:
        """Return the requirements of a question. Raises BadQuestion."""
        stated = self.stated(question)
        off = {i for s in self.statements if s.number in question.off for i in s.requirements}
        kept = [requirement for i, requirement in enumerate(stated) if i not in off]
        return (*kept, *map(self._choice, question.choices))

    def stated(self, question: Question) -> list[Requirement]:
        """Return the requirements of the file with a question's bounds, also those that it leaves out. Raises BadQuestion."""
        self._check(question)
        stated = list(self.search.requirements)
        about_layers = [self.bounds[n] for n in question.bounds if self.bounds[n].scale is None]
        if about_layers:
            after = self._requirements_of_text(question, about_layers)
            for index in (
                i for s in self.statements for i in s.requirements if {*s.bounds} & {*about_layers}
            ):
                stated[index] = after[index]
        for number, text in question.bounds.items():
            for index in self.bounds[number].requirements:
                requirement = stated[index]
                assert isinstance(requirement, LinearRequirement)
                stated[index] = self.bounds[number].moved(requirement, text)
        return stated

    def _check(self, question: Question) -> None:
        numbers = {statement.number for statement in self.statements}
        if not question.bounds.keys() <= self.bounds.keys() or not question.off <= numbers:
            raise BadQuestion("the file has changed since: load the page again")
        for choice in question.choices:
            if not 0 <= choice.layer < len(self.space.layers):
                raise BadQuestion("there is no such layer")
            names = [a.name for a in alternatives_of(self.space.layers[choice.layer], choice.sub_block)]
            if not choice.names or not set(choice.names) <= set(names):
                raise BadQuestion(f"layer {choice.layer} has no such alternative")

    def _requirements_of_text(self, question: Question, moved: Sequence[Bound]) -> tuple[Requirement, ...]:
        """Check the text with bounds of statements about layers replaced: their formulas are not ours to build."""
        text = replaced(self.source, [(bound.span, question.bounds[bound.number]) for bound in moved])
        if text not in self._read:
            after = self.reread(text)
            if after is None or len(after) != len(self.search.requirements):
                numbers = ", ".join(question.bounds[bound.number] for bound in moved)
                raise BadQuestion(f"the program has mistakes with {numbers}")
            self._read[text] = after
        return self._read[text]

    def reread(self, text: str) -> tuple[Requirement, ...] | None:
        """Return the requirements of this search in another text of the file; None where it has mistakes."""
        from puzzledsl.api.loading import parse

        program = self.program
        try:
            after = parse(text, folder=program.file.parent, build=program.build, **self.params)
        except DiagnosticError:
            return None
        found = after.ir.searches.get(self.name)
        return None if found is None else found.requirements

    def _choice(self, choice: Choice) -> LogicRequirement:
        chosen: Logic = Is(layer=choice.layer, sub_block=choice.sub_block, alternatives=choice.names)
        at, line = self.search.where, self.search.where.end_line
        text = self.condition(choice)
        place = Where(file=at.file, line=line, column=1, end_line=line, end_column=1, text=text)
        formula = chosen if choice.kind == "pin" else Not(operand=chosen)
        return LogicRequirement(
            formula=formula, where=place, because="pinned" if choice.kind == "pin" else "forbidden"
        )

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

    # ------------------------------------------------------------ answers

    def answer(self, question: Question, time_s: float) -> Answer:
        """Return the answer to a question; one that is proven is kept."""
        known = self._answers.get(question.key)
        if known is None:
            known = self.variations.solve(self.requirements(question), time_s=time_s)
            self._keep(question, known)
        return known

    def explain(self, question: Question, time_s: float) -> Answer:
        """Return the answer with its conflict, where there is no child."""
        known = self._answers.get(question.key)
        if known is None or (known.status == "infeasible" and not known.conflict):
            known = self.variations.explain(self.requirements(question), time_s=time_s)
            self._keep(question, known)
        return known

    def _keep(self, question: Question, answer: Answer) -> None:
        if answer.status in SETTLED:
            self._answers[question.key] = answer
            while len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)

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

    # ------------------------------------------------------------ text

    def edited(self, question: Question) -> Edited:
        """Return the file's text with a question in it. Raises BadQuestion where the program would say something else."""
        wanted = self.requirements(question)
        conditions = [self.condition(choice) for choice in question.choices]
        found = edited(self.source, self.name, self.statements, question, conditions)
        got = self.reread(found.text)
        if got is None or [*map(_meaning, got)] != [*map(_meaning, wanted)]:
            raise BadQuestion("this change cannot be written into the file: change its text by hand")
        return found


def _meaning(requirement: Requirement) -> object:
    """Return what a requirement says, without its place, order of names and reason."""
    match requirement:
        case LinearRequirement():
            return requirement.left, requirement.op, requirement.bound, requirement.parent_ratio
        case LogicRequirement(formula=Is() as formula):
            return formula.layer, formula.sub_block, frozenset(formula.alternatives)
        case LogicRequirement(formula=Not(operand=Is() as formula)):
            return "not", formula.layer, formula.sub_block, frozenset(formula.alternatives)
        case LogicRequirement(formula=formula):
            return formula
