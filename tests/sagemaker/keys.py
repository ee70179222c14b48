"""Credentials that are no secret, and an environment in which botocore finds no others."""

from pathlib import Path

import pytest

KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session-token-1"


def forget_account(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Hide every profile, key, region and instance role of this machine."""
    for variable in (
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
        *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL"),
    ):
        patch.delenv(variable, raising=False)
    patch.setenv("AWS_CONFIG_FILE", str(home / "config"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def take_keys(patch: pytest.MonkeyPatch, token: str | None = None) -> None:
    """Let botocore find the keys above."""
    patch.setenv("AWS_ACCESS_KEY_ID", KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    if token is not None:
        patch.setenv("AWS_SESSION_TOKEN", token)
