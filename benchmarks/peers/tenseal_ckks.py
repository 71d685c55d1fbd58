"""TenSEAL's CKKS with the same statistics trick, in its two forms: one ciphertext and rotations, or one ciphertext per weight.

N = 4096 with 107 bits of modulus: 128 bits of security, one multiplication. Results are approximate, and nothing here hides the owner's
matrix from whoever holds the key: CKKS noise after a product depends on it, and TenSEAL has no call that drowns it. Times do not depend on
a Paillier key.
"""

from __future__ import annotations

from typing import Any

from benchmarks.data import Case
from benchmarks.measuring import cpu_seconds
from benchmarks.peers.peer import Step, WrongResult, largest_error, not_installed

_DEGREE = 4096
_MODULUS_BITS = [40, 27, 40]
_SCALE_BITS = 27
_TOLERANCE = 0.05
_NOTE = "approximate; not re-randomised"


class TensealRotations:
    """One ciphertext up, one down; the matrix product turns the slots (Halevi-Shoup diagonals)."""

    name = "TenSEAL CKKS, rotations"
    rerandomises = False
    by_rows = False
    by_key = False

    def missing(self) -> str | None:
        """When no wheel fits."""
        return not_installed("tenseal", "tenseal")

    def step(self, case: Case, primes: tuple[int, int], repeats: int) -> Step:
        """The Galois keys are made before and counted in the note."""
        context = _context(rotations=True)
        import tenseal

        weights, matrix, offset = _reals(case)
        columns = [list(column) for column in zip(*matrix, strict=True)]
        encrypted = tenseal.ckks_vector(context, weights)
        result: list[Any] = []

        def owner() -> None:
            result[:] = [encrypted.matmul(columns) - offset]

        seconds = cpu_seconds(owner, min(repeats, 3))
        error = _checked(result[0].decrypt(), case)
        public = context.copy()
        public.make_context_public()
        megabytes = len(public.serialize(save_galois_keys=True)) / 1e6
        return Step(
            encrypt=cpu_seconds(lambda: tenseal.ckks_vector(context, weights), repeats),
            owner=seconds,
            randomise=0.0,
            decrypt=cpu_seconds(lambda: result[0].decrypt(), repeats),
            upload_bytes=len(encrypted.serialize()),
            download_bytes=len(result[0].serialize()),
            error=error,
            note=f"{_NOTE}; rotation keys of {megabytes:.1f} MB besides",
        )


class TensealPerWeight:
    """d ciphertexts up, one down; no rotation: each is multiplied by its column."""

    name = "TenSEAL CKKS, a ciphertext per weight"
    rerandomises = False
    by_rows = False
    by_key = False

    def missing(self) -> str | None:
        """When no wheel fits."""
        return not_installed("tenseal", "tenseal")

    def step(self, case: Case, primes: tuple[int, int], repeats: int) -> Step:
        """Weights are repeated over the slots by the lender."""
        context = _context(rotations=False)
        import tenseal

        d = case.dimension
        weights, matrix, offset = _reals(case)
        columns = [list(column) for column in zip(*matrix, strict=True)]

        def encrypt() -> list[Any]:
            return [tenseal.ckks_vector(context, [weight] * d) for weight in weights]

        encrypted = encrypt()
        result: list[Any] = []

        def owner() -> None:
            total = encrypted[0] * columns[0]
            for weight, column in zip(encrypted[1:], columns[1:], strict=True):
                total += weight * column
            result[:] = [total - offset]

        seconds = cpu_seconds(owner, repeats)
        return Step(
            encrypt=cpu_seconds(encrypt, min(repeats, 3)),
            owner=seconds,
            randomise=0.0,
            decrypt=cpu_seconds(lambda: result[0].decrypt(), repeats),
            upload_bytes=sum(len(ciphertext.serialize()) for ciphertext in encrypted),
            download_bytes=len(result[0].serialize()),
            error=_checked(result[0].decrypt(), case),
            note=_NOTE,
        )


def _context(*, rotations: bool) -> Any:
    import tenseal

    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, _DEGREE, coeff_mod_bit_sizes=_MODULUS_BITS)
    context.global_scale = 2**_SCALE_BITS
    if rotations:
        context.generate_galois_keys()
    return context


def _reals(case: Case) -> tuple[list[float], list[list[float]], list[float]]:
    bounds = case.bounds
    return (
        [weight / 2.0**bounds.weight_bits for weight in case.weights],
        [[entry / 2.0**bounds.matrix_bits for entry in row] for row in case.matrix],
        [entry / 2.0**bounds.gradient_bits for entry in case.offset],
    )


def _checked(opened: list[float], case: Case) -> float:
    error = largest_error(opened[: case.dimension], case)
    if error > _TOLERANCE:
        raise WrongResult(f"the largest error is {error}")
    return error
