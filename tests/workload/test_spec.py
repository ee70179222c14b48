"""Workloads as the command line writes them."""

from pathlib import Path

import pytest

from llmperf_core.errors import UsageError
from llmperf_core.workload import (
    Conversations,
    Dataset,
    Fixed,
    LogNormal,
    Normal,
    Synthetic,
    Uniform,
    Workload,
    length_of,
    workload_of,
)


@pytest.mark.parametrize(
    ("spec", "workload"),
    [
        ("fixed:Hello: you", Fixed("Hello: you")),
        ("synthetic:64", Synthetic(64, 64)),
        ("synthetic:normal(512,100)", Synthetic(Normal(512, 100), 64)),
        ("synthetic:512?prefix=0.5&prefixes=4", Synthetic(512, 64, prefix_share=0.5, prefixes=4)),
        ("conversation:16", Conversations(Synthetic(16, 64), 3, think_s=1)),
        (
            "conversation:16?turns=uniform(2,5)&think=0.5&prefix=0.1",
            Conversations(Synthetic(16, 64, prefix_share=0.1), Uniform(2, 5), think_s=0.5),
        ),
    ],
)
def test_each_form_has_its_workload(spec: str, workload: Workload) -> None:
    """With the defaults that the classes have."""
    assert workload_of(spec) == workload


def test_options_reach_the_workload(tmp_path: Path) -> None:
    """The limit of answers, the salt and the tokenizer."""
    limited = workload_of("synthetic:64", output_tokens=Uniform(1, 9), tokenizer="server")
    assert limited == Synthetic(64, Uniform(1, 9), tokenizer="server")
    assert workload_of("fixed:x", unique=False, output_tokens=5) == Fixed("x", 5, unique=False)
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "one", "output_tokens": 7}')
    for kind in ("dataset", "sharegpt"):
        data = workload_of(f"{kind}:{path}", unique=False)
        assert isinstance(data, Dataset)
        assert (data.unique, data.output_tokens) == (False, None)
    again = workload_of(f"dataset:{path}", output_tokens=5)
    assert isinstance(again, Dataset)
    assert again.output_tokens == 5


def test_lengths() -> None:
    """A number or a distribution."""
    assert length_of("64") == 64
    assert length_of("uniform(5, 9)") == Uniform(5, 9)
    assert length_of("lognormal(512,300)") == LogNormal(512, 300)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("synthetic", "is none of fixed:TEXT"),
        ("synthetic:", "is none of fixed:TEXT"),
        ("random:5", "is none of fixed:TEXT"),
        ("synthetic:long", "length 'long' is neither"),
        ("synthetic:zipf(1,2)", "length 'zipf\\(1,2\\)' is neither"),
        ("synthetic:normal(1)", "needs two numbers"),
        ("synthetic:normal(a,b)", "needs two numbers"),
        ("synthetic:64?turns=2", "synthetic has no option 'turns'; there are prefix, prefixes"),
        ("conversation:64?turns=x", "length 'x' is neither"),
        ("dataset:/no/such/file", "cannot be read"),
    ],
)
def test_what_names_none_is_said(spec: str, said: str) -> None:
    """With what there is."""
    with pytest.raises(UsageError, match=said):
        workload_of(spec)


def test_a_distribution_for_one_prompt_is_refused() -> None:
    """A fixed prompt has one limit, and so has each row of a file."""
    with pytest.raises(UsageError, match="only the answers of synthetic prompts"):
        workload_of("fixed:x", output_tokens=Uniform(1, 9))
