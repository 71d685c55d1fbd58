"""A score answer: the lender's quote, sealed to the borrower's key (PROTOCOL §8, §10).

All quotes are padded to one length before they are sealed: an approval, a decline and a decline with reasons look alike from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hessian.artifacts.codec import ArtifactRefused, decode_artifact, encode, encode_artifact, refusals
from hessian.artifacts.market import Market
from hessian.identifiers import DIGEST_BYTES, Digest, RequestId, Timestamp, digest_of
from hessian.learning.calibration import MOST_BANDS, WHOLE_BPS
from hessian.learning.plain import LARGEST_INTEGER, Plain
from hessian.lending.decision import Decision
from hessian.lending.policy import LARGEST_RATE_BPS, LONGEST_REASON, MOST_REASONS
from hessian.lending.sealing import SEAL_BYTES, seal, unseal

KIND, VERSION = "hessian/score-answer", 1
QUOTE_KIND, QUOTE_VERSION = "hessian/quote", 1
QUOTE_BYTES = 2048
"""Every padded quote; MOST_REASONS reasons of LONGEST_REASON characters fit."""

_MARK = b"\x80"


@dataclass(frozen=True)
class Quote:
    """A decision, until when it holds (seconds since 1970), and in open mode a decline's reasons. Binding only once accepted."""

    decision: Decision
    valid_until: Timestamp
    reasons: tuple[str, ...] = ()

    def to_padded_bytes(self) -> bytes:
        """Exactly QUOTE_BYTES: the canonical bytes, 0x80, zeros. Raises ArtifactRefused."""
        rate = {} if self.decision.rate_bps is None else {"rate_bps": self.decision.rate_bps}
        fields: dict[str, Plain] = {
            "approved": self.decision.approved,
            "band": self.decision.band,
            "pd_bps": self.decision.pd_bps,
            **rate,
            "valid_until": self.valid_until,
            "reasons": self.reasons,
        }
        data = encode_artifact(QUOTE_KIND, QUOTE_VERSION, fields) + _MARK
        if len(data) > QUOTE_BYTES:
            raise ArtifactRefused(f"a quote takes at most {QUOTE_BYTES} bytes")
        return data.ljust(QUOTE_BYTES, b"\0")

    @classmethod
    def from_padded_bytes(cls, data: bytes) -> Quote:
        """Read foreign bytes. Raises ArtifactRefused."""
        inner = data.rstrip(b"\0")
        if len(data) != QUOTE_BYTES or not inner.endswith(_MARK):
            raise ArtifactRefused("the quote is not padded as quotes are")
        with refusals():
            fields = decode_artifact(inner.removesuffix(_MARK), QUOTE_KIND, QUOTE_VERSION)
            approved = fields.boolean("approved")
            decision = Decision(
                approved=approved,
                band=fields.integer("band", 0, MOST_BANDS - 1),
                pd_bps=fields.integer("pd_bps", 1, WHOLE_BPS - 1),
                rate_bps=fields.integer("rate_bps", 0, LARGEST_RATE_BPS) if approved else None,
            )
            quote = cls(
                decision,
                Timestamp(fields.integer("valid_until", 0, LARGEST_INTEGER)),
                fields.texts("reasons", MOST_REASONS, LONGEST_REASON),
            )
            fields.done()
            return quote


@dataclass(frozen=True)
class ScoreAnswer:
    """`sealed`: a quote for the borrower of this request, whose query has the digest `query`."""

    market: Market
    request_id: RequestId
    query: Digest
    sealed: bytes

    @classmethod
    def seal(cls, market: Market, request_id: RequestId, query: Digest, borrower_key: bytes, quote: Quote) -> ScoreAnswer:
        """The artifact, different every time. Raises ArtifactRefused, also for a key to which nothing can be sealed."""
        with refusals():
            return cls(market, request_id, query, seal(borrower_key, quote.to_padded_bytes(), _context(market, request_id, query)))

    def open(self, private_key: bytes, market: Market, request_id: RequestId, query: Digest) -> Quote:
        """The quote, if this answers this request. Raises ArtifactRefused."""
        if (self.market, self.request_id, self.query) != (market, request_id, query):
            raise ArtifactRefused("the answer belongs to another request")
        with refusals():
            return Quote.from_padded_bytes(unseal(private_key, self.sealed, _context(market, request_id, query)))

    @cached_property
    def digest(self) -> Digest:
        """What the contract anchors."""
        return digest_of(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        fields: dict[str, Plain] = {
            **self.market.to_plain(),
            "request_id": self.request_id,
            "query": self.query,
            "sealed": self.sealed,
        }
        return encode_artifact(KIND, VERSION, fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> ScoreAnswer:
        """Read foreign bytes. Raises ArtifactRefused."""
        with refusals():
            fields = decode_artifact(data, KIND, VERSION)
            answer = cls(
                market=Market.from_fields(fields),
                request_id=RequestId(fields.integer("request_id", 1, LARGEST_INTEGER)),
                query=Digest(fields.octets("query", DIGEST_BYTES)),
                sealed=fields.octets("sealed", QUOTE_BYTES + SEAL_BYTES),
            )
            fields.done()
            return answer


def _context(market: Market, request_id: RequestId, query: Digest) -> bytes:
    """What the seal is bound to: canonical DAG-CBOR of the domain and the request."""
    return encode({"domain": KIND, **market.to_plain(), "request_id": request_id, "query": query})
