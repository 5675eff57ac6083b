"""The syntax tree to text, one statement a line: `parse(unparse(t)) == t` for every tree that is not broken.

For trees that a test made; what a person wrote is formatted on its tokens, which keeps comments.
"""

from typing import assert_never

from puzzledsl.syntax import tree

# How tightly each form binds: a part that binds less than its place asks for is put in brackets.
_COND, _CHOICE, _IMPLIES, _OR, _AND, _NOT, _COMPARE, _SPAN, _SUM, _TERM, _UNARY, _POSTFIX = range(12)
_BINARY = {
    "implies": _IMPLIES,
    "or": _OR,
    "and": _AND,
    "+": _SUM,
    "-": _SUM,
    "*": _TERM,
    "/": _TERM,
    "mod": _TERM,
}
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"})


def unparse(module: tree.Module) -> str:
    """The text of a module. Raises ValueError for a tree with `BadExpr` in it."""
    return "".join(_item(item) + "\n" for item in module.items)


def unparse_expr(node: tree.Expr) -> str:
    """The text of one expression. Raises ValueError for `BadExpr`."""
    return _expr(node, _COND)


# ---------------------------------------------------------------- declarations and statements


def _item(item: tree.Item) -> str:
    match item:
        case tree.Use():
            names = f" ({', '.join(n.text for n in item.names)})" if item.names else ""
            return f"use {_string(item.path)}{names}" + (f" as {item.alias.text}" if item.alias else "")
        case tree.Param():
            type_ = " | ".join(w.text for w in item.words) or item.type.text
            head = f"{_doc(item.doc)}param {item.name.text}: {type_}"
            return head if item.default is None else f"{head} = {unparse_expr(item.default)}"
        case tree.Fn():
            parameters = ", ".join(p.text for p in item.parameters)
            return f"{_doc(item.doc)}fn {item.name.text}({parameters}) = {unparse_expr(item.value)}"
        case tree.Decl():
            return _decl(item)
        case tree.Let() | tree.Assert():
            return "\n".join(_statement(item))
    assert_never(item)


def _decl(item: tree.Decl) -> str:
    text = f"{_doc(item.doc)}{item.kind.text} {item.name.text}"
    if item.target is not None:
        text += f" {item.preposition} {unparse_expr(item.target)}"
    if item.value is not None:
        text += f" = {unparse_expr(item.value)}"
    return text if item.body is None else "\n".join(_body(text, item.body))


def _doc(doc: str) -> str:
    return "".join(f"## {line}".rstrip() + "\n" for line in doc.split("\n")) if doc else ""


def _body(head: str, body: tuple[tree.Stmt, ...]) -> list[str]:
    if not body:
        return [head + " {}"]
    return [head + " {", *("  " + line for statement in body for line in _statement(statement)), "}"]


def _statement(statement: tree.Stmt) -> list[str]:
    match statement:
        case tree.Assign():
            return [f"{unparse_expr(statement.target)} {statement.op} {_assigned(statement.value)}"]
        case tree.Section():
            return _body(statement.name.text, statement.body)
        case tree.ForAll():
            guard = f" where {unparse_expr(statement.where)}" if statement.where is not None else ""
            domain = unparse_expr(statement.domain)
            return _body(f"for {statement.variable.text} in {domain}{guard}", statement.body)
        case tree.Require():
            return [f"require {unparse_expr(statement.condition)}{_because(statement.because)}"]
        case tree.Prefer():
            return [f"prefer {unparse_expr(statement.condition)}{_because(statement.because)}"]
        case tree.Assert():
            return [f"assert {unparse_expr(statement.condition)}{_because(statement.because)}"]
        case tree.Objective():
            return [f"{statement.sense} {unparse_expr(statement.expression)}"]
        case tree.Solutions():
            apart = f" apart {unparse_expr(statement.apart)}" if statement.apart is not None else ""
            return [f"solutions {unparse_expr(statement.count)}{apart}"]
        case tree.Let():
            return [f"let {statement.name.text} = {unparse_expr(statement.value)}"]
    assert_never(statement)


def _assigned(value: tree.Expr | tree.Pattern | tree.PatternChoice) -> str:
    match value:
        case tree.Pattern():
            return _pattern(value)
        case tree.PatternChoice():
            return " | ".join(_pattern(p) for p in value.options)
        case _:
            return unparse_expr(value)


def _because(reason: tree.String | None) -> str:
    return f" because {_string(reason)}" if reason is not None else ""


# ---------------------------------------------------------------- expressions


def _string(node: tree.String) -> str:
    return f'"{node.value.translate(_ESCAPES)}"'


def _pattern(pattern: tree.Pattern) -> str:
    fields = ", ".join(_field(f) for f in pattern.fields)
    return f"{pattern.name.text}({fields})" if fields else pattern.name.text


def _matched(pattern: tree.Pattern | tree.PatternChoice) -> str:
    return f"({_assigned(pattern)})" if isinstance(pattern, tree.PatternChoice) else _pattern(pattern)


def _field(field: tree.PatternField) -> str:
    if field.op == "==":
        return f"{field.name.text}: {unparse_expr(field.value)}"
    return f"{field.name.text}: {field.op} {_expr(field.value, _SPAN)}"


def _expr(node: tree.Expr, least: int) -> str:
    """The text of an expression where only what binds at least as tightly as `least` may stand bare."""
    text, binds = _form(node)
    return text if binds >= least else f"({text})"


def _form(node: tree.Expr) -> tuple[str, int]:
    """The text of an expression and how tightly it binds."""
    match node:
        case tree.Name() | tree.Literal_():
            return node.text, _POSTFIX
        case tree.String():
            return _string(node), _POSTFIX
        case tree.ListExpr():
            return f"[{', '.join(_expr(item, _COND) for item in node.items)}]", _POSTFIX
        case tree.Choice():
            return " | ".join(_expr(option, _IMPLIES) for option in node.options), _CHOICE
        case tree.Cond():
            condition, then, otherwise = (
                _expr(e, _COND) for e in (node.condition, node.then, node.otherwise)
            )
            return f"if {condition} then {then} else {otherwise}", _COND
        case tree.Binary():
            level = _BINARY[node.op]
            left = level + 1 if node.op == "implies" else level
            return f"{_expr(node.left, left)} {node.op} {_expr(node.right, level + 1)}", level
        case tree.Unary():
            if node.op == "not":
                return f"not {_expr(node.operand, _NOT)}", _NOT
            return f"{node.op}{_expr(node.operand, _UNARY)}", _UNARY
        case tree.Compare():
            first, *rest = (_expr(o, _SPAN) for o in node.operands)
            return first + "".join(f" {op} {o}" for op, o in zip(node.ops, rest, strict=True)), _COMPARE
        case tree.Is():
            word = "is not" if node.negated else "is"
            return f"{_expr(node.subject, _SPAN)} {word} {_matched(node.pattern)}", _COMPARE
        case tree.In():
            return f"{_expr(node.member, _SPAN)} in {_expr(node.collection, _SPAN)}", _COMPARE
        case tree.SameAs():
            return f"{_expr(node.left, _SPAN)} same as {_expr(node.right, _SPAN)}", _COMPARE
        case tree.Range():
            ends = "..".join("" if e is None else _expr(e, _SUM) for e in (node.start, node.stop))
            return ends + (f" step {_expr(node.step, _SUM)}" if node.step is not None else ""), _SPAN
        case tree.Arrow():
            return f"{_expr(node.left, _SUM)} -> {_expr(node.right, _SUM)}", _SPAN
        case tree.Attribute():
            return f"{_expr(node.target, _POSTFIX)}.{node.name.text}", _POSTFIX
        case tree.Index():
            return f"{_expr(node.target, _POSTFIX)}[{_subscript(node)}]", _POSTFIX
        case tree.Call():
            return f"{_expr(node.function, _POSTFIX)}({', '.join(map(_argument, node.arguments))})", _POSTFIX
        case tree.Comprehension():
            where = f" where {_expr(node.where, _COND)}" if node.where is not None else ""
            collection = _expr(node.collection, _SPAN)
            return f"{_expr(node.element, _COND)} for {node.variable.text} in {collection}{where}", _COND
        case tree.BadExpr():
            raise ValueError("a tree with mistakes in it has no text")
    assert_never(node)


def _subscript(node: tree.Index) -> str:
    slices = ", ".join(_expr(item, _SPAN if isinstance(item, tree.Range) else _SUM) for item in node.items)
    where = f"where {_expr(node.where, _COND)}" if node.where is not None else ""
    return " ".join(part for part in (slices, where) if part)


def _argument(argument: tree.Argument) -> str:
    value = _expr(argument.value, _COND)
    return value if argument.name is None else f"{argument.name.text}: {value}"
