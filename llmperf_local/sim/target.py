"""The scheme `sim:`: a simulated TGI, as a target to measure and as a server for other programs."""

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from difflib import get_close_matches
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from attrs import Attribute, Factory, evolve, field, fields, frozen
from attrs.validators import in_, instance_of

from llmperf_core.errors import StartError, TargetUrlError
from llmperf_core.run.worker import calm_garbage_collection
from llmperf_core.target import Codec, Endpoint, Options, Target
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from llmperf_core.wire.tgi import Tgi
from llmperf_local.process import serving
from llmperf_local.sim.dialect import DIALECTS
from llmperf_local.sim.hardware import Hardware
from llmperf_local.sim.options import Answers, ServerOptions
from llmperf_local.sim.presets import Preset, presets
from llmperf_local.sim.server import Server, Setup, why

T = TypeVar("T", int, float)
Value = TypeVar("Value", Hardware, ServerOptions, Answers)

_PROTOCOLS = ("tgi", "openai-chat", "openai-completions")
_STARTUP_S = 30.0
_SCALES = ("decode", "prefill")
_OWN = ("dialect", "seed")
_NOT_IN_A_URL = ("answers", "version")


def _known_protocol(_: object, __: "Attribute[Options]", options: Options) -> None:
    if options.protocol not in (None, *_PROTOCOLS):
        raise ValueError(f"no protocol {options.protocol!r}: it is {', '.join(_PROTOCOLS)}")


@frozen
class Simulated:
    """A simulated TGI: its scheduler on a model of some hardware, and no language model.

    While it is open, a server runs in a process of its own on a free loopback port. It speaks TGI's
    protocols on real sockets, and writes each token when the scheduler says. It ends with the
    block, and with this process however that dies. Every answer, and every result, says that it is
    simulated.

    Args:
        hardware: how fast it computes.
        server: how TGI is set up.
        label: what tables call it, after `sim:`.
        dialect: which TGI's wire format it speaks. `1.0.3` has no OpenAI routes.
        seed: decides jitter, and where answers end by themselves.
        options: what else may be said of a target. There is no key here, and no TLS.

    Raises:
        ValueError: there is no such dialect or protocol, or the two do not fit.
    """

    hardware: Hardware = field(validator=instance_of(Hardware))
    server: ServerOptions = field(
        factory=ServerOptions, validator=instance_of(ServerOptions), kw_only=True
    )
    label: str = field(default="custom", validator=instance_of(str), kw_only=True)
    dialect: str = field(default="3.3.5", validator=in_(DIALECTS), kw_only=True)
    seed: int = field(default=0, validator=instance_of(int), kw_only=True)
    options: Options = field(
        default=Factory(Options), validator=[instance_of(Options), _known_protocol], kw_only=True
    )

    def __attrs_post_init__(self) -> None:
        if self._protocol != "tgi" and not DIALECTS[self.dialect].openai:
            raise ValueError(f"TGI {self.dialect} does not speak {self._protocol}")

    @property
    def name(self) -> str:
        """The URL that means it, if it has one: `sim:llama-2-7b@ml.g5.2xlarge?decode=1.05`."""
        return f"sim:{self.label}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Start the server, and end it on every way out.

        Raises:
            StartError: it did not come up.
        """
        setup = msgspec.json.encode(self.setup()).decode()
        command = [sys.executable, "-m", "llmperf_local.sim", setup]
        startup_s = self.options.startup_s or _STARTUP_S
        async with serving(command, what=self.name, startup_s=startup_s) as url:
            yield Endpoint(
                base_url=url,
                codec=self._codec(),
                headers=self.options.headers,
                model=self.options.model or self.name,
                server={
                    "engine": f"simulated TGI {self.server.version}",
                    "dialect": self.dialect,
                    "hardware": msgspec.to_builtins(self.hardware),
                    "options": msgspec.to_builtins(self.server),
                },
                simulated=True,
            )

    def setup(self, *, host: str = "127.0.0.1", port: int = 0) -> Setup:
        """Return what its server is told."""
        return Setup(
            model=self.name,
            hardware=self.hardware,
            options=self.server,
            seed=self.seed,
            dialect=self.dialect,
            host=host,
            port=port,
        )

    @property
    def _protocol(self) -> str:
        return self.options.protocol or "tgi"

    def _codec(self) -> Codec:
        options = self.options
        if self._protocol == "tgi":
            return Tgi(stream=options.stream, body=options.body)
        kind = OpenAIChat if self._protocol == "openai-chat" else OpenAICompletions
        return kind(model=options.model or self.name, stream=options.stream, body=options.body)


@frozen
class SimulatorBackend:
    """What the entry point `sim` yields."""

    @property
    def schemes(self) -> Mapping[str, str]:
        """The one scheme."""
        return {"sim": "a simulated TGI, labelled so: sim:llama-2-7b@ml.g5.2xlarge"}

    def target(self, url: str, options: Options) -> Target:
        """Return what the URL names, such as `sim:llama-2-7b@ml.g5.2xlarge?decode=1.05`.

        Raises:
            TargetUrlError: it names none.
        """
        return _named(url, options)

    def serve(
        self, url: str, options: Options, *, host: str, port: int, ready: Callable[[str], None]
    ) -> None:
        """Serve what the URL names in this process, until it is interrupted.

        Raises:
            TargetUrlError: the URL names nothing.
            StartError: the address cannot be listened at.
        """
        simulated = _named(url, options)
        try:
            server = Server(simulated.setup(host=host, port=port))
        except OSError as error:
            reason = f"it cannot listen at {host}:{port} ({why(error)})"
            raise StartError(simulated.name, reason) from error
        with closing(server):
            calm_garbage_collection()
            ready(f"{server.url} ({simulated.name}, simulated: no model answers)")
            server.run()


def _named(url: str, options: Options) -> Simulated:
    parts = urlsplit(url)
    if parts.scheme != "sim" or parts.netloc or parts.fragment:
        raise TargetUrlError(url, "it is not sim:PRESET")
    try:
        chosen = _preset(unquote(parts.path))
        return _changed(chosen, url.partition(":")[2], _wishes(parts.query), options)
    except ValueError as error:
        raise TargetUrlError(url, str(error)) from error


def _preset(name: str) -> Preset:
    known = presets()
    if name not in known:
        close = get_close_matches(name, known, n=3, cutoff=0.5) or known
        raise ValueError(f"no preset {name!r}; there are, for example, {', '.join(close)}")
    return known[name]


def _wishes(query: str) -> Mapping[str, str]:
    wishes: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in wishes:
            raise ValueError(f"{key!r} comes twice")
        wishes[key] = value
    return wishes


def _changed(chosen: Preset, label: str, wishes: Mapping[str, str], options: Options) -> Simulated:
    """Return the preset with what the query says: times scaled, and any option under its name."""
    names = {
        kind: [attribute.name for attribute in fields(kind) if attribute.name not in _NOT_IN_A_URL]
        for kind in (Hardware, ServerOptions, Answers)
    }
    known = [*_SCALES, *_OWN, *(name for several in names.values() for name in several)]
    for key in wishes:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise ValueError(f"{key!r} cannot be set here; {hint}")
    scales = {scale: _read(wishes[scale], float, scale) for scale in _SCALES if scale in wishes}
    if any(factor <= 0 for factor in scales.values()):
        raise ValueError("decode and prefill multiply times: they must be positive")
    answers = _evolved(chosen.options.answers, wishes)
    return Simulated(
        _evolved(chosen.hardware.scaled(**scales), wishes),
        server=evolve(_evolved(chosen.options, wishes), answers=answers),
        label=label,
        dialect=wishes.get("dialect", "3.3.5"),
        seed=_read(wishes.get("seed", "0"), int, "seed"),
        options=options,
    )


def _evolved(value: Value, wishes: Mapping[str, str]) -> Value:
    """Return a value with those of its fields that are wished for."""
    changes = {
        attribute.name: _read(wishes[attribute.name], attribute.type, attribute.name)
        for attribute in fields(type(value))
        if attribute.name in wishes and attribute.name not in _NOT_IN_A_URL
    }
    return evolve(value, **changes)


def _read(text: str, kind: type[T], name: str) -> T:
    """Return what a word of a query says.

    Raises:
        ValueError: it is not of that kind.
    """
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{name} cannot be {text!r}: {error}") from error


backend = SimulatorBackend()
"""The backend of the scheme `sim:`."""
