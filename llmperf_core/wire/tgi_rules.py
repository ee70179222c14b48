"""What TGI refuses and what it silently ignores, known before it is asked.

Source: text-generation-inference, `router/src/lib.rs` (fields, conversions) and
`router/src/validation.rs` (limits), 3.3. Limits that a server can
be started with, such as the number of stop sequences, are left to it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from llmperf_core.errors import UsageError
from llmperf_core.target import Json

Route: TypeAlias = Literal["generate", "openai"]
"""TGI's own routes, or those of OpenAI's protocol."""

LONGEST_EXACT = 1024
"""Longer answers are generated in pieces of it, and may end early or late by some of one."""
_GENERATE = """
adapter_id best_of decoder_input_details details do_sample frequency_penalty grammar max_new_tokens
repetition_penalty return_full_text seed stop temperature top_k top_n_tokens top_p truncate
typical_p watermark
"""
_OPENAI = """
frequency_penalty logit_bias logprobs max_completion_tokens max_tokens messages model n
presence_penalty prompt repetition_penalty response_format seed stop stream stream_options suffix
temperature tool_choice tool_prompt tools top_logprobs top_p
"""
_FIELDS: Mapping[Route, frozenset[str]] = {
    "generate": frozenset(_GENERATE.split()),
    "openai": frozenset(_OPENAI.split()),
}
_UNUSED: Mapping[Route, frozenset[str]] = {
    "generate": frozenset(),
    "openai": frozenset({"n", "logit_bias"}),
}
"""Fields that are read, and make no difference."""


def _number(value: Json) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _positive(value: Json) -> bool:
    number = _number(value)
    return number is not None and number > 0


def _inside_0_and_1(value: Json) -> bool:
    number = _number(value)
    return number is not None and 0 < number < 1


def _within_2(value: Json) -> bool:
    number = _number(value)
    return number is not None and -2 <= number <= 2


def _list(value: Json) -> bool:
    return isinstance(value, list | tuple)


_Rule: TypeAlias = tuple[Callable[[Json], bool], str]
_BOTH: Mapping[str, _Rule] = {
    "top_p": (_inside_0_and_1, "must be above 0 and below 1; leave it out for 1"),
    "repetition_penalty": (_positive, "must be above 0"),
    "frequency_penalty": (_within_2, "must be from -2 to 2"),
    "stop": (_list, "must be a list of texts"),
}
_RULES: Mapping[Route, Mapping[str, _Rule]] = {
    "generate": {
        **_BOTH,
        "temperature": (_positive, "must be above 0; leave it out for greedy decoding"),
        "typical_p": (_inside_0_and_1, "must be above 0 and below 1; leave it out for 1"),
        "top_k": (_positive, "must be above 0; leave it out for all"),
    },
    "openai": {
        **_BOTH,
        "logit_bias": (_list, "must be a list"),
        "suffix": (lambda _: False, "is refused whatever it is; leave it out"),
    },
}


def caveats(
    fields: Mapping[str, Json], max_new_tokens: int, route: Route, *, stream: bool
) -> Sequence[str]:
    """Return what TGI will ignore or change of a request, one line each.

    Args:
        fields: the generation parameters, under the route's own names; None for one left out.
        max_new_tokens: the limit on the answer.
        route: which protocol it is asked in.
        stream: whether the answer is streamed.

    Raises:
        UsageError: it would refuse the request.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    for name, (allowed, wanted) in _RULES[route].items():
        if name in given and not allowed(given[name]):
            raise UsageError(f"TGI refuses {name} = {given[name]!r}: it {wanted}")
    if stream and (_number(given.get("best_of")) or 1) > 1:
        raise UsageError("TGI refuses best_of above 1 in a stream: leave it out, or do not stream")
    found = [f"{name} is ignored by TGI" for name in given if _is_ignored(name, route)]
    if "presence_penalty" in given and route == "openai":
        found.append(
            f"presence_penalty = {given['presence_penalty']!r} becomes a repetition penalty of 2 "
            "more in TGI, so that 0 is a strong one: leave it out"
        )
    if max_new_tokens > LONGEST_EXACT:
        found.append(
            f"answers of more than {LONGEST_EXACT} tokens may end early or late in TGI 3.1.1 and "
            "later, with a stall at each multiple"
        )
    return found


def _is_ignored(name: str, route: Route) -> bool:
    return name not in _FIELDS[route] or name in _UNUSED[route]
