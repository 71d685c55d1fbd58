"""Money as an owner sees it."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from hessian.outbox.tables import TRANSACTION_STATES, TransactionState
from hessian.service.fields import AddressField, WeiRead
from owner_api.tables import OutgoingTransaction, Withdrawal


class Debtor(StrEnum):
    """The contract that owes."""

    REPOSITORY = "repository"  # ModelRepository: rewards, and bonds that came back
    DEPLOYMENT = "deployment"  # ModelDeployment: fees of requests that nobody answered


class EarnedByModel(BaseModel):
    """Rewards of settled rounds of one model."""

    model_id: int
    rounds: int
    earned_wei: WeiRead


class LineagePrivacy(BaseModel):
    """What all releases of rows that share one give away together, by composition. Decimal numbers as text."""

    lineage: uuid.UUID
    releases: int = Field(description="With noise of their own; further rounds and cohorts of the same release add nothing")
    epsilon: str = Field(examples=["1.451038"])
    delta: str = Field(examples=["0.000001"])
    epsilon_cap: str = Field(description="This node refuses a release beyond it", examples=["8"])


class EarningsRead(BaseModel):
    """What an owner has and is owed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "address": "0x52908400098527886E0F7030069857D2E4169EE7",
                    "balance_wei": "990000000000000000",
                    "credit_wei": "30000000000000000",
                    "fees_credit_wei": "0",
                    "earned_wei": "20000000000000000",
                    "models": [{"model_id": 1, "rounds": 3, "earned_wei": "20000000000000000"}],
                    "privacy": [
                        {
                            "lineage": "b4f0a3f2-6c0e-4b8c-9a55-0e6f2d1c3b44",
                            "releases": 2,
                            "epsilon": "1.451038",
                            "delta": "0.000001",
                            "epsilon_cap": "8",
                        }
                    ],
                }
            ]
        }
    )

    address: AddressField
    balance_wei: WeiRead = Field(description="Ether in the wallet at the head block")
    credit_wei: WeiRead = Field(description="What ModelRepository owes at the final block: rewards, and bonds that came back")
    fees_credit_wei: WeiRead = Field(description="What ModelDeployment owes at the final block: fees of requests nobody answered")
    earned_wei: WeiRead = Field(description="Rewards of all settled rounds, withdrawn or not")
    models: list[EarnedByModel]
    privacy: list[LineagePrivacy] = Field(description="What it cost in privacy: rows that left with noise")


class WithdrawalRead(BaseModel):
    """How far a withdrawal is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0b0c4a52-4c2e-4d5b-9d4b-0f9d3b6f5a11",
                    "contract": "repository",
                    "state": "final",
                    "transaction_hash": "0x" + "ab" * 32,
                    "amount_wei": "30000000000000000",
                    "reason": None,
                    "created_at": "2026-11-22T14:00:00Z",
                }
            ]
        }
    )

    id: uuid.UUID
    contract: Debtor = Field(
        default=Debtor.REPOSITORY,
        description="repository: ModelRepository, rewards and bonds that came back · deployment: ModelDeployment, fees of requests that "
        "nobody answered",
    )
    state: TransactionState = Field(description=TRANSACTION_STATES)
    transaction_hash: str | None
    amount_wei: WeiRead | None = Field(description="Null until the transaction is final")
    reason: str | None = Field(description="Why it failed")
    created_at: datetime

    @classmethod
    def of(cls, row: Withdrawal, transaction: OutgoingTransaction, contract: Debtor) -> WithdrawalRead:
        """From its row and its transaction's."""
        return cls(
            id=row.id,
            contract=contract,
            state=transaction.state,
            transaction_hash=transaction.transaction_hash,
            amount_wei=row.amount,
            reason=transaction.failure,
            created_at=row.created_at,
        )
