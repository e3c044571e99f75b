"""Measurements of the server: `bench gateway`, `bench memory`, `bench step`. One markdown table each.

Latency figures are only as good as the machine is idle; the header says how loaded it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..asr.batch import Batch
from ..asr.delays import ENCODER_PER_STEP, FRAME_MS, FRAME_SAMPLES
from ..asr.stream import ASR
from ..audio import Samples
from ..errors import ConfigError, RillvoxError
from ..kernels.state import nbytes
from .paced import RATE, Outcome, Pcm, Script, speak_all, write_script

_GAP_SECONDS = 0.4  # between two clips of a script
_STARTS_WITHIN = 5.0  # seconds over which clients begin
_LOAD_TIMEOUT = 300.0


@dataclass
class Table:
    """A result: what it was measured on, and rows of named figures."""

    title: str
    header: dict[str, Any]
    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list[list[Any]])
    notes: list[str] = field(default_factory=list[str])

    def markdown(self) -> str:
        """For people."""
        lines = [f"### {self.title}", ""]
        lines += [f"- {name}: {value}" for name, value in self.header.items()]
        lines += ["", "| " + " | ".join(self.columns) + " |", "|" + " --- |" * len(self.columns)]
        lines += ["| " + " | ".join(_shown(cell) for cell in row) + " |" for row in self.rows]
        return "\n".join([*lines, "", *self.notes]) + "\n"

    def to_json(self) -> str:
        """For programs."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        body = {"title": self.title, **self.header, "rows": rows, "notes": self.notes}
        return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def header(model: str, threads: int) -> dict[str, Any]:
    """What every table is measured on."""
    load = os.getloadavg()
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "load before (1, 5, 15 min)": " ".join(f"{value:.1f}" for value in load),
        "python, torch": f"{platform.python_version()}, {torch.__version__}",
        "model": model,
        "threads of the model": threads,
        "commit": _commit(),
    }


# ---- gateway --------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadTest:
    """N clients at the pace of speech. `url`: of a running server; `None` starts one."""

    sessions: int = 8
    seconds: float = 60.0
    model: str = "asr-en"
    delay_ms: int = 480
    piece_ms: int = 80
    threads: int = 1
    seed: int = 0
    url: str | None = None
    api_key: str | None = None

    def __post_init__(self) -> None:
        if self.sessions < 1 or self.seconds <= 0:
            raise ConfigError("sessions and seconds must be positive")
        if not 10 <= self.piece_ms <= 1000:
            raise ConfigError(f"piece_ms must be 10 to 1000, got {self.piece_ms}")


def bench_gateway(test: LoadTest, clips: Sequence[Samples]) -> Table:
    """Play recorded speech at 16 kHz to a gateway and measure how late its text is.

    Raises:
        RillvoxError: no clips, no model, or a server that doesn't start.
    """
    if not clips:
        raise ConfigError("there is nothing to play: name recordings or a manifest")
    torch.set_num_threads(1)
    about = header(test.model, test.threads)
    asr = ASR.load(test.model)
    random = np.random.default_rng(test.seed)
    scripts: list[Script] = []
    for index in range(test.sessions):
        pcm = _talk(clips, test.seconds, random)
        scripts.append(write_script(asr, pcm, RATE * test.piece_ms // 1000, test.delay_ms))
        _progress(f"heard script {index + 1} of {test.sessions} alone")
    starts = np.sort(random.uniform(0, _STARTS_WITHIN, test.sessions)).tolist()
    with _server(test) as (url, process):
        headers = {} if test.api_key is None else {"Authorization": f"Bearer {test.api_key}"}
        before, steps_before = _usage(process), _engine_steps(url, headers)
        began = time.monotonic()
        outcomes = asyncio.run(speak_all(f"{url}/v1/realtime", scripts, starts, headers))
        wall = time.monotonic() - began
        usage = None if process is None else (_usage(process), _peak_mib(process))
        steps, busy, heard = (_engine_steps(url, headers) - steps_before).tolist()
    table = Table("bench gateway", about, ["what", "p50 ms", "p95 ms", "p99 ms", "max ms", "n"])
    _fill(table, test, scripts, outcomes)
    if steps:
        table.notes.append(
            f"- engine: {steps:.0f} steps of {1000 * busy / steps:.0f} ms on average, busy {busy / wall:.0%} "
            f"of the time, {heard / steps / _block_seconds(asr, test.delay_ms):.1f} sessions a step"
        )
    if usage is not None:
        cpu = usage[0] - before
        table.notes.append(f"- CPU time of the server: {cpu / wall:.0%} of one core; peak {usage[1]:.0f} MiB")
    return table


def _fill(table: Table, test: LoadTest, scripts: Sequence[Script], outcomes: Sequence[Outcome]) -> None:
    late = [value for outcome in outcomes for value in outcome.late]
    final = [outcome.final_late for outcome in outcomes if outcome.final_late is not None]
    sent = [value for outcome in outcomes for value in outcome.send_late]
    for what, values in (
        ("text, beyond the model's own delay", late),
        ("final text, after the last audio", final),
        ("the clients' own lateness in sending", sent),
    ):
        table.rows.append([what, *_quantiles(values)])
    held = sum(outcome.final_late is not None for outcome in outcomes)
    equal = sum(one.text == script.text for one, script in zip(outcomes, scripts, strict=True))
    refused = sum(outcome.refused for outcome in outcomes)
    table.notes += [
        f"- sessions held to the end: {held} of {test.sessions}; refused: {refused}",
        f"- text equal to that of the session alone: {equal} of {test.sessions} "
        f"({sum(len(script.text) for script in scripts)} characters)",
        f"- each {test.seconds:g} s of speech at its own pace, in pieces of {test.piece_ms} ms, delay "
        f"{test.delay_ms} ms, starts spread over {_STARTS_WITHIN:g} s",
    ]
    errors = sorted({outcome.error for outcome in outcomes if outcome.error is not None})
    table.notes += [f"- error: {error}" for error in errors]
    table.header |= {"sessions": test.sessions, "held": held, "refused": refused, "equal": equal}


def _talk(clips: Sequence[Samples], seconds: float, random: np.random.Generator) -> Pcm:
    """Clips in a random order, again and again, with short pauses: s16 [16000 seconds]."""
    n = round(seconds * RATE)
    gap = np.zeros(round(_GAP_SECONDS * RATE), np.float32)
    parts: list[Samples] = []
    length = 0
    while length < n:
        for index in random.permutation(len(clips)):
            parts += [clips[int(index)], gap]
            length += len(clips[int(index)]) + len(gap)
    talk: Samples = np.concatenate(parts)[:n]
    return np.clip(np.rint(talk * 32768), -32768, 32767).astype(np.int16)


@contextlib.contextmanager
def _server(test: LoadTest) -> Generator[tuple[str, int | None], None, None]:
    """The address of a server, and its process id if it was started here."""
    if test.url is not None:
        yield test.url.rstrip("/").removesuffix("/v1"), None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-c", "from rillvox.cli import main; main()", "serve"]
    command += ["--port", str(port), "--model", test.model, "--slots", str(test.sessions)]
    command += ["--threads", str(test.threads), "--delay-ms", str(test.delay_ms)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _wait_ready(process, port)
        _progress("the server is ready")
        yield f"ws://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _LOAD_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RillvoxError(
                f"the server ended with status {process.returncode}; run `rillvox serve` to see why"
            )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RillvoxError(f"the server was not ready after {_LOAD_TIMEOUT:g} s")


# ---- memory ---------------------------------------------------------------------------------


def bench_memory(model: str, slots: int = 8, steps: int = 250) -> Table:
    """Bytes that a session costs, by part, and whether they grow."""
    # Two threads on a loaded machine wait for each other: nine seconds of work took minutes.
    torch.set_num_threads(1)
    about = header(model, 1)
    _progress(f"loading {model}")
    asr = ASR.load(model)
    _progress(f"making room for {slots} sessions")
    batch = _batch(asr, slots)
    table = Table("bench memory", about, ["part", "KiB a session", "KiB in all"])
    parts = {
        "front end": nbytes(batch.bank.mel),
        "encoder": nbytes(batch.bank.encoder),
        "decoder": nbytes(batch.bank.decoder),
        "adapter ring": batch.ring.numel() * batch.ring.element_size(),
    }
    table.rows = [[name, held / slots / 1024, held / 1024] for name, held in parts.items()]
    table.rows.append(["a session", sum(parts.values()) / slots / 1024, sum(parts.values()) / 1024])
    table.rows.append(["weights", "", _weights(asr) / 1024])
    before = batch.nbytes
    lane = batch.open(480, keep=False)
    for step in range(steps):
        if step % 50 == 0:
            _progress(f"heard {step} of {steps} steps")
        lane.push(_noise(FRAME_SAMPLES))
        batch.step()
        lane.poll()
    table.notes.append(f"- growth over {steps} steps: {batch.nbytes - before} bytes of tensors")
    return table


def _weights(asr: ASR) -> int:
    """Bytes of the model's own tensors; int8 layers keep theirs as buffers, not as parameters."""
    tensors = [*asr.model.parameters(), *asr.model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


# ---- step -----------------------------------------------------------------------------------


def bench_step(model: str, batches: Sequence[int], seconds: float = 20.0, delay_ms: int = 480) -> Table:
    """Time of one tick with so many sessions in step, each with a block of audio; caches full."""
    torch.set_num_threads(1)
    about = header(model, 1)
    _progress(f"loading {model}")
    asr = ASR.load(model)
    _, block = asr.model.config.split_delay(delay_ms)
    steps = max(block // ENCODER_PER_STEP, 1)
    table = Table("bench step", about, ["sessions", "p50 ms", "p95 ms", "p99 ms", "max ms", "n", "load"])
    for sessions in batches:
        batch = _batch(asr, sessions)
        lanes = [batch.open(delay_ms) for _ in range(sessions)]
        times: list[float] = []
        ticks = max(round(seconds * 1000 / FRAME_MS / steps), 10)
        _progress(f"timing {ticks} ticks of {sessions} sessions")
        for _ in range(ticks):
            for lane in lanes:
                lane.push(_noise(steps * FRAME_SAMPLES))
                lane.poll()
            began = time.perf_counter()
            while batch.step():
                pass
            times.append(time.perf_counter() - began)
        warm = times[ticks // 4 :]
        share = float(np.median(warm)) / (steps * FRAME_MS / 1000)
        table.rows.append([sessions, *_quantiles(warm), f"{share:.0%}"])
    table.notes.append(f"- a tick hears {steps * FRAME_MS} ms of every session; load: its share of that time")
    return table


# ---- inside ---------------------------------------------------------------------------------


def _batch(asr: ASR, slots: int) -> Batch:
    largest = max(asr.model.config.encoder.blocks)
    return asr.batch(slots, max_tokens=max(largest // ENCODER_PER_STEP, 1))


def _block_seconds(asr: ASR, delay_ms: int) -> float:
    _, block = asr.model.config.split_delay(delay_ms)
    return max(block // ENCODER_PER_STEP, 1) * FRAME_MS / 1000


def _noise(n: int) -> Samples:
    return (np.random.default_rng(n).standard_normal(n) * 0.05).astype(np.float32)


def _quantiles(values: Sequence[float]) -> list[Any]:
    if not values:
        return ["-", "-", "-", "-", 0]
    figures = np.quantile(values, [0.5, 0.95, 0.99, 1.0]) * 1000
    return [*(round(float(value), 1) for value in figures), len(values)]


def _shown(cell: Any) -> str:
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    root = Path(__file__).resolve().parent.parent
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()


def _engine_steps(url: str, headers: Mapping[str, str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Steps, seconds in them and seconds of audio heard by a server so far."""
    request = urllib.request.Request(f"http{url.removeprefix('ws')}/metrics", headers=dict(headers))
    with urllib.request.urlopen(request, timeout=10) as answer:
        lines: list[str] = answer.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    names = ("steps", "busy_seconds", "audio_seconds")
    return np.array([float(values[f"rillvox_engine_{name}"]) for name in names])


def _usage(process: int | None) -> float:
    """CPU seconds that a process has used so far (Linux)."""
    if process is None:
        return 0.0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mib(process: int) -> float:
    status: Mapping[str, str] = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line
    )
    return int(status["VmHWM"].split()[0]) / 1024
