"""Owners' Ethereum keys: keystore v3 in the database, opened under the node's passphrase, in memory while the service runs.

Web3 Secret Storage version 3 with scrypt (https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage). Opening
one takes about a second by design, so it happens in a thread and once per owner.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, cast

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json
from sqlalchemy import select

from hessian.errors import KeyLost
from hessian.identifiers import Address
from hessian.outbox.relay import SignerUnknown
from hessian.postgres.engine import Database
from hessian.postgres.session import Session
from owner_api.tables import Owner


class Wallets:
    """Makes and opens wallets. `work` is scrypt's N for new keystores; an old one carries its own."""

    def __init__(self, database: Database, passphrase: str, *, work: int) -> None:
        self._database = database
        self._passphrase = passphrase.encode()
        self._work = work
        self._opened: dict[Address, LocalAccount] = {}
        self._opening: dict[Address, asyncio.Lock] = {}

    async def create(self) -> tuple[Address, dict[str, Any]]:
        """A new key: its address and its keystore, to be stored by the caller."""
        key = secrets.token_bytes(32)
        account: LocalAccount = Account.from_key(key)
        address = Address(str(account.address))
        keystore = await asyncio.to_thread(_locked, key, self._passphrase, self._work)
        self._opened[address] = account
        return address, keystore

    async def signer_of(self, address: Address) -> LocalAccount:
        """The account of an owner of this node. Raises SignerUnknown, KeyLost."""
        async with self._opening.setdefault(address, asyncio.Lock()):
            if address not in self._opened:
                self._opened[address] = await self._open(address)
        return self._opened[address]

    async def _open(self, address: Address) -> LocalAccount:
        async with self._database.begin() as session:
            keystore = (await session.execute(select(Owner.keystore).where(Owner.address == address))).scalar_one_or_none()
        if keystore is None:
            raise SignerUnknown
        return cast(LocalAccount, Account.from_key(await asyncio.to_thread(_key_in, keystore, self._passphrase, address)))


async def rewrap_wallets(session: Session, old: str, new: str, *, work: int) -> None:
    """Put every owner's key under another passphrase, each with scrypt twice. Raises KeyLost."""
    for owner in (await session.execute(select(Owner).order_by(Owner.number).with_for_update())).scalars():
        key = await asyncio.to_thread(_key_in, owner.keystore, old.encode(), owner.address)
        owner.keystore = await asyncio.to_thread(_locked, key, new.encode(), work)
    await session.flush()


def _locked(key: bytes, passphrase: bytes, work: int) -> dict[str, Any]:
    return dict(create_keyfile_json(key, passphrase, kdf="scrypt", iterations=work))


def _key_in(keystore: dict[str, Any], passphrase: bytes, address: Address) -> bytes:
    """Raises KeyLost."""
    try:
        return bytes(decode_keyfile_json(keystore, passphrase))
    except ValueError as error:  # eth-keyfile's word for a wrong passphrase
        raise KeyLost(f"the wallet {address} cannot be opened with this passphrase") from error
