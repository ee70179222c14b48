"""Studies that are run: one bring-up a target, within a budget, whatever fails."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import trio.testing
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from llmperf_core.bringup import Finding, Price, Quota
from llmperf_core.decide import Needs
from llmperf_core.decide.cells import Question
from llmperf_core.decide.ledger import Ledger
from llmperf_core.errors import BudgetError, StartError, StoredRunError, UsageError
from llmperf_core.judge import Slo
from llmperf_core.load import Concurrency, Poisson
from llmperf_core.results import load_run
from llmperf_core.run import Settings
from llmperf_core.show.board import Board
from llmperf_core.studies import Study, StudyTarget, load_study
from llmperf_core.studies.folder import StudyFolder, run_folders, spent_usd
from llmperf_core.studies.planning import plan_of
from llmperf_core.studies.running import StudyRunner
from llmperf_core.target import Endpoint, Options
from llmperf_core.units import ns_from_s
from llmperf_core.wire.tgi import Tgi
from llmperf_core.workload import Fixed, Synthetic
from tests.studies.metered import PRICE, Meter, Metered
from tests.test_benchmark import Echo, Watched, over

pytestmark = pytest.mark.usefixtures("deadline")

FIVE = Settings(duration_s=None, requests=5, warmup_s=0, drain_s=1, in_process=True)
BRIEF = Settings(duration_s=0.1, warmup_s=0, drain_s=1, in_process=True)
LLAMAS = Fixed("Write of llamas", max_new_tokens=2)


@frozen
class Named(Watched):
    """A target that notes when it is up, under a name of its own."""

    label: str = "a"
    options: Options = Options()  # noqa: RUF009 -- frozen

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.label


def study(*targets: object, how: Settings = FIVE, repeats: int = 1) -> Study:
    """Return a study of these targets under two loads."""
    return Study(
        targets=targets,  # type: ignore[arg-type]  # each test gives what it has
        loads=[Concurrency(1), Concurrency(2)],
        workload=LLAMAS,
        settings=how,
        repeats=repeats,
        slo=Slo(ttft_ms=1_000),
    )


def test_each_target_is_brought_up_once_for_all_its_cells(tmp_path: Path) -> None:
    """Loads and repeats are stages of an ordinary run, which anything that reads runs reads."""
    targets = [Named(transport=Echo, label=name) for name in "ab"]
    done = study(*targets, repeats=2).run(tmp_path)

    assert [target.events for target in targets] == [["up", "down"], ["up", "down"]]
    assert [len(target.stages) for target in done.targets] == [4, 4]
    assert not done.missing
    loads = [(cell.load.value, cell.repeat) for cell in done["a"].cells]
    assert loads == [(1, 1), (2, 1), (1, 2), (2, 2)]
    for folder, target in zip(run_folders(tmp_path), done.targets, strict=True):
        run = load_run(folder)
        assert [stage.cell for stage in run.stages] == [cell.id for cell in target.cells]
        assert run.spec.slo == Slo(ttft_ms=1_000)


def test_all_targets_are_asked_the_same(tmp_path: Path) -> None:
    """And no cell of a target what another cell was asked."""
    echoes = [Echo(), Echo()]
    targets = [
        Named(transport=over(echo), label=name) for name, echo in zip("ab", echoes, strict=True)
    ]
    study(*targets, repeats=2).run(tmp_path)

    assert sorted(echoes[0].asked) == sorted(echoes[1].asked)
    assert len(set(echoes[0].asked)) == 20


def test_what_is_measured_is_never_measured_again(tmp_path: Path) -> None:
    """A study that has grown measures what is new, and a target that has nothing new stays down."""
    first, second = (Named(transport=Echo, label=name) for name in "ab")
    study(first).run(tmp_path)
    grown = evolve(study(first, second), repeats=2)
    done = grown.run(tmp_path, resume=True)
    again = grown.run(tmp_path, resume=True)

    assert not done.missing
    assert first.events == ["up", "down"] * 2
    assert second.events == ["up", "down"]
    assert [len(run.stages) for run in again["a"].runs] == [2, 2]
    assert again.to_dict() == done.to_dict()


def test_a_study_in_a_folder_is_not_written_over(tmp_path: Path) -> None:
    """Unless it is said to go on with it."""
    target = Named(transport=Echo)
    study(target).run(tmp_path)
    with pytest.raises(StoredRunError, match="resume it: --resume"):
        study(target).run(tmp_path)


def test_two_do_not_run_one_study(tmp_path: Path) -> None:
    """The second one is told; when the first has ended it may go on."""
    with (
        StudyFolder(tmp_path, resume=False),
        pytest.raises(StoredRunError, match="another process is running this study"),
    ):
        study(Named(transport=Echo)).run(tmp_path)
    assert not study(Named(transport=Echo)).run(tmp_path).missing


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (StartError("the server", "no memory"), "the server did not start: no memory"),
        (RuntimeError("a bug of the backend"), "RuntimeError: a bug of the backend"),
    ],
)
def test_what_fails_is_recorded_and_the_rest_goes_on(
    error: Exception, says: str, tmp_path: Path
) -> None:
    """And is tried again when the study is resumed."""
    broken = True

    def fail() -> None:
        if broken:
            raise error

    bad, good = Named(bring_up=fail, transport=Echo, label="bad"), Named(transport=Echo)
    done = study(bad, good).run(tmp_path)

    assert says in (done["bad"].finding or "")
    assert [cell.target for cell in done.missing] == ["bad", "bad"]
    assert done["a"].finding is None
    assert bad.events == ["up", "down"]
    broken = False
    done = study(bad, good).run(tmp_path, resume=True)
    assert not done.missing
    assert done["bad"].finding is None
    assert good.events == ["up", "down"]


def test_what_would_be_refused_is_not_tried(tmp_path: Path) -> None:
    """The finding says why, and the rest goes on."""
    meter = Meter()
    finding = Finding(detail="the quota of ml.p4d.24xlarge is 0", refused=True)
    none_left = Metered(name="p4d", meter=meter, findings=[finding])
    unpriced = Metered(name="unpriced", meter=meter, price=None)
    done = study(none_left, unpriced, Named(transport=Echo)).run(tmp_path, budget_usd=1e6)

    assert done["p4d"].finding == finding.detail
    assert "nobody knows how much" in (done["unpriced"].finding or "")
    assert meter.bring_ups == []
    assert len(done.missing) == 4


def test_what_costs_money_needs_a_budget(tmp_path: Path) -> None:
    """Without one nothing is brought up, what costs nothing neither, and no study is begun."""
    meter, free = Meter(), Named(transport=Echo)
    paid = study(free, Metered(name="paid", meter=meter))
    with pytest.raises(BudgetError, match=r"paid could cost .* at worst, and 0\.00 USD"):
        paid.run(tmp_path)
    assert (meter.bring_ups, free.events) == ([], [])

    assert not paid.run(tmp_path, budget_usd=paid.plan().worst_usd).missing
    assert paid.run(tmp_path, resume=True).spent_usd > 0  # nothing is left that costs money


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_part_of_what_the_plan_costs_is_never_exceeded(share: float, tmp_path: Path) -> None:
    """What would exceed it is refused before it begins; what is missing is said."""
    meter = Meter()
    paid = study(*(Metered(name=name, meter=meter) for name in "abcd"), how=BRIEF)
    budget_usd = share * paid.plan().worst_usd
    done = paid.run(tmp_path, budget_usd=budget_usd)

    assert meter.usd <= budget_usd
    assert done.spent_usd == pytest.approx(meter.usd, rel=0.2, abs=0.2)
    assert done.spent_usd >= meter.usd
    if share == 0.5:  # half of the worst case is more than what four cost in truth
        assert not done.missing
        assert meter.most_up == 2
    else:
        assert meter.bring_ups == []
        assert "USD are allowed; nothing was brought up" in (done["a"].finding or "")


def test_a_budget_is_that_of_the_whole_study(tmp_path: Path) -> None:
    """What was spent before counts; a larger one goes on."""
    meter = Meter()
    first = Metered(name="a", meter=meter)
    both = study(first, Metered(name="b", meter=meter), how=BRIEF)
    each_usd = both.plan().worst_usd / 2
    study(first, how=BRIEF).run(tmp_path, budget_usd=each_usd)
    spent = spent_usd(tmp_path)
    done = both.run(tmp_path, budget_usd=each_usd + spent / 2, resume=True)

    assert [cell.target for cell in done.missing] == ["b", "b"]
    assert not both.run(tmp_path, budget_usd=each_usd + spent, resume=True).missing
    assert meter.bring_ups == ["a", "b"]


def test_a_bring_up_of_unknown_end_cost_its_worst_case(tmp_path: Path) -> None:
    """Whoever was killed could not say what it cost."""
    with StudyFolder(tmp_path, resume=False) as folder:
        folder.append("begun", run="a.1", target="a", usd=5.0)
        folder.append("begun", run="b.1", target="b", usd=7.0)
        folder.append("gone", run="b.1", target="b", usd=2.0)
        folder.append("begun", run="a.2", target="a", usd=5.0)

        assert folder.next_run("a") == "a.3"
    assert spent_usd(tmp_path) == 12


def test_a_journal_that_a_crash_cut_off_goes_on(tmp_path: Path) -> None:
    """The half line is no event, and does not spoil the next one."""
    with StudyFolder(tmp_path, resume=False) as folder:
        folder.append("begun", run="a.1", target="a", usd=5.0)
    with (tmp_path / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"event":"gone","run":"a.1","us')
    with StudyFolder(tmp_path, resume=True) as folder:
        folder.append("gone", run="a.1", target="a", usd=1.0)

    assert spent_usd(tmp_path) == 1


def test_a_quota_holds_back_what_shares_it(tmp_path: Path) -> None:
    """So many of it are up at a time, others beside them."""
    scarce, plenty = Meter(), Meter()
    quota = Finding(detail="one of it", quota=Quota(name="ml.g5", available=1))
    limited = [Metered(name=name, meter=scarce, findings=[quota]) for name in "abc"]
    others = [Metered(name=name, meter=plenty) for name in "de"]
    done = study(*limited, *others).run(tmp_path, budget_usd=1e9, parallel=5)

    assert not done.missing
    assert (scarce.most_up, plenty.most_up) == (1, 2)


def test_so_many_are_up_at_a_time_as_may_be(tmp_path: Path) -> None:
    """Four targets in two slots."""
    meter = Meter()
    done = study(*(Metered(name=name, meter=meter) for name in "abcd")).run(
        tmp_path, budget_usd=1e9, parallel=2
    )

    assert not done.missing
    assert meter.most_up == 2


def test_a_target_is_called_as_it_is_said(tmp_path: Path) -> None:
    """In the tables and in the run; its cells are those of the target by any name."""
    target = Named(transport=Echo)
    done = study(StudyTarget(target, called="ours")).run(tmp_path)

    assert [run.spec.target for run in done["ours"].runs] == ["ours"]
    assert StudyTarget(target, called="ours").describe() == StudyTarget(target).describe()
    assert [c.id for c in done.cells] == [
        cell.id for cell in study(target).question.cells("a", StudyTarget(target).describe())
    ]


def test_a_price_of_ones_own_counts(tmp_path: Path) -> None:
    """A machine of yours costs money, too; it needs no budget, and keeps one."""
    priced = StudyTarget(Named(transport=Echo), price=PRICE, labels={"model": "a"})
    done = study(priced, how=BRIEF).run(tmp_path / "a")
    refused = study(priced, how=BRIEF).run(tmp_path / "b", budget_usd=1)

    assert done.spent_usd > 0.2
    assert (done["a"].price, done["a"].labels) == (PRICE, {"model": "a"})
    assert len(refused.missing) == 2


def test_a_price_of_the_study_goes_before_the_targets_own() -> None:
    """A contract is cheaper than the list."""
    own = Price(usd_per_h=1, as_of="2026-11-25", source="a contract")
    target = Metered(name="a", meter=Meter())

    assert StudyTarget(target).charged == PRICE
    assert StudyTarget(target, price=own).charged == own


async def test_cancelling_takes_everything_down_and_can_be_resumed(tmp_path: Path) -> None:
    """The books are right, too."""
    meter = Meter()
    slow = Metered(name="a", meter=meter)
    long = evolve(FIVE, requests=10**9)
    with anyio.move_on_after(0.5):
        await study(slow, how=long).arun(tmp_path, budget_usd=1e12)

    assert meter.up == 0
    assert spent_usd(tmp_path) == pytest.approx(meter.usd, abs=1.0)
    assert len(load_study(tmp_path).missing) == 2
    assert not (await study(slow).arun(tmp_path, budget_usd=1e12, resume=True)).missing


def test_a_folder_that_breaks_ends_the_study(tmp_path: Path) -> None:
    """Nothing more is brought up that could not be kept."""

    def break_it() -> None:
        (tmp_path / "runs").write_text("in the way")

    first, second = Named(transport=Echo, bring_up=break_it), Named(transport=Echo, label="b")
    with pytest.raises(StoredRunError):
        study(first, second).run(tmp_path)
    assert (first.events, second.events) == (["up", "down"], [])


@pytest.mark.parametrize(
    ("twice", "says"),
    [
        ({"targets": ["sim:llama-2-7b@ml.g5.2xlarge"] * 2}, "has the target 'sim:llama-2-7b"),
        ({"loads": [Poisson(2), Poisson(2.0)]}, "has the load"),
    ],
)
def test_what_is_there_twice_is_refused(twice: dict[str, object], says: str) -> None:
    """It would be the same cells."""
    parts: dict[str, object] = {"targets": ["http://127.0.0.1:1"], "loads": [Poisson(2)], **twice}
    with pytest.raises(UsageError, match=says):
        Study(**parts)  # type: ignore[arg-type]  # as above


async def test_a_server_that_is_not_there_is_found_before_the_run() -> None:
    """It would be refused; nothing else is said of it."""
    (planned,) = (await study("http://127.0.0.1:9").aplan()).bring_ups

    assert "cannot reach http://127.0.0.1:9" in (planned.refusal or "")


def test_options_that_change_the_measurement_are_in_the_description() -> None:
    """A key, or the header that it comes in, is never."""
    options = Options(model="m", headers={"x-key": "secret"}, body={"top_k": 1}, stream=False)
    described = StudyTarget("http://127.0.0.1:1", options).describe()

    assert described == {
        "target": "http://127.0.0.1:1",
        "model": "m",
        "body": {"top_k": 1},
        "stream": False,
    }
    assert StudyTarget(Watched()).describe() == {"target": "watched"}


def test_what_was_measured_is_recommended_from(tmp_path: Path) -> None:
    """With the prices of the study, or as if they were others."""
    cheap = evolve(PRICE, usd_per_h=1.0)
    targets = [
        StudyTarget(Named(transport=Echo, label="a"), price=cheap),
        StudyTarget(Named(transport=Echo, label="b"), price=PRICE),
        StudyTarget(Named(bring_up=_refuse, label="c"), price=PRICE),
    ]
    plenty = evolve(FIVE, requests=80)
    done = study(*targets, how=plenty, repeats=2).run(tmp_path)
    needs = Needs(rules=["cost"], at_load=1)
    found = done.recommend(needs, allow_differences=True)
    other = done.recommend(
        needs, prices={"*": evolve(PRICE, usd_per_h=2.0)}, allow_differences=True
    )

    assert done.prices == {"a": cheap, "b": PRICE}
    assert {c.target: c.price for c in found.found.candidates} == {"a": cheap, "b": PRICE}
    assert {c.price.usd_per_h for c in other.found.candidates if c.price} == {2.0}


def _refuse() -> None:
    raise StartError("c", "no memory")


@frozen(kw_only=True)
class Failing(Metered):
    """A target that costs money for a while, and never comes up."""

    lasts_s: float

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Cost what it costs."""
        assert self.max_usd is not None
        async with self.meter.running(self.name, PRICE.usd_per_h):
            await anyio.sleep(self.lasts_s)
            raise StartError(self.name, "no capacity")
        yield Endpoint(base_url="", codec=Tgi())


@settings(max_examples=40)
@given(
    lasting=st.lists(st.floats(0, 1), min_size=1, max_size=8),
    share=st.floats(0, 1.2),
    parallel=st.integers(1, 5),
)
def test_no_order_of_bring_ups_exceeds_the_budget(
    lasting: Sequence[float],
    share: float,
    parallel: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each takes a share of its worst case, in virtual time, beside as many others as may be."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    run = _billed(lasting, share, parallel, tmp_path_factory.mktemp("study"))
    meter, budget_usd, worst_usd = trio.run(run, clock=clock)

    assert meter.usd <= budget_usd + 1e-6
    assert meter.most_up <= parallel
    if share >= 1:
        assert len(meter.bring_ups) == len(lasting)
    if budget_usd < worst_usd / len(lasting) - 1e-6:
        assert meter.bring_ups == []


def _billed(
    lasting: Sequence[float], share: float, parallel: int, folder: Path
) -> Callable[[], Awaitable[tuple[Meter, float, float]]]:
    """Return what runs a study of targets that last so long, as shares of their worst case."""

    async def run() -> tuple[Meter, float, float]:
        meter = Meter()
        question = Question(loads=[Concurrency(1)], workload=Synthetic(), settings=BRIEF, repeats=1)
        worst_s = 1.0 + 0.1 + 1 + 30 + 1.0  # up, window, drain, around it, down
        entries = [
            StudyTarget(Failing(name=f"t{k}", meter=meter, lasts_s=part * worst_s))
            for k, part in enumerate(lasting)
        ]
        plan = await plan_of(entries, question, parallel=parallel)
        budget_usd = share * plan.worst_usd
        assert math.isclose(plan.worst_usd, worst_s * len(lasting), rel_tol=1e-6)
        with StudyFolder(folder, resume=False) as place:
            runner = StudyRunner(
                entries={entry.name: entry for entry in entries},
                question=question,
                slo=None,
                place=place,
                ledger=Ledger(budget_usd),
                stop=anyio.Event(),
                board=Board({entry.name: 1 for entry in entries}, quiet=True),
                clock=lambda: ns_from_s(trio.current_time()),
            )
            await runner.run(plan)
        return meter, budget_usd, plan.worst_usd

    return run
