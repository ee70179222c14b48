"""Prices and quotas over the wire, from a fake AWS behind the real clients."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from llmperf_sagemaker.permissions import permission_findings
from llmperf_sagemaker.prices import find_price, price_of
from llmperf_sagemaker.quotas import instances_in_use, quota_findings
from llmperf_sagemaker.testing import Account, FakeSageMaker
from tests.sagemaker.clients import AT_ONCE, boto, deploy

G5 = "ml.g5.12xlarge"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[boto3.Session]:
    """Give a session of an account that has a price, and room for two instances of one type."""
    account = Account(prices={G5: 7.25}, quotas={G5: 2}, other_quota=0)
    with FakeSageMaker(account=account, timing=AT_ONCE) as fake:
        for name, value in {**fake.environment(), "XDG_CACHE_HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        deploy(boto(fake), instance_type=G5)
        yield boto3.Session(region_name="us-west-2")


def test_the_price_is_the_one_of_hosting(session: boto3.Session) -> None:
    """Its neighbours in the list cost more or less; what is not in it is not hosted."""
    price = price_of(G5, "us-west-2", session=session)

    assert price is not None
    assert price.usd_per_h == 7.25
    assert "published 2026-11-01" in price.source
    assert price_of("ml.g5.2xlarge", "us-west-2", session=session) is None
    assert "lists no hosting" in str(find_price("ml.g5.2xlarge", "us-west-2", session=session))


def test_the_quota_counts_what_runs(session: boto3.Session) -> None:
    """Of two instances one is in use, so that there is room for one and not for two."""
    assert instances_in_use(G5, session) == 1
    (one,) = quota_findings(G5, account=session)
    assert not one.refused
    (two,) = quota_findings(G5, account=session, instances=2)
    assert two.refused
    assert "is 2, 1 in use and 2 needed" in two.detail
    (other,) = quota_findings("ml.g5.2xlarge", account=session)
    assert "is 0, 0 in use and 1 needed" in other.detail


def test_credentials_that_work_are_no_finding(session: boto3.Session) -> None:
    """What their policies allow cannot be found out there, which is no finding."""
    assert permission_findings(session) == []
