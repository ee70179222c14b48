"""`llmperf targets`: what can be measured with what is installed."""

import argparse

from llmperf_core.backends import backends, broken_backends


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command is."""
    parser.description = "List the URL schemes of the installed backends."


def run(_given: argparse.Namespace) -> int:
    """Print one line for each scheme of each installed backend."""
    lines = [
        (f"{scheme}:", what)
        for backend in backends().values()
        for scheme, what in backend.schemes.items()
    ]
    lines += [(f"{name} (broken)", why) for name, why in broken_backends().items()]
    width = max((len(name) for name, _ in lines), default=0)
    for name, what in sorted(lines):
        print(f"{name:<{width}}  {what}")
    return 0
