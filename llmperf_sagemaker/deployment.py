"""A model on SageMaker, as a target: deployed, measured, deleted."""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import anyio
import anyio.to_thread
from attrs import Attribute, asdict, evolve, field, fields, frozen
from attrs.validators import and_, ge, gt, instance_of, le, matches_re, optional

from llmperf_core.bringup import BringUp, Finding, Price
from llmperf_core.errors import BudgetError, UsageError
from llmperf_core.lease import Lease
from llmperf_core.serving import ServerSpec
from llmperf_core.target import Endpoint, Json, Options
from llmperf_core.units import h_from_s
from llmperf_sagemaker.account import Account
from llmperf_sagemaker.bringup import Watch, serving
from llmperf_sagemaker.budget import OverrunError, WorstCase
from llmperf_sagemaker.codec import Route
from llmperf_sagemaker.defaults import environment_region, region_of, role_of
from llmperf_sagemaker.dlc import TGI, Dlc, find_image
from llmperf_sagemaker.fitting import fit_findings
from llmperf_sagemaker.holding import Held, held
from llmperf_sagemaker.instances import instance_types
from llmperf_sagemaker.invoking import invoked
from llmperf_sagemaker.leftovers import Note, bills
from llmperf_sagemaker.permissions import permission_findings
from llmperf_sagemaker.prices import Unpriced, find_price
from llmperf_sagemaker.quotas import quota_findings
from llmperf_sagemaker.redaction import redacted, redacted_environment
from llmperf_sagemaker.unlogged import unlogged
from llmperf_sagemaker.wanted import Hosting, Served, Wanted, name_of, tags_of, wanted

_STARTUP_S, _PROVISION_S = 1200, 900
# An endpoint that is being created may refuse its deletion to the end of the limit, and then takes
# some minutes to go.
_REMOVAL_S = 600.0
# Source: the published study's notes on its deployments, 18 to 27 min with all its loads.
_EXPECTED_S = 900.0
_ROUNDING = 1e-9


def _say_nothing(_: str) -> None:
    pass


def _spec(model: ServerSpec | str) -> ServerSpec:
    return ServerSpec(model) if isinstance(model, str) else model


def _priced(price: Price | float | None) -> Price | None:
    if price is None or isinstance(price, Price):
        return price
    return Price(
        usd_per_h=price, as_of=datetime.now(UTC).date().isoformat(), source="said by the user"
    )


def _is_environment(
    _: object, __: "Attribute[Mapping[str, str]]", value: Mapping[str, str]
) -> None:
    # Source: botocore's model of CreateModel; the names alone are shown, as a value may be secret.
    for name, word in value.items():
        if not name.isidentifier() or len(word.encode()) > 1024:
            raise ValueError(f"environment: {name!r} is no name, or its value too long (1024)")


_seconds = optional(and_(instance_of(int), ge(60), le(3600)))


@frozen
class Deployment:
    """A model that is deployed on SageMaker for as long as it is open. It costs money.

    Opening it creates a model, an endpoint config and an endpoint, and waits until that serves; all
    three are deleted on every way out. It must have been `allowed` to cost something first. What a
    killed process leaves, `llmperf reap` deletes.

    Args:
        model: the model's id on the hub, or what a server shall serve and within which limits.
        instance_type: `ml.g5.2xlarge`, for one.
        quantize: a word for the engine, as in `ServerSpec`.
        engine: the container, `TGI` by default; `VLLM.at("0.30.0")` is one in a version.
        tgi_version: short for `engine=TGI.at(…)`.
        image: the image's URI; None looks it up (extra `sagemaker-images`).
        region: None leaves it to AWS's own settings, as with the next.
        profile: which of the user's AWS profiles has the credentials.
        role: the execution role, its ARN or its name; None takes `LLMPERF_SAGEMAKER_ROLE`.
        weights: an S3 prefix that holds the model's files; None has them fetched from the hub.
        token_env: the environment variable with a token for the hub, for a gated model. Whoever may
            describe models in the account can read the token while the model exists.
        environment: further variables of the container. No secrets here: see `token_env`.
        startup_s: how long the container may take to be ready, 60 to 3600.
        provision_s: how long SageMaker may take to find an instance, 300 to 3600.
        volume_gb: of its EBS volume; only for types without disks of their own.
        ami: `InferenceAmiVersion`, which pins the driver.
        component: deploy the model as an inference component.
        label: put into the names, for people.
        expiry_role: a role that EventBridge Scheduler may take to delete the endpoint when its time
            is over, should nobody else do it; None schedules nothing.
        max_usd: the most that it may cost; None does not allow it to be opened.
        measuring_s: how long it is used at most; after that it is ended and deleted.
        price: in USD/h, or with its source; None takes that of the catalogue.
        options: what else may be said of a target.
        report: is told how the bring-up stands.

    Raises:
        ValueError: a field is out of its range, or the engine cannot do what is asked for.
    """

    model: ServerSpec = field(converter=_spec, validator=instance_of(ServerSpec))
    instance_type: str = field(kw_only=True, validator=matches_re(r"ml\.[a-z0-9-]+\.[a-z0-9]+"))
    quantize: str | None = field(default=None, kw_only=True)
    engine: Dlc = field(default=TGI, validator=instance_of(Dlc), kw_only=True)
    tgi_version: str | None = field(default=None, kw_only=True)
    image: str | None = field(default=None, validator=optional(matches_re(r"\S+")), kw_only=True)
    region: str | None = field(default=None, kw_only=True)
    profile: str | None = field(default=None, kw_only=True)
    role: str | None = field(default=None, repr=False, kw_only=True)
    weights: str | None = field(
        default=None, validator=optional(matches_re(r"s3://[^/\s]+/\S*")), kw_only=True
    )
    token_env: str | None = field(
        default=None, validator=optional(matches_re(r"\w+")), kw_only=True
    )
    environment: Mapping[str, str] = field(
        factory=dict, validator=_is_environment, repr=False, kw_only=True
    )
    startup_s: int | None = field(default=None, validator=_seconds, kw_only=True)
    provision_s: int = field(default=_PROVISION_S, validator=[ge(300), le(3600)], kw_only=True)
    volume_gb: int | None = field(
        default=None, validator=optional(and_(ge(1), le(512))), kw_only=True
    )
    ami: str | None = field(default=None, kw_only=True)
    component: bool = field(default=False, kw_only=True)
    label: str | None = field(
        default=None,
        validator=optional(matches_re(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,30}")),
        kw_only=True,
    )
    expiry_role: str | None = field(default=None, repr=False, kw_only=True)
    max_usd: float | None = field(default=None, validator=optional(gt(0)), kw_only=True)
    measuring_s: float = field(default=3600.0, validator=gt(0), kw_only=True)
    _price: Price | None = field(default=None, converter=_priced, kw_only=True)
    options: Options = field(factory=Options, validator=instance_of(Options), kw_only=True)
    report: Callable[[str], None] = field(default=_say_nothing, repr=False, eq=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.tgi_version is not None and self.engine.name != TGI.name:
            raise ValueError(f"tgi_version is for TGI; write engine {self.engine.name} with .at(…)")
        known = instance_types().get(self.instance_type)
        if self.volume_gb is not None and known is not None and known.nvme:
            raise ValueError(f"{self.instance_type} has a disk of its own; leave out volume_gb")
        # What the engine cannot do is known before anything is spent.
        _ = self._environment, self._account

    @property
    def name(self) -> str:
        """The URL that means this deployment: `sagemaker-deploy:MODEL?instance=ml.g5.2xlarge`."""
        words = [(key, str(value)) for key, value in self._asked.items() if value is not None]
        return (
            f"sagemaker-deploy:{quote(self.model.model, safe='/:@')}?{urlencode(words, safe='/:')}"
        )

    @property
    def price(self) -> Price | None:
        """What its instance costs: as it was said, else as the catalogue knows; None if neither."""
        found = self._price or find_price(
            self.instance_type, environment_region(self._account) or ""
        )
        return None if isinstance(found, Unpriced) else found

    @property
    def bring_up(self) -> BringUp:
        """How long it takes to come and to go. Known from what others reported, not measured."""
        limit_s = float(self.provision_s + self._startup_s)
        if self.weights is not None:
            limit_s += self._startup_s  # the download has the same limit, before it
        return BringUp(expected_s=min(_EXPECTED_S, limit_s), limit_s=limit_s, removal_s=_REMOVAL_S)

    def allowed(self, *, max_usd: float, measuring_s: float) -> "Deployment":
        """Return the same deployment, which may be opened and cost at most so much."""
        return evolve(self, max_usd=max_usd, measuring_s=measuring_s)

    def reporting(self, report: Callable[[str], None]) -> "Deployment":
        """Return the same deployment, whose bring-up is reported to that."""
        return evolve(self, report=report)

    async def check(self) -> Sequence[Finding]:
        """Return what speaks against it: quota, memory, permissions, price. Deploys nothing.

        Raises:
            UsageError: there are no credentials, no region, or no role.
            MissingExtraError: boto3 is not installed.
        """
        return await anyio.to_thread.run_sync(self._findings)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        """Deploy it, and delete everything on every way out.

        Raises:
            UsageError: nobody has allowed it to cost something, or credentials, a region, a role,
                a token or a price are missing.
            BudgetError: it could cost more than was allowed.
            StartError: it did not come up; the message says why and what to do.
            StillThereError: something could not be deleted.
            OverrunError: measuring took too long.
        """
        plan = await anyio.to_thread.run_sync(self._planned)
        it = Held(plan.note, self.bring_up.limit_s + _REMOVAL_S, self.expiry_role)
        with unlogged(self._token):
            async with held(it, self.report):
                endpoint = await self._serving(it, plan)
                with anyio.move_on_after(self.measuring_s) as measuring:
                    yield endpoint
                if measuring.cancelled_caught:
                    raise OverrunError(self.name, self.measuring_s)
        usd = plan.price.usd_per_h * h_from_s(it.billed_s)
        self.report(f"deleted; its endpoint was there for {it.billed_s:.0f} s, about {usd:.2f} USD")

    async def _serving(self, it: Held, plan: "_Plan") -> Endpoint:
        watch = Watch(
            name=self.name, limit_s=self.bring_up.limit_s, report=self.report, secret=self._token
        )
        took_s = await serving(it, plan.wanted, watch)
        name = plan.note.name
        endpoint = await invoked(
            plan.note.account,
            Route(endpoint=name, component=name if self.component else None),
            evolve(self.options, protocol=self._protocol),
        )
        return evolve(
            endpoint,
            model=self.options.model or self.model.model,
            server={**endpoint.server, **plan.facts, "bring_up_s": round(took_s, 1)},
        )

    def _planned(self) -> "_Plan":
        """Return what is about to be created; creates nothing. Blocks.

        Raises:
            UsageError: something is missing, a yes above all.
            BudgetError: it could cost more than was allowed.
        """
        account = self._known_account()
        times = self.bring_up
        price, max_usd = self._within_budget(account)
        lease = Lease.new(times.limit_s + self.measuring_s + times.removal_s)
        image = self.image or find_image(
            self._engine, region=account.region or "", instance_type=self.instance_type
        )
        served = Served(
            image=image,
            environment=self._environment | self._token_variable(),
            s3=self.weights,
            role=role_of(account, self.role),
        )
        note = Note(
            lease=lease,
            name=name_of(lease, self.name, self.label),
            account=account,
            bills=bills(price),
            scheduled=self.expiry_role is not None,
        )
        return _Plan(
            note=note,
            wanted=wanted(note.name, served, self._hosting, tags_of(lease, max_usd=max_usd)),
            price=price,
            facts=self._facts(image, price, note),
        )

    def _within_budget(self, account: Account) -> tuple[Price, float]:
        """Return the price and what may be spent."""
        if self.max_usd is None:
            raise UsageError(
                f"{self.name} costs money ({bills(self.price)}), and nobody has said how much that "
                "may be, so nothing was deployed; say it: max_usd"
            )
        price = self._asked_price(account)
        if isinstance(price, Unpriced):
            raise UsageError(f"{price.reason}; nothing was deployed")
        worst = WorstCase(price=price, bring_up=self.bring_up, measuring_s=self.measuring_s)
        # Whoever allows the worst case itself may have added it up in another order.
        if worst.usd > self.max_usd * (1 + _ROUNDING):
            raise BudgetError(self.name, worst.arithmetic, self.max_usd)
        return price, self.max_usd

    def _asked_price(self, account: Account) -> Price | Unpriced:
        return self._price or find_price(
            self.instance_type, account.region or "", session=account.session()
        )

    def _findings(self) -> Sequence[Finding]:
        account = self._known_account()
        price = self._asked_price(account)
        unpriced = (
            [Finding(detail=price.reason, refused=True)] if isinstance(price, Unpriced) else []
        )
        return [
            *unpriced,
            *permission_findings(account.session()),
            *quota_findings(self.instance_type, account=account.session()),
            *fit_findings(
                self.model.model,
                self.instance_type,
                quantize=self._server.quantize,
                gpus=self.model.shards,
            ),
        ]

    @property
    def _account(self) -> Account:
        return Account(region=self.region, profile=self.profile)

    def _known_account(self) -> Account:
        """Return the account with its region, which AWS's own settings may name."""
        return evolve(self._account, region=region_of(self._account))

    @property
    def _engine(self) -> Dlc:
        return self.engine if self.tgi_version is None else self.engine.at(self.tgi_version)

    @property
    def _protocol(self) -> str:
        return self.options.protocol or self.engine.protocol

    @property
    def _startup_s(self) -> int:
        return self.startup_s or int(min(self.options.startup_s or _STARTUP_S, 3600))

    @property
    def _server(self) -> ServerSpec:
        """The model as it is asked for, over all GPUs unless somebody said otherwise."""
        known = instance_types().get(self.instance_type)
        gpus = known.gpus if known is not None else None
        return evolve(
            self.model,
            quantize=self.quantize or self.model.quantize,
            shards=self.model.shards or gpus,
        )

    @property
    def _environment(self) -> dict[str, str]:
        """The container's variables, without a token."""
        server, downloaded = self._server, self.weights is not None
        said = self._engine.variables(
            server, image=self.image, protocol=self._protocol, downloaded=downloaded
        )
        return {**said, **self.environment}

    @property
    def _token(self) -> str | None:
        return os.environ.get(self.token_env, "").strip() or None if self.token_env else None

    def _token_variable(self) -> dict[str, str]:
        if self.token_env is None:
            return {}
        if self._token is None:
            raise UsageError(
                f"token_env names {self.token_env}, which is not set; nothing was deployed"
            )
        return {self._engine.token(self._engine.version_of(self.image)): self._token}

    @property
    def _hosting(self) -> Hosting:
        return Hosting(
            instance_type=self.instance_type,
            startup_s=self._startup_s,
            provision_s=self.provision_s,
            download_s=self._startup_s if self.weights is not None else None,
            volume_gb=self.volume_gb,
            ami=self.ami,
            component_accelerators=(self._server.shards or 1) if self.component else None,
        )

    @property
    def _asked(self) -> Mapping[str, object]:
        """What is asked for beside the model, as a URL says it."""
        server = {
            attribute.name: getattr(self.model, attribute.name)
            for attribute in fields(ServerSpec)
            if attribute.name not in ("model", "arguments")
        }
        return {
            "instance": self.instance_type,
            **server,
            "quantize": self._server.quantize,
            "engine": self.engine.name if self.engine.name != TGI.name else None,
            "version": self._engine.version if self._engine != TGI else None,
            "image": redacted(self.image) if self.image else None,
            "region": self.region,
            "component": "true" if self.component else None,
            "weights": self.weights,
        }

    def _facts(self, image: str, price: Price, note: Note) -> Mapping[str, Json]:
        """What a result has to say of where it was measured. No account, no role, no secret."""
        return {
            "instance_type": self.instance_type,
            "region": note.account.region,
            "engine": self.engine.name,
            # The registry's name begins with the account that owns it.
            "image": image.partition("/")[2] or image,
            "environment": dict(redacted_environment(self._environment)),
            "hosting": {k: v for k, v in asdict(self._hosting).items() if v is not None},
            "price": {"usd_per_h": price.usd_per_h, "as_of": price.as_of, "source": price.source},
            "max_usd": self.max_usd,
            "expires": note.lease.expires,
        }


@frozen(kw_only=True)
class _Plan:
    """What is about to be created."""

    note: Note
    wanted: Wanted = field(repr=False)
    price: Price
    facts: Mapping[str, Json]
