"""A container's health check: exit code 0 if the URL answers with a 200 within 3 seconds."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request

TIMEOUT_S = 3.0


def main(url: str) -> int:
    """0 for healthy, 1 for anything else.  Addresses are the container's own."""
    assert url.startswith("http://127.0.0.1:"), "a health check asks its own container"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310  # as above
            return 0 if response.status == 200 else 1
    except (OSError, urllib.error.URLError):
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
