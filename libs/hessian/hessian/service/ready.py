"""`python -m hessian.service.ready`: ends with 0 when the service of this environment is ready, else with 1. For containers' health checks.

It reads the same two variables as the service and nothing else, and needs only the standard library: it runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys

_SECONDS = 5.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what to ask when a service listens everywhere


def is_ready(host: str, port: int) -> bool:
    """Whether `/readyz` says so."""
    connection = http.client.HTTPConnection(_ANY.get(host, host), port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready(os.environ.get("HESSIAN_HOST", "127.0.0.1"), int(os.environ["HESSIAN_PORT"])) else 1)
