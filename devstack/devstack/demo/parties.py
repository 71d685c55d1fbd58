"""Lender, data owners and borrowers, as people who use nothing but the public REST interfaces of the nodes."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import httpx

from hessian.errors import Refused, Unavailable
from hessian.identifiers import Address, ModelId, Wei


class RequestRefused(Refused):
    """A service said no to the demo."""


class NotThere(RequestRefused):
    """There is no such thing at this service, or not yet."""


class Rest:
    """One base URL, one bearer token, JSON in and out."""

    def __init__(self, base_url: str, token: str) -> None:
        """Nothing is sent yet."""
        self._http = httpx.Client(base_url=base_url, headers={"Authorization": f"Bearer {token}"}, timeout=60.0, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def get(self, path: str, **query: str | int) -> Any:
        """Read. Raises RequestRefused, Unavailable."""
        return self._send("GET", path, params=query)

    def post(self, path: str, body: object = None) -> Any:
        """Ask for something; every request of ours has a key of its own. Raises RequestRefused, Unavailable."""
        return self._send("POST", path, json=body, headers={"Idempotency-Key": secrets.token_hex(16)})

    def upload(self, path: str, file: Path, **query: str) -> Any:
        """Send a CSV file. Raises RequestRefused, Unavailable."""
        with file.open("rb") as content:
            return self._send("POST", path, params=query, content=content.read(), headers={"Content-Type": "text/csv"})

    def all(self, path: str) -> list[Any]:
        """Every item of a list, page by page."""
        items: list[Any] = []
        page = self.get(path)
        while True:
            items += page["items"]
            if page.get("next") is None:
                return items
            page = self.get(path, after=page["next"])

    def _send(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise Unavailable(f"{method} {path}: no answer ({type(error).__name__})") from error
        if answer.is_success:
            return answer.json() if answer.content else None
        reason = answer.json().get("detail", "") if "json" in answer.headers.get("content-type", "") else answer.text[:200]
        refusal = NotThere if answer.status_code == HTTPStatus.NOT_FOUND else RequestRefused
        raise refusal(f"{method} {path}: {answer.status_code} {reason}")


class Lender(Rest):
    """The lender at its lender-api."""

    @property
    def address(self) -> Address:
        """Its wallet."""
        return Address(self.get("/v1/wallet")["address"])


class DataOwner(Rest):
    """One data owner at its owner-api, with its own token."""

    def __init__(self, base_url: str, created: dict[str, Any]) -> None:
        """`created` is the answer of `POST /v1/owners`."""
        super().__init__(base_url, created["token"])
        self.name: str = created["name"]
        self.address = Address(created["address"])
        self.dataset_id = ""
        self.rows = 0
        self.enrollment_id = ""

    def upload_shard(self, file: Path, label: str, positive: str) -> None:
        """Give the own node the own rows."""
        dataset = self.upload("/v1/datasets", file, name=file.stem, label=label, positive=positive)
        self.dataset_id, self.rows = dataset["id"], dataset["rows"]

    def enrol(self, model_id: ModelId) -> None:
        """Offer the rows to a model."""
        self.enrollment_id = self.post("/v1/enrollments", {"model_id": model_id, "dataset_id": self.dataset_id})["id"]

    def enrollment(self) -> dict[str, Any]:
        """How far that is."""
        return dict(self.get(f"/v1/enrollments/{self.enrollment_id}"))


class Borrower(Rest):
    """One borrower at an owner-api, and the client that carries its openings to the lender."""

    def __init__(self, base_url: str, created: dict[str, Any]) -> None:
        """`created` is the answer of `POST /v1/owners`."""
        super().__init__(base_url, created["token"])
        self.address = Address(created["address"])
        self.application_id = ""
        self.has_shown = False

    def apply(self, deployment_id: int, features: dict[str, Any], most: Wei, *, mode: str = "private") -> None:
        """Ask for a quote. Raises RequestRefused."""
        wish = {"deployment_id": deployment_id, "mode": mode, "max_fee_wei": str(most), "features": features}
        self.application_id = self.post("/v1/applications", wish)["id"]

    def application(self) -> dict[str, Any]:
        """How far it is."""
        return dict(self.get(f"/v1/applications/{self.application_id}"))

    def show(self, lender: Rest) -> None:
        """Open mode: show the lender the features, unless its node does not know of the request yet."""
        shown = self.get(f"/v1/applications/{self.application_id}/open-application")
        try:
            lender.post(f"/v1/requests/{shown['request_id']}/assessment", shown["application"])
        except NotThere:
            return
        self.has_shown = True

    def accept(self, lender: Rest) -> dict[str, Any]:
        """Open the commitment; what the lender confirms. Raises RequestRefused."""
        opened = self.post(f"/v1/applications/{self.application_id}/acceptance")
        return dict(lender.post(f"/v1/requests/{opened['request_id']}/acceptance", opened["opening"]))
