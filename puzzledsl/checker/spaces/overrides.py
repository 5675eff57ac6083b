"""Overrides such as `layers[2..9].attention -= noop`, applied in order. Layers left empty are reported after the last one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import Fix, Span
from puzzledsl.base.frozen import record
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import space_errors as errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.search_values import Layers, SubBlocks
from puzzledsl.checker.expressions.values import Poison, Scope, Value, describe
from puzzledsl.checker.spaces.choices import ChoiceReader
from puzzledsl.checker.spaces.patterns import Predicate, predicate
from puzzledsl.checker.spaces.space_info import Choice, SpaceInfo
from puzzledsl.language.alternatives import SITES
from puzzledsl.syntax import tree


@record
class _Emptied:
    span: Span
    before: Choice


@dataclass(slots=True, eq=False)
class Overrides:
    """Application of overrides to one space's layers."""

    ctx: Context
    info: SpaceInfo
    reader: ChoiceReader
    emptied: dict[tuple[SubBlock, int], _Emptied] = field(default_factory=dict)

    def apply(self, statement: tree.Assign, scope: Scope) -> None:
        """Apply one override."""
        place = self.ctx.value(statement.target, scope)
        targets = self._targets(place, statement.target.span)
        changed = False
        for sub_block, layers in targets:
            edit = self._edit(statement, scope, sub_block, layers)
            if edit is None:
                self.info.incomplete = True
                return
            changed |= self._change(sub_block, layers, edit, statement.span)
        if targets and not changed and not self.info.incomplete and statement.op in ("|=", "-="):
            why = "it is already there" if statement.op == "|=" else "no layer here has it"
            fixes = [Fix.replace(statement.span, "", "remove this override", safe=False)]
            self.ctx.report(errors.OverrideDoesNothing(statement.value.span, why=why, fixes=fixes))

    def _targets(self, place: Value, span: Span) -> list[tuple[SubBlock, tuple[int, ...]]]:
        match place:
            case Layers(indices=indices) if indices:
                return [(site, indices) for site in SITES]
            case SubBlocks(sub_block=sub_block, indices=indices):
                return [(sub_block, indices)]
            case Poison():
                self.info.incomplete = True
                return []
        wanted, got = "`layers[…]`, `layers[…].attention` or `layers[…].ffn`", describe(place)
        self.ctx.report(types.WrongType(span, what="what an override edits", wanted=wanted, got=got))
        return []

    def _edit(
        self, statement: tree.Assign, scope: Scope, sub_block: SubBlock, layers: tuple[int, ...]
    ) -> _Edit | None:
        value = statement.value
        if isinstance(value, tree.BadExpr):
            return None
        if isinstance(value, tree.Pattern | tree.PatternChoice):
            test = predicate(self.ctx, value, scope, self.info, sub_block)
            return None if test is None else _Edit(statement.op, {}, test)
        before = self.info.incomplete
        self.info.incomplete = False
        each = not _is_of_all_layers(statement.target)
        found = self.reader.alternatives(value, scope, sub_block, layers, each=each)
        lost, self.info.incomplete = self.info.incomplete, before
        return None if lost else _Edit(statement.op, found, _nothing)

    def _change(self, sub_block: SubBlock, layers: tuple[int, ...], edit: _Edit, span: Span) -> bool:
        """Edit the choice of some layers and return True if any changed. Layers that share a choice share the result."""
        rows = self.info.choices(sub_block)
        done: dict[tuple[int, int], tuple[Choice, Shape, Choice]] = {}
        changed = False
        for layer in layers:
            old, own = rows[layer], self.info.shape.at(layer)
            key = id(old), id(own)
            if key not in done:
                done[key] = (old, own, edit.of(old, layer, own))
            new = done[key][2]
            if new != old:
                changed = True
                rows[layer] = new
            if not new:
                self.emptied.setdefault((sub_block, layer), _Emptied(span, old))
            else:
                self.emptied.pop((sub_block, layer), None)
        return changed

    def report_empty(self) -> None:
        """Report the layers without any alternative, in one diagnostic per override that emptied some."""
        if self.info.incomplete:
            return
        groups: dict[tuple[Span, SubBlock], list[int]] = {}
        for (sub_block, layer), emptied in self.emptied.items():
            groups.setdefault((emptied.span, sub_block), []).append(layer)
        for (span, sub_block), layers in groups.items():
            had = ", ".join(f"`{a.name}`" for a in self.emptied[sub_block, layers[0]].before)
            help = f"layer {layers[0]} had {had}"
            text = f"{layers_in_words(sorted(layers))} {'is' if len(layers) == 1 else 'are'}"
            self.ctx.report(errors.EmptyChoice(span, layers=text, sub_block=sub_block, help=help))


def _nothing(alternative: Alternative, shape: Shape) -> bool:
    return False


def _is_of_all_layers(target: tree.Expr) -> bool:
    """Return True for `ffn`, `layers` and `layers.ffn`, which select no layers."""
    root = target.target if isinstance(target, tree.Attribute) else target
    return isinstance(root, tree.Name) and root.text in (*SITES, "layers")


@record
class _Edit:
    op: tree.AssignOp
    alternatives: Mapping[int, Choice]
    test: Predicate

    def of(self, old: Choice, layer: int, own: Shape) -> Choice:
        """Return the new choice of a layer whose choice was `old`."""
        match self.op:
            case "=":
                return self.alternatives[layer]
            case "|=":
                return tuple(dict.fromkeys((*old, *self.alternatives[layer])))
            case "-=":
                return tuple(a for a in old if not self.test(a, own))
            case "&=":
                return tuple(a for a in old if self.test(a, own))
            case _:
                assert_never(self.op)
