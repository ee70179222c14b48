"""Streams that codecs stumble over, built from the dialects, with the right answer for each."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from attrs import frozen

from llmperf_core.testing.dialects import OPENAI_CHAT, OPENAI_COMPLETIONS, TGI, Dialect

TEXTS = ("Deep", " \N{LLAMA}ö", " is")
"""The tokens of each trap, unless it says otherwise."""
_COUNT = len(TEXTS)
_ERROR = "CUDA out of memory"
_MOST_BYTES = 1 << 20


@frozen
class Event:
    """A part of a stream, and whether it is the event of a token."""

    data: bytes
    token: bool = False


@frozen(kw_only=True)
class Right:
    """The right answer; what is None is left to the codec."""

    tokens: int = _COUNT
    text: str | None = None
    ended: bool | None = True
    error: str | None = None
    """Words that the reported error must have; None is no error."""
    finish_reason: str | None = None
    output_tokens: int | None = None
    input_tokens: int | None = None
    refused: bool | None = False
    """Whether the decoder must raise DecodeError; None leaves it free to."""


@frozen(kw_only=True)
class Trap:
    """A stream, and the right answer for it."""

    name: str
    rule: str
    """What is right, and why."""
    events: Sequence[Event]
    right: Right
    line_end: bytes = b"\n"

    @property
    def body(self) -> bytes:
        """The whole stream."""
        return b"".join(event.data for event in self.events)

    @property
    def token_ends(self) -> list[range]:
        """For each token's event: the offsets at which it may count as complete."""
        ends, at = [], 0
        for event in self.events:
            at += len(event.data)
            if event.token:
                ends.append(range(at - len(self.line_end), at))
        return ends


def traps(protocol: str) -> list[Trap]:
    """Return the traps of `tgi`, `openai-chat` or `openai-completions`."""
    dialect = {d.protocol: d for d in (TGI, OPENAI_CHAT, OPENAI_COMPLETIONS)}[protocol]
    own = _traps_of_tgi() if dialect is TGI else _traps_of_openai(dialect)
    return [*_framing(dialect), *_broken(dialect), *own]


def _events(dialect: Dialect, *, usage: bool = True) -> list[Event]:
    """Return a whole answer, each event by itself."""
    values = {b"tokens": _COUNT, b"total": _COUNT + 1, b"sent_ns": 1}
    templates = [dialect.token] * (_COUNT - 1) + [dialect.last]
    tokens = [
        Event(template % {**values, b"index": index, b"text": text.encode()}, token=True)
        for index, (template, text) in enumerate(zip(templates, TEXTS, strict=True), start=1)
    ]
    after = (dialect.finish, dialect.usage % values if usage else b"", dialect.done)
    return [Event(event) for event in (dialect.opening,) if event] + [
        *tokens,
        *(Event(event) for event in after if event),
    ]


def _whole(dialect: Dialect, *, usage: bool = True) -> Right:
    """Return the right answer for a whole answer."""
    counted = dialect is TGI or usage
    return Right(
        text="".join(TEXTS),
        finish_reason="length",
        output_tokens=_COUNT if counted else None,
        input_tokens=1 if counted else None,
    )


def _framing(dialect: Dialect) -> Iterator[Trap]:
    """Yield one whole answer in every way that the rules for event streams allow.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """
    usual = _events(dialect)

    def each(rewrite: Callable[[bytes], bytes]) -> list[Event]:
        return [Event(rewrite(event.data), event.token) for event in usual]

    def between(noise: bytes) -> list[Event]:
        return [part for event in usual for part in (Event(noise), event)]

    framed: Iterable[tuple[str, str, Sequence[Event], bytes]] = (
        ("usual", "An answer as servers send it.", usual, b"\n"),
        (
            "no-space",
            "The space after `data:` may be missing.",
            each(lambda event: event.replace(b"data: ", b"data:")),
            b"\n",
        ),
        ("crlf", "Lines may end with CRLF.", each(_lines_end(b"\r\n")), b"\r\n"),
        (
            "cr",
            "Lines may end with CR, which ends them at once.",
            each(_lines_end(b"\r")),
            b"\r",
        ),
        ("comments", "A line that begins with a colon says nothing.", between(b": hm\n\n"), b"\n"),
        ("blank-lines", "An event without data is none.", between(b"\n\n"), b"\n"),
        (
            "other-fields",
            "Fields other than `data` say nothing.",
            each(lambda event: b"event: message\nid: 7\nretry: 3\nx\n" + event),
            b"\n",
        ),
        (
            "byte-order-mark",
            "A stream may begin with one.",
            [Event(b"\xef\xbb\xbf" + usual[0].data, usual[0].token), *usual[1:]],
            b"\n",
        ),
        (
            "two-data-lines",
            "The data of an event may take several lines.",
            each(lambda event: event.replace(b",", b",\ndata: ", 1)),
            b"\n",
        ),
    )
    for name, rule, events, line_end in framed:
        yield Trap(name=name, rule=rule, events=events, right=_whole(dialect), line_end=line_end)


def _lines_end(line_end: bytes) -> Callable[[bytes], bytes]:
    return lambda event: event.replace(b"\n", line_end)


def _broken(dialect: Dialect) -> Iterator[Trap]:
    """Yield what is no whole answer."""
    events = _events(dialect)
    opening = len([event for event in events[:1] if not event.token])
    begun, second = events[: opening + 1], events[opening + 1].data
    error = dialect.error % {b"message": _ERROR.encode()} + dialect.done
    cut = Right(tokens=1, ended=False, text=TEXTS[0])
    yield Trap(
        name="truncated",
        rule="A body that stops early has not ended, and that alone is no error.",
        events=begun,
        right=cut,
    )
    yield Trap(
        name="truncated-within-event",
        rule="Half an event is none.",
        events=[*begun, Event(second[:-20])],
        right=cut,
    )
    yield Trap(
        name="truncated-before-blank-line",
        rule="An event that no blank line has ended is none.",
        events=[*begun, Event(second[:-1])],
        right=cut,
    )
    yield Trap(
        name="nothing",
        rule="An empty body is no answer.",
        events=[],
        right=Right(tokens=0, ended=False, refused=None),
    )
    yield Trap(
        name="in-band-error",
        rule="An error inside the stream is one, whatever the status was; the tokens stay.",
        events=[*begun, Event(error)],
        right=Right(tokens=1, error=_ERROR, ended=None),
    )
    yield Trap(
        name="in-band-error-at-once",
        rule="The first event may be an error.",
        events=[Event(error)],
        right=Right(tokens=0, error=_ERROR, ended=None),
    )
    refused = Right(tokens=1, ended=None, refused=True)
    for name, data, what in (
        ("garbage-in-event", b"\x00\xfe{]", "Data that are no JSON break the protocol"),
        ("other-json", b'{"hello":1}', "JSON of something else breaks the protocol"),
        ("wrong-types", b'{"token":7,"choices":7}', "Fields of other types break the protocol"),
        ("not-utf8", b'{"token":{"text":"\xff"},"choices":[]}', "So does what is not UTF-8"),
        ("nested", b'{"x":' + b"[" * 100_000, "So does what is nested too deep to be decoded"),
    ):
        event = Event(b"data: " + data + b"\n\n")
        yield Trap(
            name=name,
            rule=f"{what}, and the tokens before it stay.",
            events=[*begun, event],
            right=refused,
        )
    yield Trap(
        name="oversized-event",
        rule="A server must not fill the memory: an event above some bound is refused.",
        events=[*begun, *[Event(b"data: " + b"x" * _MOST_BYTES)] * 64],
        right=refused,
    )
    page = b"<!doctype html><html><title>Log in</title></html>"
    for name, body in (("html-page", page), ("bare-json", b'{"generated_text":"","choices":[]}')):
        yield Trap(
            name=name,
            rule="What is no event stream is refused.",
            events=[Event(body)],
            right=Right(tokens=0, ended=None, refused=True),
        )


def _traps_of_tgi() -> Iterator[Trap]:
    *events, last = _events(TGI)
    special = last.data.replace(b'"special":false', b'"special":true')
    yield Trap(
        name="special-token",
        rule="A special token counts, and its text is not part of the answer.",
        events=[*events, Event(special, token=True)],
        right=Right(text="".join(TEXTS[:-1]), finish_reason="length", output_tokens=_COUNT),
    )
    empty = events[0].data.replace(TEXTS[0].encode(), b"")
    yield Trap(
        name="token-without-text",
        rule="A token may have no text, as the first part of a character has none: it counts.",
        events=[Event(empty, token=True), *events[1:], last],
        right=Right(text="".join(TEXTS[1:]), finish_reason="length", output_tokens=_COUNT),
    )
    bare = last.data.replace(b'"details":{', b'"details":null,"x":{')
    yield Trap(
        name="no-details",
        rule="Without details the end is seen all the same.",
        events=[*events, Event(bare, token=True)],
        right=Right(text="".join(TEXTS)),
    )


def _traps_of_openai(dialect: Dialect) -> Iterator[Trap]:
    without_usage = _events(dialect, usage=False)
    *_, finish, done = without_usage
    tokens = [event for event in without_usage if event.token]
    right = _whole(dialect, usage=False)
    yield Trap(
        name="no-usage",
        rule="A server that was asked for the usage may not know how to say it.",
        events=without_usage,
        right=right,
    )
    yield Trap(
        name="usage-null",
        rule="Each chunk may have a usage that is null.",
        events=[
            Event(event.data.replace(b'"choices"', b'"usage":null,"choices"'), event.token)
            for event in without_usage
        ],
        right=right,
    )
    yield Trap(
        name="no-done",
        rule="A finish reason ends the answer, also if no `[DONE]` follows.",
        events=without_usage[:-1],
        right=right,
    )
    yield Trap(
        name="no-finish-reason",
        rule="`[DONE]` ends the answer, also if no finish reason was given.",
        events=[*tokens, done],
        right=Right(text="".join(TEXTS)),
    )
    yield Trap(
        name="no-end",
        rule="With neither the answer has not ended, however many tokens came.",
        events=tokens,
        right=Right(ended=False, text="".join(TEXTS)),
    )
    yield Trap(
        name="finish-only",
        rule="A chunk with a finish reason and no text is no token.",
        events=[finish, done],
        right=Right(tokens=0, finish_reason="length"),
    )
    if dialect is OPENAI_CHAT:
        role = Event(dialect.opening)
        null = Event(dialect.opening.replace(b'"content":""', b'"content":null'))
        for name, first in (("role-only", role), ("role-only-null", null)):
            yield Trap(
                name=name,
                rule="A chunk with a role and no text is no token: TTFT does not end with it.",
                events=[first, *tokens, finish, done],
                right=right,
            )
