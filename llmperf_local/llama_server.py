"""Serve one GGUF file with llama.cpp on the loopback interface, in a process of its own.

    python -m llmperf_local.llama_server MODEL [--alias NAME] [--port 0] [--slots 4] [--threads 1]
                                         [--context 2048]

Prints one line of JSON when it listens, `{"listening": "http://127.0.0.1:PORT"}`, and nothing more
to stdout: what llama.cpp says goes to stderr. Its stdin is a lifeline that carries no data: at its
end, and so when whoever holds it dies, the server ends. SIGTERM and SIGINT end it, too. The exit
status is 0 for all three once it listens, and 1 if the model cannot be served.
"""

import argparse
import fcntl
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import NoReturn, Protocol

_LOOPBACK = "127.0.0.1"
_LIFELINE, _STDOUT, _STDERR = 0, 1, 2


class _Listening(Protocol):
    listening_address: str


class _Arguments(argparse.Namespace):
    model: Path
    alias: str
    port: int
    slots: int
    threads: int
    context: int


def main() -> NoReturn:
    """Serve until told to end."""
    arguments = _parsed()
    announcements = _claim_stdout()
    _let_the_kernel_end_us()
    server = _start(arguments)
    told_to_end = _by_signal()
    os.write(announcements, json.dumps({"listening": server.listening_address}).encode() + b"\n")
    os.close(announcements)
    select.select([_LIFELINE, told_to_end], [], [])
    _leave()


def _parsed() -> _Arguments:
    parser = argparse.ArgumentParser(description="Serve one GGUF file with llama.cpp.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--alias", default="model", help="the model's name in answers")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--slots", type=int, default=4, help="requests decoded in parallel")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=2048, help="tokens per slot")
    return parser.parse_args(namespace=_Arguments())


def _claim_stdout() -> int:
    """Return a private copy of stdout, which from now on leads to stderr.

    Nobody reads stdout after the announcement, so native code that wrote to it would block.
    """
    private = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    return private


def _let_the_kernel_end_us() -> None:
    """Have signals and the end of the lifeline end this process without the interpreter's help.

    llama.cpp holds the interpreter's lock while it loads, so until it listens no Python runs: no
    thread that could watch the lifeline, and no signal handler.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGIO):
        signal.signal(number, signal.SIG_DFL)
    fcntl.fcntl(_LIFELINE, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(_LIFELINE, fcntl.F_GETFL)
    fcntl.fcntl(_LIFELINE, fcntl.F_SETFL, flags | os.O_ASYNC)
    ended_before_that, _, _ = select.select([_LIFELINE], [], [], 0)
    if ended_before_that:
        _leave()


def _start(arguments: _Arguments) -> _Listening:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(arguments.model)
    parameters.model_alias = {arguments.alias}
    parameters.hostnames, parameters.port = [_LOOPBACK], arguments.port
    parameters.n_parallel = arguments.slots
    parameters.n_ctx = arguments.context * arguments.slots
    parameters.endpoint_metrics = True
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = arguments.threads
    # A connection holds a thread: in the queue, and for 5 s after an answer that was not streamed.
    # With 64 threads some of 100 connections waited 5 s for a thread; 512 cost 7 ms and 4 MB.
    parameters.n_threads_http = max(512, 2 * arguments.slots)
    # Keeping prompts of idle slots in memory would let one request help the next.
    parameters.cache_ram_mib, parameters.cache_idle_slots = 0, False
    parameters.endpoint_props = parameters.warmup = True
    parameters.ui, parameters.cors_origins = False, "localhost"
    parameters.verbosity = 2  # warnings: a line for each request would cost time that is measured
    try:
        server: _Listening = xllamacpp.Server(parameters)
    except RuntimeError as error:
        sys.exit(str(error))
    return server


def _by_signal() -> int:
    """Return a descriptor that becomes readable when a signal tells us to end.

    A handler in Python would not do: one that is called just before a blocking read has begun
    would run only after it.
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    return reader


def _leave() -> NoReturn:
    # The server's destructor waits for the requests in flight. The kernel frees as much, at once.
    os._exit(0)


if __name__ == "__main__":
    main()
