"""Lark's parse tree to the syntax tree. What recovery gave up on becomes `BadExpr`, or is left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from lark import Token, Tree

from puzzledsl.diagnostics import Sink, Span
from puzzledsl.lang import errors, tree
from puzzledsl.lang.layout import MAX_DEPTH
from puzzledsl.lang.tokens import Words, span_of
from puzzledsl.units import BadLiteral, parse_quantity

_Branch = Tree[Token]
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


def build(root: _Branch, words: Words, sink: Sink) -> tree.Module:
    """The module a parse tree stands for; `broken` is left for the caller to set."""
    builder = _Builder(words, sink)
    items: list[tree.Item] = []
    for branch in cast(list[_Branch], root.children):
        if branch.data == "bad":
            _adopt(items, builder.statements(branch, 0))
        else:
            items.append(builder.item(branch))
    lines = [line for item in items for line in (item.span.line, item.span.end_line)]
    end = max(lines, default=1)
    return tree.Module(span=Span(words.file, 1, 1, end + 1, 1), items=tuple(items))


def _adopt(items: list[tree.Item], statements: tuple[tree.Stmt, ...]) -> None:
    """Give statements that a `}` too many cut off back to the declaration above."""
    if statements and items and isinstance(last := items[-1], tree.Decl) and last.body is not None:
        items[-1] = tree.Decl(
            span=last.span,
            kind=last.kind,
            name=last.name,
            preposition=last.preposition,
            target=last.target,
            value=last.value,
            body=(*last.body, *statements),
            doc=last.doc,
        )


class _TooDeep(Exception):
    """Unwinds to the value that nests too deep."""


@dataclass(slots=True)
class _Builder:
    words: Words
    sink: Sink
    next_doc: int = 0

    def at(self, branch: _Branch | Token) -> Span:
        if isinstance(branch, Token):
            return span_of(branch, self.words.file)
        meta = branch.meta
        if meta.empty:
            return Span(self.words.file, 1, 1, 1, 1)
        return Span(self.words.file, meta.line, meta.column, meta.end_line, meta.end_column)

    # ------------------------------------------------------------ items

    def doc(self, before_line: int) -> str:
        """The doc comments between the item before and this line, without their marks."""
        lines: list[str] = []
        docs = self.words.docs
        while self.next_doc < len(docs) and (docs[self.next_doc].line or 0) < before_line:
            lines.append(str(docs[self.next_doc])[2:].removeprefix(" ").rstrip())
            self.next_doc += 1
        return "\n".join(lines)

    def item(self, branch: _Branch) -> tree.Item:
        span = self.at(branch)
        doc = self.doc(span.line)
        kids = branch.children
        result: tree.Item
        match branch.data:
            case "use":
                result = self.use(branch, span)
            case "param":
                default = self.init(cast(_Branch, kids[2])) if len(kids) > 2 else None
                result = tree.Param(span=span, name=self.name(kids[0]), type=self.name(kids[1]), default=default, doc=doc)
            case "fn":
                parameters = self.names(cast(_Branch, kids[1])) if len(kids) > 2 else ()
                value = self.init(cast(_Branch, kids[-1]))
                result = tree.Fn(span=span, name=self.name(kids[0]), parameters=parameters, value=value, doc=doc)
            case "decl":
                result = self.decl(branch, span, doc)
            case _:
                result = cast(tree.Let | tree.Assert, self.statement(branch, 0))
        self.doc(span.end_line + 1)  # doc comments inside a body belong to nothing
        return result

    def use(self, branch: _Branch, span: Span) -> tree.Use:
        path, names, alias = self.string(cast(Token, branch.children[0])), (), None
        for kid in cast(list[_Branch], branch.children[1:]):
            if kid.data == "alias":
                alias = self.name(kid.children[0])
            else:
                names = self.names(kid)
        return tree.Use(span=span, path=path, names=names, alias=alias)

    def decl(self, branch: _Branch, span: Span, doc: str) -> tree.Decl:
        kind, name = (self.name(t) for t in branch.children[:2])
        preposition, target, value, body = None, None, None, None
        for kid in branch.children[2:]:
            if isinstance(kid, Token):
                continue  # an ERROR: the tail of the head could not be read
            if kid.data == "target":
                preposition = str(cast(_Branch, kid.children[0]).children[0])
                target = self.value(kid.children[1])
            elif kid.data == "init":
                value = self.init(kid)
            else:
                body = self.body(kid, 1)
        return tree.Decl(
            span=span,
            kind=kind,
            name=name,
            preposition=cast("tree.Literal['of', 'on'] | None", preposition),
            target=target,
            value=value,
            body=body,
            doc=doc,
        )

    # ------------------------------------------------------------ statements

    def body(self, branch: _Branch, depth: int) -> tuple[tree.Stmt, ...]:
        found: list[tree.Stmt] = []
        if depth > MAX_DEPTH // 4:
            self.sink.add(errors.TooDeep(self.at(branch), limit=MAX_DEPTH // 4, help=""))
            return ()
        for kid in cast(list[_Branch], branch.children):
            found += self.statements(kid, depth) if kid.data == "bad" else [self.statement(kid, depth)]
        return tuple(found)

    def statements(self, bad: _Branch, depth: int) -> tuple[tree.Stmt, ...]:
        """What could be read behind a head that could not."""
        bodies = [kid for kid in bad.children if isinstance(kid, Tree)]
        return self.body(bodies[0], depth + 1) if bodies else ()

    def statement(self, branch: _Branch, depth: int) -> tree.Stmt:
        span, kids = self.at(branch), branch.children
        because = None
        if len(kids) > 1 and isinstance(kids[-1], Tree) and kids[-1].data == "because":
            because = self.string(cast(Token, kids[-1].children[0]))
        match branch.data:
            case "assign" | "extend" | "remove" | "keep":
                op = {"assign": "=", "extend": "|=", "remove": "-=", "keep": "&="}[branch.data]
                value = self.edit(kids[1]) if op in ("-=", "&=") else self.value(kids[1])
                return tree.Assign(span=span, target=self.value(kids[0]), op=cast(tree.AssignOp, op), value=value)
            case "section":
                return tree.Section(span=span, name=self.name(kids[0]), body=self.body(cast(_Branch, kids[1]), depth + 1))
            case "forall":
                guard = self.value(cast(_Branch, kids[2]).children[0]) if len(kids) > 3 else None
                body = self.body(cast(_Branch, kids[-1]), depth + 1)
                variable, domain = self.name(kids[0]), self.value(kids[1])
                return tree.ForAll(span=span, variable=variable, domain=domain, where=guard, body=body)
            case "require":
                return tree.Require(span=span, condition=self.value(kids[0]), because=because)
            case "prefer":
                return tree.Prefer(span=span, condition=self.value(kids[0]), because=because)
            case "minimize":
                return tree.Objective(span=span, sense="minimize", expression=self.value(kids[0]))
            case "maximize":
                return tree.Objective(span=span, sense="maximize", expression=self.value(kids[0]))
            case "solutions":
                apart = self.value(cast(_Branch, kids[1]).children[0]) if len(kids) > 1 else None
                return tree.Solutions(span=span, count=self.value(kids[0]), apart=apart)
            case "let":
                return tree.Let(span=span, name=self.name(kids[0]), value=self.init(cast(_Branch, kids[1])))
            case "assertion":
                return tree.Assert(span=span, condition=self.value(kids[0]), because=because)
        raise AssertionError(f"no statement: {branch.data}")

    # ------------------------------------------------------------ words

    def name(self, token: _Branch | Token) -> tree.Name:
        return tree.Name(span=self.at(token), text=str(token))

    def names(self, branch: _Branch) -> tuple[tree.Name, ...]:
        return tuple(self.name(t) for t in branch.children)

    def string(self, token: Token) -> tree.String:
        def unescape(match: re.Match[str]) -> str:
            letter = match.group(1)
            if letter not in _ESCAPES:
                start = (token.column or 1) + 1 + match.start()
                span = Span(self.words.file, token.line or 1, start, token.line or 1, start + 2)
                if token.line not in self.words.tainted:
                    self.sink.add(errors.BadEscape(span, escape=match.group()))
            return _ESCAPES.get(letter, match.group())

        return tree.String(span=self.at(token), value=re.sub(r"\\(.)", unescape, str(token)[1:-1]))

    def number(self, token: Token) -> tree.Expr:
        try:
            parse_quantity(str(token))
        except BadLiteral as error:
            self.sink.add(errors.BadNumber(self.at(token), why=str(error), help=error.help))
            return tree.BadExpr(span=self.at(token))
        return tree.Literal_(span=self.at(token), text=str(token))

    # ------------------------------------------------------------ values

    def init(self, branch: _Branch) -> tree.Expr:
        return self.value(branch.children[0])

    def value(self, branch: _Branch | Token) -> tree.Expr:
        """A whole expression; BadExpr where its words, its brackets or its depth are wrong."""
        span = self.at(branch)
        try:
            found = self.expr(cast(_Branch, branch), 0)
        except _TooDeep:
            self.sink.add(errors.TooDeep(span, limit=MAX_DEPTH))
            return tree.BadExpr(span=span)
        return tree.BadExpr(span=span) if self.is_tainted(span) else found

    def edit(self, branch: _Branch | Token) -> tree.Expr | tree.Pattern | tree.PatternChoice:
        """What stands right of `-=` and `&=`: one pattern or several."""
        branch = cast(_Branch, branch)
        span = self.at(branch)
        if branch.data == "bad_expr" or self.is_tainted(span):
            return tree.BadExpr(span=span)
        try:
            if branch.data == "pattern":
                return self.pattern(branch, 0)
            options = tuple(self.pattern(cast(_Branch, kid), 0) for kid in branch.children)
        except _TooDeep:
            self.sink.add(errors.TooDeep(span, limit=MAX_DEPTH))
            return tree.BadExpr(span=span)
        return options[0] if len(options) == 1 else tree.PatternChoice(span=span, options=options)

    def is_tainted(self, span: Span) -> bool:
        return not self.words.tainted.isdisjoint(range(span.line, span.end_line + 1))

    def pattern(self, branch: _Branch, depth: int) -> tree.Pattern:
        name, *fields = branch.children
        return tree.Pattern(
            span=self.at(branch),
            name=self.name(name),
            fields=tuple(self.field(cast(_Branch, f), depth + 1) for f in fields),
        )

    def field(self, branch: _Branch, depth: int) -> tree.PatternField:
        name, value = branch.children[0], self.expr(cast(_Branch, branch.children[-1]), depth)
        op = str(branch.children[1]) if branch.data == "bound" else "=="
        return tree.PatternField(span=self.at(branch), name=self.name(name), op=cast(tree.CompareOp, op), value=value)

    def expr(self, branch: _Branch, depth: int) -> tree.Expr:
        """One expression. Recursion is bounded: `depth` counts nesting, and each link of a chain of operators."""
        if depth > MAX_DEPTH:
            raise _TooDeep
        span, kids, below = self.at(branch), cast(list[_Branch], branch.children), depth + 1
        match branch.data:
            case "name":
                return self.name(branch.children[0])
            case "quantity":
                return self.number(cast(Token, branch.children[0]))
            case "string":
                return self.string(cast(Token, branch.children[0]))
            case "bad_expr":
                return tree.BadExpr(span=span)
            case "choice":
                return tree.Choice(span=span, options=self.exprs(kids, below))
            case "list":
                return tree.ListExpr(span=span, items=self.exprs(kids, below))
            case "cond":
                condition, then, otherwise = self.exprs(kids, below)
                return tree.Cond(span=span, condition=condition, then=then, otherwise=otherwise)
            case "implies" | "or_" | "and_":
                word = cast(tree.BinaryOp, str(branch.data).rstrip("_"))
                return self.chain(kids[0], [(word, kid) for kid in kids[1:]], depth)
            case "sum":
                return self.chain(kids[0], _pairs(branch.children[1:]), depth)
            case "term":
                steps = [(str(cast(_Branch, op).children[0]), kid) for op, kid in _twos(kids[1:])]
                return self.chain(kids[0], steps, depth)
            case "negation":
                return tree.Unary(span=span, op="not", operand=self.expr(kids[0], below))
            case "sign":
                sign = cast("tree.Literal['-', '+']", str(branch.children[0]))
                return tree.Unary(span=span, op=sign, operand=self.expr(kids[1], below))
            case "compare":
                return self.compare(branch, below)
            case "is_" | "is_not":
                subject, pattern = self.expr(kids[0], below), self.pattern(kids[1], below)
                return tree.Is(span=span, subject=subject, negated=branch.data == "is_not", pattern=pattern)
            case "member":
                return tree.In(span=span, member=self.expr(kids[0], below), collection=self.expr(kids[1], below))
            case "arrow":
                return tree.Arrow(span=span, left=self.expr(kids[0], below), right=self.expr(kids[1], below))
            case "range" | "range_from" | "range_to" | "range_all":
                start = self.expr(kids[0], below) if branch.data in ("range", "range_from") else None
                stop = self.expr(kids[-1], below) if branch.data in ("range", "range_to") else None
                return tree.Range(span=span, start=start, stop=stop)
            case "attribute":
                return tree.Attribute(span=span, target=self.expr(kids[0], below), name=self.name(kids[1]))
            case "index":
                items, where = self.subscript(kids[1], below)
                return tree.Index(span=span, target=self.expr(kids[0], below), items=items, where=where)
            case "call":
                arguments = self.arguments(kids[1], below) if len(kids) > 1 else ()
                return tree.Call(span=span, function=self.expr(kids[0], below), arguments=arguments)
        raise AssertionError(f"no expression: {branch.data}")

    def exprs(self, branches: Sequence[_Branch], depth: int) -> tuple[tree.Expr, ...]:
        return tuple(self.expr(b, depth) for b in branches)

    def chain(self, first: _Branch, steps: list[tuple[str, _Branch]], depth: int) -> tree.Expr:
        """`a + b - c` as nested `Binary`s, the leftmost innermost."""
        depth += len(steps)
        if depth > MAX_DEPTH:
            raise _TooDeep
        left = self.expr(first, depth)
        start = self.at(first)
        for op, branch in steps:
            right = self.expr(branch, depth)
            span = start.to(self.at(branch))
            left = tree.Binary(span=span, op=cast(tree.BinaryOp, op), left=left, right=right)
        return left

    def compare(self, branch: _Branch, depth: int) -> tree.Compare:
        operators = [t for t in branch.children if isinstance(t, Token)]
        return tree.Compare(
            span=self.at(branch),
            operands=self.exprs([kid for kid in branch.children if isinstance(kid, Tree)], depth),
            ops=tuple(cast(tree.CompareOp, str(t)) for t in operators),
            op_spans=tuple(self.at(t) for t in operators),
        )

    def subscript(self, branch: _Branch, depth: int) -> tuple[tuple[tree.Expr, ...], tree.Expr | None]:
        kids = cast(list[_Branch], branch.children)
        where = None
        if kids and kids[-1].data == "where":
            where = self.expr(cast(_Branch, kids[-1].children[0]), depth)
            kids = kids[:-1]
        return self.exprs(kids, depth), where

    def arguments(self, branch: _Branch, depth: int) -> tuple[tree.Argument, ...]:
        if branch.data == "comprehension":
            element, name, collection, *rest = branch.children
            where = self.expr(cast(_Branch, cast(_Branch, rest[0]).children[0]), depth) if rest else None
            value = tree.Comprehension(
                span=self.at(branch),
                element=self.expr(cast(_Branch, element), depth),
                variable=self.name(name),
                collection=self.expr(cast(_Branch, collection), depth),
                where=where,
            )
            return (tree.Argument(span=self.at(branch), name=None, value=value),)
        return tuple(self.argument(cast(_Branch, kid), depth) for kid in branch.children)

    def argument(self, branch: _Branch, depth: int) -> tree.Argument:
        *name, value = branch.children
        named = self.name(name[0]) if name else None
        return tree.Argument(span=self.at(branch), name=named, value=self.expr(cast(_Branch, value), depth))


def _twos(items: Sequence[_Branch]) -> list[tuple[_Branch, _Branch]]:
    return list(zip(items[::2], items[1::2], strict=True))


def _pairs(items: Sequence[_Branch | Token]) -> list[tuple[str, _Branch]]:
    return [(str(op), cast(_Branch, kid)) for op, kid in zip(items[::2], items[1::2], strict=True)]
