"""One stage against one simulated TGI, three ways: directly, through SageMaker, and by boto3.

The simulator is a process of its own, and says when it let each token go. So is SageMaker, the
fake, which passes each of them on. What both our ways see is held against the simulator's record,
and the counts against what boto3's own streaming client reads, too.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest
from attrs import frozen

import llmperf_core as lp
from llmperf_core.target import Json, Prompt
from llmperf_core.timeline import Completed, Timeline
from llmperf_core.units import NS_PER_MS
from llmperf_core.wire.tgi import Tgi
from llmperf_local.sim.hardware import Hardware
from llmperf_local.sim.options import Answers, ServerOptions
from llmperf_local.sim.record import Played
from llmperf_local.sim.server import Setup
from llmperf_sagemaker.codec import Invocation, Route
from llmperf_sagemaker.testing import FakeSageMaker, SeparateFake, Streams
from tests.local.sim.serving import Served, served
from tests.sagemaker.clients import AT_ONCE, boto, deploy, wait

pytestmark = pytest.mark.usefixtures("deadline")

REQUESTS, STREAMS = 24, 4
AGREEMENT_NS = NS_PER_MS
# This share of what is compared must agree. How long a machine lets a token wait on its way through
# two servers is no error of the instrument's. Where nothing has to wait, nearly all does agree:
# AGREEMENT_QUANTILE=0.99 chrt --fifo 10 pytest tests/sagemaker/test_three_ways.py
QUANTILE = float(os.environ.get("AGREEMENT_QUANTILE", "0.1"))
SETUP = Setup(
    model="sim:test",
    hardware=Hardware(
        prefill_tokens_per_s=1e5, decode_base_ns=8e6, kv_tokens=1_000_000, jitter=0.2
    ),
    # Answers end where the seed of the request says, so that their lengths differ.
    options=ServerOptions(answers=Answers(eos_hazard=0.04)),
)


@frozen
class Numbered:
    """A workload in which each request asks something else, and has an answer of its own length."""

    def prompts(self, seed: int) -> Iterator[Prompt]:  # noqa: ARG002 -- nothing is random here
        """Yield each once."""
        for number in range(REQUESTS):
            yield Prompt(text=f"request {number}", max_new_tokens=40, parameters={"seed": number})

    def describe(self) -> Mapping[str, Json]:
        """Return nothing: no run is kept."""
        return {}


@frozen
class ThreeWays:
    """What each way saw, and what the simulator did; by the ordinal of the request."""

    direct: lp.StageResult
    sagemaker: lp.StageResult
    boto3: Mapping[int, list[Json]]
    """The events of TGI."""
    played: list[Mapping[int, Played]]
    """For each way, in that order."""


def measured(url: str) -> lp.StageResult:
    """Return the stage, measured."""
    return lp.bench(
        url,
        lp.Concurrency(STREAMS),
        workload=Numbered(),
        settings=lp.Settings(duration_s=None, requests=REQUESTS, warmup_s=0),
    )


def by_boto3(fake: SeparateFake) -> Mapping[int, list[Json]]:
    """Ask the same with boto3's own client, from as many threads as the stage has streams."""
    client = boto(fake, "sagemaker-runtime")
    codec = Invocation(route=Route(endpoint="e"), inner=Tgi(body={"stream": True}))

    def ask(prompt: Prompt) -> list[Json]:
        said = client.invoke_endpoint_with_response_stream(
            EndpointName="e", ContentType="application/json", Body=codec.request(prompt).body
        )
        stream = b"".join(event["PayloadPart"]["Bytes"] for event in said["Body"])
        return [json.loads(line[5:]) for line in stream.splitlines() if line]

    with ThreadPoolExecutor(STREAMS) as threads:
        return dict(enumerate(threads.map(ask, Numbered().prompts(0))))


@contextmanager
def sagemaker_in_front_of(url: str, cut_seed: int | None) -> Iterator[SeparateFake]:
    """Put the endpoint `e` into service, where our own code looks for AWS."""
    made = FakeSageMaker(
        serve=lambda _: nullcontext(url), streams=Streams(cut_seed=cut_seed), timing=AT_ONCE
    )
    with SeparateFake(made) as fake, pytest.MonkeyPatch.context() as patch:
        client = boto(fake)
        deploy(client)
        wait(client, "endpoint_in_service")
        for name, value in fake.environment().items():
            patch.setenv(name, value)
        yield fake


@pytest.fixture(scope="module", params=[None, 7], ids=["parts", "cut parts"])
def ways(request: pytest.FixtureRequest) -> Iterator[ThreeWays]:
    """Yield the stage, measured each way; the parts are events, or cut anywhere."""
    with served(SETUP) as server, sagemaker_in_front_of(server.url, request.param) as fake:
        direct, through = measured(server.url), measured("sagemaker:e")
        yield ThreeWays(direct, through, by_boto3(fake), played(server))


def played(server: Served) -> list[Mapping[int, Played]]:
    """Return what the simulator says of each way."""
    record = [one for one in server.record() if one.prompt.startswith("request ")]
    ways = [list(islice(record, REQUESTS * k, REQUESTS * (k + 1))) for k in range(3)]
    return [{int(one.prompt.split()[1]): one for one in way} for way in ways]


def ours(ways: ThreeWays) -> list[tuple[lp.StageResult, Mapping[int, Played]]]:
    """Return both our ways, each with the truth."""
    return [(ways.direct, ways.played[0]), (ways.sagemaker, ways.played[1])]


def errors_ns(
    stage: lp.StageResult, truth: Mapping[int, Played]
) -> dict[str, npt.NDArray[np.int64]]:
    """Return how much TTFT and each ITL of a stage differ from the simulator's record.

    Both count from the instant at which the request was sent, so that TTFT is as wrong as the stamp
    of the first token.
    """
    zero_ns = stage.observation.zero_at_ns
    pairs = [
        (t.token_at_ns + zero_ns, np.array(truth[t.index].sent_at_ns)) for t in stage.timelines
    ]
    return {
        "ttft": np.array([seen[0] - sent[0] for seen, sent in pairs]),
        "itl": np.concatenate([np.abs(np.diff(seen) - np.diff(sent)) for seen, sent in pairs]),
    }


def counts(timelines: Sequence[Timeline]) -> dict[int, int]:
    """Return the tokens of each answer, as the stream had them."""
    return {t.index: len(t.token_at_ns) for t in timelines}


def test_token_counts_agree_exactly(ways: ThreeWays) -> None:
    """Each answer has as many tokens as the simulator played, whichever way it came."""
    true = [{k: len(one.sent_at_ns) for k, one in way.items()} for way in ways.played]
    assert len(true[0]) == REQUESTS
    assert len(set(true[0].values())) > 5  # lengths differ, or equal counts would say little
    assert true[0] == true[1] == true[2]

    by_boto3 = {k: len(events) for k, events in ways.boto3.items()}
    assert counts(ways.direct.timelines) == true[0]
    assert counts(ways.sagemaker.timelines) == true[0]
    assert by_boto3 == true[0]


def test_the_servers_own_counts_agree_exactly(ways: ThreeWays) -> None:
    """What TGI says at the end of each answer, and why it ended."""
    said = {}
    for k, events in ways.boto3.items():
        last = events[-1]
        assert isinstance(last, dict)
        details = last["details"]
        assert isinstance(details, dict)
        said[k] = (details["generated_tokens"], details["finish_reason"])
    for stage in (ways.direct, ways.sagemaker):
        assert stage.summary.requests.failed == stage.summary.requests.censored == 0
        ended = {
            t.index: (t.tokens.output, t.outcome.finish_reason)
            for t in stage.timelines
            if isinstance(t.outcome, Completed)
        }
        assert ended == said


def test_stamps_are_the_kernels(ways: ThreeWays) -> None:
    """Through SageMaker as well as directly."""
    for stage in (ways.direct, ways.sagemaker):
        assert stage.summary.stamps == "kernel"
        assert stage.observation.user_stamped_reads == 0


@pytest.mark.parametrize("metric", ["ttft", "itl"])
def test_ttft_and_itl_agree_with_the_simulators_record(ways: ThreeWays, metric: str) -> None:
    """Within a millisecond, directly and through SageMaker; no token is seen before it was sent."""
    for stage, truth in ours(ways):
        errors = errors_ns(stage, truth)
        assert errors["ttft"].min() >= -AGREEMENT_NS
        assert np.quantile(errors[metric], QUANTILE) < AGREEMENT_NS
