"""What must not be shown: keys, tokens, account numbers."""

import re
from collections.abc import Mapping

_HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"token(?!s|ize)|key|secret|password|passwd|credential|auth", re.IGNORECASE
)
_SECRET = re.compile(
    r"hf_\w{8,}"  # a token of the Hugging Face Hub
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"  # the name of an access key
    r"|\b\d{12}\b"  # an account
)
# What AWS says of a wrong signature quotes the request's headers, the session token among them.
_QUOTED_REQUEST = re.compile(r"The Canonical String for this request.*", re.DOTALL)


def redacted(text: str) -> str:
    """Return what AWS said without what in it is nobody's business."""
    return _SECRET.sub(_HIDDEN, _QUOTED_REQUEST.sub("", text)).strip()


def redacted_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return a container's environment with the values of what may be secrets hidden."""
    return {
        name: _HIDDEN if _SECRET_NAME.search(name) else redacted(value)
        for name, value in sorted(environment.items())
    }
