"""The four laws that every module with a state keeps, as helpers for tests.

    from laws import assert_batch_law, assert_memory_law, assert_seed_law, assert_streaming_law

They take any object with `initial_state(slots)`, `forward(x)` and `step(x, state, active)`;
`Subject` makes one out of three functions where names or arguments differ.
"""

from laws.batch import assert_batch_law
from laws.memory import assert_memory_law
from laws.play import Streaming, Subject
from laws.seed import assert_seed_law
from laws.streaming import assert_streaming_law

__all__ = [
    "Streaming",
    "Subject",
    "assert_batch_law",
    "assert_memory_law",
    "assert_seed_law",
    "assert_streaming_law",
]
