"""The process of a fake SageMaker: `python -m llmperf_sagemaker.testing`.

On standard input come, after a line with their size, the search path and what the fake is made of,
by cloudpickle; then each line asks for one thing. Each answer is a line of JSON on standard output,
the fake's URL the first. The end of the input ends it.
"""

import os
import sys

import cloudpickle
import msgspec

from llmperf_core.run.worker import calm_garbage_collection
from llmperf_sagemaker.testing.fake import FakeSageMaker


def main() -> None:
    """Run the fake until there is no more input."""
    # What a model server prints must not end up between the answers.
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    size = int(sys.stdin.buffer.readline())
    sys.path[:], how = cloudpickle.loads(sys.stdin.buffer.read(size))
    with FakeSageMaker(**cloudpickle.loads(how)) as fake:
        calm_garbage_collection()
        _say(answers, fake.url)
        for question in sys.stdin.buffer:
            _say(answers, _answer(fake, question.strip().decode()))


def _answer(fake: FakeSageMaker, question: str) -> object:
    return fake.holds() if question == "holds" else getattr(fake, question)


def _say(answers: int, said: object) -> None:
    os.write(answers, msgspec.json.encode(said) + b"\n")


if __name__ == "__main__":
    main()
