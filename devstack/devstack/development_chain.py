"""`python -m devstack.development_chain serve <port> <state file>`: the chain of a composed stack, whose state survives its container.

`python -m devstack.development_chain contracts <host> <port>`: the one-shot job that deploys the contracts to it, once.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from devstack.anvil import Anvil
from devstack.contracts import deploy_fixed
from hessian.errors import HessianError
from hessian.logging import configure_logging

_LOG = Path("/tmp/anvil.log")  # noqa: S108  # a container's own tmpfs
_POLL_SECONDS = 0.5


def serve(port: int, state: Path) -> None:
    """Until SIGTERM. The chain is saved before a block becomes final: a killed container loses nothing that anybody acted upon."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    anvil = Anvil(_LOG, port=port, state=state, host="0.0.0.0")  # noqa: S104  # its network decides who reaches it
    try:
        anvil.start()
        while not stopping.wait(_POLL_SECONDS):
            if anvil.child is not None:
                anvil.child.require_alive()
    finally:
        anvil.stop()


def contracts(host: str, port: int) -> None:
    """Deploy what is missing and say where everything is. Raises ContractDiffers, ChainCallFailed."""
    with Anvil(_LOG, port=port, host=host).attached() as anvil:
        for contract, address in deploy_fixed(anvil).items():
            print(f"{contract} {address}")


def main(arguments: list[str]) -> None:
    """The command line."""
    match arguments:
        case ["serve", port, state]:
            configure_logging("chain", as_json=True)
            serve(int(port), Path(state))
        case ["contracts", host, port]:
            contracts(host, int(port))
        case _:
            sys.exit("usage: python -m devstack.development_chain serve <port> <state file> | contracts <host> <port>")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except HessianError as error:
        sys.exit(f"chain: {error.sentence}")
