"""JSON-RPC to one Ethereum node. Every way in which that can fail becomes an error of this house here, and nowhere else."""

from __future__ import annotations

import asyncio
import re
from json import JSONDecodeError
from typing import Any

import stamina
from aiohttp import ClientError
from web3 import AsyncHTTPProvider
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

from hessian.chain.blocks import BlockUnknown, NodeAnswerInvalid, octets
from hessian.chain.encoding import refusal
from hessian.errors import ChainUnavailable
from hessian.metrics import RPC_SECONDS, timed

CALL_SECONDS = 10.0
ATTEMPTS = 3

_REVERT_CODE = 3
_NOT_FOUND_CODE = -32001  # EIP-1898
_UNKNOWN_BLOCK = re.compile(r"unknown block|header (for hash )?not found|block (hash )?not found|block height is|canonical", re.IGNORECASE)


class NodeRefused(ChainUnavailable):
    """The Ethereum node refused a request; `code` and `message` are its own."""

    def __init__(self, method: str, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"the Ethereum node refused {method}: {message}")


class NodeUnreachable(ChainUnavailable):
    """The Ethereum node cannot be reached."""


class Node:
    """One node's JSON-RPC over HTTP. Close it with `close`."""

    def __init__(self, url: str) -> None:
        self._provider = AsyncHTTPProvider(url, exception_retry_configuration=None)

    async def close(self) -> None:
        """End the HTTP session."""
        await self._provider.disconnect()

    async def request(self, method: str, *parameters: Any) -> Any:
        """The `result` of one call. A lost connection is tried again at once, a silent node (10 s) is not.

        Raises ChainUnavailable (NodeUnreachable, NodeRefused, NodeAnswerInvalid, BlockUnknown), or ContractRefused for a revert.
        """
        with timed(RPC_SECONDS, method=method):
            return await self._request(method, parameters)

    async def _request(self, method: str, parameters: tuple[Any, ...]) -> Any:
        async for attempt in stamina.retry_context(on=NodeUnreachable, attempts=ATTEMPTS, wait_initial=0.05, wait_max=0.5):
            with attempt:
                answer = await self._ask(method, parameters)
        if not isinstance(answer, dict):
            raise NodeAnswerInvalid
        if "error" in answer:
            raise _translated(method, answer["error"])
        if "result" not in answer:
            raise NodeAnswerInvalid
        return answer["result"]

    async def _ask(self, method: str, parameters: tuple[Any, ...]) -> Any:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await self._provider.make_request(RPCEndpoint(method), list(parameters))
        except TimeoutError as error:
            raise ChainUnavailable(f"the Ethereum node did not answer {method} within {CALL_SECONDS:g} s") from error
        except (JSONDecodeError, UnicodeDecodeError) as error:
            raise NodeAnswerInvalid from error
        except (ClientError, OSError) as error:
            raise NodeUnreachable from error
        except Web3Exception as error:
            raise ChainUnavailable(f"the Ethereum node could not be asked for {method}") from error


def _translated(method: str, error: Any) -> Exception:
    """A JSON-RPC error object as an exception of this house."""
    if not isinstance(error, dict):
        return NodeAnswerInvalid()
    code, message, data = error.get("code", 0), str(error.get("message", "")), error.get("data")
    if isinstance(data, dict):  # some nodes wrap the revert's bytes once more
        data = data.get("data")
    if code == _REVERT_CODE or "revert" in message.lower():
        return refusal(octets(data) if isinstance(data, str) and data.startswith("0x") else b"")
    if code == _NOT_FOUND_CODE or _UNKNOWN_BLOCK.search(message):
        return BlockUnknown(f"the Ethereum node does not know the block that {method} asks for")
    return NodeRefused(method, code if isinstance(code, int) else 0, message)
