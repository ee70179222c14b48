"""What TGI refuses or ignores is known before it is asked."""

from collections.abc import Mapping

import pytest

from llmperf_core.errors import UsageError
from llmperf_core.target import Careful, Codec, Json, Prompt
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from llmperf_core.wire.probe import is_tgi
from llmperf_core.wire.tgi import Tgi

CHAT = OpenAIChat(tgi=True)
COMPLETIONS = OpenAICompletions(tgi=True)


def said(codec: Codec, parameters: Mapping[str, Json], max_new_tokens: int = 64) -> str:
    """Return the caveats of a prompt with these parameters."""
    assert isinstance(codec, Careful)
    prompt = Prompt(text="x", parameters=parameters, max_new_tokens=max_new_tokens)
    return "; ".join(codec.caveats(prompt))


@pytest.mark.parametrize(
    ("codec", "parameters", "why"),
    [
        (Tgi(), {"top_p": 1.0}, "TGI refuses top_p = 1.0: it must be above 0 and below 1"),
        (CHAT, {"top_p": 1}, "refuses top_p = 1"),
        (COMPLETIONS, {"top_p": True}, "refuses top_p"),
        (Tgi(), {"typical_p": 1.0}, "refuses typical_p"),
        (Tgi(), {"temperature": 0}, "refuses temperature = 0: it must be above 0; leave it out"),
        (Tgi(), {"top_k": 0}, "refuses top_k"),
        (Tgi(), {"repetition_penalty": 0}, "refuses repetition_penalty"),
        (CHAT, {"frequency_penalty": 3}, "refuses frequency_penalty"),
        (Tgi(), {"stop": "END"}, "refuses stop = 'END': it must be a list of texts"),
        (CHAT, {"stop": "END"}, "refuses stop"),
        (CHAT, {"logit_bias": {"5": 1}}, "refuses logit_bias"),
        (COMPLETIONS, {"suffix": "."}, "refuses suffix"),
        (Tgi(), {"best_of": 2}, "refuses best_of above 1 in a stream"),
        (Tgi(body={"parameters": {"top_p": 1.0}}), {}, "refuses top_p"),
        (OpenAIChat(tgi=True, body={"top_p": 1.0}), {}, "refuses top_p"),
    ],
)
def test_what_is_refused(codec: Codec, parameters: Mapping[str, Json], why: str) -> None:
    """The message says what to do instead."""
    with pytest.raises(UsageError, match=why):
        said(codec, parameters)


@pytest.mark.parametrize(
    ("codec", "parameters", "caveat"),
    [
        (Tgi(), {"ignore_eos": True}, "ignore_eos is ignored by TGI"),
        (Tgi(), {"min_tokens": 5}, "min_tokens is ignored by TGI"),
        (Tgi(), {"presence_penalty": 0}, "presence_penalty is ignored by TGI"),
        (CHAT, {"ignore_eos": True, "n": 1}, "ignore_eos is ignored by TGI; n is ignored by TGI"),
        (CHAT, {"presence_penalty": 0}, "becomes a repetition penalty of 2 more"),
    ],
)
def test_what_is_ignored(codec: Codec, parameters: Mapping[str, Json], caveat: str) -> None:
    """It is said once the numbers are there, as they are of another question."""
    assert caveat in said(codec, parameters)


@pytest.mark.parametrize(
    ("codec", "parameters"),
    [
        (Tgi(), {}),
        (Tgi(), {"top_p": 0.9, "temperature": 0.7, "stop": ["END"], "do_sample": True, "seed": 1}),
        (Tgi(), {"top_p": None, "ignore_eos": None}),
        (Tgi(stream=False), {"best_of": 2, "do_sample": True}),
        (CHAT, {"temperature": 0, "stop": ["END"], "frequency_penalty": 0.5, "logprobs": True}),
        (OpenAIChat(), {"top_p": 1.0, "ignore_eos": True, "presence_penalty": 0, "stop": "END"}),
    ],
)
def test_what_is_as_it_should_be(codec: Codec, parameters: Mapping[str, Json]) -> None:
    """Nothing is said, nor of a server that is not TGI."""
    assert said(codec, parameters) == ""


def test_long_answers() -> None:
    """Above 1,024 tokens the length is not exact."""
    assert said(Tgi(), {}, 1024) == ""
    assert "more than 1024 tokens may end early or late" in said(CHAT, {}, 1025)


def test_tgi_is_known_by_its_list_of_models() -> None:
    """Where only OpenAI's routes were asked."""
    tgi: Json = {"id": "m", "object": "model", "created": 0, "owned_by": "m"}
    vllm: Json = {"id": "m", "object": "model", "created": 1700000000, "owned_by": "vllm"}

    assert is_tgi({"object": "list", "data": [tgi]})
    assert not is_tgi({"object": "list", "data": [vllm]})
    assert not is_tgi({"object": "list", "data": [tgi, vllm]})
    assert is_tgi({"model_id": "m", "max_total_tokens": 5})
    assert not is_tgi({})
