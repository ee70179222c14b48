"""The simulated TGI: one socket loop that plays a scheduler in real time.

It is no event loop's guest: a token is due at an instant, and an event loop's timers count whole
milliseconds.
"""

import os
import select
import selectors
import socket
import time
from contextlib import suppress

from attrs import Factory, define, field, frozen
from attrs.validators import ge, gt, in_

from llmperf_core.testing.connection import Connection, Received
from llmperf_core.units import NS_PER_MS, s_from_ns
from llmperf_local.sim.dialect import DIALECTS
from llmperf_local.sim.engine import KEEP_ALIVE_NS, Engine
from llmperf_local.sim.hardware import Hardware
from llmperf_local.sim.options import ServerOptions
from llmperf_local.sim.routes import Routes
from llmperf_local.sim.scheduler import Scheduler
from llmperf_local.sim.validation import Validator

PAYLOAD_LIMIT = 2_000_000
"""Bytes of a body: TGI's `--payload-limit`."""
_BACKLOG = 4096
_ALWAYS = (
    b"x-llmperf-simulated: true\r\n"
    b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
    b"access-control-allow-origin: *\r\n"
)
_SLACK_NS = 3 * NS_PER_MS
"""A wait ends this long before the instant, and the rest is spent looking. On an idle virtual
machine the kernel woke this process 0.3 ms late in the median, and at times 3 ms late."""


@frozen(kw_only=True)
class Setup:
    """Everything that decides how a simulated server behaves."""

    model: str
    """Its name in answers."""
    hardware: Hardware
    options: ServerOptions = Factory(ServerOptions)
    seed: int = 0
    """Decides jitter, and where answers end by themselves."""
    dialect: str = field(default="3.3.5", validator=in_(DIALECTS))
    host: str = "127.0.0.1"
    port: int = field(default=0, validator=ge(0))
    """0 takes a free one."""
    keep_alive_ns: int = field(default=KEEP_ALIVE_NS, validator=gt(0))
    """A stream shows that it lives after so long a silence."""


@define(eq=False)
class Server:
    """A server that listens as soon as it is made, and answers while `run` runs.

    Raises:
        OSError: the address cannot be listened at.
    """

    setup: Setup
    _listener: socket.socket = field(init=False)
    _selector: selectors.DefaultSelector = field(factory=selectors.DefaultSelector, init=False)
    _engine: Engine = field(init=False)
    _routes: Routes = field(init=False)

    def __attrs_post_init__(self) -> None:
        setup = self.setup
        dialect = DIALECTS[setup.dialect]
        self._engine = Engine(
            scheduler=Scheduler(setup.hardware, setup.options, seed=setup.seed),
            validator=Validator(options=setup.options, dialect=dialect),
            keep_alive_ns=setup.keep_alive_ns,
        )
        self._routes = Routes(
            engine=self._engine, dialect=dialect, model=setup.model, version=setup.options.version
        )
        family = socket.AF_INET6 if ":" in setup.host else socket.AF_INET
        self._listener = socket.create_server(
            (setup.host, setup.port), family=family, backlog=_BACKLOG
        )
        self._listener.setblocking(False)  # noqa: FBT003 -- the socket module's own
        self._selector.register(self._listener, selectors.EVENT_READ)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self, lifeline: int | None = None) -> None:
        """Serve until the lifeline, a descriptor, ends; without one, without end."""
        if lifeline is not None:
            self._selector.register(lifeline, selectors.EVENT_READ)
        while True:
            self._wait()
            for key, mask in self._selector.select(0):
                if key.fd == lifeline:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._serve(key.data, mask)
                self._engine.play()  # a request takes as long to read as twenty tokens to write
            self._engine.play()

    def close(self) -> None:
        """Close all sockets."""
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def handle(self, connection: Connection, request: Received) -> None:
        """Answer a request."""
        self._routes.handle(connection, request)

    def want_write(self, connection: Connection) -> None:
        """Flush a connection when its client has read."""
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.modify(connection.sock, both, connection)

    def forget(self, connection: Connection) -> None:
        """Look no more at a connection."""
        self._selector.unregister(connection.sock)

    def _wait(self) -> None:
        """Wait until a socket is ready or a token is due."""
        due_at_ns = self._engine.next_at_ns
        timeout_s: float | None = None
        if due_at_ns is not None:
            self._engine.prepare()
            left_ns = due_at_ns - time.monotonic_ns() - _SLACK_NS
            if left_ns <= 0:
                return
            timeout_s = s_from_ns(left_ns)
        # Not the selector's own wait: epoll takes whole milliseconds.
        select.select([self._selector.fileno()], [], [], timeout_s)

    def _accept(self) -> None:
        """Take one connection: the others are still there when the tokens that are due are out."""
        with suppress(BlockingIOError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)  # noqa: FBT003 -- the socket module's own
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, self, limit=PAYLOAD_LIMIT, always=_ALWAYS)
            self._selector.register(sock, selectors.EVENT_READ, connection)

    def _serve(self, connection: Connection, mask: int) -> None:
        if connection.closed:
            return
        if mask & selectors.EVENT_WRITE:
            connection.flush()
            if not (connection.unsent or connection.closed):
                self._selector.modify(connection.sock, selectors.EVENT_READ, connection)
        if mask & selectors.EVENT_READ and not connection.closed:
            connection.receive()


def why(error: OSError) -> str:
    """Return the system's own words for why an address cannot be listened at."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)  # without what the socket module adds to them
