"""Training of a speaker, on a language made up for it, in which every token is one code."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric")

from small_speaker import random_speaker, small
from tiny_codec import made

from rillvox.errors import CheckpointError, ConfigError
from rillvox.training import loop
from rillvox.tts import train as training
from rillvox.tts.aligned import pointers, steps_of, windows
from rillvox.tts.config import EMPTY, END, SPECIAL
from rillvox.tts.model import SpeakerModel
from rillvox.tts.own import load_own, save_own
from rillvox.tts.rows import SPOKEN_FRAMES, VOICE_FRAMES, SpeechBatch, SpeechRows
from rillvox.tts.speech import Speech, Spoken
from rillvox.tts.tasks import TTSTask
from rillvox.tts.tokens import FIRST, PAUSE, STOP
from rillvox.tts.train import TTSRun, averaged, main_train_tts
from rillvox.tts.undistilled import undistilled

TIME = 110
HELD_OUT = "human_dev"


def quiet(_: str) -> None:
    pass


def write_speech(folder: Path, held_out: bool = True) -> Path:
    """Frames say token k as the semantic code k, now and then after another token."""
    rng = np.random.default_rng(1)
    clips: list[Spoken] = []
    codes: list[np.ndarray] = []
    teacher: list[np.ndarray] = []
    first = 0
    for number in range(16):
        frames = int(rng.integers(20, 40))
        said = rng.integers(1, 20, frames)
        corpus = HELD_OUT if held_out and number >= 12 else "toys"
        own = np.repeat((said % 20)[:, None], 37, 1)
        own[:, 0] = said
        # A held-out clip gives itself away by its last code.
        own[:, 36] = 20 if corpus == HELD_OUT else 0
        tokens: list[int] = []
        starts: list[float] = []
        for frame, token in enumerate(said.tolist()):
            more = [30, token] if rng.random() < 0.3 else [token]
            tokens += more
            starts += [float(frame)] * len(more)
        name = said.copy()
        name[rng.random(frames) < 0.1] = -1
        clips.append(
            Spoken(
                f"c{number}", corpus, f"s{number % 2}", 24000, first, frames,
                (*tokens, STOP), (*starts, float(frames)),
            )
        )  # fmt: skip
        codes.append(own)
        teacher.append(name)
        first += frames
    folder.mkdir()
    np.save(folder / "codes.npy", np.concatenate(codes).astype(np.int16))
    np.save(folder / "teacher.npy", np.concatenate(teacher).astype(np.int16))
    (folder / "clips.jsonl").write_text("".join(json.dumps(asdict(clip)) + "\n" for clip in clips))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech(tmp_path_factory.mktemp("toys") / "speech")


def rows_of(folder: Path, held_out: bool = False) -> SpeechRows:
    text = small().text
    assert text is not None
    return SpeechRows([Speech(folder)], text, TIME, picked=16, held_out=held_out)


@pytest.fixture(scope="module")
def batch(folder: Path) -> SpeechBatch:
    return rows_of(folder).draw(64, np.random.default_rng(5))


def test_of_a_single_clip_the_begin_is_the_voice(tmp_path: Path) -> None:
    frames, count = 90, 3
    folder = tmp_path / "speech"
    folder.mkdir()
    # Frame k of clip n is said by token 40 + k % 30; acoustic levels k % 20 + 1, semantic code 100 n + k.
    codes = np.zeros((count * frames, 37), np.int16)
    codes[:, 1:] = (np.arange(count * frames) % frames % 20 + 1)[:, None]
    codes[:, 0] = np.arange(count * frames) % frames + 100 * (np.arange(count * frames) // frames)
    np.save(folder / "codes.npy", codes)
    np.save(folder / "teacher.npy", codes[:, 0])
    tokens = (*(FIRST + 1 + k % 30 for k in range(frames)), STOP)
    starts = (*(k + 0.25 for k in range(frames)), float(frames))
    clips = [
        Spoken(f"c{n}", "toys", f"s{n}", 24000, n * frames, frames, tokens, starts) for n in range(count)
    ]
    short = Spoken("short", "toys", "short", 24000, 0, 30, (*tokens[:30], STOP), (*starts[:30], 30.0))
    (folder / "clips.jsonl").write_text("".join(json.dumps(asdict(clip)) + "\n" for clip in [*clips, short]))
    batch = rows_of(folder).draw(32, np.random.default_rng(2))
    ended = 0
    for row in range(32):
        start = int(batch.voice[row].sum())
        voice = batch.codes[row, :start, 0] - SPECIAL
        said = batch.semantic[row][batch.semantic[row] >= SPECIAL] - SPECIAL
        assert 1 <= start <= VOICE_FRAMES[1]
        # One after the other in the same clip, the voice right before what is said.
        both = torch.cat([voice, said]).tolist()
        assert both == list(range(both[0], both[0] + len(both)))
        assert both[0] // 100 == both[-1] // 100
        clip, at = divmod(int(said[0]), 100)
        assert clip in (0, 1, 2)
        assert VOICE_FRAMES[0] <= at <= frames - SPOKEN_FRAMES
        told = batch.tokens[row, start : start + len(said), 3]
        assert told.tolist() == [FIRST + 1 + (at + k) % 30 for k in range(len(said))]
        ended += int((batch.semantic[row] == END).any())
    assert ended > 10
    # The short one alone is none.
    (folder / "clips.jsonl").write_text(json.dumps(asdict(short)) + "\n")
    with pytest.raises(ConfigError, match="no speaker of the speech has two clips, or one that is long"):
        rows_of(folder)


def test_a_batch_is_the_same_for_the_same_generator(folder: Path, batch: SpeechBatch) -> None:
    again, other = (rows_of(folder).draw(64, np.random.default_rng(seed)) for seed in (5, 6))
    for name in batch.__dataclass_fields__:
        assert torch.equal(getattr(batch, name), getattr(again, name)), name
    assert not torch.equal(batch.codes, other.codes)


def test_a_batch_holds_a_voice_then_what_it_says(batch: SpeechBatch) -> None:
    ended = joined = 0
    for row in range(64):
        voice, first = batch.voice[row], batch.first[row]
        start = int(voice.sum())
        assert VOICE_FRAMES[0] <= start <= VOICE_FRAMES[1]
        assert bool(voice[:start].all())
        assert first.nonzero().flatten().tolist() == [start]
        assert not batch.tokens[row, :start].any()
        # The voice is never damaged, and the frame before the first is nothing.
        assert bool((batch.codes[row, :start] >= SPECIAL).all())
        assert not batch.codes[row, start].any()
        told = batch.advance[row] >= 0
        frames = int(told.sum())
        assert bool(told[start : start + frames].all())
        acoustic = batch.acoustic[row, start : start + frames]
        truth = acoustic[:, 0]  # of the frames, whatever was fed: the toys' code but for its 20
        known = batch.semantic[row, start : start + frames] >= 0
        named = batch.semantic[row, start : start + frames][known] - SPECIAL
        assert torch.equal(named % 20, truth[known])
        assert 0.5 < known.float().mean() <= 1
        # A frame says the token that begins in it, and is fed the frame before; damage is a small part.
        end = (batch.semantic[row] == END).nonzero().flatten().tolist()
        if end:
            ended += 1
            assert end == [start + frames]
            assert batch.tokens[row, end[0], 3] == STOP
        else:
            assert start + frames + 1 == TIME
        assert not (batch.semantic[row, start + frames + 1 :] >= 0).any()
        fed = batch.codes[row, start + 1 : start + 1 + frames, 1:36] - SPECIAL
        right = (fed == acoustic[: len(fed), :35]).float().mean()
        assert right > 0.5
        said = batch.tokens[row, start : start + frames, 3]
        assert torch.equal(said[known] % 20, truth[known])
        joined += int((batch.tokens[row] == PAUSE).any())
        picked = batch.picked[row]
        assert bool(((picked >= start) & (picked < start + frames)).all())
        assert len(set(picked.tolist())) == min(16, frames)
    assert 10 < ended < 64
    assert joined > 5


def test_what_is_fed_is_damaged_and_what_is_learned_is_not(folder: Path, batch: SpeechBatch) -> None:
    speech = rows_of(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpeechRows, "_damage", staticmethod(lambda *_: None))
        whole = speech.draw(64, np.random.default_rng(5))
    for name in batch.__dataclass_fields__:
        same = torch.equal(getattr(batch, name), getattr(whole, name))
        assert same == (name != "codes"), name
    changed = (batch.codes != whole.codes).float()
    fed = ~batch.voice & (whole.codes[..., 0] > 0)
    assert 0.05 < changed[fed].mean() < 0.3
    assert not changed[~fed].any()
    # Undamaged, what is fed at a place is what was to be spoken at the place before.
    for row in range(64):
        start = int(whole.voice[row].sum())
        frames = int((whole.advance[row] >= 0).sum())
        assert torch.equal(
            whole.codes[row, start + 1 : start + 1 + frames, 1:] - SPECIAL,
            whole.acoustic[row, start : start + frames],
        )
    # Frames that are empty have no code at all.
    empty = (batch.codes == EMPTY).all(-1) & fed
    assert 0.01 < empty.sum() / fed.sum() < 0.1


def test_places_in_the_text_are_those_of_the_clips(folder: Path) -> None:
    speech = Speech(folder)
    text = small().text
    assert text is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rillvox.tts.rows.JOINED", 0.0)
        batch = rows_of(folder).draw(24, np.random.default_rng(2))
    for row in range(24):
        start = int(batch.voice[row].sum())
        frames = int((batch.advance[row] >= 0).sum())
        levels = batch.acoustic[row, start : start + frames, 0].numpy()
        (clip,) = [
            clip
            for clip in speech.clips
            if clip.frames >= frames
            and np.array_equal(speech.codes[clip.first : clip.first + frames, 1], levels)
        ]
        place = pointers(np.array(clip.starts), frames + 1, text.most)
        moved, age = steps_of(place)
        span = slice(start, start + frames + 1)
        assert (
            batch.tokens[row, span].numpy().tolist() == windows(np.array(clip.tokens), place, text).tolist()
        )
        assert batch.moved[row, span].tolist() == moved.tolist()
        assert batch.age[row, span].tolist() == age.tolist()
        assert batch.advance[row, start : start + frames].tolist() == moved[1:].tolist()
        whole = frames == clip.frames and start + frames < TIME
        assert bool((batch.semantic[row] == END).any()) == whole


def test_what_is_held_out_is_never_trained_on(folder: Path, tmp_path: Path) -> None:
    training_rows, judged = rows_of(folder), rows_of(folder, held_out=True)
    for number in range(4):
        batch = training_rows.draw(16, np.random.default_rng(number))
        assert int(batch.acoustic[..., 35].max()) == 0
        assert int(batch.codes[..., 36].max()) <= SPECIAL
    batch = judged.draw(16, np.random.default_rng(0))
    assert set(batch.acoustic[batch.advance >= 0][:, 35].tolist()) == {20}
    # Nor is it damaged.
    assert not ((batch.codes == EMPTY).all(-1) & batch.voice).any()
    none = write_speech(tmp_path / "all", held_out=False)
    assert not rows_of(none, held_out=True).there
    clips = (none / "clips.jsonl").read_text().replace('"toys"', f'"{HELD_OUT}"')
    (none / "clips.jsonl").write_text(clips)
    assert Speech(none).training() == []
    with pytest.raises(ConfigError, match="no speaker"):
        rows_of(none)


def run_of(folder: Path, out: Path, **more: object) -> TTSRun:
    config = small()
    base = TTSRun(
        (folder,), out, steps=60, rows=6, time=TIME, precision="32-true", rate=6.0, config=config, picked=16
    )
    return replace(base, **more)  # type: ignore[arg-type]


def figures(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_the_stages_learn_one_after_the_other(folder: Path, tmp_path: Path) -> None:
    run = run_of(folder, tmp_path / "run")
    for stage in ("distill", "export"):
        with pytest.raises(CheckpointError, match="run the stage `speak` first"):
            main_train_tts(stage, replace(run, codec="codec-24k"), quiet)
    main_train_tts("speak", run, quiet)
    log = figures(run.out / "speak")
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    for name in ("semantic", "advance", "flow"):
        assert log[-1][name] < log[0][name], name
    # What is said is in the text: with another's it is worse.
    assert log[-1]["dev_wrong_text"] > log[-1]["dev_semantic"] + 0.1
    before = averaged(run.out / "speak")
    for stage in ("selfless", "distill"):
        main_train_tts(stage, replace(run, steps=4, rows=2), quiet)
        after = averaged(run.out / stage)
        assert set(after) == {*before, "flow.span_projection.weight"}
        changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
        assert changed
        assert all(name.startswith("flow.") for name in changed)
        assert ("self" in figures(run.out / stage)[-1]) == (stage == "distill")
        assert "dev_wrong_text" not in figures(run.out / stage)[-1]
    # What follows begins with the head that was distilled, not with its teacher.
    main_train_tts("follow", replace(run, steps=1, rows=2, rate=1e-6), quiet)
    followed = averaged(run.out / "follow")
    changed = {name for name, value in after.items() if not torch.equal(followed[name], value)}
    assert changed
    assert all(name.startswith("flow.") for name in changed)
    assert after["flow.span_projection.weight"].abs().max() > 1e-6
    for name in changed:
        torch.testing.assert_close(followed[name], after[name], atol=1e-8, rtol=0, msg=name)
    assert figures(run.out / "follow")[-1].keys() >= {"missed", "dev_missed", "dev_apart"}
    # Another run's distilled head is where a head may begin.
    again = replace(run, out=tmp_path / "again", steps=1, rows=2, rate=1e-6)
    shutil.copytree(run.out / "speak", again.out / "speak")
    main_train_tts("distill", replace(again, init=run.out), quiet)
    for name, value in averaged(again.out / "distill").items():
        torch.testing.assert_close(value, followed[name], atol=1e-5, rtol=0, msg=name)
    with pytest.raises(CheckpointError, match="no run with a stage `distill` or `follow`, and no speaker"):
        main_train_tts("follow", replace(run, out=tmp_path / "third"), quiet)
    other = SpeakerModel(small(named=False))
    with pytest.raises(CheckpointError, match="trained another shape"):
        training._fill(other, run.out / "speak")


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_a_speaker_whose_training_is_gone_gets_another_head(folder: Path, tmp_path: Path) -> None:
    from rillvox.codec.checkpoint import save_model
    from rillvox.codec.stream import Codec

    save_model(made("80 ms").model, tmp_path / "codec")
    fingerprint = Codec.load(tmp_path / "codec", weights="float32").fingerprint
    distilled = random_speaker(small(spans=True))
    save_own(distilled, tmp_path / "shipped", "../codec", fingerprint)
    stored = load_own(tmp_path / "shipped")[0]
    run = run_of(folder, tmp_path / "run", steps=40, rows=4, init=tmp_path / "shipped", head_only=True)
    main_train_tts("speak", run, quiet)
    log = figures(run.out / "speak")
    assert log[-1]["flow"] < 0.95 * log[0]["flow"]
    found = averaged(run.out / "speak")
    assert "flow.span_projection.weight" not in found
    changed = {
        name
        for name, value in undistilled(stored).state_dict().items()
        if not torch.equal(found[name], value)
    }
    assert "flow.time_projection.weight" in changed
    assert all(name.startswith("flow.") and "semantic" not in name for name in changed)
    # Its distilled head is where the next one begins, and is heard in what that gives at once.
    again = replace(run, steps=1, rate=1e-6, rows=2, head_only=False, guidance=1.0)
    main_train_tts("distill", again, quiet)
    after = averaged(run.out / "distill")
    for name, value in stored.state_dict().items():
        wanted = value if name.startswith("flow.") else found[name]
        torch.testing.assert_close(after[name], wanted, atol=1e-5, rtol=0, msg=name)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("stage", "least", "most"), [("distill", 0, 0.8), ("selfless", 0.95, 1.05), ("follow", 0, 0.5)]
)
def test_one_step_gets_where_many_do_and_not_without_what_makes_it(
    stage: str, least: float, most: float, batch: SpeechBatch
) -> None:
    """How far a single step is from the teacher's many, as a share of that before: the negative control."""
    teacher = random_speaker(small())
    with torch.no_grad():
        teacher.flow.acoustic_codebook_output.weight.mul_(2)
    model = SpeakerModel(small(spans=True))
    model.load_state_dict({**teacher.state_dict(), "flow.span_projection.weight": torch.zeros(32, 32)})
    recipe = replace(training.RECIPES[stage], guidance=1.5, draws=1)
    task = TTSTask(model.config, recipe, model=model, teacher=teacher.flow)
    few = SpeechBatch(*(getattr(batch, name)[:8] for name in SpeechBatch.__dataclass_fields__))

    def apart() -> float:
        torch.manual_seed(9)
        return float(task.apart(few, 1))

    before = apart()
    optimizer = torch.optim.Adam([p for p in task.parameters() if p.requires_grad], 3e-3)
    torch.manual_seed(0)
    for _ in range(60):
        loss, _ = task(few)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert least * before <= apart() < most * before


def test_a_step_that_follows_begins_where_the_head_has_come_to(
    batch: SpeechBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a velocity that is the place itself, the way from x is x times e to the power of its time."""
    config = small(spans=True)
    task = TTSTask(
        config, training.RECIPES["follow"], model=SpeakerModel(config), teacher=SpeakerModel(small()).flow
    )
    assert task.teacher is not None
    asked: list[tuple[torch.Tensor, ...]] = []

    def map_of(x: torch.Tensor, time: torch.Tensor, token: torch.Tensor, span: torch.Tensor) -> torch.Tensor:
        asked.append((x, time, span))
        return x * ((span.exp() - 1) / span.clamp(min=1e-6))[:, None]

    monkeypatch.setattr(task.model.flow, "velocity", map_of)
    monkeypatch.setattr(task.teacher, "velocity", lambda x, time, token: x)
    _, found = task(batch)
    assert float(found["missed"]) < 1e-2  # eight of Euler's steps are not the exact way
    (start, zero, first), (x, begin, span) = asked
    assert not zero.any()
    assert torch.equal(first, begin)
    torch.testing.assert_close(x, start * begin.exp()[:, None])
    assert float((begin > 0.4).float().mean()) > 0.2
    # Steps of a half, a third, a quarter of the way, or of all of it; where each begins, it ends in time.
    assert float((begin + span).max()) <= 1
    assert len((begin * 12).round().unique()) == 6
    assert 0.6 < float(start.std()) < 0.8


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("stage", ["distill", "follow", "speak"])
def test_what_learns_a_head_has_no_weight_that_learns_nothing(stage: str, batch: SpeechBatch) -> None:
    """Processes that share a batch would wait for its gradient."""
    config = small(spans=stage != "speak")
    recipe = replace(training.RECIPES[stage], head_only=stage == "speak")
    teacher = None if stage == "speak" else SpeakerModel(small()).flow
    task = TTSTask(config, recipe, model=SpeakerModel(config), teacher=teacher)
    task(batch)[0].backward()
    idle = [name for name, p in task.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle
    assert all(
        p.grad is None for name, p in task.named_parameters() if "flow" not in name and "doubt" not in name
    )


def test_guidance_is_what_a_distilled_head_has_learned(batch: SpeechBatch) -> None:
    config = small(spans=True)
    missed: dict[float, float] = {}
    for guidance in (1.0, 1.00001, 3.0):
        torch.manual_seed(0)
        recipe = replace(training.RECIPES["distill"], guidance=guidance)
        task = TTSTask(config, recipe, model=SpeakerModel(config), teacher=SpeakerModel(small()).flow)
        torch.manual_seed(1)
        missed[guidance] = float(task(batch)[1]["diagonal"])
    # Without guidance one branch is enough, and says the same as two.
    assert missed[1.0] == pytest.approx(missed[1.00001], rel=1e-3)
    assert missed[3.0] > 1.05 * missed[1.0]


def test_an_exported_speaker_is_loaded(folder: Path, tmp_path: Path) -> None:
    from rillvox.codec.checkpoint import save_model

    save_model(made("80 ms").model, tmp_path / "codec")
    run = run_of(folder, tmp_path / "run", steps=1, rows=2, codec=str(tmp_path / "codec"))
    main_train_tts("speak", run, quiet)
    main_train_tts("export", run, quiet)
    model, _ = load_own(run.out / "model")
    assert not model.config.flow.spans
    wanted = averaged(run.out / "speak")["text.begin"]
    torch.testing.assert_close(model.text.begin, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_the_head_before_distilling_can_be_exported_too(folder: Path, tmp_path: Path) -> None:
    from rillvox.codec.checkpoint import save_model
    from rillvox.tts.speaker import TTS

    save_model(made("80 ms").model, tmp_path / "codec")
    run = run_of(folder, tmp_path / "run", steps=1, rows=2, codec=str(tmp_path / "codec"))
    main_train_tts("speak", run, quiet)
    main_train_tts("distill", run, quiet)
    main_train_tts("follow", replace(run, rate=1000.0), quiet)
    for head, name in ((None, "model"), ("distill", "model-distill"), ("speak", "model-speak")):
        main_train_tts("export", replace(run, head=head), quiet)
        tts = TTS.load(run.out / name)
        assert tts.model.config.flow.spans == (head != "speak")
        assert tts.model.config.flow.steps == (
            small().flow.steps if head == "speak" else training.DISTILLED_STEPS
        )
        wanted = averaged(run.out / (head or "follow"))["flow.acoustic_codebook_output.weight"]
        found = load_own(run.out / name)[0].flow.acoustic_codebook_output.weight
        torch.testing.assert_close(found, wanted, atol=2e-3, rtol=0)
    for stage, head in (("speak", "speak"), ("export", "dance")):
        with pytest.raises(ConfigError, match=r"--head is known to export alone: speak, .*; got"):
            main_train_tts(stage, replace(run, head=head), quiet)
    with pytest.raises(CheckpointError, match="run the stage `selfless` first"):
        main_train_tts("export", replace(run, head="selfless"), quiet)
    followed = run.out / "follow" / "checkpoint.pt"
    os.utime(followed, (0, 0))  # distilled anew since
    said: list[str] = []
    main_train_tts("export", run, said.append)
    assert said[0].startswith("the stage follow is older than distill")
    assert said[-1].endswith("the head of the stage distill")


def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not_been(folder: Path, tmp_path: Path) -> None:
    real = SpeechRows.draw
    calls = 0

    def breaks(self: SpeechRows, rows: int, rng: np.random.Generator) -> SpeechBatch:
        nonlocal calls
        calls += 1
        if calls == 5 and not self.held_out:
            raise KeyboardInterrupt
        return real(self, rows, rng)

    class EverySecond(loop.LoopConfig):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **{**kwargs, "log_every": 2})  # type: ignore[arg-type]

    whole = run_of(folder, tmp_path / "whole", steps=6, rows=2, save_seconds=-1.0, evaluate_every=2)
    cut = replace(whole, out=tmp_path / "cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "LoopConfig", EverySecond)
        main_train_tts("speak", whole, quiet)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(SpeechRows, "draw", breaks)
            with pytest.raises(KeyboardInterrupt):
                main_train_tts("speak", cut, quiet)
        assert figures(cut.out / "speak")[-1]["step"] == 2
        main_train_tts("speak", cut, quiet)
    one, other = ([{**row, "seconds": 0} for row in figures(run.out / "speak")] for run in (whole, cut))
    assert [row["step"] for row in one] == [2, 4, 6]
    assert one == other
    for name, value in averaged(whole.out / "speak").items():
        assert torch.equal(averaged(cut.out / "speak")[name], value), name


def test_stages_and_folders_that_are_none(folder: Path, tmp_path: Path) -> None:
    run = run_of(folder, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"stage must be speak, .*export, got 'dance'"):
        main_train_tts("dance", run, quiet)
    with pytest.raises(ConfigError, match="--speech is missing"):
        main_train_tts("speak", replace(run, speech=()), quiet)
    with pytest.raises(ConfigError, match="no speech as codes here"):
        main_train_tts("speak", replace(run, speech=(tmp_path,)), quiet)
    with pytest.raises(ConfigError, match="--graph needs"):
        main_train_tts("speak", replace(run, graph=True, precision="auto"), quiet)
    with pytest.raises(ConfigError, match="--head-only is known to speak, not to distill"):
        main_train_tts("distill", replace(run, head_only=True), quiet)
    with pytest.raises(
        ConfigError, match="--guidance is known to distill, selfless and follow, not to speak"
    ):
        main_train_tts("speak", replace(run, guidance=2.0), quiet)
    with pytest.raises(
        CheckpointError, match=r"nowhere: no run with a stage `speak`, and no speaker .nowhere: no such"
    ):
        main_train_tts("speak", replace(run, init="nowhere"), quiet)
    with pytest.raises(ValueError, match="text beside their frames"):
        TTSTask(replace(small(), text=None), training.RECIPES["speak"])
