"""Detection of a declaration under the wrong kind: `eval final of best { loss = …, lr = … }` is meant as an uptrain.

Each kind has its form: the parts after `of` or `on`, right of `=`, and between braces. A declaration that contradicts
the form of its kind and fits another's is reported once and read as that kind, so that neither its body nor its uses
cause further diagnostics.
"""

from __future__ import annotations

from collections import Counter

from puzzledsl.base.diagnostics import Args, Near
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.values import SourceFile, Symbol, article
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

_CALLS = {name: kind.value.calls if kind.value else {} for name, kind in KINDS.items()}
_LOSSES = {name: {*kind.settings["loss"].words} for name, kind in KINDS.items() if "loss" in kind.settings}
_CALLED, _LOST = (
    Counter(word for words in each for word in words) for each in (_CALLS.values(), _LOSSES.values())
)
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
    target, rest = _conflicts(symbol, symbol.kind)
    if not rest and target < 2:  # the kind of its target alone is another mistake
        return None
    others = {kind: sum(_conflicts(symbol, kind)) for kind in KINDS if kind != symbol.kind}
    best = min(others, key=lambda kind: others[kind])
    return best if 4 * others[best] <= target + rest else None


def _conflicts(symbol: Symbol, kind: str) -> tuple[int, int]:
    """Number of parts of a declaration that contradict a kind's form: of its target, and the rest."""
    assert isinstance(symbol.item, tree.Decl)
    decl, form, target = symbol.item, KINDS[kind], 0
    if decl.target is not None:
        found = symbol.file.names.get(decl.target.text) if isinstance(decl.target, tree.Name) else None
        wrong = (
            isinstance(found, Symbol) and found is not symbol and found.kind in KINDS.keys() - form.targets
        )
        target = (decl.preposition != form.preposition) + wrong if form.targets else 2
    return target, _value(decl.value, kind, symbol.file) + sum(_statement(s, kind) for s in decl.body or ())


def _value(call: tree.Expr | None, kind: str, file: SourceFile) -> int:
    named = file.names.get(call.text) if isinstance(call, tree.Name) else None
    if isinstance(named, Symbol) and isinstance(named.item, tree.Let):
        call = named.item.value
    word = call.function if isinstance(call, tree.Call) else call
    if not isinstance(word, tree.Name) or word.text not in _CALLED:
        return 0
    if (meant := _CALLS[kind].get(word.text)) is None:
        return 2
    arguments = call.arguments if isinstance(call, tree.Call) and _CALLED[word.text] > 1 else ()
    return sum(a.name is not None and a.name.text not in meant.arguments for a in arguments)


def _statement(statement: tree.Stmt, kind: str) -> int:
    form = KINDS[kind]
    match statement:
        case tree.Assign(target=tree.Name(text="loss"), value=value) if kind in _LOSSES:
            names = {node.text for node in tree.walk(value) if isinstance(node, tree.Name)}
            words = {word for word in names if _LOST[word] == 1}
            return int(bool(words) and not words & _LOSSES[kind])
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
