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


@given(st.integers(1, 9999), st.sampled_from([u for u in UNITS if "FLOP" not in u]))
def test_what_is_shown_can_be_written(number: int, unit: str) -> None:
    quantity = parse_quantity(f"{number}{unit}")
    if quantity.dimension.name == "Tokens":
        return  # a count of tokens is written without a unit
    again = parse_quantity(format_quantity(quantity.value, quantity.dimension))
    assert again.dimension == quantity.dimension
    assert abs(again.value - quantity.value) <= quantity.value / 1000


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
        ("1e-4", Fraction(1, 10**4), COUNT),
        ("1" * 200, int("1" * 200), COUNT),
        ("1e60", 10**60, COUNT),
        ("1e-60", Fraction(1, 10**60), COUNT),
    ],
)
def test_every_unit_is_what_the_reference_says(text: str, value: Fraction, dimension: Dimension) -> None:
    assert parse_quantity(text) == Quantity(Fraction(value), dimension)


@pytest.mark.parametrize(
    ("dimension", "name"),
    [
        (COUNT, "a plain number"),
        (BYTES, "Bytes"),
        (BYTES_PER_S * TIME, "Bytes"),
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
        (2**19, BYTES, "512KiB"),
        (2**20, BYTES, "1MiB"),
        (2**39, BYTES, "512GiB"),
        (2**40, BYTES, "1TiB"),
        (2**51, BYTES, "2048TiB"),
        (0, TIME, "0s"),
        (Fraction(1, 2 * 10**6), TIME, "0.5us"),
        (Fraction(1, 2000), TIME, "500us"),
        (Fraction(1, 1000), TIME, "1ms"),
        (1, TIME, "1s"),
        (7200, TIME, "7200s"),
        (0, COUNT, "0"),
        (Fraction(1, 4), COUNT, "0.25"),
        (99_999, COUNT, "99999"),
        (100_000, COUNT, "100k"),
        (500_000, COUNT, "500k"),
        (10**6, COUNT, "1M"),
        (10**12, COUNT, "1T"),
        (500, BYTES_PER_S, "0.5kB/s"),
        (10**9, BYTES_PER_S, "1GB/s"),
        (10**9, FLOP_PER_S, "1GFLOP/s"),
        (10**12, FLOPS, "1TFLOP"),
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
        assert number == f"{float(number):.{digits}g}"
        assert len(number.split("e")[0].strip("0.").replace(".", "")) <= digits
    assert format_quantity(value, dimension) == format_quantity(value, dimension, 4)


def test_forms_are_shown_as_they_were_written() -> None:
    assert [parse_quantity(t).form for t in ("1", "1%", "1x")] == ["plain", "percent", "times"]
    for text in ("25%", "0.5%", "2.17x", "0.25x", "3x", "80GiB", "200 tok/s"):
        assert str(parse_quantity(text)) == text
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
        ("5TOK/S", "unknown unit `TOK/S`", "write `5tok/s`", "5tok/s"),
        ("5m", "unknown unit `m`", "minutes are `5min`, millions are `5M`", ""),
        ("5sec", "unknown unit `sec`", "write `5s`", "5s"),
        ("5GB/sec", "unknown unit `GB/sec`", "write `5GB/s`", "5GB/s"),
        ("5GBs", "unknown unit `GBs`", "did you mean `5GB`?", ""),
        ("1O0MiB", "unknown unit `O0MiB`", "did you mean `100MiB`, with digits?", "100MiB"),
        ("1l%", "unknown unit `l%`", "did you mean `11%`, with digits?", "11%"),
        ("10Mtok", "unknown unit `Mtok`", "a count of tokens has no unit: write `10M`", ""),
        ("7Kitokens", "unknown unit `Kitokens`", "a count of tokens has no unit: write `7Ki`", ""),
        ("1_200 req/min", "unknown unit `req/min`", "rates are of a second: write `20 req/s`", "20 req/s"),
        ("100 tok/min", "unknown unit `tok/min`", "rates are of a second: write `1.667 tok/s`", ""),
        ("300 req/m", "unknown unit `req/m`", "rates are of a second: write `5 req/s`", ""),
        ("2 tokens per second", "unknown unit `tokens per second`", "write `2 tok/s`", "2 tok/s"),
        ("5percent", "unknown unit `percent`", "write `5%`", "5%"),
        ("5kitoks", "unknown unit `kitoks`", LISTED, ""),
        ("2/s", "unknown unit `/s`", LISTED, ""),
        ("12Oq", "unknown unit `Oq`", LISTED, ""),
        ("5q", "unknown unit `q`", LISTED, ""),
        ("1e61", "`1e61` is out of range", "numbers go up to 1e60", ""),
        ("1e-61", "`1e-61` is out of range", "numbers go up to 1e60", ""),
        ("1" * 201, f"`{'1' * 40}` is out of range", "numbers go up to 1e60", ""),
    ],
)
def test_what_is_said_of_a_bad_literal(text: str, message: str, help: str, meant: str) -> None:
    with pytest.raises(BadLiteral) as error:
        parse_quantity(text)
    assert (str(error.value), error.value.help, error.value.meant) == (message, help, meant)
