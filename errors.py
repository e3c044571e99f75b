"""The one error tree.

The library raises these, the command line prints them as one line and exits with 2, the gateway translates
them to the error shape of the dialect. A message says what was wrong, where, and what would be right.
"""

from __future__ import annotations


class RillvoxError(Exception):
    """Anything that rillvox refuses on purpose."""


class AudioError(RillvoxError):
    """Audio that cannot be read, or holds something other than sound."""


class TextError(RillvoxError):
    """Text that cannot be tokenised, spoken or compared."""


class VoiceError(RillvoxError):
    """A voice that is unknown or cannot be used with this model."""


class CheckpointError(RillvoxError):
    """A model folder whose files are missing, misshapen or not ours to read."""


class ConfigError(RillvoxError):
    """A setting outside its range; the message names the field."""


class ProtocolError(RillvoxError):
    """A message that the wire protocol does not allow in this state."""


class CapacityError(RillvoxError):
    """No room for one more; try again later or elsewhere."""


class AuthError(RillvoxError):
    """A missing or wrong key, or a key without the right for this."""
