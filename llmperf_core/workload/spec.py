"""Workloads as the command line and files write them."""

from llmperf_core.errors import UsageError
from llmperf_core.workload.fixed import Fixed
from llmperf_core.workload.protocol import Workload
from llmperf_core.workload.synthetic import Synthetic


def workload_of(spec: str, *, output_tokens: int = 64) -> Workload:
    """Return the workload that a line of text names.

    Args:
        spec: `synthetic:INPUT_TOKENS` or `fixed:TEXT`.
        output_tokens: the limit on each answer.

    Raises:
        UsageError: it names none.
        ValueError: a number is out of its range.
    """
    kind, _, rest = spec.partition(":")
    if kind == "fixed" and rest:
        return Fixed(rest, max_new_tokens=output_tokens)
    if kind == "synthetic" and rest.isdecimal():
        return Synthetic(int(rest), output_tokens)
    raise UsageError(f"workload {spec!r} is neither synthetic:INPUT_TOKENS nor fixed:TEXT")
