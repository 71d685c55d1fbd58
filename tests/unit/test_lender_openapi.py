"""The published document of lender-api: every route says what it does, who may call it, and how it refuses."""

from __future__ import annotations

from typing import Any, cast

import pytest

from lender_api.app import create_app
from lender_api.world import World

DOCUMENT: dict[str, Any] = create_app(cast(World, None)).openapi()
MONEY = [
    "post /v1/models",
    "post /v1/models/{id}/close",
    "post /v1/deployments",
    "post /v1/deployments/{id}/retire",
    "post /v1/withdrawals",
    "post /v1/transfers",
]
OPERATIONS = {
    f"{method} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if path.startswith("/v1")
}


PUBLIC = {"post /v1/requests/{request_id}/assessment", "post /v1/requests/{request_id}/acceptance"}
"""What borrowers' own clients call: they have no token of this node."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation__each__has_words_a_token_and_problem_answers(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    assert operation.get("security") == (None if name in PUBLIC else [{"HTTPBearer": []}])
    assert operation["responses"]["4XX"]["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
    successes = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    assert all("$ref" in answer["content"]["application/json"]["schema"] for answer in successes)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("post /v1/cohorts/{cohort_id}/rounds", {"NotYetFinal", "IpfsUnavailable"}),
        ("post /v1/rounds/{round_id}/accept", {"NotYetFinal", "IpfsUnavailable"}),
        ("post /v1/rounds/{round_id}/evaluate", {"NotYetFinal", "IpfsUnavailable", "PinMissing"}),
        ("post /v1/rounds/{round_id}/expire", {"NotYetFinal", "IpfsUnavailable"}),
        ("post /v1/models/{model_id}/conclude", {"ChainUnavailable", "IpfsUnavailable"}),
        ("post /v1/requests/{request_id}/answer", {"RequestNotFinal", "LookupRefused", "QueryNotFound", "IpfsUnavailable", "PinMissing"}),
        ("post /v1/requests/{request_id}/assessment", {"ChainUnavailable", "IpfsUnavailable", "PinMissing"}),
    ],
)
def test_operation__that_waits_for_neighbours__names_them(name: str, reasons: set[str]) -> None:
    named = OPERATIONS[name]["responses"]["503"]["description"]
    assert {reason for reason in reasons if f"**{reason}**" in named} == reasons


@pytest.mark.parametrize("name", MONEY)
def test_operation__that_moves_money__requires_an_idempotency_key(name: str) -> None:
    headers = [item for item in OPERATIONS[name]["parameters"] if item["in"] == "header"]
    assert [(item["name"], item["required"]) for item in headers] == [("Idempotency-Key", True)]


def test_schemas__of_money__are_decimal_strings() -> None:
    found = [
        (name, field, schema)
        for name, model in DOCUMENT["components"]["schemas"].items()
        for field, schema in model.get("properties", {}).items()
        if field.endswith("_wei")
    ]
    assert len(found) >= 12
    for name, field, schema in found:
        kinds = [part.get("type") for part in schema.get("anyOf", [schema])]
        assert set(kinds) <= {"string", "null"}, (name, field)
