"""What a container shall be, in the words of Docker's API."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from attrs import evolve

from llmperf_local.container.engines import TGI
from llmperf_local.container.wanted import TOKEN_FILE, Place, bytes_of, gpu_requests, wanted

PLACE = Place(image="tgi:1", gpus="all", shm_size="1g")


def made(place: Place = PLACE, token_for: Sequence[str] | None = None) -> Mapping[str, Any]:
    """Return what is wanted of a container with two arguments."""
    arguments, labels = ["--model-id", "m"], {"llmperf.run": "1"}
    return wanted(TGI, place, arguments, labels=labels, token_for=token_for)


def test_it_has_its_image_arguments_labels_and_settings() -> None:
    """The image's own entrypoint is left as it is."""
    config = made()

    assert config["Image"] == "tgi:1"
    assert config["Entrypoint"] is None
    assert config["Cmd"] == ["--model-id", "m"]
    assert config["Labels"] == {"llmperf.run": "1"}
    assert "PORT=80" in config["Env"]


def test_a_free_port_is_taken_on_the_loopback_interface() -> None:
    """Unless a port is named."""
    assert made()["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]
    }
    named = made(evolve(PLACE, port=8080))["HostConfig"]["PortBindings"]["80/tcp"][0]
    assert named["HostPort"] == "8080"


def test_memory_is_limited_without_swap() -> None:
    """A server that swaps would be measured, and mean nothing."""
    host = made(evolve(PLACE, memory="16g"))["HostConfig"]

    assert host["Memory"] == host["MemorySwap"] == 16 << 30
    assert "Memory" not in made()["HostConfig"]


def test_a_token_is_read_from_a_file_by_the_servers_own_shell() -> None:
    """It is in no argument; the image's entrypoint comes behind."""
    config = made(token_for=["/tgi-entrypoint.sh"])

    assert config["Entrypoint"][:2] == ["/bin/sh", "-c"]
    assert TOKEN_FILE in config["Entrypoint"][2]
    assert config["Cmd"] == ["/tgi-entrypoint.sh", "--model-id", "m"]


@pytest.mark.parametrize(
    ("gpus", "requests"),
    [
        ("none", []),
        ("all", [(-1, [])]),
        ("0,2", [(0, ["0", "2"])]),
        ("GPU-3a23c669", [(0, ["GPU-3a23c669"])]),
    ],
)
def test_gpus_are_chosen(gpus: str, requests: list[tuple[int, list[str]]]) -> None:
    """All, none, or some by their numbers or names."""
    found = [(request["Count"], request["DeviceIDs"]) for request in gpu_requests(gpus)]

    assert found == requests


@pytest.mark.parametrize("gpus", ["", "some", "0,", "0;1", "-1"])
def test_a_wrong_choice_of_gpus_is_refused(gpus: str) -> None:
    """With what can be written."""
    with pytest.raises(ValueError, match="write all, none, or like 0,1"):
        gpu_requests(gpus)


@pytest.mark.parametrize(
    ("size", "expected"),
    [("64m", 64 << 20), ("1g", 1 << 30), ("1.5GB", 3 << 29), ("100", 100), ("2K", 2048)],
)
def test_sizes_are_read(size: str, expected: int) -> None:
    """In powers of 1,024, as Docker's own are."""
    assert bytes_of(size) == expected


@pytest.mark.parametrize("size", ["", "0g", "much", "1x", "-1g"])
def test_a_wrong_size_is_refused(size: str) -> None:
    """With how one is written."""
    with pytest.raises(ValueError, match="write it like"):
        bytes_of(size)
