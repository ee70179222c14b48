"""What a server shows to Prometheus, in our words."""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
import httpx
from attrs import field, frozen

from llmperf_core.target import Endpoint, Read
from llmperf_core.wire.transport import tls_context

_MOST_BYTES = 1 << 22
_PATIENCE_S = 2.0


@frozen(kw_only=True)
class Dialect:
    """What one kind of server calls the things that it counts."""

    name: str
    prefix: str
    """By which its names, and so its page, are known."""
    names: Mapping[str, tuple[str, ...]]
    """Our word → its names, of which the first that is on the page counts: they changed."""

    def read(self, page: str) -> Mapping[str, float]:
        """Return what a page says, by our words.

        Lines that differ in their labels alone, as those of several engines do, are added up; of
        shares the largest counts.

        Raises:
            ValueError: it is not in Prometheus' text format.
        """
        # Start-up is part of the product, and only few runs have a page to read.
        from prometheus_client.parser import text_string_to_metric_families

        ours = tuple(name for names in self.names.values() for name in names)
        # Nine lines in ten are buckets of histograms, and parsing takes 10 µs a line.
        lines = "\n".join(line for line in page.splitlines() if line.startswith(ours))
        found: dict[str, list[float]] = {}
        for family in text_string_to_metric_families(f"{lines}\n"):
            for sample in family.samples:
                # SGLang breaks some of its totals down by priority, beside them.
                if math.isfinite(sample.value) and not sample.labels.get("priority"):
                    found.setdefault(sample.name, []).append(sample.value)
        values = {}
        for word, names in self.names.items():
            name = next((name for name in names if name in found), None)
            if name is not None:
                values[word] = (max if word == "kv_use" else sum)(found[name])
        return values


TGI = Dialect(
    name="TGI",
    prefix="tgi_",
    names={
        "queued": ("tgi_queue_size",),
        "running": ("tgi_batch_current_size",),
        "kv_tokens": ("tgi_batch_current_max_tokens",),
        # `tgi_request_count` counts a request to OpenAI's routes twice.
        "requests": ("tgi_request_duration_count",),
        "ended_tokens": ("tgi_request_generated_tokens_sum",),
        "input_tokens": ("tgi_request_input_length_sum",),
        "total_s": ("tgi_request_duration_sum",),
        "validation_s": ("tgi_request_validation_duration_sum",),
        "queue_s": ("tgi_request_queue_duration_sum",),
        "inference_s": ("tgi_request_inference_duration_sum",),
    },
)
"""Source: huggingface/text-generation-inference 3.3, router/src/server.rs, backends/v3."""
VLLM = Dialect(
    name="vLLM",
    prefix="vllm:",
    names={
        "queued": ("vllm:num_requests_waiting",),
        "running": ("vllm:num_requests_running",),
        "kv_use": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "requests": ("vllm:e2e_request_latency_seconds_count",),
        "output_tokens": ("vllm:generation_tokens_total",),
        "input_tokens": ("vllm:prompt_tokens_total",),
        "cached_tokens": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        "looked_up_tokens": (
            "vllm:prefix_cache_queries_total",
            "vllm:gpu_prefix_cache_queries_total",
        ),
        "total_s": ("vllm:e2e_request_latency_seconds_sum",),
        "queue_s": ("vllm:request_queue_time_seconds_sum",),
        "inference_s": ("vllm:request_inference_time_seconds_sum",),
    },
)
"""Source: vllm-project/vllm, vllm/v1/metrics/loggers.py; the second names are those before 0.9."""
SGLANG = Dialect(
    name="SGLang",
    prefix="sglang:",
    names={
        "queued": ("sglang:num_queue_reqs",),
        "running": ("sglang:num_running_reqs",),
        "kv_use": ("sglang:token_usage",),
        "kv_tokens": ("sglang:num_used_tokens",),
        "requests": ("sglang:e2e_request_latency_seconds_count",),
        "ended_tokens": ("sglang:generation_tokens_total",),
        "input_tokens": ("sglang:prompt_tokens_total",),
        "cached_tokens": ("sglang:cached_tokens_total",),
        "total_s": ("sglang:e2e_request_latency_seconds_sum",),
        "queue_s": ("sglang:queue_time_seconds_sum",),
    },
)
"""Source: sgl-project/sglang, docs/references/production_metrics.md."""
LLAMA_CPP = Dialect(
    name="llama.cpp",
    prefix="llamacpp:",
    names={
        "queued": ("llamacpp:requests_deferred",),
        "running": ("llamacpp:requests_processing",),
        "kv_use": ("llamacpp:kv_cache_usage_ratio",),
        "ended_tokens": ("llamacpp:tokens_predicted_total",),
        "input_tokens": ("llamacpp:prompt_tokens_total",),
        "cached_tokens": ("llamacpp:prompt_tokens_cached_total",),
    },
)
"""Source: ggml-org/llama.cpp, tools/server/README.md, and the page of a real server."""
DIALECTS = (TGI, VLLM, SGLANG, LLAMA_CPP)


def dialect_of(page: str) -> Dialect | None:
    """Return who wrote a page; None if nobody whom we know."""
    lines = page.splitlines()
    for dialect in DIALECTS:
        if any(line.startswith(dialect.prefix) for line in lines):
            return dialect
    return None


@frozen(kw_only=True)
class MetricsPage:
    """A server's page of metrics, as a source of telemetry."""

    url: str
    dialect: Dialect
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    auth: httpx.Auth | None = field(default=None, repr=False)
    verify: bool | str = True

    @property
    def name(self) -> str:
        """`server`."""
        return "server"

    @property
    def what(self) -> str:
        """Whose page it is."""
        return f"/metrics of {self.dialect.name}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Read]:
        """Open a client of its own: nothing of it goes over a connection that is measured."""
        async with _client(self.headers, self.auth, verify=self.verify) as client:

            async def read() -> Mapping[str, float]:
                return self.dialect.read(await _page(client, self.url))

            yield read


async def find_metrics_page(endpoint: Endpoint) -> MetricsPage | None:
    """Ask the server once for its page of metrics; None if it has none that we can read."""
    if endpoint.metrics_path is None or endpoint.transport is not None:
        return None
    url = endpoint.base_url + endpoint.metrics_path
    try:
        async with _client(endpoint.headers, endpoint.auth, verify=endpoint.verify) as client:
            dialect = dialect_of(await _page(client, url))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError):
        return None
    if dialect is None:
        return None
    return MetricsPage(
        url=url,
        dialect=dialect,
        headers=endpoint.headers,
        auth=endpoint.auth,
        verify=endpoint.verify,
    )


def _client(
    headers: Mapping[str, str], auth: httpx.Auth | None, *, verify: bool | str
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        headers=headers,
        auth=auth,
        verify=tls_context(verify=verify),
        timeout=_PATIENCE_S,
        trust_env=False,
    )


async def _page(client: httpx.AsyncClient, url: str) -> str:
    """Return a page.

    Raises:
        httpx.HTTPError: it cannot be had, or the server refuses.
        TimeoutError: it takes too long.
        ValueError: it is too large, or no text.
    """
    content = bytearray()
    with anyio.fail_after(2 * _PATIENCE_S):
        async with client.stream("GET", url) as response:
            response.raise_for_status()
            async for data in response.aiter_bytes():
                content += data
                if len(content) > _MOST_BYTES:
                    raise ValueError(f"a page of more than {_MOST_BYTES:,} bytes")
    return content.decode()
