"""Bearer tokens. Node-internal ones come from files (admin, coordinator, trainer); owners' own are stored as hashes by owner-api.

A token is compared in constant time and never logged; a guard is a dependency, so that a handler's signature says who may call it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hessian.errors import NotPermitted, Unauthenticated

_scheme = HTTPBearer(auto_error=False, description="A token of this node")


def bearer_token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]) -> str:
    """The token of this request. Raises Unauthenticated."""
    if credentials is None or not credentials.credentials:
        raise Unauthenticated("send `Authorization: Bearer <token>`")
    return credentials.credentials


BearerToken = Annotated[str, Depends(bearer_token)]


class NodeTokens:
    """The tokens of one node by role, from their files. Lives in the app's state as `node_tokens`."""

    def __init__(self, **tokens: str) -> None:
        """Role name → token."""
        self._tokens = {role: token.encode() for role, token in tokens.items()}

    def role_of(self, token: str) -> str | None:
        """The role this token stands for; every candidate is compared, so that timing tells nothing."""
        found = None
        for role, known in self._tokens.items():
            if hmac.compare_digest(known, token.encode()):
                found = role
        return found


class requires:
    """Dependency: only these roles of the node may call."""

    def __init__(self, *roles: str) -> None:
        """Any one of `roles` suffices."""
        self._roles = roles

    def __call__(self, request: Request, token: BearerToken) -> str:
        """The caller's role. Raises Unauthenticated for an unknown token, NotPermitted for a known one of another role."""
        role = request.state.node_tokens.role_of(token)
        if role is None:
            raise Unauthenticated("this token is not known here")
        if role not in self._roles:
            raise NotPermitted(f"this needs the {' or '.join(self._roles)} token of the node")
        return str(role)


def new_token() -> str:
    """256 random bits in text."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """What is stored of a token: 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest()
