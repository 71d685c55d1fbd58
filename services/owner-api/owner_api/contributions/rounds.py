"""A round as one final block shows it, and this node's members in it: every decision here starts from such a view, never from memory."""

from __future__ import annotations

from dataclasses import dataclass

from eth_utils.address import to_checksum_address
from sqlalchemy import select

from hessian.chain.blocks import Block
from hessian.chain.records import CohortRecord, RoundRecord, RoundState
from hessian.chain.repository import CohortUnknown, RoundUnknown
from hessian.cohorts.masks import MemberRecord, members_hash, round_context
from hessian.errors import ChainUnavailable, Violated
from hessian.identifiers import Address, CohortId, RoundId
from hessian.postgres.session import Session
from owner_api.states import EnrollmentState
from owner_api.tables import Contribution, Enrollment, Owner
from owner_api.world import World

_MEMBERS = [EnrollmentState.WAITING, EnrollmentState.SEALED]


class NotFinalYet(ChainUnavailable):
    """The final block does not show this yet; try again."""


class CohortForged(Violated):
    """The members the Ethereum node lists do not hash to what it says the contract stored."""


@dataclass(frozen=True)
class RoundView:
    """A round and its cohort at one final block."""

    round_id: RoundId
    block: Block
    round: RoundRecord
    cohort: CohortRecord

    @property
    def deadline_passed(self) -> bool:
        """By the chain's own clock: an action in a later block would come too late."""
        return self.block.timestamp > self.round.deadline

    def is_in(self, state: RoundState) -> bool:
        """The round is in this state and its deadline has not passed."""
        return self.round.state is state and not self.deadline_passed

    @property
    def standing(self) -> str:
        """In words."""
        late = ", its deadline has passed" if self.deadline_passed and self.round.state.is_in_flight else ""
        return f"round {self.round_id} is {self.round.state.name.lower()}{late}"

    def context(self, world: World) -> bytes:
        """The round context (PROTOCOL §4), from what was read. Raises CohortForged."""
        hashed = members_hash([MemberRecord(member.account, member.masking_key, member.rows) for member in self.cohort.members])
        if hashed != self.cohort.members_hash:
            raise CohortForged
        return round_context(
            world.chain.chain_id,
            world.repository.address,
            self.round.model_id,
            self.round.cohort_id,
            self.round_id,
            self.round.weights_digest,
            hashed,
        )


async def view_round(world: World, round_id: int) -> RoundView:
    """The round at the final block. Raises NotFinalYet, ChainUnavailable."""
    final = await world.chain.final_block()
    try:
        record = await world.repository.round(RoundId(round_id), final)
        return RoundView(RoundId(round_id), final, record, await world.repository.cohort(record.cohort_id, final))
    except (RoundUnknown, CohortUnknown) as error:
        raise NotFinalYet(f"the final block {final.number} does not show round {round_id} yet") from error


async def local_member(session: Session, cohort_id: CohortId, member: str) -> tuple[Enrollment, Owner] | None:
    """The enrolment, locked, by which an owner of this node is an active member of a cohort."""
    wanted = (
        select(Enrollment, Owner)
        .join(Owner, Owner.id == Enrollment.owner_id)
        .where(Owner.address == to_checksum_address(member), Enrollment.cohort_id == cohort_id, Enrollment.state.in_(_MEMBERS))
        .with_for_update(of=Enrollment)
    )
    found = (await session.execute(wanted)).first()
    return None if found is None else (found[0], found[1])


async def member_in(session: Session, view: RoundView, member: str) -> tuple[Enrollment, Owner] | None:
    """As `local_member`, of the round's cohort. Raises NotFinalYet where the final block shows a join that the outbox has not booked."""
    found = await local_member(session, view.round.cohort_id, member)
    if found is not None:
        return found
    account = Address(to_checksum_address(member))
    listed = next((one for one in view.cohort.members if one.account == account), None)
    joining = (
        select(Enrollment.id)
        .join(Owner, Owner.id == Enrollment.owner_id)
        .where(Owner.address == account, Enrollment.state == EnrollmentState.JOINING)
    )
    if listed is not None and (await session.execute(joining.where(Enrollment.masking_key == listed.masking_key))).first() is not None:
        raise NotFinalYet(f"{member} is a member of cohort {view.round.cohort_id}, but its join is not booked yet")
    return None


async def local_members(session: Session, cohort_id: CohortId) -> list[tuple[Enrollment, Owner]]:
    """Every active member of a cohort that is an owner of this node, in order of enrolment; the enrolments are locked."""
    wanted = (
        select(Enrollment, Owner)
        .join(Owner, Owner.id == Enrollment.owner_id)
        .where(Enrollment.cohort_id == cohort_id, Enrollment.state.in_(_MEMBERS))
        .order_by(Enrollment.number)
        .with_for_update(of=Enrollment)
    )
    return [(enrollment, owner) for enrollment, owner in await session.execute(wanted)]


async def is_owner(session: Session, member: str) -> bool:
    """Whether an account is a wallet of this node."""
    return (await session.execute(select(Owner.id).where(Owner.address == to_checksum_address(member)))).first() is not None


async def contribution_of(session: Session, round_id: int, member: str) -> Contribution | None:
    """A member's contribution to a round, locked."""
    address = Address(to_checksum_address(member))
    wanted = select(Contribution).where(Contribution.round_id == round_id, Contribution.member == address)
    return (await session.execute(wanted.with_for_update())).scalar_one_or_none()
