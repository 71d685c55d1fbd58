"""A Paillier key pair with its certificate, made in a child process: the search for primes holds the interpreter for seconds.

The child lives for one key and ends by itself, so that a killed parent leaves nobody behind. The secret travels through its standard
output, never through arguments or environment.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from hessian.artifacts import codec
from hessian.errors import Unavailable, Violated
from hessian.paillier.certificate import prove_certificate
from hessian.paillier.decryption import generate_private_key

GENERATION_SECONDS = 300


class KeyGenerationFailed(Unavailable):
    """No key pair came out of the child process; it is tried again."""


@dataclass(frozen=True, slots=True, repr=False)
class GeneratedKey:
    """Secret: `private_key` as PrivateKey.to_bytes. Public: the rest."""

    private_key: bytes
    modulus: bytes
    certificate: tuple[bytes, ...]


async def generate_key(bits: int) -> GeneratedKey:
    """A fresh key pair of `bits`, proven. Raises KeyGenerationFailed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "lender_api.key_generation",
        str(bits),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(GENERATION_SECONDS):
            output, _ = await child.communicate()
    except TimeoutError as error:
        raise KeyGenerationFailed(f"no key pair of {bits} bits within {GENERATION_SECONDS} s") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        raise KeyGenerationFailed(f"the key generation ended with code {child.returncode}")
    return _parse(output)


def _parse(output: bytes) -> GeneratedKey:
    parts = codec.decode(output)
    if not isinstance(parts, list) or len(parts) < 3 or not all(isinstance(part, bytes) for part in parts):
        raise Violated("the key generation printed something that is not a key")
    private_key, modulus, *certificate = (part for part in parts if isinstance(part, bytes))
    return GeneratedKey(private_key, modulus, tuple(certificate))


def main() -> None:
    """The child: prints the key and ends."""
    bits = int(sys.argv[1])
    private_key = generate_private_key(bits, minimum_bits=bits)  # the service has judged the length
    certificate = prove_certificate(private_key.p, private_key.q)
    parts = [private_key.to_bytes(), private_key.public_key.modulus_bytes, *certificate.to_byte_strings()]
    sys.stdout.buffer.write(codec.encode(parts))


if __name__ == "__main__":
    main()
