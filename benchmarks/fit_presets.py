"""Fit the simulator's presets to the published Llama 2 study, and say how well each one fits.

For each of the study's deployments four figures are fitted: base and rate of the prefill, base and
per-sequence time of a decode step; and for GPTQ a fifth, the tuning of its kernels. The target is
the study's median ms/token and its number of requests at its four loads, eight figures, as a run of
the simulator in virtual time reproduces them. What a token in the KV cache adds to a step is not
fitted, as short prompts cannot tell it from the rest: it is what reading it from memory takes.

    python benchmarks/fit_presets.py                 # print how well the presets fit
    python benchmarks/fit_presets.py --fit           # fit them anew, which takes some minutes
    python benchmarks/fit_presets.py --fit --only 7b # fit those whose name has this in it
"""

import argparse
import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from attrs import frozen

from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_local.sim import Hardware
from llmperf_local.sim.presets import Fit, Preset, presets
from llmperf_local.sim.published import LOADS, OPTIONS, PROMPT_TOKENS, run_study

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "examples" / "published_study" / "llama2_sagemaker_tgi_1_0_3.csv"
PRESETS = ROOT / "llmperf_local" / "sim" / "presets.json"
PAGE = ROOT / "docs" / "simulator.md"

TOLERANCES = (0.10, 0.15)
"""What a fit is to reach at each load: of the median ms/token, and of the number of requests."""
ITERATIONS, ROUNDS = 8, 3

OVERHEAD_NS = 79 * NS_PER_MS
"""What a request of a user alone takes beside the server's own time: the median over the study's 15
runs of one user, of 90 s ÷ requests − mean request time."""

CAVEATS = {
    "llama-2-7b@ml.p4d.24xlarge": "slower than 13B on the same instance at every load",
    "llama-2-13b-gptq@ml.g5.12xlarge": "slower than half precision on the same instance",
    "llama-2-70b-gptq@ml.g5.48xlarge": (
        "fewer requests at every load than ml.g5.12xlarge, which has half the GPUs"
    ),
    "llama-2-70b-gptq@ml.p4d.24xlarge": "slower than half precision on the same instance",
}
"""What of the study is hard to believe of such a machine. The presets reproduce it all the same."""

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
class Row:
    """What the study reports of a deployment at one load."""

    ms_per_token: float
    """The median."""
    requests: int
    inference_ms: float
    """The median."""
    longest_inference_ms: float


@frozen
class Deployment:
    """One of the study's deployments, and what it reports of it at each load."""

    model_id: str
    instance: str
    tensor_parallel: int
    quantization: str
    rows: Mapping[int, Row]
    """By the virtual users."""

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
        """Return the machine, given the logarithms of what is fitted of it."""
        decode_ns, sequence_ns, prefill_ns, prefill_tokens_per_s, *tuning_ns = np.exp(fitted)
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
            tuning_ns_per_token=significant(tuning_ns[0]) if tuning_ns else 0.0,
            kv_tokens=int(free / self.model.kv_bytes),
        )

    def guesses(self) -> list[Vector]:
        """Return where to begin.

        A user alone sees a decode step, and half of what more users wait for is larger batches. In
        each run of a GPTQ deployment some request takes seconds more than most: its pass is the
        first of its size. What of that was tuning is tried at three shares.
        """
        alone = self.rows[LOADS[0]]
        growth = (self.rows[LOADS[-1]].ms_per_token - alone.ms_per_token) / LOADS[-1]
        guess = [0.95 * alone.ms_per_token, growth / 2, 0.95 * alone.ms_per_token]
        stall_ms = alone.longest_inference_ms - alone.inference_ms
        size = Hardware.tuned_size(max(PROMPT_TOKENS[: alone.requests]))
        shares = [] if self.quantization == "none" else [1.0, 0.5, 0.25]
        tunings = [[share * stall_ms / size] for share in shares] or [[]]
        return [
            np.log([*(np.array(guess) * NS_PER_MS), 2000.0, *(np.array(tuning) * NS_PER_MS)])
            for tuning in tunings
        ]

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
        row = self.rows[concurrency]
        return Fit(
            concurrency=concurrency,
            published_ms_per_token=significant(row.ms_per_token),
            simulated_ms_per_token=significant(got.ms_per_token),
            published_requests=row.requests,
            simulated_requests=got.requests,
        )


# The bounds of what is fitted: of the durations in nanoseconds, of the prefill rate in tokens/s.
LOWEST = np.log([1e6, 1e3, 1e6, 50, 1e3])
HIGHEST = np.log([1e9, 1e9, 1e9, 50_000, 1e9])


def significant(value: float) -> float:
    """Return a number to four significant digits: more would be untrue, and hard to read."""
    return float(f"{value:.4g}")


def read_study() -> list[Deployment]:
    """Return the study's deployments, in the order of their names."""
    rows: dict[tuple[str, str, int, str], dict[int, Row]] = {}
    with STUDY.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (
                row["Model Id"],
                row["Instance"],
                int(row["Tensor parallelism degree"]),
                row["quantization"],
            )
            rows.setdefault(key, {})[int(row["Virtual Users"])] = Row(
                float(row["Latency (ms/token) med"]),
                int(row["Number of requests"]),
                float(row["Latency Infernece ms med"]),
                float(row["Latency Infernece ms max"]),
            )
    return sorted((Deployment(*key, found) for key, found in rows.items()), key=lambda d: d.name)


def misses(fits: Iterable[Fit]) -> Vector:
    """Return the errors in units of their tolerances: from −1 to 1 is within."""
    return np.array(
        [
            error / tolerance
            for fit in fits
            for error, tolerance in zip(
                (fit.ms_per_token_error, fit.requests_error), TOLERANCES, strict=True
            )
        ]
    )


def worst(fits: Iterable[Fit]) -> float:
    """Return the largest miss."""
    return float(np.abs(misses(fits)).max())


def least_squares(deployment: Deployment, start: Vector) -> Vector:
    """Return the figures with the least squares of the misses, by Levenberg and Marquardt.

    A run is a step function of its figures, as requests join a batch or just miss it: so the
    derivatives are taken over 4 %, and a step is only made if it is better.
    """
    best, at_best = start, misses(deployment.fits(start))
    damping, width = 0.1, 0.04
    for _ in range(ITERATIONS):
        around = [misses(deployment.fits(best + step)) for step in width * np.eye(best.size)]
        jacobian = (np.array(around) - at_best).T / width
        normal = jacobian.T @ jacobian
        for _ in range(6):
            damped = normal + damping * np.diag(np.diag(normal) + 1e-6)
            step = np.linalg.solve(damped, -jacobian.T @ at_best)
            tried = within_bounds(best + np.clip(step, -0.5, 0.5))
            at_tried = misses(deployment.fits(tried))
            if at_tried @ at_tried < at_best @ at_best:
                best, at_best, damping = tried, at_tried, damping / 4
                break
            damping *= 4
        else:
            break
    return best


def least_miss(deployment: Deployment, start: Vector) -> Vector:
    """Return the figures around a start with nearly the least of the largest miss, by compass."""

    def cost(fitted: Vector) -> float:
        return float(np.sum(misses(deployment.fits(fitted)) ** 6))

    best, at_best = start, cost(start)
    for width in (0.16, 0.08, 0.04, 0.02):
        for _ in range(ROUNDS):
            before = at_best
            for direction in np.vstack([np.eye(best.size), -np.eye(best.size)]):
                tried = within_bounds(best + width * direction)
                at_tried = cost(tried)
                if at_tried < at_best:
                    best, at_best = tried, at_tried
            if at_best == before:
                break
    return best


def within_bounds(fitted: Vector) -> Vector:
    """Return the figures, those that are out of their bounds put onto them."""
    return np.clip(fitted, LOWEST[: fitted.size], HIGHEST[: fitted.size])


def fit(deployment: Deployment) -> Preset:
    """Return the preset that misses the study least."""
    found = [
        least_miss(deployment, least_squares(deployment, guess)) for guess in deployment.guesses()
    ]
    fitted = min(found, key=lambda figures: worst(deployment.fits(figures)))
    return Preset(
        name=deployment.name,
        model_id=deployment.model_id,
        instance=deployment.instance,
        tensor_parallel=deployment.tensor_parallel,
        quantize=None if deployment.quantization == "none" else deployment.quantization,
        hardware=deployment.hardware(fitted),
        options=OPTIONS,
        overhead_ns=OVERHEAD_NS,
        fits=deployment.fits(fitted),
        caveat=CAVEATS.get(deployment.name),
    )


def table(found: Iterable[Preset]) -> str:
    """Return how well the presets fit, as the page in `docs/` has it."""
    lines = [
        "| preset | " + " | ".join(f"{users} VU" for users in LOADS) + " |",
        "| --- |" + " --- |" * len(LOADS),
    ]
    for preset in found:
        cells = (
            f"{fit.simulated_ms_per_token:.1f} ({fit.ms_per_token_error:+.1%}), "
            f"{fit.simulated_requests} ({fit.requests_error:+.1%})"
            for fit in preset.fits
        )
        lines.append(f"| `{preset.name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines).replace("%", " %") + "\n"


def write(found: Mapping[str, Preset]) -> None:
    """Write the presets and the page's table."""
    PRESETS.write_bytes(msgspec.json.format(msgspec.json.encode([*found.values()])) + b"\n")
    between = re.compile(r"(<!-- fit -->\n).*?(<!-- end of fit -->)", flags=re.DOTALL)
    page = PAGE.read_text("utf-8")
    PAGE.write_text(between.sub(rf"\g<1>{table(found.values())}\g<2>", page), "utf-8")


def main() -> None:
    """Fit what is asked for, and print how well the presets fit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fit", action="store_true", help="fit anew and write the presets")
    parser.add_argument("--only", default="", metavar="TEXT", help="those with this in their name")
    arguments = parser.parse_args()
    found = dict(presets())
    for deployment in read_study():
        if arguments.fit and arguments.only in deployment.name:
            found[deployment.name] = fit(deployment)
            print(f"{deployment.name}: {worst(found[deployment.name].fits):.2f}", flush=True)
            write(dict(sorted(found.items())))
    print(table(found.values()), end="")
    over = [name for name, preset in found.items() if worst(preset.fits) > 1]
    print(f"not within the tolerances: {', '.join(over) or 'none'}")


if __name__ == "__main__":
    main()
