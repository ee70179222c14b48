"""What TGI's launcher does, as far as a bring-up sees it; no model. It runs in a container.

The model's name says how it goes: `works`, `slow` (never ready), `crash`, `gated`, `memory`,
`leaky` (prints its token), `gpuless`. Its log lines are TGI's, and so is the protocol.
"""

import argparse
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers like TGI; `/made-with` tells what the process was started with."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say what there is to say."""
        known = {
            "/health": {},
            "/info": {"model_id": "works", "router": "tests", "max_total_tokens": 4096},
            "/made-with": {"arguments": sys.argv[1:], "environment": dict(os.environ)},
        }
        body = json.dumps(known.get(self.path, {})).encode()
        self.send_response(200 if self.path in known else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Stream as many tokens as are asked for."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        tokens = asked["parameters"]["max_new_tokens"]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for index in range(1, tokens + 1):
            self._event(index, index == tokens)
            time.sleep(0.002)
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, index: int, is_last: bool) -> None:  # noqa: FBT001 -- a script of the tests
        details = {"finish_reason": "length", "generated_tokens": index, "seed": None}
        event = {
            "index": index,
            "token": {"id": 1, "text": " tok", "logprob": -0.5, "special": False},
            "generated_text": "tok" if is_last else None,
            "details": details if is_last else None,
        }
        data = f"data: {json.dumps(event)}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


def say(line: str) -> None:
    """Print a log line as TGI's launcher does, colours and all."""
    sys.stdout.write(f"\x1b[2m2026-01-01T00:00:00.000000Z\x1b[0m \x1b[32m INFO\x1b[0m {line}\n")
    sys.stdout.flush()


def fail(model: str) -> None:
    """End as this model does, if it does."""
    match model:
        case "crash":
            say("Shard 0 failed to start")
            sys.stderr.write("Error: ShardCannotStart\n")
            sys.exit(7)
        case "gated":
            sys.stderr.write("GatedRepoError: 401 Client Error.\nError: DownloadError\n")
            sys.exit(1)
        case "memory":
            hoard = [bytearray(os.urandom(1 << 20)) for _ in range(4096)]
            del hoard
        case "leaky":
            sys.stderr.write(f"HF_TOKEN={os.environ.get('HF_TOKEN')}\n")
            sys.exit(3)
        case "gpuless":
            sys.stderr.write("RuntimeError: Found no NVIDIA driver on your system.\n")
            sys.exit(1)


def main() -> None:
    """Come up step by step, or fail."""
    # As process 1 it has no usual handlers: without this SIGTERM would not end it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-id", required=True)
    parser.add_argument("--num-shard", type=int, required=True)
    parser.add_argument("--quantize", choices=["gptq", "awq"])
    parser.add_argument("--max-total-tokens", type=int)
    given = parser.parse_args()
    say("Starting check and download process for works")
    say("Successfully downloaded weights for works")
    fail(given.model_id)
    say("Starting shard")
    say("Warming up model")
    while given.model_id == "slow":
        time.sleep(1)
    server = ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler)
    say("Connected")
    server.serve_forever()


if __name__ == "__main__":
    main()
