"""The backend for servers that already run, against real servers on the loopback interface."""

import errno
import pickle
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import trustme
from attrs import Factory, define, frozen

from llmperf_core.errors import (
    LLMPerfError,
    ProtocolError,
    RefusedByServerError,
    TargetUrlError,
    UnreachableError,
    UsageError,
)
from llmperf_core.target import Endpoint, Options
from llmperf_core.wire.openai import OpenAIChat, OpenAICompletions
from llmperf_core.wire.probe import _causes, _plain_words
from llmperf_core.wire.server import HttpTarget, backend
from llmperf_core.wire.tgi import Tgi
from tests.strategies import recorded

INFO = recorded("tgi/10_info_health_tokenize_metrics", "get_info")
TGI_MODELS = recorded("tgi/10_info_health_tokenize_metrics", "get_v1_models")
LLAMA_MODELS = recorded("openai/llama_cpp", "models")
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


@frozen
class Page:
    """What the server answers at one path."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = Factory(dict)


@define
class Site:
    """A running server, and what it was asked."""

    url: str
    asked: list[tuple[str, Mapping[str, str]]] = Factory(list)
    """Path and headers (lower-case names) of each request."""


NOT_FOUND = Page(b"", 404)
TGI = {"/info": Page(INFO), "/v1/models": Page(TGI_MODELS)}
OPENAI = {"/v1/models": Page(LLAMA_MODELS), "/info": Page(b'{"error":{"code":404}}', 404)}
Serve = Callable[..., Site]


@contextmanager
def serving(pages: Mapping[str, Page], tls: ssl.SSLContext | None) -> Iterator[Site]:
    """Serve the pages on a free port; any other path is 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            page = pages.get(self.path, NOT_FOUND)
            self.send_response(page.status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        site = Site(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Yield a function that starts a server of some pages and returns it."""
    with ExitStack() as stack:
        yield lambda pages, tls=None: stack.enter_context(serving(pages, tls))


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Yield a socket that accepts connections (the kernel does) and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


async def opened(url: str, **options: object) -> Endpoint:
    """Open the server at the URL, and return what was found."""
    target = HttpTarget(url, Options(**options), timeout_s=0.3)  # type: ignore[arg-type]  # by name
    async with target.open() as endpoint:
        return endpoint


async def failure(kind: type[LLMPerfError], url: str, **options: object) -> str:
    """Return the message with which opening fails."""
    with pytest.raises(kind) as raised:
        await opened(url, **options)
    return str(raised.value)


async def test_tgi_is_found(serve: Serve) -> None:
    """A server with TGI's `/info` is spoken to in TGI's own protocol."""
    site = serve(TGI)
    endpoint = await opened(site.url)
    assert (endpoint.base_url, endpoint.codec, endpoint.model) == (site.url, Tgi(), LLAMA)
    assert endpoint.server["max_total_tokens"] == 4096
    assert [path for path, _ in site.asked] == ["/info"]


async def test_openai_is_found(serve: Serve) -> None:
    """A server that lists models is spoken to in OpenAI's protocol, as the first of them."""
    endpoint = await opened(serve(OPENAI).url)
    assert endpoint.codec == OpenAIChat(model="smollm2")
    assert endpoint.model == "smollm2"
    assert endpoint.server["object"] == "list"


async def test_endpoint_travels(serve: Serve) -> None:
    """An endpoint can be sent to the measuring process, and shows no key and no password."""
    url = serve(OPENAI).url.replace("//", "//me:hunter2@")
    endpoint = await opened(url, headers={"X-Api-Key": "hunter2"})
    assert pickle.loads(pickle.dumps(endpoint)).codec == endpoint.codec  # noqa: S301 -- our own
    assert "hunter2" not in repr(endpoint)


async def test_options_reach_the_endpoint(serve: Serve) -> None:
    """The caller's model, body, headers and wish for no stream are those of the endpoint."""
    options = {"model": "lora", "body": {"ignore_eos": True}, "headers": {"X-Team": "a"}}
    endpoint = await opened(serve(OPENAI).url, stream=False, **options)
    assert endpoint.codec == OpenAIChat(model="lora", stream=False, body={"ignore_eos": True})
    assert (endpoint.model, endpoint.headers) == ("lora", {"x-team": "a"})
    endpoint = await opened(serve(TGI).url, stream=False, **options)
    assert endpoint.codec == Tgi(stream=False, body={"ignore_eos": True})


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/v1/models"])
async def test_trailing_route_is_no_part_of_the_base(serve: Serve, ending: str) -> None:
    """The base URL is the same with and without a slash or a route at its end."""
    site = serve(OPENAI)
    endpoint = await opened(site.url + ending)
    assert (endpoint.base_url, endpoint.codec) == (site.url, OpenAIChat(model="smollm2"))


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("/v1", OpenAIChat),
        ("/v1/chat/completions", OpenAIChat),
        ("/v1/completions", OpenAICompletions),
        ("/generate", Tgi),
        ("/generate_stream/", Tgi),
        ("/info", Tgi),
    ],
)
async def test_route_chooses_the_protocol(serve: Serve, route: str, kind: type) -> None:
    """TGI speaks both protocols: the route in the URL says which one is meant."""
    site = serve(TGI)
    endpoint = await opened(site.url + route)
    assert type(endpoint.codec) is kind
    assert (endpoint.base_url, endpoint.model) == (site.url, LLAMA)


async def test_path_before_the_route_is_kept(serve: Serve) -> None:
    """A server may live under a path of its host."""
    site = serve({"/llm/a%20b/v1/models": Page(LLAMA_MODELS)})
    endpoint = await opened(site.url + "/llm/a%20b/v1")
    assert endpoint.base_url == site.url + "/llm/a%20b"


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [("tgi", Tgi), ("openai-chat", OpenAIChat), ("openai-completions", OpenAICompletions)],
)
@pytest.mark.parametrize("status", [404, 500, 403])
async def test_named_protocol_is_trusted(
    serve: Serve, protocol: str, kind: type, status: int
) -> None:
    """A protocol that is named is used, also if the server says nothing of itself."""
    site = serve(dict.fromkeys(("/info", "/v1/models"), Page(b"no", status)))
    endpoint = await opened(site.url, protocol=protocol)
    assert type(endpoint.codec) is kind
    assert (endpoint.server, endpoint.model) == ({}, None)


async def test_named_protocol_goes_over_what_is_found(serve: Serve) -> None:
    """TGI is measured through its OpenAI routes if that protocol is named."""
    endpoint = await opened(serve(TGI).url, protocol="openai-completions")
    assert endpoint.codec == OpenAICompletions(model=LLAMA, tgi=True)


async def test_server_without_models(serve: Serve) -> None:
    """An empty list of models is one of OpenAI's, and names none."""
    endpoint = await opened(serve({"/v1/models": Page(b'{"object":"list","data":null}')}).url)
    assert endpoint.codec == OpenAIChat(model=None)


async def test_key_is_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the named variable goes into the probe and into each request."""
    monkeypatch.setenv("MY_KEY", "sesame\n")
    site = serve(OPENAI)
    endpoint = await opened(site.url, api_key_env="MY_KEY", headers={"Authorization": "other"})
    assert [headers["authorization"] for _, headers in site.asked] == ["Bearer sesame"] * 2
    assert endpoint.headers == {"authorization": "Bearer sesame"}


async def test_no_key_is_sent_unasked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment that nobody named, and a netrc file, stay at home."""
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    site = serve(OPENAI)
    await opened(site.url)
    assert all("authorization" not in headers for _, headers in site.asked)


async def test_user_in_url_is_sent_and_not_shown(serve: Serve) -> None:
    """User and password of the URL become basic authentication, and are shown nowhere."""
    site = serve({})
    url = site.url.replace("//", "//me:hunter2@")
    message = await failure(ProtocolError, url)
    assert site.asked[0][1]["authorization"] == "Basic bWU6aHVudGVyMg=="
    target = HttpTarget(url)
    assert target.name == site.url
    assert "hunter2" not in f"{message}{target!r}{target.name}"


@pytest.mark.parametrize("name", ["UNSET_KEY", "EMPTY_KEY", "ODD_KEY"])
async def test_unusable_key(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable without a usable key is said before anything is asked."""
    monkeypatch.setenv("EMPTY_KEY", " ")
    monkeypatch.setenv("ODD_KEY", "hunter2\N{SNOWMAN}")
    message = await failure(UsageError, "http://127.0.0.1:1", api_key_env=name)
    assert "hunter2" not in message


@pytest.mark.parametrize("headers", [{"a b": "x"}, {"a": "x\ny"}, {"": "x"}, {"a": "é"}])
async def test_unusable_header(headers: dict[str, str]) -> None:
    """A header that HTTP cannot carry is said before anything is asked."""
    assert "cannot carry" in await failure(UsageError, "http://127.0.0.1:1", headers=headers)


@pytest.mark.parametrize("status", [401, 403])
async def test_key_is_wanted(serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """A server that wants a key says how to give one, or that the given one is wrong."""
    page = Page(b'{"error":"Unauthorized"}', status)
    site = serve({"/info": page, "/v1/models": page})
    message = await failure(RefusedByServerError, site.url)
    assert f"answered HTTP {status}; it wants a key" in message
    assert "--api-key-env (it says: Unauthorized)" in message
    monkeypatch.setenv("MY_KEY", "sesame")
    message = await failure(RefusedByServerError, site.url, api_key_env="MY_KEY")
    assert "does not accept the key in MY_KEY" in message


async def test_key_is_wanted_where_the_protocol_is_named(serve: Serve) -> None:
    """Naming the protocol does not help where a key is missing."""
    site = serve({"/v1/models": Page(b"", 401)})
    assert "wants a key" in await failure(RefusedByServerError, site.url, protocol="openai-chat")


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ({"/info": Page(b"", 429)}, "HTTP 429; it has too much to do"),
        ({"/v1/models": Page(b"Loading", 503)}, r"HTTP 503; it fails, or is still starting"),
        ({"/info": Page(b"", 500), "/v1/models": Page(b"", 401)}, "HTTP 401; it wants a key"),
        (
            {"/info": Page(b"", 308, {"location": "https://me:pw@there/info"})},
            "HTTP 308; it sends us to 'https://there/info'",
        ),
    ],
)
async def test_refusals(serve: Serve, pages: Mapping[str, Page], words: str) -> None:
    """A refusal says its status and what to do."""
    assert words in await failure(RefusedByServerError, serve(pages).url)


@pytest.mark.parametrize(
    ("page", "saw"),
    [
        (NOT_FOUND, "GET /info gave HTTP 404; GET /v1/models gave HTTP 404"),
        (Page(b"<html><title>Home</title>"), "GET /info gave HTML page: Home"),
        (Page(b"ok"), "GET /info gave no JSON: ok"),
        (Page(b"[1]"), "GET /info gave no JSON: [1]"),
        (Page(b'{"a":1}'), 'GET /info gave JSON of another shape: {"a":1}'),
        (Page(b"[" * 9999), "GET /info gave no JSON: [["),
        (Page(b"x" * (1 << 21)), "GET /info gave no JSON: xx"),
    ],
)
async def test_unknown_protocol(serve: Serve, page: Page, saw: str) -> None:
    """A server that speaks none of the protocols is told so, with what it did say."""
    site = serve({"/info": page, "/v1/models": page})
    message = await failure(ProtocolError, site.url)
    assert saw in message
    assert "--protocol tgi, openai-chat or openai-completions" in message


async def test_refused_connection() -> None:
    """Where nobody listens, the message is the same for each protocol, named or not."""
    with socket.socket() as bound:  # not listening: the port is taken, and refuses
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        expected = f"cannot reach {url}: connection refused; is the server up"
        assert expected in await failure(UnreachableError, url)
        assert expected in await failure(UnreachableError, url, protocol="tgi")
        url = url.replace("127.0.0.1", "localhost")  # which may be two addresses
        assert "connection refused" in await failure(UnreachableError, url)


async def test_hung_server(listening: socket.socket) -> None:
    """A server that takes the connection and says nothing is given up."""
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    assert "gives no answer within 0.3 s" in await failure(UnreachableError, url)
    url = url.replace("http", "https")
    assert "no connection within 0.3 s" in await failure(UnreachableError, url)


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (b"", UnreachableError, "closes the connection without a whole answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", UnreachableError, "without a whole"),
        (b"220 mail.example ESMTP\r\n\r\n", ProtocolError, "its answer is not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x50\r\n\r\n", ProtocolError, "is it https?"),
    ],
)
async def test_no_http(
    listening: socket.socket, said: bytes, kind: type[LLMPerfError], words: str
) -> None:
    """A server of another protocol, or one that hangs up, is no riddle."""

    def speak() -> None:
        with listening.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(said)

    thread = Thread(target=speak)
    thread.start()
    message = await failure(kind, f"http://127.0.0.1:{listening.getsockname()[1]}")
    thread.join()
    assert words in message


async def test_tls(serve: Serve, tmp_path: Path) -> None:
    """A certificate is checked, against the caller's authority if one is given."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    site = serve(OPENAI, tls=context)
    assert "certificate is not trusted" in await failure(UnreachableError, site.url)
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(file)
    endpoint = await opened(site.url, verify=str(file))
    assert (endpoint.model, endpoint.verify) == ("smollm2", str(file))
    assert (await opened(site.url, verify=False)).model == "smollm2"


async def test_tls_with_a_plain_server(serve: Serve) -> None:
    """A server without TLS that is asked for it is told apart from a dead one."""
    url = serve(OPENAI).url.replace("http", "https")
    assert "is it http rather than https?" in await failure(UnreachableError, url)


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_unusable_authorities(tmp_path: Path, content: str | None) -> None:
    """A file of authorities that is missing or holds none is said as such."""
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_text(content)
    message = await failure(UsageError, "https://127.0.0.1:1", verify=str(file))
    assert f"the authorities in {str(file)!r} cannot be read" in message


async def test_impossible_name() -> None:
    """A host name that no host can have is not found, as one that none has."""
    message = await failure(UnreachableError, f"http://{'a' * 64}.invalid")
    assert "its name cannot be resolved" in message


def test_reasons_that_loopback_does_not_give() -> None:
    """What the resolver and the network raise becomes plain words; the rest is left as it is."""
    with pytest.raises(socket.gaierror) as raised:
        socket.getaddrinfo("name", 80, flags=socket.AI_NUMERICHOST)  # asks no name server
    assert _plain_words(raised.value) == "its name cannot be resolved"
    assert _plain_words(OSError(errno.ENETUNREACH, "Network is unreachable")) == (
        "Network is unreachable"
    )
    assert "closes the connection" in (_plain_words(ConnectionResetError()) or "")
    assert _plain_words(OSError("All connection attempts failed")) is None
    attempts = ExceptionGroup("attempts", [raised.value, ConnectionRefusedError()])
    assert list(map(_plain_words, _causes(attempts))) == [
        None,
        "its name cannot be resolved",
        "connection refused",
    ]


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:80", "ftp://host", "http://", "http:///x", "http://host:99999"),
        *("http://me:pw/hunter2@host/", "http://me:hunter2@host:x", "http://me:hunter2@host\n"),
        *("http://me:hunter2@host?key=hunter2", "http://host/#x"),
    ],
)
def test_bad_urls(url: str) -> None:
    """What is no URL of a server is refused when it is named, and no password is shown."""
    with pytest.raises(TargetUrlError) as raised:
        backend.target(url, Options())
    assert "hunter2" not in str(raised.value)


def test_bad_options() -> None:
    """Options that do not fit are refused when they are given."""
    with pytest.raises(TargetUrlError, match="'grpc' is not known; there are tgi, openai-chat, "):
        backend.target("http://host", Options(protocol="grpc"))
    with pytest.raises(TargetUrlError, match="only one can be sent"):
        backend.target("http://me:pw@host", Options(api_key_env="KEY"))
    with pytest.raises(ValueError, match="timeout_s"):
        HttpTarget("http://host", timeout_s=0)


def test_backend() -> None:
    """The backend serves both schemes, and names a target by its URL."""
    assert set(backend.schemes) == {"http", "https"}
    assert backend.target("https://Host:8443/llm/", Options()).name == "https://host:8443/llm"
