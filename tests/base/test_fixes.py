"""Fixes are made whole, in any order to one result, and never two on one spot."""

from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.base.diagnostics import Edit, Fix, Mistake, Near, Span, apply, compatible, safe_fixes

TEXT = "let a = 1\nlet bc = aé + 2\n\nlet d = bc\n"


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    """A replacement somewhere in TEXT, by its offsets."""
    start = draw(st.integers(0, len(TEXT)))
    stop = draw(st.integers(start, min(start + 6, len(TEXT))))
    return Edit(span(start, stop), draw(st.text("xy\n", max_size=3)))


def span(start: int, stop: int, file: str = "f") -> Span:
    return Span(file, *place(start), *place(stop))


def place(offset: int) -> tuple[int, int]:
    before = TEXT[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def offset(line: int, column: int) -> int:
    return sum(len(each) + 1 for each in TEXT.split("\n")[: line - 1]) + column - 1


fixes = st.builds(Fix, st.just("mend"), st.lists(edits(), min_size=1, max_size=2).map(tuple))


@given(st.lists(fixes, max_size=6))
def test_applying_is_replacing_one_by_one_from_the_end(candidates: list[Fix]) -> None:
    chosen = compatible(candidates)
    chosen = [fix for fix in chosen if len(compatible([Fix("", (e,)) for e in fix.edits])) == len(fix.edits)]
    by_hand = TEXT
    places = [
        (offset(e.span.line, e.span.column), offset(e.span.end_line, e.span.end_column), e.text)
        for fix in chosen
        for e in fix.edits
    ]
    for start, stop, text in sorted(places, reverse=True):
        by_hand = by_hand[:start] + text + by_hand[stop:]
    assert apply(TEXT, chosen) == apply(TEXT, reversed(chosen)) == by_hand


@given(st.lists(fixes, max_size=6))
def test_no_two_kept_fixes_touch(candidates: list[Fix]) -> None:
    kept = compatible(candidates)
    assert (not candidates) == (not kept)
    for number, fix in enumerate(kept):
        for other in kept[:number]:
            for one in fix.edits:
                for two in other.edits:
                    ends = [offset(s.line, s.column) for s in (one.span, two.span)]
                    stops = [offset(s.end_line, s.end_column) for s in (one.span, two.span)]
                    assert stops[0] < ends[1] or stops[1] < ends[0]


def test_the_same_fix_twice_is_made_once() -> None:
    fix = Fix.replace(span(4, 5), "z")
    assert compatible([fix, fix]) == [fix]
    assert apply(TEXT, [fix]) == TEXT.replace("a = 1", "z = 1")


Sample = Mistake("T0001", "sample")


def test_a_fix_is_safe_where_it_is_the_only_one() -> None:
    alone, among = (Sample(span(4, 5), near=Near("abc", alone=alone)) for alone in (True, False))
    assert alone.help == "did you mean `abc`?"
    assert safe_fixes([alone], "f") == [(alone, Fix.replace(span(4, 5), "abc"))]
    assert safe_fixes([alone], "g") == safe_fixes([among], "f") == []
    assert [fix.safe for fix in among.fixes] == [False]
    two = (Fix.replace(span(4, 5), "x"), Fix.replace(span(4, 5), "y"))
    assert safe_fixes([Sample(span(4, 5), fixes=two)], "f") == []
