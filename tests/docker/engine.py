"""A real Docker Engine from Debian packages: nothing is installed, and nothing is left.

The packages are unpacked into a folder; the engine listens on a socket in there, has a bridge of
its own, and is ended by its process id.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

_PACKAGES = ("docker.io", "containerd", "runc", "tini")
_PATIENCE_S = 60.0
_GPU_HOOK = "nvidia-container-runtime-hook"


def why_not() -> str | None:
    """Return why no engine can be brought up here; None if one can."""
    if os.geteuid() != 0:
        return "a Docker engine needs root, or DOCKER_HOST names one that runs"
    missing = [tool for tool in ("apt-get", "dpkg-deb", "ip") if shutil.which(tool) is None]
    if missing:
        return f"no {missing[0]} to bring up a Docker engine with; DOCKER_HOST may name one"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay filesystem for a Docker engine"
    return None


def unpack(folder: Path) -> Path:
    """Fetch the engine's packages, unpack them, and return where.

    Raises:
        subprocess.CalledProcessError: they cannot be had; its stderr says why.
    """
    packages, root = folder / "packages", folder / "root"
    lists = folder / "lists"
    for place in (packages, root, lists / "partial"):
        place.mkdir(parents=True)
    own = ["-qq", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={folder}"]
    own += ["-o", "APT::Sandbox::User=root"]
    _run(["apt-get", *own, "update"], packages)
    _run(["apt-get", *own, "download", *_PACKAGES], packages)
    for package in packages.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(root)], packages)
    return root


def _run(command: Sequence[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=120)


@contextmanager
def engine(root: Path, folder: Path, *, gpu_hook: bool = False) -> Iterator[str]:
    """Run an engine, and yield the URL of its socket.

    Args:
        root: where its packages are unpacked.
        folder: where it may keep its data; short, as it holds a socket.
        gpu_hook: put a stub in the place of NVIDIA's hook, so that GPUs can be asked for. A
            container then finds in its environment which ones it was given.
    """
    path = f"{root}/usr/sbin:{root}/usr/bin:{os.environ['PATH']}"
    if gpu_hook:
        hook = folder / "bin" / _GPU_HOOK
        hook.parent.mkdir()
        hook.write_text("#!/bin/sh\ncat >/dev/null\n")
        hook.chmod(0o755)
        path = f"{hook.parent}:{path}"
    with _bridge() as bridge, (folder / "log").open("wb") as log:
        url = f"unix://{folder}/docker.sock"
        command = [f"{root}/usr/sbin/dockerd", "-H", url, "--bridge", bridge]
        command += [f"--{name}={folder}/{name}" for name in ("data-root", "exec-root")]
        command += ["--pidfile", f"{folder}/pid", "--storage-driver=overlay2"]
        command += [
            f"--{name}=false" for name in ("iptables", "ip6tables", "ip-masq", "ip-forward")
        ]
        # A session of its own, or a terminal's Ctrl-C would end it before the tests have cleaned.
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": path},
            start_new_session=True,
        )
        try:
            _wait_for(url, process, folder / "log")
            yield url
        finally:
            process.terminate()
            process.wait(_PATIENCE_S)
            subprocess.run(
                ["umount", f"{folder}/exec-root/netns/default"], check=False, capture_output=True
            )


@contextmanager
def _bridge() -> Iterator[str]:
    """Make a bridge of our own, so that several engines can run on one machine."""
    pid = os.getpid()
    for offset in range(200):
        name, subnet = f"lp{pid}x{offset}", f"172.30.{(pid + offset) % 250}.1/24"
        if subnet not in subprocess.check_output(["ip", "addr"], text=True):
            break
    _run(["ip", "link", "add", name, "type", "bridge"], Path("/"))
    try:
        _run(["ip", "addr", "add", subnet, "dev", name], Path("/"))
        _run(["ip", "link", "set", name, "up"], Path("/"))
        yield name
    finally:
        _run(["ip", "link", "del", name], Path("/"))


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    transport = httpx.HTTPTransport(uds=url.removeprefix("unix://"))
    with httpx.Client(transport=transport, base_url="http://docker") as client:
        while time.monotonic() < deadline_s and process.poll() is None:
            with suppress(httpx.TransportError):
                if client.get("/_ping").status_code == 200:
                    return
            time.sleep(0.05)
    raise RuntimeError(f"the engine does not answer; it wrote: {log.read_text()[-2000:]}")
