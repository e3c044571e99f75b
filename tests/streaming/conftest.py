"""Servers for the tests of the gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving.live import Live, serving
from serving.parrot import Parrot


@pytest.fixture
def parrot() -> Parrot:
    return Parrot(5)


@pytest.fixture(scope="module")
def shared() -> Iterator[Live]:
    with serving(lambda: Parrot(5), upload_bytes=2 << 20) as server:
        yield server


@pytest.fixture
def live(shared: Live) -> Iterator[Live]:
    """A server that many tests use; each must leave it empty."""
    yield shared
    shared.wait_idle()


@pytest.fixture
def own(parrot: Parrot) -> Iterator[Live]:
    """A server of its own, whose listener is `parrot`."""
    with serving(lambda: parrot) as server:
        yield server
