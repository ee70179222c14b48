"""An image registry of one image, which can be slow. Source: OCI Distribution Specification 1.1."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LAYERS, _LAYER_BYTES = 3, 4_000_000


class Registry:
    """Serves one image by every name; its layers wait for `go_on`."""

    def __init__(self) -> None:
        self.asked_for_layer = threading.Event()
        self.go_on = threading.Event()
        layers = [_layer(number) for number in range(_LAYERS)]
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/nothing"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(raw) for raw, _ in layers]},
            }
        ).encode()
        self.blobs = {_digest(packed): packed for _, packed in layers}
        self.layers = list(self.blobs)
        self.blobs[_digest(config)] = config
        kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(config),
                    "digest": _digest(config),
                },
                "layers": [
                    {"mediaType": kind, "size": len(self.blobs[digest]), "digest": digest}
                    for digest in self.layers
                ],
            }
        ).encode()


def _layer(number: int) -> tuple[bytes, bytes]:
    """Return a layer with one file of random bytes, as a tar archive and packed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(f"layer{number}")
        entry.size = _LAYER_BYTES
        archive.addfile(entry, io.BytesIO(os.urandom(_LAYER_BYTES)))
    return buffer.getvalue(), gzip.compress(buffer.getvalue())


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ours: Registry

    def do_HEAD(self) -> None:
        self._head(*self._found())

    def do_GET(self) -> None:
        body, kind = self._found()
        self._head(body, kind)
        if _digest(body) in self.ours.layers:
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.ours.asked_for_layer.set()
            self.ours.go_on.wait(60)
            body = body[half:]
        with suppress(OSError):  # who asked may have gone
            self.wfile.write(body)

    def _found(self) -> tuple[bytes, str]:
        if "/manifests/" in self.path:
            return self.ours.manifest, _MANIFEST
        blob = self.ours.blobs.get(self.path.rpartition("/")[2])
        return (b"{}", "application/json") if blob is None else (blob, "application/octet-stream")

    def _head(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("docker-content-digest", _digest(body))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def registry() -> Iterator[tuple[Registry, str]]:
    """Yield a registry, and the name of its image."""
    ours = Registry()
    handler = type("Handler", (_Handler,), {"ours": ours})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield ours, f"127.0.0.1:{server.server_port}/tests/slow:1"
        finally:
            ours.go_on.set()
            server.shutdown()
            thread.join()
