"""The process of a simulated server: `python -m llmperf_local.sim SETUP`, the setup as JSON.

Prints one line of JSON when it listens, `{"listening": "http://127.0.0.1:PORT"}`. Its stdin is a
lifeline that carries no data: at its end, and so when whoever holds it dies, the server ends.
SIGTERM and SIGINT end it, too. The exit status is 0 for all three, and 1 if it cannot listen.
"""

import json
import os
import signal
import sys
from contextlib import closing
from typing import NoReturn

import msgspec

from llmperf_core.run.worker import calm_garbage_collection
from llmperf_local.sim.server import Server, Setup, why


def main() -> None:
    """Serve until told to end."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    setup = msgspec.json.decode(sys.argv[1], type=Setup)
    try:
        server = Server(setup)
    except OSError as error:
        sys.exit(f"cannot listen at {setup.host}:{setup.port}: {why(error)}")
    with closing(server):
        calm_garbage_collection()
        os.write(sys.stdout.fileno(), json.dumps({"listening": server.url}).encode() + b"\n")
        server.run(lifeline=sys.stdin.fileno())


def _end(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
