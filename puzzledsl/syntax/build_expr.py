"""Convert names, literals and expressions of Lark's parse tree to the syntax tree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from puzzledsl.base.diagnostics import Fix, Sink, Span
from puzzledsl.base.units import BadLiteral, parse_quantity
from puzzledsl.syntax import errors, tree
from puzzledsl.syntax.lark_alone import Token, Tree
from puzzledsl.syntax.newlines import MAX_DEPTH
from puzzledsl.syntax.tokens import Words, span_of

Branch = Tree[Token]
"""A node of Lark's tree."""

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


class _TooDeep(Exception):
    """Raised for an expression nested too deeply; caught at the whole value."""


@dataclass(slots=True)
class ExprBuilder:
    """Builder of expressions. One with bad tokens, unbalanced brackets or too much nesting becomes `BadExpr`."""

    words: Words
    sink: Sink

    def at(self, branch: Branch | Token) -> Span:
        """Return the span of a branch or a token."""
        if isinstance(branch, Token):
            return span_of(branch, self.words.file)
        meta = branch.meta
        if meta.empty:
            return Span(self.words.file, 1, 1, 1, 1)
        return Span(self.words.file, meta.line, meta.column, meta.end_line, meta.end_column)

    # ------------------------------------------------------------ words

    def name(self, token: Branch | Token) -> tree.Name:
        """Return a name with its span."""
        return tree.Name(span=self.at(token), text=str(token))

    def names(self, branch: Branch) -> tuple[tree.Name, ...]:
        """Return the names of a list of names."""
        return tuple(self.name(t) for t in branch.children)

    def string(self, token: Token) -> tree.String:
        """Return a string with its escapes resolved; a wrong escape is reported and kept."""

        def unescape(match: re.Match[str]) -> str:
            letter = match.group(1)
            if letter not in _ESCAPES:
                start = (token.column or 1) + 1 + match.start()
                span = Span(self.words.file, token.line or 1, start, token.line or 1, start + 2)
                if token.line not in self.words.tainted:
                    self.sink.add(errors.BadEscape(span, escape=match.group()))
            return _ESCAPES.get(letter, match.group())

        return tree.String(span=self.at(token), value=re.sub(r"\\(.)", unescape, str(token)[1:-1]))

    def _number(self, token: Token) -> tree.Expr:
        try:
            parse_quantity(str(token))
        except BadLiteral as error:
            where = self.at(token)
            fixes = [Fix.replace(where, error.meant)] if error.meant else []
            self.sink.add(errors.BadNumber(where, why=str(error), help=error.help, fixes=fixes))
            return tree.BadExpr(span=where)
        return tree.Literal_(span=self.at(token), text=str(token))

    # ------------------------------------------------------------ values

    def init(self, branch: Branch) -> tree.Expr:
        """Return the value behind `=`."""
        return self.value(branch.children[0])

    def value(self, branch: Branch | Token) -> tree.Expr:
        """Return a whole expression; BadExpr for bad tokens, unbalanced brackets or too much nesting."""
        span = self.at(branch)
        try:
            found = self._expr(cast(Branch, branch), 0)
        except _TooDeep:
            self.sink.add(errors.TooDeep(span, limit=MAX_DEPTH))
            return tree.BadExpr(span=span)
        return tree.BadExpr(span=span) if self._is_tainted(span) else found

    def edit(self, branch: Branch | Token) -> tree.Expr | tree.Pattern | tree.PatternChoice:
        """Return the right side of `-=` or `&=`: one pattern or several; BadExpr if it is unreadable."""
        branch = cast(Branch, branch)
        span = self.at(branch)
        if branch.data == "bad_expr" or self._is_tainted(span):
            return tree.BadExpr(span=span)
        try:
            return self._patterns(branch, 0)
        except _TooDeep:
            self.sink.add(errors.TooDeep(span, limit=MAX_DEPTH))
            return tree.BadExpr(span=span)

    def _is_tainted(self, span: Span) -> bool:
        return not self.words.tainted.isdisjoint(range(span.line, span.end_line + 1))

    def _patterns(self, branch: Branch, depth: int) -> tree.Pattern | tree.PatternChoice:
        if branch.data == "pattern":
            return self._pattern(branch, depth)
        options = tuple(self._pattern(cast(Branch, kid), depth) for kid in branch.children)
        return options[0] if len(options) == 1 else tree.PatternChoice(span=self.at(branch), options=options)

    def _pattern(self, branch: Branch, depth: int) -> tree.Pattern:
        name, *fields = branch.children
        return tree.Pattern(
            span=self.at(branch),
            name=self.name(name),
            fields=tuple(self._field(cast(Branch, f), depth + 1) for f in fields),
        )

    def _field(self, branch: Branch, depth: int) -> tree.PatternField:
        name, value = branch.children[0], self._expr(cast(Branch, branch.children[-1]), depth)
        op = str(branch.children[1]) if branch.data == "bound" else "=="
        return tree.PatternField(
            span=self.at(branch), name=self.name(name), op=cast(tree.CompareOp, op), value=value
        )

    def _expr(self, branch: Branch, depth: int) -> tree.Expr:
        """Return one expression. `depth` bounds the recursion: it counts nesting and each link of an operator chain."""
        if depth > MAX_DEPTH:
            raise _TooDeep
        span, kids, below = self.at(branch), cast(list[Branch], branch.children), depth + 1
        match branch.data:
            case "name":
                return self.name(branch.children[0]) if branch.children[0] else tree.BadExpr(span=span)
            case "quantity":
                return self._number(cast(Token, branch.children[0]))
            case "string":
                return self.string(cast(Token, branch.children[0]))
            case "bad_expr":
                return tree.BadExpr(span=span)
            case "choice":
                return tree.Choice(span=span, options=self._exprs(kids, below))
            case "list":
                return tree.ListExpr(span=span, items=self._exprs(kids, below))
            case "cond":
                condition, then, otherwise = self._exprs(kids, below)
                return tree.Cond(span=span, condition=condition, then=then, otherwise=otherwise)
            case "implies" | "or_" | "and_":
                word = cast(tree.BinaryOp, str(branch.data).rstrip("_"))
                return self._chain(span, kids[0], [(word, kid) for kid in kids[1:]], depth)
            case "sum":
                return self._chain(span, kids[0], _pairs(branch.children[1:]), depth)
            case "term":
                steps = [(str(op.children[0]), kid) for op, kid in _twos(kids[1:])]
                return self._chain(span, kids[0], steps, depth)
            case "negation":
                return tree.Unary(span=span, op="not", operand=self._expr(kids[0], below))
            case "sign":
                sign = cast("Literal['-', '+']", str(branch.children[0]))
                return tree.Unary(span=span, op=sign, operand=self._expr(kids[1], below))
            case "compare":
                return self._compare(branch, below)
            case "is_" | "is_not":
                subject, pattern = self._expr(kids[0], below), self._patterns(kids[1], below)
                return tree.Is(span=span, subject=subject, negated=branch.data == "is_not", pattern=pattern)
            case "member":
                return tree.In(
                    span=span, member=self._expr(kids[0], below), collection=self._expr(kids[1], below)
                )
            case "same_as":
                return tree.SameAs(
                    span=span, left=self._expr(kids[0], below), right=self._expr(kids[2], below)
                )
            case "arrow":
                return tree.Arrow(
                    span=span, left=self._expr(kids[0], below), right=self._expr(kids[1], below)
                )
            case "range" | "range_from" | "range_to" | "range_all":
                return self._range(branch, below)
            case "attribute":
                return tree.Attribute(span=span, target=self._expr(kids[0], below), name=self.name(kids[1]))
            case "index":
                items, where = self._subscript(kids[1], below)
                return tree.Index(span=span, target=self._expr(kids[0], below), items=items, where=where)
            case "call":
                arguments = self._arguments(kids[1], below) if len(kids) > 1 else ()
                return tree.Call(span=span, function=self._expr(kids[0], below), arguments=arguments)
        raise AssertionError(f"no expression: {branch.data}")

    def _range(self, branch: Branch, depth: int) -> tree.Range:
        kids = cast(list[Branch], list(branch.children))
        step = None
        if kids and kids[-1].data == "step":
            step = self._expr(cast(Branch, kids.pop().children[0]), depth)
        start = self._expr(kids[0], depth) if branch.data in ("range", "range_from") else None
        stop = self._expr(kids[-1], depth) if branch.data in ("range", "range_to") else None
        return tree.Range(span=self.at(branch), start=start, stop=stop, step=step)

    def _exprs(self, branches: Sequence[Branch], depth: int) -> tuple[tree.Expr, ...]:
        return tuple(self._expr(b, depth) for b in branches)

    def _chain(self, whole: Span, first: Branch, steps: list[tuple[str, Branch]], depth: int) -> tree.Expr:
        """Return `a + b - c` as nested, left-associative `Binary`s."""
        depth += len(steps)
        if depth > MAX_DEPTH:
            raise _TooDeep
        left = self._expr(first, depth)
        for op, branch in steps:
            right = self._expr(branch, depth)
            end = self.at(branch)
            span = Span(whole.file, whole.line, whole.column, end.end_line, end.end_column)
            span = whole if branch is steps[-1][1] else span  # which counts a closing bracket in
            left = tree.Binary(span=span, op=cast(tree.BinaryOp, op), left=left, right=right)
        return left

    def _compare(self, branch: Branch, depth: int) -> tree.Compare:
        operators = [t for t in branch.children if isinstance(t, Token)]
        return tree.Compare(
            span=self.at(branch),
            operands=self._exprs([kid for kid in branch.children if isinstance(kid, Tree)], depth),
            ops=tuple(cast(tree.CompareOp, str(t)) for t in operators),
            op_spans=tuple(self.at(t) for t in operators),
        )

    def _subscript(self, branch: Branch, depth: int) -> tuple[tuple[tree.Expr, ...], tree.Expr | None]:
        kids = cast(list[Branch], branch.children)
        where = None
        if kids and kids[-1].data == "where":
            where = self._expr(cast(Branch, kids[-1].children[0]), depth)
            kids = kids[:-1]
        return self._exprs(kids, depth), where

    def _arguments(self, branch: Branch, depth: int) -> tuple[tree.Argument, ...]:
        if branch.data == "comprehension":
            element, name, collection, *rest = branch.children
            where = self._expr(cast(Branch, cast(Branch, rest[0]).children[0]), depth) if rest else None
            value = tree.Comprehension(
                span=self.at(branch),
                element=self._expr(cast(Branch, element), depth),
                variable=self.name(name),
                collection=self._expr(cast(Branch, collection), depth),
                where=where,
            )
            return (tree.Argument(span=self.at(branch), name=None, value=value),)
        return tuple(self._argument(cast(Branch, kid), depth) for kid in branch.children)

    def _argument(self, branch: Branch, depth: int) -> tree.Argument:
        *name, value = branch.children
        named = self.name(name[0]) if name else None
        return tree.Argument(span=self.at(branch), name=named, value=self._expr(cast(Branch, value), depth))


def _twos(items: Sequence[Branch]) -> list[tuple[Branch, Branch]]:
    return list(zip(items[::2], items[1::2], strict=True))


def _pairs(items: Sequence[Branch | Token]) -> list[tuple[str, Branch]]:
    return [(str(op), cast(Branch, kid)) for op, kid in zip(items[::2], items[1::2], strict=True)]
