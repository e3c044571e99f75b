"""Preferences of a speaker: the loss, what it does to a tiny model, and the stage."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric")

from cli_runner import run as rillvox
from small_speaker import random_speaker, small
from small_speech import roomy, write_pairs, write_toys
from tiny_codec import made

from rillvox.codec.checkpoint import save_model
from rillvox.errors import CheckpointError, ConfigError
from rillvox.training import loop
from rillvox.tts import preference
from rillvox.tts import train as training
from rillvox.tts.config import SPECIAL
from rillvox.tts.model import SpeakerModel
from rillvox.tts.own import load_own
from rillvox.tts.pairs import PairBatch, PairRows, with_takes
from rillvox.tts.preference import (
    BETA,
    FLOW_BETA,
    PreferenceTask,
    flow_error,
    named_likelihood,
    preference_loss,
)
from rillvox.tts.rows import SpeechBatch, SpeechRows
from rillvox.tts.speech import Speech
from rillvox.tts.tasks import Recipe
from rillvox.tts.train import RATES, TTSRun, averaged, main_train_tts

PLAIN = Recipe(dropout=0.0)


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toys(tmp_path_factory.mktemp("toys") / "speech")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("toys") / "pairs", 4)


@pytest.fixture(scope="module")
def takes(pairs: Path) -> SpeechBatch:
    rows = PairRows(pairs, roomy())
    return rows.batch(rows.pairs)


@pytest.fixture(scope="module")
def batch(folder: Path, takes: SpeechBatch) -> PairBatch:
    text = roomy().text
    assert text is not None
    rows = SpeechRows([Speech(folder)], text, 140, picked=16)
    return with_takes(rows.draw(4, np.random.default_rng(0)), takes)


def task_of(*, moved: float = 0.0) -> PreferenceTask:
    """A task whose policy has been moved away from its reference."""
    task = PreferenceTask(roomy(), PLAIN, model=random_speaker(roomy()).requires_grad_(True))
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for weight in task.model.parameters():
            weight += moved * torch.randn(weight.shape, generator=generator) * weight.std().nan_to_num(1)
    return task


def both_losses(task: PreferenceTask, takes: SpeechBatch) -> tuple[float, float]:
    torch.manual_seed(4)
    with torch.no_grad():
        figures = task.preferred(takes)[1]
    return float(figures["preference"]), float(figures["preference_flow"])


def test_what_has_not_moved_prefers_nothing(takes: SpeechBatch) -> None:
    named, flow = both_losses(task_of(), takes)
    assert named == flow == pytest.approx(math.log(2), abs=1e-6)
    assert max(both_losses(task_of(moved=0.3), takes)) != pytest.approx(math.log(2), abs=1e-2)


def test_other_noise_for_the_reference_would_be_seen(
    takes: SpeechBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        preference,
        "flow_error",
        lambda model, takes, hidden, values, time, noise: flow_error(
            model, takes, hidden, values, torch.rand_like(time), torch.randn_like(noise)
        ),
    )
    assert both_losses(task_of(), takes)[1] != pytest.approx(math.log(2), abs=1e-2)


def by_hand(task: PreferenceTask, takes: SpeechBatch) -> tuple[float, float]:
    """The formulas of the two papers, a frame at a time, in float64."""
    torch.manual_seed(4)
    values, times, noises = task._drawn(takes)
    named = np.zeros((2, len(takes.codes)))
    flow = np.zeros_like(named)
    for which, model in enumerate((task.model, task.reference.model)):
        owner = task if which == 0 else task.reference
        hidden = owner.hidden(takes)
        at = 0
        for row in range(len(takes.codes)):
            for frame in range(takes.codes.shape[1]):
                state = hidden[row, frame]
                semantic, advance = int(takes.semantic[row, frame]), int(takes.advance[row, frame])
                if semantic >= 0:
                    logits = model.flow.semantic_codebook_output(state)[: model.flow.semantic].numpy()
                    logits = logits.astype(np.float64)
                    named[which, row] += logits[semantic] - np.log(np.exp(logits).sum())
                if advance >= 0:
                    logits = model.text.advance(state).numpy().astype(np.float64)
                    named[which, row] += logits[advance] - np.log(np.exp(logits).sum())
                if semantic >= SPECIAL:
                    token = model.flow.condition(state[None], torch.tensor([semantic]))
                    x = (1 - times[at]) * noises[at] + times[at] * values[at]
                    v = model.flow.velocity(x[None], times[at][None], token)[0].numpy()
                    u = (values[at] - noises[at]).numpy()
                    flow[which, row] += np.square(v.astype(np.float64) - u).sum()
                    at += 1
        assert at == len(values)
    half = len(takes.codes) // 2
    (policy, ref), (d_policy, d_ref) = named, flow
    log_ratio = BETA * ((policy - ref)[:half] - (policy - ref)[half:])
    change = -FLOW_BETA * ((d_policy[:half] - d_policy[half:]) - (d_ref[:half] - d_ref[half:]))
    return tuple(float(np.log1p(np.exp(-each)).mean()) for each in (log_ratio, change))  # type: ignore[return-value]


@torch.no_grad()
def test_the_losses_are_those_of_the_papers(takes: SpeechBatch) -> None:
    task = task_of(moved=0.05)
    wanted = by_hand(task, takes)
    assert both_losses(task, takes) == pytest.approx(wanted, rel=1e-3)
    assert abs(wanted[0] - math.log(2)) > 1e-3
    assert abs(wanted[1] - math.log(2)) > 1e-3


def test_a_wide_gap_is_a_number_either_way() -> None:
    gap = torch.tensor([1e6, -1e6], requires_grad=True)
    for sign, wanted in ((1.0, 0.0), (-1.0, 2e5)):
        loss = preference_loss(sign * gap, BETA)
        assert float(loss.detach()) == pytest.approx(wanted)
        (grad,) = torch.autograd.grad(loss, gap)
        assert bool(grad.isfinite().all())


def test_what_was_forced_is_no_preference(takes: SpeechBatch) -> None:
    task = task_of(moved=0.3)
    forced = replace(takes, semantic=takes.semantic.clamp(max=-1), advance=torch.full_like(takes.advance, -1))
    assert not named_likelihood(task.model, forced, task.hidden(forced)).any()
    with pytest.raises(ConfigError, match="frames that sound"):
        task.compared(forced)
    # Moves count like codes.
    still = task.compared(replace(takes, advance=torch.full_like(takes.advance, -1))).named
    assert bool((task.compared(takes).named - still).abs().min() > 0)


def test_rounding_is_not_preferred(takes: SpeechBatch) -> None:
    task = task_of(moved=0.05)
    plain = both_losses(task, takes)
    with torch.autocast("cpu", torch.bfloat16):
        assert both_losses(task, takes) == plain


def test_the_better_take_becomes_likelier(batch: PairBatch) -> None:
    task = task_of().train()
    before = copy.deepcopy(task.reference.state_dict())
    learning = [weight for weight in task.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=3e-4)
    log: list[dict[str, float]] = []
    for step in range(12):
        torch.manual_seed(step)
        loss, figures = task(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.append({"loss": float(loss.detach()), **{k: float(v) for k, v in figures.items()}})
    assert log[-1]["loss"] < log[0]["loss"]
    for name in ("preference", "preference_flow"):
        assert log[0][name] == pytest.approx(math.log(2), abs=1e-5)
        assert log[-1][name] < log[0][name] - 0.02
    assert log[-1]["preferred"] == log[-1]["preferred_flow"] == 1.0
    assert log[-1]["better"] > log[-1]["worse"]
    assert all(torch.equal(value, before[name]) for name, value in task.reference.state_dict().items())


def test_the_plain_objective_is_beside(batch: PairBatch) -> None:
    losses: list[float] = []
    for weight in (0.0, 1.0):
        task = PreferenceTask(roomy(), PLAIN, model=random_speaker(roomy()), plain=weight).train()
        torch.manual_seed(0)
        losses.append(float(task(batch)[0].detach()))
    task = task_of().eval()
    plain = SpeechBatch(**{k: getattr(batch, k) for k in SpeechBatch.__dataclass_fields__})
    torch.manual_seed(0)
    alone = task(plain)
    assert losses[0] == pytest.approx(2 * math.log(2), abs=1e-5)
    assert losses[1] - losses[0] == pytest.approx(float(alone[0].detach()), abs=1e-4)


def test_what_cannot_be_preferred_is_told(batch: PairBatch, takes: SpeechBatch) -> None:
    spans = small(spans=True)
    with pytest.raises(ConfigError, match="before the flow head is distilled"):
        PreferenceTask(spans, PLAIN, model=SpeakerModel(spans))
    with pytest.raises(ConfigError, match=r"without dropout, got 0\.2"):
        PreferenceTask(roomy(), Recipe(), model=SpeakerModel(roomy()))
    task = task_of().train()
    plain = SpeechBatch(**{k: getattr(batch, k) for k in SpeechBatch.__dataclass_fields__})
    with pytest.raises(ConfigError, match="without pairs"):
        task(plain)
    for count in (0, 3):
        part = SpeechBatch(**{k: getattr(takes, k)[:count] for k in SpeechBatch.__dataclass_fields__})
        with pytest.raises(ConfigError, match=f"come in pairs, got {count}"):
            task.preferred(part)


def run_of(folder: Path, out: Path, **more: object) -> TTSRun:
    base = TTSRun((folder,), out, steps=4, rows=2, time=140, precision="32-true", config=roomy(), picked=16)
    return replace(base, **more)  # type: ignore[arg-type]


def figures(folder: Path) -> list[dict[str, float]]:
    return [{**json.loads(line), "seconds": 0} for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def spoken(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose stage `speak` is done."""
    out = tmp_path_factory.mktemp("run")
    main_train_tts("speak", run_of(folder, out), quiet)
    return out / "speak"


def after(spoken: Path, out: Path) -> Path:
    out.mkdir()
    (out / "speak").symlink_to(spoken)
    return out


def test_the_stage_was_cut_off_and_goes_on_as_if_it_had_not_been(
    folder: Path, pairs: Path, spoken: Path, tmp_path: Path
) -> None:
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

    whole = run_of(
        folder, after(spoken, tmp_path / "whole"), steps=6, pairs=pairs, save_seconds=-1.0, rate=20.0
    )
    cut = replace(whole, out=after(spoken, tmp_path / "cut"))
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "LoopConfig", EverySecond)
        main_train_tts("dpo", whole, lines.append)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(SpeechRows, "draw", breaks)
            with pytest.raises(KeyboardInterrupt):
                main_train_tts("dpo", cut, quiet)
        assert figures(cut.out / "dpo")[-1]["step"] == 2
        main_train_tts("dpo", cut, quiet)
    assert "4 pairs, each 3.0 times" in lines
    log = figures(whole.out / "dpo")
    assert [row["step"] for row in log] == [2, 4, 6]
    assert log == figures(cut.out / "dpo")
    assert {"preference", "preference_flow", "preferred", "semantic", "flow", "dev_semantic"} <= set(log[-1])
    before, learned = averaged(spoken), averaged(whole.out / "dpo")
    assert set(learned) == set(before)
    for name, value in learned.items():
        assert torch.equal(averaged(cut.out / "dpo")[name], value), name
    assert not torch.equal(learned["text.begin"], before["text.begin"])
    # What it is compared with is where it began.
    kept = torch.load(whole.out / "dpo" / loop.CHECKPOINT, weights_only=True)["task"]
    assert torch.equal(kept["reference.model.text.begin"], before["text.begin"])


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_later_stages_take_what_it_left(folder: Path, pairs: Path, spoken: Path, tmp_path: Path) -> None:
    save_model(made("80 ms").model, tmp_path / "codec")
    run = run_of(folder, after(spoken, tmp_path / "run"), codec=str(tmp_path / "codec"))
    main_train_tts("distill", replace(run, steps=1), quiet)
    main_train_tts("dpo", replace(run, pairs=pairs, rate=20.0), quiet)
    # A head that was distilled before would be exported with the old backbone.
    for stage in ("distill", "export"):
        with pytest.raises(CheckpointError, match="distilled from other weights"):
            main_train_tts(stage, run, quiet)
    (run.out / "distill").rename(run.out / "old")
    lines: list[str] = []
    main_train_tts("export", run, lines.append)
    assert lines[-1].endswith("the stage dpo")
    wanted = averaged(run.out / "dpo")["text.begin"]
    assert not torch.equal(wanted, averaged(spoken)["text.begin"])
    model, _ = load_own(run.out / "model")
    assert torch.equal(model.text.begin, wanted.half().float())
    main_train_tts("distill", replace(run, steps=1), quiet)
    assert torch.equal(averaged(run.out / "distill")["text.begin"], wanted)
    main_train_tts("export", run, lines.append)
    assert lines[-1].endswith("the stage distill")


def test_settings_that_a_stage_does_not_know(folder: Path, pairs: Path, tmp_path: Path) -> None:
    run = run_of(folder, tmp_path / "run")
    with pytest.raises(ConfigError, match="--pairs is missing"):
        main_train_tts("dpo", run, quiet)
    with pytest.raises(ConfigError, match="--pairs belongs to dpo, not to speak"):
        main_train_tts("speak", replace(run, pairs=pairs), quiet)
    for stage in ("dpo", "selfless", "export"):
        with pytest.raises(ConfigError, match=f"--init is known to speak, distill, follow, not to {stage}"):
            main_train_tts(stage, replace(run, init=tmp_path), quiet)
    with pytest.raises(ConfigError, match="--graph knows rows of one length"):
        main_train_tts("dpo", replace(run, pairs=pairs, graph=True), quiet)
    with pytest.raises(CheckpointError, match="run the stage `speak` first"):
        main_train_tts("dpo", replace(run, pairs=pairs), quiet)


def test_speaking_begins_with_another_runs_weights(folder: Path, spoken: Path, tmp_path: Path) -> None:
    run = run_of(folder, tmp_path / "run", steps=1, init=spoken.parent, rate=1e-6)
    main_train_tts("speak", run, quiet)
    for name, value in averaged(run.out / "speak").items():
        torch.testing.assert_close(value, averaged(spoken)[name], atol=1e-6, rtol=0, msg=name)


def test_the_command_line_knows_pairs_and_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, TTSRun]] = []
    monkeypatch.setattr(training, "main_train_tts", lambda stage, run, say: seen.append((stage, run)))
    common = ["--speech", tmp_path, "--out", tmp_path / "run"]
    assert rillvox("train", "tts", "dpo", *common, "--pairs", tmp_path / "p") == 0
    assert rillvox("train", "tts", "speak", *common, "--init", tmp_path / "i") == 0
    assert [(stage, run.pairs, run.init) for stage, run in seen] == [
        ("dpo", tmp_path / "p", None),
        ("speak", None, str(tmp_path / "i")),
    ]
    assert set(RATES) == set(training.RECIPES)
