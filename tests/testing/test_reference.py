"""The server with known truth: what it plays, and what it says of its own lateness."""

import json
import sys
import time
from itertools import pairwise

import httpx
import pytest

from llmperf_core.errors import StartError
from llmperf_core.testing import Played, ReferenceServer, Script
from llmperf_core.units import NS_PER_S


def stamps_of(url: str, tokens: int) -> list[int]:
    """Ask for so many tokens, and return when the server says that it sent each."""
    body = {"inputs": "x", "parameters": {"max_new_tokens": tokens}}
    response = httpx.post(url + "/generate_stream", json=body, trust_env=False)
    events = [line[5:] for line in response.text.splitlines() if line.startswith("data:")]
    return [json.loads(event)["sent_ns"] for event in events]


def test_it_plays_its_script() -> None:
    """No token leaves before it is due, and each says when it left, on this machine's clock."""
    began_ns = time.monotonic_ns()
    with ReferenceServer(Script(first_token_s=0.05, gap_s=0.02)) as server:
        sent_ns = stamps_of(server.url, 5)
    ended_ns = time.monotonic_ns()

    assert len(sent_ns) == 5
    assert began_ns + 0.05 * NS_PER_S <= sent_ns[0] <= sent_ns[-1] <= ended_ns
    assert all(a < b for a, b in pairwise(sent_ns))


def test_it_says_how_late_it_was() -> None:
    """Known once it has stopped."""
    with ReferenceServer(Script(first_token_s=0, gap_s=0)) as server:
        assert server.truth is None
        stamps_of(server.url, 7)

    assert server.truth is not None
    said = server.truth.send_error
    assert said.events == 7
    assert 0 <= said.late_p50_us <= said.late_p99_us <= said.late_max_us


def test_it_hands_its_stamps_over() -> None:
    """Those that the events held, by what was asked."""
    with ReferenceServer(Script(first_token_s=0, gap_s=0)) as server:
        first, second = stamps_of(server.url, 3), stamps_of(server.url, 2)

    assert server.truth is not None
    assert list(server.truth.sent_at_ns.values()) == [[first, second]]


def test_it_says_what_it_is() -> None:
    """As TGI does, so that its protocol is found."""
    with ReferenceServer() as server:
        info = httpx.get(server.url + "/info", trust_env=False).json()

    assert info["model_id"] == "reference"


def test_one_token_is_an_answer() -> None:
    """The first is the last, too."""
    with ReferenceServer(Script(first_token_s=0)) as server:
        assert len(stamps_of(server.url, 1)) == 1


def test_it_is_gone_after_its_block() -> None:
    """On every way out."""
    server = ReferenceServer()
    with pytest.raises(RuntimeError), server:
        raise RuntimeError

    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, trust_env=False)


def test_client_that_goes_away_does_not_stop_it() -> None:
    """The others are served on."""
    with ReferenceServer(Script(first_token_s=0, gap_s=0.01)) as server:
        with httpx.stream(
            "POST",
            server.url + "/generate_stream",
            json={"inputs": "x", "parameters": {"max_new_tokens": 1000}},
            trust_env=False,
        ) as response:
            next(response.iter_raw())

        assert len(stamps_of(server.url, 3)) == 3


def test_server_that_does_not_come_up_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that ends at once."""
    monkeypatch.setattr(sys, "executable", "/bin/true")

    with pytest.raises(StartError, match="the reference server"), ReferenceServer():
        pass


def test_what_is_no_request_is_refused() -> None:
    """As TGI does, with its status; the server goes on."""
    with ReferenceServer(Script(first_token_s=0)) as server:
        answer = httpx.post(server.url + "/generate_stream", json={}, trust_env=False)
        assert answer.status_code == 422
        assert len(stamps_of(server.url, 1)) == 1


def ask(server: ReferenceServer, prompt: str = "x") -> bytes:
    """Ask for three tokens; return the body."""
    body = {"inputs": prompt, "parameters": {"max_new_tokens": 3}}
    url = server.url + "/generate_stream"
    return httpx.post(url, json=body, trust_env=False, timeout=60).content


def test_a_timeline_is_played_to_the_byte() -> None:
    """Bytes go into the body as they are, tokens as the dialect has them, each at its time."""
    script = Script(timeline=[(0.0, b": hm\n\n"), (0.03, 1), (0.03, b"data"), (0.05, 2)])
    began_ns = time.monotonic_ns()
    with ReferenceServer(script) as server:
        body = ask(server)

    assert body.startswith(b': hm\n\ndata: {"index":1,')
    assert b'}\n\ndatadata: {"index":2,' in body
    assert body.endswith(b"}\n\n")
    assert b'"generated_tokens":3' in body
    assert server.truth is not None
    [stamps] = server.truth.sent_at_ns["x"]
    assert stamps[0] - began_ns >= 0.03 * NS_PER_S
    assert stamps[1] == stamps[2] >= stamps[0]
    assert stamps[1] - began_ns >= 0.05 * NS_PER_S


def test_a_timeline_of_bytes_alone_is_a_body() -> None:
    """For recorded streams: the server counts no tokens in them."""
    with ReferenceServer(Script(timeline=[(0, b"data: a\n\n"), (0.01, b"data: b\n\n")])) as server:
        assert ask(server) == b"data: a\n\ndata: b\n\n"

    assert server.truth is not None
    assert server.truth.send_error.events == server.truth.played[0].tokens == 0


def test_what_the_client_does_not_read_is_held() -> None:
    """Nothing is lost when the kernel takes no more, and the truth says that it happened."""
    large = b":" + b"x" * 30_000_000 + b"\n\n"
    with ReferenceServer(Script(timeline=[(0, large), (0, 1)])) as server:
        body = ask(server)

    assert body.startswith(large)
    assert len(body) > len(large)
    assert server.truth is not None
    assert server.truth.held_writes > 0


def test_it_counts_what_it_played() -> None:
    """Each request, with its fault, whether its connection was fresh, and its tokens."""
    with (
        ReferenceServer(Script(first_token_s=0, gap_s=0), fault=["http-500-empty", None]) as server,
        httpx.Client(trust_env=False) as client,
    ):
        for prompt in ("a", "b", "c"):
            body = {"inputs": prompt, "parameters": {"max_new_tokens": 2}}
            client.post(server.url + "/generate_stream", json=body)

    assert server.truth is not None
    assert server.truth.played == [
        Played("a", "http-500-empty", reused=False, tokens=0),
        Played("b", None, reused=True, tokens=2),
        Played("c", "http-500-empty", reused=True, tokens=0),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gap_s", -1),
        ("first_token_s", -0.1),
        ("timeline", [(0.2, 1), (0.1, 1)]),
        ("timeline", [(-1, b"")]),
        ("timeline", [(0, 0)]),
    ],
)
def test_a_script_that_cannot_be_played_is_refused(field: str, value: object) -> None:
    """Time does not go back, and a token is a token."""
    with pytest.raises(ValueError, match=field):
        Script(**{field: value})  # type: ignore[arg-type]  # by name
