"""A picture that says in words what it shows, and that needs no browser to be drawn."""

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

from llmperf_core.errors import MissingExtraError, StoredRunError, UsageError

if TYPE_CHECKING:
    import altair

    Chart: TypeAlias = altair.Chart | altair.LayerChart | altair.VConcatChart

# What Vega writes for screen readers of each mark: the picture has a text as a whole instead.
_MARKS_ARIA = re.compile(r' (?:aria-[a-z]+|role|pointer-events)="[^"]*"')
_IDS = re.compile(r'(?<= id=")\w+|(?<=url\(#)\w+')
# A legend takes the dash of the lines around the shape of their points, which spoils the shape.
_LEGEND_DASH = re.compile(r'(role-legend-symbol[^>]*><path[^>]*?) stroke-dasharray="[^"]*"')
_PAPER = "white"


@frozen(kw_only=True, eq=False, repr=False, slots=False)
class Plot:
    """A plot: a declarative chart, and its figures in words.

    It shows itself in a notebook, as a picture and without scripts. Text takes the colour of what
    is around it, so it can be read on light and on dark.
    """

    title: str
    alt: str
    """What the picture shows, with its figures, for those who do not see it."""
    _draw: "Callable[[], Chart]" = field(alias="draw")

    @cached_property
    def chart(self) -> "Chart":
        """The chart as Altair has it, to be changed and combined with others."""
        return self._draw()

    def svg(self) -> str:
        """Return the picture as SVG, for a page of its own or inside HTML.

        No two have an id in common. It holds no script and loads nothing.
        """
        return _accessible(_svg(self.chart.to_dict()), self.title, self.alt)

    def png(self, *, scale: float = 2.0) -> bytes:
        """Return the picture as PNG, black on white."""
        import vl_convert

        specification = {**self.chart.to_dict(), "background": _PAPER}
        drawn: bytes = vl_convert.svg_to_png(_svg(specification), scale=scale)
        return drawn

    def save(self, path: Path | str) -> None:
        """Write the picture as `.svg` or `.png`, or its Vega-Lite specification as `.json`.

        Raises:
            UsageError: the name ends in something else.
            StoredRunError: it cannot be written.
        """
        place = Path(path)
        forms: Mapping[str, Callable[[], bytes]] = {
            ".svg": lambda: self.svg().encode(),
            ".png": self.png,
            ".json": lambda: self.chart.to_json().encode(),
        }
        if place.suffix not in forms:
            raise UsageError(f"a plot is saved as {', '.join(forms)}, not as {place.name!r}")
        content = forms[place.suffix]()
        try:
            place.write_bytes(content)
        except OSError as error:
            raise StoredRunError(place, f"cannot be written: {error.strerror}") from error

    def __repr__(self) -> str:
        return f"{self.title}\n{self.alt}"

    def _repr_html_(self) -> str:
        return f'<figure style="margin:0;overflow-x:auto">{self.svg()}</figure>'


def need_altair() -> None:
    """Make sure that plots can be drawn here.

    Raises:
        MissingExtraError: the extra `plots` is not installed.
    """
    for module in ("altair", "vl_convert"):
        if find_spec(module) is None:
            raise MissingExtraError("plots", module)


def _svg(specification: Mapping[str, object]) -> str:
    import vl_convert

    # Nothing is fetched, whatever a chart's author has put into it.
    drawn: str = vl_convert.vegalite_to_svg(dict(specification), allowed_base_urls=[])
    return _LEGEND_DASH.sub(r"\1", drawn)


def _accessible(svg: str, title: str, alt: str) -> str:
    """Return the SVG as one image with a name and a description, and with ids of its own.

    Vega counts its ids on from picture to picture; here, the same chart has the same ones again.
    """
    numbers = {name: k for k, name in enumerate(dict.fromkeys(_IDS.findall(svg)))}
    plain = _IDS.sub(lambda found: f"{numbers[found[0]]}", _MARKS_ARIA.sub("", svg))
    digest = hashlib.sha256(f"{plain}{title}{alt}".encode()).hexdigest()[:8]
    opening, _, rest = plain.partition(">")
    body = _IDS.sub(lambda found: f"p{digest}-{found[0]}", rest)
    words = (
        f'<title id="t{digest}">{escape(title)}</title><desc id="d{digest}">{escape(alt)}</desc>'
    )
    name = f' role="img" aria-labelledby="t{digest}" aria-describedby="d{digest}"'
    return f"{opening}{name}>{words}{body}"
