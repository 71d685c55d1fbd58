"""The `hessian` command: a demo that runs through, and a stack that stays."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from devstack.anvil import Anvil
from devstack.services import SERVICES
from devstack.stack import Stack
from devstack.supervisor import start_detached, status_of, stop_detached, supervise
from devstack.toolchain import ROOT, compiled
from devstack.variables import env_example
from hessian.errors import HessianError
from hessian.identifiers import Address, Wei
from hessian.logging import configure_logging

UP = ROOT / "build" / "stack"
DEMO = ROOT / "build" / "demo"
ABIS = {"ModelRepository": ROOT / "libs/hessian/hessian/chain/abi/ModelRepository.json"}
WEI_PER_ETHER = 10**18

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()
Directory = Annotated[Path, typer.Option(help="Where the stack keeps its data, secrets and logs.")]


@app.command()
def demo(directory: Directory = DEMO) -> None:
    """Run one real encrypted training on real loans, from an empty stack to paid owners; writes report.json."""
    from devstack.demo.run import run  # pandas and scikit-learn: seconds that no other command should wait for

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    raise typer.Exit(code=run(directory.absolute(), console))


@app.command()
def up(directory: Directory = UP) -> None:
    """Start the stack and leave it running; state survives restarts."""
    if status_of(directory) == "stopped":
        console.print("starting the stack …")
    start_detached(directory.absolute())
    _show(directory)


@app.command()
def down(directory: Directory = UP) -> None:
    """Stop the stack that `up` started; its state stays on disk."""
    console.print("stopped" if stop_detached(directory.absolute()) else "nothing was running")


@app.command()
def status(directory: Directory = UP) -> None:
    """Say what runs, where it answers, and where tokens and logs lie."""
    if (state := status_of(directory.absolute())) != "running":
        console.print(state)
        raise typer.Exit(code=3)
    _show(directory)


@app.command()
def faucet(address: str, ether: float = 10.0, directory: Directory = UP) -> None:
    """Give an account of the running stack's own test chain this much ether."""
    stack = _running(directory)
    node = Anvil(stack.logs / "anvil.log", port=stack.ports["anvil"])
    with node.attached():
        node.fund(Address(address), Wei(int(ether * WEI_PER_ETHER)))
    console.print(f"{address} has {ether:g} test ether")


@app.command()
def erase(directory: Directory = UP) -> None:
    """Stop the stack that `up` started and forget everything it stored: keys, data, chain."""
    stop_detached(directory.absolute())
    for place in {directory, DEMO}:
        Stack(place, kept=True).erase()
    console.print("stopped and forgotten")


@app.command()
def abi() -> None:
    """Copy the contracts' ABI from their build into the library."""
    for contract, file in ABIS.items():
        file.write_text(json.dumps({"abi": compiled(contract)["abi"]}, indent=2) + "\n", encoding="utf-8")
        console.print(f"wrote {file.relative_to(ROOT)}", soft_wrap=True)


@app.command(name="env-example")
def _env_example() -> None:
    """Write `.env.example` anew from the services' Settings classes."""
    (ROOT / ".env.example").write_text(env_example(), encoding="utf-8")


@app.command(name="supervise", hidden=True)
def _supervise(directory: Directory) -> None:
    """What `up` runs in the background."""
    configure_logging("supervisor")
    supervise(directory)


def _running(directory: Path) -> Stack:
    stack = Stack(directory, kept=True)
    stack.load()
    return stack


def _show(directory: Path) -> None:
    stack = _running(directory)
    table = Table("what", "answers at", "ready", box=None, pad_edge=False)
    for service in SERVICES:
        table.add_row(service.name, stack.url(service.name), "yes" if stack.is_ready(service.name) else "not yet")
    for name in ("anvil", "block-store"):
        table.add_row(name, stack.url(name), "")
    console.print(table)
    if stack.repository is not None:
        console.print(f"\nModelRepository  {stack.repository.address}")
    console.print(f"tokens           {stack.secrets}/*.token\nlogs             {stack.logs}\nAPI pages        <url>/docs", soft_wrap=True)


def main() -> None:
    """Errors of ours are sentences, not tracebacks."""
    try:
        app()
    except HessianError as error:
        print(f"hessian: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
