"""The syntax tree of a file, before any name resolution. Nodes have a span, are frozen, and compare without their spans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Literal, dataclass_transform

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.frozen import Record


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class Node(Record, kw_only=True):
    """The base of all nodes. `span` does not take part in equality."""

    span: Span = field(compare=False, repr=False)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__(kw_only=True)


class Name(Node):
    """`wide`, `attention`, `noop`."""

    text: str


class Literal_(Node):
    """A number with or without a unit, as written: `80GiB`, `78_000`, `2.17x`. See `units.parse_quantity`."""

    text: str


class String(Node):
    """`"corpus/*.txt"`; `value` is without quotes, escapes resolved."""

    value: str


class ListExpr(Node):
    """`[a, b]`."""

    items: tuple[Expr, ...]


class Choice(Node):
    """`a | b | c`: two or more options, flattened."""

    options: tuple[Expr, ...]


class Cond(Node):
    """`if c then a else b`."""

    condition: Expr
    then: Expr
    otherwise: Expr


BinaryOp = Literal["+", "-", "*", "/", "mod", "and", "or", "implies"]
CompareOp = Literal["==", "!=", "<=", ">=", "<", ">"]


class Binary(Node):
    """`left op right`, left-associative (`implies` is non-associative)."""

    op: BinaryOp
    left: Expr
    right: Expr


class Unary(Node):
    """`-x`, `+x`, `not x`."""

    op: Literal["-", "+", "not"]
    operand: Expr


class Compare(Node):
    """`a <= b`, or a chain `a <= b <= c`: `ops[i]` stands between `operands[i]` and `operands[i + 1]`."""

    operands: tuple[Expr, ...]
    ops: tuple[CompareOp, ...]
    op_spans: tuple[Span, ...] = field(compare=False, repr=False)


class Is(Node):
    """`x is noop`, `x is not gqa(kv_heads: >= 4)`, `x is (noop | linear)`."""

    subject: Expr
    negated: bool
    pattern: Pattern | PatternChoice


class In(Node):
    """`x in 3..78`."""

    member: Expr
    collection: Expr


class SameAs(Node):
    """`layers[i] same as layers[j]`."""

    left: Expr
    right: Expr


class Range(Node):
    """`3..78`, `1x..3x`; inclusive at both ends. In subscripts either end may be missing. `step` as in `0..78 step 4`."""

    start: Expr | None
    stop: Expr | None
    step: Expr | None = None


class Arrow(Node):
    """`128 -> 1024`."""

    left: Expr
    right: Expr


class Attribute(Node):
    """`chat.memory`."""

    target: Expr
    name: Name


class Index(Node):
    """`layers[..1, -1]`, `layers[40.. where index mod 2 == 1]`, `layers[i]`."""

    target: Expr
    items: tuple[Expr, ...]
    where: Expr | None = None


class Argument(Node):
    """A positional (`name` is None) or named argument `kv_heads: 8 | 4`."""

    name: Name | None
    value: Expr


class Comprehension(Node):
    """`l.ffn.width for l in layers[40..] where …`, the sole argument of a call such as `sum(…)`."""

    element: Expr
    variable: Name
    collection: Expr
    where: Expr | None = None


class Call(Node):
    """`gqa(kv_heads: 8 | 4)`, `sum(attention.kv_heads)`."""

    function: Expr
    arguments: tuple[Argument, ...]


class PatternField(Node):
    """`width: >= 25%` in a pattern; `op` is `==` where none is written."""

    name: Name
    op: CompareOp
    value: Expr


class Pattern(Node):
    """`noop`, `mlp(width: >= 25%)`."""

    name: Name
    fields: tuple[PatternField, ...]


class BadExpr(Node):
    """Placeholder for an expression that could not be read. Its mistake is reported, so later stages report none for it."""


_Plain = Name | Literal_ | String | ListExpr | Choice | Cond | Binary | Unary | Compare | Is | In | SameAs
Expr = _Plain | Range | Arrow | Attribute | Index | Call | Comprehension | BadExpr


class Assign(Node):
    """`attention = A | B`, `layers[2..9].attention -= noop`, `layers[..].ffn &= mlp(width: >= 25%)`.

    `target` is a Name, Attribute or Index. For `&=` and `-=` the value is read as a Choice of `Pattern`s.
    """

    target: Expr
    op: Literal["=", "|=", "-=", "&="]
    value: Expr | Pattern | PatternChoice


class PatternChoice(Node):
    """`noop | linear` on the right of `-=` or `&=`."""

    options: tuple[Pattern, ...]


class Section(Node):
    """`init { … }`."""

    name: Name
    body: tuple[Stmt, ...]


class ForAll(Node):
    """`for i in 3..78 where i mod 4 == 0 { … }`."""

    variable: Name
    domain: Expr
    where: Expr | None = None
    body: tuple[Stmt, ...]


class Require(Node):
    """`require EXPR because "…"`."""

    condition: Expr
    because: String | None = None


class Prefer(Node):
    """`prefer EXPR because "…"`."""

    condition: Expr
    because: String | None = None


class Objective(Node):
    """`minimize kl`, `maximize params`."""

    sense: Literal["minimize", "maximize"]
    expression: Expr


class Solutions(Node):
    """`solutions 10 apart 8`."""

    count: Expr
    apart: Expr | None = None


class Let(Node):
    """`let NAME = expr`, in a body or at the top level."""

    name: Name
    value: Expr


class Assert(Node):
    """`assert EXPR because "…"`, in a body or at the top level."""

    condition: Expr
    because: String | None = None


Stmt = Assign | Section | ForAll | Require | Prefer | Objective | Solutions | Let | Assert


class Use(Node):
    """`use "std/hardware.pzl" (h100_sxm)`, `use "file" as h`."""

    path: String
    names: tuple[Name, ...] = ()
    alias: Name | None = None


class Param(Node):
    """`param headroom: Ratio = 95%`; `param mode: fast | small = fast` lists its words, and `type` is the first of them."""

    name: Name
    type: Name
    default: Expr | None = None
    words: tuple[Name, ...] = ()
    doc: str = ""


class Fn(Node):
    """`fn half(x) = x / 2`."""

    name: Name
    parameters: tuple[Name, ...]
    value: Expr
    doc: str = ""


class Decl(Node):
    """`KIND NAME [of X | on X] [= expr] [{ body }]`; `body` is None where no braces stand. `doc` is the `##` text above."""

    kind: Name
    name: Name
    preposition: Literal["of", "on"] | None = None
    target: Expr | None = None
    value: Expr | None = None
    body: tuple[Stmt, ...] | None = None
    doc: str = ""


Item = Use | Param | Fn | Let | Assert | Decl


class Module(Node):
    """A whole file. `broken` is true if it has a syntax mistake: later stages may then hold back follow-up errors."""

    items: tuple[Item, ...]
    broken: bool = field(default=False, compare=False)


def children(node: Node) -> list[Node]:
    """Return the nodes directly inside a node, in the order of its fields."""
    values = (getattr(node, name) for name in node.__dataclass_fields__)
    parts = (part for value in values for part in (value if isinstance(value, tuple) else (value,)))
    return [part for part in parts if isinstance(part, Node)]


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and everything inside it, outer nodes first."""
    yield node
    for part in children(node):
        yield from walk(part)
