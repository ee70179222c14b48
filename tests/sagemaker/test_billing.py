"""The fake's bill, and its clock."""

import math

import pytest

from llmperf_sagemaker.testing import Account, FailedBringUp, FakeSageMaker, Timing
from llmperf_sagemaker.testing.clock import Clock
from llmperf_sagemaker.testing.meter import Meter
from tests.sagemaker.clients import AT_ONCE, FAST, QUICK, boto, deploy, wait

PRICED = Account(prices={"ml.g5.12xlarge": 7.09})
_S_PER_H = 3600


class Hand(Clock):
    """A clock that is set by hand."""

    at_s = 0.0

    def now_s(self) -> float:
        """Return what it was set to."""
        return self.at_s


def test_a_bill_is_price_by_count_by_hours() -> None:
    """Each endpoint costs its instances' prices from its start to its end, and nothing after."""
    clock = Hand(1.0)
    meter = Meter(clock, {"a": 10.0, "b": 1.0})
    meter.start("one", {"a": 2, "b": 1})
    clock.at_s = 0.5 * _S_PER_H
    meter.start("two", {"b": 1})
    rates = [meter.usd_per_h]
    clock.at_s = 1.0 * _S_PER_H
    meter.stop("one")
    rates.append(meter.usd_per_h)
    clock.at_s = 2.0 * _S_PER_H
    meter.stop("two")
    spent = meter.usd
    clock.at_s = 3.0 * _S_PER_H

    assert rates == [22.0, 1.0]
    assert spent == pytest.approx(21.0 + 1.5)
    assert (meter.usd, meter.usd_per_h) == (spent, 0.0)


def test_what_has_no_price_has_no_bill() -> None:
    """The cost of a type without a price is not a number, rather than nothing."""
    meter = Meter(Hand(1.0), {})
    meter.start("one", {"a": 1})

    assert math.isnan(meter.usd_per_h)
    assert math.isnan(meter.usd)


def test_an_endpoint_costs_from_its_creation_until_it_is_gone() -> None:
    """It costs while it is created and deleted, and by the fake's own clock."""
    with FakeSageMaker(speed=FAST, timing=QUICK, account=PRICED) as fake:
        client = boto(fake)
        before = (fake.usd, fake.usd_per_h)
        deploy(client, count=2)
        created_usd_per_h = fake.usd_per_h
        wait(client, "endpoint_in_service")
        client.delete_endpoint(EndpointName="e")
        wait(client, "endpoint_deleted")
        spent = fake.usd
        least = 2 * 7.09 * (QUICK.creating_s + QUICK.deleting_s) / _S_PER_H

        assert before == (0.0, 0.0)
        assert created_usd_per_h == 2 * 7.09
        assert spent >= least
        assert (fake.usd, fake.usd_per_h) == (spent, 0.0)


def test_what_is_being_deleted_costs_until_it_is_gone() -> None:
    """An endpoint whose deletion has begun is billed as before."""
    timing = Timing(creating_s=0, deleting_s=1e9)
    with FakeSageMaker(timing=timing, account=PRICED) as fake:
        client = boto(fake)
        deploy(client)
        wait(client, "endpoint_in_service")
        client.delete_endpoint(EndpointName="e")

        assert fake.usd_per_h == 7.09


@pytest.mark.usefixtures("deadline")
def test_what_failed_costs_until_it_is_deleted() -> None:
    """An endpoint that did not come up is held, and billed, until somebody deletes it."""
    with FakeSageMaker(timing=AT_ONCE, account=PRICED, failures=[FailedBringUp()]) as fake:
        client = boto(fake)
        deploy(client)
        while client.describe_endpoint(EndpointName="e")["EndpointStatus"] != "Failed":
            pass
        failed = fake.usd_per_h
        client.delete_endpoint(EndpointName="e")
        wait(client, "endpoint_deleted")

        assert failed == 7.09
        assert fake.usd_per_h == 0.0


def test_the_bill_is_known_after_the_end() -> None:
    """What was spent and what is left can be asked when the fake has ended."""
    with FakeSageMaker(account=PRICED) as fake:
        deploy(boto(fake))
    spent = fake.usd

    assert fake.holds() == {"Model": ["m"], "EndpointConfig": ["c"], "Endpoint": ["e"]}
    assert spent > 0.0
    assert fake.usd == spent
    assert fake.url == ""


def test_the_clock_goes_at_its_speed() -> None:
    """An hour passes on a fast clock before a real second has."""
    with FakeSageMaker(speed=1e6, timing=Timing(creating_s=3600), account=PRICED) as fake:
        client = boto(fake)
        deploy(client)
        wait(client, "endpoint_in_service")

        # A timer may wake some microseconds early, which are seconds of this clock.
        assert fake.usd > 0.99 * 7.09

    with pytest.raises(ValueError, match="speed"):
        FakeSageMaker(speed=0)
