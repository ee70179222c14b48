"""The scheme `sagemaker:`: what its URLs mean."""

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import evolve, frozen

from llmperf_core.errors import TargetUrlError
from llmperf_core.target import Backend, Options
from llmperf_sagemaker.attached import Endpoint

_SETTINGS = ("region", "profile", "component", "variant")
_POSSIBLE = (
    "write sagemaker:ENDPOINT?region=us-west-2, and profile, component, variant or protocol if you "
    "like"
)


@frozen
class SageMakerBackend:
    """What the entry point `sagemaker` yields."""

    @property
    def schemes(self) -> Mapping[str, str]:
        """The one scheme."""
        return {"sagemaker": "a SageMaker endpoint in service: sagemaker:ENDPOINT?region=us-west-2"}

    def target(self, url: str, options: Options) -> Endpoint:
        """Return the endpoint that the URL names. Nothing is reached.

        Raises:
            TargetUrlError: it names none.
        """
        try:
            return _named(url, options)
        except ValueError as error:
            raise TargetUrlError(url, f"{error.args[0]}; {_POSSIBLE}") from error


def _named(url: str, options: Options) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme != "sagemaker" or parts.netloc or parts.fragment or not parts.path:
        raise ValueError("it is not sagemaker:ENDPOINT")
    asked: dict[str, str] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in (*_SETTINGS, "protocol"):
            raise ValueError(f"{key!r} is not one of {', '.join((*_SETTINGS, 'protocol'))}")
        if key in asked:
            raise ValueError(f"{key} comes twice")
        asked[key] = value
    if protocol := asked.pop("protocol", None):
        options = evolve(options, protocol=protocol)
    return Endpoint(unquote(parts.path), **asked, options=options)


backend: Backend = SageMakerBackend()
"""What the entry point names."""
