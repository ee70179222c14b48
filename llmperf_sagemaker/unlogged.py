"""A secret kept out of logs that are not ours."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import define

_TALKERS = ("boto3", "botocore", "urllib3")
"""They write requests and answers to their debug logs, and with them what a model is made of."""


@contextmanager
def unlogged(secret: str | None) -> Iterator[None]:
    """Keep a secret out of what AWS's clients log while the block lasts."""
    if secret is None:
        yield
        return
    with suppress(ImportError):
        import boto3  # noqa: F401 -- so that their loggers are there
    hiding = _Hiding(secret)
    talkers = [
        logging.getLogger(name)
        for name in [*logging.root.manager.loggerDict]
        if name.partition(".")[0] in _TALKERS
    ]
    for talker in talkers:
        talker.addFilter(hiding)
    try:
        yield
    finally:
        for talker in talkers:
            talker.removeFilter(hiding)


@define(eq=False)
class _Hiding:
    """Replaces a secret in a record of a log."""

    secret: str

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, without the secret."""
        said = record.getMessage()
        if self.secret in said:
            record.msg, record.args = said.replace(self.secret, "***"), ()
        return True
