"""What a gateway is told when it starts: addresses, keys, sizes, times."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from ..errors import ConfigError
from .dialects.choose import DialectName
from .dialects.limits import Limits

MIB = 1 << 20


@dataclass(frozen=True)
class GatewaySettings:
    """Settings of one server process. Times in seconds unless the name says otherwise.

    Raises:
        ConfigError: a value outside its range, or an open address without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    model: str = "asr-en"
    slots: int = 8  # realtime sessions held at once
    file_slots: int = 2  # uploaded files read at once; they yield to the sessions
    file_queue: int = 16  # uploads that may wait for one of them
    delay_ms: int = 480  # where a client asks for none
    threads: int = 1

    api_keys: tuple[str, ...] = field(default=(), repr=False)
    allow_origins: tuple[str, ...] = ()
    allow_query_key: bool = False  # keys in addresses end up in other people's logs
    sessions_per_key: int = 8
    requests_per_minute: int = 60

    default_dialect: DialectName = "openai"
    limits: Limits = field(default_factory=Limits)
    input_seconds: float = 30.0  # audio a session may be ahead; then its socket isn't read
    output_messages: int = 1000  # messages a reader may be behind
    messages_per_second: int = 200
    send_deadline: float = 10.0
    user_timeout: float = 15.0  # until the kernel gives up a peer that acknowledges nothing
    send_buffer_bytes: int = 65536
    ws_max_bytes: int = 6 * MIB
    head_deadline: float = 10.0
    upload_bytes: int = 25 * MIB
    upload_seconds: float = 3600.0
    upload_min_rate: int = 1024  # bytes a second, over 30 seconds
    drain_seconds: float = 60.0
    load: float = 0.7  # share of the frame budget that sessions may take
    retry_after: int = 5

    def __post_init__(self) -> None:
        for name in (
            "slots",
            "file_slots",
            "file_queue",
            "threads",
            "sessions_per_key",
            "requests_per_minute",
            "input_seconds",
            "output_messages",
            "messages_per_second",
            "send_deadline",
            "user_timeout",
            "send_buffer_bytes",
            "ws_max_bytes",
            "head_deadline",
            "upload_bytes",
            "upload_seconds",
            "upload_min_rate",
            "drain_seconds",
            "load",
            "retry_after",
        ):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port must be 0 to 65535, got {self.port}")
        if self.default_dialect not in ("openai", "vllm"):
            raise ConfigError(f"default_dialect must be openai or vllm, got {self.default_dialect!r}")
        if any(len(key) < 8 or not key.isascii() for key in self.api_keys):
            raise ConfigError("an API key needs at least 8 ASCII characters")
        if not self.api_keys and not is_loopback(self.host):
            raise ConfigError(
                f"without an API key only this machine may connect; set a key, or don't use host {self.host}"
            )


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
