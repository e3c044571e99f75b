"""Many listening sessions, one model: each tick runs all of them that have a whole step.

Laws: a session's tokens depend neither on its slot, nor on its neighbours, nor on when they join and leave;
and not on how its audio was cut. Sessions start from a shared prefix: the first steps of every stream hear
padding only, so their state is computed once for each delay and copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..errors import CapacityError, ConfigError
from ..tekken import Tekken
from .bank import Bank, Listener
from .delays import FRAME_MS, MAX_DELAY_TOKENS, block_extra_ms, check_delay
from .ears import Ear, block_steps
from .lanes import PAUSE_TOKENS, Lane
from .model import RealtimeASR
from .prefix import Prefixes, silent_steps
from .rut import RutRules


class Batch:
    """`slots` sessions at once, and the tensors of all of them.

    Nothing here is thread-safe: one thread owns a batch.
    """

    def __init__(
        self,
        model: RealtimeASR,
        tokenizer: Tekken,
        slots: int = 1,
        *,
        drafts: int = 0,
        scratch: int = 1,
        max_tokens: int = 8,
        ring_seconds: float = 30.0,
        rut: RutRules | None = None,
        guarded: bool | None = None,
        prefixes: Prefixes | None = None,
    ) -> None:
        """Allocate the slots.

        Args:
            model: on its device, in its dtype.
            tokenizer: the model's.
            slots: sessions at once.
            drafts: how many of them may have a second, faster lane.
            scratch: forks and second readings at once, beside the sessions; allocated when first used.
            max_tokens: steps that a session may take in one tick when audio waits, if not its block is
                longer; more is faster for files, fewer keeps ticks short and a session small.
            ring_seconds: how much encoded audio stays at hand for another reading.
            rut: what to do about blank ruts.
            guarded: never write [P] or [W] right behind [W], nor a start symbol; None: as the model's
                tekken.json says (`audio.guarded_decoding`), off for released models.
            prefixes: the shared starts of another batch of the same model and `max_tokens`.
        """
        config = model.config
        if slots < 1 or drafts < 0 or scratch < 0:
            raise ConfigError(f"slots must be at least 1, got {slots}")
        largest = max(map(block_steps, config.encoder.blocks))
        self.model, self.tokenizer = model, tokenizer
        self.slots = slots
        self.rut = rut or RutRules()
        self.guarded = bool(tokenizer.audio.get("guarded_decoding", False)) if guarded is None else guarded
        self.max_tokens = max(max_tokens, largest)
        self._at_once = max_tokens
        # Enough for a fresh lane's prompt over the last pause, or over a blank rut.
        shortest = config.left_pad_tokens + MAX_DELAY_TOKENS + 1 + PAUSE_TOKENS
        if self.rut.action == "reread":
            shortest += self.rut.run_tokens + MAX_DELAY_TOKENS
        self.ring_tokens = max(round(ring_seconds * 1000 / FRAME_MS), shortest) + 2 * self.max_tokens
        self.listener = Listener(model)
        self.bank = Bank(self.listener, slots, slots + drafts, self.max_tokens)
        self._scratch: Bank | None = None
        self._n_scratch = scratch
        # The last adapter vectors of every ear, sessions first, then forks.
        self.ring = torch.zeros(
            slots + scratch,
            self.ring_tokens,
            config.dim,
            dtype=self.listener.dtype,
            device=self.listener.device,
        )
        self._free_ears = list(range(slots))[::-1]
        self._free_lanes = list(range(slots + drafts))[::-1]
        self._free_scratch = list(range(scratch))[::-1]
        self._lanes: list[Lane] = []
        self._forks: set[int] = set()  # ids of lanes whose decoder state lies in the scratch bank
        # id of a lane in a rut -> the lane, its second reading, and the text tokens both had.
        self._rereads: dict[int, tuple[Lane, Lane, int]] = {}
        self.prefixes = prefixes or Prefixes(self.listener, tokenizer, self.max_tokens)

    @property
    def lanes(self) -> list[Lane]:
        """Lanes that are open, forks included."""
        return list(self._lanes)

    @property
    def free(self) -> int:
        """Sessions that can still be opened."""
        return len(self._free_ears)

    @property
    def nbytes(self) -> int:
        """Bytes of all sessions' tensors together; constant from the start, but for the scratch slots."""
        ring = self.ring.numel() * self.ring.element_size()
        return ring + self.bank.nbytes + (self._scratch.nbytes if self._scratch else 0)

    def open(self, delay_ms: int, *, draft_ms: int | None = None, keep: bool = True) -> Lane:
        """Begin a session.

        Args:
            delay_ms: how long text may wait for more audio; a multiple of 80.
            draft_ms: a shorter delay for a second lane on the same audio, whose text is given out as `Draft`.
            keep: remember the whole text and all words for the transcript; without, a session's memory is
                constant for ever.

        Raises:
            ConfigError: a delay that the model cannot do.
            CapacityError: all slots are taken.
        """
        check_delay(delay_ms)
        delay, block = self.model.config.split_delay(delay_ms)
        draft = None
        if draft_ms is not None:
            check_delay(draft_ms, "draft_ms")
            draft, block = self.model.config.split_delay(draft_ms)
            # One encoder pass serves both, with the block of the faster one.
            delay = self._behind_draft(delay_ms, block)
            if draft >= delay:
                raise ConfigError(f"draft_ms must be shorter than delay_ms, got {draft_ms} and {delay_ms}")
        lane = self.seat(delay, draft, block, keep=keep)
        self._attach(lane)
        return lane

    def seat(self, delay: int, draft: int | None, block: int, *, keep: bool) -> Lane:
        """Take slots for a session, whatever they hold; `delay` and `draft` in tokens.

        Raises:
            CapacityError: all slots are taken.
        """
        if not self._free_ears or len(self._free_lanes) < (1 if draft is None else 2):
            raise CapacityError(f"all {self.slots} slots are taken; close a session first")
        ear = Ear(self._free_ears.pop(), block, self.model.config.left_pad_tokens, self.ring_tokens)
        lane = self._add(ear, self._free_lanes.pop(), delay, block, keep)
        if draft is not None:
            lane.draft = self._add(ear, self._free_lanes.pop(), draft, block, keep=False)
            lane.draft.is_draft = True
        return lane

    def close(self, lane: Lane) -> None:
        """Give a session's or fork's slots back at once; it says nothing more. A second call does nothing."""
        if lane.closed:
            return
        pair = self._rereads.pop(id(lane), None)
        if pair is not None:
            self._drop(pair[1])
        if lane.draft is not None:
            self._drop(lane.draft)
        self._drop(lane)
        if lane.ear.slot < self.slots:
            self._free_ears.append(lane.ear.slot)

    def step(self, after_read: Callable[[], None] | None = None) -> bool:
        """One tick: encode what is ready, then decode it step by step. False: there was nothing to do.

        A session with much audio waiting takes up to `max_tokens` steps and leaves the rest for the next
        tick, so that it does not hold up the others. `after_read` is called after every decoded step, for
        whoever wants its text at once; it may close sessions.
        """
        with torch.inference_mode():
            heard = self._hear()
            read = False
            for _ in range(self._at_once):
                ready = [lane for lane in self._lanes if lane.behind]
                if not ready:
                    break
                read = True
                self._read(ready)
                if after_read is not None:
                    after_read()
            if self.rut.action == "reread":
                self._undo_ruts()
        return heard or read

    def drain(self) -> None:
        """Step until nothing is left to do."""
        while self.step():
            pass

    def change_delay(self, lane: Lane, delay_ms: int, at: str = "pause") -> None:
        """Use another delay from the next pause on, or from the next step.

        pause: a fresh reading of the buffered audio takes over in the next half second without text; no word
        is said twice or lost. now: the same reading goes on under another delay, which nothing was trained
        for. Before any audio was encoded the session simply starts with the new delay. After `finish` it is
        too late, and nothing happens.

        Raises:
            ConfigError: a delay that the model cannot do.
        """
        if at not in ("pause", "now"):
            raise ConfigError(f"at must be 'pause' or 'now', got {at!r}")
        if id(lane) in self._forks:
            raise ConfigError("a fork keeps its delay")
        check_delay(delay_ms)
        delay, block = self.model.config.split_delay(delay_ms)
        if lane.draft is not None:
            block = lane.ear.block
            delay = self._behind_draft(delay_ms, block)
            if not lane.draft.delay_tokens < delay:
                raise ConfigError(f"delay_ms must be longer than the draft's, got {delay_ms}")
        if lane.ear.finished or lane.closed:
            return
        if lane.ear.tokens <= silent_steps(lane.ear.left_pad_tokens, lane.ear.block) and lane.draft is None:
            lane.delay_tokens, lane.block = delay, block
            lane.ear.block = block
            self._attach(lane)
        elif at == "now":
            lane.wanted_delay = None
            lane.change_delay(delay, block)
        else:
            lane.wanted_delay = (delay, block)

    def fork(self, lane: Lane) -> Lane:
        """A copy of a session, to be fed, finished and closed while the original goes on as if nothing was.

        Raises:
            CapacityError: all scratch slots are taken.
        """
        slot = self._take_scratch()
        bank, source = self._scratch_bank(), self._bank(lane)
        ear = Ear(self.slots + slot, lane.ear.block, lane.ear.left_pad_tokens, self.ring_tokens)
        ear.restore(lane.ear.state(), lane.ear.arrays())
        copy = self._add(ear, slot, lane.delay_tokens, lane.ear.block, lane.keep, scratch=True)
        copy.restore(lane.state())
        copy.block = ear.block
        ears = self.bank if lane.ear.slot < self.slots else bank
        with torch.no_grad():
            bank.copy_ear(slot, ears, self._ear_row(lane.ear))
            bank.copy_lane(slot, source, lane.slot)
            self.ring[ear.slot] = self.ring[lane.ear.slot]
        return copy

    # Inside.

    def _behind_draft(self, delay_ms: int, block: int) -> int:
        """D of a lane that reads the ear of a draft, 0 if the draft's block alone takes longer."""
        tokens = (delay_ms - block_extra_ms(block)) // FRAME_MS
        return max(min(tokens, self.model.config.most_delay_tokens), 0)

    def _add(self, ear: Ear, slot: int, delay: int, block: int, keep: bool, scratch: bool = False) -> Lane:
        lane = Lane(
            ear,
            slot,
            self.tokenizer,
            delay,
            block,
            buffer_tokens=self.model.config.buffer_tokens,
            rut=self.rut,
            keep=keep,
            guarded=self.guarded,
        )
        self._lanes.append(lane)
        if scratch:
            self._forks.add(id(lane))
        return lane

    def _drop(self, lane: Lane) -> None:
        lane.closed = lane.done = True
        self._lanes.remove(lane)
        lane.ear.lanes.remove(lane)
        if not lane.ear.lanes:
            lane.ear.finish()  # audio that still comes is refused, not hoarded
        if id(lane) in self._forks:
            self._forks.discard(id(lane))
            self._free_scratch.append(lane.slot)
        else:
            self._free_lanes.append(lane.slot)

    def _bank(self, lane: Lane) -> Bank:
        return self._scratch_bank() if id(lane) in self._forks else self.bank

    def _ear_row(self, ear: Ear) -> int:
        return ear.slot if ear.slot < self.slots else ear.slot - self.slots

    def _scratch_bank(self) -> Bank:
        if self._scratch is None:
            self._scratch = Bank(self.listener, self._n_scratch, self._n_scratch, self.max_tokens)
        return self._scratch

    def _take_scratch(self) -> int:
        if not self._free_scratch:
            raise CapacityError(f"all {self._n_scratch} scratch slots are taken; close a fork first")
        return self._free_scratch.pop()

    def _hear(self) -> bool:
        """Encode one chunk of every ear that has one: one call for each block and length."""
        groups: dict[tuple[bool, int, int], list[Ear]] = {}
        for ear in {id(lane.ear): lane.ear for lane in self._lanes}.values():
            room = self.ring_tokens - max(lane.behind for lane in ear.lanes)
            block, steps = ear.ready(self._at_once)
            unit = block_steps(block)
            # What a lane has not read yet must stay in the ring.
            steps = min(steps, room // unit * unit)
            if steps > unit:
                # Powers of two, so that ears that catch up share calls.
                steps = unit << ((steps // unit).bit_length() - 1)
            if steps:
                groups.setdefault((ear.slot < self.slots, block, steps), []).append(ear)
        for (main, block, steps), ears in groups.items():
            bank = self.bank if main else self._scratch_bank()
            begins = [ear.tokens for ear in ears]
            chunks = {self._ear_row(ear): ear.take(block, steps) for ear in ears}
            vectors = bank.hear(chunks, block)
            for ear, begin in zip(ears, begins, strict=True):
                self._remember(ear, begin, vectors[self._ear_row(ear)])
        return bool(groups)

    def _remember(self, ear: Ear, begin: int, vectors: Tensor) -> None:
        steps = torch.arange(begin, begin + len(vectors), device=vectors.device) % self.ring_tokens
        self.ring[ear.slot, steps] = vectors.to(self.ring.dtype)

    def _read(self, ready: Iterable[Lane]) -> None:
        """Decode one step of every given lane: one call for each bank."""
        banks: dict[bool, list[Lane]] = {}
        for lane in ready:
            banks.setdefault(id(lane) in self._forks, []).append(lane)
        for scratch, lanes in banks.items():
            bank = self._scratch_bank() if scratch else self.bank
            slots = torch.tensor([lane.ear.slot for lane in lanes], device=self.ring.device)
            steps = torch.tensor(
                [lane.position % self.ring_tokens for lane in lanes], device=self.ring.device
            )
            for lane, reading in zip(lanes, bank.read(lanes, self.ring[slots, steps]), strict=True):
                try:
                    lane.accept(reading)
                    if lane.wanted_delay is not None:
                        self._hand_over(lane)
                except Exception as error:  # one session's fault is not everybody's
                    lane.fail(error)

    def _hand_over(self, lane: Lane) -> None:
        """Let a fresh reading with the wanted delay go on from the middle of the current pause."""
        step = lane.pause_step()
        if step is None or lane.wanted_delay is None:
            return
        (delay, block), lane.wanted_delay = lane.wanted_delay, None
        lane.change_delay(delay, block)
        # Its first free token comes `left_pad + delay` steps after its start and answers for that step.
        self._bank(lane).reset_lane(lane.slot)
        lane.restart(max(step - lane.ear.left_pad_tokens, 0))

    def _undo_ruts(self) -> None:
        """Begin second readings of suspicious silence, and adopt those that found text."""
        for lane in self.lanes:
            if id(lane) in self._forks or lane.done or lane.is_draft or id(lane) in self._rereads:
                continue
            step = lane.caught_rut()
            if step is None or not self._free_scratch:
                continue
            again = self._add(
                lane.ear, self._free_scratch.pop(), lane.delay_tokens, lane.block, lane.keep, True
            )
            again.restore(lane.state())
            start = max(step - lane.ear.left_pad_tokens, lane.ear.tokens - self.ring_tokens, 0)
            again.restart(start)
            again.rut.again()
            self._scratch_bank().reset_lane(again.slot)
            self._rereads[id(lane)] = (lane, again, lane.text_tokens)
        for key, (lane, again, text_tokens) in list(self._rereads.items()):
            silent = lane.text_tokens == text_tokens and not lane.done
            if silent and again.position < lane.position:
                continue
            if silent and again.text_tokens > text_tokens:
                self.bank.copy_lane(lane.slot, self._scratch_bank(), again.slot)
                lane.adopt(again)
            lane.rut.again()
            del self._rereads[key]
            self._drop(again)

    def _attach(self, lane: Lane) -> None:
        """Start an ear and its lanes behind the padding that all streams begin with."""
        ear = lane.ear
        ear.tokens = 0
        with torch.no_grad():
            for reader in ear.lanes:
                reader.restart(0)
                prefix = self.prefixes.get(reader.delay_tokens, ear.block)
                self.bank.copy_lane(reader.slot, prefix.bank, 0)
                reader.skip(prefix.steps)
            prefix = self.prefixes.get(lane.delay_tokens, ear.block)
            self.bank.copy_ear(ear.slot, prefix.bank, 0)
            ear.skip(prefix.steps)
            self._remember(ear, 0, prefix.vectors)
