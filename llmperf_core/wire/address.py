"""What a URL says of a server: where it is, who asks, and perhaps which protocol is meant."""

import re
from ipaddress import ip_address

import httpx
from attrs import field, frozen

from llmperf_core.errors import TargetUrlError

SCHEMES = ("http", "https")

# A URL may end in a route, as people copy it from elsewhere. Longer ones come first, as each is
# looked for at the end. A route of one protocol names it.
_ROUTES = {
    "/v1/chat/completions": "openai-chat",
    "/v1/completions": "openai-completions",
    "/generate_stream": "tgi",
    "/generate": "tgi",
    "/v1/models": None,
    "/info": None,
    "/v1": None,
}


@frozen
class Address:
    """The parts of a server's URL."""

    shown: str
    """The URL as it may be shown: without user and password."""
    base_url: str
    """What routes are appended to: no user, no password, no route and no slash at its end."""
    route: str
    """The known route that the URL ended in; empty if there was none."""
    auth: httpx.BasicAuth | None = field(default=None, repr=False)
    """The user and the password of the URL."""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Return the parts of a URL.

        Raises:
            TargetUrlError: it is not the URL of a server.
        """
        shown = without_credentials(text)
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL:
            # What httpx says of it could quote a password.
            raise TargetUrlError(shown, "it is no URL like http://127.0.0.1:8080") from None
        if url.scheme not in SCHEMES or not url.host or not 0 < (url.port or 80) < 1 << 16:
            raise TargetUrlError(shown, "it is no URL like http://127.0.0.1:8080")
        if url.query or url.fragment:
            raise TargetUrlError(shown.partition("?")[0], "it may have no query and no fragment")
        path = url.path.rstrip("/")
        route = next(filter(path.endswith, _ROUTES), "")
        bare = url.copy_with(username="", password="", path=path.removesuffix(route) or "/")
        return cls(
            shown=shown.rstrip("/"),
            base_url=str(bare).rstrip("/"),
            route=route,
            auth=httpx.BasicAuth(url.username, url.password) if url.userinfo else None,
        )

    @property
    def protocol(self) -> str | None:
        """The protocol that the route belongs to; None if it does not tell."""
        return _ROUTES.get(self.route)


def without_credentials(url: str) -> str:
    """Return the URL without user and password, whether it can be parsed or not."""
    try:
        return str(httpx.URL(url).copy_with(username="", password=""))
    except httpx.InvalidURL:
        # Up to the last @, wherever: a password that was not quoted may hold a slash.
        return re.sub(r"//.*@", "//", url, flags=re.DOTALL)


def is_loopback(url: str) -> bool:
    """Return whether a URL is one of this machine itself."""
    host = httpx.URL(url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
