"""
HessianError
├── Refused             the caller must change something           4xx, never retried
│   ├── Malformed           the payload cannot be what it claims    422
│   ├── Unauthenticated     no or unknown token                     401
│   ├── NotPermitted        known, but not allowed                  403
│   ├── NotFound                                                    404
│   ├── Conflict            the state does not allow it             409
│   └── TooLarge            over a published limit                  413
├── Unavailable         the world may change by itself             503, retried with backoff
│   ├── ChainUnavailable · IpfsUnavailable · DatabaseUnavailable · ServiceUnavailable (ServiceFailed)
└── Violated            something that must never happen, happened 500, not retried, stops loudly
    ├── ChainDiverged · SlotOverflow · KeyLost

The family decides the behaviour. Foreign exceptions are translated once, at the wall, with the cause kept. Domain errors live beside the
code that raises them, as subclasses of these. An error's sentence is written for the person who must act on it and never holds a secret.
"""

from __future__ import annotations

from typing import ClassVar


class HessianError(Exception):
    """Root. `status` is the HTTP status an API answers with; `title` names the class in problem+json (RFC 9457)."""

    status: ClassVar[int] = 500

    def __init__(self, sentence: str | None = None) -> None:
        super().__init__(sentence or (type(self).__doc__ or type(self).__name__).strip().splitlines()[0])

    @property
    def sentence(self) -> str:
        """What to tell the caller."""
        return str(self.args[0])


class Refused(HessianError):
    """The request cannot be done as it stands."""

    status = 400


class Malformed(Refused):
    """The payload is not what it claims to be."""

    status = 422


class Unauthenticated(Refused):
    """A bearer token is needed."""

    status = 401


class NotPermitted(Refused):
    """This token does not allow that."""

    status = 403


class NotFound(Refused):
    """There is no such thing here."""

    status = 404


class Conflict(Refused):
    """The present state does not allow it."""

    status = 409


class TooLarge(Refused):
    """Over the published limit."""

    status = 413


class Unavailable(HessianError):
    """Something this depends on does not answer; try again."""

    status = 503


class ChainUnavailable(Unavailable):
    """The Ethereum node does not answer."""


class IpfsUnavailable(Unavailable):
    """The IPFS node does not answer, or not with the bytes that were asked for."""


class DatabaseUnavailable(Unavailable):
    """Postgres does not answer."""


class ServiceUnavailable(Unavailable):
    """A service of this node does not answer."""

    def __init__(self, sentence: str | None = None, title: str = "") -> None:
        """`title` is the one of the problem that the service answered with, empty when it gave none."""
        super().__init__(sentence)
        self.title = title


class ServiceFailed(ServiceUnavailable):
    """A service of this node met an error of its own: trying again may help, trying for ever will not."""


class Violated(HessianError):
    """Something that must never happen, happened."""

    status = 500


class ChainDiverged(Violated):
    """A block that was final is no longer part of the chain: finality was broken and a human must look."""


class SlotOverflow(Violated):
    """A packed value left its slot: a bound of the manifest does not hold."""


class KeyLost(Violated):
    """A key that the database names cannot be opened with this passphrase."""
