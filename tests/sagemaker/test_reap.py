"""What a crash has left in an account is found by notes and tags, and nothing else is touched."""

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from attrs import evolve

from llmperf_core.cli import main
from llmperf_core.lease import Lease
from llmperf_core.target import Reap
from llmperf_sagemaker.account import Account
from llmperf_sagemaker.deploying import backend
from llmperf_sagemaker.expiry import Expiry
from llmperf_sagemaker.leftovers import NOTES, Note
from llmperf_sagemaker.removal import NotOursError
from llmperf_sagemaker.testing import FakeSageMaker, RefusedCall
from tests.sagemaker.clients import create_model
from tests.sagemaker.deploying import ROLE, called, faked, left_behind, notes

pytestmark = pytest.mark.usefixtures("deadline")

REGION = "us-west-2"
SEARCH = Reap(regions=(REGION,))


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeSageMaker]:
    """A fake SageMaker that AWS's clients talk to."""
    with faked(tmp_path) as fake:
        yield fake


def dead(lifetime_s: float = 600) -> Lease:
    """Return a lease of a process of ours that has ended."""
    return evolve(Lease.new(lifetime_s), born="1")


def elsewhere(lifetime_s: float = 600) -> Lease:
    """Return a lease of another host."""
    return evolve(Lease.new(lifetime_s), host="elsewhere")


def remove_all(which: Reap) -> list[str]:
    """Remove what is found; return why."""
    found = backend.leftovers(which)
    for leftover in found:
        leftover.remove()
    return [leftover.why for leftover in found]


def test_what_is_noted_is_found_without_a_search(fake: FakeSageMaker) -> None:
    """In its region, by its name; its note goes with it."""
    left_behind(dead(), noted=True)

    [why] = remove_all(Reap(noted_only=True))

    assert "has ended" in why
    assert called(fake, "List") == ["ListTags"] * 3
    assert (fake.holds(), notes()) == ({}, [])


def test_without_a_note_tags_tell(fake: FakeSageMaker) -> None:
    """All of a run is one, and one whose time has not come stays."""
    left_behind(dead())
    left_behind(elsewhere(-5))
    alive = left_behind(elsewhere())

    whys = remove_all(SEARCH)

    assert len(whys) == 2
    assert {name for names in fake.holds().values() for name in names} == {alive.name}


def test_only_what_has_expired(fake: FakeSageMaker) -> None:
    """Where that is asked for, a process that has ended is no reason."""
    stays = left_behind(dead(600), noted=True)
    left_behind(dead(-5))

    [why] = remove_all(Reap(expired_only=True))

    assert why.startswith("it expired at")
    assert fake.holds()["Endpoint"] == [stays.name]
    assert len(notes()) == 1


def test_models_and_configs_without_an_endpoint(fake: FakeSageMaker) -> None:
    """Are found by their tags, too."""
    it = left_behind(dead())
    client = boto3.client("sagemaker")
    client.get_waiter("endpoint_in_service").wait(
        EndpointName=it.name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 900}
    )
    client.delete_endpoint(EndpointName=it.name)
    client.get_waiter("endpoint_deleted").wait(
        EndpointName=it.name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 900}
    )

    [leftover] = backend.leftovers(SEARCH)
    leftover.remove()

    assert leftover.what == f"endpoint-config and model {it.name} in {REGION}"
    assert fake.holds() == {}


def test_what_is_not_tagged_as_ours_is_left_alone(fake: FakeSageMaker) -> None:
    """Even if it has such a name, or a note names it."""
    client = boto3.client("sagemaker")
    create_model(client, "llmperf-somebodys")
    lease = dead()
    name = f"llmperf-{lease.run}-0"
    create_model(client, name)
    Note(lease=lease, name=name, account=Account(region=REGION), bills="1 USD/h").write()

    [leftover] = backend.leftovers(SEARCH)
    with pytest.raises(NotOursError, match="is not tagged as llmperf's, so it is left alone"):
        leftover.remove()

    assert set(fake.holds()["Model"]) == {"llmperf-somebodys", name}
    assert called(fake, "Delete") == []


def test_a_note_of_what_is_gone_goes(fake: FakeSageMaker) -> None:
    """It made nothing, or somebody else has deleted that."""
    lease = dead()
    Note(lease=lease, name="llmperf-x", account=Account(region=REGION), bills="1 USD/h").write()

    assert backend.leftovers() == []
    assert notes() == []
    assert fake.holds() == {}


def test_what_is_created_refuses_and_is_waited_for(tmp_path: Path) -> None:
    """An endpoint that comes up at the moment."""
    busy = RefusedCall(
        operation="DeleteEndpoint",
        code="ValidationException",
        message="Cannot update in-progress endpoint.",
        nth=1,
    )
    with faked(tmp_path, failures=[busy]) as fake:
        left_behind(dead(), noted=True)

        remove_all(Reap(noted_only=True))

        assert called(fake, "DeleteEndpoint").count("DeleteEndpoint") > 1
        assert fake.holds() == {}


def test_where_we_cannot_look_is_complained_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what can be found elsewhere goes all the same."""
    denied = RefusedCall(operation="ListEndpoints", code="AccessDeniedException", message="no")
    with faked(tmp_path, failures=[denied]) as fake:
        left_behind(dead(), noted=True)
        status = main(["reap", "--region", "eu-west-1"])

        assert fake.holds() == {}
    assert status == 3
    assert "AWS refused" in capsys.readouterr().err


def test_who_never_deployed_asks_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without notes and without a region to search, no credentials are needed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")

    assert backend.leftovers() == []
    assert backend.leftovers(Reap(expired_only=True)) == []


def test_a_note_holds_no_secret(fake: FakeSageMaker) -> None:
    """Only where to look, whose it is and what it costs."""
    lease = dead()
    left_behind(lease, noted=True)
    [note] = notes()

    assert json.loads(note.read_text()).keys() == {
        *("run", "owner", "host", "pid", "born", "expires"),
        *("name", "region", "profile", "bills", "scheduled"),
    }
    assert fake.account.keys[0].secret not in note.read_text()


def test_a_note_that_says_too_little_is_dropped(fake: FakeSageMaker) -> None:
    """It was cut short before anything was created."""
    NOTES.write("x", {"run": "x"})

    assert backend.leftovers() == []
    assert notes() == []
    assert fake.holds() == {}


def test_a_deletion_in_the_cloud(tmp_path: Path, moto: str) -> None:
    """EventBridge Scheduler has it when it is asked for, twice, and no more once it is gone."""
    with faked(tmp_path, elsewhere=moto) as fake:
        client, account = boto3.client("scheduler"), Account(region=REGION)
        lease = dead(3600)
        name = f"llmperf-{lease.run}-0"
        Expiry.of(account).set(name, lease.expires, ROLE)
        scheduled = client.list_schedules(NamePrefix=name)["Schedules"]
        one = client.get_schedule(Name=name)
        left_behind(lease)
        Note(lease=lease, name=name, account=account, bills="", scheduled=True).write()
        remove_all(Reap(noted_only=True))

        assert sorted(schedule["Name"] for schedule in scheduled) == [name, f"{name}-2"]
        assert one["ScheduleExpression"] == f"at({lease.expires[:19]})"
        assert one["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint"
        assert json.loads(one["Target"]["Input"]) == {"EndpointName": name}
        assert one["ActionAfterCompletion"] == "DELETE"
        assert client.list_schedules(NamePrefix=name)["Schedules"] == []
        Expiry.of(account).cancel(name)
        assert fake.holds() == {}
