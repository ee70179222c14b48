"""TGI's routes, and what each makes of a request.

Source: text-generation-inference 3.3, `router/src/server.rs`, `router/src/sagemaker.rs`.
"""

from collections.abc import Callable, Mapping, Sequence
from email.message import Message as Mime
from typing import TypeAlias

import msgspec
from attrs import define, field

from llmperf_core.target import Json
from llmperf_core.testing.connection import Connection, Received
from llmperf_local.sim.answers import Answer, Streamed, Whole, refuse
from llmperf_local.sim.bodies import (
    ChatRequest,
    CompatRequest,
    CompletionRequest,
    GenerateRequest,
    Message,
    Parameters,
    Piece,
)
from llmperf_local.sim.dialect import Dialect
from llmperf_local.sim.engine import Engine
from llmperf_local.sim.reading import read, read_any
from llmperf_local.sim.refusal import BadBody, Refused
from llmperf_local.sim.text import BOS_ID, id_of, pieces_of
from llmperf_local.sim.validation import MAX_BEST_OF, MAX_STOPS, Question
from llmperf_local.sim.voices import ChatVoice, CompletionVoice, GenerateVoice, Voice

MAX_PROMPTS = 4
"""TGI's `--max-client-batch-size`."""
_JSON = {"content-type": "application/json"}
_TEXT = {"content-type": "text/plain; charset=utf-8"}
_OPENAI_PATHS = {"/v1/chat/completions", "/v1/completions", "/v1/models", "/tokenize"}

_Route: TypeAlias = Callable[[Connection, Received], None]


@define(kw_only=True, eq=False)
class Routes:
    """One server's routes."""

    engine: Engine
    dialect: Dialect
    model: str
    """The model's name in answers, which says that it is simulated."""
    version: str
    """Of the scheduler that is simulated."""
    _table: Mapping[str, Mapping[str, _Route]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        posts: dict[str, _Route] = {
            "/generate": self._generate,
            "/generate_stream": self._generate_stream,
            "/": self._compat,
            "/invocations": self._invocations,
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completions,
            "/tokenize": self._tokenize,
        }
        gets: dict[str, _Route] = {
            "/": self._health,
            "/health": self._health,
            "/ping": self._health,
            "/info": self._info,
            "/v1/models": self._models,
            "/metrics": self._metrics,
            "/llmperf/record": self._record,
        }
        table: dict[str, dict[str, _Route]] = {}
        for method, routes in (("POST", posts), ("GET", gets)):
            for path, route in routes.items():
                if self.dialect.openai or path not in _OPENAI_PATHS:
                    table.setdefault(path, {})[method] = route
        self._table = table

    def handle(self, connection: Connection, request: Received) -> None:
        """Answer a request, or begin to."""
        by_method = self._table.get(request.path)
        if by_method is None:
            connection.answer(404, {}, b"")
            return
        route = by_method.get(request.method)
        if route is None:
            connection.answer(405, {"allow": ",".join(by_method)}, b"")
            return
        try:
            if request.method == "POST":
                _check_transport(request)
            route(connection, request)
        except BadBody as bad:
            connection.answer(bad.status, _TEXT, bad.text.encode())
        except Refused as refused:
            self.engine.metrics.failed[refused.error_type] += 1
            refuse(connection, refused)

    # Generating

    def _generate(self, connection: Connection, request: Received) -> None:
        body = read(request.body, GenerateRequest)
        self._ask_generate(connection, request, body, stream=False)

    def _generate_stream(self, connection: Connection, request: Received) -> None:
        body = read(request.body, GenerateRequest)
        self._ask_generate(connection, request, body, stream=True)

    def _compat(self, connection: Connection, request: Received) -> None:
        self._ask_compat(connection, request, read(request.body, CompatRequest))

    def _invocations(self, connection: Connection, request: Received) -> None:
        if not self.dialect.openai:
            self._compat(connection, request)
            return
        match read_any(request.body):
            case CompatRequest() as body:
                self._ask_compat(connection, request, body)
            case ChatRequest() as body:
                self._ask_chat(connection, request, body)
            case CompletionRequest() as body:
                self._ask_completions(connection, request, body)

    def _chat(self, connection: Connection, request: Received) -> None:
        self._ask_chat(connection, request, read(request.body, ChatRequest))

    def _completions(self, connection: Connection, request: Received) -> None:
        self._ask_completions(connection, request, read(request.body, CompletionRequest))

    def _ask_compat(self, connection: Connection, request: Received, body: CompatRequest) -> None:
        # The text begins with the prompt here unless somebody says no.
        wanted = body.wanted
        if wanted.return_full_text is None:
            wanted.return_full_text = True
        body.parameters = wanted
        self._ask_generate(connection, request, body, stream=body.stream, as_list=True)

    def _ask_generate(
        self,
        connection: Connection,
        request: Received,
        body: GenerateRequest,
        *,
        stream: bool,
        as_list: bool = False,
    ) -> None:
        parameters = body.wanted
        voice = GenerateVoice(
            dialect=self.dialect, full_text=bool(parameters.return_full_text), as_list=as_list
        )
        question = Question(
            inputs=body.inputs,
            parameters=parameters,
            streamed=stream,
            cacheable=not parameters.decoder_input_details,
        )
        self._ask(connection, request, [question], voice)

    def _ask_chat(self, connection: Connection, request: Received, body: ChatRequest) -> None:
        if body.tools and body.response_format is not None:
            raise Refused("Tool error: Grammar and tools are mutually exclusive", "tool_error")
        if body.tools:
            raise Refused("Tool error: a simulated model has no tools", "tool_error")
        parameters = Parameters(
            max_new_tokens=body.max_completion_tokens or body.max_tokens,
            temperature=body.temperature or None,
            do_sample=body.temperature != 0,
            top_p=body.top_p,
            stop=body.stop or [],
            seed=body.seed,
            details=True,
            repetition_penalty=_repetition(body.presence_penalty),
            frequency_penalty=body.frequency_penalty,
            top_n_tokens=body.top_logprobs,
            grammar=body.response_format,
        )
        voice = ChatVoice(
            model=self._model_asked(body.model),
            fingerprint=self._fingerprint,
            include_usage=body.stream_options is not None and body.stream_options.include_usage,
            logprobs=bool(body.logprobs),
        )
        question = Question(
            inputs=_templated(body.messages),
            parameters=parameters,
            template=True,
            streamed=body.stream,
        )
        self._ask(connection, request, [question], voice)

    def _ask_completions(
        self, connection: Connection, request: Received, body: CompletionRequest
    ) -> None:
        if body.suffix is not None:
            raise Refused(
                "Suffix is not supported and can be achieved by preprocessing the prompt.",
                "suffix not supported",
            )
        prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        if not prompts:
            raise BadBody(
                422,
                "Failed to deserialize the JSON body into the target type: "
                "prompt array cannot be empty",
            )
        if len(prompts) > MAX_PROMPTS:
            raise Refused(
                f"Number of prompts exceeds the maximum allowed batch size of {MAX_PROMPTS}",
                "batch size exceeded",
            )
        parameters = Parameters(
            max_new_tokens=body.max_tokens,
            temperature=body.temperature or None,
            do_sample=body.temperature != 0,
            top_p=body.top_p,
            stop=body.stop or [],
            seed=body.seed,
            details=True,
            decoder_input_details=not body.stream,
            repetition_penalty=body.repetition_penalty,
            frequency_penalty=body.frequency_penalty,
        )
        questions = [
            Question(
                inputs=prompt,
                parameters=parameters,
                streamed=body.stream,
                cacheable=body.stream,
            )
            for prompt in prompts
        ]
        voice = CompletionVoice(model=self.model, fingerprint=self._fingerprint)
        self._ask(connection, request, questions, voice)

    def _ask(
        self,
        connection: Connection,
        request: Received,
        questions: Sequence[Question],
        voice: Voice,
    ) -> None:
        """Begin the answer, and have it given up if the client goes away."""
        engine = self.engine
        engine.metrics.requests += 1
        began_at_ns = engine.clock()
        characters = sum(len(question.inputs) for question in questions)
        answer: Answer
        if questions[0].streamed:
            answer = Streamed(
                connection=connection,
                voice=voice,
                field_name=self.dialect.field,
                characters=characters,
                clock=engine.clock,
                note_lateness=engine.metrics.lateness.note,
            )
        else:
            answer = Whole(
                connection=connection,
                voice=voice,
                characters=characters,
                began_at_ns=began_at_ns,
                clock=engine.clock,
                note_lateness=engine.metrics.lateness.note,
                counted=self.dialect.indexed,
                with_compute_time=not isinstance(voice, CompletionVoice),
            )
        connection.on_close = lambda: engine.drop(answer)
        engine.begin(questions, answer, route=request.path, began_at_ns=began_at_ns)

    # Saying

    def _tokenize(self, connection: Connection, request: Received) -> None:
        pieces, start = [Piece(BOS_ID, "", 0, 0)], 0
        for piece in pieces_of(read(request.body, GenerateRequest).inputs):
            pieces.append(Piece(id_of(piece), piece, start, start + len(piece)))
            start += len(piece)
        _answer_json(connection, pieces)

    def _health(self, connection: Connection, _request: Received) -> None:
        connection.answer(200, {}, b"")

    def _models(self, connection: Connection, _request: Received) -> None:
        model = {"id": self.model, "object": "model", "created": 0, "owned_by": "simulated"}
        _answer_json(connection, {"object": "list", "data": [model]})

    def _metrics(self, connection: Connection, _request: Received) -> None:
        text = self.engine.metrics.text(self.engine.scheduler.gauges)
        connection.answer(200, _TEXT, text.encode())

    def _record(self, connection: Connection, _request: Received) -> None:
        _answer_json(connection, self.engine.logs.record)

    def _info(self, connection: Connection, _request: Received) -> None:
        _answer_json(connection, self._about)

    @property
    def _fingerprint(self) -> str:
        return f"{self.dialect.version}-simulated"

    def _model_asked(self, model: str | None) -> str:
        """Return what a chat calls the model: what the client called it, as TGI does."""
        return self.model if model in (None, "tgi") else model or self.model

    @property
    def _about(self) -> Mapping[str, Json]:
        """What `/info` says, and beside it what no TGI says: that this is none."""
        options = self.engine.scheduler.options
        model: Mapping[str, Json] = {"model_id": self.model, "model_sha": None}
        limits: Mapping[str, Json] = {
            "max_concurrent_requests": options.max_concurrent_requests,
            "max_best_of": MAX_BEST_OF,
            "max_stop_sequences": MAX_STOPS,
        }
        end: Mapping[str, Json] = {
            "version": self.dialect.version,
            "sha": None,
            "docker_label": "simulated",
            "simulated": True,
            "scheduler_version": self.version,
        }
        if self.dialect.openai:
            return {
                **model,
                "model_pipeline_tag": "text-generation",
                **limits,
                "max_input_tokens": options.max_input_tokens,
                "max_total_tokens": options.max_total_tokens,
                "validation_workers": 1,
                "max_client_batch_size": MAX_PROMPTS,
                "router": "text-generation-router",
                **end,
            }
        hardware = self.engine.scheduler.hardware
        return {
            **model,
            "model_dtype": "torch.float16",
            "model_device_type": "cuda",
            "model_pipeline_tag": "text-generation",
            **limits,
            "max_input_length": options.max_input_tokens,
            "max_total_tokens": options.max_total_tokens,
            "waiting_served_ratio": options.waiting_served_ratio,
            "max_batch_total_tokens": options.max_batch_total_tokens or hardware.kv_tokens,
            "max_waiting_tokens": options.max_waiting_tokens,
            "validation_workers": 1,
            **end,
        }


def _check_transport(request: Received) -> None:
    """Check what axum checks before it reads a body."""
    mime = Mime()
    mime["content-type"] = request.headers.get("content-type", "")
    subtype = mime.get_content_subtype()
    is_json = mime.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )
    if not is_json:
        raise BadBody(415, "Expected request with `Content-Type: application/json`")
    if request.too_long:
        raise BadBody(413, "Failed to buffer the request body: length limit exceeded")


def _repetition(presence: float | None) -> float | None:
    # TGI's own arithmetic, odd as it is.
    return None if presence is None else presence + 2.0


def _templated(messages: Sequence[Message]) -> str:
    """Return a chat as one prompt, in the simulator's own template."""
    said = "".join(f"<|{message.role}|>\n{message.text}\n" for message in messages)
    return f"{said}<|assistant|>\n"


def _answer_json(connection: Connection, value: object) -> None:
    connection.answer(200, _JSON, msgspec.json.encode(value))
