"""This project's kernel: encrypt with the private key, one packed affine map, full randomisers, decrypt by CRT."""

from __future__ import annotations

from benchmarks.data import Case
from benchmarks.measuring import cpu_seconds
from benchmarks.peers.peer import Step, WrongResult
from hessian.paillier.ciphertext import affine_map, randomiser
from hessian.paillier.decryption import PrivateKey
from hessian.paillier.fixed_point import centre
from hessian.paillier.packing import pack, pack_columns, slot_layout, unpack


class HessianKernel:
    """The step exactly as trainer and lender-api take it, without masks and HTTP."""

    name = "this project"
    rerandomises = True
    by_rows = False
    by_key = True

    def missing(self) -> str | None:
        """Always here."""
        return None

    def step(self, case: Case, primes: tuple[int, int], repeats: int) -> Step:
        """Time the four parts; the owner's includes packing and the check of every ciphertext."""
        private = PrivateKey(*primes)
        key, weights = private.public_key, list(case.weights)
        layout = slot_layout(key.bits, bound=case.slot_bound)
        encrypted = private.encrypt(weights)  # the first call makes the tables that a lender's key keeps
        offsets = pack([-offset for offset in case.offset], layout)
        # a randomiser serves once: every repetition has its own
        fresh = [[randomiser(key) for _ in offsets] for _ in range(repeats)]
        unused = iter(fresh)
        outputs: list[int] = []

        def owner() -> None:
            outputs[:] = affine_map(key, encrypted, pack_columns(case.matrix, layout), offsets, next(unused))

        owner_seconds = cpu_seconds(owner, repeats)
        opened = [centre(private.decrypt(ciphertext), key.n) for ciphertext in outputs]
        if unpack(opened, layout, case.dimension) != case.gradient():
            raise WrongResult
        return Step(
            encrypt=cpu_seconds(lambda: private.encrypt(weights), repeats),
            owner=owner_seconds,
            randomise=cpu_seconds(lambda: [randomiser(key) for _ in offsets], repeats),
            decrypt=cpu_seconds(lambda: [private.decrypt(ciphertext) for ciphertext in outputs], repeats),
            upload_bytes=len(encrypted) * key.ciphertext_bytes,
            download_bytes=len(outputs) * key.ciphertext_bytes,
            error=0.0,
        )
