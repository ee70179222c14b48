"""`llmperf reap`: what backends say is left, and what is done about it."""

from collections.abc import Mapping, Sequence
from functools import partial

import pytest
from attrs import field, frozen

from llmperf_core.cli import main, reap
from llmperf_core.errors import TargetError, UnreachableError
from llmperf_core.target import EVERYTHING_LEFT, Leftover, Options, Reap, Target


@frozen
class Lab:
    """A backend that has left some servers running."""

    left: list[str]
    fails: bool = False
    asked: list[Reap] = field(factory=list)
    schemes: Mapping[str, str] = field(factory=dict)

    def target(self, url: str, options: Options) -> Target:
        """Name none."""
        raise NotImplementedError(url, options)

    def leftovers(self, which: Reap = EVERYTHING_LEFT) -> Sequence[Leftover]:
        """Return them."""
        self.asked.append(which)
        if self.fails:
            raise UnreachableError("lab:", "connection refused")
        return [
            Leftover(what=f"server {name}", why="it expired", remove=partial(self._remove, name))
            for name in self.left
        ]

    def _remove(self, name: str) -> None:
        if name == "stubborn":
            raise TargetError("the lab keeps server stubborn")
        self.left.remove(name)


@frozen
class Mere:
    """A backend that starts nothing."""

    schemes: Mapping[str, str] = field(factory=dict)


def have(monkeypatch: pytest.MonkeyPatch, *installed: object) -> None:
    """Let these be the installed backends."""
    monkeypatch.setattr(reap, "backends", lambda: {str(n): b for n, b in enumerate(installed)})


def test_it_removes_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says what and why."""
    lab = Lab(["gpu7", "gpu8"])
    have(monkeypatch, Mere(), lab)

    assert main(["reap"]) == 0

    assert lab.left == []
    assert capsys.readouterr().out == (
        "removed server gpu7: it expired\nremoved server gpu8: it expired\n"
    )


def test_a_dry_run_only_lists(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is removed."""
    lab = Lab(["gpu7"])
    have(monkeypatch, lab)

    assert main(["reap", "--dry-run"]) == 0

    assert lab.left == ["gpu7"]
    assert capsys.readouterr().out == "would remove server gpu7: it expired\n"


def test_nothing_left_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silence would leave it open."""
    have(monkeypatch, Mere(), Lab([]))

    assert main(["reap"]) == 0
    assert capsys.readouterr().out == "nothing is left running\n"


def test_one_that_fails_keeps_nothing_else_from_being_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a backend that cannot look, nor a thing that cannot be removed; the status tells."""
    lab = Lab(["stubborn", "gpu8"])
    have(monkeypatch, Lab([], fails=True), lab)

    assert main(["reap"]) == 3

    said = capsys.readouterr()
    assert lab.left == ["stubborn"]
    assert said.out == "removed server gpu8: it expired\n"
    assert "cannot reach lab:: connection refused" in said.err
    assert "the lab keeps server stubborn" in said.err


def test_where_to_look_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what of it to take."""
    lab = Lab([])
    have(monkeypatch, lab)

    main(["reap"])
    main(["reap", "--expired", "--region", "us-west-2", "--region", "eu-west-1"])
    main(["reap", "--journal"])

    assert lab.asked == [
        Reap(),
        Reap(expired_only=True, regions=("us-west-2", "eu-west-1")),
        Reap(noted_only=True),
    ]
