"""What AWS recorded of a run, by CloudWatch and its logs, joined to what the client saw.

The services are moto's, behind the real clients of boto3.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from attrs import evolve
from moto import mock_aws

from llmperf_core import Run, StageResult, load_run
from llmperf_core.errors import UsageError
from llmperf_core.load import Concurrency
from llmperf_core.run.folder import RunSpec
from llmperf_core.timeline import Timeline, Window
from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_sagemaker import joining as module
from llmperf_sagemaker.cloudwatch import Minute, whole_minutes
from llmperf_sagemaker.container_log import Success
from llmperf_sagemaker.joining import Served, server_side
from llmperf_sagemaker.log_lines import log_group_of, log_lines
from llmperf_sagemaker.recorded import RunClock, gateway_samples, machine_samples, server_samples
from tests.judge.watched import OBSERVATION, WINDOW, requests
from tests.sagemaker.stubbed import ANYTHING, Call, Said, StubbedSession
from tests.sagemaker.tgi_log import json_line, text_line

ENDPOINT = "llama-2-7b"
SERVED = Served(endpoint=ENDPOINT, instance_type="ml.g5.12xlarge")
GROUP = f"/aws/sagemaker/Endpoints/{ENDPOINT}"
ZERO = (datetime.now(UTC) - timedelta(hours=1)).replace(second=10, microsecond=123)
"""The stage's window is from second 12 to second 22 of a minute."""
TOKENS = 10
IN_MINUTE = 130
"""Requests of the stage that ended in the minute that the window touches: all of them."""


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    """Give a session of an account in which nothing has happened."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    with mock_aws():
        yield boto3.Session(region_name="us-west-2")


def measured(timelines: list[Timeline] | None = None) -> Run:
    """Return a run of one stage, as the client saw it: each request took 500 ms."""
    spec = RunSpec(target=f"sagemaker:{ENDPOINT}")
    observation = evolve(OBSERVATION, started_at=ZERO.isoformat())
    stage = StageResult.of(
        timelines or requests(IN_MINUTE), observation, load=Concurrency(5), spec=spec
    )
    return Run(spec=spec, stages=(stage,))


def answer(ended_at_ns: int, *, queue_ms: int = 25) -> Success:
    """Return what TGI says of an answer that the client had 10 ms later: it took 480 ms."""
    return Success(
        at=ZERO + timedelta(microseconds=ended_at_ns // 1_000 - 10_000),
        total_ns=480 * NS_PER_MS,
        validation_ns=5 * NS_PER_MS,
        queue_ns=queue_ms * NS_PER_MS,
        inference_ns=(475 - queue_ms) * NS_PER_MS,
        time_per_token_ns=(475 - queue_ms) * NS_PER_MS // TOKENS,
        seed=None,
    )


def write_log(
    account: boto3.Session, lines: list[tuple[datetime, str]], group: str = GROUP
) -> None:
    """Put lines into the log of an instance."""
    client, stream = account.client("logs"), "AllTraffic/i-0123"
    client.create_log_group(logGroupName=group)
    client.create_log_stream(logGroupName=group, logStreamName=stream)
    client.put_log_events(
        logGroupName=group,
        logStreamName=stream,
        logEvents=[{"timestamp": int(at.timestamp() * 1_000), "message": m} for at, m in lines],
    )


def log_of(run: Run, write: Callable[[Success], str] = text_line) -> list[tuple[datetime, str]]:
    """Return the log of a container that gave a run's answers, each line taken in 2 s later."""
    told = [answer(timeline.ended_at_ns) for timeline in run.stages[0].timelines]
    lines = [((said.at or ZERO) + timedelta(seconds=2), write(said)) for said in told]
    return [(ZERO, "2026-11-24T12:00:00Z  INFO text_generation_router: Connected"), *lines]


def publish(
    account: boto3.Session, metric: str, values: list[float], *, namespace: str = "AWS/SageMaker"
) -> None:
    """Publish values of a metric in the minute of the window."""
    dimensions = [
        {"Name": "EndpointName", "Value": ENDPOINT},
        {"Name": "VariantName", "Value": "AllTraffic"},
    ]
    account.client("cloudwatch").put_metric_data(
        Namespace=namespace,
        MetricData=[
            {"MetricName": metric, "Dimensions": dimensions, "Timestamp": ZERO, "Value": value}
            for value in values
        ],
    )


def publish_all(account: boto3.Session, count: int = IN_MINUTE) -> None:
    """Publish what SageMaker would of so many requests: 8 ms of its own each."""
    publish(account, "Invocations", [1.0] * count)
    publish(account, "OverheadLatency", [7_000.0, 9_000.0] * (count // 2))
    publish(account, "ModelLatency", [482_000.0] * count)
    publish(account, "Invocation4XXErrors", [1.0, 0.0, 1.0])
    for metric, value in {
        "GPUUtilization": 380.0,
        "GPUMemoryUtilization": 320.0,
        "CPUUtilization": 250.0,
        "MemoryUtilization": 12.0,
    }.items():
        publish(account, metric, [value], namespace="/aws/sagemaker/Endpoints")


@pytest.mark.parametrize("write", [text_line, json_line])
async def test_the_time_of_a_request_is_split(
    account: boto3.Session, write: Callable[[Success], str]
) -> None:
    """Of 500 ms, 480 are the container's by its log, 8 SageMaker's by CloudWatch, 12 the way's."""
    run = measured()
    write_log(account, log_of(run, write))
    publish_all(account)

    (stage,) = (await server_side(run, endpoint=SERVED, account=account)).stages

    split = stage.split
    assert split is not None
    assert split.client_ns == 500 * NS_PER_MS
    assert round(split.server_ns) == 480 * NS_PER_MS
    assert round(split.queue_ns or 0) == 25 * NS_PER_MS
    assert round(split.inference_ns or 0) == 450 * NS_PER_MS
    assert split.gateway_ns == pytest.approx(8 * NS_PER_MS)
    assert split.network_ns == pytest.approx(12 * NS_PER_MS)


async def test_the_counts_of_both_sides_are_held_against_each_other(
    account: boto3.Session,
) -> None:
    """TGI's tokens and answers of the window are ours, but for those that ended at its edges."""
    run = measured()
    write_log(account, log_of(run))
    publish_all(account)

    (stage,) = (await server_side(run, endpoint=SERVED, account=account)).stages

    assert stage.watch is not None
    check = stage.watch.crosscheck
    assert check is not None
    assert check.stretch == WINDOW
    assert check.requests == check.our_requests == 100
    assert check.tokens == check.our_tokens == 1_000
    assert not check.mismatch
    assert not check.others


async def test_cloudwatch_is_told_as_meters(account: boto3.Session) -> None:
    """GPUs by their number, CPUs in cores, means in the units of time."""
    publish_all(account)

    run = await server_side(measured(), endpoint=SERVED, account=account)

    (stage,) = run.stages
    assert stage.watch is not None
    assert stage.watch["gpus"].levels["busy"].mean == pytest.approx(0.95)
    assert stage.watch["gpus"].levels["memory_use"].mean == pytest.approx(0.8)
    assert stage.watch["host"].levels["cpu_cores"].mean == pytest.approx(2.5)
    assert stage.watch["gateway"].rises["requests"] == IN_MINUTE
    shown = repr(run)
    assert "gateway (SageMaker, by CloudWatch): own time 8.00 ms, model 482 ms" in shown
    assert "2 answered 4xx" in shown
    assert "gpus (GPUs, by CloudWatch): 95.0 % busy, 80.0 % of memory" in shown
    assert "host (the instance, by CloudWatch): 12.0 % of memory, 2.50 cores busy" in shown
    assert "server (TGI, by its container's log; AWS refused: ResourceNotFoundException)" in shown
    assert stage.split is None


async def test_a_folder_keeps_what_was_recorded(account: boto3.Session, tmp_path: Path) -> None:
    """It is read back with the run, and asking twice makes no difference."""
    run = measured()
    folder = tmp_path / "run"
    run.save(folder)
    write_log(account, log_of(run))
    publish_all(account)

    joined = await server_side(folder, endpoint=SERVED, account=account)
    again = await server_side(str(folder), endpoint=SERVED, account=account)

    assert load_run(folder).to_dict() == joined.to_dict() == again.to_dict()
    (summary,) = folder.glob("stages/*/summary.json")
    assert '"told_by": "counters"' in summary.read_text()


async def test_a_run_says_itself_what_it_was_of(account: boto3.Session) -> None:
    """Its folder is enough; the account is the user's, in the region of the run."""
    publish_all(account)
    server = {
        "engine": "SageMaker",
        "endpoint": ENDPOINT,
        "variant": "AllTraffic",
        "instance_type": "ml.g5.12xlarge",
        "region": "us-west-2",
    }
    run = measured()
    known = evolve(run, spec=evolve(run.spec, endpoint={"server": server}))

    assert Served.of(known) == SERVED
    assert "gpus (GPUs, by CloudWatch): 95.0 % busy" in repr(await server_side(known))
    with pytest.raises(UsageError, match="does not say which endpoint of SageMaker"):
        await server_side(run)
    with pytest.raises(UsageError, match="does not say which endpoint of SageMaker"):
        await server_side(evolve(known, spec=evolve(run.spec, endpoint={"server": {}})))


class Late:
    """An account whose metrics are published when they are asked for a second time."""

    def __init__(self, account: boto3.Session) -> None:
        self._account, self.asked = account, 0

    def client(self, service: str) -> Any:
        """Return a client of a service."""
        if service == "cloudwatch":
            self.asked += 1
            if self.asked == 2:
                publish_all(self._account)
        return self._account.client(service)


async def test_what_is_published_late_is_waited_for(
    account: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked until CloudWatch has counted all our answers."""
    monkeypatch.setattr(module, "_POLL_S", 0.001)
    late = Late(account)

    run = await server_side(measured(), endpoint=SERVED, account=late, wait_s=24 * 3_600)

    assert late.asked == 2
    assert "gateway (SageMaker, by CloudWatch): own time" in repr(run)


async def test_the_waiting_has_an_end_and_what_is_missing_is_said(account: boto3.Session) -> None:
    """Of a stage that ended an hour ago, nothing more is waited for."""
    publish(account, "Invocations", [1.0] * 7)

    run = await server_side(measured(), endpoint=Served(endpoint=ENDPOINT), account=account)

    assert "by CloudWatch; it counted 7 of our 130 answers): no readings" in repr(run)
    assert "gpus (GPUs, by CloudWatch; how many is not known, name the instance" in repr(run)


async def test_requests_of_others_in_the_same_minutes_are_said(account: boto3.Session) -> None:
    """CloudWatch knows whole minutes only, into which another stage may reach."""
    publish_all(account, 140)

    run = await server_side(measured(), endpoint=SERVED, account=account)

    assert "by CloudWatch; 10 of its requests are not of this stage): own time" in repr(run)


async def test_lines_that_cannot_be_read_are_counted(account: boto3.Session) -> None:
    """Those that can be are read all the same."""
    run = measured()
    lines = log_of(run)
    broken = [(at, line.replace("ms", "moments")) for at, line in lines[60:63]]
    write_log(account, [*lines[:60], *broken, *lines[63:]])
    publish_all(account)

    run = await server_side(run, endpoint=SERVED, account=account)

    assert "container's log; 3 lines of answers cannot be read)" in repr(run)
    assert run.stages[0].watch is not None
    assert run.stages[0].watch["server"].rises["requests"] == 97


async def test_a_container_that_is_not_tgi_says_nothing(account: boto3.Session) -> None:
    """An inference component has a log of its own."""
    group = "/aws/sagemaker/InferenceComponents/part"
    write_log(account, [(ZERO + timedelta(seconds=5), "INFO: POST /invocations 200 OK")], group)

    served = evolve(SERVED, component="part")
    run = await server_side(measured(), endpoint=served, account=account)

    assert "container's log; it has no line of an answer): no readings" in repr(run)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("AccessDenied", "AWS refused: AccessDenied"),
        (None, "AWS could not be asked: EndpointConnectionError"),
    ],
)
async def test_what_may_not_be_asked_is_said(said: Said, why: str) -> None:
    """Nothing is waited for then, and the run stays what it was."""
    session = StubbedSession({"cloudwatch": [("get_metric_data", ANYTHING, said)]})

    run = await server_side(measured(), endpoint=SERVED, account=session, wait_s=24 * 3_600)

    assert f"gateway (SageMaker, by CloudWatch; {why}): no readings" in repr(run)
    assert run.stages[0].summary["e2e"].p50 == measured().stages[0].summary["e2e"].p50


def test_the_log_is_that_of_the_variant_page_by_page() -> None:
    """Instances of other variants write into the same group, which moto does not tell apart."""
    at_ms = int(ZERO.timestamp() * 1_000)
    asked = {
        "logGroupName": GROUP,
        "logStreamNamePrefix": "AllTraffic/",
        "startTime": at_ms,
        "endTime": at_ms + 1_000,
    }
    pages: list[Call] = [
        ("filter_log_events", asked, {"events": [], "nextToken": "more"}),
        (
            "filter_log_events",
            {**asked, "nextToken": "more"},
            {"events": [{"timestamp": at_ms, "message": "Connected"}]},
        ),
    ]

    lines = log_lines(
        StubbedSession({"logs": pages}),
        log_group_of(ENDPOINT),
        variant="AllTraffic",
        open_at=ZERO,
        close_at=ZERO + timedelta(seconds=1),
    )

    assert list(lines) == [(ZERO.replace(microsecond=0), "Connected")]


async def test_a_stage_without_a_time_of_day_is_left_as_it_is(account: boto3.Session) -> None:
    """A crash cut it off before it was known."""
    run = measured()
    stage = evolve(run.stages[0], observation=OBSERVATION)

    joined = await server_side(evolve(run, stages=(stage,)), endpoint=SERVED, account=account)

    assert joined.stages == (stage,)


CLOCK = RunClock(ZERO)


def minute(offset: int, **values: float) -> Minute:
    """Return what was published of a minute, counted from that of the window."""
    at = ZERO.replace(second=0, microsecond=0) + timedelta(minutes=offset)
    return Minute(at=at, values=values)


def test_of_streams_the_first_chunk_tells_the_overhead() -> None:
    """What SageMaker takes until the first chunk is its own time for a stream."""
    told = {"overhead_s": 90.0, "requests": 10.0, "first_chunks": 5.0, "first_overhead_s": 0.05}
    first, last = gateway_samples([minute(0, **told), minute(1, requests=2.0)], CLOCK)

    assert first.values["requests"] == 0.0
    assert last.values["requests"] == 12.0
    assert last.values["overhead_s"] == pytest.approx(12 * 0.01)
    assert last.at_ns - first.at_ns == 120 * NS_PER_S


def test_minutes_without_a_request_tell_nothing() -> None:
    """Neither of the gateway nor, outside the window or of an unknown number of GPUs, of it."""
    quiet = [minute(0, errors_4xx=1.0), minute(1, gpu_busy=1.0)]

    assert list(gateway_samples(quiet, CLOCK)) == []
    assert list(gateway_samples([], CLOCK)) == []
    assert list(machine_samples(quiet, CLOCK, WINDOW, gpus=4)) == []
    assert list(machine_samples([minute(0, gpu_busy=1.0)], CLOCK, WINDOW, gpus=0)) == []


def test_a_minute_is_read_in_the_middle_of_its_part_of_the_window() -> None:
    """However short the part is, the reading is in the window."""
    window = Window(open_at_ns=40 * NS_PER_S, close_at_ns=60 * NS_PER_S)
    minutes = [minute(n, gpu_busy=2.0, memory_use=0.5) for n in range(-1, 3)]
    samples = list(machine_samples(minutes, CLOCK, window, gpus=4))

    assert [sample.at_ns // NS_PER_S for sample in samples] == [44, 44, 54, 54]
    assert all(sample.at_ns in window for sample in samples)
    assert [dict(sample.values) for sample in samples[:2]] == [{"busy": 0.5}, {"memory_use": 0.5}]


def test_answers_outside_the_window_do_not_count() -> None:
    """The counters begin at its opening edge with 0 and end at its closing edge."""
    answers = [answer(second * NS_PER_S + 10 * NS_PER_MS) for second in (1, 2, 11, 12)]
    samples = list(server_samples([(a.at or ZERO, a) for a in answers], CLOCK, WINDOW))

    assert [sample.values["requests"] for sample in samples] == [0, 1, 2, 2]
    assert samples[0].at_ns == WINDOW.open_at_ns
    assert samples[-1].at_ns == WINDOW.close_at_ns
    assert list(server_samples([], CLOCK, WINDOW)) == []


def test_an_instant_is_the_same_on_both_clocks() -> None:
    """To the microsecond, before the run's zero, too."""
    for at_ns in (-5 * NS_PER_S, 0, 1_234_567_000, 3_600 * NS_PER_S):
        assert CLOCK.at_ns(CLOCK.wall(at_ns)) == at_ns


def test_an_interval_that_ends_on_a_minute_does_not_touch_the_next() -> None:
    """Its end is exclusive."""
    begun = ZERO.replace(second=0, microsecond=0)

    assert whole_minutes(begun, begun + timedelta(minutes=1)) == (
        begun,
        begun + timedelta(minutes=1),
    )
    assert whole_minutes(begun, begun + timedelta(seconds=61))[1] == begun + timedelta(minutes=2)
