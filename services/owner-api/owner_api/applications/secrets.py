"""An application's secrets: features, salt, blinding number, the key its answer is sealed to, and the opened quote. Each is a sealed column
with a purpose and a place of its own; drawn once and stored before anything is sent, so that a retry sends the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from hessian.artifacts.application import Opening, fresh_salt
from hessian.artifacts.score_answer import Quote
from hessian.errors import KeyLost
from hessian.lending.sealing import sealing_key_pair
from hessian.paillier.blinding import draw_blinding
from hessian.paillier.keys import PublicKey
from hessian.postgres.vault import Vault
from owner_api.tables import Application

_FEATURES = "applied features"
_SALT = "application salt"
_BLINDING = "blinding number"
_ANSWER_KEY = "answer key"
_QUOTE = "quote"


class SecretErased(KeyLost):
    """A secret of this application was erased, and is needed after all."""


def draw(vault: Vault, application: Application, features: Mapping[str, str], blinding: tuple[PublicKey, int] | None) -> None:
    """Seal the features and fresh secrets into a new application. `blinding`: the lender's key and t; None where nothing is blinded."""
    place, pair = str(application.id), sealing_key_pair()
    application.answer_key = pair.public
    application.sealed_answer_key = vault.seal(_ANSWER_KEY, place, pair.private)
    application.sealed_features = vault.seal(_FEATURES, place, json.dumps(features).encode())
    application.sealed_salt = vault.seal(_SALT, place, fresh_salt())
    if blinding is not None:
        application.sealed_blinding = vault.seal(_BLINDING, place, str(draw_blinding(*blinding)).encode())


def features_of(vault: Vault, application: Application) -> dict[str, str]:
    """The cell of every feature. Raises SecretErased, KeyLost."""
    features: dict[str, str] = json.loads(_opened(vault, _FEATURES, application, application.sealed_features))
    return features


def salt_of(vault: Vault, application: Application) -> bytes:
    """Raises SecretErased, KeyLost."""
    return _opened(vault, _SALT, application, application.sealed_salt)


def opening_of(vault: Vault, application: Application) -> Opening:
    """What a private query's commitment was made of. Raises SecretErased, KeyLost."""
    blinding = _opened(vault, _BLINDING, application, application.sealed_blinding)
    return Opening(features_of(vault, application), salt_of(vault, application), int(blinding))


def answer_key_of(vault: Vault, application: Application) -> bytes:
    """The private half of the key the answer is sealed to. Raises SecretErased, KeyLost."""
    return _opened(vault, _ANSWER_KEY, application, application.sealed_answer_key)


def keep_quote(vault: Vault, application: Application, quote: Quote) -> None:
    """Seal the opened quote; the key that opened it is not needed any more."""
    application.sealed_quote = vault.seal(_QUOTE, str(application.id), quote.to_padded_bytes())
    application.sealed_answer_key = None


def quote_of(vault: Vault, application: Application) -> Quote | None:
    """The quote, None before there is one. Raises KeyLost."""
    sealed = application.sealed_quote
    return None if sealed is None else Quote.from_padded_bytes(vault.open(_QUOTE, str(application.id), sealed))


def _opened(vault: Vault, purpose: str, application: Application, sealed: bytes | None) -> bytes:
    if sealed is None:
        raise SecretErased(f"the {purpose} of application {application.id} was erased")
    return vault.open(purpose, str(application.id), sealed)
