"""A target as a study takes it: with its price, and with labels to tell it by."""

from collections.abc import Mapping

from attrs import Factory, asdict, field, frozen

from llmperf_core.backends import target_of
from llmperf_core.bringup import Paid, Price
from llmperf_core.target import Json, Options, Target

_MEASURED_BY = ("protocol", "model", "body", "stream")
"""Options that change what is measured. Headers are left out: a key may be among them."""
_DEFAULTS = Options()


@frozen
class StudyTarget:
    """One target of a study.

    Args:
        target: what to measure, or its URL.
        options: what may be said of a URL beside.
        price: what it costs while it is up; None takes what the target says itself, if it does. A
            machine of your own has a price, too.
        labels: what it is, in words that tables and recommendations go by: `model`, `instance`,
            `quantize`, or whatever the study varies.

        called: what tables call it; None takes the target's own name.

    Raises:
        TargetUrlError: no backend understands the URL.
    """

    target: Target | str
    options: Options = Factory(Options)
    price: Price | None = field(default=None, kw_only=True)
    labels: Mapping[str, str] = field(factory=dict, kw_only=True)
    called: str | None = field(default=None, kw_only=True)
    opened_as: Target = field(init=False, repr=False, eq=False)
    """The target itself."""

    @opened_as.default
    def _opened_as(self) -> Target:
        named = self.target
        return target_of(named, self.options) if isinstance(named, str) else named

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.called or self.opened_as.name

    @property
    def paid(self) -> bool:
        """Whether it costs money by the hour and needs a budget."""
        return isinstance(self.opened_as, Paid)

    @property
    def charged(self) -> Price | None:
        """What it costs: as the study says, else as the target does; None if nobody knows."""
        target = self.opened_as
        return self.price or (target.price if isinstance(target, Paid) else None)

    def describe(self) -> Mapping[str, Json]:
        """Return what it is, as far as that changes what is measured."""
        options = getattr(self.opened_as, "options", self.options)
        said = asdict(options) if isinstance(options, Options) else {}
        usual = asdict(_DEFAULTS)
        changed = {name: said[name] for name in _MEASURED_BY if said.get(name) != usual[name]}
        return {"target": self.opened_as.name, **(changed if said else {})}


def entry_of(given: "StudyTarget | Target | str") -> StudyTarget:
    """Return a target of a study, whatever way it was given."""
    return given if isinstance(given, StudyTarget) else StudyTarget(given)
