"""A real Docker Engine from Debian packages: nothing is installed, and nothing is left.

The packages are unpacked into a folder; the engine listens on a socket in there, has a bridge of
its own, and ends with the tests, however those end.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_PACKAGES = ("docker.io", "containerd", "runc", "tini")
_PATIENCE_S = 60.0
# Its bridge, the engine, and the end of both when our end of the pipe is closed, however we die.
_UNTIL_STDIN_ENDS = """
bridge=$0 subnet=$1 folder=$2; shift 2
ip link add $bridge type bridge && ip addr add $subnet dev $bridge && ip link set $bridge up
"$@" < /dev/null & engine=$!
cat > /dev/null
kill $engine; wait $engine; umount $folder/netns/default; ip link del $bridge
"""
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
    bridge, subnet = _free_bridge()
    url = f"unix://{folder}/docker.sock"
    command = [f"{root}/usr/sbin/dockerd", "-H", url, "--bridge", bridge]
    command += [f"--{name}={folder}/{name}" for name in ("data-root", "exec-root")]
    command += ["--pidfile", f"{folder}/pid", "--storage-driver=overlay2"]
    command += [f"--{name}=false" for name in ("iptables", "ip6tables", "ip-masq", "ip-forward")]
    with (folder / "log").open("wb") as log:
        # A session of its own, or a terminal's Ctrl-C would end it before the tests have cleaned.
        process = subprocess.Popen(
            ["/bin/sh", "-c", _UNTIL_STDIN_ENDS, bridge, subnet, f"{folder}/exec-root", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": path},
            start_new_session=True,
        )
        try:
            _wait_for(url, process, folder / "log")
            yield url
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(_PATIENCE_S)


def _free_bridge() -> tuple[str, str]:
    """Return a name and a subnet that are free: several engines can run on one machine."""
    used, pid = subprocess.check_output(["ip", "addr"], text=True), os.getpid()
    subnets = (f"172.30.{(pid + offset) % 250}.1/24" for offset in range(250))
    subnet = next(subnet for subnet in subnets if subnet not in used)
    return f"lp-{subnet.split('.')[2]}-{pid % 10**6}", subnet


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline_s, path = time.monotonic() + _PATIENCE_S, url.removeprefix("unix://")
    while time.monotonic() < deadline_s and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(path)
            probe.settimeout(_PATIENCE_S)
            # It takes connections a little before it serves; the answer comes when it does.
            probe.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
            if probe.recv(32).startswith(b"HTTP/1.1 200"):
                return
        time.sleep(0.05)
    raise RuntimeError(f"the engine does not answer; it wrote: {log.read_text()[-2000:]}")
