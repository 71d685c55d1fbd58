"""The members' artifacts of one round: fetched together, checked whole, and kept, so that evaluation needs nobody's network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from hessian.artifacts.gradient import MaskedGradient
from hessian.artifacts.manifest import ModelManifest
from hessian.chain.records import RoundRecord
from hessian.errors import Malformed, Refused
from hessian.identifiers import Digest, RoundId
from hessian.metrics import ARTIFACTS_REJECTED
from hessian.postgres.session import Session
from lender_api.tables import Submission
from lender_api.world import World


class SubmissionRefused(Malformed):
    """A member's artifact is not what the round needs."""


async def gather(world: World, manifest: ModelManifest, context: bytes, record: RoundRecord, kept: dict[int, bytes]) -> list[bytes]:
    """Every member's artifact by member index; those in `kept` are not fetched again.

    Raises SubmissionRefused naming the first member whose content is bad, IpfsUnavailable when one cannot be had.
    """

    async def one(index: int, digest: Digest) -> bytes:
        if index in kept:
            return kept[index]
        try:
            data = await world.store.get(digest)
            await asyncio.to_thread(check, manifest, context, index, data)
        except Refused as error:
            ARTIFACTS_REJECTED.labels(reason=type(error).__name__).inc()
            raise SubmissionRefused(f"the artifact of member {index} is refused: {error.sentence}") from error
        return data

    fetched = await asyncio.gather(
        *(one(index, submission.gradient_digest) for index, submission in enumerate(record.submissions)), return_exceptions=True
    )
    for problem in sorted((item for item in fetched if isinstance(item, BaseException)), key=lambda item: not isinstance(item, Refused)):
        raise problem  # bad content decides before an outage: it will not become better
    return [item for item in fetched if isinstance(item, bytes)]


def check(manifest: ModelManifest, context: bytes, index: int, data: bytes) -> list[int]:
    """The ciphertexts of a member's artifact. Raises ArtifactRefused."""
    return MaskedGradient.from_bytes(data).check_against(manifest, context, index)


async def kept(session: Session, round_id: RoundId, record: RoundRecord) -> dict[int, bytes]:
    """What is stored already of the digests that the chain names, by member index."""
    rows = (await session.execute(select(Submission).where(Submission.round_id == round_id))).scalars()
    return {row.member_index: row.content for row in rows if record.submissions[row.member_index].gradient_digest == row.digest}


async def keep(session: Session, round_id: RoundId, record: RoundRecord, contents: Sequence[bytes]) -> None:
    """Store them all; a row that is there already stays."""
    values = [
        {"round_id": round_id, "member_index": index, "digest": record.submissions[index].gradient_digest, "content": content}
        for index, content in enumerate(contents)
    ]
    await session.execute(insert(Submission).values(values).on_conflict_do_nothing())
