"""The command line: names and options. Imports typer only; every command imports its body when it runs.

`rillvox --help` must answer at once, and torch alone takes more than a second to import.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

# Help drawn by rich takes longer than all the rest together; read by typer as it is imported.
os.environ.setdefault("TYPER_USE_RICH", "0")

import typer

from .cli_measuring import evaluate
from .cli_options import DEFAULT_DELAY_MS, CodecModel, DelayMs, Model, kept
from .cli_training import train
from .errors import ConfigError, RillvoxError

app = typer.Typer(name="rillvox", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
codec = typer.Typer(no_args_is_help=True, help="Recordings to small files of codes and back.")
bench = typer.Typer(no_args_is_help=True, help="Measure speed and memory.")
app.add_typer(codec, name="codec")
app.add_typer(train, name="train")
app.add_typer(evaluate, name="eval")
app.add_typer(bench, name="bench")

# Commands whose options belong to the module that does the work.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


class Format(StrEnum):
    """Ways to write a transcript."""

    text = "text"
    json = "json"
    srt = "srt"
    vtt = "vtt"


def _version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        typer.echo(f"rillvox {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; anywhere on the line.")] = False,
) -> None:
    """Streaming speech, both ways: recognition, synthesis and voice cloning at any size."""


@app.command()
def transcribe(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Recordings; - reads standard input.")
    ],
    model: Model = "asr-en",
    delay_ms: DelayMs = DEFAULT_DELAY_MS,
    form: Annotated[Format, typer.Option("--format", help="How to write the transcript.")] = Format.text,
    output: Annotated[
        Path | None, typer.Option(help="Write to this file, or to this folder if there are several.")
    ] = None,
) -> None:
    """Write down what is said in recordings of any length."""
    from .commands.transcribe import transcribe as run

    if run(files, model, delay_ms, form.value, output):
        raise typer.Exit(2)


@app.command()
def listen(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A recording, played at the pace of speech.")
    ] = None,
    mic: Annotated[bool, typer.Option("--mic", help="The default microphone; also without FILE.")] = False,
    model: Model = "asr-en",
    delay_ms: DelayMs = DEFAULT_DELAY_MS,
    draft_ms: Annotated[
        int | None, typer.Option(help="Also show, dimmed, what it would write at this shorter delay.")
    ] = None,
) -> None:
    """Show live captions in the terminal."""
    if file is not None and mic:
        raise ConfigError("listen hears a FILE or the microphone, not both")
    from .commands.listen import listen as run

    run(file, model, delay_ms, draft_ms)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    model: Model = "asr-en",
    slots: Annotated[int, typer.Option(help="Realtime sessions held at once.")] = 8,
    delay_ms: Annotated[int, typer.Option(help="Delay where a client asks for none.")] = DEFAULT_DELAY_MS,
    threads: Annotated[int, typer.Option(help="Threads of the model.")] = 1,
    api_key: Annotated[
        list[str] | None,
        typer.Option(envvar="RILLVOX_API_KEY", help="A key that clients must show; may be repeated."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="A web origin that may connect; may be repeated.")
    ] = None,
    default_dialect: Annotated[
        str, typer.Option(help="openai or vllm, for clients that do not say.")
    ] = "openai",
) -> None:
    """Serve realtime and file transcription to OpenAI and vLLM clients."""
    if default_dialect not in ("openai", "vllm"):
        raise ConfigError(f"--default-dialect must be openai or vllm, got {default_dialect!r}")
    from .streaming.serve import main_serve

    main_serve(
        model,
        host=host,
        port=port,
        slots=slots,
        delay_ms=delay_ms,
        threads=threads,
        api_keys=tuple(api_key or ()),
        allow_origins=tuple(allow_origin or ()),
        default_dialect=default_dialect,
    )


@codec.command("encode")
def codec_encode(
    recording: Annotated[str, typer.Argument(help="A recording; - reads standard input.")],
    output: Annotated[Path, typer.Argument(help="The file of codes to write, such as speech.rvc.")],
    model: CodecModel = "codec-24k",
) -> None:
    """Write the codes of a recording, about 2.1 kbit for each second."""
    from .commands.codec import encode

    encode(recording, output, model)


@codec.command("decode")
def codec_decode(
    codes: Annotated[Path, typer.Argument(help="A file of codes.")],
    output: Annotated[Path, typer.Argument(help="The recording to write: .wav, .flac or .ogg.")],
    model: CodecModel = "codec-24k",
) -> None:
    """Write the recording that a file of codes stands for."""
    from .commands.codec import decode

    decode(codes, output, model)


Output = Annotated[
    Path | None,
    typer.Option("--json", callback=kept, help="Also write the table to this file as JSON."),
]


@app.command()
def say(
    text: Annotated[
        str,
        typer.Argument(help="What to say, [pause 0.5s] for silence; - speaks standard input while it comes."),
    ] = "",
    voice: Annotated[
        str | None,
        typer.Option(help="A voice that comes along, or a file of `rillvox clone`. Default: the model's."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="A .wav, .flac or .ogg; - writes to standard output. Default: play."
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="A speaker that comes along, or a model folder.")] = "tts-en",
    seed: Annotated[int, typer.Option(help="The same seed gives the same audio.")] = 0,
    lexicon: Annotated[
        Path | None, typer.Option(help="How to say some words: lines of written<TAB>spoken.")
    ] = None,
    check: Annotated[
        int,
        typer.Option(min=0, help="Listen to it; of so many tries the one that misses fewest words is kept."),
    ] = 0,
    pace: Annotated[
        float, typer.Option(help="0.7 to 1.4 times as fast as by itself; for rillvox's own models.")
    ] = 1.0,
    steps: Annotated[
        int | None, typer.Option(help="Of the flow head for a frame. Default: the model's.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="int8 or float32; of a released model bfloat16 or float32.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu; cuda for a released model.")] = "cpu",
    voices: Annotated[bool, typer.Option("--voices", help="List the voices that come along.")] = False,
) -> None:
    """Say a text, and play it while it is spoken or write it to a file."""
    from .commands.say import list_voices
    from .commands.say import say as run

    if voices:
        list_voices(model)
    else:
        run(
            text, voice, output, model, seed, lexicon, check,
            pace=pace, steps=steps, weights=weights, device=device,
        )  # fmt: skip


@app.command()
def clone(
    recording: Annotated[Path, typer.Argument(help="3 to 30 s of one voice.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The voice, .safetensors; or its codes alone, .rvc."),
    ] = None,
    consent: Annotated[
        str, typer.Option(help="Who speaks, and that they allow it; kept with the voice.")
    ] = "",
    text: Annotated[str | None, typer.Option("--say", help="Say this at once in the voice.")] = None,
    wav: Annotated[str | None, typer.Option(help="Write what is said to this file; default: play.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A speaker; for .rvc a codec. Default: what comes along.")
    ] = None,
    enrol: Annotated[
        str,
        typer.Option(
            help="Of .rvc: encode, or optimise for a codec without an encoder, as the released one."
        ),
    ] = "encode",
    steps: Annotated[int, typer.Option(help="Of optimise: more take longer and come nearer.")] = 400,
    seed: Annotated[int, typer.Option(help="Of optimise, and of what is said.")] = 0,
    tune: Annotated[
        bool,
        typer.Option(help="Of a voice: seek what makes it its own, more like and less clear."),
    ] = True,
) -> None:
    """Take a voice from a recording, with a record of where it comes from and who allowed it."""
    if output is not None and output.suffix == ".rvc":
        if text is not None or wav is not None:
            raise ConfigError("--say needs a voice: name a .safetensors file, or none, in place of the .rvc")
        from .commands.clone import clone as run

        run(recording, output, model or "codec-24k", consent, enrol, steps, seed)
        return
    if enrol != "encode":
        raise ConfigError("--enrol optimise gives codes: name an .rvc file with -o")
    from .commands.clone_voice import clone_voice

    clone_voice(recording, output, consent, text, wav, model or "tts-en", seed, tune)


@bench.command("gateway")
def bench_gateway(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Speech to play; default: samples/.")
    ] = None,
    sessions: Annotated[int, typer.Option(help="Clients at once.")] = 8,
    seconds: Annotated[float, typer.Option(help="Speech of each client.")] = 60.0,
    manifest: Annotated[Path | None, typer.Option(help="Play the clips of this manifest instead.")] = None,
    model: Model = "asr-en",
    delay_ms: DelayMs = DEFAULT_DELAY_MS,
    threads: Annotated[int, typer.Option(help="Threads of the model.")] = 1,
    piece_ms: Annotated[int, typer.Option(help="Length of the pieces that clients send.")] = 80,
    url: Annotated[
        str | None, typer.Option(help="A running gateway, as ws://HOST:PORT; default: start one.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(envvar="RILLVOX_API_KEY", help="Its key.")] = None,
    output: Output = None,
) -> None:
    """Measure how late text is beyond the model's own delay, with many paced streams at once."""
    from .commands.bench import gateway
    from .streaming.bench import LoadTest

    test = LoadTest(sessions, seconds, model, delay_ms, piece_ms, threads, url=url, api_key=api_key)
    gateway(test, files or [], manifest, output)


@bench.command("memory")
def bench_memory(
    model: Model = "asr-en",
    slots: Annotated[int, typer.Option(help="Sessions to make room for.")] = 8,
    output: Output = None,
) -> None:
    """Count the bytes of a session, by part."""
    from .commands.bench import memory

    memory(model, slots, output)


@bench.command("step")
def bench_step(
    model: Model = "asr-en",
    sessions: Annotated[str, typer.Option(help="Sizes of the batch.")] = "1,4,8",
    seconds: Annotated[float, typer.Option(help="Audio of each session.")] = 20.0,
    delay_ms: DelayMs = DEFAULT_DELAY_MS,
    output: Output = None,
) -> None:
    """Time one tick of the model, by the number of sessions in it."""
    from .commands.bench import step

    step(model, sessions, seconds, delay_ms, output)


@bench.command("codec")
def bench_codec(
    model: Annotated[
        str | None, typer.Option(help="A codec; default: random weights, default shape.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Audio to pass through.")] = 8.0,
    output: Output = None,
) -> None:
    """Time a frame of a codec, both ways, with float32 and with int8 weights."""
    from .commands.bench_codec import codec as run

    run(model, seconds, output)


@bench.command("tts")
def bench_tts(
    model: Annotated[str, typer.Option(help="A speaker that comes along, or a model folder.")] = "tts-en",
    voice: Annotated[str | None, typer.Option(help="A voice of it; default: the model's own.")] = None,
    repeats: Annotated[int, typer.Option(help="How often each sentence is spoken.")] = 5,
    output: Output = None,
) -> None:
    """Time the first audio of a speaker, its speed, and the parts of a frame."""
    from .commands.bench_tts import tts as run

    run(model, voice, repeats, output)


def main() -> None:
    """Run the command line: what rillvox refuses is one line on stderr and exit status 2."""
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    try:
        app()
    except RillvoxError as error:
        if debug:
            raise
        typer.echo(f"rillvox: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except Exception as error:
        # A mistake of ours. The outermost frame: from here it would only become a page of frames.
        if debug:
            raise
        name = type(error).__name__
        typer.echo(f"rillvox: internal error: {name}: {error}; --debug shows where", err=True)
        sys.exit(1)
