"""Is a larger prefill batch better? Two servers, the same load, one answer.

The servers are simulated TGIs that differ in `max_batch_prefill_tokens`. Run it with

    python examples/compare_settings.py

Put URLs of your own servers in their place: what follows stays the same.
"""

import argparse

import llmperf_core as lp

PRESET = "sim:llama-2-7b@ml.g5.12xlarge"
SMALL, LARGE = f"{PRESET}?max_batch_prefill_tokens=2048", f"{PRESET}?max_batch_prefill_tokens=8192"
LOADS = [lp.Concurrency(4), lp.Concurrency(16)]
ASKS = lp.Synthetic(input_tokens=lp.Uniform(100, 900), output_tokens=48)


def main():
    """Measure both, and print what became better and worse."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--duration", type=float, default=30, help="seconds of each stage")
    settings = lp.Settings(duration_s=parser.parse_args().duration)

    small, large = (
        lp.sweep(server, LOADS, workload=ASKS, settings=settings) for server in (SMALL, LARGE)
    )
    # That the two are not alike is the question, so it is allowed.
    comparison = lp.compare(small, large, allow_differences=["model"])
    print(comparison)
    print(f"\nAll figures together: {comparison.outcome}.")


if __name__ == "__main__":
    main()
