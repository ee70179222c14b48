"""Fit the simulator's presets to the published Llama 2 study, and say how well each one fits.

For each of the study's deployments four figures are fitted: the base and the per-sequence time of a
decode step, the prefill rate, and the overhead outside the server. The target is the study's median
ms/token and its number of requests at its four loads, as a run of the simulator in virtual time
reproduces them. What a token in the KV cache adds to a step is not fitted, as four loads of short
prompts cannot tell it from the rest: it is what reading it from the GPUs' memory takes.

    python benchmarks/fit_presets.py             # fit, and print how well
    python benchmarks/fit_presets.py --write     # write presets.json, too
"""

import argparse
import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from attrs import frozen

from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_local.sim import Hardware
from llmperf_local.sim.presets import Fit, Preset
from llmperf_local.sim.published import LOADS, OPTIONS, run_study

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "examples" / "published_study" / "llama2_sagemaker_tgi_1_0_3.csv"
PRESETS = ROOT / "llmperf_local" / "sim" / "presets.json"

TOLERANCES = (math.log(1.10), math.log(1.15))
"""What a fit is to reach at each load: of the median ms/token, and of the number of requests."""
ITERATIONS = 12

Vector = npt.NDArray[np.float64]


@frozen
class Model:
    """What the size of a model's memory comes of."""

    parameters: float
    kv_bytes: int
    """Of one token: key and value, in each layer, of each head that has its own, in 2 bytes."""


MODELS = {
    "7b": Model(6.74e9, 2 * 32 * 32 * 128 * 2),
    "13b": Model(13.02e9, 2 * 40 * 40 * 128 * 2),
    "70b": Model(68.98e9, 2 * 80 * 8 * 128 * 2),
}
"""Source: the `config.json` of meta-llama/Llama-2-*-hf."""
BYTES_PER_PARAMETER = {"none": 2.0, "gptq": 0.56}
"""Half precision; 4 bits with a scale and a zero for each group of 128."""


@frozen
class Gpu:
    """What a GPU's data sheet says of its memory."""

    memory_bytes: float
    bytes_per_s: float


A10G, A100 = Gpu(24e9, 600e9), Gpu(40e9, 1555e9)
GPUS = {
    "ml.g5.2xlarge": (1, A10G),
    "ml.g5.12xlarge": (4, A10G),
    "ml.g5.48xlarge": (8, A10G),
    "ml.p4d.24xlarge": (8, A100),
}
"""Source: AWS, the pages of the EC2 instance types g5 and p4d; NVIDIA, data sheets."""
USABLE_SHARE = 0.85
"""Of the memory, what weights and KV cache may take; the rest is for activations."""


@frozen
class Deployment:
    """One of the study's deployments, and what it reports of it at each load."""

    model_id: str
    instance: str
    tensor_parallel: int
    quantization: str
    rows: Mapping[int, tuple[float, int]]
    """By the virtual users: the median ms/token and the number of requests."""

    @property
    def name(self) -> str:
        """The preset's name."""
        model = self.model_id.partition("/")[2].lower().removesuffix("-hf")
        return f"{model}@{self.instance}"

    @property
    def model(self) -> Model:
        """What is served."""
        return MODELS[self.name.split("-")[2].partition("@")[0]]

    def hardware(self, fitted: Vector) -> Hardware:
        """Return the machine with the logarithms of its fitted figures, in the order of `FITTED`."""
        decode_ns, sequence_ns, prefill_ns, prefill_tokens_per_s = np.exp(fitted)
        gpus, gpu = GPUS[self.instance]
        weights = self.model.parameters * BYTES_PER_PARAMETER[self.quantization]
        free = gpus * gpu.memory_bytes * USABLE_SHARE - weights
        return Hardware(
            prefill_tokens_per_s=significant(prefill_tokens_per_s),
            prefill_base_ns=significant(prefill_ns),
            decode_base_ns=significant(decode_ns),
            decode_per_sequence_ns=significant(sequence_ns),
            decode_per_context_token_ns=significant(
                self.model.kv_bytes / (gpus * gpu.bytes_per_s) * NS_PER_S
            ),
            kv_tokens=int(free / self.model.kv_bytes),
        )

    def guess(self) -> Vector:
        """Return where to begin: the first load, and the growth to the last, are all decoding."""
        first, last = self.rows[LOADS[0]][0], self.rows[LOADS[-1]][0]
        per_sequence = (last - first) / (2 * LOADS[-1])
        decode_ns = 0.95 * first * NS_PER_MS
        return np.log([decode_ns, per_sequence * NS_PER_MS, decode_ns, 2000])

    def fits(self, fitted: Vector) -> tuple[Fit, ...]:
        """Return what the simulator makes of the study's loads."""
        return tuple(self._fit(fitted, concurrency) for concurrency in LOADS)

    def _fit(self, fitted: Vector, concurrency: int) -> Fit:
        got = run_study(
            self.hardware(fitted),
            options=OPTIONS,
            overhead_ns=OVERHEAD_NS,
            concurrency=concurrency,
        )
        ms_per_token, requests = self.rows[concurrency]
        return Fit(
            concurrency=concurrency,
            published_ms_per_token=significant(ms_per_token),
            simulated_ms_per_token=significant(got.ms_per_token),
            published_requests=requests,
            simulated_requests=got.requests,
        )


OVERHEAD_NS = 79 * NS_PER_MS
LOWEST = np.log([1e6, 1e3, 1e6, 50])
HIGHEST = np.log([1e9, 1e9, 1e9, 50_000])


def significant(value: float) -> float:
    """Return a number to four significant digits: more would be untrue, and hard to read."""
    return float(f"{value:.4g}")


def read_study() -> list[Deployment]:
    """Return the study's deployments, in the order of their names."""
    rows: dict[tuple[str, str, int, str], dict[int, tuple[float, int]]] = {}
    with STUDY.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (
                row["Model Id"],
                row["Instance"],
                int(row["Tensor parallelism degree"]),
                row["quantization"],
            )
            rows.setdefault(key, {})[int(row["Virtual Users"])] = (
                float(row["Latency (ms/token) med"]),
                int(row["Number of requests"]),
            )
    return sorted((Deployment(*key, found) for key, found in rows.items()), key=lambda d: d.name)


def misses(fits: Sequence[Fit]) -> Vector:
    """Return the logarithm of simulated ÷ published in units of the tolerance: 1 is just within."""
    return np.array(
        [
            error / tolerance
            for fit in fits
            for error, tolerance in zip(
                (math.log1p(fit.ms_per_token_error), math.log1p(fit.requests_error)),
                TOLERANCES,
                strict=True,
            )
        ]
    )


def fit(deployment: Deployment, power: float, start: Vector) -> Vector:
    """Return the figures with the least sum of |miss|^(2·power), by Levenberg and Marquardt.

    A run is a step function of its figures, as requests join a batch or just miss it: the
    derivatives are taken over steps of 4 %, and a step is only made if it is better.
    """

    def residuals(fitted: Vector) -> Vector:
        miss = misses(deployment.fits(fitted))
        return np.sign(miss) * np.abs(miss) ** power

    best, at_best = start, residuals(start)
    damping, width = 0.1, 0.04
    for _ in range(ITERATIONS):
        jacobian = np.array(
            [(residuals(best + step) - at_best) / width for step in width * np.eye(best.size)]
        ).T
        for _ in range(4):
            normal = jacobian.T @ jacobian
            step = np.linalg.solve(
                normal + damping * np.diag(np.diag(normal) + 1e-6), -jacobian.T @ at_best
            )
            tried = np.clip(best + np.clip(step, -0.5, 0.5), LOWEST, HIGHEST)
            at_tried = residuals(tried)
            if at_tried @ at_tried < at_best @ at_best:
                best, at_best, damping = tried, at_tried, damping / 4
                break
            damping *= 4
        else:
            break
    return best


def main() -> None:
    """Fit every deployment and print how well."""
    import time
    out=[]
    for deployment in read_study():
        t=time.time()
        fitted = fit(deployment, 1.0, deployment.guess())
        a = np.abs(misses(deployment.fits(fitted))).max()
        fitted = fit(deployment, 2.5, fitted)
        fits = deployment.fits(fitted)
        print(f"{deployment.name:32} {a:.2f} {np.abs(misses(fits)).max():.2f}", deployment.hardware(fitted).kv_tokens, np.exp(fitted) / [1e6, 1e6, 1e6, 1], f"{time.time()-t:.0f}")
        print("   ", " ".join(f"{f.ms_per_token_error:+.1%}/{f.requests_error:+.1%}" for f in fits), flush=True)
        quantize = None if deployment.quantization == "none" else deployment.quantization
        out.append(Preset(name=deployment.name, model_id=deployment.model_id, instance=deployment.instance, tensor_parallel=deployment.tensor_parallel, quantize=quantize, hardware=deployment.hardware(fitted), options=OPTIONS, overhead_ns=OVERHEAD_NS, fits=fits))
        PRESETS.write_bytes(msgspec.json.format(msgspec.json.encode(out), indent=2) + b"\n")


if __name__ == "__main__":
    main()
