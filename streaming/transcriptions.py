"""`POST /v1/audio/transcriptions`: a file in, its text out, whole or as server-sent events.

The file is decoded block by block in a thread, and heard through the same engine as the sessions, behind
them. A client that goes away frees its seat at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.datastructures import FormData, UploadFile

from ..asr.delays import DELAYS_ALLOWED, check_delay
from ..asr.transcript import Transcript
from ..audio import open_audio
from ..errors import ConfigError, RillvoxError
from .dialects.http_errors import HttpError, bad_request, internal
from .dialects.http_transcription import TranscriptionRequest, TranscriptionStream, read_form, render
from .dialects.message import echo
from .dialects.names import ModelNames, random_id
from .engine import RATE, Engine
from .events import Event, Failed, Final, Finish, OpenStream, PushAudio
from .listener import Samples
from .session import Session
from .settings import GatewaySettings
from .telemetry import LOGGER
from .uploads import read_upload

_BLOCK_SECONDS = 10.0
_KEEP_ALIVE = 10.0  # seconds of silence after which a comment shows that the stream lives
_GONE = 499  # nobody reads it; logs and metrics do


class Transcriptions:
    """Answers uploads."""

    def __init__(self, engine: Engine, names: ModelNames, settings: GatewaySettings) -> None:
        self._engine = engine
        self._names = names
        self._settings = settings

    async def create(self, request: Request) -> Response:
        """Transcribe the file of a form.

        Raises:
            HttpError: the form is wrong, or the client went away.
            RillvoxError: the audio is, or the server has no room.
        """
        form = await read_upload(request, self._settings)
        try:
            upload = form.get("file")
            has_file = isinstance(upload, UploadFile)
            if has_file and not upload.size:
                raise bad_request("the file is empty: it has no bytes", "file", "empty_file")
            fields = [(key, value) for key, value in form.multi_items() if isinstance(value, str)]
            asked = read_form(fields, has_file, self._names)
            assert has_file  # read_form refuses a form without
            order = OpenStream(random_id("file"), _delay(form), asked.language)
            blocks = await asyncio.to_thread(open_audio, upload.file, RATE, _BLOCK_SECONDS)
            events = self._events(order, blocks)
            if asked.stream:
                return await self._stream(asked, events, form)
            final = await _while_connected(request, _last(events))
        except BaseException:
            await form.close()
            raise
        await form.close()
        transcript = Transcript(final.text.lstrip(), final.words, final.seconds)
        body = render(asked, transcript, final.language)
        return Response(body.text, media_type=body.content_type)

    async def _stream(
        self, asked: TranscriptionRequest, events: AsyncGenerator[Event, None], form: FormData
    ) -> StreamingResponse:
        # The first event is asked for here, so that bad audio is an error status and not a broken stream.
        try:
            first = await anext(events)
        except BaseException:
            await events.aclose()
            raise

        async def body() -> AsyncIterator[str]:
            try:
                async for piece in _server_sent(asked, first, events):
                    yield piece
            finally:
                await events.aclose()
                await form.close()

        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(body(), media_type=TranscriptionStream.content_type, headers=headers)

    async def _events(self, order: OpenStream, blocks: Iterator[Samples]) -> AsyncGenerator[Event, None]:
        """The engine's events for a file, up to its `Final`.

        Raises:
            RillvoxError: the file turned out bad, or the engine failed it.
        """
        async with self._session() as (session, inbox):
            session.execute(order)
            feeder = asyncio.create_task(self._feed(session, order.stream, blocks))
            coming = asyncio.create_task(inbox.get())
            try:
                while True:
                    waits = {coming} if feeder.done() else {coming, feeder}
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                    if feeder.done():
                        feeder.result()  # raises what it met
                    if not coming.done():
                        continue
                    event = coming.result()
                    if isinstance(event, Failed):
                        raise event.error
                    yield event
                    if isinstance(event, Final):
                        return
                    coming = asyncio.create_task(inbox.get())
            finally:
                for task in (feeder, coming):
                    task.cancel()
                await asyncio.gather(feeder, coming, return_exceptions=True)

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[tuple[Session, asyncio.Queue[Event]], None]:
        seat = await self._engine.seats.wait_for_file()
        inbox: asyncio.Queue[Event] = asyncio.Queue()  # a file's events are a few a second of audio
        session = Session(self._engine, seat, inbox.put_nowait)
        try:
            yield session, inbox
        finally:
            session.close()

    async def _feed(self, session: Session, stream: str, blocks: Iterator[Samples]) -> None:
        seconds = 0.0
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            seconds += len(block) / RATE
            if seconds > self._settings.upload_seconds:
                limit = f"{self._settings.upload_seconds:g}"
                raise HttpError(
                    413, f"a recording may last {limit} seconds", code="audio_too_long", param="file"
                )
            session.execute(PushAudio(stream, block, RATE))
            await session.room(self._settings.input_seconds)
        session.execute(Finish(stream))


async def _last(events: AsyncGenerator[Event, None]) -> Final:
    try:
        async for event in events:
            if isinstance(event, Final):
                return event
    finally:
        await events.aclose()
    raise internal()


async def _server_sent(
    asked: TranscriptionRequest, event: Event, rest: AsyncGenerator[Event, None]
) -> AsyncIterator[str]:
    """Chunks of the body. The status is long sent, so failures are events too."""
    writer = TranscriptionStream(asked)
    while True:
        for chunk in writer.report(event):
            yield chunk
        if writer.over:
            return
        following = asyncio.ensure_future(anext(rest))
        try:
            while not (await asyncio.wait([following], timeout=_KEEP_ALIVE))[0]:
                yield ": keep-alive\n\n"
            event = following.result()
        except RillvoxError as error:
            event = Failed("", error)
        except HttpError as error:
            event = Failed("", RillvoxError(error.message))
        except Exception as error:  # the outermost frame of a response that has begun
            LOGGER.error("upload failed", exc_info=error)
            event = Failed("", RillvoxError("the server failed on this request"))
        finally:
            if not following.done():  # the client went away while we waited
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Final]) -> Final:
    """Run `work`; a client that hangs up cancels it."""

    async def hang_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    job = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(hang_up())
    try:
        await asyncio.wait([job, watch], return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            raise HttpError(_GONE, "the client went away", code="client_closed_request")
        return job.result()
    finally:
        watch.cancel()
        job.cancel()
        await asyncio.gather(watch, job, return_exceptions=True)


def _delay(form: FormData) -> int | None:
    """Our own field `delay_ms`; more delay reads better."""
    value = form.get("delay_ms")
    if not isinstance(value, str) or not value.strip():
        return None
    delay_ms = int(value) if value.isascii() and value.isdigit() and len(value) < 6 else None
    try:
        check_delay(delay_ms)
    except ConfigError:
        shown = echo(value, 40)
        raise bad_request(f"delay_ms must be {DELAYS_ALLOWED}, got {shown!r}", "delay_ms") from None
    return delay_ms
