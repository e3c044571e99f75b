"""The command line of training: names and options only, as in `cli.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import DEFAULT_DELAY_MS, CodecModel, DelayMs, kept

train = typer.Typer(no_args_is_help=True, help="Train a model.")


@train.command("prepare")
def train_prepare(
    manifests: Annotated[list[Path], typer.Argument(help="Folders with manifest.jsonl, or such files.")],
    out: Annotated[Path, typer.Option(help="Folder of the pool.")],
    whisper: Annotated[Path, typer.Option(help="Whisper base's encoder, openai's names, safetensors.")],
    phone_head: Annotated[Path, typer.Option(help="The phone head's safetensors.")],
) -> None:
    """Decode recordings and find when each of their words is said."""
    from .asr.prepare import prepare

    prepare(manifests, out, whisper, phone_head, typer.echo)


@train.command("times")
def train_times(
    pool: Annotated[Path, typer.Argument(help="A pool made by `train prepare`.")],
    corpus: Annotated[str, typer.Option(help="Of whose clips.")],
    out: Annotated[Path, typer.Option(help="File for `eval asr --times`.")],
) -> None:
    """Write when each word of a pool's clips is said, as the aligner found it."""
    from .asr.prepare import write_times

    typer.echo(f"{write_times(pool, corpus, out)} clips")


@train.command("calibrate")
def train_calibrate(
    model: Annotated[Path, typer.Argument(help="A model folder; its tekken.json is written.")],
    manifest: Annotated[Path, typer.Argument(help="Recordings with texts, not those it was trained on.")],
    times: Annotated[Path | None, typer.Option(help="Word times of the clips, by id.")] = None,
    delay_ms: DelayMs = DEFAULT_DELAY_MS,
) -> None:
    """Fit the confidences and word times of a listener to the truth."""
    from .asr.calibrate import calibrate

    calibrate(model, manifest, times, delay_ms, say=typer.echo)


@train.command("asr")
def train_asr(
    stage: Annotated[str, typer.Argument(help="encoder, search, features, decoder, joint or export.")],
    pool: Annotated[Path, typer.Option(help="A pool made by `train prepare`.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; what is there is resumed.")],
    steps: Annotated[int, typer.Option(help="Length of the stage.")] = 1000,
    rows: Annotated[int, typer.Option(help="Rows of a batch.")] = 2,
    seconds: Annotated[float, typer.Option(help="Length of a row.")] = 10.24,
    whisper: Annotated[Path | None, typer.Option(help="Start the encoder from these weights.")] = None,
    noise: Annotated[Path | None, typer.Option(help="Folder of noises and rooms with a manifest.")] = None,
    text: Annotated[Path | None, typer.Option(help="Text to splice speech for, one sentence a line.")] = None,
    devices: Annotated[int, typer.Option(help="Processes or GPUs that share a batch.")] = 1,
    precision: Annotated[str, typer.Option(help="auto, 32-true or bf16-mixed.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    init: Annotated[Path | None, typer.Option(help="Start the stage from another run's weights.")] = None,
    rate: Annotated[float, typer.Option(help="Factor on the learning rates of the stage.")] = 1.0,
    whisper_share: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Share of Whisper's weights mixed into those of --init, or of `search`."
        ),
    ] = 0.0,
) -> None:
    """Train the listener, one stage at a time."""
    from .asr.train import Run, main_train_asr

    run = Run(
        pool,
        out,
        whisper,
        noise,
        text,
        steps,
        rows,
        seconds,
        devices,
        precision,
        seed,
        init,
        rate,
        whisper_share,
    )
    main_train_asr(stage, run, typer.echo)


@train.command("sounds")
def train_sounds(
    manifests: Annotated[list[str], typer.Argument(help="Folders or files of manifests.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    whisper: Annotated[Path, typer.Option(help="Whisper base's encoder, safetensors: the teacher.")],
    codes: Annotated[int, typer.Option(min=2, help="Entries of the semantic codebook.")] = 512,
    codebook: Annotated[
        Path | None, typer.Option(help="A folder made by `train sounds`: name these by its codes.")
    ] = None,
) -> None:
    """Decode recordings for a codec and let the teacher name every 80 ms of them."""
    from .codec.prepare import prepare

    prepare(manifests, out, whisper, codes=codes, codebook=codebook, say=typer.echo)


@train.command("text")
def train_text(
    sounds: Annotated[Path, typer.Argument(help="A folder made by `train sounds`.")],
    pool: Annotated[Path, typer.Option(help="A folder made by `train prepare` of the same recordings.")],
    model: Annotated[Path, typer.Option(help="A text model's folder, in the transformers format.")],
) -> None:
    """Vectors of a language model for the words of a codec's sounds, for `train codec --lm`."""
    from .codec.prepare_text import prepare_text

    prepare_text(sounds, pool, model, typer.echo)


@train.command("words")
def train_words(
    sounds: Annotated[Path, typer.Argument(help="A folder made by `train sounds`.")],
    whisper: Annotated[Path, typer.Option(help="A whole Whisper's folder, in the transformers format.")],
) -> None:
    """A Whisper's states for the words that it hears in a codec's sounds, for `train codec --words`."""
    from .codec.prepare_words import prepare_words

    prepare_words(sounds, whisper, typer.echo)


@train.command("codec")
def train_codec(
    stage: Annotated[
        str, typer.Argument(help="reconstruct, then adversarial; or published; or encoder; at last export.")
    ],
    sounds: Annotated[Path, typer.Option(help="A folder made by `train sounds`.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; what is there is resumed.")],
    steps: Annotated[int, typer.Option(help="Length of the stage.")] = 5000,
    rows: Annotated[int, typer.Option(help="Rows of a batch.")] = 8,
    frames: Annotated[int, typer.Option(help="Length of a row, in frames of 80 ms.")] = 12,
    devices: Annotated[int, typer.Option(help="Processes or GPUs that share a batch.")] = 1,
    precision: Annotated[str, typer.Option(help="auto, 32-true or bf16-mixed.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    init: Annotated[Path | None, typer.Option(help="Start from the folder of another run's stage.")] = None,
    rate: Annotated[float, typer.Option(help="Factor on the learning rates of the stage.")] = 1.0,
    freeze_decoder: Annotated[
        Path | None, typer.Option(help="Stage encoder: a model folder whose decoder and codebook stay.")
    ] = None,
    noise: Annotated[Path | None, typer.Option(help="Folder of noises and rooms for some items.")] = None,
    semantic: Annotated[
        str | None, typer.Option(help="Where the semantic codes come from: teacher, learned or fsq.")
    ] = None,
    revive: Annotated[
        bool, typer.Option(help="Learned codes: begin with k-means, and leave no entry unused.")
    ] = True,
    balance: Annotated[bool, typer.Option(help="Balance the gradients of all terms.")] = False,
    critics: Annotated[
        str | None, typer.Option(help="Sizes of the discriminators' spectra, with commas between.")
    ] = None,
    channels: Annotated[int | None, typer.Option(help="Channels of the discriminators.")] = None,
    lm: Annotated[
        float, typer.Option(help="Weight of a language model's vectors, from `train text`; 0: none.")
    ] = 0.0,
    contrast: Annotated[float, typer.Option(help="Weight of own word against other words; 0: none.")] = 0.0,
    text_control: Annotated[
        bool, typer.Option("--text-control", help="Negative control of both: words of another recording.")
    ] = False,
    words: Annotated[
        bool, typer.Option("--words", help="The codes learn from a Whisper's states, from `train words`.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that draw batches ahead; a GPU needs some.")] = 0,
    graph: Annotated[
        bool, typer.Option("--graph", help="On a GPU: replay one captured step; needs --precision 32-true.")
    ] = False,
    blend: Annotated[float, typer.Option(help="Export: share of what the stage reconstruct left.")] = 0.0,
) -> None:
    """Train a codec, one stage at a time."""
    from .codec.train import CodecRun, main_train_codec, recipe_of

    recipe = recipe_of(
        stage,
        semantic=semantic,
        revive=revive,
        balance=balance,
        critics=critics,
        channels=channels,
        lm=lm,
        contrast=contrast,
        text_control=text_control,
    )
    run = CodecRun(
        sounds,
        out,
        steps=steps,
        rows=rows,
        frames=frames,
        devices=devices,
        precision=precision,
        seed=seed,
        init=init,
        rate=rate,
        decoder=freeze_decoder,
        noise=noise,
        recipe=recipe,
        words=words,
        workers=workers,
        graph=graph,
        blend=blend,
    )
    main_train_codec(stage, run, typer.echo)


@train.command("timbres")
def train_timbres(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests that name speakers and seconds.")],
    out: Annotated[
        Path,
        typer.Option(help="The file, .safetensors: `timbres` of the speaker's folder.", callback=kept),
    ],
    model: Annotated[str, typer.Option(help="A speaker that comes along, or a model folder.")] = "tts-en",
    ways: Annotated[int, typer.Option(min=1, help="In how many ways people may differ.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the search for them.")] = 600,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
) -> None:
    """Learn how people differ, so that a clone can be tuned to one of them."""
    from .asr.stream import ASR
    from .tts.train_timbres import main_timbres

    main_timbres(manifests, out, model, ASR.load(), ways=ways, steps=steps, seed=seed, say=typer.echo)


@train.command("pronounce")
def train_pronounce(
    words: Annotated[list[Path], typer.Argument(help="Texts or lists of words, or lexicons as JSON.")],
    out: Annotated[Path, typer.Option(help="The file to write, words.safetensors.")],
    lexicon: Annotated[Path, typer.Option(help="What flite said, as JSON: begun or continued.")],
    steps: Annotated[int, typer.Option(help="Of the network for words that are in no dictionary.")] = 20000,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    voice: Annotated[str, typer.Option(help="Of flite's, for words that the lexicon lacks.")] = "slt",
    init: Annotated[Path | None, typer.Option(help="Go on with the network of this file.")] = None,
) -> None:
    """Pack a dictionary, and learn to read words that are in none."""
    from .tts.train_pronounce import main_train_pronounce

    main_train_pronounce(
        words, out, lexicon, steps=steps, device=device, seed=seed, voice=voice, init=init, say=typer.echo
    )


@train.command("lessons")
def train_lessons(
    text: Annotated[Path, typer.Argument(help="A sentence a line, perhaps gzipped.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    voice: Annotated[list[str], typer.Option(help="Of flite's; may be repeated.")] = ["slt", "rms", "awb"],  # noqa: B006
    hours: Annotated[float, typer.Option(min=0.0, help="Of speech.")] = 1.25,
    seed: Annotated[int, typer.Option(help="Of the sentences' order.")] = 0,
) -> None:
    """Let flite speak sentences, for a speaker to learn reading from before it hears people."""
    from .tts.lessons import write_lessons

    write_lessons(text, out, voice, hours, seed=seed, say=typer.echo)


@train.command("speech")
def train_speech(
    sounds: Annotated[Path, typer.Argument(help="A folder made by `train sounds`.")],
    pool: Annotated[Path, typer.Option(help="A folder made by `train prepare` of the same recordings.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    model: CodecModel = "codec-24k",
    speed: Annotated[
        float, typer.Option(min=0.5, max=2.0, help="Play the recordings so much faster: other voices.")
    ] = 1.0,
    shift: Annotated[int, typer.Option(min=0, max=1919, help="Samples to leave out at the begin.")] = 0,
    lexicon: Annotated[
        Path | None, typer.Option(help="Call the phones as this lexicon does (JSON): begun or continued.")
    ] = None,
    voice: Annotated[str, typer.Option(help="Of flite's, for words that the lexicon lacks.")] = "slt",
) -> None:
    """Encode recordings for a speaker, with what they say and when."""
    from .tts.speech import main_speech

    main_speech(sounds, pool, out, model, speed, shift, lexicon, voice, typer.echo)


@train.command("pairs")
def train_pairs(
    speech: Annotated[list[Path], typer.Option(help="A folder made by `train speech`; may be repeated.")],
    run: Annotated[Path, typer.Option(help="Folder of a `train tts` run whose stage speak is done.")],
    out: Annotated[Path, typer.Option(help="Folder to write; what is there is gone on with.")],
    count: Annotated[int, typer.Option(help="Texts to speak; each gives one pair or none.")] = 1000,
    takes: Annotated[int, typer.Option(help="How often each text is spoken.")] = 4,
    margin: Annotated[float, typer.Option(help="Leave out pairs whose scores are nearer than this.")] = 0.05,
    texts: Annotated[
        Path | None, typer.Option(help="A text, one sentence a line; default: the training clips' own.")
    ] = None,
    model: CodecModel = "codec-24k",
    whisper: Annotated[Path | None, typer.Option(help="Judge of phones: Whisper base's encoder.")] = None,
    phone_head: Annotated[Path | None, typer.Option(help="Judge of phones: its head.")] = None,
    lexicon: Annotated[Path | None, typer.Option(help="Judge of phones: pronunciations, as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
) -> None:
    """Speak texts several times over and keep the best and the worst, for `train tts dpo`."""
    from .commands.make_pairs import pairs
    from .tts.pairs_spoken import Settings

    settings = Settings(count, takes, margin, seed)
    pairs(speech, run, out, settings, texts, model, whisper, phone_head, lexicon)


@train.command("tts")
def train_tts(
    stage: Annotated[str, typer.Argument(help="speak, dpo, distill, selfless, follow or export.")],
    speech: Annotated[list[Path], typer.Option(help="A folder made by `train speech`; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; what is there is resumed.")],
    steps: Annotated[int, typer.Option(help="Length of the stage.")] = 2000,
    rows: Annotated[int, typer.Option(help="Rows of a batch.")] = 4,
    time: Annotated[int, typer.Option(help="Frames of a row.")] = 160,
    picked: Annotated[int, typer.Option(help="Frames of a row whose acoustic codes are learned.")] = 64,
    rate: Annotated[float, typer.Option(help="Factor on the learning rates of the stage.")] = 1.0,
    model: CodecModel = "codec-24k",
    devices: Annotated[int, typer.Option(help="Processes or GPUs that share a batch.")] = 1,
    precision: Annotated[str, typer.Option(help="auto, 32-true or bf16-mixed.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that draw batches ahead.")] = 0,
    graph: Annotated[
        bool, typer.Option("--graph", help="Replay one captured step on a GPU; with --precision 32-true.")
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(help="Stages speak, distill, follow: begin with another run, or with a speaker."),
    ] = None,
    head_only: Annotated[
        bool, typer.Option("--head-only", help="Stage speak: train the flow head alone.")
    ] = False,
    guidance: Annotated[
        float | None,
        typer.Option(help="Stages distill, selfless, follow: what is baked in; default: the model's."),
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="Stage dpo: a folder made by `train pairs`.")] = None,
    head: Annotated[
        str | None, typer.Option(help="Export: the stage to write, to model-STAGE; default: the last one.")
    ] = None,
) -> None:
    """Train a speaker, one stage at a time."""
    from .tts.train import TTSRun, main_train_tts

    run = TTSRun(
        tuple(speech),
        out,
        steps=steps,
        rows=rows,
        time=time,
        picked=picked,
        rate=rate,
        codec=model,
        devices=devices,
        precision=precision,
        seed=seed,
        workers=workers,
        graph=graph,
        init=init,
        head_only=head_only,
        guidance=guidance,
        pairs=pairs,
        head=head,
    )
    main_train_tts(stage, run, typer.echo)
