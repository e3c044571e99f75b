"""Who may come in: API keys, origins, and how much one key may ask for.

Keys are kept and compared as hashes in constant time; logs see a prefix of the hash. Without any key the
server listens on this machine only (`settings.py`), and web pages of other sites are kept out by their
`Origin`: browsers don't apply their own rules to websockets.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from ..errors import AuthError, CapacityError
from .settings import GatewaySettings, is_loopback

KEY_HEADERS = ("api-key", "xi-api-key", "kyutai-api-key")
KEY_SUBPROTOCOL = "openai-insecure-api-key."


class OriginError(AuthError):
    """A web page that is not allowed to talk to this server."""


class QuotaError(CapacityError):
    """One key asks for more than its share. `retry_after`: seconds."""

    def __init__(self, message: str, code: str, retry_after: int) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class Guard:
    """Checks requests against the settings; counts what each key holds."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._hashes = [_digest(key) for key in settings.api_keys]
        self._sessions: dict[str, int] = {}
        self._requests: dict[str, deque[float]] = {}

    def authenticate(
        self, headers: Mapping[str, str], query: Mapping[str, str], subprotocols: Sequence[str]
    ) -> str | None:
        """The caller's name for logs and quotas: 8 digits of its key's hash; `None` where no key is needed.

        Raises:
            AuthError: no key, or a wrong one.
        """
        if not self._hashes:
            return None
        given = list(_keys(headers, subprotocols))
        if self._settings.allow_query_key:
            given += [query[name] for name in ("api_key", "auth_id") if name in query]
        if not given:
            raise AuthError("this server needs an API key: send `Authorization: Bearer KEY`")
        digest = _digest(given[0])
        # All are compared, so the time tells nothing about which one matched.
        if not sum(hmac.compare_digest(digest, known) for known in self._hashes):
            raise AuthError("the API key is not valid here")
        return digest.hex()[:8]

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Refuse web pages of other sites. Programs that are no browsers send no `Origin`.

        Raises:
            OriginError: an origin that is neither allowed nor this server's own.
        """
        origin = headers.get("origin")
        allowed = self._settings.allow_origins
        if origin is None or "*" in allowed or origin in allowed:
            return
        try:
            site = urlsplit(origin)
            host = site.hostname or ""
        except ValueError:
            site, host = None, ""
        if self._hashes:
            # The key proves the caller; the server's own pages are fine under any name.
            own = site is not None and site.netloc != "" and site.netloc == headers.get("host")
        else:
            # Without keys a name that only resolves to this machine (DNS rebinding) must not be enough.
            own = is_loopback(host)
        if not own:
            raise OriginError(
                "web pages of this origin are not allowed; start the server with --allow-origin"
            )

    def count_request(self, caller: str | None, now: float) -> None:
        """Count an HTTP request of a key.

        Raises:
            QuotaError: too many in the last minute.
        """
        if caller is None:
            return
        times = self._requests.setdefault(caller, deque())
        while times and now - times[0] >= 60:
            times.popleft()
        if len(times) >= self._settings.requests_per_minute:
            wait = int(60 - (now - times[0])) + 1
            raise QuotaError(
                f"more than {self._settings.requests_per_minute} requests a minute",
                "rate_limit_exceeded",
                wait,
            )
        times.append(now)

    @contextmanager
    def session(self, caller: str | None) -> Generator[None, None, None]:
        """Hold one of a key's sessions.

        Raises:
            QuotaError: the key has all of them in use.
        """
        if caller is None:
            yield
            return
        held = self._sessions.get(caller, 0)
        if held >= self._settings.sessions_per_key:
            raise QuotaError(
                f"this key has {held} sessions open already", "concurrency_limit", self._settings.retry_after
            )
        self._sessions[caller] = held + 1
        try:
            yield
        finally:
            self._sessions[caller] -= 1
            if not self._sessions[caller]:
                del self._sessions[caller]


def _keys(headers: Mapping[str, str], subprotocols: Sequence[str]) -> Iterator[str]:
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "token") and rest.strip():
        yield rest.strip()
    for name in KEY_HEADERS:
        if headers.get(name):
            yield headers[name]
    for offered in subprotocols:
        if offered.startswith(KEY_SUBPROTOCOL):
            yield offered[len(KEY_SUBPROTOCOL) :]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
