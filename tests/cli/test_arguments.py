"""Words of the command line that are more than one value."""

from argparse import ArgumentTypeError

import pytest

from llmperf_core.cli.arguments import precision
from llmperf_core.judge import Precision


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ttft.p50=5%", Precision("ttft", 50, relative=0.05)),
        ("e2e.p99.9=2.5%", Precision("e2e", 99.9, relative=0.025)),
        ("requests_per_s=2%", Precision("requests_per_s", None, relative=0.02)),
    ],
)
def test_a_precision_is_a_figure_and_its_share(text: str, expected: Precision) -> None:
    """A percentile of a metric, or a rate, and how many per cent of it may be open."""
    assert precision(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ttft=5%", "'percentile' is for metrics and not for rates"),
        ("itl.p50=5%", "must be one of ttft, tpot"),
        ("ttft.p50=0%", "relative"),
        ("ttft.p50=5", "METRIC.pNN=5% or RATE=5%, not 'ttft.p50=5'"),
        ("", "METRIC.pNN=5%"),
    ],
)
def test_what_is_no_precision_is_one_clear_line(text: str, message: str) -> None:
    """The message says how it is written, or what can be watched."""
    with pytest.raises(ArgumentTypeError, match=message) as error:
        precision(text)
    assert "\n" not in str(error.value)
