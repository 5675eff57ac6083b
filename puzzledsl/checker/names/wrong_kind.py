"""Detection of a declaration under the wrong kind: `eval final of best { loss = …, lr = … }` is meant as an uptrain.

Each kind has its form: the parts after `of` or `on`, right of `=`, and between braces. A declaration that contradicts
the form of its kind and fits another's is reported once and read as that kind, so that neither its body nor its uses
cause further diagnostics.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from puzzledsl.base.diagnostics import Near
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.hardware import KEYS as HARDWARE_KEYS
from puzzledsl.checker.declarations.training import BLD_KEYS
from puzzledsl.checker.declarations.uptrain import UPTRAIN_KEYS
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.expressions.values import article
from puzzledsl.checker.names.names import SourceFile, Symbol
from puzzledsl.syntax import tree


@dataclass(frozen=True, slots=True)
class _Form:
    """Settings and calls that a kind of declaration takes. `calls`: word on the right -> its named arguments."""

    targets: tuple[str, ...] = ()
    preposition: str = "of"
    calls: dict[str, tuple[str, ...]] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    goals: bool = False
    layers: bool = False


FORMS: dict[str, _Form] = {
    "parent": _Form(calls={"hf": ("id", "revision", "shape"), "shape": ()}),
    "data": _Form(
        calls={"text": (), "jsonl": ("column",), "hf": ("id", "split", "column"), "mix": ()},
    ),
    "hardware": _Form(
        targets=("hardware",),
        calls={"measured": ("device", "dtype", "gpus", "memory"), "table": ()},
        keys=HARDWARE_KEYS,
        sections=("peak", "efficiency"),
    ),
    "scenario": _Form(targets=("hardware",), preposition="on", calls={"batch": ()}),
    "space": _Form(
        targets=("parent", "space"),
        calls={"used_by": ("top",)},
        keys=("attention", "ffn"),
        sections=("init",),
        layers=True,
    ),
    "bld": _Form(targets=("space",), keys=BLD_KEYS, losses=("normalized_mse", "mse")),
    "score": _Form(targets=("bld", "space"), calls={"replace_one": (), "table": ()}),
    "search": _Form(targets=("space", "search"), keys=("solver", "refine"), goals=True),
    "frontier": _Form(targets=("search",), calls={"sweep": ("points",)}),
    "uptrain": _Form(targets=("search",), keys=UPTRAIN_KEYS, losses=("kld", "lm")),
    "eval": _Form(targets=("uptrain", "search"), calls={"tasks": ()}, keys=("items", "data", "tokens")),
    "export": _Form(
        targets=("uptrain", "search"),
        calls=dict.fromkeys(("hf", "gguf", "mlx"), ("path", "runtime", "dtype")),
    ),
}
_CALLS = frozenset(word for form in FORMS.values() for word in form.calls)
_LOSSES = frozenset(word for form in FORMS.values() for word in form.losses)


def settle_kinds(ctx: Context, file: SourceFile) -> None:
    """Report each declaration of a file that is surely of another kind than it says, and take it for that."""
    symbols = [s for s in file.names.values() if isinstance(s, Symbol) and s.file is file and s.kind in FORMS]
    for symbol in symbols:
        meant = _meant(symbol)
        if meant is not None:
            assert isinstance(symbol.item, tree.Decl)
            got, like = article(symbol.kind), article(meant)
            near = Near(meant, alone=False)
            ctx.report(
                name_errors.MistakenKind(
                    symbol.item.kind.span, name=symbol.name, got=got, like=like, near=near
                )
            )
            symbol.kind = meant


def _meant(symbol: Symbol) -> str | None:
    own, certain = _conflicts(symbol, FORMS[symbol.kind])
    if not certain:
        return None
    others = {kind: _conflicts(symbol, form)[0] for kind, form in FORMS.items() if kind != symbol.kind}
    best = min(others, key=lambda kind: others[kind])
    return best if 4 * others[best] <= own and others[best] < own else None


def _conflicts(symbol: Symbol, form: _Form) -> tuple[int, bool]:
    """Number of parts of a declaration that contradict a form, and whether more than the kind of its target does."""
    assert isinstance(symbol.item, tree.Decl)
    decl = symbol.item
    target = _target(symbol, decl, form)
    rest = _value(decl.value, form, symbol.file) + sum(_statement(s, form) for s in decl.body or ())
    return target + rest, rest > 0 or target > 1


def _target(symbol: Symbol, decl: tree.Decl, form: _Form) -> int:
    if decl.target is None:
        return 0
    if not form.targets:
        return 2
    found = symbol.file.names.get(decl.target.text) if isinstance(decl.target, tree.Name) else None
    known = isinstance(found, Symbol) and found is not symbol and found.kind in FORMS
    return (decl.preposition != form.preposition) + (
        known and isinstance(found, Symbol) and found.kind not in form.targets
    )


def _value(call: tree.Expr | None, form: _Form, file: SourceFile) -> int:
    named = file.names.get(call.text) if isinstance(call, tree.Name) else None
    if isinstance(named, Symbol) and isinstance(named.item, tree.Let):
        call = named.item.value
    word = call.function if isinstance(call, tree.Call) else call
    if not isinstance(word, tree.Name) or word.text not in _CALLS:
        return 0
    if word.text not in form.calls:
        return 2
    known = form.calls[word.text]
    arguments = call.arguments if isinstance(call, tree.Call) else ()
    return sum(a.name is not None and a.name.text not in known for a in arguments) if known else 0


def _statement(statement: tree.Stmt, form: _Form) -> int:
    match statement:
        case tree.Assign(target=tree.Name(text="loss"), value=value) if "loss" in form.keys:
            assert not isinstance(value, tree.Pattern | tree.PatternChoice)
            return int(bool(words := _words(value) & _LOSSES) and not words & set(form.losses))
        case tree.Assign(target=tree.Name(text=name), op="=") if name != "layers":
            return int(name not in form.keys)
        case tree.Assign():
            return int(not form.layers)
        case tree.Section(name=name):
            return int(name.text not in form.sections)
        case tree.Require() | tree.Prefer() | tree.Objective() | tree.Solutions() | tree.ForAll():
            return 2 * int(not form.goals)
    return 0


def _words(expr: tree.Expr) -> set[str]:
    """The names in a sum of weighted words."""
    match expr:
        case tree.Name(text=text):
            return {text}
        case tree.Binary(left=left, right=right):
            return _words(left) | _words(right)
    return set()
