"""Secrets at rest: AES-256-GCM columns under the vault's key, which lies in the header row under the passphrase (ARCHITECTURE, "At rest").

The associated data is purpose + id, so that a sealed value moved to another row or column does not open. The header row pins the key: with
another passphrase the service stops instead of writing values that nobody can open again. A new passphrase wraps the same key anew: nothing
that was sealed, and no key that was derived, changes with it.
"""

from __future__ import annotations

import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import LargeBinary, SmallInteger, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from hessian.errors import KeyLost, Refused
from hessian.postgres.session import Session

NONCE_BYTES = 12
SALT_BYTES = 16
KEY_BYTES = 32
_SCRYPT = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 2**20, "dklen": KEY_BYTES}
_CHECK = b"hessian vault 1"
_HEADER = "header"


class VaultEmpty(Refused):
    """There are no keys in this database yet: start the service once."""


class PassphraseUnchanged(Refused):
    """The new passphrase is the old one."""


class VaultHeader:
    """Mixin for the table that holds one row: the salt, the wrapped key, and a sealed constant that proves the passphrase."""

    __tablename__ = "vault_header"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, default=1)
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    wrapped_key: Mapped[bytes | None] = mapped_column(LargeBinary)  # absent: the stretched passphrase itself, as vaults once began
    check: Mapped[bytes] = mapped_column(LargeBinary)


class Vault:
    """Seals and opens small secrets."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._key = key

    def seal(self, purpose: str, identity: str, secret: bytes) -> bytes:
        """nonce ‖ ciphertext ‖ tag, bound to `purpose` and `identity`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, _associated(purpose, identity))

    def open(self, purpose: str, identity: str, sealed: bytes) -> bytes:
        """Raises KeyLost when the value was not sealed by this vault for this place."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _associated(purpose, identity))
        except InvalidTag as error:
            raise KeyLost(f"the sealed {purpose} of {identity} cannot be opened with this passphrase") from error

    def derive(self, purpose: str) -> bytes:
        """A 32-byte key for one purpose (file encryption, row fingerprints), so that no key serves two."""
        return hashlib.blake2b(purpose.encode(), key=self._key, digest_size=32).digest()

    def wrapped(self, passphrase: str) -> tuple[bytes, bytes]:
        """(salt, this vault's key under the passphrase), for the header."""
        salt = secrets.token_bytes(SALT_BYTES)
        return salt, Vault(_stretch(passphrase, salt)).seal("vault key", _HEADER, self._key)


def _associated(purpose: str, identity: str) -> bytes:
    return f"{purpose}\x1f{identity}".encode()


async def open_vault(session: Session, header: type[VaultHeader], passphrase: str) -> Vault:
    """Open this schema's vault, or found it when the schema has none yet.

    Raises KeyLost with the wrong passphrase: nothing is generated silently in its place.
    """
    row = (await session.execute(select(header))).scalar_one_or_none()
    if row is not None:
        return _opened(row, passphrase)
    vault = Vault(secrets.token_bytes(KEY_BYTES))
    salt, wrapped_key = vault.wrapped(passphrase)
    check = vault.seal("check", _HEADER, _CHECK)
    await session.execute(insert(header).values(id=1, salt=salt, wrapped_key=wrapped_key, check=check))
    return vault


async def rewrap(session: Session, header: type[VaultHeader], old: str, new: str) -> bool:
    """Put the vault's key under another passphrase. False when it is under the new one already: an earlier call got that far.

    Raises PassphraseUnchanged, VaultEmpty, and KeyLost when neither passphrase opens the vault.
    """
    if old == new:
        raise PassphraseUnchanged
    row = (await session.execute(select(header).with_for_update())).scalar_one_or_none()
    if row is None:
        raise VaultEmpty
    try:
        vault = _opened(row, old)
    except KeyLost:
        _opened(row, new)
        return False
    row.salt, row.wrapped_key = vault.wrapped(new)
    await session.flush()
    return True


def _opened(row: VaultHeader, passphrase: str) -> Vault:
    """Raises KeyLost."""
    outer = Vault(_stretch(passphrase, row.salt))
    try:
        vault = outer if row.wrapped_key is None else Vault(outer.open("vault key", _HEADER, row.wrapped_key))
        vault.open("check", _HEADER, row.check)
    except KeyLost as error:
        raise KeyLost("the passphrase in HESSIAN_PASSPHRASE_FILE does not open the keys in this database") from error
    return vault


def _stretch(passphrase: str, salt: bytes) -> bytes:
    return hashlib.scrypt(passphrase.encode(), salt=salt, **_SCRYPT)
