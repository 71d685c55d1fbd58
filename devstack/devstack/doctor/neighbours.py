"""What a node's services stand on: Postgres, the Ethereum node with the contracts, the IPFS node. Asked as the services ask them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import ValidationError
from sqlalchemy import text

from devstack.doctor.findings import Findings
from hessian.chain.client import open_chain
from hessian.identifiers import digest_of
from hessian.ipfs.kubo import open_store
from hessian.postgres.engine import database_url, open_database
from hessian.settings import BadSettings, ChainSettings, DatabaseSettings, IpfsSettings, Section

LEAST_POSTGRES = 140_000
WRONG_CLOCK = 5.0
OLD_HEAD, FAR_FROM_FINAL = 120, 200
SectionT = TypeVar("SectionT", bound=Section)


async def examine_database(findings: Findings, values: Mapping[str, str], *, subject: str = "Postgres") -> None:
    """Reachable, new enough, in step with this machine's clock, and migrated."""
    with findings.trying(subject, "is it running, and are HESSIAN_DATABASE_URL and the password file its own?"):
        settings = _read(DatabaseSettings, values)
        async with open_database(database_url(settings)) as database, database.begin() as session:
            version = int((await session.execute(text("show server_version_num"))).scalar_one())
            now: datetime = (await session.execute(text("select clock_timestamp()"))).scalar_one()
            migrated = (await session.execute(text("select to_regclass('alembic_version')"))).scalar_one()
        if version < LEAST_POSTGRES:
            findings.wrong(subject, f"server version {version // 10_000} is too old", "use Postgres 14 or newer")
        elif migrated is None:
            findings.wrong(subject, "the schema is empty", "run `python -m <service> migrate`")
        else:
            findings.well(subject, f"server version {version // 10_000}, schema migrated")
        off = abs((datetime.now(UTC) - now).total_seconds())
        if off > WRONG_CLOCK:
            findings.wrong(
                "clock", f"this machine and Postgres differ by {off:.0f} s", "synchronise both clocks (chrony, systemd-timesyncd)"
            )
        else:
            findings.well("clock", "in step with Postgres")


async def examine_chain(findings: Findings, values: Mapping[str, str]) -> None:
    """Reachable, the right chain, the contract's code there, and blocks become final."""
    with findings.trying("chain", "check HESSIAN_RPC_URL, HESSIAN_CHAIN_ID and the contracts' addresses"):
        settings = _read(ChainSettings, values)
        async with open_chain(settings) as chain:
            head, final = await chain.head_block(), await chain.final_block()
        findings.well("chain", f"id {settings.chain_id}, code is at {settings.repository_address} and {settings.deployment_address}")
        age = int(time.time()) - head.timestamp
        if head.number - final.number > FAR_FROM_FINAL:
            findings.wrong(
                "finality", f"{head.number - final.number} blocks are not final", "the chain does not finalise: nothing moves until it does"
            )
        elif age > OLD_HEAD:
            findings.advice("finality", f"the newest block is {age} s old", "the Ethereum node may still be synchronising, or stands still")
        else:
            findings.well("finality", f"block {final.number} is final, {head.number - final.number} behind the newest")


async def examine_ipfs(findings: Findings, values: Mapping[str, str]) -> None:
    """Put a block, see it pinned, get the same bytes, forget it."""
    with findings.trying("IPFS", "is Kubo running, and is HESSIAN_IPFS_URL its RPC address (port 5001)?"):
        settings = _read(IpfsSettings, values)
        async with open_store(settings) as store:
            data = b"hessian doctor " + secrets.token_bytes(16)
            digest = await store.put(data)
            is_pinned, is_same = await store.is_pinned(digest), await store.get(digest) == data
            await store.unpin(digest)
        if is_pinned and is_same and digest == digest_of(data):
            findings.well("IPFS", "a block went there, stayed and came back")
        else:
            findings.wrong(
                "IPFS", "a block that was put there is not pinned", "the node must keep what it is given: check its configuration"
            )


def _read(section: type[SectionT], values: Mapping[str, str]) -> SectionT:
    """Raises BadSettings."""
    try:
        return section.model_validate({name: values[name] for name in section.model_fields if name in values})
    except ValidationError as error:
        raise BadSettings("; ".join(f"HESSIAN_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors() if e["loc"])) from error
