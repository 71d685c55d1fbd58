"""The wallet and its withdrawals on the wire."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, Field

from hessian.outbox.tables import TRANSACTION_STATES
from hessian.service.fields import AddressField, WeiRead


class Debtor(StrEnum):
    """The contract that owes."""

    REPOSITORY = "repository"  # refunds of escrows
    DEPLOYMENT = "deployment"  # fees for answers


class WalletRead(BaseModel):
    """The lender's account at the final block."""

    address: AddressField
    balance_wei: WeiRead = Field(description="Ether of the account: what escrows and gas are paid from")
    credit_wei: WeiRead = Field(description="Booked by ModelRepository, waiting for a withdrawal")
    fees_credit_wei: WeiRead = Field(description="Booked by ModelDeployment, waiting for a withdrawal")


class WithdrawalRead(BaseModel):
    """Credits on their way to the wallet."""

    id: UUID
    contract: Debtor = Field(
        default=Debtor.REPOSITORY,
        description="repository: ModelRepository, refunds of escrows · deployment: ModelDeployment, fees for answers",
    )
    state: str = Field(description=TRANSACTION_STATES, examples=["sent"])
    amount_wei: WeiRead = Field(description="The credit that was seen; once final, what came out")
    transaction_hash: str | None = Field(default=None, examples=["0x" + "5c" * 32])
    reason: str | None = Field(default=None, description="Why it failed")
    created_at: datetime
