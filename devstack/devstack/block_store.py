"""The embedded block store: the part of Kubo's RPC that this project uses, on loopback, over a directory.

Run as `python -m devstack.block_store --directory D --port P`. One file per block under `blocks/`, one empty file per pin under `pins/`,
both written whole or not at all. Like Kubo it answers POST only, reports errors as `{"Message", "Code", "Type"}` with status 500, and
knows what it holds only by hash. Unlike Kubo it stores nothing but single raw blocks of at most 1 MiB (CIDv1, raw, sha2-256), and talks to
no peer.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Awaitable, Callable
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from devstack.processes import Child

MAX_BLOCK = 1 << 20
_PREFIX = bytes([0x01, 0x55, 0x12, 0x20])  # CIDv1, raw, sha2-256, 32 bytes
_CID = re.compile(r"^(?:/ipfs/)?(b[a-z2-7]{58})$")
_ADD_DEFAULTS = {"cid-version": "0", "raw-leaves": "false", "chunker": "size-262144", "hash": "sha2-256"}
_VERSION = "0.39.0-embedded"


class RpcError(Exception):
    """What Kubo would answer with status 500."""


class Blocks:
    """A directory of blocks and pins."""

    def __init__(self, directory: Path) -> None:
        self._blocks, self._pins = directory / "blocks", directory / "pins"
        for folder in (self._blocks, self._pins):
            folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Store one block; its CID."""
        name = "b" + base64.b32encode(_PREFIX + hashlib.sha256(data).digest()).decode().lower().rstrip("=")
        if not (self._blocks / name).exists():
            _write(self._blocks / name, data)
        return name

    def get(self, cid: str) -> bytes:
        """The bytes of a block. Raises RpcError."""
        try:
            return (self._blocks / cid).read_bytes()
        except FileNotFoundError as error:
            raise RpcError(f"block was not found locally (offline): ipld: could not find {cid}") from error

    def pin(self, cid: str) -> None:
        """Keep a block that is here. Raises RpcError."""
        self.get(cid)
        _write(self._pins / cid, b"")

    def unpin(self, cid: str) -> None:
        """Raises RpcError when it was not pinned."""
        try:
            (self._pins / cid).unlink()
        except FileNotFoundError as error:
            raise RpcError("not pinned or pinned indirectly") from error

    def is_pinned(self, cid: str) -> bool:
        """Whether a pin exists."""
        return (self._pins / cid).exists()

    def pins(self) -> list[str]:
        """All pins, in order."""
        return sorted(path.name for path in self._pins.iterdir() if _CID.match(path.name))


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _cid_of(request: Request) -> str:
    text = request.query_params.get("arg", "")
    if not text:
        raise RpcError('argument "ipfs-path" is required')
    found = _CID.match(text)
    if found is None or not base64.b32decode(found[1][1:].upper() + "=" * 6).startswith(_PREFIX):
        raise RpcError(f'invalid path "{text}": invalid cid: selected encoding not supported')
    return found[1]


async def _one_part(request: Request) -> tuple[str, bytes]:
    """Name and content of the single part of a multipart form (aioipfs sends its boundary quoted, as RFC 2046 allows)."""
    boundary = re.search(r'boundary="?([^";]+)"?', request.headers.get("content-type", ""))
    if boundary is None:
        raise RpcError("file argument 'path' is required")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BLOCK + 4096:
            raise RpcError("this store holds single blocks of at most 1 MiB")
    delimiter = b"\r\n--" + boundary[1].encode()
    sections = (b"\r\n" + bytes(body)).split(delimiter)
    if len(sections) != 3 or not sections[2].startswith(b"--"):
        raise RpcError("this store takes one file at a time")
    head, separator, content = sections[1].removeprefix(b"\r\n").partition(b"\r\n\r\n")
    if not separator:
        raise RpcError("multipart: NextPart: EOF")
    name = BytesHeaderParser().parsebytes(head + b"\r\n\r\n").get_filename()
    return name or "", content


def create_app(directory: Path) -> Starlette:
    """The RPC over one directory."""
    blocks = Blocks(directory)

    async def add(request: Request) -> Response:
        options = _ADD_DEFAULTS | dict(request.query_params)
        name, data = await _one_part(request)
        if len(data) > MAX_BLOCK:
            raise RpcError("this store holds single blocks of at most 1 MiB")
        chunk = re.fullmatch(r"size-(\d{1,9})", options["chunker"])
        if options["cid-version"] != "1" or options["raw-leaves"] != "true" or options["hash"] != "sha2-256":
            raise RpcError("this store makes raw blocks only: cid-version=1, raw-leaves=true, hash=sha2-256")
        if chunk is None or len(data) > int(chunk[1]):
            raise RpcError(f"{len(data)} bytes do not fit one chunk of {options['chunker']}")
        cid = blocks.put(data)
        if options.get("pin", "true") == "true":
            blocks.pin(cid)
        return JSONResponse({"Name": name or cid, "Hash": cid, "Size": str(len(data))})

    async def cat(request: Request) -> Response:
        return Response(blocks.get(_cid_of(request)), media_type="text/plain", headers={"X-Stream-Output": "1"})

    async def pin_add(request: Request) -> Response:
        cid = _cid_of(request)
        blocks.pin(cid)
        return JSONResponse({"Pins": [cid]})

    async def pin_rm(request: Request) -> Response:
        cid = _cid_of(request)
        blocks.unpin(cid)
        return JSONResponse({"Pins": [cid]})

    async def pin_ls(request: Request) -> Response:
        if "arg" not in request.query_params:
            return JSONResponse({"Keys": {cid: {"Type": "recursive"} for cid in blocks.pins()}})
        cid = _cid_of(request)
        if not blocks.is_pinned(cid):
            raise RpcError(f"path '{request.query_params['arg']}' is not pinned")
        return JSONResponse({"Keys": {cid: {"Type": "recursive"}}})

    async def identity(_: Request) -> Response:
        return JSONResponse({"ID": "embedded", "PublicKey": "", "Addresses": [], "AgentVersion": f"kubo/{_VERSION}/", "Protocols": []})

    async def version(_: Request) -> Response:
        return JSONResponse({"Version": _VERSION, "Commit": "", "Repo": "16", "System": "embedded", "Golang": "none"})

    calls: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "add": add, "cat": cat, "block/get": cat, "pin/add": pin_add, "pin/rm": pin_rm, "pin/ls": pin_ls,
        "id": identity, "version": version,
    }  # fmt: skip
    routes = [Route(f"/api/v0/{name}", call, methods=["POST"]) for name, call in calls.items()]
    return Starlette(routes=routes, exception_handlers={RpcError: _refuse})


def block_store_child(directory: Path, port: int, log: Path) -> Child:
    """The store as a process of the stack."""
    return Child("block-store", [sys.executable, "-m", "devstack.block_store", "--directory", str(directory), "--port", str(port)], log)


async def _refuse(_: Request, error: Exception) -> Response:
    return JSONResponse({"Message": str(error), "Code": 0, "Type": "error"}, status_code=500)


def main(
    directory: Annotated[Path, typer.Option(help="Where the blocks lie.")],
    port: Annotated[int, typer.Option(help="The port to listen on.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve until SIGTERM."""
    uvicorn.run(create_app(directory), host=host, port=port, log_level="warning", timeout_graceful_shutdown=3)


if __name__ == "__main__":
    typer.run(main)
