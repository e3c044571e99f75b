"""The command line of measuring: names and options only, as in `cli.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import DEFAULT_DELAY_MS, CodecModel, Model, kept

evaluate = typer.Typer(no_args_is_help=True, help="Measure a model.")

Report = Annotated[Path | None, typer.Option("--json", callback=kept, help="Write the whole report here.")]
HeldOut = Annotated[Path, typer.Argument(help="Recordings that no model has seen, with texts.")]
Seen = Annotated[list[Path], typer.Option(help="Recordings that were trained on; may be repeated.")]
Whisper = Annotated[Path, typer.Option(help="Judge of phones: Whisper base's encoder.")]
PhoneHead = Annotated[Path, typer.Option(help="Judge of phones: its head.")]
Lexicon = Annotated[Path, typer.Option(help="Judge of phones: pronunciations, as JSON.")]
Speaker = Annotated[str, typer.Option(help="A speaker that comes along, or a model folder.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Of the flow head; default: the model's.")]
Jobs = Annotated[int, typer.Option(help="Processes that share the work; times are measured with 1 only.")]
Kept = Annotated[
    Path | None,
    typer.Option(
        help="Folder of results, one for each utterance: a run that was cut off goes on. Name another one "
        "when the code has changed."
    ),
]


@evaluate.command("asr")
def evaluate_asr(
    manifest: Annotated[str, typer.Argument(help="A manifest.jsonl, or the folder that holds it.")],
    model: Model = "asr-en",
    delay_ms: Annotated[list[int] | None, typer.Option(help="A delay to measure; may be repeated.")] = None,
    json_out: Report = None,
    show: Annotated[bool, typer.Option("--show", help="Print every reference and what was heard.")] = False,
    limit: Annotated[int | None, typer.Option(help="Only so many clips, spread over the list.")] = None,
    slots: Annotated[int, typer.Option(help="Clips heard at once.")] = 1,
    condition: Annotated[
        list[str] | None, typer.Option(help="clean, telephone or long; may be repeated.")
    ] = None,
    quiet_minutes: Annotated[float, typer.Option(help="Listen to silence and to noise for so long.")] = 0.0,
    noise: Annotated[Path | None, typer.Option(help="Folder of recorded noises for that.")] = None,
    times: Annotated[Path | None, typer.Option(help="Word times of the clips, by id.")] = None,
    peers: Annotated[bool, typer.Option(help="Also run pocketsphinx if it is installed.")] = True,
) -> None:
    """Word and character error rates, delay of words, speed, with intervals."""
    from .asr.evaluate import main_asr

    main_asr(
        manifest, model, delay_ms or [DEFAULT_DELAY_MS], json_out, show, limit, slots,
        condition or ["clean"], quiet_minutes, noise, times, peers,
    )  # fmt: skip


@evaluate.command("codec")
def evaluate_codec(
    manifests: Annotated[list[str], typer.Argument(help="Folders or files of manifests.")],
    model: CodecModel = "codec-24k",
    json_out: Report = None,
    limit: Annotated[int | None, typer.Option(help="Only so many clips, spread over the list.")] = None,
    whisper: Annotated[Path | None, typer.Option(help="Judge of phones: Whisper base's encoder.")] = None,
    phone_head: Annotated[Path | None, typer.Option(help="Judge of phones: its head.")] = None,
    lexicon: Annotated[Path | None, typer.Option(help="Judge of phones: pronunciations, as JSON.")] = None,
    peers: Annotated[bool, typer.Option(help="Also run Opus if PyAV is installed.")] = True,
    min_rate: Annotated[int, typer.Option(help="Leave out recordings of a lower rate in Hz.")] = 0,
) -> None:
    """What coding does to recordings, beside the recordings themselves and Opus, with intervals."""
    from .codec.evaluate import main_codec

    main_codec(manifests, model, json_out, limit, whisper, phone_head, lexicon, peers, min_rate, typed())


@evaluate.command("codes")
def evaluate_codes(
    sounds: Annotated[Path, typer.Argument(help="A folder made by `train sounds`.")],
    model: CodecModel = "codec-24k",
    every: Annotated[int, typer.Option(min=1, help="Of the training clips one in so many.")] = 6,
    json_out: Report = None,
) -> None:
    """How a codec uses its codes on the speech it was trained with, and how often they are the teacher's."""
    from .codec.evaluate_codes import main_codes

    main_codes(sounds, model, every, json_out)


@evaluate.command("tts")
def evaluate_tts(
    held_out: HeldOut,
    seen: Seen,
    whisper: Whisper,
    phone_head: PhoneHead,
    lexicon: Lexicon,
    model: Speaker = "tts-en",
    sentences: Annotated[int, typer.Option(help="Sentences for each voice.")] = 100,
    peers: Annotated[bool, typer.Option(help="Also run espeak-ng and flite if they are installed.")] = True,
    hard: Annotated[bool, typer.Option(help="Also speak the hard texts.")] = True,
    tune: Annotated[bool, typer.Option(help="Tune the voices of people, as `rillvox clone` does.")] = True,
    steps: Steps = None,
    jobs: Jobs = 1,
    cache: Kept = None,
    json_out: Report = None,
) -> None:
    """How well a speaker is understood and how like its voices are, beside other speakers, with intervals."""
    from .commands import eval_tts as run

    setting = run.Setting(held_out, whisper, phone_head, lexicon, peers, tune=tune)
    run.eval_tts(setting, seen, run.Model(model, steps), sentences, hard, jobs, cache, json_out, typed())


@evaluate.command("heads")
def evaluate_heads(
    held_out: HeldOut,
    seen: Seen,
    whisper: Whisper,
    phone_head: PhoneHead,
    lexicon: Lexicon,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Folder of the model before distilling, `train tts export --head speak`; default: the model "
            "itself, by Euler's method."
        ),
    ] = None,
    model: Speaker = "tts-en",
    steps: Steps = None,
    teacher_steps: Annotated[
        int | None, typer.Option(min=1, help="Of the teacher's head; default: its own, or 16 of the model's.")
    ] = None,
    sentences: Annotated[int, typer.Option(help="Sentences, each in one of the voices.")] = 100,
    voices: Annotated[int, typer.Option(help="People trained on, and as many strangers.")] = 5,
    jobs: Jobs = 1,
    cache: Kept = None,
    json_out: Report = None,
) -> None:
    """Whether a distilled flow head errs no more than its teacher, and less than one step of the teacher."""
    from .commands import eval_tts as run

    setting = run.Setting(held_out, whisper, phone_head, lexicon, peers=False, tune=False)
    run.eval_heads(
        setting,
        seen,
        run.Model(model, steps),
        run.teacher_of(model, teacher, teacher_steps),
        sentences,
        voices,
        jobs,
        cache,
        json_out,
        typed(),
    )


def typed() -> str:
    """What stands in a report as its command."""
    return " ".join(["rillvox", *sys.argv[1:]])
