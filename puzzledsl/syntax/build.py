"""Convert the parse tree to the syntax tree. Unreadable parts become `BadExpr` or are left out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
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
_FORMS: Mapping[str, tuple[type[tree.Node], Mapping[str, object]]] = {
    "use": (tree.Use, {"names": (), "alias": None}),
    "fn": (tree.Fn, {"parameters": (), "doc": ""}),
    "let": (tree.Let, {}),
    "assertion": (tree.Assert, {"because": None}),
    "assign": (tree.Assign, {"op": "="}),
    "extend": (tree.Assign, {"op": "|="}),
    "remove": (tree.Assign, {"op": "-="}),
    "keep": (tree.Assign, {"op": "&="}),
    "section": (tree.Section, {}),
    "forall": (tree.ForAll, {"where": None}),
    "require": (tree.Require, {"because": None}),
    "prefer": (tree.Prefer, {"because": None}),
    "minimize": (tree.Objective, {"sense": "minimize"}),
    "maximize": (tree.Objective, {"sense": "maximize"}),
    "solutions": (tree.Solutions, {"apart": None}),
    "cond": (tree.Cond, {}),
    "negation": (tree.Unary, {"op": "not"}),
    "is_": (tree.Is, {"negated": False}),
    "is_not": (tree.Is, {"negated": True}),
    "member": (tree.In, {}),
    "same_as": (tree.SameAs, {}),
    "arrow": (tree.Arrow, {}),
    "range": (tree.Range, {"step": None}),
    "range_from": (tree.Range, {"stop": None, "step": None}),
    "range_to": (tree.Range, {"start": None, "step": None}),
    "range_all": (tree.Range, {"start": None, "stop": None, "step": None}),
    "attribute": (tree.Attribute, {}),
    "named": (tree.Argument, {}),
    "positional": (tree.Argument, {"name": None}),
    "comprehension": (tree.Comprehension, {"where": None}),
    "bound": (tree.PatternField, {}),
    "equal": (tree.PatternField, {"op": "=="}),
}
"""Rule of the grammar -> its class, and the fields that no child gives or need not give."""
_CHILDREN = {
    rule: [name for name in form.__dataclass_fields__ if name != "span" and name not in given]
    for rule, (form, given) in _FORMS.items()
}
"""Rule of the grammar -> the fields that its children give, in order."""
_PARTS = {"init": "value", "guard": "where"} | {n: n for n in ("because", "apart", "alias", "step", "where")}
"""Rule of a part that is known by its keyword -> the field that it gives."""
_LISTS: Mapping[str, tuple[type[tree.Node], str]] = {
    "choice": (tree.Choice, "options"),
    "list": (tree.ListExpr, "items"),
}


class _TooDeep(Exception):
    """Raised for an expression nested too deeply; caught at the whole value."""


def build(root: Branch, words: Words, sink: Sink) -> tree.Module:
    """Return the module of a parse tree; the caller sets `broken`."""
    builder = _Builder(words, sink)
    items: list[tree.Item] = []
    for branch in root.children:
        if branch.data != "bad":
            items.append(builder.item(branch))
            continue
        cut = builder.below(branch, 0)  # statements that a superfluous `}` cut off
        if cut and items and isinstance(last := items[-1], tree.Decl) and last.body is not None:
            items[-1] = dataclasses.replace(last, body=(*last.body, *cut))
    end = max((line for item in items for line in (item.span.line, item.span.end_line)), default=1)
    return tree.Module(span=Span(words.file, 1, 1, end + 1, 1), items=tuple(items))


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

    def made(self, branch: Branch, below: int | None = None, depth: int = 0) -> Any:
        """Return the node of a branch whose children are fields of one class.

        `below`: the depth of the expressions among them, in an expression. `depth`: of the body that a statement stands in.
        """
        form, given = _FORMS[branch.data]
        found, left = dict(given), iter(_CHILDREN[branch.data])
        for kid in branch.children:
            if isinstance(kid, Token):
                if kid.type == "NAME":
                    found[next(left)] = self.name(kid)
                elif kid.type in ("STRING", "CMP"):
                    found[next(left)] = self.string(kid) if kid.type == "STRING" else str(kid)
            elif kid.data in _PARTS:
                inner = kid.children[0]
                if isinstance(inner, Token):
                    found[_PARTS[kid.data]] = (
                        self.string(inner) if inner.type == "STRING" else self.name(inner)
                    )
                else:
                    found[_PARTS[kid.data]] = self.value(inner) if below is None else self.expr(inner, below)
            elif kid.data == "names":
                found["parameters" if form is tree.Fn else "names"] = self.names(kid.children)
            elif kid.data == "body":
                found["body"] = self.body(kid, depth + 1)
            else:
                found[next(left)] = self.value(kid) if below is None else self.expr(kid, below)
        return form(span=self.at(branch), **found)

    # ------------------------------------------------------------ items and statements

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
        result: Any
        match branch.data:
            case "param":
                result = self.param(branch, span, doc)
            case "decl":
                result = self.decl(branch, span, doc)
            case _:
                result = self.made(branch)
                if isinstance(result, tree.Fn):
                    result = dataclasses.replace(result, doc=doc)
        self.doc(span.end_line + 1)  # doc comments inside a body belong to nothing
        return result  # type: ignore[no-any-return]

    def param(self, branch: Branch, span: Span, doc: str) -> tree.Param:
        name, *words = self.names(kid for kid in branch.children if isinstance(kid, Token))
        last = branch.children[-1]
        default = self.value(last.children[0]) if isinstance(last, Branch) else None
        listed = tuple(words) if len(words) > 1 else ()
        return tree.Param(span=span, name=name, type=words[0], default=default, words=listed, doc=doc)

    def decl(self, branch: Branch, span: Span, doc: str) -> tree.Decl:
        kind, name, *rest = branch.children
        parts = {
            kid.data: kid for kid in rest if isinstance(kid, Branch)
        }  # beside an ERROR for an unreadable tail
        target, init, body = (parts.get(part) for part in ("target", "init", "body"))
        return tree.Decl(
            span=span,
            kind=self.name(kind),
            name=self.name(name),
            preposition=None if target is None else str(target.children[0].children[0]),  # type: ignore[arg-type]
            target=None if target is None else self.value(target.children[1]),
            value=None if init is None else self.value(init.children[0]),
            body=None if body is None else self.body(body, 1),
            doc=doc,
        )

    def body(self, branch: Branch, depth: int) -> tuple[tree.Stmt, ...]:
        if depth > MAX_BODIES:
            self.sink.add(errors.TooDeep(self.at(branch), limit=MAX_BODIES, help=""))
            return ()
        found: list[tree.Stmt] = []
        for kid in branch.children:
            found += self.below(kid, depth) if kid.data == "bad" else [self.made(kid, depth=depth)]
        return tuple(s for s in found if not (isinstance(s, tree.Section) and not s.name.text))

    def below(self, bad: Branch, depth: int) -> tuple[tree.Stmt, ...]:
        """Return the statements of the body behind an unreadable head."""
        bodies = [kid for kid in bad.children if isinstance(kid, Branch)]
        return self.body(bodies[0], depth + 1) if bodies else ()

    # ------------------------------------------------------------ words

    def name(self, token: Token) -> tree.Name:
        return tree.Name(span=span_of(token, self.words.file), text=str(token))

    def names(self, tokens: Iterable[Token]) -> tuple[tree.Name, ...]:
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

        return tree.String(
            span=span_of(token, self.words.file), value=re.sub(r"\\(.)", unescape, token[1:-1])
        )

    def number(self, token: Token) -> tree.Expr:
        """Return a number; BadExpr, and a diagnostic, for one without a value."""
        where = span_of(token, self.words.file)
        try:
            parse_quantity(str(token))
        except BadLiteral as error:
            fixes = [Fix.replace(where, error.meant)] if error.meant else []
            self.sink.add(errors.BadNumber(where, why=str(error), help=error.help, fixes=fixes))
            return tree.BadExpr(span=where)
        return tree.Literal_(span=where, text=str(token))

    # ------------------------------------------------------------ values

    def value(self, branch: Branch) -> Any:
        """Return a whole expression or pattern; BadExpr for bad tokens, unbalanced brackets or too much nesting."""
        span = self.at(branch)
        try:
            found = self.expr(branch, 0)
        except _TooDeep:
            self.sink.add(errors.TooDeep(span, limit=MAX_DEPTH))
            return tree.BadExpr(span=span)
        readable = self.words.tainted.isdisjoint(range(span.line, span.end_line + 1))
        return found if readable else tree.BadExpr(span=span)

    def expr(self, branch: Branch, depth: int) -> Any:
        """Return one expression. `depth` bounds the recursion: it counts nesting and each link of an operator chain."""
        if depth > MAX_DEPTH:
            raise _TooDeep
        kids = branch.children

        def read(kid: Branch) -> Any:
            return self.expr(kid, depth + 1)

        match branch.data:
            case "name" if kids[0]:
                return self.name(kids[0])
            case "quantity":
                return self.number(kids[0])
            case "string":
                return self.string(kids[0])
            case form if form in _FORMS:
                return self.made(branch, depth + 1)
        span = self.at(branch)
        match branch.data:
            case "name" | "bad_expr":
                return tree.BadExpr(span=span)
            case "sum" | "term":
                return self.chain(span, kids[0], list(zip(kids[1::2], kids[2::2], strict=True)), depth)
            case "implies" | "or_" | "and_":
                return self.chain(span, kids[0], [(branch.data.rstrip("_"), kid) for kid in kids[1:]], depth)
            case "compare":
                signs, ops = tuple(map(self.at, kids[1::2])), tuple(map(str, kids[1::2]))
                operands = tuple(map(read, kids[::2]))
                return tree.Compare(span=span, operands=operands, ops=ops, op_spans=signs)  # type: ignore[arg-type]
            case "sign":
                return tree.Unary(span=span, op=str(kids[0]), operand=read(kids[1]))  # type: ignore[arg-type]
            case "index":
                *slices, last = kids[1].children
                where = read(last.children[0]) if last.data == "where" else None
                items = tuple(map(read, slices if where is not None else kids[1].children))
                return tree.Index(span=span, target=read(kids[0]), items=items, where=where)
            case "call":
                inside = [] if len(kids) == 1 else kids[1].children
                if len(kids) > 1 and kids[1].data == "comprehension":
                    given = tree.Argument(span=self.at(kids[1]), name=None, value=read(kids[1]))
                    return tree.Call(span=span, function=read(kids[0]), arguments=(given,))
                return tree.Call(span=span, function=read(kids[0]), arguments=tuple(map(read, inside)))
            case "pattern":
                fields = tuple(map(read, kids[1:]))
                return tree.Pattern(span=span, name=self.name(kids[0]), fields=fields)
            case "pattern_choice":
                options = tuple(map(read, kids))
                return options[0] if len(options) == 1 else tree.PatternChoice(span=span, options=options)
        kind, field = _LISTS[branch.data]
        return kind(span=span, **{field: tuple(map(read, kids))})

    def chain(self, whole: Span, first: Branch, steps: list[tuple[Any, Branch]], depth: int) -> tree.Expr:
        """Return `a + b - c` as nested, left-associative `Binary`s."""
        depth += len(steps)
        if depth > MAX_DEPTH:
            raise _TooDeep
        left = self.expr(first, depth)
        for op, branch in steps:
            last = branch is steps[-1][1]  # whose end counts a closing bracket in
            span = whole.start.to(whole.end if last else self.at(branch).end)
            sign = str(op.children[0] if isinstance(op, Branch) else op)
            left = tree.Binary(span=span, op=sign, left=left, right=self.expr(branch, depth))  # type: ignore[arg-type]
        return left  # type: ignore[no-any-return]
