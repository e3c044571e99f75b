"""tekken.json, encoding against a merge loop written from the definition, and text out of a stream."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from rillvox.errors import CheckpointError, TextError
from rillvox.tekken import STREAMING_PAD, STREAMING_WORD, IncrementalDecoder, Tekken

# The shape of the released pattern: words with one leading sign, digits one by one, runs of signs, spaces.
PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^ \n\p{L}\p{N}]+[\r\n/]*| *[\r\n]+| +(?= )| +"
)
MERGES = [
    b"th",
    b"he",
    b" t",
    b" th",
    b"the",
    b" the",
    b"\xc3\xa9",
    b" \xd0",
    b"an",
    b"and",
    b" and",
    b"aa",
    b"aaaa",
]
MERGES += ["日".encode()[:2], "日".encode(), b"in", b"ing", b" a", b"!!", b"er"]
NAMES = {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 11, STREAMING_PAD: 32, STREAMING_WORD: 33}
AUDIO: dict[str, Any] = {"streaming_n_left_pad_tokens": 32, "transcription_delay_ms": 480, "frame_rate": 12.5}
BYTES = [bytes([b]) for b in range(256)]

TEXT = st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "Zs"), max_codepoint=0x2FFF))
LIKELY = st.text(st.sampled_from(list(" theandgr é日А!\n1a")))


@pytest.fixture(scope="module")
def tekken() -> Tekken:
    return Tekken.build(BYTES + MERGES, PATTERN, NAMES, AUDIO)


def merge_by_rank(tekken: Tekken, text: str) -> list[int]:
    """Byte-level BPE from its definition: in each split, join the pair of lowest rank until none is left."""
    ranks = {piece: rank for rank, piece in enumerate(tekken.pieces)}
    ids: list[int] = []
    for word in regex.findall(tekken.pattern, text):
        parts = [bytes([byte]) for byte in word.encode()]
        while True:
            pairs = [(ranks.get(a + b, 1 << 30), i) for i, (a, b) in enumerate(pairwise(parts))]
            if not pairs or min(pairs)[0] == 1 << 30:
                break
            at = min(pairs)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [tekken.n_special + ranks[part] for part in parts]
    return ids


@given(text=TEXT | LIKELY)
def test_encoding_is_the_merge_loop(tekken: Tekken, text: str) -> None:
    assert tekken.encode(text) == merge_by_rank(tekken, text)


def test_the_merge_loop_notices_a_swapped_rank(tekken: Tekken) -> None:
    swapped = list(tekken.pieces)
    swapped[256], swapped[257] = swapped[257], swapped[256]
    other = Tekken.build(swapped, PATTERN, NAMES, AUDIO)
    assert other.decode(other.encode("xthe")) == "xthe"
    assert other.encode("xthe") == merge_by_rank(other, "xthe")
    assert other.encode("xth") != merge_by_rank(tekken, "xth")


@given(text=st.text() | LIKELY)
def test_decoding_gives_back_what_was_encoded(tekken: Tekken, text: str) -> None:
    ids = tekken.encode(text)
    assert tekken.decode(ids) == text
    assert all(token >= tekken.n_special for token in ids)


def test_names_of_control_symbols_in_text_are_text(tekken: Tekken) -> None:
    ids = tekken.encode(f"<s>{STREAMING_PAD}</s>")
    assert min(ids) >= tekken.n_special
    assert tekken.decode(ids) == f"<s>{STREAMING_PAD}</s>"


def test_half_a_surrogate_pair_is_refused(tekken: Tekken) -> None:
    with pytest.raises(TextError, match="character 2"):
        tekken.encode("ab\ud800")


# Ids of any kind, control symbols often, so that characters are cut by them.
STREAM = st.lists(
    st.integers(0, 999 + 257 + len(MERGES) - 1)
    | st.sampled_from([2, 32, 33])
    | st.integers(1000 + 0x80, 1255),
    max_size=60,
)


@given(ids=STREAM, cuts=st.lists(st.integers(0, 60)))
def test_a_stream_of_tokens_says_what_the_whole_says(tekken: Tekken, ids: list[int], cuts: list[int]) -> None:
    decoder = IncrementalDecoder(tekken)
    edges = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    text = "".join(decoder.push(ids[a:b]) for a, b in pairwise(edges)) + decoder.finish()
    assert text == tekken.decode(ids)


@given(text=st.text(max_size=20), cut=st.integers(0, 100))
def test_a_forked_decoder_goes_on_where_the_first_one_stood(tekken: Tekken, text: str, cut: int) -> None:
    ids = [1000 + byte for byte in text.encode()]
    first = IncrementalDecoder(tekken)
    head = first.push(ids[:cut])
    fork = IncrementalDecoder(tekken, first.pending)
    tail = fork.push(ids[cut:]) + fork.finish()
    assert head + tail == text == head + first.push(ids[cut:]) + first.finish()


def test_a_character_is_whole_across_steps_and_control_symbols(tekken: Tekken) -> None:
    e, acute = (1000 + byte for byte in "é".encode())
    decoder = IncrementalDecoder(tekken)
    assert decoder.push([e]) == ""
    assert decoder.push([tekken.pad, tekken.word, tekken.eos]) == ""
    assert decoder.push([acute]) == "é"
    # What decoding each run by itself would have said:
    assert tekken.decode([e]) + tekken.decode([acute]) == "\ufffd\ufffd"


def test_an_unfinished_character_ends_as_one_replacement(tekken: Tekken) -> None:
    decoder = IncrementalDecoder(tekken)
    assert decoder.push([1000 + byte for byte in "日".encode()[:2]]) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.finish() == ""


@pytest.mark.parametrize("n_special", [8, 1000])
def test_control_ids_carry_no_bytes(n_special: int) -> None:
    names = {"<s>": 1, "</s>": 2, STREAMING_PAD: 3, STREAMING_WORD: 4}
    tekken = Tekken.build(BYTES + MERGES, PATTERN, names, AUDIO, n_special)
    assert {tekken.token_bytes(i) for i in range(n_special)} == {b""}
    assert tekken.token_bytes(n_special) == b"\0"
    assert tekken.decode(range(n_special)) == ""
    # Subtracting without the check would decode [P] as NUL bytes, or as a piece from the table's end.
    assert tekken.pieces[tekken.pad - 8] != b""


@pytest.mark.parametrize("token", [-1, 1000 + 256 + len(MERGES), 1 << 40])
def test_an_id_outside_the_vocabulary_is_refused(tekken: Tekken, token: int) -> None:
    with pytest.raises(TextError, match=str(token)):
        tekken.token_bytes(token)


def test_control_symbols_are_found_by_name() -> None:
    names = {STREAMING_WORD: 0, STREAMING_PAD: 1, "</s>": 2, "<s>": 3, "[OTHER]": 5}
    tekken = Tekken.build(BYTES, PATTERN, names, AUDIO, n_special=8)
    assert (tekken.word, tekken.pad, tekken.eos, tekken.bos, tekken.special("[OTHER]")) == (0, 1, 2, 3, 5)
    assert [tekken.name(i) for i in (1, 4, 8 + 0x41)] == [STREAMING_PAD, "<SPECIAL_4>", "A"]
    assert tekken.vocab_size == 264
    assert (tekken.left_pad_tokens, tekken.delay_ms) == (32, 480)


@pytest.mark.parametrize(
    "audio", [{}, {"streaming_n_left_pad_tokens": "32"}, {"streaming_n_left_pad_tokens": 1.5}]
)
def test_a_missing_left_pad_is_named_not_guessed(audio: dict[str, object]) -> None:
    tekken = Tekken.build(BYTES, PATTERN, NAMES, audio)
    with pytest.raises(CheckpointError, match=r"audio\.streaming_n_left_pad_tokens"):
        _ = tekken.left_pad_tokens


def test_a_file_written_is_the_file_read(tekken: Tekken, tmp_path: Path) -> None:
    path = tmp_path / "tekken.json"
    tekken.save(path)
    assert Tekken.load(path) == tekken
    Tekken.load(path).save(path)  # over itself
    assert Tekken.load(path) == tekken
    assert [p.name for p in tmp_path.iterdir()] == ["tekken.json"]
    entry = json.loads(path.read_text())["vocab"][256 + MERGES.index(b" \xd0")]
    assert entry["token_str"] is None  # half a character has no text of its own
    assert base64.b64decode(entry["token_bytes"]) == b" \xd0"


def test_a_reader_of_the_old_file_is_not_disturbed(tekken: Tekken, tmp_path: Path) -> None:
    path = tmp_path / "tekken.json"
    tekken.save(path)
    whole = path.read_text("utf-8")
    with path.open(encoding="utf-8") as reader:
        start = reader.read(100)
        Tekken.build(BYTES, PATTERN, NAMES).save(path)
        assert start + reader.read() == whole
    assert path.read_text("utf-8") != whole


def test_a_write_that_fails_leaves_the_old_file(
    tekken: Tekken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tekken.json"
    tekken.save(path)

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("rillvox.tekken.os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        Tekken.build(BYTES, PATTERN, NAMES).save(path)
    assert Tekken.load(path) == tekken
    assert [p.name for p in tmp_path.iterdir()] == ["tekken.json"]


Document = dict[str, Any]


def released_layout() -> Document:
    """The released file's layout in small: more entries than are used, one special a line."""
    pieces = BYTES + MERGES
    return {
        "config": {
            "pattern": PATTERN,
            "num_vocab_tokens": len(pieces),
            "default_vocab_size": 1000 + 256 + 10,
            "default_num_special_tokens": 1000,
            "version": "v13",
        },
        "vocab": [
            {"rank": i, "token_bytes": base64.b64encode(piece).decode(), "token_str": None}
            for i, piece in enumerate(pieces)
        ],
        "special_tokens": [{"rank": i, "token_str": name, "is_control": True} for name, i in NAMES.items()],
        "audio": AUDIO,
    }


def load(document: Document, folder: Path) -> Tekken:
    path = folder / "tekken.json"
    path.write_text(json.dumps(document))
    return Tekken.load(path)


def test_entries_past_the_vocabulary_are_cut(tmp_path: Path) -> None:
    tekken = load(released_layout(), tmp_path)
    assert tekken.vocab_size == 1266
    assert tekken.pieces == tuple(BYTES + MERGES[:10])
    assert tekken.version == "v13"
    assert merge_by_rank(tekken, "and the") == tekken.encode("and the")


def test_a_file_that_does_not_say_reserves_a_thousand_ids(tmp_path: Path) -> None:
    document = released_layout()
    del document["config"]["default_num_special_tokens"]
    del document["config"]["default_vocab_size"]
    tekken = load(document, tmp_path)
    assert (tekken.n_special, tekken.vocab_size) == (1000, 1256 + len(MERGES))


def put(*path: str | int, value: object) -> Callable[[Document], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[Document], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


BAD: Sequence[tuple[Callable[[Document], None], str]] = [
    (drop("config"), "config: is missing"),
    (drop("vocab"), "vocab: is missing"),
    (drop("special_tokens"), "special_tokens: is missing"),
    (put("vocab", value={}), "vocab: must be a list"),
    (put("config", value=[]), "config: must be an object"),
    (drop("config", "pattern"), r"config\.pattern: is missing"),
    (
        put("config", "default_vocab_size", value="1266"),
        r"config\.default_vocab_size: must be a whole number",
    ),
    (put("config", "default_vocab_size", value=999), r"asks for -1"),
    (put("config", "default_vocab_size", value=131072), r"vocab: 276 entries, but .* asks for 130072"),
    (put("config", "default_vocab_size", value=1200), "first 256 must be the single bytes"),
    (put("config", "default_num_special_tokens", value=0), "default_num_special_tokens 0 asks for 1266"),
    (put("vocab", 258, "rank", value=257), r"vocab\[258\]\.rank: .* found 257"),
    (put("vocab", 7, value=None), r"vocab\[7\]: must be an object"),
    (drop("vocab", 5), r"vocab\[5\]\.rank"),
    (put("vocab", 260, "token_bytes", value="not base64!"), r"vocab\[260\]\.token_bytes: 'not base64!'"),
    (put("vocab", 260, "token_bytes", value="YW!I="), r"vocab\[260\]\.token_bytes: 'YW!I=' is not base64"),
    (put("vocab", 260, "token_bytes", value="YQ"), r"vocab\[260\]\.token_bytes: 'YQ'"),
    (put("vocab", 260, "token_bytes", value=""), r"vocab\[260\]\.token_bytes: is empty"),
    (drop("vocab", 260, "token_bytes"), r"vocab\[260\]\.token_bytes: is missing"),
    (
        put("vocab", 260, "token_bytes", value="dGg="),
        r"vocab\[260\]\.token_bytes: b'th' has rank 256 already",
    ),
    (put("vocab", 9, "token_bytes", value="dGg="), r"vocab\[9\]\.token_bytes: the first 256"),
    (drop("special_tokens", 4), r"\[STREAMING_PAD\] is missing \(found: <unk>, <s>"),
    (drop("special_tokens", 1), "<s> is missing"),
    (put("special_tokens", 4, "rank", value=1), r"rank 1 is both <s> and \[STREAMING_PAD\]"),
    (put("special_tokens", 4, "rank", value=1000), r"\[STREAMING_PAD\] has rank 1000, outside 0\.\.999"),
    (put("special_tokens", 4, "rank", value=True), r"special_tokens\[4\]\.rank: must be a whole number"),
    (
        put("special_tokens", 4, "token_str", value="<s>"),
        r"special_tokens\[4\]\.token_str: <s> is listed twice",
    ),
    (put("audio", value=3), "audio: must be an object"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_file_is_refused_by_the_name_of_its_fault(
    change: Callable[[Document], None], message: str, tmp_path: Path
) -> None:
    document = released_layout()
    load(document, tmp_path)  # good before the change
    change(document)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(document, tmp_path)
    assert str(tmp_path / "tekken.json") in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1, column 1: .* cut short"),
        (json.dumps(released_layout()).encode()[:5000], "line 1, column .* cut short"),
        (b"\xff\xfe{}", "is not UTF-8"),
        (b"[]", "no JSON object"),
        (b"[" * 100_000, "nested too deeply"),
    ],
    ids=["empty", "truncated", "bytes", "list", "deep"],
)
def test_what_is_no_tekken_json_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tekken.json"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        Tekken.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.json: cannot be read"):
        Tekken.load(tmp_path / "nothing.json")


def test_a_pattern_that_is_none_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"config\.pattern"):
        Tekken.build(BYTES, "(", NAMES).encode("a")


def test_a_vocabulary_without_control_symbols_is_refused() -> None:
    with pytest.raises(CheckpointError, match="default_num_special_tokens: must be at least 1"):
        Tekken.build(BYTES, PATTERN, {}, n_special=0)


def test_listening_never_builds_the_encoder(tekken: Tekken, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Tekken.build(tekken.pieces, PATTERN, NAMES, AUDIO)
    monkeypatch.setattr("tiktoken.Encoding", None)
    assert fresh.decode([1256, fresh.pad]) == "th"
    with pytest.raises(TypeError):  # encoding would have needed it
        fresh.encode("th")
