"""One search with its tables in memory: its `require` statements, cached answers, and translation of the page's questions.

A question changes bounds, leaves statements out, and pins or forbids alternatives; it becomes the requirements of a variation of
the search. The numbers in a statement are its bounds, each with the positions of a slider.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import combinations, count
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from puzzledsl.alternatives.alternative import UNCAPPED, Alternative, SubBlock
from puzzledsl.alternatives.precision import FULL
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import DiagnosticError, Edit, Fix, Span, apply
from puzzledsl.base.frozen import Record
from puzzledsl.base.units import BadLiteral, Quantity, parse_quantity
from puzzledsl.checker.expressions.values import SourceFile
from puzzledsl.ir import nodes
from puzzledsl.ir.search_nodes import written
from puzzledsl.language.kinds import STORAGE
from puzzledsl.search.infeasible.verdicts import in_users_unit
from puzzledsl.syntax import tree

NUMBERS = "0123456789._-"


class BadQuestion(ValueError):
    """Raised for a question that does not fit the page, or a bound that is not a number with its unit."""


class Source(Record):
    """A checked file. `compared`: the span of a constant side of a comparison -> its values (several in a `for`)."""

    file: SourceFile
    compared: Mapping[Span, AbstractSet[Quantity]]

    @cached_property
    def requirements(self) -> tuple[tree.Require, ...]:
        """Every `require` statement of the file, in order."""
        return tuple(node for node in tree.walk(self.file.module) if isinstance(node, tree.Require))

    def place(self, where: nodes.Where) -> int | nodes.Where:
        """Return the index in `requirements` of the statement that contains a place; the place itself if none does."""
        at = where.line, where.column
        spans = (node.span for node in self.requirements if where.file == self.file.shown)
        inside = ((s.line, s.column) <= at < (s.end_line, s.end_column) for s in spans)
        return next((number for number, holds in enumerate(inside) if holds), where)


class Statement(Record):
    """One `require` of the search. `node`: its syntax tree; None if it is in another file, which the page cannot edit."""

    number: int
    place: int | nodes.Where
    text: str
    because: str
    node: tree.Require | None
    bounds: tuple[Bound, ...] = ()


def statements_of(search: nodes.Search, source: Source) -> list[Statement]:
    """Return the statements of a search in the order of their requirements."""
    found: dict[int | nodes.Where, list[nodes.Requirement]] = {}
    for requirement in search.requirements:
        found.setdefault(source.place(requirement.where), []).append(requirement)
    statements: list[Statement] = []
    for place, own in found.items():
        node = source.requirements[place] if isinstance(place, int) else None
        text = written(own[0]) if node is None else source.file.source(node.condition.span)
        known = sum(len(statement.bounds) for statement in statements)
        bounds = () if node is None else tuple(_bounds_of(node, own, source, known))
        text, number = " ".join(text.split()), len(statements)
        statements.append(Statement(number, place, text, own[0].because, node, bounds))
    return statements


class Bound(Record):
    """One number that a slider moves: `written` in the file, `text` as a literal. `is_clear`: its requirements have one limit."""

    number: int
    span: Span
    written: str
    text: str
    unit: str
    is_clear: bool
    grid: Grid

    def check(self, text: str) -> None:
        """Raise BadQuestion if a text is not a number with the unit of this bound."""
        if unit_of(text) != self.unit:
            raise BadQuestion(f"`{text}` is not a number of {self.unit.strip() or 'no unit'}")
        amount_of(text)


def unit_of(text: str) -> str:
    """Return what follows the digits of a literal: `GiB`, `x`, ` tok/s`."""
    return text.lstrip(NUMBERS)


def amount_of(text: str) -> Fraction:
    """Return the digits of a literal as a number. Raises BadQuestion."""
    try:
        return parse_quantity(text.removesuffix(unit_of(text))).value
    except BadLiteral as error:
        raise BadQuestion(f"`{text}` is not a number") from error


def _compared(condition: tree.Expr) -> Iterator[tree.Expr]:
    """Yield the operands of every comparison of a condition, in order, without comparisons inside calls."""
    match condition:
        case tree.Compare():
            yield from condition.operands
        case tree.Binary(left=left, right=right):
            yield from (*_compared(left), *_compared(right))
        case tree.Unary(operand=operand):
            yield from _compared(operand)


def _bounds_of(
    node: tree.Require, requirements: Sequence[nodes.Requirement], source: Source, first: int
) -> Iterator[Bound]:
    """Yield the bounds of a statement, numbered from `first`. `requirements`: what the checker made of it."""
    linear = [r for r in requirements if isinstance(r, nodes.LinearRequirement)]
    for operand in _compared(node.condition):
        span, values = operand.span, source.compared.get(operand.span, set())
        at = span.line, span.column
        mine = [r for r in linear if (r.bound_where.line, r.bound_where.column) == at]
        value = next(iter(values)).value if len(values) == 1 else None
        if isinstance(operand, tree.Literal_):
            text: str | None = source.file.source(span)
        elif not mine or value is None or value < 0:  # instances of a `for` may have different ones
            continue
        else:  # the value of an expression as a literal in the unit of the requirement
            exact = mine[0].model_copy(update={"op": ">=" if mine[0].op == "==" else mine[0].op})
            literal = in_users_unit(exact, value, Fraction(1))
            text = None if literal is None else literal.text
        with suppress(BadQuestion):
            if text is None:
                continue
            unit, amount = unit_of(text), amount_of(text)
            whole = not unit and all(map(_counts, mine))
            limits = {(r.bound, r.parent_ratio) for r in mine}  # of a `for` there may be several
            grid = grid_of(amount, whole=whole)
            yield Bound(first, span, source.file.source(span), text, unit, len(limits) == 1, grid)
            first += 1


def _counts(requirement: nodes.LinearRequirement) -> bool:
    """Return True for a sum of counts and facts with whole coefficients that is not compared with a multiple of the parent's."""
    return requirement.parent_ratio is None and all(
        w.coefficient.denominator == 1 and isinstance(w.term, nodes.CountTerm | nodes.FactTerm)
        for w in requirement.left.terms
    )


POSITIONS = 300  # About so many positions has a slider.


class Grid(Record):
    """Numbers of a slider: `position * step` for positions 0 to `last`. `decimals`: decimal places that they need."""

    last: int
    step: Fraction
    decimals: int

    def nearest(self, value: Fraction) -> int:
        """Return the position that is nearest to a number."""
        return min(max(round(value / self.step), 0), self.last)

    def number(self, position: int) -> str:
        """Return a position's number as it is written."""
        return f"{float(position * self.step):.{self.decimals}f}"


def grid_of(value: Fraction, *, whole: bool) -> Grid:
    """Return the positions for a bound: from 0 to twice the bound, or to 10 for 0. `whole`: only whole numbers make sense."""
    end = 2 * value or Fraction(10)
    raw = end / POSITIONS
    power = Fraction(10) ** math.floor(math.log10(float(raw)))
    step = next(power * m for m in (1, 2, 5, 10) if raw <= power * m)
    if whole:
        step = Fraction(max(1, math.ceil(step)))
    decimals = next(n for n in count() if (step * 10**n).denominator == 1)
    return Grid(math.ceil(end / step), step, decimals)


if TYPE_CHECKING:
    from puzzledsl.api.program import Program
    from puzzledsl.ir.tables import SearchResult, WhyResult
    from puzzledsl.report.subject import Subject

LONGEST = 60  # Longest number that is taken for a bound.
REMEMBERED = 512
SETTLED = ("optimal", "infeasible")


def options_of(choice: nodes.LayerChoice, sub_block: SubBlock) -> tuple[Alternative, ...]:
    """Return the alternatives of a sub-block in a layer."""
    found: tuple[Alternative, ...] = choice.attention if sub_block == "attention" else choice.ffn
    return found


class Answer(Record):
    """The answer to a question; `subject` is the search with the question's requirements, for the report's pictures."""

    result: SearchResult
    subject: Subject


@dataclass(frozen=True, slots=True, order=True)
class Choice:
    """Alternatives of one sub-block, by name, that are pinned (the child must have one of them) or forbidden."""

    layer: int
    sub_block: SubBlock
    kind: Literal["pin", "forbid"]
    names: tuple[str, ...]


class Question(Record):
    """A variation of a search. `bounds`: number of a bound -> its new text. `off`: numbers of the statements left out."""

    bounds: Mapping[int, str] = field(default_factory=dict)
    off: frozenset[int] = frozenset()
    choices: tuple[Choice, ...] = ()

    @property
    def key(self) -> object:
        """Equal for equal questions."""
        return tuple(sorted(self.bounds.items())), self.off, self.choices

    @classmethod
    def read(cls, value: Any) -> Self:
        """Read what the page sends. Raises BadQuestion."""
        try:
            bounds = {int(number): str(text) for number, text in dict(value.get("bounds", {})).items()}
            off = frozenset(int(number) for number in value.get("off", []))
            choices = tuple(sorted(map(_choice, value.get("choices", []))))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise BadQuestion("this is no question") from error
        if any(len(text) > LONGEST for text in bounds.values()):
            raise BadQuestion("a bound is too long")
        return cls(bounds, off, choices)


def _choice(value: Any) -> Choice:
    sub_block, kind = value["sub_block"], value["kind"]
    if sub_block not in get_args(SubBlock) or kind not in ("pin", "forbid"):
        raise BadQuestion("this is no choice")
    return Choice(int(value["layer"]), sub_block, kind, tuple(sorted(map(str, value["names"]))))


class Sheet:
    """A search of a program with its tables and cached answers. `params`: values of `param`s, as for `puzzledsl.load`."""

    def __init__(self, program: Program, name: str, source: Source, params: dict[str, str]) -> None:
        """Read the tables. Raises DiagnosticError if one is missing."""
        self.program, self.name, self.source, self.params = program, name, source, params
        self.variations = program.variations(name)
        self.search = program.ir.searches[name]
        self.space = program.ir.spaces[self.search.space]
        self.shape = program.ir.parents[self.space.parent].shape
        self.statements = statements_of(self.search, source)
        self.bounds = {bound.number: bound for s in self.statements for bound in s.bounds}
        self._answers = OrderedDict[object, Answer]()
        self._read: dict[str, dict[int, list[nodes.Requirement]]] = {}

    def requirements(self, question: Question) -> tuple[nodes.Requirement, ...]:
        """Return the requirements of a question. Raises BadQuestion."""
        stated = self.stated(question).items()
        kept = [requirement for number, own in stated if number not in question.off for requirement in own]
        return (*kept, *map(self._choice, question.choices))

    def stated(self, question: Question) -> dict[int, list[nodes.Requirement]]:
        """Return statement number -> its requirements under a question's bounds, left-out ones too. Raises BadQuestion."""
        self._check(question)
        edits = tuple(Edit(self.bounds[number].span, bound) for number, bound in question.bounds.items())
        text = apply(self.source.file.text, [Fix("", edits)])
        if text not in self._read:
            try:
                source, after = self._checked(text)
            except DiagnosticError as error:
                raise BadQuestion(error.diagnostics[0].message) from error
            found: dict[int, list[nodes.Requirement]] = {s.number: [] for s in self.statements}
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
            self.bounds[number].check(text)
        for choice in question.choices:
            if not 0 <= choice.layer < len(self.space.layers):
                raise BadQuestion("there is no such layer")
            names = {a.name for a in options_of(self.space.layers[choice.layer], choice.sub_block)}
            if not choice.names or not names.issuperset(choice.names):
                raise BadQuestion(f"layer {choice.layer} has no such alternative")

    def _checked(self, text: str) -> tuple[Source, tuple[nodes.Requirement, ...]]:
        """Check a changed text of the file; return it with this search's requirements in it. Raises DiagnosticError."""
        from puzzledsl.pipeline.compile import open_program

        opened = open_program(self.program.file, self.params, self.program.build, text)
        if opened.context is None or opened.found is None:
            raise DiagnosticError(*opened.diagnostics)
        found = opened.context.program.searches[self.name]
        return Source(opened.found.root, opened.found.compared), found.requirements

    def _choice(self, choice: Choice) -> nodes.LogicRequirement:
        chosen = nodes.Is(layer=choice.layer, sub_block=choice.sub_block, alternatives=choice.names)
        at, line = self.search.where, self.search.where.end_line
        text = self.condition(choice)
        place = nodes.Where(file=at.file, line=line, column=1, end_line=line, end_column=1, text=text)
        if choice.kind == "pin":
            return nodes.LogicRequirement(formula=chosen, where=place, because="pinned")
        return nodes.LogicRequirement(formula=nodes.Not(operand=chosen), where=place, because="forbidden")

    def condition(self, choice: Choice) -> str:
        """Return a choice as the condition of a `require`. Raises BadQuestion if no pattern names its alternatives alone."""
        own, layer = self.shape.at(choice.layer), self.space.layers[choice.layer]
        every = options_of(layer.with_parent(), choice.sub_block)
        patterns = [pattern_of(a, every, own) for a in every if a.name in choice.names]
        if None in patterns:
            raise BadQuestion("no pattern tells this alternative from the others of its layer")
        shown = " | ".join(pattern or "" for pattern in patterns)
        shown = f"({shown})" if len(patterns) > 1 else shown
        return f"layers[{choice.layer}].{choice.sub_block} is {'' if choice.kind == 'pin' else 'not '}{shown}"

    def answer(self, question: Question, time_s: float, *, with_conflict: bool = False) -> Answer:
        """Return the answer to a question; `with_conflict`: and its conflict, if infeasible. Proven answers are cached."""
        known = self._answers.get(question.key)
        none = known is not None and known.result.status == "infeasible"
        if known is None or (with_conflict and none and not known.result.conflict):
            ask = self.variations.explain if with_conflict else self.variations.solve
            requirements = self.requirements(question)
            result = ask(requirements, time_s=time_s)
            known = Answer(result, self.variations.subject(requirements, result))
            if result.status in SETTLED:
                self._answers[question.key] = known
                while len(self._answers) > REMEMBERED:
                    self._answers.popitem(last=False)
        return known

    def why(self, question: Question, layer: int, time_s: float) -> WhyResult | SearchResult:
        """Return a layer's regrets, without the question's own choices for it; the answer itself if it has no child."""
        free = tuple(choice for choice in question.choices if choice.layer != layer)
        asked = Question(question.bounds, question.off, free)
        return self.variations.why(self.requirements(asked), layer, time_s=time_s)


def pattern_of(alternative: Alternative, others: tuple[Alternative, ...], shape: Shape) -> str | None:
    """Return the shortest pattern, such as `mlp(width: 7168)`, that matches one alternative and no other; None if none does."""
    word = alternative.kind
    fields = [f for f in alternative.fields() if alternative.figure(f, shape) is not None]
    fields += [k for k in STORAGE if any(_stored(each, k) != _stored(alternative, k) for each in others)]
    named = [other for other in others if other.answers_to(word, shape)]
    own = {field: _value(alternative, field, shape) for field in fields}
    for size in range(len(fields) + 1):
        for chosen in combinations(fields, size):
            alike = [a for a in named if all(_value(a, field, shape) == own[field] for field in chosen)]
            if alike == [alternative]:
                uncapped = {f for f in chosen if f == "window" and own[f] == UNCAPPED}
                inside = ", ".join(f"{f}: {FULL if f in uncapped else own[f]}" for f in chosen)
                return f"{word}({inside})" if inside else word
    return None


def _value(alternative: Alternative, field: str, shape: Shape) -> Fraction | str | None:
    return _stored(alternative, field) if field in STORAGE else alternative.figure(field, shape)


def _stored(alternative: Alternative, field: str) -> str:
    return getattr(alternative, field, None) or FULL
