"""The clock of a delayed stream: samples, mel frames, encoder frames, steps, tokens, milliseconds.

Voxtral Realtime (arXiv 2602.11298), Delayed Streams Modeling. One step is 80 ms: 1280 samples, 8 mel frames,
4 encoder frames, one token in and one token out. A stream is

    left padding | real audio, zero-filled to whole steps | D + 1 + buffer steps of zeros

and every count below is in this padded stream, unless its name says `real`. Unusual:
- the delay D acts on the length of the prompt and on the text decoder's norms, never on the encoder;
- the first real sample lies `left_pad_tokens` steps in, so times need both the padding and D taken off;
- a step is ready 40 samples (2.5 ms) after its own last sample: half an FFT window less one hop.

Whole numbers only, of any size; no tensors and no wall clock. A stream of a year is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError

RATE = 16_000
FRAME_MS = 80  # one step: what one token stands for
FRAME_SAMPLES = RATE * FRAME_MS // 1000
HOP_SAMPLES = 160
WINDOW_SAMPLES = 400
MEL_PER_STEP = FRAME_SAMPLES // HOP_SAMPLES
ENCODER_PER_STEP = 4
# The last mel frame of a step is centred 160 samples before the step's end and reaches 200 past its centre.
MEL_LOOKAHEAD = WINDOW_SAMPLES // 2 - HOP_SAMPLES

MIN_DELAY_TOKENS = 1
MAX_DELAY_TOKENS = 30  # the released models were trained with every delay from 1 to 30
DELAYS_ALLOWED = (
    f"a multiple of {FRAME_MS} from {MIN_DELAY_TOKENS * FRAME_MS} to {MAX_DELAY_TOKENS * FRAME_MS}"
)


@dataclass(frozen=True)
class DelayClock:
    """All maps between the counts of one stream, for one delay."""

    delay_tokens: int  # D
    left_pad_tokens: int = 32  # `audio.streaming_n_left_pad_tokens` of the model's tekken.json
    buffer_tokens: int = 10  # steps after the delay in which fast speech may still be written down
    block: int = ENCODER_PER_STEP  # encoder frames that see each other: 1 or 4, or more and a longer delay

    def __post_init__(self) -> None:
        if not MIN_DELAY_TOKENS <= self.delay_tokens <= MAX_DELAY_TOKENS:
            raise ConfigError(
                f"delay_tokens must be from {MIN_DELAY_TOKENS} to {MAX_DELAY_TOKENS}, got {self.delay_tokens}"
            )
        if self.left_pad_tokens < 1:
            # Without it the first mel frames would reach before the stream, where offline framing reflects.
            raise ConfigError(f"left_pad_tokens must be at least 1, got {self.left_pad_tokens}")
        if self.buffer_tokens < 0:
            raise ConfigError(f"buffer_tokens must not be negative, got {self.buffer_tokens}")
        _check_block(self.block)

    # Lengths.

    @property
    def delay_ms(self) -> int:
        """What a user calls the delay: the model's own and what the encoder's block adds."""
        return self.delay_tokens * FRAME_MS + block_extra_ms(self.block)

    @property
    def left_pad_samples(self) -> int:
        """Zeros in front of the first real sample."""
        return self.left_pad_tokens * FRAME_SAMPLES

    @property
    def prompt_length(self) -> int:
        """Forced input tokens L: the start symbol, then padding up to D steps into the audio."""
        return self.left_pad_tokens + 1 + self.delay_tokens

    @property
    def flush_tokens(self) -> int:
        """Steps of zeros R that must follow the audio, or its last words are never written."""
        return self.delay_tokens + 1 + self.buffer_tokens

    @property
    def block_tokens(self) -> int:
        """Steps that the encoder must run at once."""
        return max(self.block // ENCODER_PER_STEP, 1)

    def total_tokens(self, n_samples: int) -> int:
        """Steps N of a finished stream of `n_samples` real samples; whole blocks."""
        steps = self.left_pad_tokens + _ceil_div(n_samples, FRAME_SAMPLES) + self.flush_tokens
        return _ceil_div(steps, self.block_tokens) * self.block_tokens

    def padded_samples(self, n_samples: int) -> int:
        """Length of the padded stream of a finished one: `total_tokens` in samples."""
        return self.total_tokens(n_samples) * FRAME_SAMPLES

    def closing_zeros(self, n_samples: int) -> int:
        """Zeros to feed after the last real sample so that every step runs.

        The 40 past the end stand for the reflected samples of offline framing, which are zeros too.
        """
        return self.padded_samples(n_samples) - self.left_pad_samples - n_samples + MEL_LOOKAHEAD

    # Availability.

    @property
    def silent_steps(self) -> int:
        """Steps that hear padding only; the same for all streams, so they can be computed once."""
        return self.steps_ready(self.left_pad_samples)

    def steps_ready(self, n_padded_samples: int) -> int:
        """How many steps can run once so many samples of the padded stream are there; whole blocks."""
        steps = max(0, n_padded_samples - MEL_LOOKAHEAD) // FRAME_SAMPLES
        return steps // self.block_tokens * self.block_tokens

    def samples_needed(self, step: int) -> int:
        """Samples of the padded stream that must be there before `step` can run."""
        last = step // self.block_tokens * self.block_tokens + self.block_tokens - 1
        return FRAME_SAMPLES * (last + 1) + MEL_LOOKAHEAD

    # Tokens.

    def prompt(self, bos: int, pad: int) -> list[int]:
        """The forced input tokens."""
        return [bos] + [pad] * (self.prompt_length - 1)

    def is_forced(self, step: int) -> bool:
        """The input token of this step is the prompt's; after that it is the last output token."""
        return step < self.prompt_length

    def is_heard(self, step: int) -> bool:
        """The output token of this step counts; before that the logits are thrown away."""
        return step >= self.prompt_length - 1

    # Times, in milliseconds of the real audio unless the name says otherwise.

    def step_start_ms(self, step: int) -> int:
        """Start of the 80 ms that a step hears; negative inside the left padding."""
        return (step - self.left_pad_tokens) * FRAME_MS

    def step_end_ms(self, step: int) -> int:
        """End of the 80 ms that a step hears."""
        return self.step_start_ms(step + 1)

    def step_at_real_sample(self, sample: int) -> int:
        """The step that hears a sample of the real audio."""
        return self.left_pad_tokens + sample // FRAME_SAMPLES

    def step_at_ms(self, ms: int) -> int:
        """The step that hears this moment of the real audio."""
        return self.left_pad_tokens + ms // FRAME_MS

    def group_end_ms(self, step: int) -> int:
        """End of the word whose group a token of this step opens or continues.

        (step + 1 - left padding - D) steps: the text runs D steps behind. Resolution one step; a model's own
        bias of up to a step is measured once and taken off by the caller.
        """
        return (step + 1 - self.left_pad_tokens - self.delay_tokens) * FRAME_MS

    def due_step(self, end_ms: int) -> int:
        """The first step that may write a word ending at this moment: the inverse of `group_end_ms`."""
        return _ceil_div(end_ms, FRAME_MS) - 1 + self.left_pad_tokens + self.delay_tokens


def delay_tokens(delay_ms: int, block: int = ENCODER_PER_STEP) -> int:
    """D of the delay that a user asks for, when the encoder runs blocks of `block` frames.

    The user's delay is D steps and what the block adds, so a larger block leaves less to D.

    Raises:
        ConfigError: see `check_delay`, or too short for the block.
    """
    _check_block(block)
    check_delay(delay_ms)
    extra = block_extra_ms(block)
    lowest = extra + MIN_DELAY_TOKENS * FRAME_MS
    if delay_ms < lowest:
        raise ConfigError(
            f"delay_ms must be at least {lowest} with an encoder block of {block} frames, got {delay_ms}"
        )
    return (delay_ms - extra) // FRAME_MS


def check_delay(delay_ms: object, name: str = "delay_ms") -> None:
    """Refuse what is a delay of no model; `name` is the setting it was given as.

    Raises:
        ConfigError: not a multiple of 80 from 80 to 2400. The reference rounds others in its own way
            (`audio_tokens`), which would silently run at another delay than asked for.
    """
    # Not `isinstance`: True is no delay. The value comes from callers, so its type is a wish.
    tokens, rest = divmod(delay_ms, FRAME_MS) if type(delay_ms) is int else (0, 0)
    if rest or not MIN_DELAY_TOKENS <= tokens <= MAX_DELAY_TOKENS:
        raise ConfigError(f"{name} must be {DELAYS_ALLOWED}, got {delay_ms!r}")


def block_extra_ms(block: int) -> int:
    """What a block of encoder frames adds to the delay: its first step waits for its last."""
    return max(block // ENCODER_PER_STEP - 1, 0) * FRAME_MS


def audio_tokens(n_samples: int) -> int:
    """Tokens that so much audio takes, by the reference's rule: mel frames rounded down, steps up."""
    return _ceil_div(n_samples // HOP_SAMPLES, MEL_PER_STEP)


def align(n_samples: int) -> int:
    """Zeros that fill real audio up to whole steps."""
    return -n_samples % FRAME_SAMPLES


def mel_frames(step: int) -> range:
    """The mel frames of a step."""
    return range(MEL_PER_STEP * step, MEL_PER_STEP * (step + 1))


def encoder_frames(step: int) -> range:
    """The encoder frames of a step."""
    return range(ENCODER_PER_STEP * step, ENCODER_PER_STEP * (step + 1))


def mel_samples(frame: int) -> range:
    """The samples that a mel frame covers, centred on 160 times its number; the first two start below 0."""
    centre = HOP_SAMPLES * frame
    return range(centre - WINDOW_SAMPLES // 2, centre + WINDOW_SAMPLES // 2)


def step_samples(step: int) -> range:
    """All 1520 samples that a step's mel frames cover."""
    frames = mel_frames(step)
    return range(mel_samples(frames[0]).start, mel_samples(frames[-1]).stop)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _check_block(block: int) -> None:
    if block != 1 and (block < ENCODER_PER_STEP or block % ENCODER_PER_STEP):
        raise ConfigError(f"block must be 1 or a multiple of {ENCODER_PER_STEP} encoder frames, got {block}")
