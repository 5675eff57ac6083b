"""Convert Lark's parse tree to the syntax tree: items and statements. Unreadable parts become `BadExpr` or are left out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, cast

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.syntax import errors, tree
from puzzledsl.syntax.build_expr import Branch, ExprBuilder
from puzzledsl.syntax.lark_alone import Token, Tree
from puzzledsl.syntax.newlines import MAX_DEPTH
from puzzledsl.syntax.tokens import Words


def build(root: Branch, words: Words, sink: Sink) -> tree.Module:
    """Return the module of a parse tree; the caller sets `broken`."""
    builder = _Builder(words, sink)
    items: list[tree.Item] = []
    for branch in cast(list[Branch], root.children):
        if branch.data == "bad":
            _adopt(items, builder.statements(branch, 0))
        else:
            items.append(builder.item(branch))
    lines = [line for item in items for line in (item.span.line, item.span.end_line)]
    end = max(lines, default=1)
    return tree.Module(span=Span(words.file, 1, 1, end + 1, 1), items=tuple(items))


def _adopt(items: list[tree.Item], statements: tuple[tree.Stmt, ...]) -> None:
    """Return statements that a superfluous `}` cut off to the declaration above them."""
    if statements and items and isinstance(last := items[-1], tree.Decl) and last.body is not None:
        items[-1] = dataclasses.replace(last, body=(*last.body, *statements))


@dataclass(slots=True)
class _Builder(ExprBuilder):
    next_doc: int = 0

    # ------------------------------------------------------------ items

    def doc(self, before_line: int) -> str:
        """Return the doc comments between the previous item and this line, without their comment marks."""
        lines: list[str] = []
        docs = self.words.docs
        while self.next_doc < len(docs) and (docs[self.next_doc].line or 0) < before_line:
            lines.append(str(docs[self.next_doc])[2:].removeprefix(" ").rstrip())
            self.next_doc += 1
        return "\n".join(lines)

    def item(self, branch: Branch) -> tree.Item:
        span = self.at(branch)
        doc = self.doc(span.line)
        kids = branch.children
        result: tree.Item
        match branch.data:
            case "use":
                result = self.use(branch, span)
            case "param":
                result = self.param(branch, span, doc)
            case "fn":
                parameters = self.names(cast(Branch, kids[1])) if len(kids) > 2 else ()
                value = self.init(cast(Branch, kids[-1]))
                result = tree.Fn(
                    span=span, name=self.name(kids[0]), parameters=parameters, value=value, doc=doc
                )
            case "decl":
                result = self.decl(branch, span, doc)
            case _:
                result = cast(tree.Let | tree.Assert, self.statement(branch, 0))
        self.doc(span.end_line + 1)  # doc comments inside a body belong to nothing
        return result

    def use(self, branch: Branch, span: Span) -> tree.Use:
        path, alias = self.string(cast(Token, branch.children[0])), None
        names: tuple[tree.Name, ...] = ()
        for kid in cast(list[Branch], branch.children[1:]):
            if kid.data == "alias":
                alias = self.name(kid.children[0])
            else:
                names = self.names(kid)
        return tree.Use(span=span, path=path, names=names, alias=alias)

    def param(self, branch: Branch, span: Span, doc: str) -> tree.Param:
        name, *types = (self.name(kid) for kid in branch.children if isinstance(kid, Token))
        last = branch.children[-1]
        default = self.init(last) if isinstance(last, Tree) else None
        words = tuple(types) if len(types) > 1 else ()
        return tree.Param(span=span, name=name, type=types[0], default=default, words=words, doc=doc)

    def decl(self, branch: Branch, span: Span, doc: str) -> tree.Decl:
        kind, name = (self.name(t) for t in branch.children[:2])
        preposition, target, value, body = None, None, None, None
        for kid in branch.children[2:]:
            if isinstance(kid, Token):
                continue  # an ERROR: the tail of the head could not be read
            if kid.data == "target":
                preposition = str(cast(Branch, kid.children[0]).children[0])
                target = self.value(kid.children[1])
            elif kid.data == "init":
                value = self.init(kid)
            else:
                body = self.body(kid, 1)
        return tree.Decl(
            span=span,
            kind=kind,
            name=name,
            preposition=cast("Literal['of', 'on'] | None", preposition),
            target=target,
            value=value,
            body=body,
            doc=doc,
        )

    # ------------------------------------------------------------ statements

    def body(self, branch: Branch, depth: int) -> tuple[tree.Stmt, ...]:
        found: list[tree.Stmt] = []
        if depth > MAX_DEPTH // 4:
            self.sink.add(errors.TooDeep(self.at(branch), limit=MAX_DEPTH // 4, help=""))
            return ()
        for kid in cast(list[Branch], branch.children):
            found += self.statements(kid, depth) if kid.data == "bad" else [self.statement(kid, depth)]
        return tuple(s for s in found if not (isinstance(s, tree.Section) and not s.name.text))

    def statements(self, bad: Branch, depth: int) -> tuple[tree.Stmt, ...]:
        """Return the statements of the body behind an unreadable head."""
        bodies = [kid for kid in bad.children if isinstance(kid, Tree)]
        return self.body(bodies[0], depth + 1) if bodies else ()

    def statement(self, branch: Branch, depth: int) -> tree.Stmt:
        span, kids = self.at(branch), branch.children
        because = None
        if len(kids) > 1 and isinstance(kids[-1], Tree) and kids[-1].data == "because":
            because = self.string(cast(Token, kids[-1].children[0]))
        match branch.data:
            case "assign" | "extend" | "remove" | "keep":
                op = {"assign": "=", "extend": "|=", "remove": "-=", "keep": "&="}[branch.data]
                value = self.edit(kids[1]) if op in ("-=", "&=") else self.value(kids[1])
                return tree.Assign(
                    span=span, target=self.value(kids[0]), op=cast(tree.AssignOp, op), value=value
                )
            case "section":
                return tree.Section(
                    span=span, name=self.name(kids[0]), body=self.body(cast(Branch, kids[1]), depth + 1)
                )
            case "forall":
                guard = self.value(cast(Branch, kids[2]).children[0]) if len(kids) > 3 else None
                body = self.body(cast(Branch, kids[-1]), depth + 1)
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
                apart = self.value(cast(Branch, kids[1]).children[0]) if len(kids) > 1 else None
                return tree.Solutions(span=span, count=self.value(kids[0]), apart=apart)
            case "let":
                return tree.Let(span=span, name=self.name(kids[0]), value=self.init(cast(Branch, kids[1])))
            case "assertion":
                return tree.Assert(span=span, condition=self.value(kids[0]), because=because)
        raise AssertionError(f"no statement: {branch.data}")
