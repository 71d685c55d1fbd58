"""What the published documents say in words: tokens and units, what each state means, what is null, what a number may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from coordinator.app import create_app as create_coordinator
from coordinator.world import World as CoordinatorWorld
from hessian.lending.policy import BOUNDS
from lender_api.app import create_app as create_lender
from lender_api.world import World as LenderWorld
from owner_api.app import create_app as create_owner
from owner_api.world import World as OwnerWorld

DOCUMENTS: dict[str, dict[str, Any]] = {
    "lender": create_lender(cast(LenderWorld, None)).openapi(),
    "owner": create_owner(cast(OwnerWorld, None)).openapi(),
    "coordinator": create_coordinator(cast(CoordinatorWorld, None)).openapi(),
}
TOKENS = {
    "lender": ("admin", "coordinator"),
    "owner": ("owner's own", "admin", "coordinator", "trainer"),
    "coordinator": ("admin", "coordinator"),
}


def schema_of(service: str, name: str) -> dict[str, Any]:
    return cast(dict[str, Any], DOCUMENTS[service]["components"]["schemas"][name])


def fields_of(service: str) -> Iterator[tuple[str, bool, dict[str, Any]]]:
    """Every field of every schema: its place, whether it is always there, what is said of it."""
    for name, schema in DOCUMENTS[service]["components"]["schemas"].items():
        for field, said in schema.get("properties", {}).items():
            yield f"{name}.{field}", field in schema.get("required", []), said


@pytest.mark.parametrize("service", DOCUMENTS)
def test_description__each_document__names_its_tokens_and_units(service: str) -> None:
    said = " ".join(DOCUMENTS[service]["info"]["description"].split())
    assert all(part in said for part in ("Authorization: Bearer", "decimal strings", "seconds since 1970 by the chain's clock"))
    assert all(f"{token} token" in said for token in TOKENS[service])


@pytest.mark.parametrize("service", DOCUMENTS)
def test_state__that_is_one_of_a_few__is_explained_word_by_word(service: str) -> None:
    explained = 0
    for place, _, said in fields_of(service):
        if place.rpartition(".")[2] not in {"state", "outcome"}:
            continue
        known = said if "enum" in said else schema_of(service, said["$ref"].rpartition("/")[2]) if "$ref" in said else {}
        unexplained = [word for word in known.get("enum", []) if f"{word}: " not in said.get("description", "")]
        assert unexplained == [], place
        explained += "enum" in known
    assert explained


@pytest.mark.parametrize("service", DOCUMENTS)
def test_field__that_is_always_there__is_never_called_absent(service: str) -> None:
    always = [(place, said.get("description", "")) for place, is_required, said in fields_of(service) if is_required]
    assert always
    assert [place for place, words in always if "absent" in words.lower()] == []


@pytest.mark.parametrize("service", ["lender", "owner"])
def test_transfer__of_nothing__is_outside_the_pattern(service: str) -> None:
    transfer = schema_of(service, "TransferCreate")["properties"]
    assert transfer["amount_wei"]["pattern"] == "^[1-9][0-9]{0,77}$"
    assert "0.001 ether" in transfer["amount_wei"]["description"]
    assert "EIP-55" in transfer["to"]["description"]


def test_policy__each_number__has_the_bounds_it_is_held_to_and_words() -> None:
    numbers = schema_of("lender", "PolicyIn")["properties"]
    assert {name: (numbers[name]["minimum"], numbers[name]["maximum"]) for name in BOUNDS} == BOUNDS
    shown = schema_of("owner", "PolicyRead")["properties"]
    assert shown.keys() == BOUNDS.keys()
    assert all(said["description"] for said in (*numbers.values(), *shown.values()))


def test_apply__in_words__leads_to_every_end() -> None:
    said = DOCUMENTS["owner"]["paths"]["/v1/applications"]["post"]["description"]
    paths = ("/open-application", "`POST /v1/requests/{request_id}/assessment`")
    assert all(part in said for part in (*paths, "`quoted`", "`expired`", "`unreadable`", "`failed`"))


def test_deploy_and_retire__in_words__say_what_to_follow() -> None:
    paths = DOCUMENTS["lender"]["paths"]
    assert "until its state is `serving` or `failed`" in paths["/v1/deployments"]["post"]["description"]
    assert "stays `serving` until the transaction is final" in paths["/v1/deployments/{id}/retire"]["post"]["description"]
