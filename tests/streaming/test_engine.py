"""The engine and its sessions over a listener without a model."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
from serving.parrot import FAULT, Parrot, says

from rillvox.errors import CapacityError
from rillvox.streaming.engine import Engine, Health
from rillvox.streaming.events import (
    CloseStream,
    Event,
    Failed,
    Final,
    Finish,
    Flush,
    Mark,
    OpenStream,
    Partial,
    PushAudio,
)
from rillvox.streaming.seats import Kind, NoRoomError, Seats
from rillvox.streaming.session import Session

RATE = 16000


def speech(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.7, 0.7, round(seconds * RATE)).astype(np.float32)


class Client:
    """A session that keeps what it hears."""

    def __init__(self, engine: Engine, seat=None) -> None:
        self.events: list[Event] = []
        self.session = Session(engine, seat or engine.admit(), self.events.append)

    def text(self, stream: str) -> str:
        parts = [e.text for e in self.events if isinstance(e, Partial) and e.stream == stream]
        return "".join(parts).lstrip()

    def last(self, stream: str) -> Event | None:
        mine = [e for e in self.events if isinstance(e, Final | Failed) and e.stream == stream]
        assert len(mine) <= 1
        return mine[0] if mine else None


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def running(parrot: Parrot, realtime: int = 4, files: int = 1, **options) -> AsyncIterator[Engine]:
    engine = Engine(lambda: parrot, Seats(realtime, files, file_queue=1), warm_seconds=0, **options)
    engine.start()
    try:
        await until(lambda: engine.health is not Health.LOADING)
        yield engine
    finally:
        engine.stop()


async def test_every_stream_says_what_it_would_say_alone() -> None:
    random = np.random.default_rng(1)
    async with running(Parrot(5)) as engine:

        async def talk(seed: int) -> None:
            await asyncio.sleep(float(random.uniform(0, 0.05)))
            client = Client(engine)
            for turn in range(3):
                samples = speech(float(random.uniform(0.1, 1.0)), 10 * seed + turn)
                client.session.execute(OpenStream(f"s{turn}"))
                for piece in np.array_split(samples, 7):
                    client.session.execute(PushAudio(f"s{turn}", piece, RATE))
                    await asyncio.sleep(float(random.uniform(0, 0.01)))
                client.session.execute(Finish(f"s{turn}"))
                await until(lambda t=turn: client.last(f"s{t}"))
                final = client.last(f"s{turn}")
                assert isinstance(final, Final)
                assert final.text.lstrip() == client.text(f"s{turn}") == says(samples)
            client.session.close()

        await asyncio.gather(*(talk(seed) for seed in range(4)))
        assert engine.open_streams == 0
        assert engine.seats.in_use(Kind.REALTIME) == 0


async def test_the_text_check_sees_a_lost_sample() -> None:
    samples = speech(0.5, 3)
    samples[4 * 1280 + 5] = 0.99
    assert says(samples) != says(np.delete(samples, 4 * 1280 + 5))


async def test_streams_of_one_session_run_one_after_the_other() -> None:
    parrot = Parrot(2)
    async with running(parrot) as engine:
        client = Client(engine)
        first, second = speech(0.4, 1), speech(0.3, 2)
        for name, samples in (("a", first), ("b", second)):
            client.session.execute(OpenStream(name))
            client.session.execute(PushAudio(name, samples, RATE))
            client.session.execute(Finish(name))
        await until(lambda: client.last("b"))
        assert client.text("a") == says(first)
        assert client.text("b") == says(second)
        order = [event.stream for event in client.events]
        assert order == sorted(order)


async def test_audio_at_any_rate_is_the_same_sound_however_it_is_cut() -> None:
    async with running(Parrot(2)) as engine:
        samples = speech(0.5, 7)
        texts = []
        for pieces in (1, 13):
            client = Client(engine)
            client.session.execute(OpenStream("a"))
            for piece in np.array_split(samples, pieces):
                client.session.execute(PushAudio("a", piece, 24000))
            client.session.execute(Finish("a"))
            await until(lambda c=client: c.last("a"))
            texts.append(client.text("a"))
            client.session.close()
        assert texts[0] == texts[1]
        assert texts[0].count("w") == 5  # 0.333 s


async def test_a_fault_of_one_stream_ends_that_stream_only() -> None:
    async with running(Parrot(2)) as engine:
        bad, good = Client(engine), Client(engine)
        samples = speech(0.5, 4)
        for client in (bad, good):
            client.session.execute(OpenStream("a"))
            client.session.execute(PushAudio("a", samples, RATE))
        bad.session.execute(PushAudio("a", np.full(100, FAULT), RATE))
        good.session.execute(Finish("a"))
        await until(lambda: bad.last("a") and good.last("a"))
        failed = bad.last("a")
        assert isinstance(failed, Failed)
        assert not failed.fatal
        assert "ZeroDivision" not in str(failed.error)  # no insides to the outside
        assert good.text("a") == says(samples)
        # The seat works on.
        bad.session.execute(OpenStream("b"))
        bad.session.execute(PushAudio("b", samples, RATE))
        bad.session.execute(Finish("b"))
        await until(lambda: bad.last("b"))
        assert bad.text("b") == says(samples)


async def test_a_failed_step_fails_everybody_and_the_engine() -> None:
    parrot = Parrot(4)
    async with running(parrot) as engine:
        clients = [Client(engine), Client(engine)]
        for client in clients:
            client.session.execute(OpenStream("a"))
        await until(lambda: engine.open_streams == 2)
        parrot.break_step = True
        clients[0].session.execute(PushAudio("a", speech(0.1, 1), RATE))
        await until(lambda: all(client.last("a") for client in clients))
        assert all(client.last("a").fatal for client in clients)  # type: ignore[union-attr]
        assert engine.health is Health.FAILED
        with pytest.raises(NoRoomError):
            engine.admit()
        clients[0].session.execute(OpenStream("b"))
        await until(lambda: clients[0].last("b"))


async def test_leaving_frees_the_lane_within_a_step_and_silences_it() -> None:
    gate = threading.Semaphore(0)
    parrot = Parrot(1)
    async with running(parrot, realtime=1) as engine:
        parrot.gate = lambda: gate.acquire(timeout=5)
        client = Client(engine)
        client.session.execute(OpenStream("a"))
        client.session.execute(PushAudio("a", speech(2.0, 1), RATE))
        gate.release()
        gate.release()
        await until(lambda: client.events)
        client.session.close()
        heard = len(client.events)
        for _ in range(3):
            gate.release()
        await until(lambda: engine.open_streams == 0)
        parrot.gate = lambda: None
        gate.release(10)
        await asyncio.sleep(0.02)
        assert len(client.events) == heard
        assert parrot.open_now == []
        # Whoever sits there next hears nothing of it.
        new = Client(engine)
        new.session.execute(OpenStream("a"))
        new.session.execute(PushAudio("a", speech(0.3, 2), RATE))
        new.session.execute(Finish("a"))
        await until(lambda: new.last("a"))
        assert new.text("a") == says(speech(0.3, 2))


async def test_a_closed_stream_says_nothing_more_and_the_next_one_runs() -> None:
    gate = threading.Semaphore(0)
    parrot = Parrot(1)
    parrot.gate = lambda: gate.acquire(timeout=5)
    async with running(parrot) as engine:
        client = Client(engine)
        client.session.execute(OpenStream("a"))
        client.session.execute(PushAudio("a", speech(5.0, 1), RATE))
        client.session.execute(OpenStream("b"))
        client.session.execute(PushAudio("b", speech(0.2, 2), RATE))
        gate.release(3)
        await until(lambda: client.events)
        client.session.execute(CloseStream("a"))  # a step of it is still under way
        before = len(client.events)
        gate.release(100)
        client.session.execute(Flush("b", "m"))
        client.session.execute(Finish("b"))
        await until(lambda: client.last("b"))
        assert {event.stream for event in client.events[before:]} == {"b"}
        assert any(isinstance(event, Mark) for event in client.events)
        client.session.execute(CloseStream("unknown"))
        client.session.execute(PushAudio("unknown", speech(0.1, 1), RATE))


async def test_a_full_queue_is_waited_for_and_nothing_is_dropped() -> None:
    parrot = Parrot(1)
    gate = threading.Event()
    parrot.gate = lambda: gate.wait(5)
    async with running(parrot) as engine:
        client = Client(engine)
        client.session.execute(OpenStream("a"))
        client.session.execute(PushAudio("a", speech(30.0, 1), RATE))
        room = asyncio.create_task(client.session.room(30.0))
        await asyncio.sleep(0.1)
        assert not room.done()
        assert client.session.waiting >= 30.0
        gate.set()
        await asyncio.wait_for(room, 5)
        client.session.execute(Finish("a"))
        await until(lambda: client.last("a"))
        assert client.text("a") == says(speech(30.0, 1))


async def test_files_yield_to_sessions_and_still_get_done() -> None:
    parrot = Parrot(3, pause=0.001)
    async with running(parrot) as engine:
        file = Client(engine, await engine.seats.wait_for_file())
        samples = speech(20.0, 1)
        file.session.execute(OpenStream("f"))
        file.session.execute(PushAudio("f", samples, RATE))
        file.session.execute(Finish("f"))
        await until(lambda: len(file.events) > 3)
        live = Client(engine)
        live.session.execute(OpenStream("a"))
        before = len(file.events)
        live.session.execute(PushAudio("a", speech(4.0, 2), RATE))
        live.session.execute(Finish("a"))
        await until(lambda: live.last("a"))
        # The session's 50 frames ran with at most a few of the file's 250 between them.
        assert len(file.events) - before < 20
        await until(lambda: file.last("f"))
        assert file.text("f") == says(samples)


async def test_uploads_wait_for_their_turn_and_a_long_queue_is_refused() -> None:
    seats = Seats(1, 1, file_queue=1)
    first = await seats.wait_for_file()
    second = asyncio.create_task(seats.wait_for_file())
    await asyncio.sleep(0)
    with pytest.raises(NoRoomError):
        await seats.wait_for_file()
    generation = first.generation
    seats.give_back(first)
    assert (await second) is first
    assert first.generation > generation
    third = asyncio.create_task(seats.wait_for_file())
    await asyncio.sleep(0)
    third.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await third
    seats.give_back(first)
    assert seats.in_use(Kind.FILE) == 0


async def test_one_more_session_is_refused_when_steps_are_too_slow() -> None:
    async with running(Parrot(8), realtime=8) as engine:
        for _ in range(50):
            engine.meter.add(0.02, 0.08)  # a quarter of real time for one session
        seats = [engine.admit(), engine.admit()]
        with pytest.raises(NoRoomError) as refused:
            engine.admit()
        assert refused.value.code == "load"
        assert refused.value.retry_after > 0
        engine.seats.give_back(seats[0])
        engine.admit()


async def test_no_seat_is_refused_at_once() -> None:
    async with running(Parrot(1), realtime=1) as engine:
        engine.admit()
        with pytest.raises(CapacityError, match="in use"):
            engine.admit()


async def test_the_loop_never_steps() -> None:
    parrot = Parrot(1)
    async with running(parrot) as engine:
        client = Client(engine)
        client.session.execute(OpenStream("a"))
        client.session.execute(PushAudio("a", speech(0.2, 1), RATE))
        await until(lambda: client.events)
        assert parrot.thread != threading.get_ident()


async def test_warming_up_measures_steps_and_leaves_no_trace() -> None:
    parrot = Parrot(5)
    ticks = itertools.count()
    engine = Engine(lambda: parrot, Seats(4, 1), warm_seconds=0.5, clock=lambda: next(ticks) * 0.001)
    engine.start()
    try:
        await until(lambda: engine.health is Health.READY)
        fixed, rate = engine.meter.fit()
        assert fixed == pytest.approx(0.001)
        assert rate == pytest.approx(0, abs=1e-6)
        assert parrot.open_now == []
    finally:
        engine.stop()


async def test_a_model_that_cannot_be_loaded_is_a_failed_engine() -> None:
    def broken() -> Parrot:
        raise OSError("no such file")

    engine = Engine(broken, Seats(1, 1))
    engine.start()
    assert not engine.wait_ready(5)
    assert engine.health is Health.FAILED
    assert isinstance(engine.failure, OSError)
