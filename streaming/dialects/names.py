"""Which model names a client may use, and ids that nobody can guess."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

NewId = Callable[[str], str]
"""A fresh id for a prefix: `new_id("item")` gives "item_..."."""

# Frameworks hard-wire these, so a server that refuses them is a server they cannot use.
OPENAI_NAMES = frozenset(
    {
        "whisper-1",
        "gpt-4o-transcribe",
        "gpt-4o-mini-transcribe",
        "gpt-4o-mini-transcribe-2025-12-15",
        "gpt-realtime",
        "gpt-realtime-mini",
        "gpt-realtime-whisper",
        "gpt-live-transcribe",
        "gpt-transcribe",
    }
)


@dataclass(frozen=True)
class ModelNames:
    """The model served, and the other names it answers to."""

    default: str
    aliases: frozenset[str] = OPENAI_NAMES

    def resolve(self, name: str | None) -> str | None:
        """Our model for a client's name, `None` if there is none by that name.

        Nothing named, an alias, and any released Voxtral mean the default.
        """
        if not name or name in self.aliases or name.lower().removeprefix("mistralai/").startswith("voxtral"):
            return self.default
        return self.default if name == self.default else None


def random_id(prefix: str) -> str:
    """`prefix`, an underscore, and 18 characters of a cryptographic generator (108 bits)."""
    return f"{prefix}_{secrets.token_urlsafe(14)[:18]}"
