"""The workload of the published Llama 2 study, in virtual time.

Source: philschmid/text-generation-inference-tests (Apache-2.0), `sagemaker_llm_container/`: k6 with
constant virtual users for 90 s and its graceful stop of 30 s; ShareGPT prompts in the order of
`samples.json`, 50 new tokens; TGI 1.0.3 with `MAX_INPUT_LENGTH` 1024, `MAX_TOTAL_TOKENS` 2048.
"""

from collections.abc import Iterator
from itertools import cycle

import numpy as np
from attrs import frozen

from llmperf_core.judge import TIME_PER_TOKEN, all_values
from llmperf_core.load import Concurrency
from llmperf_core.units import NS_PER_S, ms_from_ns
from llmperf_local.sim.hardware import Hardware
from llmperf_local.sim.options import Answers, ServerOptions
from llmperf_local.sim.requests import Ask
from llmperf_local.sim.scheduler import Scheduler
from llmperf_local.sim.virtual import VirtualStage, run_virtually

LOADS = (1, 5, 10, 20)
"""Virtual users."""

NEW_TOKENS = 50

PROMPT_TOKENS = (
    *(68, 209, 470, 17, 57, 138, 27, 459, 44, 33, 532, 28, 14, 14, 38, 45, 6, 226, 36, 167),
    *(458, 36, 28, 26, 481, 475, 560, 609, 21, 329, 519, 696, 476, 413, 31, 21, 6, 123, 754, 21),
    *(210, 85, 540, 451, 278, 14, 16, 802, 167, 391, 35, 16, 15, 30, 25, 719, 14, 408, 26, 438),
    *(105, 846, 703, 20, 228, 404, 12, 331, 33, 460, 11, 9, 672, 883, 390, 408, 149, 452, 92, 236),
    *(244, 423, 15, 10, 378, 248, 167, 101, 7, 613, 57, 283, 840, 179, 259, 23, 836, 29, 89, 35),
)
"""The lengths of the study's first 100 prompts, as its `samples.json` counts them. Every run began
with them; a run of more requests asks these again here, of a mean of 247 tokens, where the study
went on to others (219 over 600)."""

OPTIONS = ServerOptions(
    version="1.0.3",
    max_concurrent_requests=128,
    max_input_tokens=1024,
    max_total_tokens=2048,
    max_batch_prefill_tokens=4096,
    prefill_chunking=False,
    waiting_served_ratio=1.2,
    max_waiting_tokens=20,
    block_size=16,
    prefix_caching=False,
    # Of 50 tokens, 49.3 come on average: the study's cleanest rows lack 0 to 3 %.
    answers=Answers(eos_hazard=0.0006),
)
"""TGI 1.0.3 as the study set it up; the rest are that version's defaults."""


@frozen
class Outcome:
    """What the study reports of a run."""

    ms_per_token: float
    """The median of TGI's time per token."""
    requests: int
    """Completed, those that were in flight after 90 s included."""


def asks() -> Iterator[Ask]:
    """Yield what the study asks, without end."""
    for index, tokens in enumerate(cycle(PROMPT_TOKENS)):
        yield Ask(input_tokens=tokens, max_new_tokens=NEW_TOKENS, seed=index)


def run_study(
    hardware: Hardware, *, options: ServerOptions, overhead_ns: int, concurrency: int
) -> Outcome:
    """Return what the study would have reported of such a server."""
    timelines, _ = run_virtually(
        Scheduler(hardware, options),
        asks(),
        load=Concurrency(concurrency),
        stage=VirtualStage(
            duration_ns=90 * NS_PER_S, drain_ns=30 * NS_PER_S, overhead_ns=overhead_ns
        ),
    )
    per_token_ns = float(np.median(all_values(TIME_PER_TOKEN, timelines)))
    return Outcome(ms_from_ns(per_token_ns), sum(t.completed for t in timelines))
