"""Parsing of a text to the syntax tree, with `parse` as entry point. Unreadable parts become `BadExpr` or are left out."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import Fix, Sink, Span
from puzzledsl.base.phrases import closest
from puzzledsl.base.units import BadLiteral, parse_quantity
from puzzledsl.syntax import errors, tree
from puzzledsl.syntax.newlines import MAX_DEPTH, lay_out
from puzzledsl.syntax.recover import MAX_MISTAKES, parse_tokens
from puzzledsl.syntax.tokens import Branch, Token, Words, lex, span_of
from puzzledsl.syntax.words import read_words

MAX_BODIES = MAX_DEPTH // 4
"""Largest nesting depth of bodies. It is below MAX_DEPTH, because later stages recurse several times for each body."""
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_FORMS: Mapping[str, tuple[type[tree.Node], Mapping[str, object]]] = {
    **{form.__name__.lower(): (form, {}) for form in tree.Node.__subclasses__()},
    **{rule: (tree.Assign, {"op": op}) for rule, op in (("assign", "="), ("extend", "|="), ("remove", "-="))},
    "keep": (tree.Assign, {"op": "&="}),
    "minimize": (tree.Objective, {"sense": "minimize"}),
    "maximize": (tree.Objective, {"sense": "maximize"}),
    "sign": (tree.Unary, {}),
    "negation": (tree.Unary, {"op": "not"}),
    "is": (tree.Is, {"negated": False}),
    "is_not": (tree.Is, {"negated": True}),
    "range_from": (tree.Range, {"stop": None}),
    "range_to": (tree.Range, {"start": None}),
    "range_all": (tree.Range, {"start": None, "stop": None}),
    "named": (tree.Argument, {}),
    "argument": (tree.Argument, {"name": None}),
    "bound": (tree.PatternField, {}),
    "equal": (tree.PatternField, {"op": "=="}),
}
"""Rule of the grammar -> the class of its node, and values of the fields that its children do not give."""
_PARTS = {name: name for name in "default where because apart alias step preposition".split()}
_PARTS |= {"init": "value", "guard": "where"}
"""Rule for a part behind a keyword, such as `because` -> the field of the node that it gives."""


class _TooDeep(Exception):
    """Raised for an expression nested too deeply; caught at the whole value."""


def build(root: Branch, words: Words, sink: Sink) -> tree.Module:
    """Return the syntax tree of a parse tree; mistakes go to `sink`. The caller sets `broken`."""
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
        """Return a branch's node. `below`: depth of its expressions (None: whole values); `depth`: of the body that it is in."""
        form, given = _FORMS[branch.data]
        found, plain = dict(given), list[Any]()
        for kid in branch.children:
            if isinstance(kid, Branch) and kid.data == "body":
                found["body"] = self.body(kid, depth + 1)
            elif isinstance(kid, Branch) and kid.data in _PARTS:
                found[_PARTS[kid.data]] = self.read(kid.children[0], below)
            elif isinstance(kid, Branch) or kid.type not in ("ERROR", "SAME_AS"):
                plain.append(self.read(kid, below))
        names, rest = _fields(branch.data)
        found.update(zip(names, plain, strict=False))
        if rest:
            found[rest] = tuple(plain[len(names) :])
        return form(span=self.at(branch), **found)

    def read(self, part: Branch | Token, below: int | None) -> Any:
        """Return a name, string, operator or expression. `below`: the depth of an expression in another; None: a whole one."""
        if isinstance(part, Branch):
            return self.value(part) if below is None else self.expr(part, below)
        match part.type:
            case "NAME":
                return self.name(part)
            case "STRING":
                return self.string(part)
            case _:
                return str(part)

    def doc(self, before_line: int) -> str:
        """Return the doc comments between the previous item and this line, without `##`; empty if there are none."""
        lines: list[str] = []
        docs = self.words.docs
        while self.next_doc < len(docs) and docs[self.next_doc].line < before_line:
            lines.append(docs[self.next_doc][2:].removeprefix(" ").rstrip())
            self.next_doc += 1
        return "\n".join(lines)

    def item(self, branch: Branch) -> tree.Item:
        span = self.at(branch)
        doc = self.doc(span.line)
        found: Any = self.made(branch)
        if isinstance(found, tree.Param) and found.words:
            found = dataclasses.replace(found, words=(found.type, *found.words))
        self.doc(span.end_line + 1)  # doc comments inside a body belong to nothing
        return dataclasses.replace(found, doc=doc) if hasattr(found, "doc") else found  # type: ignore[no-any-return]

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

    def name(self, token: Token) -> tree.Name:
        return tree.Name(span=span_of(token, self.words.file), text=str(token))

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
        """Return a number; for one that cannot be read report it and return BadExpr."""
        where = span_of(token, self.words.file)
        try:
            parse_quantity(str(token))
        except BadLiteral as error:
            fixes = [Fix.replace(where, error.meant)] if error.meant else []
            self.sink.add(errors.BadNumber(where, why=str(error), help=error.help, fixes=fixes))
            return tree.BadExpr(span=where)
        return tree.Literal_(span=where, text=str(token))

    def value(self, branch: Branch) -> Any:
        """Return a whole expression or pattern; BadExpr if it nests too deeply, or a line of it has a reported mistake."""
        span = self.at(branch)
        try:
            found = self.expr(branch, 0)
        except _TooDeep:
            self.sink.add(errors.TooDeep(span, limit=MAX_DEPTH))
            return tree.BadExpr(span=span)
        readable = self.words.tainted.isdisjoint(range(span.line, span.end_line + 1))
        return found if readable else tree.BadExpr(span=span)

    def expr(self, branch: Branch, depth: int) -> Any:
        """Return one expression. `depth` counts nesting and the operators of chains; above MAX_DEPTH raises _TooDeep."""
        if depth > MAX_DEPTH:
            raise _TooDeep
        kids = branch.children

        match branch.data:
            case "name" if kids[0]:
                return self.name(kids[0])
            case "quantity":
                return self.number(kids[0])
            case "string":
                return self.string(kids[0])
            case "name" | "bad_expr":
                return tree.BadExpr(span=self.at(branch))
            case "sum" | "term" | "implies" | "or_" | "and_":
                return self.chain(self.at(branch), kids, depth)
            case "compare":
                signs, ops = tuple(map(self.at, kids[1::2])), tuple(map(str, kids[1::2]))
                operands = tuple(self.expr(kid, depth + 1) for kid in kids[::2])
                return tree.Compare(span=self.at(branch), operands=operands, ops=ops, op_spans=signs)  # type: ignore[arg-type]
        return self.made(branch, depth + 1)

    def chain(self, whole: Span, kids: list[Any], depth: int) -> tree.Expr:
        """Return `a + b - c` as nested, left-associative `Binary`s."""
        depth += len(kids) // 2
        if depth > MAX_DEPTH:
            raise _TooDeep
        left = self.expr(kids[0], depth)
        for op, branch in zip(kids[1::2], kids[2::2], strict=True):
            end = whole.end if branch is kids[-1] else self.at(branch).end  # which a bracket may close
            right = self.expr(branch, depth)
            left = tree.Binary(span=whole.start.to(end), op=str(op), left=left, right=right)  # type: ignore[arg-type]
        return left  # type: ignore[no-any-return]


@functools.cache
def _fields(rule: str) -> tuple[list[str], str]:
    """Return the fields that the first children of a rule give, in order, and the field (or empty) that takes all others."""
    form, given = _FORMS[rule]
    names: list[str] = []
    for name, each in form.__dataclass_fields__.items():
        if name in given or name in _PARTS or name in ("span", "body"):
            continue
        if str(each.type).startswith("tuple"):
            return names, name
        names.append(name)
    return names, ""


MAX_BYTES = 1 << 20
MAX_TOKENS = 40_000
"""Some 4,500 lines, parsed in a second or two. A larger file is hardly a program, and would take minutes."""
_LIMITS = f"{MAX_BYTES:,} bytes and {MAX_TOKENS:,} words and signs"


def parse(text: str, file: str, sink: Sink) -> tree.Module:
    """Return the syntax tree of a text. Never raises: mistakes go to `sink`. Unreadable parts are `BadExpr` or left out."""
    text = normalise(text)
    tokens = lex(text[: MAX_BYTES + 1], MAX_TOKENS + 1)
    if len(text) > MAX_BYTES or len(tokens) > MAX_TOKENS:
        nowhere = Span(file, 1, 1, 1, 1)
        sink.add(errors.FileTooLarge(nowhere, path=file, limit=_LIMITS))
        return tree.Module(span=nowhere, items=(), broken=True)
    own = Sink()
    words = read_words(tokens, text, file, own)
    module = build(parse_tokens(lay_out(words, own), words, own), words, own)
    if not own.items:
        return module
    ordered = own.sorted()  # a page of them is read, ten thousand are not
    for diagnostic in ordered[:MAX_MISTAKES]:
        sink.add(diagnostic)
    if len(ordered) >= MAX_MISTAKES:
        sink.add(errors.TooManyMistakes(ordered[MAX_MISTAKES - 1].span, limit=MAX_MISTAKES))
    return dataclasses.replace(module, broken=True)


def normalise(text: str) -> str:
    """Return the text without a byte order mark and with a line feed as the only line end."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _meant(path: Path) -> str | None:
    """Return a program that an unreadable path may mean: with `.pzl` added, or of a similar name beside it; else None."""
    try:
        beside = sorted(each.name for each in islice(path.parent.iterdir(), 1000) if each.suffix == ".pzl")
    except (OSError, ValueError):
        return None
    whole = f"{path.name}.pzl"
    near = whole if whole in beside else closest(path.name, beside)
    return None if near is None else (path.parent / near).as_posix()


def read_source(path: Path | str, sink: Sink) -> str | None:
    """Return the text of a source file, ready for `parse`; if it cannot be read, report that and return None."""
    path = Path(path)
    nowhere = Span(str(path), 1, 1, 1, 1)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why, near = getattr(error, "strerror", None) or str(error), _meant(path)
        help = f"did you mean `{near}`?" if near else ""
        sink.add(errors.CannotRead(nowhere, path=path, why=why[:1].lower() + why[1:], help=help))
        return None
    return decode(data, str(path), sink)


def decode(data: bytes, file: str, sink: Sink) -> str | None:
    """Decode UTF-8 bytes, ready for `parse`; for too many bytes or another encoding, report that and return None."""
    if len(data) > MAX_BYTES:
        sink.add(errors.FileTooLarge(Span(file, 1, 1, 1, 1), path=file, limit=_LIMITS))
        return None
    try:
        return normalise(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        good = normalise(data[: error.start].decode("utf-8"))
        line, column = good.count("\n") + 1, len(good) - good.rfind("\n")
        sink.add(errors.NotUtf8(Span(file, line, column, line, column + 1), path=file, offset=error.start))
        return None
