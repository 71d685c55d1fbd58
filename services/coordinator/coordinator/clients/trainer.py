"""The trainer, as a coordinator sees it: bytes in, one artifact out."""

from __future__ import annotations

import base64

import httpx

from hessian.service.client import ServiceClient

TIMEOUT = httpx.Timeout(900.0, connect=5.0)
"""A gradient step of the largest model on a slow machine, and its place in the queue; the trainer has limits of its own."""


class TrainerClient:
    """Raises ServiceUnavailable, ServiceFailed, PeerRefused."""

    def __init__(self, client: ServiceClient) -> None:
        self.client = client

    async def gradient_step(self, ticket: str, manifest: bytes, weights: bytes) -> bytes:
        """The masked, re-randomised gradient of the member that the ticket stands for."""
        body = {"ticket": ticket, "manifest": base64.b64encode(manifest).decode(), "weights": base64.b64encode(weights).decode()}
        return (await self.client.request("POST", "/v1/gradient-steps", json=body)).content
