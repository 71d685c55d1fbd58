"""The vault in use: the wallet's key, a Paillier key per model, weights, rows, borrowers' features. Sealed at rest, never logged.

Opening checks every key that the tables name. A key that cannot be opened, or is gone while rows still need it, ends the start with
KeyLost: a silently generated replacement would strand an escrow or make published weights unreadable.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from eth_account import Account
from eth_account.signers.local import LocalAccount
from sqlalchemy import func, select

from hessian.artifacts import codec
from hessian.errors import KeyLost
from hessian.identifiers import Address, Digest, RoundId
from hessian.outbox.courier import SignerUnknown
from hessian.paillier.decryption import PrivateKey
from hessian.postgres.session import Session
from hessian.postgres.vault import Vault, open_vault
from lender_api.tables import Model, ModelKey, ScoreRequest, ValidationSet, VaultHeader, Wallet, Weights

_PAILLIER, _WALLET, _WEIGHTS, _GRADIENT = "paillier key", "wallet key", "weights", "gradient"
_ROWS, _FEATURES = "validation rows", "features"


class Keys:
    """Seals what must not be read at rest, and opens it again. Holds the wallet's account."""

    def __init__(self, vault: Vault, account: LocalAccount, private_keys: dict[uuid.UUID, PrivateKey]) -> None:
        self._vault = vault
        self._account = account
        self._private_keys = private_keys  # opening one tests its primes, which takes as long as decrypting a round

    @property
    def address(self) -> Address:
        """The lender's account."""
        return Address(str(self._account.address))

    async def signer_of(self, address: Address) -> LocalAccount:
        """For the outbox. Raises SignerUnknown."""
        if address != self.address:
            raise SignerUnknown(f"this node's wallet is {self.address}, not {address}")
        return self._account

    def seal_private_key(self, model: uuid.UUID, private_key: bytes) -> bytes:
        """`private_key` as PrivateKey.to_bytes."""
        return self._vault.seal(_PAILLIER, str(model), private_key)

    def open_private_key(self, row: ModelKey) -> PrivateKey:
        """Raises KeyLost when it cannot be opened or is not the key that was published."""
        if row.model not in self._private_keys:
            self._private_keys[row.model] = _open_private_key(self._vault, row)
        return self._private_keys[row.model]

    def seal_weights(self, model: uuid.UUID, digest: Digest, weights: Sequence[int]) -> bytes:
        """`weights`: integers at the model's weight scale, bound to the digest of their encrypted form."""
        return self._vault.seal(_WEIGHTS, f"{model}:{digest.hex()}", codec.encode([int(weight) for weight in weights]))

    def open_weights(self, row: Weights) -> list[int]:
        """Integers at the model's weight scale. Raises KeyLost."""
        plain = codec.decode(self._vault.open(_WEIGHTS, f"{row.model}:{row.digest.hex()}", row.sealed_weights))
        return [weight for weight in plain if isinstance(weight, int)] if isinstance(plain, list) else []

    def seal_gradient(self, round_id: RoundId, gradient: Sequence[int]) -> bytes:
        """`gradient`: integers at the model's gradient scale; wider than 64 bits, hence as text."""
        return self._vault.seal(_GRADIENT, str(round_id), codec.encode([str(entry) for entry in gradient]))

    def open_gradient(self, round_id: RoundId, sealed: bytes) -> list[int]:
        """Raises KeyLost."""
        plain = codec.decode(self._vault.open(_GRADIENT, str(round_id), sealed))
        return [int(entry) for entry in plain if isinstance(entry, str)] if isinstance(plain, list) else []

    def seal_rows(self, validation_set: uuid.UUID, csv: bytes) -> bytes:
        """The CSV of a validation set."""
        return self._vault.seal(_ROWS, str(validation_set), csv)

    def open_rows(self, row: ValidationSet) -> bytes:
        """Raises KeyLost."""
        return self._vault.open(_ROWS, str(row.id), row.sealed_csv)

    def seal_features(self, row: ScoreRequest, features: Mapping[str, str]) -> bytes:
        """What a borrower has shown of itself, bound to its request."""
        return self._vault.seal(_FEATURES, f"{row.deployment}:{row.request_id}", codec.encode(features))

    def open_features(self, row: ScoreRequest) -> dict[str, str] | None:
        """By column; None while nothing was shown. Raises KeyLost."""
        if row.sealed_features is None:
            return None
        plain = codec.decode(self._vault.open(_FEATURES, f"{row.deployment}:{row.request_id}", row.sealed_features))
        return {name: str(value) for name, value in plain.items()} if isinstance(plain, Mapping) else {}


async def open_keys(session: Session, passphrase: str) -> Keys:
    """Open the vault and everything in it; on the very first start, found it with a fresh wallet. Raises KeyLost."""
    vault = await open_vault(session, VaultHeader, passphrase)
    row = (await session.execute(select(Wallet))).scalar_one_or_none()
    if row is None:
        if (await session.execute(select(func.count()).select_from(Model))).scalar_one():
            raise KeyLost("the wallet's row is gone although models were paid from it: restore the database from its backup")
        account: LocalAccount = Account.create()
        address = Address(str(account.address))
        session.add(Wallet(address=address, sealed_key=vault.seal(_WALLET, address, bytes(account.key))))
    else:
        account = Account.from_key(vault.open(_WALLET, row.address, row.sealed_key))
        if str(account.address) != row.address:
            raise KeyLost(f"the sealed key of wallet {row.address} belongs to another address")
    rows = (await session.execute(select(ModelKey))).scalars()
    return Keys(vault, account, {row.model: _open_private_key(vault, row) for row in rows})


def _open_private_key(vault: Vault, row: ModelKey) -> PrivateKey:
    private_key = PrivateKey.from_bytes(vault.open(_PAILLIER, str(row.model), row.sealed_private_key))
    if private_key.public_key.digest != row.modulus_digest:
        raise KeyLost(f"the sealed Paillier key of model {row.model} is not the one that was published")
    return private_key
