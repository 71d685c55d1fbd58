"""Which round a transaction belongs to, read from the call itself: what is sent, and what its handlers do, is logged under that id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import structlog

from hessian.chain.binding import Call
from hessian.chain.encoding import contract_abi

_WORDS = {"roundId": "round", "cohortId": "cohort", "modelId": "model"}
_WORD_BYTES = 32


@contextmanager
def correlated(call: Call) -> Iterator[None]:
    """Log lines in here carry the id of what the call is about, the same as the coordinator's jobs about it; other calls change nothing."""
    subject = subject_of(call)
    if subject is None:
        yield
        return
    with structlog.contextvars.bound_contextvars(correlation_id=subject):
        yield


def subject_of(call: Call) -> str | None:
    """`round-7`, `cohort-3` or `model-1`: the first argument of a call that names one first; None for any other."""
    word = _first_arguments().get(call.data[:4])
    return None if word is None else f"{word}-{int.from_bytes(call.data[4 : 4 + _WORD_BYTES], 'big')}"


@cache
def _first_arguments() -> dict[bytes, str]:
    functions = contract_abi("ModelRepository").functions.items()
    names = {selector: entry["inputs"][0]["name"] for selector, entry in functions if entry["inputs"]}
    return {selector: _WORDS[name] for selector, name in names.items() if name in _WORDS}
