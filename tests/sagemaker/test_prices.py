"""Prices: AWS's answers as they are, its traps, and what is said when it does not answer."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import boto3
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.bringup import Price
from llmperf_core.units import MIB
from llmperf_local import INSTANCES
from llmperf_sagemaker.instances import instance_types
from llmperf_sagemaker.price_list import Listed, PriceListError, kept_price, listed_price
from llmperf_sagemaker.prices import Unpriced, find_price, price_of
from tests.sagemaker.stubbed import StubbedSession

ASKED_AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep prices in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "llmperf" / "sagemaker-prices"


def item(
    usd: str = "1.5150000000",
    *,
    unit: str = "Hrs",
    component: str | None = "Hosting",
    currency: str = "USD",
    terms: int = 1,
) -> str:
    """Return an item of a price list, as GetProducts gives it."""
    attributes = {"instanceName": "ml.g5.2xlarge", "usagetype": "USW2-Host:ml.g5.2xlarge"}
    dimension = {"unit": unit, "pricePerUnit": {currency: usd}, "beginRange": "0"}
    return json.dumps(
        {
            "product": {
                "productFamily": "ML Instance",
                "sku": "A2B3C4D5E6F7G8H9",
                "attributes": attributes | ({"component": component} if component else {}),
            },
            "serviceCode": "AmazonSageMaker",
            "terms": {
                "OnDemand": {
                    f"A2B3.{n}": {"sku": "A2B3", "priceDimensions": {f"A2B3.{n}.R": dimension}}
                    for n in range(terms)
                }
            },
            "version": "20261120",
            "publicationDate": "2026-11-20T18:00:00Z",
        }
    )


def question(instance_type: str, region: str) -> dict[str, object]:
    """Return what GetProducts is asked."""
    values = {"component": "Hosting", "instanceName": instance_type, "regionCode": region}
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": values[name]} for name in values]
    return {"ServiceCode": "AmazonSageMaker", "Filters": filters}


def telling(*items: str) -> StubbedSession:
    """Return a session whose Price List API answers with these items, in two pages."""
    asked = question("ml.g5.2xlarge", "us-west-2")
    first = {"PriceList": list(items[:1]), "NextToken": "more"}
    return StubbedSession(
        {
            "pricing": [
                ("get_products", asked, first),
                ("get_products", {**asked, "NextToken": "more"}, {"PriceList": list(items[1:])}),
            ]
        }
    )


def silent(code: str | None) -> StubbedSession:
    """Return a session that may not ask, or that reaches nothing."""
    asked = question("ml.g5.2xlarge", "us-west-2")
    return StubbedSession({"pricing": [("get_products", asked, code)]})


def test_an_asked_price_says_where_it_is_from() -> None:
    """It has the amount, the day, and what identifies it in AWS's list."""
    session = telling(item())

    price = price_of("ml.g5.2xlarge", "us-west-2", session=session)

    assert price is not None
    assert price.usd_per_h == 1.515
    assert price.as_of == datetime.now(UTC).date().isoformat()
    assert "sku A2B3C4D5E6F7G8H9, published 2026-11-20T18:00:00Z" in price.source
    assert "EBS" not in price.source
    assert session.asked == [("pricing", "us-east-1")]


def test_a_price_is_asked_once_a_day(cache: Path) -> None:
    """What was asked less than a day ago counts, even where nothing may be reached."""
    first = price_of("ml.g5.2xlarge", "us-west-2", session=telling(item("2.5")))

    assert price_of("ml.g5.2xlarge", "us-west-2") == first
    assert [path.name for path in cache.rglob("*.json")] == ["ml.g5.2xlarge.json"]
    assert len(list(cache.rglob("*"))) == 2


@pytest.mark.parametrize("age", [timedelta(days=1), timedelta(hours=-1)])
def test_an_old_price_is_not_taken(cache: Path, age: timedelta) -> None:
    """After a day, or when the clock was wrong, it is asked anew."""
    price_of("ml.g5.2xlarge", "us-west-2", session=telling(item("2.5")))
    kept = kept_price("ml.g5.2xlarge", "us-west-2")
    assert kept is not None
    stored = msgspec.to_builtins(kept) | {"asked_at": (datetime.now(UTC) - age).isoformat()}
    (cache / "us-west-2" / "ml.g5.2xlarge.json").write_text(json.dumps(stored))

    price = price_of("ml.g5.2xlarge", "us-west-2")

    assert price is not None
    assert price.usd_per_h == 1.515


@pytest.mark.parametrize("damage", ["", "{}", "[1", '{"usd_per_h": "1"}'])
def test_a_damaged_file_is_asked_anew(cache: Path, damage: str) -> None:
    """A file of the cache that holds no price is as good as none."""
    (cache / "us-west-2").mkdir(parents=True)
    (cache / "us-west-2" / "ml.g5.2xlarge.json").write_text(damage)

    price = price_of("ml.g5.2xlarge", "us-west-2", session=telling(item("2.5")))

    assert price is not None
    assert price.usd_per_h == 2.5


def test_a_cache_that_cannot_be_written_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The price is the asked one all the same."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    price = price_of("ml.g5.2xlarge", "us-west-2", session=telling(item("2.5")))

    assert price is not None
    assert price.usd_per_h == 2.5


def test_a_price_that_cannot_be_put_in_its_place_leaves_nothing_behind(cache: Path) -> None:
    """The price is the asked one, and no half of a file stays."""
    in_the_way = cache / "us-west-2" / "ml.g5.2xlarge.json"
    in_the_way.mkdir(parents=True)

    price = price_of("ml.g5.2xlarge", "us-west-2", session=telling(item("2.5")))

    assert price is not None
    assert price.usd_per_h == 2.5
    assert list((cache / "us-west-2").iterdir()) == [in_the_way]


def test_a_shipped_price_says_that_it_was_not_asked() -> None:
    """It says its day, what it is worth, and why it is not an asked one."""
    not_asked = price_of("ml.g5.12xlarge", "us-west-2")
    forbidden = price_of("ml.g5.2xlarge", "us-west-2", session=silent("AccessDeniedException"))
    estimate = price_of("ml.p5.48xlarge", "us-east-1")

    assert not_asked is not None
    assert not_asked.usd_per_h == 7.09
    assert not_asked.as_of == "2026-09-27"
    assert "confirmed as hosting" in not_asked.source
    assert "AWS was not asked" in not_asked.source
    assert forbidden is not None
    assert "asked in vain: AccessDeniedException" in forbidden.source
    assert estimate is not None
    assert "an estimate" in estimate.source


def test_where_nothing_is_reached_the_shipped_price_counts() -> None:
    """No network is no error."""
    price = price_of("ml.g5.2xlarge", "us-west-2", session=silent(None))

    assert price is not None
    assert "asked in vain: EndpointConnectionError" in price.source


def test_what_aws_does_not_host_has_no_price() -> None:
    """AWS's own word that there is none is worth more than a shipped price."""
    found = find_price("ml.g5.2xlarge", "us-west-2", session=telling(item(component=None)))

    assert found == Unpriced(reason="AWS lists no hosting on ml.g5.2xlarge in us-west-2")
    assert price_of("ml.g5.2xlarge", "us-west-2", session=telling()) is None


@pytest.mark.parametrize(
    ("instance_type", "region", "reason"),
    [
        ("ml.g5.2xlarge", "eu-west-1", "ships a price of ml.g5.2xlarge for us-east-1, us-west-2,"),
        ("ml.p6-b200.48xlarge", "us-east-1", "ml.p6-b200.48xlarge for no region, not for us-east"),
        ("g5.2xlarge", "us-east-1", "they begin with ml."),
        ("ml.g5.2xlarge", "../../etc", "'../../etc' is no region of AWS"),
    ],
)
def test_what_is_not_known_is_not_guessed(instance_type: str, region: str, reason: str) -> None:
    """There is no price, and one line says why."""
    found = find_price(instance_type, region)

    assert isinstance(found, Unpriced)
    assert reason in found.reason
    assert price_of(instance_type, region) is None


def test_a_volume_that_is_paid_beside_is_said() -> None:
    """An instance type that may have no disk of its own costs more than its price."""
    answer = {"PriceList": [item().replace("ml.g5.2xlarge", "ml.m5.2xlarge")]}
    asked = question("ml.m5.2xlarge", "eu-west-1")
    session = StubbedSession({"pricing": [("get_products", asked, answer)]})

    price = price_of("ml.m5.2xlarge", "eu-west-1", session=session)

    assert price is not None
    assert "without its EBS volume" in price.source
    assert session.asked == [("pricing", "eu-central-1")]


def test_prices_of_something_else_are_no_prices_of_hosting() -> None:
    """Clusters, notebooks, and capacity that was paid beforehand are listed beside it."""
    others = [item("25.91", component="Cluster"), item("13.57", unit="Quantity", component=None)]

    listed = listed_price([*others, item()], asked_at=ASKED_AT)

    assert listed is not None
    assert str(listed.usd_per_h) == "1.5150000000"
    assert listed_price(others, asked_at=ASKED_AT) is None


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([item(), item("9")], "2 prices by the hour"),
        ([item(terms=2)], "2 prices by the hour"),
        ([item(terms=0)], "0 prices by the hour"),
        ([item(unit="Quantity")], "0 prices by the hour"),
        ([item("0.0000000000")], "'0.0000000000' is no price"),
        ([item("-1")], "is no price"),
        ([item("NaN")], "is no price"),
        ([item("many")], "is no price"),
        ([item("9.6", currency="CNY")], "it is in CNY"),
        (["{"], "damaged"),
        (["{}"], "damaged"),
    ],
)
def test_what_is_not_one_price_is_refused(items: list[str], reason: str) -> None:
    """Two prices, none, none in USD, or one of 0: neither is taken for the price."""
    with pytest.raises(PriceListError, match=reason):
        listed_price(items, asked_at=ASKED_AT)


def test_an_answer_that_is_not_understood_leaves_the_shipped_price() -> None:
    """And the price says so."""
    price = price_of("ml.g5.2xlarge", "us-west-2", session=telling(item(), item("9")))

    assert price is not None
    assert price.usd_per_h == 1.515
    assert "asked in vain: its answer holds 2 prices" in price.source


@given(st.lists(st.text() | st.just(item()) | st.from_type(object).map(repr)))
def test_garbage_is_no_price(items: list[str]) -> None:
    """Whatever an answer holds, it is a price, none, or a PriceListError."""
    try:
        listed = listed_price(items, asked_at=ASKED_AT)
    except PriceListError:
        return
    assert listed is None or isinstance(listed, Listed)


def shipped() -> Iterator[tuple[str, str]]:
    """Yield each type and region that has a shipped price."""
    for instance_type in instance_types():
        for region in ("us-east-1", "us-east-2", "us-west-2"):
            if isinstance(find_price(instance_type, region), Price):
                yield instance_type, region


def test_each_shipped_price_is_of_a_known_type() -> None:
    """No row of the price table is out of reach, misspelt, or there twice."""
    rows = json.loads(files("llmperf_sagemaker").joinpath("prices.json").read_bytes())
    in_file = [
        (name, region) for row in rows for region in row["regions"] for name in row["usd_per_h"]
    ]

    assert sorted(in_file) == sorted(shipped())


def test_the_instances_of_the_published_study_are_the_same_everywhere() -> None:
    """The simulator's have the GPUs and the memory that the catalogue has."""
    known = instance_types()

    for name, gpus in INSTANCES.items():
        assert (known[name].gpus, known[name].gpu_mib * MIB) == (gpus.count, gpus.memory_bytes)
    assert known["ml.g5.2xlarge"].gpu == "NVIDIA A10G"
    assert known["ml.p4d.24xlarge"].gpu == "NVIDIA A100"


def test_the_instance_types_are_those_that_sagemaker_takes() -> None:
    """Each name is one that CreateEndpointConfig accepts, by botocore's own model."""
    shape = boto3.client("sagemaker", region_name="us-west-2").meta.service_model.shape_for(
        "ProductionVariantInstanceType"
    )

    assert set(instance_types()) <= set(shape.enum)


@pytest.mark.aws
@pytest.mark.parametrize("instance_type", ["ml.g5.2xlarge", "ml.p4d.24xlarge"])
def test_aws_tells_a_price(instance_type: str) -> None:
    """The real Price List API answers with one price of hosting. Asking costs nothing."""
    price = price_of(instance_type, "us-west-2", session=boto3.Session())

    assert price is not None
    assert price.source.startswith("AWS Price List API, hosting, sku ")
