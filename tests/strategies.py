"""Programs for property tests, valid by construction: syntax trees that the grammar can express."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, get_args

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from puzzledsl.base.diagnostics import Span
from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax import tree

AT = Span("test.pzl", 1, 1, 1, 1)
WORDS = "attention ffn layers chat memory kl params gqa mlp noop linear x i width kv_heads".split()
UNITS = ["", "%", "x", "GiB", "ms", "B", "Ki", " tok/s", "TFLOP/s"]


def make(node: Callable[..., Any], **fields: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Nodes of one type, their fields drawn from strategies. (Composite, for its short repr.)"""

    @st.composite
    def drawn(draw: st.DrawFn) -> Any:
        return node(span=AT, **{name: draw(field) for name, field in fields.items()})

    return drawn()


def tuples_of(items: SearchStrategy[Any], least: int = 0, most: int = 3) -> SearchStrategy[Any]:
    """Tuples, as the tree has them, of `least` to `most` items."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Any:
        return tuple(draw(st.lists(items, min_size=least, max_size=most)))

    return drawn()


identifiers = st.one_of(
    st.sampled_from(WORDS), st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
).filter(lambda word: word not in KEYWORDS)
names = make(tree.Name, text=identifiers)
literals = st.builds(
    lambda number, unit: tree.Literal_(span=AT, text=f"{number}{unit}"),
    st.one_of(st.integers(0, 10**9), st.sampled_from(["0.5", "1e-4", "78_000", "2.50e3"])),
    st.sampled_from(UNITS),
)
strings = make(
    tree.String,
    value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters=["\ufeff"]), max_size=12),
)
docs = st.lists(st.from_regex(r"[A-Za-z# ]{0,12}[A-Za-z]", fullmatch=True), max_size=2).map("\n".join)
compare_ops = st.sampled_from(get_args(tree.CompareOp))


@st.composite
def _compares(draw: st.DrawFn, operands: SearchStrategy[Any]) -> tree.Compare:
    ops = draw(tuples_of(compare_ops, least=1, most=2))
    chained = draw(tuples_of(operands, least=len(ops) + 1, most=len(ops) + 1))
    return tree.Compare(span=AT, operands=chained, ops=ops, op_spans=(AT,) * len(ops))


def _patterns(values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return make(
        tree.Pattern,
        name=names,
        fields=tuples_of(make(tree.PatternField, name=names, op=compare_ops, value=values)),
    )


def _one_or_several(patterns: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return patterns | make(tree.PatternChoice, options=tuples_of(patterns, least=2))


def _slices(values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    ends = st.none() | values
    return values | make(tree.Range, start=ends, stop=ends, step=ends)


def _indexes(targets: SearchStrategy[Any], values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """`a[…]`: at least one slice or a condition."""
    indexes = make(tree.Index, target=targets, items=tuples_of(_slices(values)), where=st.none() | values)
    return indexes.filter(lambda node: node.items or node.where is not None)


def _calls(values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    arguments = tuples_of(make(tree.Argument, name=st.none() | names, value=values))
    over = make(
        tree.Comprehension, element=values, variable=names, collection=values, where=st.none() | values
    )
    sole = make(tree.Argument, name=st.none(), value=over).map(lambda argument: (argument,))
    return make(tree.Call, function=values, arguments=arguments | sole)


def _extend(values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.one_of(
        make(tree.ListExpr, items=tuples_of(values)),
        make(tree.Choice, options=tuples_of(values, least=2)),
        make(tree.Cond, condition=values, then=values, otherwise=values),
        make(tree.Binary, op=st.sampled_from(get_args(tree.BinaryOp)), left=values, right=values),
        make(tree.Unary, op=st.sampled_from(["-", "+", "not"]), operand=values),
        _compares(values),
        make(tree.Is, subject=values, negated=st.booleans(), pattern=_one_or_several(_patterns(values))),
        make(tree.In, member=values, collection=values),
        make(tree.SameAs, left=values, right=values),
        make(tree.Range, start=values, stop=values, step=st.none() | values),
        make(tree.Arrow, left=values, right=values),
        make(tree.Attribute, target=values, name=names),
        _indexes(values, values),
        _calls(values),
    )


expressions: SearchStrategy[tree.Expr] = st.recursive(names | literals | strings, _extend, max_leaves=8)
"""Any expression."""

paths: SearchStrategy[tree.Expr] = st.recursive(
    names,
    lambda path: make(tree.Attribute, target=path, name=names) | _indexes(path, names | literals),
    max_leaves=3,
)
"""What may stand left of `=` in a body."""


def _assigns() -> SearchStrategy[Any]:
    patterns = _patterns(expressions)
    choices = make(tree.PatternChoice, options=tuples_of(patterns, least=2))
    return st.one_of(
        make(tree.Assign, target=paths, op=st.sampled_from(["=", "|="]), value=expressions),
        make(tree.Assign, target=paths, op=st.sampled_from(["-=", "&="]), value=patterns | choices),
    )


reasons = st.none() | strings
asserts = make(tree.Assert, condition=expressions, because=reasons)
lets = make(tree.Let, name=names, value=expressions)
simple_statements = st.one_of(
    _assigns(),
    make(tree.Require, condition=expressions, because=reasons),
    make(tree.Prefer, condition=expressions, because=reasons),
    make(tree.Objective, sense=st.sampled_from(["minimize", "maximize"]), expression=expressions),
    make(tree.Solutions, count=expressions, apart=st.none() | expressions),
    asserts,
    lets,
)
statements = st.recursive(
    simple_statements,
    lambda inner: st.one_of(
        make(tree.Section, name=names, body=tuples_of(inner)),
        make(
            tree.ForAll,
            variable=names,
            domain=expressions,
            where=st.none() | expressions,
            body=tuples_of(inner),
        ),
    ),
    max_leaves=3,
)


@st.composite
def declarations(draw: st.DrawFn) -> tree.Decl:
    """`KIND NAME [of X | on X] [= expr] [{ body }]` with any of its parts."""
    preposition: Literal["of", "on"] | None = draw(st.sampled_from(["of", "on", None]))
    return tree.Decl(
        span=AT,
        kind=tree.Name(span=AT, text=draw(st.sampled_from([*KINDS]))),
        name=draw(names),
        preposition=preposition,
        target=draw(expressions) if preposition else None,
        value=draw(st.none() | expressions),
        body=draw(st.none() | tuples_of(statements)),
        doc=draw(docs),
    )


def _uses() -> SearchStrategy[Any]:
    only = make(tree.Use, path=strings, names=tuples_of(names), alias=st.none())
    return only | make(tree.Use, path=strings, names=st.just(()), alias=names)


items = st.one_of(
    _uses(),
    make(tree.Param, name=names, type=names, default=st.none() | expressions, doc=docs),
    make(
        tree.Param, name=names, type=names, words=tuples_of(names, least=2), default=expressions, doc=docs
    ).map(lambda param: dataclasses.replace(param, type=param.words[0])),
    make(tree.Fn, name=names, parameters=tuples_of(names), value=expressions, doc=docs),
    lets,
    asserts,
    declarations(),
)
modules: SearchStrategy[tree.Module] = make(tree.Module, items=tuples_of(items))
"""Whole files."""
