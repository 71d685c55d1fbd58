"""What lender-api and owner-api answer to a coordinator: the chain may have moved on, or the matter may be another node's."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from hessian.errors import ServiceFailed
from hessian.service.client import ServiceClient

TIMEOUT = httpx.Timeout(300.0, connect=5.0)
"""Evaluating a round decrypts and encrypts a whole model; the round's own deadline ends what takes longer."""


class Answer(BaseModel):
    """`pending`: no final block shows it yet; `foreign`: nobody of this node is concerned; `superseded`: the chain's state has moved on;
    `refused`: the content is bad."""

    model_config = ConfigDict(frozen=True)

    outcome: Literal["done", "pending", "foreign", "superseded", "refused"]
    reason: str | None = None


AnswerT = TypeVar("AnswerT", bound=BaseModel)


def understood(shape: type[AnswerT], service: str, body: Any) -> AnswerT:
    """The answer as its shape. Raises ServiceFailed when the neighbour speaks another language."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        raise ServiceFailed(f"{service} answered with something this coordinator does not understand") from error


class Neighbour:
    """A neighbour that answers with an outcome."""

    def __init__(self, client: ServiceClient) -> None:
        self.client = client

    async def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Raises ServiceUnavailable, ServiceFailed, PeerRefused."""
        response = await self.client.request(method, path, json=body)
        return understood(Answer, path, response.json() if response.content else None)
