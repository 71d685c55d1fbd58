"""The `hessian` command: a demo that runs through, and a stack that stays."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from eth_utils.address import is_checksum_address, is_checksum_formatted_address, is_hex_address, to_checksum_address
from eth_utils.hexadecimal import is_0x_prefixed
from rich.console import Console
from rich.table import Table
from rich.text import Text

from devstack.anvil import Anvil
from devstack.composed import ComposedStack
from devstack.health import progress, readiness
from devstack.overview import overview
from devstack.overview import show as show_overview
from devstack.processes import ProcessFailed
from devstack.services import SERVICES
from devstack.stack import Stack
from devstack.supervisor import start_detached, status_of, stop_detached, supervise
from devstack.toolchain import ROOT, compiled
from devstack.variables import env_example
from hessian.chain.encoding import CONTRACTS
from hessian.errors import HessianError, Malformed
from hessian.identifiers import Address, Wei
from hessian.logging import configure_logging

if TYPE_CHECKING:
    from devstack.demo.case import Case

UP = ROOT / "build" / "stack"
DEMO = ROOT / "build" / "demo"
COMPOSE_DEMO = ROOT / "build" / "compose-demo"
ABIS = {name: ROOT / f"libs/hessian/hessian/chain/abi/{name}.json" for name in CONTRACTS}
WEI_PER_ETHER = 10**18
MOST_ETHER = 10**9

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()
Directory = Annotated[Path, typer.Option(help="Where the stack keeps its data, secrets and logs.")]


@app.command()
def demo(
    directory: Directory = DEMO,
    data: Annotated[Path | None, typer.Option(help="A table of your own, CSV or Parquet, instead of the loans that come along.")] = None,
    label: Annotated[str, typer.Option(help="Its label's column.")] = "",
    positive: Annotated[str, typer.Option(help="The label's value of a loan that went bad.")] = "",
    owners: Annotated[int, typer.Option(help="How many data owners its rows are dealt to.")] = 5,
) -> None:
    """Run one real encrypted training on real loans, from an empty stack to paid owners; writes report.json."""
    from devstack.demo import lending_club, own_table  # pandas and scikit-learn: seconds that no other command should wait for

    if data is None and (label or positive):
        raise Malformed("a label belongs to a table of your own: name it with DATA=file (--data)")
    if data is not None and not (label and positive):
        raise Malformed("a table of your own needs LABEL=column and POSITIVE=value (--label, --positive)")
    _play(Stack(directory, kept=False), lending_club.CASE if data is None else own_table.case_of(data, label, positive, owners))


@app.command(name="compose-demo")
def _compose_demo(
    directory: Directory = COMPOSE_DEMO,
    isolated: Annotated[bool, typer.Option(help="Give every job of the trainer a container of its own.")] = False,
) -> None:
    """Run the same job on the stack of docker-compose.yml, in containers of its own; writes report.json."""
    from devstack.demo import lending_club

    shutil.rmtree(directory, ignore_errors=True)
    _play(ComposedStack(directory, isolated=isolated), lending_club.CASE)


def _play(stack: Stack | ComposedStack, case: Case) -> None:
    from devstack.demo.run import run

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    raise typer.Exit(code=run(stack, console, case))


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
def status(directory: Directory = UP, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Say what runs and where, what it waits for, and how models, rounds, jobs and money stand.

    Ends with 0 when every service is ready, 1 when one is not, 3 when the stack is not running.
    """
    if (state := status_of(directory.absolute())) != "running":
        console.print(state)
        raise typer.Exit(code=3)
    stack = _running(directory)
    if as_json:
        console.print_json(data=asdict(overview(stack.url("coordinator"), stack.url("lender-api"), stack.token("admin"))))
        return
    if not _show(directory):
        raise typer.Exit(code=1)
    show_overview(overview(stack.url("coordinator"), stack.url("lender-api"), stack.token("admin")), console)


@app.command()
def doctor(directory: Directory = UP) -> None:
    """Examine this machine and the stack, or what the HESSIAN_ variables name, and say what to do about each finding.

    Ends with 1 when something is wrong.
    """
    from devstack.doctor.examination import examine  # the services' clients: seconds that no other command should wait for
    from devstack.doctor.findings import show

    findings = examine(directory.absolute())
    show(findings, console)
    raise typer.Exit(code=0 if findings.are_well else 1)


@app.command()
def faucet(address: str, ether: str = "10", directory: Directory = UP) -> None:
    """Add this much ether to an account of the running stack's own test chain."""
    account, amount = account_of(address), wei_of(ether)
    if (state := status_of(directory.absolute())) != "running":
        raise ProcessFailed("the stack is stopped: hessian up" if state == "stopped" else "the stack is starting: try again in a moment")
    stack = _running(directory)
    node = Anvil(stack.logs / "anvil.log", port=stack.ports["anvil"])
    with node.attached():
        node.give(account, amount)
        balance = node.balance(account)
    console.print(f"{account} got {ether} test ether and now has {Decimal(balance) / WEI_PER_ETHER:f}", soft_wrap=True)


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


def account_of(text: str) -> Address:
    """In checksum form. Raises Malformed."""
    is_right = is_hex_address(text) and is_0x_prefixed(text)
    if not is_right or (is_checksum_formatted_address(text) and not is_checksum_address(text)):
        raise Malformed(f"{text!r} is no account: 0x and 40 hexadecimal digits, with a checksum that is right if the case is mixed")
    return Address(to_checksum_address(text))


def wei_of(ether: str) -> Wei:
    """Exactly, without a float. Raises Malformed."""
    try:
        amount = Decimal(ether)
    except InvalidOperation as error:
        raise Malformed(f"{ether!r} is no amount of ether") from error
    if not amount.is_finite() or not Decimal(1) / WEI_PER_ETHER <= amount <= MOST_ETHER:
        raise Malformed(f"the faucet gives between 1 wei and {MOST_ETHER} ether, not {ether}")
    return Wei(int(amount * WEI_PER_ETHER))


def _show(directory: Path) -> bool:
    """Whether every service is ready."""
    stack = _running(directory)
    answers = readiness({service.name: stack.url(service.name) for service in SERVICES})
    table = Table("what", "answers at", "ready", box=None, pad_edge=False)
    for answer in answers:
        words = "yes" if answer.is_ready else f"not yet: {'; '.join(answer.complaints)}"
        table.add_row(answer.service, stack.url(answer.service), Text(words))
    for name in ("anvil", "block-store"):
        table.add_row(name, stack.url(name), "")
    console.print(table)
    console.print(f"\ncoordinator      {progress(stack.url('coordinator'), stack.token('admin'))}", soft_wrap=True, markup=False)
    if stack.repository is not None:
        console.print(f"ModelRepository  {stack.repository.address}")
    if stack.serving is not None:
        console.print(f"ModelDeployment  {stack.serving.address}")
    console.print(f"tokens           {stack.secrets}/*.token\nlogs             {stack.logs}\nAPI pages        <url>/docs", soft_wrap=True)
    return all(answer.is_ready for answer in answers)


def main() -> None:
    """Errors of ours are sentences, not tracebacks."""
    try:
        app()
    except HessianError as error:
        print(f"hessian: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
