"""The only conversions and the only formatting of quantities.

Inside, every duration is integer nanoseconds; other units exist at the edges alone.
"""

import math

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
S_PER_H = 3_600
MIN_PER_H = 60
BYTES_PER_GB = 1_000_000_000
MIB = 1 << 20
"""Bytes of a mebibyte."""


def ns_from_s(seconds: float) -> int:
    """Return seconds as whole nanoseconds, rounded to nearest."""
    return round(seconds * NS_PER_S)


def ns_from_ms(milliseconds: float) -> int:
    """Return milliseconds as whole nanoseconds, rounded to nearest."""
    return round(milliseconds * NS_PER_MS)


def s_from_ns(nanoseconds: float) -> float:
    """Return nanoseconds as seconds."""
    return nanoseconds / NS_PER_S


def ms_from_ns(nanoseconds: float) -> float:
    """Return nanoseconds as milliseconds."""
    return nanoseconds / NS_PER_MS


def s_from_ms(milliseconds: float) -> float:
    """Return milliseconds as seconds."""
    return milliseconds * NS_PER_MS / NS_PER_S


def s_from_us(microseconds: float) -> float:
    """Return microseconds as seconds."""
    return microseconds * NS_PER_US / NS_PER_S


def us_from_ns(nanoseconds: float) -> float:
    """Return nanoseconds as microseconds."""
    return nanoseconds / NS_PER_US


def h_from_s(seconds: float) -> float:
    """Return seconds as hours."""
    return seconds / S_PER_H


def min_from_h(hours: float) -> float:
    """Return hours as minutes."""
    return hours * MIN_PER_H


def per_second(count: float, duration_ns: int) -> float:
    """Return a count over a duration as a rate per second; nan for an empty duration."""
    return count * NS_PER_S / duration_ns if duration_ns > 0 else math.nan


def format_number(value: float | None) -> str:
    """Return a number with three significant digits and no exponent; an en dash for none.

    Numbers of 1,000 and more keep all their whole digits, in groups of three; small ones have six
    decimals at most.
    """
    if value is None or math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    # Rounded first: 9.999 becomes 10.0, which has one decimal and not two.
    exponent = math.floor(math.log10(abs(float(f"{value:.3g}"))))
    return f"{value:.{min(max(0, 2 - exponent), 6)}f}"


def format_usd(usd: float | None) -> str:
    """Return money to the cent, and below a dollar with two significant digits: `3.50 USD`."""
    if usd is None or not math.isfinite(usd):
        return "–"
    if usd == 0 or abs(usd) >= 0.995:
        return f"{usd:,.2f} USD"
    exponent = math.floor(math.log10(abs(float(f"{usd:.2g}"))))
    return f"{usd:.{min(1 - exponent, 8)}f} USD"


def percent(share: float) -> str:
    """Return a share of a whole in per cent: `2.50 %` for 0.025."""
    return f"{format_number(100 * share)} %"


def format_duration(nanoseconds: float) -> str:
    """Return a duration in the unit that suits it: `850 ns`, `12.3 µs`, `4.56 ms`, `7.80 s`."""
    # What would be rounded to a thousand of a unit is one of the next.
    size = abs(nanoseconds) / 0.9995
    if size < NS_PER_US:
        return f"{nanoseconds:.0f} ns"
    if size < NS_PER_MS:
        return f"{format_number(us_from_ns(nanoseconds))} µs"
    if size < NS_PER_S:
        return f"{format_number(ms_from_ns(nanoseconds))} ms"
    return f"{format_number(s_from_ns(nanoseconds))} s"


def format_span(seconds: float | None) -> str:
    """Return how long something takes that people wait for: `45 s`, `12.5 min`, `3.20 h`."""
    if seconds is None or seconds < 59.95:
        return "–" if seconds is None else f"{format_number(seconds)} s"
    hours = h_from_s(seconds)
    return (
        f"{format_number(min_from_h(hours))} min" if hours < 0.9995 else f"{format_number(hours)} h"
    )
