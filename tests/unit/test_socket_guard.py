"""A unit test that opens a socket fails, also where the code under test swallows the error."""

from __future__ import annotations

import contextlib
import socket

import pytest


def test_socket__created_in_a_unit_test__is_refused(request: pytest.FixtureRequest) -> None:
    with pytest.raises(AssertionError, match="unit test opened a socket"):
        socket.create_connection(("127.0.0.1", 9))
    with contextlib.suppress(AssertionError), socket.socket():
        pass
    guard = request.getfixturevalue("_no_socket_in_unit_tests")
    assert guard.opened == ["socket.getaddrinfo", "socket.__new__"]
    guard.opened.clear()
