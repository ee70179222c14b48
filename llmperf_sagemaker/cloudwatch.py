"""What CloudWatch publishes of an endpoint, by whole minutes and some minutes later.

Source: Amazon SageMaker's metrics in CloudWatch: of invocations in microseconds, of instances in
per cent of one CPU or GPU, so that those of several add up to more than 100.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from attrs import frozen

from llmperf_core.units import s_from_us

if TYPE_CHECKING:
    import boto3

    from llmperf_sagemaker.account import Account

MINUTE = timedelta(minutes=1)
_INVOCATION, _INSTANCE = "AWS/SageMaker", "/aws/sagemaker/Endpoints"


def _share(percent: float) -> float:
    return percent / 100


@frozen
class _Metric:
    """A statistic of a metric, and our word for it."""

    word: str
    namespace: str
    name: str
    statistic: str
    in_our_unit: Callable[[float], float] = float


_METRICS = (
    _Metric("invocations", _INVOCATION, "Invocations", "Sum"),
    _Metric("requests", _INVOCATION, "OverheadLatency", "SampleCount"),
    _Metric("overhead_s", _INVOCATION, "OverheadLatency", "Sum", s_from_us),
    _Metric("model_s", _INVOCATION, "ModelLatency", "Sum", s_from_us),
    _Metric("first_chunks", _INVOCATION, "FirstChunkLatency", "SampleCount"),
    _Metric("first_chunk_s", _INVOCATION, "FirstChunkLatency", "Sum", s_from_us),
    _Metric("first_model_s", _INVOCATION, "FirstChunkModelLatency", "Sum", s_from_us),
    _Metric("first_overhead_s", _INVOCATION, "FirstChunkOverheadLatency", "Sum", s_from_us),
    _Metric("errors_4xx", _INVOCATION, "Invocation4XXErrors", "Sum"),
    _Metric("errors_5xx", _INVOCATION, "Invocation5XXErrors", "Sum"),
    _Metric("gpu_busy", _INSTANCE, "GPUUtilization", "Average", _share),
    _Metric("gpu_memory_use", _INSTANCE, "GPUMemoryUtilization", "Average", _share),
    _Metric("cpu_cores", _INSTANCE, "CPUUtilization", "Average", _share),
    _Metric("memory_use", _INSTANCE, "MemoryUtilization", "Average", _share),
)


@frozen(kw_only=True)
class Minute:
    """What was published of one minute; what was not is left out.

    Counts and sums of durations are those of the invocations that ended in it. `gpu_busy` and
    `gpu_memory_use` are sums over the GPUs of an instance, in wholes of one; `cpu_cores` over its
    CPUs; `memory_use` is a share.
    """

    at: datetime
    """Its beginning."""
    values: dict[str, float]


def whole_minutes(open_at: datetime, close_at: datetime) -> tuple[datetime, datetime]:
    """Return the beginning and the end of the whole minutes that an interval touches."""
    last = (close_at - timedelta.resolution).replace(second=0, microsecond=0)
    return open_at.replace(second=0, microsecond=0), last + MINUTE


def published(
    account: "Account | boto3.Session",
    *,
    endpoint: str,
    variant: str,
    open_at: datetime,
    close_at: datetime,
) -> Sequence[Minute]:
    """Return what is published of the minutes that an interval touches, so far. Blocks.

    Args:
        account: the `Account`, or a session of boto3, whose region the endpoint is in.
        endpoint: its name.
        variant: one of its variants.
        open_at: the beginning of the interval, with its time zone.
        close_at: its end, exclusive.

    Raises:
        botocore.exceptions.ClientError: it may not be asked.
        botocore.exceptions.BotoCoreError: it cannot be asked.
    """
    dimensions = [
        {"Name": "EndpointName", "Value": endpoint},
        {"Name": "VariantName", "Value": variant},
    ]
    queries = [
        {
            "Id": f"m{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": metric.namespace,
                    "MetricName": metric.name,
                    "Dimensions": dimensions,
                },
                "Period": int(MINUTE.total_seconds()),
                "Stat": metric.statistic,
            },
        }
        for number, metric in enumerate(_METRICS)
    ]
    first, end = whole_minutes(open_at, close_at)
    pages = (
        account.client("cloudwatch")
        .get_paginator("get_metric_data")
        .paginate(MetricDataQueries=queries, StartTime=first, EndTime=end)
    )
    values: defaultdict[datetime, dict[str, float]] = defaultdict(dict)
    for page in pages:
        for result in page["MetricDataResults"]:
            metric = _METRICS[int(result["Id"].removeprefix("m"))]
            for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                values[at.astimezone(open_at.tzinfo)][metric.word] = metric.in_our_unit(value)
    return [Minute(at=at, values=values[at]) for at in sorted(values) if first <= at < end]
