"""Which serving contract an artifact belongs to: a query or an answer made for one market is refused in every other."""

from __future__ import annotations

from dataclasses import dataclass

from hessian.artifacts.codec import ArtifactRefused
from hessian.identifiers import Address, ChainId
from hessian.learning.plain import LARGEST_INTEGER, Fields, Plain

ADDRESS_BYTES = 20


@dataclass(frozen=True)
class Market:
    """A chain and the 20 bytes of its `ModelDeployment`."""

    chain_id: ChainId
    contract: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.chain_id <= LARGEST_INTEGER or len(self.contract) != ADDRESS_BYTES:
            raise ArtifactRefused("a market is a chain id and an address of 20 bytes")

    @classmethod
    def at(cls, chain_id: ChainId, contract: Address) -> Market:
        """The market of the contract at this address. Raises ArtifactRefused."""
        try:
            return cls(chain_id, bytes.fromhex(contract.removeprefix("0x")))
        except ValueError as error:
            raise ArtifactRefused("an address is 0x followed by 40 hexadecimal digits") from error

    def to_plain(self) -> dict[str, Plain]:
        """The fields that an artifact carries."""
        return {"chain_id": self.chain_id, "contract": self.contract}

    @classmethod
    def from_fields(cls, fields: Fields) -> Market:
        """Read those fields out of an artifact's. Raises ShapeRefused, ArtifactRefused."""
        return cls(ChainId(fields.integer("chain_id", 1, LARGEST_INTEGER)), fields.octets("contract", ADDRESS_BYTES))
