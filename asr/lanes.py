"""The text side of a listening session: which token goes in, and what the token that comes out means.

A lane reads the adapter vectors of one ear, one step at a time, with a delay of its own. It holds no tensors:
`batch.py` runs the model for many lanes at once. Steps are counted in the ear's padded stream; a lane that
began later (`restart`) counts its decoder's positions from there. Unusual:
- the end-of-stream symbol is one more token without text: a live stream goes on after it;
- the text so far is never revised; its leading blank is stripped once, at the very start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..tekken import IncrementalDecoder, Tekken
from .delays import ENCODER_PER_STEP, FRAME_MS, RATE, DelayClock, block_extra_ms
from .ears import Ear, Samples, block_steps
from .events import DelayChanged, Draft, Event, Final, Mark, Partial
from .reading import Reading
from .rut import RutRules, RutWatch
from .transcript import Transcript
from .words import Words, word_calibration, word_offset

# Text-free steps that count as a pause when a lane waits for one: half a second.
PAUSE_TOKENS = 6

# What of a lane is a plain number or text, for `state`.
_PLAIN: dict[str, type[int] | type[bool] | type[float] | type[str]] = {
    **dict.fromkeys(("delay_tokens", "block", "start", "position", "prompt_length", "_token"), int),
    **dict.fromkeys(("completion_tokens", "text_tokens", "_quiet", "_unsettled"), int),
    **{"done": bool, "_said": bool, "_stable": float, "_drafted": str},
}


class Lane:
    """One reading of one ear. Made by `Batch.open`; everything but its tensors."""

    def __init__(
        self,
        ear: Ear,
        slot: int,
        tokenizer: Tekken,
        delay_tokens: int,
        block: int,
        *,
        buffer_tokens: int = 10,
        rut: RutRules | None = None,
        keep: bool = True,
        guarded: bool = False,
    ) -> None:
        self.ear = ear
        self.slot = slot  # row of the decoder's state in its bank
        self.tokenizer = tokenizer
        self.delay_tokens = delay_tokens
        self.block = block  # the encoder block it asks for; the ear takes the smallest of its lanes
        self.buffer_tokens = buffer_tokens
        self.keep = keep  # remember the whole text, for the transcript
        self.guarded = guarded  # see `banned`
        self.draft: Lane | None = None  # a faster lane on the same ear
        self.position = 0  # the next step to read
        self.closed = False
        self.done = False
        self.completion_tokens = 0
        self.text_tokens = 0
        self.rut = RutWatch(rut or RutRules())
        self.words = Words(word_offset(tokenizer), ear.onset, keep, word_calibration(tokenizer))
        self.wanted_delay: tuple[int, int] | None = None  # (D, block) to take over in the next pause
        self._decoder = IncrementalDecoder(tokenizer)
        self._text: list[str] = []
        self._said = False  # some text was said, so the leading blank is gone
        self._quiet = 0  # length of the current run of [P]
        self._unsettled = 0  # steps since a search last wrote all that was due
        self._stable = 0.0
        self._marks: list[tuple[str, int]] = []  # id, and the real samples before it
        self._events: list[Event] = []
        self._recent: list[tuple[float, str]] = []  # (end of the word, text), for a draft
        self._drafted = ""
        self.is_draft = False
        self.fault: Exception | None = None  # what went wrong in here; told by `poll`
        # Called with every free token's step and reading: for measurements.
        self.on_reading: Callable[[int, Reading], None] | None = None
        self._begin(0)
        ear.lanes.append(self)

    def _begin(self, start: int) -> None:
        self.start = start  # the step that was the decoder's position 0
        self.position = start
        # Fixed here: a later change of D must not force tokens that were free.
        self.prompt_length = self.clock.prompt_length
        self._token = self.tokenizer.bos

    @property
    def clock(self) -> DelayClock:
        """The maps between steps and times at the current delay."""
        return DelayClock(self.delay_tokens, self.ear.left_pad_tokens, self.buffer_tokens, self.ear.block)

    @property
    def delay_ms(self) -> int:
        """What the user waits for."""
        return self.delay_tokens * FRAME_MS + block_extra_ms(self.ear.block)

    @property
    def end(self) -> int:
        """Steps of the whole stream, were it finished now."""
        return self.clock.total_tokens(self.ear.received)

    @property
    def at_block_end(self) -> bool:
        """The step at `position` is the last of its encoder block."""
        return (self.position + 1) % block_steps(self.ear.block) == 0

    @property
    def behind(self) -> int:
        """Encoded steps that wait to be read."""
        last = self.end if self.ear.finished else self.ear.tokens
        return 0 if self.done else max(min(self.ear.tokens, last) - self.position, 0)

    @property
    def lag(self) -> float:
        """Seconds of audio received and not yet read, beyond the part of a step that must wait."""
        return self.behind * FRAME_MS / 1000 + self.ear.waiting / RATE

    @property
    def text(self) -> str:
        """All text so far (nothing when the lane does not keep it)."""
        if len(self._text) > 1:
            self._text = ["".join(self._text)]
        return self._text[0] if self._text else ""

    def push(self, samples: Samples) -> None:
        """Take more audio, float32 mono [n] at 16 kHz.

        Raises:
            AudioError: samples that are no sound, or after `finish`; nothing is taken then.
        """
        self.ear.push(samples)

    def finish(self) -> None:
        """No more audio comes: the remaining steps run, then `Final`. A second call does nothing."""
        if self.done or self.ear.finished:
            return
        self.ear.finish()
        self.wanted_delay = None
        if not self.ear.received:
            # Padding alone has nothing to say; a model that hallucinates in silence must not be asked.
            for lane in self.ear.lanes:
                lane.position = lane.end
                lane.end_now()

    def mark(self, id: str) -> None:
        """Say `Mark(id)` as soon as all text of the audio so far has been said."""
        self._marks.append((id, self.ear.received))
        self._pass_marks()

    def poll(self) -> list[Event]:
        """What has happened since the last call; neighbouring pieces of text are joined.

        Raises:
            Exception: what `fail` was told.
        """
        if self.fault is not None:
            raise self.fault
        self._flush_words()
        events, self._events = self._events, []
        joined: list[Event] = []
        for event in events:
            last = joined[-1] if joined else None
            if isinstance(event, Partial) and isinstance(last, Partial):
                joined[-1] = Partial(last.text + event.text, last.words + event.words, event.stable_until)
            else:
                joined.append(event)
        if self.draft is not None and not self.words.is_open:
            expected = self.draft.after(self._stable) if not self.done else ""
            if expected != self._drafted:
                self._drafted = expected
                joined.append(Draft(expected))
        return joined

    def put_back(self, events: Iterable[Event]) -> None:
        """Let the next `poll` begin with these."""
        self._events = [*events, *self._events]

    def transcript(self) -> Transcript:
        """Text and words so far."""
        return Transcript(self.text, tuple(self.words.all), self.ear.seconds)

    def after(self, seconds: float) -> str:
        """Text of words that ended later; earlier ones are forgotten."""
        self._recent = [(end, text) for end, text in self._recent if end > seconds]
        return "".join(text for _, text in self._recent)

    # What the batch asks for each step.

    def next_token(self) -> int:
        """The token that goes in at `position`."""
        step = self.position - self.start
        if step == 0:
            return self.tokenizer.bos
        return self.tokenizer.pad if step < self.prompt_length else self._token

    def banned(self) -> tuple[int, ...]:
        """Tokens that must not come out at `position`: a [W] promises text, and a stream begins but once."""
        tokenizer = self.tokenizer
        if not self.guarded:
            return ()
        if self._token != tokenizer.word:
            return (tokenizer.bos,)
        return (tokenizer.bos, tokenizer.pad, tokenizer.word)

    def penalty(self) -> float:
        """What to take off the logit of [P] at `position`."""
        rut = self.rut
        if rut.rules.action != "soft" or rut.run < rut.rules.run_tokens:
            return 0.0
        return rut.penalty(self._recent_level())

    def accept(self, reading: Reading) -> None:
        """Take what came out at `position`, and go on to the next."""
        step, position = self.position - self.start, self.position
        self.position += 1
        if step >= self.prompt_length - 1:
            self._token = reading.token
            self.completion_tokens += 1
            if self.on_reading is not None:
                self.on_reading(position, reading)
            self._write(position, reading)
        self._pass_marks()
        if self.ear.finished and self.position >= self.end:
            self.end_now()

    def fail(self, error: Exception) -> None:
        """Read no more, and say why when asked: the other lanes of the batch go on."""
        self.fault, self.done = error, True

    def skip(self, steps: int) -> None:
        """Count steps of the prompt as read: their state was copied from elsewhere."""
        self.position += steps

    def restart(self, start: int) -> None:
        """Begin anew at an earlier step, from a fresh decoder state; the text goes on."""
        self._begin(start)
        self._quiet = self._unsettled = 0

    def pause_step(self) -> int | None:
        """Where a fresh reading may take over: the step of the quietest sound in the current pause."""
        if self._quiet < PAUSE_TOKENS or self.words.is_open:
            return None
        end = self.position - self.delay_tokens  # the [P] so far stand for the audio before this step
        begin = max(end - PAUSE_TOKENS, self.ear.left_pad_tokens)
        if end <= begin:
            return None
        levels = self.ear.levels(begin, end).reshape(end - begin, -1).max(axis=1)
        return begin + int(levels.argmin())

    def change_delay(self, delay_tokens: int, block: int) -> None:
        """Use another delay from the next step on; the decoder's state stays."""
        self._flush_words()
        self.delay_tokens, self.block = delay_tokens, block
        at = max(self.clock.step_start_ms(self.position - delay_tokens), 0) / 1000
        self._events.append(DelayChanged(delay_tokens * FRAME_MS + block_extra_ms(block), at))

    def end_now(self) -> None:
        """The last step was read: close what is open and say `Final`."""
        if self.done:
            return
        self.done = True
        tail = self._decoder.finish()
        if tail:
            self.words.write(tail, self.ear.seconds, 0.0)
            self._say(tail)
        self.words.finish()
        self._stable = self.ear.seconds
        self._flush_words()
        self._pass_marks()
        prompt = min(self.prompt_length, self.position - self.start)
        self._events.append(Final(self.transcript(), prompt, self.completion_tokens))

    def caught_rut(self) -> int | None:
        """The step from which the audio of a blank rut should be read again, or None."""
        rut = self.rut
        if rut.run < rut.rules.run_tokens or not rut.caught(self._recent_level()):
            return None
        return max(self.position - self.delay_tokens - self.rut.run, self.ear.left_pad_tokens)

    def adopt(self, other: Lane) -> None:
        """Go on as another reading of the same ear does, and say what it said."""
        marks = self._marks
        self.restore(other.state())
        self._marks = marks
        self._events += other._events

    def state(self) -> dict[str, Any]:
        """Everything but ear, slot and events, ready for JSON."""
        return {
            **{name.lstrip("_"): getattr(self, name) for name in _PLAIN},
            "wanted_delay": self.wanted_delay,
            "pending_bytes": list(self._decoder.pending),
            "text": self.text,
            "marks": [list(mark) for mark in self._marks],
            "rut": self.rut.state(),
            "words": self.words.state(),
            "recent": [list(piece) for piece in self._recent],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where another lane stood."""
        for name, kind in _PLAIN.items():
            setattr(self, name, kind(state[name.lstrip("_")]))
        wanted = state["wanted_delay"]
        self.wanted_delay = None if wanted is None else (int(wanted[0]), int(wanted[1]))
        self._decoder = IncrementalDecoder(self.tokenizer, bytes(state["pending_bytes"]))
        self._text = [str(state["text"])]
        self._marks = [(str(id), int(samples)) for id, samples in state["marks"]]
        self.rut.restore(state["rut"])
        self.words.restore(state["words"])
        self._recent = [(float(end), str(text)) for end, text in state["recent"]]

    # Inside.

    def _write(self, position: int, reading: Reading) -> None:
        tokenizer, token = self.tokenizer, reading.token
        is_pad = token == tokenizer.pad
        self.rut.see(is_pad, reading.pad_margin)
        seconds = self._within(self.clock.group_end_ms(position))
        if not reading.settled:
            self._unsettled += 1
            return
        waited, self._unsettled = self._unsettled, 0
        self._quiet = self._quiet + 1 + waited if is_pad else 0
        if is_pad:
            self.words.pause()
            self._stable = max(self._stable, seconds)
        elif reading.words:
            zero = self.clock.step_start_ms(self.start)
            for found in reading.words:
                begin, end = (self._within(zero + FRAME_MS // ENCODER_PER_STEP * f) for f in found.frames)
                if begin < end:  # not all of it in the padding
                    self.text_tokens += 1
                    self.words.add(found.text, begin, end, found.confidence)
                    self._say(" " + found.text)
            self._stable = max(self._stable, seconds)
        elif token == tokenizer.word:
            # log sigmoid of the lead of [W] over [P]: how sure it was that a word ended here.
            self.words.mark(seconds, -float(np.logaddexp(0.0, -reading.word_margin)))
        elif tokenizer.n_special <= token < tokenizer.vocab_size:
            self.text_tokens += 1
            text = self._decoder.push([token])
            self.words.write(text, seconds, reading.log_probability)
            self._say(text)
        if not self.words.is_open:
            self._stable = max(self._stable, self.words.end)

    def _within(self, ms: float) -> float:
        """A moment of the real audio, in seconds."""
        return min(max(ms / 1000, 0.0), self.ear.seconds)

    def _say(self, text: str) -> None:
        if not self._said:
            text = text.lstrip()
            self._said = bool(text)
        if not text:
            return
        if self.keep:
            self._text.append(text)
            if len(self._text) > 1000:
                self._text = [self.text]
        if self.is_draft:
            self.words.take()
            self._recent.append((self.words.writing_end, text))
        else:
            self._events.append(Partial(text, (), self._stable))

    def _flush_words(self) -> None:
        words = self.words.take()
        if words and not self.is_draft:
            self._events.append(Partial("", words, self._stable))

    def _pass_marks(self) -> None:
        while self._marks and not self._unsettled and self._has_said(self._marks[0][1]):
            self._flush_words()
            self._events.append(Mark(self._marks.pop(0)[0]))

    def _has_said(self, samples: int) -> bool:
        """All text of the first `samples` has been said: its steps are read and nothing is half written.

        Fast speech may be written later than it is due, by `buffer_tokens` at most.
        """
        if self.done or not samples:
            return True
        due = self.clock.due_step(-(-samples * 1000 // RATE)) + 1
        if self.position <= due:
            return False
        return (self._quiet > 0 and not self.words.is_open) or self.position > due + self.buffer_tokens

    def _recent_level(self) -> float:
        end = max(self.position - self.delay_tokens, 0)
        return self.ear.level_db(max(end - self.rut.rules.recent_tokens, 0), end)
