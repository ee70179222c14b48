"""The simulated TGI writes what a TGI writes: each recorded body, in shape or to the character."""

import json
from collections.abc import Mapping

import httpx
import pytest

from llmperf_core.target import Json
from llmperf_local.sim.server import Setup
from tests.local.sim.serving import FAST, SLOW, Served, served, setup_of, words
from tests.strategies import recorded

PARAMETERS: Mapping[str, Json] = {"max_new_tokens": 4, "details": True}
ASK = {"inputs": "What is Deep Learning?", "parameters": PARAMETERS}
CHAT = {
    "model": "tgi",
    "messages": [{"role": "user", "content": "What is Deep Learning?"}],
    "max_tokens": 3,
    "temperature": 0.0,
}
COMPLETION = {"prompt": "What is Deep Learning?", "max_tokens": 4, "temperature": 0.0}
ERRORS, STREAM_ERRORS = "tgi/08_http_errors_non_stream", "tgi/04_stream_errors_http200"
OVERLOADED = recorded(ERRORS, "overloaded").decode()


def shape(value: Json) -> Json:
    """Return JSON with its keys in their order, and of its values only the kinds."""
    match value:
        case dict():
            return [[key, shape(inner)] for key, inner in value.items()]
        case list():
            return [shape(inner) for inner in value]
        case None:
            return None
    return type(value).__name__


def events(body: str) -> list[Json]:
    """Return the shapes of a stream's events; those that are no JSON as they are."""
    texts = body.removesuffix("\n\n").split("\n\n")
    return [
        shape(json.loads(text.removeprefix("data: "))) if "{" in text else text for text in texts
    ]


def test_a_stream_of_generate(tgi: Served) -> None:
    """Its events have the fields of the recorded ones, and its head says how TGI streams."""
    answer = tgi.post("/generate_stream", ASK)
    found = events(answer.text)
    expected = events(recorded("tgi/02_generate_stream", "response").decode())
    assert found == expected
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-compute-characters"] == "22"
    assert "x-total-time" not in answer.headers


def test_a_stream_without_details_ends_without_them(tgi: Served) -> None:
    """The text comes with the last event, the details only if they were asked for."""
    last = tgi.post(
        "/generate_stream", {"inputs": "x", "parameters": {"max_new_tokens": 4}}
    ).text.split("\n\n")[-2]
    expected = recorded("tgi/02_generate_stream", "variant_details_false_last_event").decode()
    assert events(last) == events(expected)


def test_an_answer_of_generate(tgi: Served) -> None:
    """A whole answer has the recorded fields and headers."""
    answer = tgi.post(
        "/generate", {**ASK, "parameters": {**PARAMETERS, "seed": 42, "do_sample": True}}
    )
    assert shape(answer.json()) == shape(json.loads(recorded("tgi/01_generate", "response")))
    assert answer.json()["details"]["seed"] == 42
    plain = tgi.generate("x", max_new_tokens=2)
    assert list(plain.json()) == ["generated_text"]


def test_the_timing_headers_are_tgis(tgi: Served) -> None:
    """Total is validation, queue and inference; time per token is inference ÷ tokens; whole ms."""
    headers = tgi.generate("x", max_new_tokens=50).headers
    ms = {
        name: int(headers[f"x-{name}-time"])
        for name in ("total", "validation", "queue", "inference")
    }
    assert ms["inference"] >= 49 * 2
    assert abs(ms["total"] - ms["validation"] - ms["queue"] - ms["inference"]) <= 3
    assert int(headers["x-time-per-token"]) in {ms["inference"] // 50, (ms["inference"] + 1) // 50}
    assert (headers["x-prompt-tokens"], headers["x-generated-tokens"]) == ("2", "50")
    assert float(headers["x-compute-time"]) * 1000 >= ms["total"]


@pytest.mark.parametrize("path", ["/", "/invocations"])
def test_the_compatible_routes(tgi: Served, path: str) -> None:
    """They answer with an array, and begin the text with the prompt unless told not to."""
    (answer,) = tgi.post(path, {"inputs": "Once", "parameters": {"max_new_tokens": 3}}).json()
    assert answer["generated_text"].startswith("Once ")
    recorded_stream = recorded(
        "tgi/09_invocations_and_compat_root", "generate_shape_stream", "response"
    )
    stream = tgi.post(path, {**ASK, "stream": True}).text
    assert events(stream) == events(recorded_stream.decode())
    assert '"generated_text":"What is Deep Learning? ' in stream


@pytest.mark.parametrize("usage", [True, False])
def test_a_chat_stream(tgi: Served, usage: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    """Each chunk has the recorded fields; usage comes if asked for; then the end."""
    found = tgi.post(
        "/v1/chat/completions",
        {**CHAT, "max_tokens": 4, "stream": True, "stream_options": {"include_usage": usage}},
    ).text
    name = "response" if usage else "variant_no_include_usage"
    assert events(found) == events(recorded("tgi/05_chat_completions_stream", name).decode())
    assert '"finish_reason":"length"' in found


def test_a_chat_with_log_probabilities(tgi: Served) -> None:
    """They come in OpenAI's shape, streamed and whole."""
    first = tgi.post("/v1/chat/completions", {**CHAT, "stream": True, "logprobs": True}).text
    (content,) = json.loads(first.split("\n\n")[0][6:])["choices"][0]["logprobs"]["content"]
    assert list(content) == ["token", "logprob", "top_logprobs"]
    whole = tgi.post("/v1/chat/completions", {**CHAT, "logprobs": True}).json()
    assert len(whole["choices"][0]["logprobs"]["content"]) == 3


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/invocations"])
def test_a_chat(tgi: Served, path: str) -> None:
    """A whole chat answer has the recorded fields, and says whose it is."""
    answer = tgi.post(path, CHAT).json()
    assert shape(answer) == shape(json.loads(recorded("tgi/06_chat_completions", "response")))
    assert (answer["model"], answer["system_fingerprint"]) == ("sim:test", "3.3.5-simulated")
    named = tgi.post(path, {**CHAT, "model": "mine"}).json()
    assert named["model"] == "mine"


@pytest.mark.parametrize("path", ["/v1/completions", "/invocations"])
def test_completions(tgi: Served, path: str) -> None:
    """Streamed and whole they have the recorded fields."""
    whole = tgi.post(path, COMPLETION)
    stream = tgi.post(path, {**COMPLETION, "stream": True}).text
    assert shape(whole.json()) == shape(
        json.loads(recorded("tgi/07_completions", "non_stream", "response"))
    )
    assert "x-compute-time" not in whole.headers
    assert events(stream) == events(recorded("tgi/07_completions", "stream", "response").decode())


def test_prompts_of_one_stream_take_turns(tgi: Served) -> None:
    """Two prompts come in lock step, as TGI merges them, and the stream ends once."""
    body = {**COMPLETION, "prompt": ["What is Deep Learning?", "Is water wet?"], "max_tokens": 2}
    stream = tgi.post("/v1/completions", {**body, "stream": True}).text
    expected = recorded("tgi/07_completions", "stream_two_prompts", "response").decode()
    assert events(stream) == events(expected)
    order = [
        json.loads(text[6:])["choices"][0]["index"]
        for text in stream.split("\n\n")
        if text.startswith("data: {")
    ]
    assert order == [0, 1, 0, 1]
    whole = tgi.post("/v1/completions", body).json()
    assert sorted(choice["index"] for choice in whole["choices"]) == [0, 1]
    assert whole["usage"]["completion_tokens"] == 4


def test_the_end_of_a_sequence() -> None:
    """It is a special token: an event of its own, and text only in streams of completions."""
    setup = setup_of(answers={"eos_hazard": 0.999999})
    with served(setup) as server:
        stream = server.post("/generate_stream", ASK).text
        chat = server.post("/v1/chat/completions", {**CHAT, "stream": True}).text
        completion = server.post("/v1/completions", {**COMPLETION, "stream": True}).text
        whole = server.post("/v1/completions", COMPLETION).json()
        generated = server.generate("x", max_new_tokens=4, details=True).json()
    assert '"text":"</s>"' in stream
    assert '"special":true},"generated_text":"","details":{"finish_reason":"eos_token"' in stream
    assert '"content":""},"logprobs":null,"finish_reason":"stop"' in chat
    assert '"text":"</s>","logprobs":null,"finish_reason":"eos_token"' in completion
    assert whole["choices"][0] == {
        "index": 0,
        "text": "",
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert generated["details"]["tokens"][-1]["special"]


def test_a_stop_sequence_ends_an_answer_and_is_part_of_it(tgi: Served) -> None:
    """The answer ends with the token that completes it, and says so."""
    text = tgi.generate("x", max_new_tokens=20).json()["generated_text"]
    stop = text.split()[5]
    answer = tgi.generate("x", max_new_tokens=20, stop=[stop], details=True).json()
    assert answer["generated_text"].endswith(stop)
    assert answer["generated_text"] == text[: text.index(stop) + len(stop)]
    assert answer["details"]["finish_reason"] == "stop_sequence"
    never = tgi.generate("x", max_new_tokens=3, stop=["§"], details=True).json()
    assert never["details"]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("empty_inputs", "/generate", {"inputs": ""}),
        ("max_new_tokens_zero", "/generate", {"inputs": "x", "parameters": {"max_new_tokens": 0}}),
        (
            "temperature_zero_on_generate",
            "/generate",
            {"inputs": "x", "parameters": {"temperature": 0}},
        ),
        ("top_p_one", "/v1/chat/completions", {**CHAT, "top_p": 1.0}),
        ("input_too_long", "/", {"inputs": words(1100), "parameters": {"max_new_tokens": 8}}),
        (
            "total_too_long",
            "/invocations",
            {"inputs": words(1500), "parameters": {"max_new_tokens": 1024}},
        ),
        ("too_many_stops", "/generate", {"inputs": "x", "parameters": {"stop": list("abcde")}}),
        (
            "completions_too_many_prompts",
            "/v1/completions",
            {**COMPLETION, "prompt": list("abcde")},
        ),
        ("completions_suffix", "/v1/completions", {**COMPLETION, "suffix": "x"}),
    ],
)
def test_a_refusal(tgi: Served, name: str, path: str, body: object) -> None:
    """What TGI refuses is refused with its status, its words and its type."""
    answer = tgi.post(path, body)
    expected = recorded(ERRORS, name).decode()
    assert (answer.status_code, answer.text) == (422, expected)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-llmperf-simulated"] == "true"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"best_of": 2}, "`best_of` != 1 is not allowed for this endpoint"),
        ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
        ({"frequency_penalty": 3}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"typical_p": 1}, "`typical_p` must be > 0.0 and < 1.0"),
        ({"top_k": 0}, "`top_k` must be strictly positive"),
        ({"top_n_tokens": 9}, "`top_n_tokens` must be >= 0 and <= 0. Given: 9"),
        (
            {"truncate": 0},
            "`truncate` must be strictly positive and less than 1024. Given: 0",
        ),
        ({"grammar": {"type": "regex", "value": "a"}}, "grammar is not supported"),
    ],
)
def test_another_refusal(tgi: Served, parameters: Mapping[str, object], message: str) -> None:
    """TGI's rules that no recorded body shows hold, too."""
    answer = tgi.generate("x", **parameters)
    expected = {"error": f"Input validation error: {message}", "error_type": "validation"}
    assert (answer.status_code, answer.json()) == (422, expected)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"tools": [{}]}, "Tool error: a simulated model has no tools"),
        (
            {"tools": [{}], "response_format": {}},
            "Tool error: Grammar and tools are mutually exclusive",
        ),
    ],
)
def test_tools_are_refused(tgi: Served, extra: Mapping[str, object], message: str) -> None:
    """There are none, and a stream of them does not even begin."""
    answer = tgi.post("/v1/chat/completions", {**CHAT, "stream": True, **extra})
    assert (answer.status_code, answer.json()["error"]) == (422, message)


def test_truncate_keeps_the_end(tgi: Served) -> None:
    """Of a prompt that is too long, the last tokens count, if that was asked for."""
    headers = tgi.generate(words(3000), truncate=5, max_new_tokens=1).headers
    assert headers["x-prompt-tokens"] == "5"


@pytest.mark.parametrize(
    ("name", "content", "headers", "status"),
    [
        ("missing_field", b"{}", {"content-type": "application/json"}, 422),
        (
            "wrong_type",
            b'{"inputs":"x","parameters":{"max_new_tokens":"20"}}',
            {"content-type": "application/json; charset=utf-8"},
            422,
        ),
        ("bad_json", b"x", {"content-type": "application/vnd.x+json"}, 400),
        ("no_content_type", b"{}", {}, 415),
        ("body_over_payload_limit", b" " * 2_000_001, {"content-type": "application/json"}, 413),
    ],
)
@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_a_body_that_cannot_be_read(
    tgi: Served, path: str, name: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    """It is refused in plain text, with the recorded words, before a stream begins."""
    answer = tgi.client.post(path, content=content, headers=headers)
    assert (answer.status_code, answer.text) == (status, recorded(ERRORS, name).decode())
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_body_of_no_shape(tgi: Served) -> None:
    """`/invocations` says that no shape matches."""
    answer = tgi.post("/invocations", {"text": "x"})
    expected = recorded("tgi/09_invocations_and_compat_root", "no_shape_matches", "response")
    assert (answer.status_code, answer.text) == (422, expected.decode())
    bad = tgi.client.post(
        "/invocations", content=b"{", headers={"content-type": "application/json"}
    )
    assert bad.status_code == 400
    empty = tgi.post("/v1/completions", {**COMPLETION, "prompt": []})
    assert (empty.status_code, empty.headers["content-type"]) == (422, "text/plain; charset=utf-8")


def test_paths_and_methods(tgi: Served) -> None:
    """An unknown path is 404, a wrong method 405 with what is allowed, both without a body."""
    unknown, wrong = tgi.client.get("/nowhere"), tgi.client.get("/generate")
    assert (unknown.status_code, unknown.content) == (404, b"")
    assert (wrong.status_code, wrong.content, wrong.headers["allow"]) == (405, b"", "POST")


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        (
            "generate_stream_best_of_2",
            "/generate_stream",
            {"inputs": "x", "parameters": {"best_of": 2}},
        ),
        ("chat_stream_top_p_1", "/v1/chat/completions", {**CHAT, "stream": True, "top_p": 1.0}),
    ],
)
def test_a_refusal_inside_a_stream(tgi: Served, name: str, path: str, body: object) -> None:
    """A stream that is refused has status 200, and the error is its one event."""
    answer = tgi.post(path, body)
    assert (answer.status_code, answer.text) == (200, recorded(STREAM_ERRORS, name).decode())


def test_a_stream_over_the_limit() -> None:
    """The recorded error for another server's limit is the same here."""
    with served(setup_of()) as server:
        answer = server.post(
            "/generate_stream", {"inputs": words(4000), "parameters": {"max_new_tokens": 512}}
        )
    assert answer.text == recorded(STREAM_ERRORS, "generate_stream_validation").decode()


def test_overload_on_each_route() -> None:
    """A full server says so: 429 for whole answers, and an event inside HTTP 200 for streams."""
    with served(setup_of(SLOW, max_concurrent_requests=1)) as server, server.streaming():
        whole = [
            server.post(path, body)
            for path, body in (
                ("/generate", ASK),
                ("/", ASK),
                ("/invocations", ASK),
                ("/invocations", CHAT),
                ("/v1/chat/completions", CHAT),
                ("/v1/completions", COMPLETION),
            )
        ]
        streams = [
            server.post(path, {**body, "stream": True}).text
            for path, body in (
                ("/generate_stream", ASK),
                ("/", ASK),
                ("/v1/chat/completions", CHAT),
                ("/v1/completions", COMPLETION),
            )
        ]
        failures = server.metrics()['tgi_request_failure{err="overloaded"}']
    assert {(answer.status_code, answer.text) for answer in whole} == {(429, OVERLOADED)}
    own = recorded(STREAM_ERRORS, "generate_stream_overloaded").decode()
    openai = recorded(STREAM_ERRORS, "chat_stream_overloaded").decode()
    assert streams == [own, own, openai, openai]
    assert failures == 10


def test_half_of_a_request_is_not_kept_when_the_other_half_finds_no_room() -> None:
    """Of two prompts neither is answered if only one has a place."""
    with served(setup_of(SLOW, max_concurrent_requests=2)) as server, server.streaming():
        answer = server.post("/v1/completions", {**COMPLETION, "prompt": ["x", "y"]})
        alone = server.post("/v1/completions", {**COMPLETION, "prompt": "z"})
    assert (answer.status_code, alone.status_code) == (429, 200)


def test_what_it_says_of_itself(tgi: Served) -> None:
    """`/info` has TGI's fields in TGI's order, and after them that it is simulated."""
    about = tgi.client.get("/info").json()
    expected = list(json.loads(recorded("tgi/10_info_health_tokenize_metrics", "get_info")))
    assert list(about)[: len(expected)] == expected
    assert about["simulated"] is True
    models = tgi.client.get("/v1/models").json()
    assert shape(models) == shape(
        json.loads(recorded("tgi/10_info_health_tokenize_metrics", "get_v1_models"))
    )
    for path in ("/health", "/ping", "/"):
        health = tgi.client.get(path)
        assert (health.status_code, health.content) == (200, b"")
        assert health.headers["x-llmperf-simulated"] == "true"


def test_tokenize(tgi: Served) -> None:
    """The tokens are the text, after the one that begins each prompt."""
    pieces = tgi.post("/tokenize", {"inputs": "Deep learning, 42!"}).json()
    expected = json.loads(recorded("tgi/10_info_health_tokenize_metrics", "post_tokenize"))
    assert shape(pieces[0]) == shape(expected[0])
    assert "".join(piece["text"] for piece in pieces) == "Deep learning, 42!"
    assert [(piece["start"], piece["stop"]) for piece in pieces][:3] == [(0, 0), (0, 4), (4, 13)]
    headers = tgi.generate("Deep learning, 42!", max_new_tokens=1).headers
    assert headers["x-prompt-tokens"] == str(len(pieces))


def test_the_dialect_of_the_study() -> None:
    """TGI 1.0.3 wrote no space and no index, counted no input, and had no OpenAI routes."""
    with served(Setup(model="sim:old", hardware=FAST, dialect="1.0.3")) as server:
        stream = server.post("/generate_stream", ASK).text
        whole = server.post("/invocations", {"inputs": "x", "parameters": {}})
        info = server.client.get("/info").json()
        missing = server.post("/v1/chat/completions", CHAT).status_code
    expected = recorded("tgi/03_generate_stream_v1_0_3", "response").decode()
    assert events(stream.replace("data:", "data: ")) == events(expected.replace("data:", "data: "))
    assert "data: " not in stream
    assert len(whole.json()[0]["generated_text"].split()) == 21
    assert "x-prompt-tokens" not in whole.headers
    assert (missing, info["version"]) == (404, "1.0.3")
    assert {"max_input_length", "waiting_served_ratio", "model_dtype"} <= info.keys()


def test_metrics(tgi: Served) -> None:
    """The counters have TGI's names and count what happened; our lateness is among them."""
    before = tgi.metrics()
    tgi.generate("x", max_new_tokens=3)
    tgi.post("/generate_stream", ASK)
    tgi.generate("", max_new_tokens=3)
    after = tgi.metrics()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("tgi_request_count") == 3
    assert grown("tgi_request_success") == 2
    assert grown('tgi_request_failure{err="validation"}') == 1
    assert grown("tgi_request_inference_duration_count") == 2
    assert grown('tgi_request_duration_bucket{le="+Inf"}') == 2
    assert grown("tgi_request_generated_tokens_count") == 2
    assert grown("tgi_request_generated_tokens_sum") == 3 + 4
    assert grown("tgi_request_input_length_count") == 2
    assert grown("llmperf_sim_lateness_seconds_count") == 1 + 4
    assert (after["tgi_queue_size"], after["tgi_batch_current_size"]) == (0, 0)


def test_the_server_answers_httpx_as_any_server(tgi: Served) -> None:
    """One connection carries request after request."""
    with httpx.Client(base_url=tgi.url, limits=httpx.Limits(max_connections=1)) as client:
        answers = [client.post("/generate", json=ASK).status_code for _ in range(3)]
        client.get("/nowhere")
        answers.append(client.get("/health").status_code)
    assert answers == [200] * 4
