"""The syntax tree of a `.pzl` file: the source structure with a span on every node, before any name resolution.

Every node is frozen and compares by content without spans, so that "parse(print(tree)) == tree" can be tested.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from puzzledsl.base.diagnostics import Span


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Node:
    """The base of all nodes. `span` does not take part in equality.

    What dataclasses would write for each of its forty kinds is here once: that alone was a tenth of what a command loads.
    """

    span: Span

    def _content(self) -> tuple[object, ...]:
        fields = self.__dataclass_fields__
        return tuple([getattr(self, name) for name, f in fields.items() if f.compare and name != "span"])

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        assert isinstance(other, Node)
        return self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__dataclass_fields__ if name != "span")
        return f"{self.__class__.__qualname__}({', '.join(shown)})"


# ---------------------------------------------------------------- expressions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Name(Node):
    """`wide`, `attention`, `noop`."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Literal_(Node):
    """A number with or without a unit, as written: `80GiB`, `78_000`, `2.17x`. See `units.parse_quantity`."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class String(Node):
    """`"corpus/*.txt"`; `value` is without quotes, escapes resolved."""

    value: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ListExpr(Node):
    """`[a, b]`."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Choice(Node):
    """`a | b | c`: two or more options, flattened."""

    options: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Cond(Node):
    """`if c then a else b`."""

    condition: Expr
    then: Expr
    otherwise: Expr


BinaryOp = Literal["+", "-", "*", "/", "mod", "and", "or", "implies"]
CompareOp = Literal["==", "!=", "<=", ">=", "<", ">"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Binary(Node):
    """`left op right`, left-associative (`implies` is non-associative)."""

    op: BinaryOp
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Unary(Node):
    """`-x`, `+x`, `not x`."""

    op: Literal["-", "+", "not"]
    operand: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Compare(Node):
    """`a <= b`, or a chain `a <= b <= c`: `ops[i]` stands between `operands[i]` and `operands[i + 1]`."""

    operands: tuple[Expr, ...]
    ops: tuple[CompareOp, ...]
    op_spans: tuple[Span, ...] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Is(Node):
    """`x is noop`, `x is not gqa(kv_heads: >= 4)`, `x is (noop | linear)`."""

    subject: Expr
    negated: bool
    pattern: Pattern | PatternChoice


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class In(Node):
    """`x in 3..78`."""

    member: Expr
    collection: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SameAs(Node):
    """`layers[i] same as layers[j]`."""

    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Range(Node):
    """`3..78`, `1x..3x`; inclusive at both ends. In subscripts either end may be missing. `step` as in `0..78 step 4`."""

    start: Expr | None
    stop: Expr | None
    step: Expr | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Arrow(Node):
    """`128 -> 1024`."""

    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Attribute(Node):
    """`chat.memory`."""

    target: Expr
    name: Name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Index(Node):
    """`layers[..1, -1]`, `layers[40.. where index mod 2 == 1]`, `layers[i]`."""

    target: Expr
    items: tuple[Expr, ...]
    where: Expr | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Argument(Node):
    """A positional (`name` is None) or named argument `kv_heads: 8 | 4`."""

    name: Name | None
    value: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Comprehension(Node):
    """`l.ffn.width for l in layers[40..] where …`, the sole argument of a call such as `sum(…)`."""

    element: Expr
    variable: Name
    collection: Expr
    where: Expr | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Call(Node):
    """`gqa(kv_heads: 8 | 4)`, `sum(attention.kv_heads)`."""

    function: Expr
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PatternField(Node):
    """`width: >= 25%` in a pattern; `op` is `==` where none is written."""

    name: Name
    op: CompareOp
    value: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Pattern(Node):
    """`noop`, `mlp(width: >= 25%)`."""

    name: Name
    fields: tuple[PatternField, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class BadExpr(Node):
    """Stands where an expression could not be read; its mistake has been reported, so stay silent about it."""


Expr = (
    Name
    | Literal_
    | String
    | ListExpr
    | Choice
    | Cond
    | Binary
    | Unary
    | Compare
    | Is
    | In
    | SameAs
    | Range
    | Arrow
    | Attribute
    | Index
    | Call
    | Comprehension
    | BadExpr
)

# ---------------------------------------------------------------- statements (inside braces)

AssignOp = Literal["=", "|=", "-=", "&="]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Assign(Node):
    """`attention = A | B`, `layers[2..9].attention -= noop`, `layers[..].ffn &= mlp(width: >= 25%)`.

    `target` is a Name, Attribute or Index. For `&=` and `-=` the value is read as a Choice of `Pattern`s.
    """

    target: Expr
    op: AssignOp
    value: Expr | Pattern | PatternChoice


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PatternChoice(Node):
    """`noop | linear` on the right of `-=` or `&=`."""

    options: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Section(Node):
    """`init { … }`."""

    name: Name
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ForAll(Node):
    """`for i in 3..78 where i mod 4 == 0 { … }`."""

    variable: Name
    domain: Expr
    where: Expr | None
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Require(Node):
    """`require EXPR because "…"`."""

    condition: Expr
    because: String | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Prefer(Node):
    """`prefer EXPR because "…"`."""

    condition: Expr
    because: String | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Objective(Node):
    """`minimize kl`, `maximize params`."""

    sense: Literal["minimize", "maximize"]
    expression: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Solutions(Node):
    """`solutions 10 apart 8`."""

    count: Expr
    apart: Expr | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Let(Node):
    """`let NAME = expr`, in a body or at the top level."""

    name: Name
    value: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Assert(Node):
    """`assert EXPR because "…"`, in a body or at the top level."""

    condition: Expr
    because: String | None


Stmt = Assign | Section | ForAll | Require | Prefer | Objective | Solutions | Let | Assert

# ---------------------------------------------------------------- declarations (column 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Use(Node):
    """`use "std/hardware.pzl" (h100_sxm)`, `use "file" as h`."""

    path: String
    names: tuple[Name, ...]
    alias: Name | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Param(Node):
    """`param headroom: Ratio = 95%`; `param mode: fast | small = fast` lists its words, and `type` is the first of them."""

    name: Name
    type: Name
    default: Expr | None
    words: tuple[Name, ...] = ()
    doc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Fn(Node):
    """`fn half(x) = x / 2`."""

    name: Name
    parameters: tuple[Name, ...]
    value: Expr
    doc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Decl(Node):
    """`KIND NAME [of X | on X] [= expr] [{ body }]`; `body` is None where no braces stand. `doc` is the `##` text above."""

    kind: Name
    name: Name
    preposition: Literal["of", "on"] | None
    target: Expr | None
    value: Expr | None
    body: tuple[Stmt, ...] | None
    doc: str = ""


Item = Use | Param | Fn | Let | Assert | Decl


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Module(Node):
    """A whole file. `broken` is true where recovery dropped something: later stages may hold back follow-up errors."""

    items: tuple[Item, ...]
    broken: bool = field(default=False, compare=False)


# ---------------------------------------------------------------- walking


def children(node: Node) -> list[Node]:
    """Return the nodes directly inside a node, in the order of its fields."""
    found: list[Node] = []
    for name in node.__dataclass_fields__:
        value = getattr(node, name)
        if isinstance(value, Node):
            found.append(value)
        elif isinstance(value, tuple):
            found += [part for part in value if isinstance(part, Node)]
    return found


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and everything inside it, outer nodes first."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(reversed(children(top)))
