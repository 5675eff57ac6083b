from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.base.units import (
    BYTES,
    BYTES_PER_S,
    COUNT,
    FLOP_PER_S,
    FLOPS,
    TIME,
    TOK_PER_S,
    TOKENS,
    UNITS,
    BadLiteral,
    Dimension,
    Quantity,
    format_quantity,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("text", "value", "dimension"),
    [
        ("78_000", 78_000, COUNT),
        ("4Ki", 4096, COUNT),
        ("51.5B", 51_500_000_000, COUNT),
        ("80GiB", 80 * 2**30, BYTES),
        ("80GB", 80 * 10**9, BYTES),
        ("5min", 300, TIME),
        ("30us", Fraction(30, 10**6), TIME),
        ("3.35TB/s", 3_350_000_000_000, BYTES_PER_S),
        ("989 TFLOP/s", 989 * 10**12, FLOP_PER_S),
        ("200 tok/s", 200, TOK_PER_S),
        ("25%", Fraction(1, 4), COUNT),
        ("2.17x", Fraction(217, 100), COUNT),
        ("1e-4", Fraction(1, 10**4), COUNT),
    ],
)
def test_literals(text: str, value: Fraction, dimension: Dimension) -> None:
    quantity = parse_quantity(text)
    assert (quantity.value, quantity.dimension) == (value, dimension)


def test_forms() -> None:
    assert [parse_quantity(t).form for t in ("1", "1%", "1x")] == ["plain", "percent", "times"]


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("80gib", "write `80GiB`"),
        ("7b", "billions are written `7B`"),
        ("3K", "thousands are `3k`, 1024s are `3Ki`"),
        ("30sec", "write `30s`"),
        ("10TB/min", "rates are of a second: write `166.7GB/s`"),
        ("7q", "units: "),
        ("1e99", "numbers go up to 1e60"),
        ("1" * 300, "numbers go up to 1e60"),
        ("x", ""),
    ],
)
def test_bad_literals_say_what_would_work(text: str, help: str) -> None:
    with pytest.raises(BadLiteral) as error:
        parse_quantity(text)
    assert error.value.help.startswith(help)


@given(st.integers(1, 9999), st.sampled_from([u for u in UNITS if "FLOP" not in u]))
def test_what_is_shown_can_be_written(number: int, unit: str) -> None:
    quantity = parse_quantity(f"{number}{unit}")
    if quantity.dimension.name == "Tokens":
        return  # a count of tokens is written without a unit
    again = parse_quantity(format_quantity(quantity.value, quantity.dimension))
    assert again.dimension == quantity.dimension
    assert abs(again.value - quantity.value) <= quantity.value / 1000


@given(st.fractions(min_value=0, max_value=10**15), st.sampled_from([BYTES, TIME, COUNT, TOK_PER_S]))
def test_any_value_can_be_shown(value: Fraction, dimension: Dimension) -> None:
    assert format_quantity(value, dimension)


def test_dimensions_multiply() -> None:
    assert BYTES / TIME == BYTES_PER_S
    assert BYTES_PER_S * TIME == BYTES
    assert (BYTES * BYTES).name == "byte^2"
    assert (COUNT / TIME).name == "1/s"
    assert str(Quantity(Fraction(80 * 2**30), BYTES)) == "80GiB"
    assert str(Quantity(Fraction(1, 4), COUNT, "percent")) == "25%"


_FACTORS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@pytest.mark.parametrize(
    ("text", "value", "dimension"),
    [
        *((f"3{p}", 3 * s, COUNT) for p, s in {"k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}.items()),
        *((f"3{p}i", 3 * 1024**n, COUNT) for n, p in enumerate("KMGT", start=1)),
        *((f"3{p}iB", 3 * 1024**n, BYTES) for n, p in enumerate("KMGT", start=1)),
        *((f"3{p}B", 3 * s, BYTES) for p, s in _FACTORS.items()),
        *((f"3{p}B/s", 3 * s, BYTES_PER_S) for p, s in _FACTORS.items()),
        *((f"3{p}FLOP", 3 * s, FLOPS) for p, s in _FACTORS.items()),
        *((f"3{p}FLOP/s", 3 * s, FLOP_PER_S) for p, s in _FACTORS.items()),
        *((f"3{u}", Fraction(3, 10**6), TIME) for u in ("us", "µs")),
        ("3ms", Fraction(3, 10**3), TIME),
        ("3s", 3, TIME),
        ("3min", 180, TIME),
        ("3h", 10800, TIME),
        ("3tok", 3, TOKENS),
        ("3tok/s", 3, TOK_PER_S),
        ("3ktok/s", 3000, TOK_PER_S),
        ("3", 3, COUNT),
        (" 1_000.5 GiB ", Fraction(10005 * 2**30, 10), BYTES),
        ("1.5E+3", 1500, COUNT),
        ("1__0_", 10, COUNT),
    ],
)
def test_every_unit_is_what_the_reference_says(text: str, value: Fraction, dimension: Dimension) -> None:
    assert parse_quantity(text) == Quantity(Fraction(value), dimension)


def test_there_is_no_unit_but_these() -> None:
    assert len(UNITS) == 1 + 4 + 4 + 4 + 4 + 4 + 4 + 4 + 6 + 3 + 6 + 1


@pytest.mark.parametrize(
    ("dimension", "name"),
    [
        (COUNT, "a plain number"),
        (BYTES, "Bytes"),
        (TIME, "Time"),
        (TOKENS, "Tokens"),
        (FLOPS, "FLOP"),
        (BYTES / TIME, "Bytes/s"),
        (FLOPS / TIME, "FLOP/s"),
        (TOKENS / TIME, "tok/s"),
        (BYTES * TIME, "byte*s"),
        (BYTES * BYTES / TIME / TIME, "byte^2/s^2"),
        (COUNT / TIME / TIME, "1/s^2"),
        (FLOPS / BYTES / TOKENS, "FLOP/byte/tok"),
        (TOKENS * FLOPS / BYTES, "FLOP*tok/byte"),
    ],
)
def test_dimensions_have_names(dimension: Dimension, name: str) -> None:
    assert dimension.name == name


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("value", "dimension", "shown"),
    [
        # from each unit up, and just below it
        (0, BYTES, "0KiB"),
        (512, BYTES, "0.5KiB"),
        (2**10, BYTES, "1KiB"),
        (2**20 - 2**19, BYTES, "512KiB"),
        (2**20, BYTES, "1MiB"),
        (2**30 - 2**29, BYTES, "512MiB"),
        (2**30, BYTES, "1GiB"),
        (2**40 - 2**39, BYTES, "512GiB"),
        (2**40, BYTES, "1TiB"),
        (2**51, BYTES, "2048TiB"),
        (0, TIME, "0s"),
        (Fraction(1, 2 * 10**6), TIME, "0.5us"),
        (Fraction(1, 10**6), TIME, "1us"),
        (Fraction(1, 2000), TIME, "500us"),
        (Fraction(1, 1000), TIME, "1ms"),
        (Fraction(1, 2), TIME, "500ms"),
        (1, TIME, "1s"),
        (7200, TIME, "7200s"),
        (0, COUNT, "0"),
        (Fraction(1, 4), COUNT, "0.25"),
        (99_999, COUNT, "99999"),
        (100_000, COUNT, "100k"),
        (500_000, COUNT, "500k"),
        (10**6, COUNT, "1M"),
        (10**9, COUNT, "1B"),
        (10**12, COUNT, "1T"),
        (0, BYTES_PER_S, "0kB/s"),
        (500, BYTES_PER_S, "0.5kB/s"),
        (10**3, BYTES_PER_S, "1kB/s"),
        (10**6, BYTES_PER_S, "1MB/s"),
        (10**9, BYTES_PER_S, "1GB/s"),
        (10**12, BYTES_PER_S, "1TB/s"),
        (10**9, FLOP_PER_S, "1GFLOP/s"),
        (10**12, FLOPS, "1TFLOP"),
        (200, TOK_PER_S, "200 tok/s"),
        (10**12 - 1, TOK_PER_S, "999999999999 tok/s"),
        (10**12, TOK_PER_S, "1e+12 tok/s"),
        (Fraction(1, 3), TOK_PER_S, "0.3333 tok/s"),
        (3, BYTES * BYTES, "3 byte^2"),
        (3, TOKENS, "3 Tokens"),
    ],
)
def test_a_value_is_shown_in_the_largest_unit_that_it_reaches(
    sign: int, value: Fraction, dimension: Dimension, shown: str
) -> None:
    negative = "-" if sign < 0 and value else ""
    assert format_quantity(sign * Fraction(value), dimension) == negative + shown


@pytest.mark.parametrize("dimension", [BYTES, TIME, COUNT, BYTES_PER_S, FLOPS, TOK_PER_S, TOKENS])
@pytest.mark.parametrize("value", [Fraction(1, 3 * 10**7), Fraction(2, 3), Fraction(10**11, 7)])
def test_as_many_digits_are_shown_as_asked_for(dimension: Dimension, value: Fraction) -> None:
    for digits in (2, 3, 6):
        shown = format_quantity(value, dimension, digits)
        number = shown.split()[0].rstrip("BiKMGTkusmFLOP/")
        assert (
            number == f"{float(number):.{digits}g}"
            and len(number.split("e")[0].strip("0.").replace(".", "")) <= digits
        )
    assert format_quantity(value, dimension) == format_quantity(value, dimension, 4)


def test_forms_are_shown_as_they_were_written() -> None:
    for text in ("25%", "0.5%", "2.17x", "0.25x", "3x", "100%"):
        assert str(parse_quantity(text)) == text
    assert str(Quantity(Fraction(200), TOK_PER_S)) == "200 tok/s"
    assert [str(parse_quantity(t)) for t in ("33.3333%", "2.17349x")] == ["33.33%", "2.173x"]


LISTED = (
    "units: k M B T Ki Mi Gi Ti us ms s min h tok/s ktok/s tok USD USD/h J mJ W kW req/s "
    "KiB MiB GiB TiB kB MB GB TB kB/s MB/s GB/s TB/s"
)


@pytest.mark.parametrize(
    ("text", "message", "help", "meant"),
    [
        ("x", "`x` is not a number", "", ""),
        ("7b", "unknown unit `b`", "billions are written `7B`", ""),
        ("7K", "unknown unit `K`", "thousands are `7k`, 1024s are `7Ki`", ""),
        ("80gib", "unknown unit `gib`", "write `80GiB`", "80GiB"),
        ("5MS", "unknown unit `MS`", "write `5ms`", "5ms"),
        ("5TOK/S", "unknown unit `TOK/S`", "write `5tok/s`", "5tok/s"),
        ("5m", "unknown unit `m`", "minutes are `5min`, millions are `5M`", ""),
        ("5S", "unknown unit `S`", "write `5s`", "5s"),
        ("5H", "unknown unit `H`", "write `5h`", "5h"),
        ("5sec", "unknown unit `sec`", "write `5s`", "5s"),
        ("5GB/sec", "unknown unit `GB/sec`", "write `5GB/s`", "5GB/s"),
        ("5GBs", "unknown unit `GBs`", "did you mean `5GB`?", ""),
        ("1O0MiB", "unknown unit `O0MiB`", "did you mean `100MiB`, with digits?", "100MiB"),
        ("1l%", "unknown unit `l%`", "did you mean `11%`, with digits?", "11%"),
        ("3oIx", "unknown unit `oIx`", "did you mean `301x`, with digits?", "301x"),
        ("10Mtok", "unknown unit `Mtok`", "a count of tokens has no unit: write `10M`", ""),
        ("7Kitokens", "unknown unit `Kitokens`", "a count of tokens has no unit: write `7Ki`", ""),
        ("1_200 req/min", "unknown unit `req/min`", "rates are of a second: write `20 req/s`", "20 req/s"),
        ("100 tok/min", "unknown unit `tok/min`", "rates are of a second: write `1.667 tok/s`", ""),
        ("2 req/m", "unknown unit `req/m`", "rates are of a second: write `0.03333 req/s`", ""),
        ("300 req/m", "unknown unit `req/m`", "rates are of a second: write `5 req/s`", ""),
        ("2 tokens per second", "unknown unit `tokens per second`", "write `2 tok/s`", "2 tok/s"),
        ("5percent", "unknown unit `percent`", "write `5%`", "5%"),
        ("3times", "unknown unit `times`", "write `3x`", "3x"),
        ("5kitoks", "unknown unit `kitoks`", LISTED, ""),
        ("2/s", "unknown unit `/s`", LISTED, ""),
        ("12Oq", "unknown unit `Oq`", LISTED, ""),
        ("5q", "unknown unit `q`", LISTED, ""),
        ("1e61", "`1e61` is out of range", "numbers go up to 1e60", ""),
        ("1E61", "`1E61` is out of range", "numbers go up to 1e60", ""),
        ("1e-61", "`1e-61` is out of range", "numbers go up to 1e60", ""),
        ("1" * 201, f"`{'1' * 40}` is out of range", "numbers go up to 1e60", ""),
    ],
)
def test_what_is_said_of_a_bad_literal(text: str, message: str, help: str, meant: str) -> None:
    with pytest.raises(BadLiteral) as error:
        parse_quantity(text)
    assert (str(error.value), error.value.help, error.value.meant) == (message, help, meant)


def test_the_longest_literals_that_are_read() -> None:
    assert parse_quantity("1" * 200).value == int("1" * 200)
    assert parse_quantity("1e60").value == 10**60
    assert parse_quantity("1e-60").value == Fraction(1, 10**60)
