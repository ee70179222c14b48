"""Each fault of the catalogue, in SageMaker's event stream, played to the client on the wire."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from llmperf_core.run.settings import Deadlines, Settings
from llmperf_core.target import Endpoint
from llmperf_core.testing import EVENT_STREAM, FAULTS, Fault, ReferenceServer
from llmperf_core.testing.event_stream import payload_part
from llmperf_core.wire.tgi import Tgi
from llmperf_sagemaker.account import Account
from llmperf_sagemaker.codec import Invocation, Route
from llmperf_sagemaker.signing import SigV4
from tests.run.asking import asking_at, failure
from tests.scripted import END, HEAD, Peer, chunk, serving, tgi_last, tgi_token
from tests.testing.test_faults import DEADLINES, QUICK, Seen, outcome_of

OUTCOMES = {"in_band_error": "model_stream_error"}
"""What has another name here than in the catalogue, which has one for all protocols."""
PLAYABLE = [fault for fault in FAULTS.values() if fault.play and fault.fits(EVENT_STREAM)]


@pytest.fixture(autouse=True, scope="module")
def _keys() -> object:
    """Let botocore find credentials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "example")
        yield


def endpoint_at(url: str, *, verify: bool | str = True) -> Endpoint:
    """Return the endpoint that a server stands for."""
    return Endpoint(
        base_url=url,
        codec=Invocation(route=Route(endpoint="llama"), inner=Tgi()),
        auth=SigV4(Account(region="us-west-2")),
        verify=verify,
        metrics_path=None,
    )


@pytest.fixture(scope="module")
async def seen() -> Mapping[str, Seen]:
    """Return what became of a request with each fault, each by a client of its own."""
    names, timelines = [fault.name for fault in PLAYABLE], []
    with ReferenceServer(QUICK, dialect=EVENT_STREAM, fault=names) as server:
        for fault in PLAYABLE:
            settings = Settings(deadlines=DEADLINES.get(fault.outcome, Deadlines()))
            async with asking_at(endpoint_at(server.url), settings) as asker:
                timelines.append(await asker.ask())
    assert server.truth is not None
    return {
        name: Seen(timeline, played)
        for name, timeline, played in zip(names, timelines, server.truth.played, strict=True)
    }


@pytest.mark.parametrize("fault", PLAYABLE, ids=lambda fault: fault.name)
async def test_each_fault_has_the_outcome_that_is_warranted(
    seen: Mapping[str, Seen], fault: Fault
) -> None:
    """As with TGI itself, and exactly the tokens that were sent are counted."""
    timeline, played = seen[fault.name].timeline, seen[fault.name].played

    assert outcome_of(timeline) == OUTCOMES.get(fault.outcome, fault.outcome)
    if fault.countable:
        assert len(timeline.token_at_ns) == played.tokens


async def test_stamps_are_the_kernels_through_tls(tmp_path: Path) -> None:
    """Ciphertext is stamped when it arrives, and what it holds belongs to that instant."""
    authority = trustme.CA()
    certificate, authorities = tmp_path / "server.pem", tmp_path / "authorities.pem"
    issued = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    issued.write_to_path(str(certificate))
    authority.cert_pem.write_to_path(str(authorities))
    with ReferenceServer(QUICK, dialect=EVENT_STREAM, certificate=certificate) as server:
        async with asking_at(endpoint_at(server.url, verify=str(authorities))) as asker:
            timeline = await asker.ask()

    assert timeline.completed
    assert timeline.stamps == "kernel"
    assert timeline.connection.tls_ns > 0
    assert len(timeline.token_at_ns) == len(timeline.read_lag_ns) == 3


async def test_tokens_of_one_part_are_coalesced() -> None:
    """SageMaker may deliver several together; the record says so."""

    async def play(peer: Peer) -> None:
        await peer.request()
        body = payload_part(tgi_token() * 2 + tgi_token()[:9])
        await peer.send(HEAD, chunk(body))
        await peer.send(chunk(payload_part(tgi_token()[9:] + tgi_last(4))), END)

    async with serving(play) as url, asking_at(endpoint_at(url)) as asker:
        timeline = await asker.ask()

    assert timeline.completed
    assert timeline.coalesced >= 2
    assert timeline.tokens.output == len(timeline.token_at_ns) == 4


async def test_a_flipped_bit_is_no_answer() -> None:
    """A checksum that is wrong has a name of its own."""

    async def play(peer: Peer) -> None:
        await peer.request()
        flipped = bytearray(payload_part(tgi_last(2)))
        flipped[-9] ^= 1
        await peer.send(HEAD, chunk(payload_part(tgi_token())), chunk(bytes(flipped)), END)

    async with serving(play) as url, asking_at(endpoint_at(url)) as asker:
        timeline = await asker.ask()

    assert failure(timeline).error == "corrupted"
    assert len(timeline.token_at_ns) == 1
