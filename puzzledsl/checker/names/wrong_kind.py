"""Detection of a declaration under the wrong kind: `eval final of best { loss = …, lr = … }` is meant as an uptrain.

Each kind has its form: the parts after `of` or `on`, right of `=`, and between braces. A declaration that contradicts
the form of its kind and fits another's is reported once and read as that kind, so that neither its body nor its uses
cause further diagnostics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from puzzledsl.base.diagnostics import Args, Near
from puzzledsl.base.settings import Call, Kind
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.values import SourceFile, Symbol, article
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree


def _calls(kind: Kind) -> Mapping[str, Call]:
    return kind.value.calls if kind.value is not None else {}


def _losses(kind: Kind) -> set[str]:
    return set(kind.settings["loss"].words) if "loss" in kind.settings else set()


_CALLS = Counter(word for kind in KINDS.values() for word in _calls(kind))
_LOSSES = Counter(word for kind in KINDS.values() for word in _losses(kind))
"""Words -> the number of kinds that take them. Those of one kind alone tell it apart."""


def settle_kinds(ctx: Context, file: SourceFile) -> None:
    """Report each declaration of a file that is surely of another kind than it says, and take it for that."""
    for symbol in file.symbols(*KINDS):
        meant = _meant(symbol) if symbol.file is file else None
        if meant is not None:
            assert isinstance(symbol.item, tree.Decl)
            said: Args = {"name": symbol.name, "got": article(symbol.kind), "like": article(meant)}
            near = Near(meant, alone=False)
            ctx.report(errors.MistakenKind(symbol.item.kind.span, near=near, **said))
            symbol.kind = meant


def _meant(symbol: Symbol) -> str | None:
    own, certain = _conflicts(symbol, KINDS[symbol.kind])
    if not certain:
        return None
    others = {kind: _conflicts(symbol, form)[0] for kind, form in KINDS.items() if kind != symbol.kind}
    best = min(others, key=lambda kind: others[kind])
    return best if 4 * others[best] <= own and others[best] < own else None


def _conflicts(symbol: Symbol, form: Kind) -> tuple[int, bool]:
    """Number of parts of a declaration that contradict a form, and whether more than the kind of its target does."""
    assert isinstance(symbol.item, tree.Decl)
    decl = symbol.item
    target = _target(symbol, decl, form)
    rest = _value(decl.value, form, symbol.file) + sum(_statement(s, form) for s in decl.body or ())
    return target + rest, rest > 0 or target > 1


def _target(symbol: Symbol, decl: tree.Decl, form: Kind) -> int:
    if decl.target is None:
        return 0
    if not form.targets:
        return 2
    found = symbol.file.names.get(decl.target.text) if isinstance(decl.target, tree.Name) else None
    wrong = isinstance(found, Symbol) and found is not symbol and found.kind in KINDS.keys() - form.targets
    return (decl.preposition != form.preposition) + wrong


def _value(call: tree.Expr | None, form: Kind, file: SourceFile) -> int:
    named = file.names.get(call.text) if isinstance(call, tree.Name) else None
    if isinstance(named, Symbol) and isinstance(named.item, tree.Let):
        call = named.item.value
    word = call.function if isinstance(call, tree.Call) else call
    if not isinstance(word, tree.Name) or word.text not in _CALLS:
        return 0
    if word.text not in _calls(form):
        return 2
    known = _calls(form)[word.text].arguments
    arguments = call.arguments if isinstance(call, tree.Call) and _CALLS[word.text] > 1 else ()
    return sum(a.name is not None and a.name.text not in known for a in arguments)


def _statement(statement: tree.Stmt, form: Kind) -> int:
    match statement:
        case tree.Assign(target=tree.Name(text="loss"), value=value) if "loss" in form.settings:
            names = {node.text for node in tree.walk(value) if isinstance(node, tree.Name)}
            words = {word for word in names if _LOSSES[word] == 1}
            return int(bool(words) and not words & _losses(form))
        case tree.Assign(target=tree.Name(text=name), op="=") if name != "layers":
            return int(name not in form.settings)
        case tree.Assign():
            return int(not form.edits_layers)
        case tree.Section(name=name):
            return int(name.text not in form.sections)
        case tree.ForAll():
            return 2 * int("for" not in form.statements)
        case tree.Require() | tree.Prefer() | tree.Objective() | tree.Solutions():
            return 2 * int("require" not in form.statements)
    return 0
