"""The search for words: right by a plain reference, and the laws of a stream kept."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from laws.listening import Tiny, small, waveform
from oracles.plain_search import search

from rillvox import CheckpointError, ConfigError
from rillvox.asr.checkpoint import load_listener, save_native
from rillvox.asr.events import DelayChanged, Draft, Mark, Partial
from rillvox.asr.heard_phones import phones_of
from rillvox.asr.model import RealtimeASR
from rillvox.asr.phone_errors import phone_errors, phones_heard
from rillvox.asr.search import PHONES, SearchConfig, WordSearch
from rillvox.asr.stream import ASR
from rillvox.asr.vocabulary import Vocabulary
from rillvox.audio import Audio
from rillvox.kernels import numba_search
from rillvox.kernels.state import leaf
from rillvox.training.manifests import Clip
from rillvox.training.ngrams import count_ngrams
from rillvox.training.score import edits

# No word begins with a phone that one ends with: where two equal phones meet, their border could be anywhere.
SOUNDS = {
    "so": [[1, 2]],
    "some": [[1, 3, 4]],
    "sum": [[1, 3, 4]],
    "mat": [[9, 5, 6]],
    "matter": [[9, 5, 6, 7]],
    "a": [[10, 13], [11, 14]],
    "at": [[5, 6]],
    "tea": [[12, 8]],
}
TEXT = [
    s.split() for s in ("so a mat", "some tea at a mat", "a matter so", "some matter", "at tea so some tea")
]


@cache
def vocabulary() -> Vocabulary:
    return Vocabulary.build(SOUNDS, count_ngrams(TEXT, list(SOUNDS)))


def spoken(sentence: str, sure: float = 3.0, seed: int = 0, frames: int = 5) -> np.ndarray:
    """Phone scores [n, 40] of a sentence behind and before silence, with noise on them."""
    rng = np.random.default_rng(seed)
    phones = [0] * 6
    for word in sentence.split():
        for phone in SOUNDS[word][0]:
            phones += [phone] * int(rng.integers(2, frames + 1))
        phones += [0] * int(rng.choice([0, 0, 4]))
    phones += [0] * (60 - len(phones) % 4)
    logits = rng.normal(0, 1, (len(phones), PHONES)).astype(np.float32)
    logits[np.arange(len(phones)), phones] += sure
    return np.asarray(torch.from_numpy(logits).log_softmax(-1))


def written(
    phones: np.ndarray, delay: int, config: SearchConfig | None = None, block_steps: int = 1
) -> list[tuple[str, int, int, int]]:
    """What the module writes for one stream."""
    module = WordSearch(config or SearchConfig())
    module.learn(vocabulary())
    state = module.initial_state(2)
    out: list[tuple[str, int, int, int]] = []
    for step, four in enumerate(phones.reshape(-1, 4 * PHONES)):
        settles = (step + 1) % block_steps == 0
        (found,) = module.step(torch.from_numpy(four[None]), [delay], [settles], state, [1])
        out += [(word.text, *word.frames, step) for word in found]
    assert not leaf(state, "size")[0].any()  # the other slot heard nothing
    return out


@pytest.mark.parametrize("delay", [1, 3, 30])
@pytest.mark.parametrize("block_steps", [1, 4])
@pytest.mark.parametrize("seed", range(6))
def test_it_finds_what_the_plain_search_finds(seed: int, delay: int, block_steps: int) -> None:
    rng = np.random.default_rng(seed)
    sentence = " ".join(rng.choice(list(SOUNDS), 7))
    phones = spoken(sentence, sure=2.5, seed=seed)
    config = SearchConfig(tokens=2000)
    assert written(phones, delay, config, block_steps) == search(
        vocabulary(), config, phones, delay, block_steps
    )


def test_the_comparison_catches_another_number() -> None:
    phones = spoken("some matter so a tea", sure=2.5, seed=3)
    heard = written(phones, 3)
    other = search(vocabulary(), SearchConfig(language=4.0, word=3.0), phones, 3)
    assert heard != other


@pytest.mark.parametrize("delay", [1, 2, 6])
@pytest.mark.parametrize("block_steps", [1, 4])
def test_no_word_waits_longer_than_the_delay(delay: int, block_steps: int) -> None:
    module = WordSearch(SearchConfig())
    module.learn(vocabulary())
    state = module.initial_state(1)
    phones = spoken("so some mat at a tea", sure=2.0)
    for step, four in enumerate(phones.reshape(-1, 4 * PHONES)):
        settles = (step + 1) % block_steps == 0
        module.step(torch.from_numpy(four[None]), [delay], [settles], state, [0])
        tokens = {name: leaf(state, name)[0] for name in state}
        best = int(tokens["score"][: int(tokens["size"][0])].argmax())
        if settles and int(tokens["words"][best]):
            # What is now thought to have been said, and was not written, is not due yet.
            assert int(tokens["stop"][best, 0]) > 4 * (step + 1 - delay)


def test_a_sure_word_does_not_wait() -> None:
    phones = np.concatenate([spoken("tea matter", sure=9.0), spoken("", seed=1), spoken("", seed=2)])
    words = written(phones, 30)
    assert [word for word, *_ in words] == ["tea", "matter"]
    assert all(step + 1 < -(-end // 4) + 30 for _, _, end, step in words)
    late = written(phones, 30, SearchConfig(sure=1.0))
    assert [word for word, *_ in late] == ["tea", "matter"]
    assert late[0][3] > words[0][3]


def test_words_with_one_sound_are_told_apart_by_what_is_said_before() -> None:
    text = [s.split() for s in ("so sum", "so sum", "at some", "at some")]
    words = Vocabulary.build(SOUNDS, count_ngrams(text, list(SOUNDS)))
    module = WordSearch(SearchConfig())
    module.learn(words)
    for first, second in (("so", "sum"), ("at", "some")):
        state, found = module.initial_state(1), list[str]()
        for four in spoken(f"{first} sum", sure=6.0).reshape(-1, 4 * PHONES):
            (said,) = module.step(torch.from_numpy(four[None]), [6], [True], state, [0])
            found += [word.text for word in said]
        assert found == [first, second]


def test_a_full_history_gives_its_oldest_word_out() -> None:
    config = SearchConfig(history=17, sure=1.0)
    words = written(spoken(" ".join(["matter"] * 12), sure=6.0), 60, config)
    assert len(words) > 5
    waits = [step + 1 - -(-end // 4) for _, _, end, step in words]
    assert max(waits) < 30


def test_few_tokens_are_enough_where_speech_is_clear() -> None:
    phones = spoken("some tea at a mat", sure=8.0)
    few = written(phones, 3, SearchConfig(tokens=12))
    assert [word[:3] for word in few] == [word[:3] for word in written(phones, 3)]


def test_noise_is_no_word() -> None:
    rng = np.random.default_rng(0)
    flat = torch.from_numpy(rng.normal(0, 0.3, (400, PHONES)).astype(np.float32)).log_softmax(-1)
    assert written(np.asarray(flat), 3, SearchConfig(noise=0.0)) == []
    assert written(np.asarray(flat), 3, SearchConfig(noise=50.0)) != []


# A whole listener.


# Numbers of its own: the defaults are chosen anew with every model.
TALKATIVE = SearchConfig(
    tokens=768, language=1.08, word=2.0, phone=-0.25, noise=8.0, beam=17.0, sharpness=1.0, sure=0.95
)


@cache
def babble() -> Vocabulary:
    """Words of two phones, so that whatever is heard makes words; one ends with what another begins with."""
    sounds = {f"w{i}": [[i, (i + step) % 39 + 1]] for step in (0, 7) for i in range(1 + step, 40)}
    text = [[f"w{i % 39 + 1}", f"w{i * 7 % 39 + 1}"] for i in range(60)]
    return Vocabulary.build(sounds, count_ngrams(text, list(sounds)))


@cache
def listener(int8: bool = False) -> Tiny:
    """The toy of the other laws, its decoder replaced; random phones make words all the time."""
    base = small()
    config = replace(base.model.config, decoder=TALKATIVE, adapter_dim=None, most_delay_tokens=30)
    torch.manual_seed(3)
    model = RealtimeASR(config).eval()
    model.encoder.load_state_dict(copy.deepcopy(base.model.encoder.state_dict()))
    with torch.no_grad():
        for parameter in model.adapter.parameters():
            parameter.normal_(0, 0.8)
    assert isinstance(model.decoder, WordSearch)
    model.decoder.learn(babble())
    if int8:
        model.pack()
    return Tiny(model, base.tokenizer)


@cache
def whole(seed: int, delay_ms: int, int8: bool = False) -> tuple[str, tuple[tuple[str, float, float], ...]]:
    tiny = listener(int8)
    transcript = ASR(tiny.model, tiny.tokenizer).transcribe(Audio(waveform(2.9, seed), 16000), delay_ms)
    assert len(transcript.words) >= 2
    assert transcript.text == " ".join(word.text for word in transcript.words)
    return transcript.text, tuple((word.text, word.start, word.end) for word in transcript.words)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("delay_ms", [80, 240, 480, 2400])
@pytest.mark.parametrize("cut", [37, 1280, 4000, 10**9])
def test_any_cut_gives_the_whole_recordings_words(cut: int, delay_ms: int, int8: bool) -> None:
    tiny = listener(int8)
    session = ASR(tiny.model, tiny.tokenizer).stream(delay_ms=delay_ms)
    samples, text, words = waveform(2.9, 1), "", list[tuple[str, float, float]]()
    for at in range(0, len(samples), cut):
        session.feed(samples[at : at + cut])
        for event in session.poll():
            assert isinstance(event, Partial)
            text += event.text
            words += [(word.text, word.start, word.end) for word in event.words]
    transcript = session.finish()
    assert transcript.text.startswith(text)
    assert (transcript.text, tuple((w.text, w.start, w.end) for w in transcript.words)) == whole(
        1, delay_ms, int8
    )
    assert words == [(w.text, w.start, w.end) for w in transcript.words[: len(words)]]


@pytest.mark.parametrize("int8", [False, True])
def test_neighbours_change_nothing(int8: bool) -> None:
    tiny = listener(int8)
    seeds = [0, 1, 2, 3, 4, 5]
    recordings = [Audio(waveform(2.9, seed), 16000) for seed in seeds]
    for transcript, seed in zip(
        ASR(tiny.model, tiny.tokenizer).transcribe_many(recordings, 480, slots=3), seeds, strict=True
    ):
        assert transcript.text == whole(seed, 480, int8)[0]


def test_the_laws_catch_a_stream_that_is_not_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = listener()
    asr = ASR(tiny.model, tiny.tokenizer)
    room = asr.batch(1)
    monkeypatch.setattr("rillvox.asr.bank.Bank.copy_lane", lambda *_: None)
    texts: list[str] = []
    for _ in range(2):
        lane = room.open(480)
        lane.push(waveform(2.9, 1))
        lane.finish()
        room.drain()
        texts.append(lane.text)
        room.close(lane)
    assert texts[0] != texts[1]


def test_words_come_in_order_within_the_sound(tmp_path: Path) -> None:
    del tmp_path
    for seed in range(4):
        _, words = whole(seed, 480)
        ends = [0.0]
        for _, start, end in words:
            assert ends[-1] <= start < end <= 2.9
            ends.append(end)


def test_a_saved_session_goes_on_as_if_nothing_was(tmp_path: Path) -> None:
    tiny = listener()
    asr = ASR(tiny.model, tiny.tokenizer)
    samples = waveform(2.9, 1)
    session = asr.stream(delay_ms=480)
    session.feed(samples[:20000])
    session.poll()
    session.save(tmp_path / "s")
    resumed = asr.resume(tmp_path / "s")
    for one in (session, resumed):
        one.feed(samples[20000:])
        assert one.finish().text == whole(1, 480)[0]


def test_a_flush_leaves_the_stream_alone() -> None:
    tiny = listener()
    session = ASR(tiny.model, tiny.tokenizer).stream(delay_ms=2400)
    samples = waveform(2.9, 1)
    for at in range(0, len(samples), 8000):
        session.feed(samples[at : at + 8000])
        flushed = session.flush()
        assert flushed.startswith(session.text)
    assert session.finish().text == whole(1, 2400)[0]


def test_a_mark_comes_behind_the_text_of_its_sound() -> None:
    tiny = listener()
    session = ASR(tiny.model, tiny.tokenizer).stream(delay_ms=480)
    samples = waveform(2.9, 1)
    session.feed(samples[:24000])
    session.mark("here")
    session.feed(samples[24000:])
    events = session.poll()
    at = next(i for i, event in enumerate(events) if event == Mark("here"))
    before = [word for event in events[:at] if isinstance(event, Partial) for word in event.words]
    after = [word for event in events[at:] if isinstance(event, Partial) for word in event.words]
    session.finish()
    assert before
    assert all(word.end > 1.5 - 0.08 for word in after)


def test_the_delay_can_change_in_mid_stream() -> None:
    tiny = listener()
    session = ASR(tiny.model, tiny.tokenizer).stream(delay_ms=480)
    samples = np.concatenate([waveform(1.9, 1), np.zeros(24000, np.float32), waveform(1.9, 2)])
    session.feed(samples[:16000])
    session.poll()
    session.set_delay(1600, at="now")
    session.feed(samples[16000:])
    events = session.poll()
    assert any(isinstance(event, DelayChanged) and event.delay_ms == 1600 for event in events)
    assert session.delay_ms == 1600
    assert session.finish().words


def test_a_draft_runs_ahead() -> None:
    tiny = listener()
    session = ASR(tiny.model, tiny.tokenizer).stream(delay_ms=1600, draft_ms=240)
    samples, drafts = waveform(2.9, 1), list[str]()
    for at in range(0, len(samples), 1280):
        session.feed(samples[at : at + 1280])
        drafts += [event.text for event in session.poll() if isinstance(event, Draft)]
    assert any(drafts)
    session.finish()


def test_memory_stays_what_it_was() -> None:
    tiny = listener()
    room = ASR(tiny.model, tiny.tokenizer).batch(1)
    lane = room.open(480, keep=False)
    before = room.nbytes
    for seed in range(12):
        lane.push(waveform(2.9, seed))
        room.drain()
        lane.poll()
    assert room.nbytes == before
    assert not lane.text


def test_the_ears_own_phones_are_scored_against_the_dictionary() -> None:
    tiny = listener()
    assert babble().sounds()["w2"] == [2, 3]
    heard = phones_heard(tiny.model, waveform(2.9, 1), 16)
    assert set(heard) <= {str(phone) for phone in range(1, PHONES)}
    assert all(one != other for one, other in pairwise(heard))
    # With times, and what is heard behind the recording's end left out.
    timed = phones_of(tiny.model, waveform(2.9, 1))
    longer = phones_heard(tiny.model, waveform(2.9, 1), max(tiny.model.config.encoder.blocks))
    assert [str(phone.phone) for phone in timed] == longer[: len(timed)]
    assert len(timed) > 5
    assert timed[-1].end <= 2.9 + 0.02
    clips = [Clip(name, "", "w2 w1", corpus=name) for name in ("one", "other")]
    report = phone_errors(tiny.model, clips, ["w2 w1", "w2 elsewhere"], lambda _: waveform(2.9, 1), 480)
    assert report is not None
    assert report["left_out"] == 1
    assert set(report["corpora"]) == {"one", "all"}
    assert report["corpora"]["all"]["length"] == 4
    expected = edits(["2", "3", "1", "2"], heard)
    assert report["corpora"]["all"]["rate"] == expected.errors / 4
    assert phone_errors(small().model, clips, ["w2 w1"] * 2, lambda _: waveform(2.9, 1), 480) is None


# Files.


def test_a_model_folder_keeps_its_words(tmp_path: Path) -> None:
    tiny = listener()
    save_native(tiny.model, tiny.tokenizer, tmp_path / "m")
    model, _ = load_listener(tmp_path / "m")
    assert (
        model.config == replace(tiny.model.config, name="m")
        or model.config.decoder == tiny.model.config.decoder
    )
    assert isinstance(model.decoder, WordSearch)
    assert model.decoder.vocabulary.words == babble().words
    text = ASR(model, tiny.tokenizer).transcribe(Audio(waveform(2.9, 1), 16000), 480).text
    assert text.split()  # its language is rounded to 16 bits, so a near-tie may turn
    again = tmp_path / "again"
    save_native(model, tiny.tokenizer, again)
    assert (again / "words.safetensors").read_bytes() == (tmp_path / "m" / "words.safetensors").read_bytes()


def test_a_folder_without_words_says_so(tmp_path: Path) -> None:
    tiny = listener()
    save_native(tiny.model, tiny.tokenizer, tmp_path / "m")
    (tmp_path / "m" / "words.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"words\.safetensors: cannot be read"):
        load_listener(tmp_path / "m")


def test_damaged_words_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.safetensors"
    vocabulary().save(path)
    whole_file = path.read_bytes()
    for cut in (0, 7, 100, len(whole_file) - 3):
        path.write_bytes(whole_file[:cut])
        with pytest.raises(CheckpointError, match="cannot be read"):
            Vocabulary.load(path)
    tree, language = vocabulary().tree, vocabulary().language
    broken = [
        Vocabulary(list(SOUNDS), tree._replace(first=tree.first + 100), language),
        Vocabulary(list(SOUNDS), tree._replace(first_end=tree.first_end[:-1]), language),
        Vocabulary(list(SOUNDS), tree._replace(ends=tree.ends + 7), language),
        Vocabulary(list(SOUNDS), tree, language._replace(pair_word=language.pair_word + 7)),
        Vocabulary(list(SOUNDS), tree, language._replace(single=language.single[1:])),
        Vocabulary(list(SOUNDS)[1:], tree, language),
    ]
    for one in broken:
        one.save(path)
        with pytest.raises(CheckpointError, match="damaged"):
            Vocabulary.load(path)


def test_numbers_that_no_search_can_have_are_refused() -> None:
    for wrong in (
        {"tokens": 0},
        {"tokens": 4097},
        {"history": 16},
        {"sure": 0.0},
        {"beam": -1.0},
        {"language": 0.0},
    ):
        with pytest.raises(ConfigError, match="search"):
            replace(SearchConfig(), **wrong)
    with pytest.raises(ConfigError, match="no pronunciation"):
        Vocabulary.build({"so": []}, count_ngrams([["so"]], ["so"]))
    with pytest.raises(ConfigError, match="a language of 8"):
        Vocabulary.build({"so": [[1]]}, vocabulary().language)


def test_the_table_of_one_frame_holds_all_tokens() -> None:
    assert SearchConfig().tokens * 2 < numba_search.CANDIDATES < numba_search.TABLE
