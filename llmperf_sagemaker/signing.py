"""Requests signed for AWS, as httpx's authentication: over the exact bytes that are sent."""

import threading
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from typing import Any

import anyio
import httpx

from llmperf_core.errors import LLMPerfError, UsageError
from llmperf_sagemaker.account import SIGN_IN, Account, explained

# botocore renews credentials that have less than this left. Its own source says the same.
_RENEW_S = 15 * 60
_PAUSE_S = 30.0
"""Between two attempts to renew credentials."""

# Nothing else is signed: a proxy may change what httpx adds by itself.
_SIGNED = ("host", "content-type")
_SIGNED_PREFIXES = ("x-amz-", "x-amzn-sagemaker-")


class SigV4(httpx.Auth):
    """AWS's Signature Version 4.

    It takes the credentials when it signs first, in a thread, and has them renewed in another ahead
    of their expiry, so that no request waits for it. It travels to another process without them:
    there they are looked up anew.

    Args:
        account: where the credentials are found, and the region that is signed for.
        service: the name that AWS signs the service under.
    """

    requires_request_body = True

    def __init__(self, account: Account, service: str = "sagemaker") -> None:
        self._account, self._service = account, service
        self._source: Any = None  # botocore's credentials, which may block to renew themselves
        self._keys: Any = None  # a copy of them, which never does
        self._lock = threading.Lock()
        self._renew_after_s = 0.0

    def __reduce__(self) -> tuple[type["SigV4"], tuple[Account, str]]:
        return SigV4, (self._account, self._service)

    def load(self) -> None:
        """Take the credentials, and renew them if they are about to expire. It may block.

        Raises:
            UsageError: there are none, or they cannot be renewed.
            MissingExtraError: boto3 is not installed.
        """
        with self._lock:
            if self._source is None:
                session = self._account.session()
                with explained("for credentials"):
                    self._source = session.get_credentials()
                if self._source is None:
                    raise UsageError(f"there are no AWS credentials; {SIGN_IN}")
            with explained("for credentials"):
                self._keys = self._source.get_frozen_credentials()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign a request and send it once, whatever is answered."""
        if self._keys is None:
            self.load()
        yield self._signed(request)

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign a request and send it once, whatever is answered; the event loop is not blocked."""
        if self._keys is None or self._expires_within(0):
            await anyio.to_thread.run_sync(self.load)
        elif self._expires_within(_RENEW_S):
            self._renew()
        await request.aread()
        yield self._signed(request)

    def _expires_within(self, seconds: float) -> bool:
        needed = getattr(self._source, "refresh_needed", None)  # keys that last have no such thing
        return needed is not None and bool(needed(seconds))

    def _renew(self) -> None:
        """Renew the credentials in a thread; requests use the old ones meanwhile."""
        if time.monotonic() < self._renew_after_s:
            return
        self._renew_after_s = time.monotonic() + _PAUSE_S

        def load() -> None:
            with suppress(LLMPerfError):  # a later request hears of it, once they have expired
                self.load()

        # No task: it may outlast the request, and botocore blocks.
        threading.Thread(target=load, name="llmperf-credentials", daemon=True).start()

    def _signed(self, request: httpx.Request) -> httpx.Request:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        signed = AWSRequest(
            request.method,
            str(request.url),
            headers={n: v for n, v in request.headers.items() if _is_signed(n)},
            data=request.content,
        )
        SigV4Auth(self._keys, self._service, self._account.region).add_auth(signed)
        request.headers.update(signed.headers.items())
        return request


def _is_signed(name: str) -> bool:
    return name in _SIGNED or name.startswith(_SIGNED_PREFIXES)
