"""`llmperf serve`: run a server that a backend has, for other programs."""

import argparse
from contextlib import suppress

from llmperf_core.backends import server_of
from llmperf_core.cli.arguments import port
from llmperf_core.target import Options


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is, and which options it takes."""
    parser.description = "Serve a simulated server until Ctrl-C, for other programs to talk to."
    parser.epilog = "example:\n  llmperf serve sim:llama-2-7b@ml.g5.2xlarge --port 8080"
    parser.add_argument("target", metavar="TARGET", help="such as sim:PRESET; see: llmperf targets")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument("--port", type=port, default=0, help="0 takes a free one (default)")


def run(given: argparse.Namespace) -> int:
    """Serve until interrupted, which is how it is meant to end."""
    backend = server_of(given.target)
    with suppress(KeyboardInterrupt):
        backend.serve(given.target, Options(), host=given.host, port=given.port, ready=_say)
    return 0


def _say(where: str) -> None:
    print(f"serving {where}", flush=True)
