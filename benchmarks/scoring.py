"""What one private quote costs in processor time: the borrower's query, the lender's answer, and what comes before the query.

`python -m benchmarks.scoring [--bits 3072] [--dimension 42] [--calls 15]` prints one Markdown line, medians of CPU time, and writes
build/bench/scoring.json.

    query         features encoded, the blinded product, the fresh randomiser, the commitment, the artifact's bytes
    answer        the query's bytes read and checked, decrypted, decided, the quote sealed, the answer's bytes
    acceptance    the opening checked: commitment, features, one decryption
    verification  manifest and scoring model read and checked, the key certificate verified: once per query, in the same process
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.report import SectionResult
from benchmarks.run import Run
from hessian.artifacts.application import Opening, fresh_salt
from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.market import Market
from hessian.artifacts.score_answer import Quote, ScoreAnswer
from hessian.artifacts.score_query import ScoreQuery
from hessian.artifacts.scoring_model import ScoringModel
from hessian.artifacts.terms import TermsSummary
from hessian.identifiers import Address, ChainId, DeploymentId, RequestId, Timestamp, digest_of
from hessian.learning.affine import bounds_for
from hessian.learning.application import check_canonical, encode_features, read_features
from hessian.learning.calibration import CalibrationTable
from hessian.learning.columns import Label, Numeric
from hessian.learning.features import FeatureSpecification
from hessian.learning.metrics import scores
from hessian.learning.plain import BILLION
from hessian.learning.scoring import scale_for
from hessian.lending.decision import decide
from hessian.lending.policy import RatePolicy
from hessian.lending.sealing import sealing_key_pair
from hessian.paillier.blinding import blinded_product, draw_blinding
from hessian.paillier.certificate import prove_certificate
from hessian.paillier.decryption import PrivateKey, generate_private_key
from hessian.paillier.keys import MINIMUM_BITS

Input = TypeVar("Input")
Output = TypeVar("Output")

OUTPUT = Path("build/bench/scoring.json")
MARKET = Market.at(ChainId(1), Address("0x" + "11" * 20))
DEPLOYMENT, REQUEST = DeploymentId(1), RequestId(1)
FINAL_WEIGHTS = digest_of(b"final weights")
POLICY = RatePolicy(
    cutoff_bps=2_000, lgd_bps=6_000, funding_bps=300, margin_bps=200, cap_bps=3_000, tier_step_bps=50,
    quote_valid_seconds=86_400, quote_period_seconds=86_400,
)  # fmt: skip


def manifest_of(key: PrivateKey, dimension: int) -> ModelManifest:
    """A model over numbers between −4 and 4 standard deviations."""
    numbers = (Numeric(f"x{j}", -9 * BILLION, 9 * BILLION, -4 * BILLION, 4 * BILLION, 0, BILLION) for j in range(1, dimension))
    specification = FeatureSpecification(tuple(numbers), Label("bad", ("1",), ("0",)))
    return ModelManifest(
        name="benchmark",
        description="",
        specification=specification,
        bounds=bounds_for(specification),
        step=1 << 30,
        public_key=key.public_key,
        certificate=prove_certificate(key.p, key.q),
        terms=TermsSummary(1, 0, 0, 2, 1, 1, 1, 1, "equal"),
    )


def measure(bits: int, dimension: int, calls: int) -> dict[str, object]:
    """CPU milliseconds, medians, and the bytes that travel. Raises AssertionError when a quote is not the plaintext decision."""
    key = generate_private_key(bits, minimum_bits=min(bits, MINIMUM_BITS))
    manifest = manifest_of(key, dimension)
    spec, public = manifest.specification, manifest.public_key
    weights = [secrets.randbelow(1 << 22) - (1 << 21) for _ in range(dimension)]
    scale = scale_for(spec, weights, manifest.bounds.weight_bits)
    coarse, thresholds = scale.weights(weights, manifest.bounds.weight_bits), tuple(range(-4 << 20, 5 << 20, 1 << 20))
    table = CalibrationTable(thresholds, tuple(range(100, 100 + 300 * len(thresholds) + 1, 300)))
    scoring = ScoringModel.seal(manifest, FINAL_WEIGHTS, scale, key.encrypt(coarse), table, POLICY)
    ciphertexts, digest, pair = scoring.check_against(manifest, FINAL_WEIGHTS), scoring.digest, sealing_key_pair()
    published, anchored = manifest.to_bytes(), scoring.to_bytes()
    applicants = [{f"x{j}": f"{secrets.randbelow(4_000) / 1_000:.3f}" for j in range(1, dimension)} for _ in range(calls)]
    opened = [Opening(read_features(spec, values), fresh_salt(), draw_blinding(public, scale.blinding_bits)) for values in applicants]

    def query(opening: Opening) -> bytes:
        features = encode_features(scale, spec, opening.features)
        ciphertext = blinded_product(public, ciphertexts, features, opening.blinding, scale.blinding_bits)
        return ScoreQuery.seal(MARKET, DEPLOYMENT, digest, opening.commitment(public), pair.public, public, ciphertext).to_bytes()

    def answer(sent: bytes) -> bytes:
        received = ScoreQuery.from_bytes(sent)
        ciphertext = received.check_against(MARKET, DEPLOYMENT, digest, public)
        decision = decide(scoring.policy, scoring.calibration, key.decrypt_blinded(ciphertext, scale.blinding_bits))
        return ScoreAnswer.seal(MARKET, REQUEST, digest_of(sent), received.borrower_key, Quote(decision, Timestamp(1))).to_bytes()

    def acceptance(each: tuple[Opening, bytes]) -> bool:
        opening, received = each[0], ScoreQuery.from_bytes(each[1])
        check_canonical(spec, opening.features)
        features = np.array([encode_features(scale, spec, opening.features)])
        [score] = scores(coarse, features)
        ciphertext = received.check_against(MARKET, DEPLOYMENT, digest, public)
        committed = opening.commitment(public) == received.commitment
        return committed and key.opens_blinded(ciphertext, score, opening.blinding, scale.blinding_bits)

    def verification(_: Opening) -> None:
        read = ModelManifest.from_bytes(published, minimum_bits=min(bits, MINIMUM_BITS))
        read.verify_certificate()
        ScoringModel.from_bytes(anchored).check_against(read, FINAL_WEIGHTS)

    query_ms, queries = timed(query, opened)
    answer_ms, answers = timed(answer, queries)
    acceptance_ms, accepted = timed(acceptance, list(zip(opened, queries, strict=True)))
    verification_ms, _ = timed(verification, opened)
    for opening, sent, came in zip(opened, queries, answers, strict=True):
        quote = ScoreAnswer.from_bytes(came).open(pair.private, MARKET, REQUEST, digest_of(sent))
        [score] = scores(coarse, np.array([encode_features(scale, spec, opening.features)]))
        assert quote.decision == decide(POLICY, table, score)
    assert all(accepted)
    return {
        "bits": bits,
        "dimension": dimension,
        "calls": calls,
        "query_cpu_ms": query_ms,
        "answer_cpu_ms": answer_ms,
        "acceptance_cpu_ms": acceptance_ms,
        "verification_cpu_ms": verification_ms,
        "query_bytes": len(queries[0]),
        "answer_bytes": len(answers[0]),
        "scoring_model_bytes": len(anchored),
    }


def timed(work: Callable[[Input], Output], inputs: Sequence[Input]) -> tuple[float, list[Output]]:
    """The median CPU milliseconds of one call, and what the calls returned."""
    work(inputs[0])  # tables and caches are made once per process
    spent, results = [], []
    for each in inputs:
        before = time.process_time_ns()
        results.append(work(each))
        spent.append((time.process_time_ns() - before) / 1e6)
    return round(statistics.median(spent), 2), results


def private_quote(run: Run) -> SectionResult:
    """The section of `make bench`: one row per key length, d = 42."""
    rows = []
    for bits in run.extent.key_bits:
        run.say(f"private quote: {bits} bits")
        rows.append(measure(bits=bits, dimension=42, calls=15))
    text = "Processor milliseconds of one private quote, medians. A query also pays the verification, in the same fresh process."
    return SectionResult("A private quote", text, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a Markdown table of one line."""
    parser = argparse.ArgumentParser(description="processor time of one private quote")
    parser.add_argument("--bits", type=int, default=3072)
    parser.add_argument("--dimension", type=int, default=42)
    parser.add_argument("--calls", type=int, default=15)
    result = measure(**vars(parser.parse_args(arguments)))
    print("| " + " | ".join(result) + " |\n|" + "---|" * len(result))
    print("| " + " | ".join(str(value) for value in result.values()) + " |")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
