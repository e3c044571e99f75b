"""`rillvox serve` as a process: start, signals, exit codes; and the bench that starts one."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from laws.listening import small, waveform
from serving.clients import APPEND, COMMIT, b64
from serving.live import hear, hear_the_end, hear_until, say
from websockets.asyncio.client import connect

from rillvox.asr.checkpoint import save_native
from rillvox.asr.stream import ASR
from rillvox.errors import CheckpointError, ConfigError
from rillvox.streaming.bench import LoadTest, bench_gateway, bench_memory, bench_step
from rillvox.streaming.hearing import load_listener
from rillvox.streaming.paced import Script, write_script
from rillvox.streaming.serve import listen, serve
from rillvox.streaming.settings import GatewaySettings

RUN = [sys.executable, "-c", "from rillvox.cli import main; main()", "serve"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models") / "toy"
    save_native(small().model, small().tokenizer, folder)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(model: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    process = subprocess.Popen(
        [*RUN, "--port", str(port), "--model", str(model)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                break
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    yield process, port
    process.kill()
    process.communicate()


async def test_sigterm_finishes_what_was_said_and_exits_with_zero(
    server: tuple[subprocess.Popen[str], int],
) -> None:
    process, port = server
    pcm = (waveform(1.5, 3) * 32767).astype("<i2")
    expected = ASR(small().model, small().tokenizer).stream()
    expected.feed(pcm.astype(np.float32) / 32768)
    url = f"ws://127.0.0.1:{port}/v1/realtime"

    async def talk() -> None:
        async with connect(f"{url}?dialect=vllm", proxy=None) as ws:
            await hear(ws)
            await say(ws, type=COMMIT)
            await say(ws, type=APPEND, audio=b64(pcm))
            begun.release()
            done = (await hear_until(ws, "done"))[-1]
            assert done["text"] == text
            await hear_the_end(ws)
            assert ws.close_code == 1012

    begun, text = asyncio.Semaphore(0), expected.finish().text
    talks = [asyncio.create_task(talk()) for _ in range(6)]
    for _ in talks:
        await begun.acquire()
    await asyncio.sleep(0.3)  # the appends are on their way
    process.send_signal(signal.SIGTERM)
    await asyncio.gather(*talks)
    assert await asyncio.to_thread(process.wait, 60) == 0
    lines = (process.stderr.read() if process.stderr else "").splitlines()
    assert any("rillvox serves toy at http://127.0.0.1" in line for line in lines)
    logs = [json.loads(line) for line in lines if line.startswith("{")]
    assert sum(log["event"] == "session ended" for log in logs) == 6
    assert len(text) > 5
    assert all(text not in line for line in lines)  # transcripts are nobody's business
    assert not any("Traceback" in line for line in lines)


async def test_an_interrupt_stops_a_server_with_an_open_session(
    server: tuple[subprocess.Popen[str], int],
) -> None:
    process, port = server
    async with connect(f"ws://127.0.0.1:{port}/v1/realtime?dialect=vllm", proxy=None) as ws:
        await hear(ws)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 60) == 0


def test_a_model_that_is_not_there_ends_the_server_with_its_error(tmp_path: Path) -> None:
    settings = GatewaySettings(port=0)
    with pytest.raises(CheckpointError, match="nowhere"):
        serve(settings, lambda: load_listener(str(tmp_path / "nowhere"), settings))


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            listen(GatewaySettings(port=port))


def test_connections_inherit_what_keeps_a_stalled_reader_from_staying() -> None:
    with listen(GatewaySettings(port=0, user_timeout=7.0)) as listener:
        client = socket.create_connection(listener.getsockname())
        listener.setblocking(True)
        peer, _ = listener.accept()
        with client, peer:
            assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 65536
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        listen(GatewaySettings(host="192.0.2.1", port=0, api_keys=("a-long-key",)))


def test_the_emission_clock_counts_pieces(model: Path) -> None:
    asr = ASR.load(model)
    pcm = (waveform(2.0, 3) * 32767).astype(np.int16)
    script = write_script(asr, pcm, 640, 480)
    assert isinstance(script, Script)
    assert len(script.pieces) == 50
    assert len(script.needed) == len(script.text)
    assert list(script.needed) == sorted(script.needed)
    first = script.needed[0]
    assert first > 8  # a block of 320 ms
    session = asr.stream()
    session.feed(pcm[: 640 * (first - 1)].astype(np.float32) / 32768)
    session.poll()
    assert session.text == ""
    session.feed(pcm[640 * (first - 1) : 640 * first].astype(np.float32) / 32768)
    session.poll()
    assert script.text.startswith(session.text)
    assert session.text


def test_the_bench_holds_its_sessions_and_checks_their_text(model: Path) -> None:
    test = LoadTest(sessions=2, seconds=2.0, model=str(model))
    table = bench_gateway(test, [waveform(1.2, 1), waveform(0.9, 2)])
    assert (table.header["held"], table.header["equal"], table.header["refused"]) == (2, 2, 0)
    shown = table.markdown()
    assert "beyond the model's own delay" in shown
    rows = {row["what"]: row for row in json.loads(table.to_json())["rows"]}
    assert rows["the clients' own lateness in sending"]["n"] == 50
    assert rows["text, beyond the model's own delay"]["n"] > 0


def test_a_bench_without_speech_says_so() -> None:
    with pytest.raises(ConfigError, match="nothing to play"):
        bench_gateway(LoadTest(), [])
    with pytest.raises(ConfigError, match="positive"):
        LoadTest(sessions=0)


def test_the_other_tables_are_written(model: Path) -> None:
    memory = bench_memory(str(model), 2)
    parts = {row[0]: row[1] for row in memory.rows}
    assert parts["a session"] == pytest.approx(
        sum(value for name, value in parts.items() if name not in ("a session", "weights"))
    )
    assert "growth over 250 steps: 0 bytes" in memory.markdown()
    step = bench_step(str(model), [1, 2], seconds=1.0)
    assert [row[0] for row in step.rows] == [1, 2]


def test_a_bench_says_on_stderr_how_far_it_is(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        bench_memory(str(model), 2)
        assert torch.get_num_threads() == 1  # as its header says
    finally:
        torch.set_num_threads(before)
    told = capsys.readouterr()
    assert told.err.splitlines()[0] == f"loading {model}"
    assert "heard 200 of 250 steps" in told.err
    assert told.out == ""
    bench_step(str(model), [2], seconds=1.0)
    assert "timing" in capsys.readouterr().err


def test_the_bench_counts_int8_weights(model: Path) -> None:
    packed = ASR.load(model, weights="int8").model
    left = sum(weight.numel() * weight.element_size() for weight in packed.parameters())
    rounded = sum(weight.numel() for weight in packed.buffers() if weight.dtype == torch.int8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RILLVOX_WEIGHTS", "int8")
        rows = {row[0]: row[2] for row in bench_memory(str(model), 1, steps=1).rows}
    assert rounded > 0
    assert rows["weights"] * 1024 >= left + rounded
