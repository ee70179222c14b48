"""Units: the only conversions, and the only formatting."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.units import (
    NS_PER_MS,
    NS_PER_S,
    NS_PER_US,
    format_duration,
    format_number,
    ms_from_ns,
    ns_from_ms,
    ns_from_s,
    per_second,
    percent,
    s_from_ns,
    us_from_ns,
)

# 13 days: through two roundings a float still tells each nanosecond from the next.
NANOSECONDS = st.integers(-(2**50), 2**50)


def test_the_units_are_a_thousand_apart() -> None:
    """A second is a thousand milliseconds, and so on down to the nanosecond."""
    assert (NS_PER_S, NS_PER_MS, NS_PER_US) == (10**9, 10**6, 10**3)
    assert (s_from_ns(1_500_000_000), ms_from_ns(1_500_000), us_from_ns(1_500)) == (1.5, 1.5, 1.5)


@given(NANOSECONDS)
def test_there_and_back_loses_nothing(nanoseconds: int) -> None:
    """Nanoseconds survive the way out to seconds or milliseconds and back."""
    assert ns_from_s(s_from_ns(nanoseconds)) == nanoseconds
    assert ns_from_ms(ms_from_ns(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("milliseconds", "nanoseconds"),
    [(0.0000004, 0), (0.0000006, 1), (-0.0000006, -1), (0.1, 100_000), (2.0, 2_000_000)],
)
def test_what_comes_in_is_rounded_to_the_nearest_nanosecond(
    milliseconds: float, nanoseconds: int
) -> None:
    """Fractions of a nanosecond are rounded, not cut off."""
    assert ns_from_ms(milliseconds) == nanoseconds
    assert ns_from_s(milliseconds / 1000) == nanoseconds


def test_a_rate_is_per_second() -> None:
    """A count over a duration is divided by its seconds; over nothing there is no rate."""
    assert per_second(30, 2 * NS_PER_S) == 15
    assert math.isnan(per_second(30, 0))
    assert math.isnan(per_second(0, -1))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0, "0"),
        (-0.0, "0"),
        (1, "1.00"),
        (-1.5, "-1.50"),
        (12.345, "12.3"),
        (123.45, "123"),
        (0.01234, "0.0123"),
        (0.000002, "0.000002"),
        (999.4, "999"),
        (999.5, "1,000"),
        (1234.5, "1,234"),
        (-1234567, "-1,234,567"),
        # Rounding carries into a further digit: still three of them count.
        (9.999, "10.0"),
        (99.96, "100"),
        (0.9999, "1.00"),
        (0.09996, "0.100"),
        (-9.999, "-10.0"),
    ],
)
def test_a_number_has_three_digits_that_count(value: float | None, text: str) -> None:
    """Three significant digits, no exponent, thousands in groups, a dash for nothing."""
    assert format_number(value) == text


@given(st.floats(0.001, 1e15))
def test_a_formatted_number_is_near_its_value(value: float) -> None:
    """What is read is within half a unit of the third digit, and never an exponent."""
    text = format_number(value)

    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.00501)
    assert value >= 999.5 or len(text.replace(".", "").lstrip("0")) == 3


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 ns"),
        (850, "850 ns"),
        (-850, "-850 ns"),
        (12_345, "12.3 µs"),
        (4_560_000, "4.56 ms"),
        (-4_560_000, "-4.56 ms"),
        (7_800_000_000, "7.80 s"),
        (3_600_000_000_000, "3,600 s"),
        # What rounds to a thousand of a unit is one of the next.
        (999, "999 ns"),
        (999_499, "999 µs"),
        (999_500, "1.00 ms"),
        (999_499_999, "999 ms"),
        (999_999_999, "1.00 s"),
    ],
)
def test_a_duration_is_read_in_the_unit_that_suits_it(nanoseconds: int, text: str) -> None:
    """From nanoseconds to seconds, the number before the unit stays below a thousand."""
    assert format_duration(nanoseconds) == text


def test_a_share_is_shown_in_per_cent() -> None:
    """With three digits, as any number; more than the whole too."""
    assert [percent(share) for share in (0, 0.025, 0.9996, 12)] == [
        *("0 %", "2.50 %", "100 %", "1,200 %")
    ]
