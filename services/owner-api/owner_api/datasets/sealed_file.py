"""The encrypted file of a dataset, written and read in bounded memory.

    header   magic "HESSDAT1" ‖ salt (16 bytes)
    chunk i  AES-256-GCM(key, nonce = uint96_be(i), plaintext of CHUNK_BYTES, the last one shorter; associated data)
    key      HKDF-SHA256(master, salt, info = magic ‖ file id): a key of its own for every file, so that counting nonces never repeat
    a. data  magic ‖ file id ‖ uint64_be(i) ‖ last (1 byte)

This is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015, section 7): index and last-flag make chunks that were reordered, dropped, repeated or cut off at the end
unreadable, and the file id does the same to two files that changed places.
"""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hessian.errors import KeyLost

MAGIC = b"HESSDAT1"
SALT_BYTES = 16
CHUNK_BYTES = 1 << 16
TAG_BYTES = 16


class DatasetUnreadable(KeyLost):
    """A dataset's file was changed, cut off or damaged, or belongs to another key."""


class SealedWriter:
    """Encrypts into an open file. Nothing can be read back before `finish`."""

    def __init__(self, file: BinaryIO, master: bytes, identity: uuid.UUID) -> None:
        salt = secrets.token_bytes(SALT_BYTES)
        self._file = file
        self._chunks = _Chunks(master, salt, identity)
        self._pending = bytearray()
        file.write(MAGIC + salt)

    def write(self, data: bytes) -> None:
        """Take any number of bytes; a chunk is written once it cannot be the last."""
        self._pending += data
        while len(self._pending) > CHUNK_BYTES:
            self._file.write(self._chunks.seal(bytes(self._pending[:CHUNK_BYTES]), is_last=False))
            del self._pending[:CHUNK_BYTES]

    def finish(self) -> None:
        """Write the last chunk, which may be empty."""
        self._file.write(self._chunks.seal(bytes(self._pending), is_last=True))
        self._pending.clear()


def read_sealed(file: BinaryIO, master: bytes, identity: uuid.UUID) -> Iterator[bytes]:
    """The plaintext, chunk by chunk, each checked before it is given out. Raises DatasetUnreadable, at the end when the end is missing."""
    header = file.read(len(MAGIC) + SALT_BYTES)
    if header[: len(MAGIC)] != MAGIC or len(header) != len(MAGIC) + SALT_BYTES:
        raise DatasetUnreadable(f"the file of dataset {identity} does not start as one")
    chunks = _Chunks(master, header[len(MAGIC) :], identity)
    chunk = file.read(CHUNK_BYTES + TAG_BYTES)
    while True:
        following = file.read(CHUNK_BYTES + TAG_BYTES)
        yield chunks.open(chunk, is_last=not following)
        if not following:
            return
        chunk = following


def read_end(file: BinaryIO, master: bytes, identity: uuid.UUID, count: int) -> tuple[int, bytes]:
    """How many bytes of plaintext there are, and the last `count` of them. Raises DatasetUnreadable."""
    body = file.seek(0, os.SEEK_END) - len(MAGIC) - SALT_BYTES
    last = max(0, -(-body // (CHUNK_BYTES + TAG_BYTES)) - 1)
    size = body - (last + 1) * TAG_BYTES
    file.seek(len(MAGIC))
    chunks = _Chunks(master, file.read(SALT_BYTES), identity)
    chunks.index = first = max(0, size - count) // CHUNK_BYTES
    file.seek(first * (CHUNK_BYTES + TAG_BYTES), os.SEEK_CUR)
    end = b"".join(chunks.open(file.read(CHUNK_BYTES + TAG_BYTES), is_last=place == last) for place in range(first, last + 1))
    return size, end[-count:]


class _Chunks:
    """Seals or opens the chunks of one file in order, from `index` on."""

    def __init__(self, master: bytes, salt: bytes, identity: uuid.UUID) -> None:
        self._bound = MAGIC + identity.bytes
        self._cipher = AESGCM(HKDF(SHA256(), 32, salt, self._bound).derive(master))
        self._identity = identity
        self.index = 0

    def seal(self, plaintext: bytes, *, is_last: bool) -> bytes:
        nonce, associated = self._next(is_last)
        return self._cipher.encrypt(nonce, plaintext, associated)

    def open(self, chunk: bytes, *, is_last: bool) -> bytes:
        nonce, associated = self._next(is_last)
        try:
            return self._cipher.decrypt(nonce, chunk, associated)
        except InvalidTag as error:
            raise DatasetUnreadable(
                f"the file of dataset {self._identity} cannot be read: it was changed or cut off, or the key is another"
            ) from error

    def _next(self, is_last: bool) -> tuple[bytes, bytes]:
        index = self.index
        self.index += 1
        return index.to_bytes(12, "big"), self._bound + index.to_bytes(8, "big") + bytes([is_last])
