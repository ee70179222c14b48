"""The scheme `sagemaker-deploy:`: what its URLs mean, and what a crash may have left."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import evolve, frozen

from llmperf_core.errors import TargetUrlError
from llmperf_core.serving import ServerSpec
from llmperf_core.target import EVERYTHING_LEFT, Leftover, Options, Reap
from llmperf_sagemaker import leftovers
from llmperf_sagemaker.deployment import Deployment
from llmperf_sagemaker.dlc import DLCS


def _yes(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


_OF_SERVER: Mapping[str, Callable[[str], object]] = {
    "revision": str,
    "dtype": str,
    "shards": int,
    "max_input_tokens": int,
    "max_total_tokens": int,
    "max_batch_prefill_tokens": int,
    "max_concurrent_requests": int,
    "memory_fraction": float,
    "speculate": int,
}
_OF_DEPLOYMENT: Mapping[str, Callable[[str], object]] = {
    "instance": str,
    "quantize": str,
    "image": str,
    "region": str,
    "profile": str,
    "role": str,
    "weights": str,
    "token_env": str,
    "startup_s": int,
    "provision_s": int,
    "volume_gb": int,
    "ami": str,
    "component": _yes,
    "label": str,
    "expiry_role": str,
    "max_usd": float,
    "measuring_s": float,
    "price": float,
}
_OTHERS = ("engine", "version", "tgi", "protocol")
_POSSIBLE = "write sagemaker-deploy:MODEL?instance=ml.g5.2xlarge&max_usd=5, and more if you like"


@frozen
class DeployingBackend:
    """What the entry point `sagemaker-deploy` yields."""

    @property
    def schemes(self) -> Mapping[str, str]:
        """The one scheme."""
        return {
            "sagemaker-deploy": "a model deployed on SageMaker, measured and deleted: "
            "sagemaker-deploy:MODEL?instance=ml.g5.2xlarge&max_usd=5"
        }

    def target(self, url: str, options: Options) -> Deployment:
        """Return the deployment that the URL names. Nothing is created or reached.

        Raises:
            TargetUrlError: it names none.
        """
        try:
            return _named(url, options)
        except (ValueError, TypeError) as error:
            said = error.args[0] if error.args else error
            raise TargetUrlError(url, f"{said}; {_POSSIBLE}") from error

    def leftovers(self, which: Reap = EVERYTHING_LEFT) -> Sequence[Leftover]:
        """Return the deployments of ours whose time is over, or whose process has ended.

        Raises:
            LLMPerfError: there may be some where we cannot look.
        """
        return list(leftovers.left(which))


def _named(url: str, options: Options) -> Deployment:
    parts = urlsplit(url)
    if parts.scheme != "sagemaker-deploy" or parts.netloc or parts.fragment or not parts.path:
        raise ValueError("it is not sagemaker-deploy:MODEL")
    asked = _asked(parts.query)
    if "instance" not in asked:
        raise ValueError("it names no instance type")
    if "protocol" in asked:
        options = evolve(options, protocol=asked["protocol"])
    settings = _read(asked, _OF_DEPLOYMENT)
    settings["instance_type"] = settings.pop("instance")
    engine = DLCS.get(asked.get("engine", "tgi"))
    if engine is None:
        raise ValueError(f"no engine {asked['engine']!r}: it is {', '.join(DLCS)}")
    if "version" in asked:
        engine = engine.at(asked["version"])
    server = ServerSpec(unquote(parts.path), **_read(asked, _OF_SERVER))
    return Deployment(
        server, engine=engine, tgi_version=asked.get("tgi"), options=options, **settings
    )


def _asked(query: str) -> dict[str, str]:
    asked: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in {*_OF_SERVER, *_OF_DEPLOYMENT, *_OTHERS}:
            known = ", ".join([*_OTHERS, *_OF_DEPLOYMENT, *_OF_SERVER])
            raise ValueError(f"{key!r} is not one of {known}")
        if key in asked:
            raise ValueError(f"{key} comes twice")
        asked[key] = value
    return asked


def _read(asked: Mapping[str, str], kinds: Mapping[str, Callable[[str], object]]) -> dict[str, Any]:
    """Return the settings that are asked for, as what they are.

    Raises:
        ValueError: one is not what it should be.
    """
    settings: dict[str, Any] = {}
    for key, kind in kinds.items():
        if key in asked:
            try:
                settings[key] = kind(asked[key])
            except ValueError:
                wanted = "true or false" if kind is _yes else "a number"
                raise ValueError(f"{key} is not {wanted}: {asked[key]!r}") from None
    return settings


backend = DeployingBackend()
"""The backend of the scheme `sagemaker-deploy:`."""
