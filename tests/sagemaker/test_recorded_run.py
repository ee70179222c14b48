"""A real run through SageMaker, and afterwards what AWS recorded of it.

A simulated TGI in a process of its own is measured through the fake SageMaker; moto keeps the log
that TGI would have written of what the simulator says it did. The wall clock alone joins the two.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

import llmperf_core as lp
from llmperf_core.target import Json, Prompt
from llmperf_core.timeline import Timeline
from llmperf_local.sim.hardware import Hardware
from llmperf_local.sim.options import ServerOptions
from llmperf_local.sim.record import Played
from llmperf_local.sim.server import Setup
from llmperf_sagemaker import Endpoint, server_side
from llmperf_sagemaker.container_log import Success
from llmperf_sagemaker.testing import FakeSageMaker
from tests.local.sim.serving import served
from tests.sagemaker.clients import AT_ONCE, boto, deploy, wait
from tests.sagemaker.tgi_log import text_line

pytestmark = pytest.mark.usefixtures("deadline")

REQUESTS, TOKENS = 12, 8
SETUP = Setup(
    model="sim:test",
    hardware=Hardware(prefill_tokens_per_s=1e5, decode_base_ns=5e6, kv_tokens=1_000_000),
    options=ServerOptions(),
)
GROUP, STREAM = "/aws/sagemaker/Endpoints/e", "AllTraffic/i-0123"


class Numbered:
    """A workload by whose prompts the simulator's record is found."""

    def prompts(self, seed: int) -> Iterator[Prompt]:  # noqa: ARG002 -- nothing is random here
        """Yield each once."""
        for number in range(REQUESTS):
            yield Prompt(text=f"request {number}", max_new_tokens=TOKENS)

    def describe(self) -> Mapping[str, Json]:
        """Say nothing."""
        return {}


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Yield the URL of a moto server, which is the rest of AWS."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def line_of(timeline: Timeline, zero_at_ns: int, played: Played) -> tuple[int, str]:
    """Return TGI's line of an answer, and when it was written, in ms of the wall clock.

    It says that the server had the request from when it was sent until its last token left, which
    is as true as the clocks of both, which are one.
    """
    sent_at_ns = (timeline.sent_at_ns or 0) + zero_at_ns
    total_ns = played.sent_at_ns[-1] - sent_at_ns
    wall_ns = played.sent_at_ns[-1] + time.time_ns() - time.monotonic_ns()
    success = Success(
        at=datetime.fromtimestamp(wall_ns // 1_000 / 1e6, UTC),
        total_ns=total_ns,
        validation_ns=0,
        queue_ns=0,
        inference_ns=total_ns,
        time_per_token_ns=total_ns // TOKENS,
        seed=None,
    )
    return wall_ns // 1_000_000, text_line(success, prompt=played.prompt)


def write_down(session: Any, lines: list[tuple[int, str]]) -> None:
    """Put the lines into the endpoint's log, and count them in CloudWatch."""
    logs = session.client("logs")
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)
    events = [{"timestamp": at_ms, "message": line} for at_ms, line in sorted(lines)]
    logs.put_log_events(logGroupName=GROUP, logStreamName=STREAM, logEvents=events)
    dimensions = [
        {"Name": "EndpointName", "Value": "e"},
        {"Name": "VariantName", "Value": "AllTraffic"},
    ]
    session.client("cloudwatch").put_metric_data(
        Namespace="AWS/SageMaker",
        MetricData=[
            {
                "MetricName": name,
                "Dimensions": dimensions,
                "Timestamp": datetime.fromtimestamp(at_ms / 1e3, UTC),
                "Value": value,
            }
            for at_ms, _ in lines
            for name, value in (("Invocations", 1.0), ("OverheadLatency", 100.0))
        ],
    )


async def test_what_aws_recorded_is_joined_by_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    """All answers and tokens are found again, and what is left is what the way back took."""
    folder = tmp_path / "run"
    with (
        served(SETUP) as server,
        FakeSageMaker(serve=lambda _: nullcontext(server.url), timing=AT_ONCE) as fake,
    ):
        client = boto(fake)
        deploy(client)
        wait(client, "endpoint_in_service")
        for name, value in fake.environment(elsewhere=elsewhere).items():
            monkeypatch.setenv(name, value)
        settings = lp.Settings(duration_s=None, requests=REQUESTS, warmup_s=0, folder=folder)
        stage = await lp.abench(
            Endpoint("e"), lp.Concurrency(2), workload=Numbered(), settings=settings
        )
        played = {one.prompt: one for one in server.record()}
        zero_at_ns = stage.observation.zero_at_ns
        pairs = [(t, played[f"request {t.index}"]) for t in stage.timelines]
        write_down(boto3.Session(), [line_of(t, zero_at_ns, one) for t, one in pairs])

        (joined,) = (await server_side(folder)).stages

    assert joined.watch is not None
    check = joined.watch.crosscheck
    assert check is not None
    assert (check.requests, check.tokens) == (REQUESTS, REQUESTS * TOKENS)
    assert (check.our_requests, check.our_tokens) == (REQUESTS, REQUESTS * TOKENS)
    assert joined.split is not None
    way_back_ns = np.mean([t.ended_at_ns + zero_at_ns - one.sent_at_ns[-1] for t, one in pairs])
    assert joined.split.gateway_ns == pytest.approx(100_000)
    assert joined.split.network_ns + 100_000 == pytest.approx(way_back_ns, abs=1_000)
    assert joined.watch["gpus"].what == "GPUs, by CloudWatch"
