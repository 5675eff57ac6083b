"""Convert the parse tree to the syntax tree. Unreadable parts become `BadExpr` or are left out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from puzzledsl.base.diagnostics import Fix, Sink, Span
from puzzledsl.base.units import BadLiteral, parse_quantity
from puzzledsl.syntax import errors, tree
from puzzledsl.syntax.machine import Branch
from puzzledsl.syntax.newlines import MAX_DEPTH
from puzzledsl.syntax.tokens import Token, Words, span_of

MAX_BODIES = MAX_DEPTH // 4
"""Largest nesting depth of bodies: a body takes several levels of the stack of later stages."""

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_ASSIGNMENTS: dict[str, tree.AssignOp] = {"assign": "=", "extend": "|=", "remove": "-=", "keep": "&="}


class _TooDeep(Exception):
    """Raised for an expression nested too deeply; caught at the whole value."""


def build(root: Branch, words: Words, sink: Sink) -> tree.Module:
    """Return the module of a parse tree; the caller sets `broken`."""
    builder = _Builder(words, sink)
    items: list[tree.Item] = []
    for branch in root.children:
        if branch.data == "bad":
            _adopt(items, builder.below(branch, 0))
        else:
            items.append(builder.item(branch))
    end = max((line for item in items for line in (item.span.line, item.span.end_line)), default=1)
    return tree.Module(span=Span(words.file, 1, 1, end + 1, 1), items=tuple(items))


def _adopt(items: list[tree.Item], statements: tuple[tree.Stmt, ...]) -> None:
    """Return statements that a superfluous `}` cut off to the declaration above them."""
    if statements and items and isinstance(last := items[-1], tree.Decl) and last.body is not None:
        items[-1] = dataclasses.replace(last, body=(*last.body, *statements))


@dataclass(slots=True)
class _Builder:
    words: Words
    sink: Sink
    next_doc: int = 0

    def at(self, part: Branch | Token) -> Span:
        """Return the span of a branch or a token."""
        if isinstance(part, Token):
            return span_of(part, self.words.file)
        return Span(self.words.file, *(part.start or (1, 1)), *(part.end or (1, 1)))

    # ------------------------------------------------------------ items

    def doc(self, before_line: int) -> str:
        """Return the doc comments between the previous item and this line, without their comment marks."""
        lines: list[str] = []
        docs = self.words.docs
        while self.next_doc < len(docs) and docs[self.next_doc].line < before_line:
            lines.append(docs[self.next_doc][2:].removeprefix(" ").rstrip())
            self.next_doc += 1
        return "\n".join(lines)

    def item(self, branch: Branch) -> tree.Item:
        span = self.at(branch)
        doc = self.doc(span.line)
        result = self._item(branch, span, doc)
        self.doc(span.end_line + 1)  # doc comments inside a body belong to nothing
        return result

    def _item(self, branch: Branch, span: Span, doc: str) -> tree.Item:
        first, *rest = branch.children
        parts = {kid.data: kid.children for kid in rest if isinstance(kid, Branch)}
        value = self.value(parts["init"][0]) if "init" in parts else None
        match branch.data:
            case "use":
                alias = self.name(parts["alias"][0]) if "alias" in parts else None
                names = self.names(parts.get("names", ()))
                return tree.Use(span=span, path=self.string(first), names=names, alias=alias)
            case "param":
                words = self.names(kid for kid in rest if isinstance(kid, Token))
                listed = words if len(words) > 1 else ()
                return tree.Param(
                    span=span, name=self.name(first), type=words[0], default=value, words=listed, doc=doc
                )
            case "fn":
                assert value is not None
                parameters = self.names(parts.get("names", ()))
                return tree.Fn(span=span, name=self.name(first), parameters=parameters, value=value, doc=doc)
            case "decl":  # an ERROR among the rest: the tail of the head could not be read
                target, body = parts.get("target"), next((kid for kid in rest if _is(kid, "body")), None)
                return tree.Decl(
                    span=span,
                    kind=self.name(first),
                    name=self.name(rest[0]),
                    preposition=None if target is None else str(target[0].children[0]),  # type: ignore[arg-type]
                    target=None if target is None else self.value(target[1]),
                    value=value,
                    body=None if body is None else self.body(body, 1),
                    doc=doc,
                )
        statement = self.statement(branch, 0)
        assert isinstance(statement, tree.Let | tree.Assert)
        return statement

    # ------------------------------------------------------------ statements

    def body(self, branch: Branch, depth: int) -> tuple[tree.Stmt, ...]:
        if depth > MAX_BODIES:
            self.sink.add(errors.TooDeep(self.at(branch), limit=MAX_BODIES, help=""))
            return ()
        found: list[tree.Stmt] = []
        for kid in branch.children:
            found += self.below(kid, depth) if kid.data == "bad" else [self.statement(kid, depth)]
        return tuple(s for s in found if not (isinstance(s, tree.Section) and not s.name.text))

    def below(self, bad: Branch, depth: int) -> tuple[tree.Stmt, ...]:
        """Return the statements of the body behind an unreadable head."""
        bodies = [kid for kid in bad.children if isinstance(kid, Branch)]
        return self.body(bodies[0], depth + 1) if bodies else ()

    def statement(self, branch: Branch, depth: int) -> tree.Stmt:
        span, kids = self.at(branch), branch.children
        because = self.string(kids[-1].children[0]) if _is(kids[-1], "because") else None
        match branch.data:
            case "assign" | "extend":
                op = _ASSIGNMENTS[branch.data]
                return tree.Assign(span=span, target=self.value(kids[0]), op=op, value=self.value(kids[1]))
            case "remove" | "keep":
                op = _ASSIGNMENTS[branch.data]
                return tree.Assign(span=span, target=self.value(kids[0]), op=op, value=self.edit(kids[1]))
            case "section":
                return tree.Section(span=span, name=self.name(kids[0]), body=self.body(kids[1], depth + 1))
            case "forall":
                guard = self.value(kids[2].children[0]) if len(kids) > 3 else None
                body = self.body(kids[-1], depth + 1)
                variable, domain = self.name(kids[0]), self.value(kids[1])
                return tree.ForAll(span=span, variable=variable, domain=domain, where=guard, body=body)
            case "require":
                return tree.Require(span=span, condition=self.value(kids[0]), because=because)
            case "prefer":
                return tree.Prefer(span=span, condition=self.value(kids[0]), because=because)
            case "minimize" | "maximize":
                sense: Any = branch.data
                return tree.Objective(span=span, sense=sense, expression=self.value(kids[0]))
            case "solutions":
                apart = self.value(kids[1].children[0]) if len(kids) > 1 else None
                return tree.Solutions(span=span, count=self.value(kids[0]), apart=apart)
            case "let":
                return tree.Let(span=span, name=self.name(kids[0]), value=self.value(kids[1].children[0]))
            case "assertion":
                return tree.Assert(span=span, condition=self.value(kids[0]), because=because)
        raise AssertionError(f"no statement: {branch.data}")

    # ------------------------------------------------------------ words

    def name(self, token: Token) -> tree.Name:
        """Return a name with its span."""
        return tree.Name(span=self.at(token), text=str(token))

    def names(self, tokens: Iterable[Token]) -> tuple[tree.Name, ...]:
        """Return names with their spans."""
        return tuple(map(self.name, tokens))

    def string(self, token: Token) -> tree.String:
        """Return a string with its escapes resolved; a wrong escape is reported and kept."""

        def unescape(match: re.Match[str]) -> str:
            letter = match.group(1)
            if letter not in _ESCAPES and token.line not in self.words.tainted:
                start = token.column + 1 + match.start()
                span = Span(self.words.file, token.line, start, token.line, start + 2)
                self.sink.add(errors.BadEscape(span, escape=match.group()))
            return _ESCAPES.get(letter, match.group())

        return tree.String(span=self.at(token), value=re.sub(r"\\(.)", unescape, token[1:-1]))

    def number(self, token: Token) -> tree.Expr:
        """Return a number; BadExpr, and a diagnostic, for one without a value."""
        where = self.at(token)
        try:
            parse_quantity(str(token))
        except BadLiteral as error:
            fixes = [Fix.replace(where, error.meant)] if error.meant else []
            self.sink.add(errors.BadNumber(where, why=str(error), help=error.help, fixes=fixes))
            return tree.BadExpr(span=where)
        return tree.Literal_(span=where, text=str(token))

    # ------------------------------------------------------------ values

    def value(self, branch: Branch) -> tree.Expr:
        """Return a whole expression; BadExpr for bad tokens, unbalanced brackets or too much nesting."""
        found: tree.Expr = self._whole(branch, self.expr)
        return found

    def edit(self, branch: Branch) -> tree.Expr | tree.Pattern | tree.PatternChoice:
        """Return the right side of `-=` or `&=`: one pattern or several; BadExpr if it is unreadable."""
        read = self.expr if branch.data == "bad_expr" else self.patterns
        found: tree.Expr | tree.Pattern | tree.PatternChoice = self._whole(branch, read)
        return found

    def _whole(self, branch: Branch, read: Any) -> Any:
        span = self.at(branch)
        try:
            found = read(branch, 0)
        except _TooDeep:
            self.sink.add(errors.TooDeep(span, limit=MAX_DEPTH))
            return tree.BadExpr(span=span)
        readable = self.words.tainted.isdisjoint(range(span.line, span.end_line + 1))
        return found if readable else tree.BadExpr(span=span)

    def patterns(self, branch: Branch, depth: int) -> tree.Pattern | tree.PatternChoice:
        if branch.data == "pattern":
            return self.pattern(branch, depth)
        options = tuple(self.pattern(kid, depth) for kid in branch.children)
        return options[0] if len(options) == 1 else tree.PatternChoice(span=self.at(branch), options=options)

    def pattern(self, branch: Branch, depth: int) -> tree.Pattern:
        name, *fields = branch.children
        found = tuple(
            tree.PatternField(
                span=self.at(field),
                name=self.name(field.children[0]),
                op=str(field.children[1]) if field.data == "bound" else "==",  # type: ignore[arg-type]
                value=self.expr(field.children[-1], depth + 1),
            )
            for field in fields
        )
        return tree.Pattern(span=self.at(branch), name=self.name(name), fields=found)

    def exprs(self, branches: Iterable[Branch], depth: int) -> tuple[tree.Expr, ...]:
        return tuple(self.expr(branch, depth) for branch in branches)

    def expr(self, branch: Branch, depth: int) -> tree.Expr:
        """Return one expression. `depth` bounds the recursion: it counts nesting and each link of an operator chain."""
        if depth > MAX_DEPTH:
            raise _TooDeep
        span, kids, below = self.at(branch), branch.children, depth + 1
        match branch.data:
            case "name":
                return self.name(kids[0]) if kids[0] else tree.BadExpr(span=span)
            case "quantity":
                return self.number(kids[0])
            case "string":
                return self.string(kids[0])
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
                return self.chain(span, kids[0], [(branch.data.rstrip("_"), kid) for kid in kids[1:]], depth)
            case "sum" | "term":
                return self.chain(span, kids[0], list(zip(kids[1::2], kids[2::2], strict=True)), depth)
            case "negation":
                return tree.Unary(span=span, op="not", operand=self.expr(kids[0], below))
            case "sign":
                return tree.Unary(span=span, op=str(kids[0]), operand=self.expr(kids[1], below))  # type: ignore[arg-type]
            case "compare":
                operands, signs = self.exprs(kids[::2], below), kids[1::2]
                ops: Any = tuple(str(sign) for sign in signs)
                return tree.Compare(
                    span=span, operands=operands, ops=ops, op_spans=tuple(map(self.at, signs))
                )
            case "is_" | "is_not":
                subject, pattern = self.expr(kids[0], below), self.patterns(kids[1], below)
                return tree.Is(span=span, subject=subject, negated=branch.data == "is_not", pattern=pattern)
            case "member":
                member, collection = self.exprs(kids, below)
                return tree.In(span=span, member=member, collection=collection)
            case "same_as" | "arrow":
                left, right = self.exprs((kids[0], kids[-1]), below)
                form = tree.SameAs if branch.data == "same_as" else tree.Arrow
                return form(span=span, left=left, right=right)
            case "range" | "range_from" | "range_to" | "range_all":
                return self.range(branch, below)
            case "attribute":
                return tree.Attribute(span=span, target=self.expr(kids[0], below), name=self.name(kids[1]))
            case "index":
                *slices, last = kids[1].children
                where = self.expr(last.children[0], below) if last.data == "where" else None
                items = self.exprs(slices if where is not None else [*slices, last], below)
                return tree.Index(span=span, target=self.expr(kids[0], below), items=items, where=where)
            case "call":
                arguments = self.arguments(kids[1], below) if len(kids) > 1 else ()
                return tree.Call(span=span, function=self.expr(kids[0], below), arguments=arguments)
        raise AssertionError(f"no expression: {branch.data}")

    def range(self, branch: Branch, depth: int) -> tree.Range:
        kids = list(branch.children)
        step = self.expr(kids.pop().children[0], depth) if kids and _is(kids[-1], "step") else None
        start = self.expr(kids[0], depth) if branch.data in ("range", "range_from") else None
        stop = self.expr(kids[-1], depth) if branch.data in ("range", "range_to") else None
        return tree.Range(span=self.at(branch), start=start, stop=stop, step=step)

    def chain(self, whole: Span, first: Branch, steps: list[tuple[Any, Branch]], depth: int) -> tree.Expr:
        """Return `a + b - c` as nested, left-associative `Binary`s."""
        depth += len(steps)
        if depth > MAX_DEPTH:
            raise _TooDeep
        left = self.expr(first, depth)
        for op, branch in steps:
            end = (
                self.at(branch).end if branch is not steps[-1][1] else whole.end
            )  # which counts a closing bracket in
            op = str(op.children[0] if isinstance(op, Branch) else op)
            left = tree.Binary(span=whole.start.to(end), op=op, left=left, right=self.expr(branch, depth))  # type: ignore[arg-type]
        return left

    def arguments(self, branch: Branch, depth: int) -> tuple[tree.Argument, ...]:
        if branch.data == "comprehension":
            span, (element, name, collection, *rest) = self.at(branch), branch.children
            value = tree.Comprehension(
                span=span,
                element=self.expr(element, depth),
                variable=self.name(name),
                collection=self.expr(collection, depth),
                where=self.expr(rest[0].children[0], depth) if rest else None,
            )
            return (tree.Argument(span=span, name=None, value=value),)
        return tuple(
            tree.Argument(
                span=self.at(kid),
                name=self.name(kid.children[0]) if kid.data == "named" else None,
                value=self.expr(kid.children[-1], depth),
            )
            for kid in branch.children
        )


def _is(part: Branch | Token, data: str) -> bool:
    return isinstance(part, Branch) and part.data == data
