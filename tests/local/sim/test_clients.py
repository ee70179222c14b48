"""The clients that people use talk to the simulated TGI as to a real one."""

import huggingface_hub
import openai
import pytest
import text_generation
import text_generation.errors
import text_generation.types

from tests.local.sim.serving import SLOW, Served, served, setup_of

# text-generation calls what pydantic has deprecated.
OLD_PYDANTIC = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
PROMPT = "Once upon a time"
MESSAGES = [{"role": "user", "content": PROMPT}]


@pytest.fixture
def hub(tgi: Served) -> huggingface_hub.InferenceClient:
    """Hugging Face's client."""
    return huggingface_hub.InferenceClient(model=tgi.url, timeout=60)


def test_hugging_face_generates(hub: huggingface_hub.InferenceClient) -> None:
    """Whole and streamed, with details, the same words come."""
    whole = hub.text_generation(PROMPT, max_new_tokens=5, details=True, return_full_text=False)
    stream = list(
        hub.text_generation(
            PROMPT, max_new_tokens=5, details=True, stream=True, return_full_text=False
        )
    )
    assert whole.details is not None
    assert (whole.details.generated_tokens, whole.details.finish_reason) == (5, "length")
    assert "".join(event.token.text for event in stream) == whole.generated_text
    assert stream[-1].generated_text == whole.generated_text
    assert stream[-1].details is not None
    assert stream[-1].details.input_length == 5


def test_hugging_face_chats(hub: huggingface_hub.InferenceClient) -> None:
    """Whole and streamed, the same message comes."""
    whole = hub.chat_completion(MESSAGES, max_tokens=5, temperature=0)
    stream = list(hub.chat_completion(MESSAGES, max_tokens=5, temperature=0, stream=True))
    content = whole.choices[0].message.content
    assert (whole.usage.completion_tokens, whole.choices[0].finish_reason) == (5, "length")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == content


def test_hugging_face_sees_what_is_refused(hub: huggingface_hub.InferenceClient) -> None:
    """TGI's words reach the caller."""
    with pytest.raises(
        huggingface_hub.errors.TextGenerationError, match=r"`top_p` must be > 0\.0 and < 1\.0"
    ):
        hub.text_generation(PROMPT, top_p=1.0)


def test_openai_chats(tgi: Served) -> None:
    """Whole and streamed with usage, the same message comes."""
    with openai.OpenAI(base_url=f"{tgi.url}/v1", api_key="-") as client:
        whole = client.chat.completions.create(
            model="tgi",
            messages=[{"role": "user", "content": PROMPT}],
            max_tokens=5,
            temperature=0,
        )
        with client.chat.completions.create(
            model="tgi",
            messages=[{"role": "user", "content": PROMPT}],
            max_tokens=5,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            chunks = list(stream)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 5
    assert (whole.model, whole.system_fingerprint) == ("sim:test", "3.3.5-simulated")
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_openai_completes(tgi: Served) -> None:
    """Whole and streamed, the same text comes."""
    with openai.OpenAI(base_url=f"{tgi.url}/v1", api_key="-") as client:
        whole = client.completions.create(model="x", prompt=PROMPT, max_tokens=5, temperature=0)
        with client.completions.create(
            model="x", prompt=PROMPT, max_tokens=5, temperature=0, stream=True
        ) as stream:
            text = "".join(chunk.choices[0].text for chunk in stream)
    assert whole.choices[0].text == text
    assert len(text.split()) == 5


def test_openai_sees_an_overload() -> None:
    """A full server is its `RateLimitError`, or inside a stream its `APIError`."""
    with (
        served(setup_of(SLOW, max_concurrent_requests=1)) as server,
        server.streaming(),
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0) as client,
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(model="x", prompt=PROMPT)
        assert caught.value.response.json()["error"] == "Model is overloaded"
        stream = client.completions.create(model="x", prompt=PROMPT, stream=True)
        with pytest.raises(openai.APIError, match="Model is overloaded"), stream:
            list(stream)


@OLD_PYDANTIC
def test_text_generation(tgi: Served) -> None:
    """TGI's own client generates, whole and streamed, and chats.

    Its chat stream needs a field that no TGI sends, so that is not tried.
    """
    client = text_generation.Client(tgi.url, timeout=60)
    whole = client.generate(PROMPT, max_new_tokens=5)
    stream = list(client.generate_stream(PROMPT, max_new_tokens=5))
    chat = client.chat(
        [text_generation.types.Message(role="user", content=PROMPT)], max_tokens=5, temperature=0.5
    )
    assert whole.details.generated_tokens == len(stream) == 5
    assert "".join(event.token.text for event in stream) == whole.generated_text
    assert stream[-1].details is not None
    assert chat.usage["completion_tokens"] == 5


@OLD_PYDANTIC
def test_text_generation_sees_errors() -> None:
    """A refusal and an overload are errors of its own classes."""
    with served(setup_of(SLOW, max_concurrent_requests=1)) as server:
        client = text_generation.Client(server.url, timeout=60)
        with pytest.raises(
            text_generation.errors.ValidationError, match=r"less than 4095\. Given: 5000"
        ):
            client.generate(PROMPT, truncate=5000)
        with server.streaming(), pytest.raises(text_generation.errors.OverloadedError):
            client.generate(PROMPT)
