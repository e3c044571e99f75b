"""A multipart upload, read within its limits: size counted while reading, not believed from a header."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from .dialects.http_errors import HttpError, bad_request, too_large
from .settings import GatewaySettings

_WINDOW = 30.0  # seconds over which a slow sender is judged
# A form's parts carry some hundred bytes of headers beside the file, and a prompt may be long.
_BESIDE_THE_FILE = 65536


async def read_upload(request: Request, settings: GatewaySettings) -> FormData:
    """The form of a request. Close it when done.

    Raises:
        HttpError: 413 too large, 408 too slow, 400 no form or a broken one.
    """
    limit = settings.upload_bytes + _BESIDE_THE_FILE
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > limit:
        raise too_large(settings.upload_bytes)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise bad_request("send the audio as `file` of a multipart/form-data body", "file")
    try:
        parser = MultiPartParser(
            request.headers, _counted(request, limit, settings), max_files=4, max_fields=100
        )
        form = await parser.parse()
    except MultiPartException as error:
        raise bad_request(f"the form is broken: {error.message}") from None
    except ClientDisconnect:
        raise bad_request("the upload was cut off") from None
    upload = form.get("file")
    if isinstance(upload, UploadFile) and (upload.size or 0) > settings.upload_bytes:
        await form.close()
        raise too_large(settings.upload_bytes)
    return form


async def _counted(request: Request, limit: int, settings: GatewaySettings) -> AsyncGenerator[bytes, None]:
    taken = in_window = 0
    began = time.monotonic()
    chunks = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(_WINDOW):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HttpError(408, "the upload stalled", code="timeout") from None
        taken += len(chunk)
        in_window += len(chunk)
        if taken > limit:
            raise too_large(settings.upload_bytes)
        now = time.monotonic()
        if now - began > _WINDOW:
            if in_window < settings.upload_min_rate * (now - began):
                raise HttpError(408, "the upload is too slow", code="timeout")
            began, in_window = now, 0
        yield chunk
