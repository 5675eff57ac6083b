"""Overrides such as `layers[2..9].attention -= noop`, applied in order. Layers left empty are reported after the last one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import Fix, Span
from puzzledsl.base.frozen import record
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.diagnostics import space_errors as errors
from puzzledsl.checker.diagnostics.type_errors import WrongType
from puzzledsl.checker.expressions.values import Layers, Scope, SubBlocks, describe
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
        try:
            self._apply(statement, scope)
        except Refused:
            self.info.incomplete = True

    def _apply(self, statement: tree.Assign, scope: Scope) -> None:
        span, changed = statement.target.span, False
        place = self.ctx.sound(statement.target, scope)
        targets: list[SubBlock] = [place.sub_block] if isinstance(place, SubBlocks) else [*SITES]
        if not isinstance(place, Layers | SubBlocks) or not place.indices:
            wanted = "`layers[…]`, `layers[…].attention` or `layers[…].ffn`"
            self.ctx.report(
                WrongType(span, what="what an override edits", wanted=wanted, got=describe(place))
            )
            return
        for sub_block in targets:
            edit = self._edit(statement, scope, sub_block, place.indices)
            changed |= self._change(sub_block, place.indices, edit, statement.span)
        if not changed and not self.info.incomplete and statement.op in ("|=", "-="):
            why = "it is already there" if statement.op == "|=" else "no layer here has it"
            fixes = [Fix.replace(statement.span, "", "remove this override", safe=False)]
            self.ctx.report(errors.OverrideDoesNothing(statement.value.span, why=why, fixes=fixes))

    def _edit(
        self, statement: tree.Assign, scope: Scope, sub_block: SubBlock, layers: tuple[int, ...]
    ) -> _Edit:
        value, target = statement.value, statement.target
        if isinstance(value, tree.BadExpr):
            raise Refused
        if isinstance(value, tree.Pattern | tree.PatternChoice):
            return _Edit(statement.op, {}, predicate(self.ctx, value, scope, self.info, sub_block))
        before, self.info.incomplete = self.info.incomplete, False
        # `ffn`, `layers` and `layers.ffn` select no layers
        root = target.target if isinstance(target, tree.Attribute) else target
        each = not isinstance(root, tree.Name) or root.text not in (*SITES, "layers")
        found = self.reader.alternatives(value, scope, sub_block, layers, each=each)
        lost, self.info.incomplete = self.info.incomplete, before
        if lost:
            raise Refused
        return _Edit(statement.op, found, lambda alternative, shape: False)

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
