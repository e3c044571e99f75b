"""Words to phones: what the shipped file says, what a user may add, and that no word is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rillvox.errors import CheckpointError, ConfigError, TextError
from rillvox.training.lexicon import OVERRIDES, PHONE_IDS, Lexicon
from rillvox.training.lexicon import PHONES as OF_TRAINING
from rillvox.tts import pronounce, train_pronounce
from rillvox.tts.pronounce import SHIPPED, Pronouncer, save
from rillvox.tts.pronounce_letters import NAMES, folded, past, phones, plural
from rillvox.tts.pronounce_net import LettersToPhones, numbers, packed, spoken, unpacked
from rillvox.tts.spoken import speakable
from rillvox.tts.spoken_lexicon import load_lexicon
from rillvox.tts.tokens import PHONES
from rillvox.tts.train_pronounce import BY_HAND, by_letter, errors, held_out, is_said, main_train_pronounce

KNOWN_LINES = """
the: dh ah|a: ah|I: ay|hello: hh ah l ow|World: w er l d|read: r eh d|live: l ay v|record: r eh k er d|
wind: w ih n d|tear: t eh r|colonel: k er n ah l|knight: n ay t|phone: f ow n|queue: k y uw|
rhythm: r ih dh ah m|yacht: y aa t|island: ay l ah n d|WEDNESDAY: w eh n z d iy|doctor: d aa k t er|
don't: d ow n t|o'clock: ah k l aa k|it's: ih t s|they've: dh ey v|women: w ih m ah n|said: s eh d|
one: w aa n|two: t uw|of: aa v|was: w aa z|their: dh eh r|thought: th ao t|through: th r uw|
enough: ih n aa f|cough: k aa f|fbi: eh f b iy ay|mnemonic: n ih m aa n ih k|thousandth: th aw z ah n th|
café: k ah f ey|Brontë: b r aa n t iy|YouTube: y uw t uw b
""".replace("\n", "").split("|")
UNKNOWN_LINES = [  # the last column: all that may be said
    "smartwatch: s m aa r t w aa ch",
    "touchscreen: t aa ch s k r iy n | t ah ch s k r iy n",
    "timestamp: t ay m s t ae m p",
    "frobnicate: f r aa b n ah k ey t | f r aa b n ih k ey t",
    "zorblax: z ao r b l ae k s",
    "Zorblax's: z ao r b l ae k s ih z",
    "wug: w aa g | w ah g",
    "wugs: w aa g z | w ah g z",
    "Brontë's: b r aa n t iy z",
    "they'll've: dh ey l ah v",
    "who'd've: hh uw d ah v",
    "snorgs: s n ao r g z",
    "unfriending: ah n f r eh n d ih ng | aa n f r eh n d ih ng",
    "Voxtral: v aa k s t r ah l | v aa k s t r ae l",
    "Ærøskøbing: eh r ow s k ow b ih ng | ae r ow s k ow b ih ng",
    "Łódź: l aa d z | l ow d z",
    "coooool: k uw l",
    "sooooo: s ow",
    "yesssss: y eh s",
    "tv: t iy v iy",
    "Garfunkel's: g aa r f aa ng k ah l z | g aa r f ah ng k ah l z",
    "quokkas: k w aa k ah z",
    "livestreamed: l ay v s t r iy m d",
    "vlogging: v l aa g ih ng",
    "Müllers: m aa l er z | m y uw l er z",
    "crowdfunding: k r aw d f aa n d ih ng | k r aw d f ah n d ih ng",
]


@pytest.fixture(scope="module")
def shipped() -> Pronouncer:
    return Pronouncer.load()


def tiny(**words: str) -> Pronouncer:
    """With a dictionary of these words alone, and a network that has learned nothing."""
    torch.manual_seed(0)
    return Pronouncer({word: bytes(phones(said)) for word, said in words.items()}, LettersToPhones().eval())


def names(said: list[int]) -> str:
    return " ".join(PHONES[phone - 1] for phone in said)


def test_a_speaker_and_the_alignments_number_phones_alike() -> None:
    assert tuple(PHONES) == OF_TRAINING
    assert phones("zh") == [PHONE_IDS["zh"]] == [39]


@pytest.mark.parametrize("line", KNOWN_LINES)
def test_a_word_of_the_dictionary_is_said_as_it_stands_there(shipped: Pronouncer, line: str) -> None:
    word, said = line.split(": ")
    assert folded(word) in shipped.entries
    assert names(shipped.phones(word)) == said


@pytest.mark.parametrize("line", UNKNOWN_LINES)
def test_a_word_that_is_in_no_dictionary_is_said_in_one_of_these_ways(shipped: Pronouncer, line: str) -> None:
    word, said = line.split(": ")
    assert folded(word) not in shipped.entries
    assert names(shipped.phones(word)) in said.split(" | ")


def test_reduced_words_are_those_of_the_alignments(shipped: Pronouncer) -> None:
    for word, said in OVERRIDES.items():
        assert shipped.phones(word) == [PHONE_IDS[phone] for phone in said]


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_the_dictionary_is_what_flite_says(shipped: Pronouncer) -> None:
    some = [word for number, word in enumerate(sorted(shipped.entries)) if number % 1997 == 0]
    assert len(some) > 50
    assert not set(some) & set(BY_HAND)
    assert Lexicon().ids(some) == [shipped.phones(word) for word in some]


@pytest.mark.parametrize("letter", [letter for letter in NAMES if letter not in "ai"])
def test_a_letter_alone_is_named(shipped: Pronouncer, letter: str) -> None:
    assert shipped.phones(letter) == shipped.phones(letter.upper()) == NAMES[letter]
    assert tiny().phones(letter) == NAMES[letter]


@pytest.mark.parametrize(
    ("text", "says_letter"),
    [
        ("A dog.", False),
        ("Plan A failed.", True),
        ("I got an A.", True),
        ("a dog", False),
        ("He ran. A dog ran", False),
        ("The U S A won.", True),
        ("A T and T", True),
        ("Once Upon A Time", False),
        ("A I is here", True),
        ("The A's won", False),
    ],
)
def test_a_capital_a_is_a_letter_or_an_article(shipped: Pronouncer, text: str, says_letter: bool) -> None:
    assert (NAMES["a"] in shipped.words(text)) is says_letter


def test_a_text_is_said_word_by_word(shipped: Pronouncer) -> None:
    text = speakable("Dr. Lee's well-known dogs' 3 e-mails!").text
    assert [names(word) for word in shipped.words(text)] == [
        *("d aa k t er", "l iy z", "w eh l", "n ow n", "d aa g z", "th r iy", "iy", "m ey l z"),
    ]
    assert shipped.words("") == shipped.words("--- 12, ?") == []


@pytest.mark.parametrize(
    ("written", "letters"),
    [
        ("Café", "cafe"),
        ("Łódź", "lodz"),
        ("Straße", "strasse"),
        ("Ærøskøbing", "aeroskobing"),
        ("jalapeño", "jalapeno"),
        ("e\u0301lan", "elan"),
        ("\ufb01ne", "fine"),
        ("\uff37ide", "wide"),
        ("don\u2019t", "don't"),
        ("'tis", "tis"),
        ("dogs'", "dogs"),
        ("ɓa", "ba"),
        ("well\u2013known", "well-known"),
        ("Ж", ""),
        ("Guðrún", "guthrun"),
        ("rock''n", "rock'n"),
    ],
)
def test_letters_are_folded(written: str, letters: str) -> None:
    assert folded(written) == letters


def test_endings_are_those_of_the_stem() -> None:
    said = tiny(kit="k ih t", bake="b ey k", box="b aa k s", stop="s t aa p", pity="p ih t iy", wait="w ey t")
    for word, wanted in {
        "kits": "k ih t s",
        "kit's": "k ih t s",
        "kit'll": "k ih t ah l",
        "boxes": "b aa k s ih z",
        "stopped": "s t aa p t",
        "baked": "b ey k t",
        "waited": "w ey t ih d",
        "pitied": "p ih t iy d",
        "pities": "p ih t iy z",
        "baking": "b ey k ih ng",
        "stopping": "s t aa p ih ng",
        "stoppp": "s t aa p",
        "o'kit": "ow k ih t",
        "kit-box": "k ih t b aa k s",
    }.items():
        assert names(said.phones(word)) == wanted, word
    assert plural(phones("b ih")) == phones("b ih z")
    assert past(phones("b ih")) == phones("b ih d")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("hmmm", "hh m"),
        ("psst", "p s t"),
        ("shhh", "sh"),
        ("brrr", "b er"),
        ("nth", "eh n th"),
        ("xkcd", "eh k s k ey s iy d iy"),
        ("mr", "m ih s t er"),
        ("Ж", "ah"),
        ("x\u0301", "eh k s"),
    ],
)
def test_words_without_a_vowel_can_be_said(shipped: Pronouncer, word: str, said: str) -> None:
    assert names(shipped.phones(word)) == said


LETTERS = st.characters(categories=["L"])
WORDS = st.one_of(
    st.text(LETTERS, min_size=1, max_size=30),
    st.text("abcdefghijklmnopqrstuvwxyzéñü", min_size=1, max_size=150),
    st.text("aesdingth'-", min_size=1, max_size=20),
)


@settings(deadline=None)
@given(WORDS)
def test_any_letters_give_phones(shipped: Pronouncer, word: str) -> None:
    said = shipped.phones(word)
    assert all(1 <= phone <= len(PHONES) for phone in said)
    assert bool(said) is any(map(str.isalpha, word))
    assert shipped.phones(word) == said


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_gives_words_of_phones(shipped: Pronouncer, text: str) -> None:
    said = shipped.words(text)
    assert all(word and all(1 <= phone <= len(PHONES) for phone in word) for word in said)
    assert len(shipped.words(speakable(text).text)) >= 0


def test_what_is_given_away_is_not_what_is_kept(shipped: Pronouncer) -> None:
    for word in ("hello", "zorblax", "b", "nth", "Ж"):
        first = shipped.phones(word)
        first.append(0)
        assert 0 not in shipped.phones(word), word
    shipped.words("A I")[0].append(0)
    assert 0 not in NAMES["a"]


def test_memory_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pronounce, "REMEMBERED", 3)
    said = tiny()
    for word in ("ba", "be", "bi", "bo", "bu"):
        said.phones(word)
    assert len(said._worked_out) <= 3


def test_a_lexicon_of_phones_goes_before_the_dictionary(shipped: Pronouncer, tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text("# mine\nSQL\t/S IY1 K W AH0 L/\nlive\t/l ay v/\nC#\tsee sharp\nZoë\t/Z OW IY/\n")
    lexicon = load_lexicon(path)
    own = shipped.using(lexicon)
    text = speakable("SQL's Live in C#, Zoe", lexicon).text
    assert [names(word) for word in own.words(text)] == [
        *("s iy k w ah l z", "l ay v", "ih n", "s iy", "sh aa r p", "z ow iy"),
    ]
    assert names(own.phones("LIVE")) == "l ay v"
    assert names(shipped.phones("live")) == "l ay v" or names(shipped.phones("live")) == "l ih v"
    assert own.entries is shipped.entries


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("tear\t/T EH Q/", r"lexicon\.tsv:2: 'Q' of 'tear' is no phone; there are AA AE"),
        ("tear\t/T EH3 R/", r"lexicon\.tsv:2: 'EH3' of 'tear' is no phone"),
        ("tear\t//", r"lexicon\.tsv:2: expected phones between the slashes for 'tear', found '//'"),
        ("New York\t/N UW/", r"lexicon\.tsv:2: expected one word of letters for /N UW/, found 'New York'"),
        ("C#\t/S IY/", r"lexicon\.tsv:2: expected one word of letters"),
        ("tear /T EH R/", r"lexicon\.tsv:2: expected written<TAB>spoken"),
    ],
)
def test_a_line_whose_phones_are_wrong_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text(f"# first\n{line}\n")
    with pytest.raises(TextError, match=complaint):
        load_lexicon(path)


def test_a_mapping_whose_phones_are_wrong_is_named() -> None:
    with pytest.raises(TextError, match="'XX' of 'tear' is no phone"):
        tiny().using({"tear": "/XX/"})


def count_lines(work: Callable[[], object]) -> int:
    """Lines of the package's Python that run meanwhile."""
    lines = 0

    def watch(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        if "tts" not in Path(frame.f_code.co_filename).parts:
            return None
        lines += event == "line"
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


def test_loading_does_nothing_word_by_word(shipped: Pronouncer) -> None:
    assert len(shipped.entries) > 100_000
    assert 100 < count_lines(Pronouncer.load) < 5_000
    assert count_lines(lambda: [None for word in shipped.entries if folded(word)]) > 100_000


def test_the_file_is_small() -> None:
    file = load_file(SHIPPED)
    assert SHIPPED.stat().st_size < 2_000_000
    assert sum(t.nbytes for name, t in file.items() if not name.startswith("network.")) < 1_000_000


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    net = LettersToPhones().eval()
    entries = {"b": bytes([7]), "a'b": bytes([1, 39])}
    save(tmp_path / "x", entries, packed(net.state_dict()))
    loaded = Pronouncer.load(tmp_path / "x")
    assert loaded.entries == entries
    for name, value in net.state_dict().items():
        other = loaded.net.state_dict()[name]
        assert torch.allclose(value, other, atol=float(value.abs().max()) / 200), name


def _damage(tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    save(tmp_path / "x", {"b": bytes([7]), "c": bytes([8])}, packed(LettersToPhones().state_dict()))
    with safe_open(str(tmp_path / "x"), framework="pt") as file:
        header = file.metadata()
    tensors = load_file(tmp_path / "x")
    change(tensors)
    save_file(tensors, tmp_path / "y", header)
    return tmp_path / "y"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop("words"), "damaged: 'words'"),
        (lambda t: t.update(phones=t["phones"][:-4]), "damaged"),
        (lambda t: t.update(phones=pronounce._squeezed(b"\7")), "2 words, but 1 pronunciations"),
        (lambda t: t.update(phones=pronounce._squeezed(b"\7\0\0")), "2 words, but 3 pronunciations"),
        (lambda t: t.update(phones=pronounce._squeezed(b"\7\0")), "2 words, but 2 pronunciations"),
        (lambda t: t.update(phones=pronounce._squeezed(b"\7\0\50")), "a phone above 39"),
        (lambda t: t.pop("network.norm.weight"), "not the network"),
        (lambda t: t.update({"network.norm.weight": torch.ones(3)}), "not the network"),
    ],
)
def test_a_damaged_file_is_named(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], complaint: str
) -> None:
    with pytest.raises(CheckpointError, match=complaint):
        Pronouncer.load(_damage(tmp_path, change))


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        Pronouncer.load(tmp_path / "nowhere")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="no pronunciations"):
        Pronouncer.load(tmp_path / "other")


def test_a_word_is_read_alike_alone_and_beside_longer_ones() -> None:
    net = LettersToPhones().eval()
    with torch.inference_mode():
        alone = net(numbers(["kit"]))[-1][0]
        beside = net(numbers(["kit", "a-longer-word".replace("-", "")]))[-1][0, : len(alone)]
    assert torch.allclose(alone, beside, atol=1e-5)


def test_frames_of_blanks_still_give_a_phone() -> None:
    frames = torch.tensor([[0.9, 0.05, 0.05], [0.8, 0.05, 0.15]])
    assert spoken(frames) == [2]
    assert spoken(torch.tensor([[0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])) == [1, 1, 2]


def test_a_surplus_tensor_is_refused() -> None:
    kept = packed(LettersToPhones().state_dict())
    with pytest.raises(CheckpointError, match="surplus"):
        unpacked({**kept, "surplus": torch.zeros(1)})


def test_what_is_said_by_hand_is_in_the_file(shipped: Pronouncer) -> None:
    assert {word: names(shipped.phones(word)) for word in BY_HAND} == BY_HAND


def test_a_file_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_pronounce, "REPORT", 1)
    words = ["a", "kit", "bat", *(f"{a}{b}t" for a in "bdfklmnp" for b in "aeiou"), "mcknight", "hmm"]
    lexicon = tmp_path / "lexicon.json"
    said = {word: "eh m s iy" if word in ("hmm", "a") else "k ih t" for word in words}
    lexicon.write_text(json.dumps({word: phones.split() for word, phones in said.items()}))
    lines: list[str] = []
    sources = [lexicon, tmp_path / "words.txt"]
    sources[1].write_text("Kit, bat - fit!\n")
    main_train_pronounce(sources, tmp_path / "out" / "x", lexicon, steps=2, say=lines.append)
    loaded = Pronouncer.load(tmp_path / "out" / "x")
    assert set(loaded.entries) == {*words, *BY_HAND} - {"hmm"}
    assert names(loaded.phones("fit")) == "k ih t"
    assert not [line for line in lines if "inf" in line or "nan" in line]
    assert [line.split(":")[0] for line in lines[1:]] == [
        *("step 1", "step 2", "letter by letter", "network", "with stems"),
    ]
    with pytest.raises(ConfigError, match="no words in"):
        main_train_pronounce([], tmp_path / "x", lexicon, steps=1, say=lines.append)
    with pytest.raises(ConfigError, match="nowhere: no readable words"):
        main_train_pronounce([tmp_path / "nowhere"], tmp_path / "x", lexicon, steps=1, say=lines.append)


def test_what_flite_spells_is_left_to_the_network() -> None:
    assert is_said("b", bytes(NAMES["b"]))
    assert is_said("fbi", bytes(phones("eh f b iy ay")))
    assert not is_said("zthousand", bytes([p for letter in "zthousand" for p in NAMES[letter]]))
    assert not is_said("hmm", bytes(phones("hh m")))
    assert not is_said("xray", bytes(phones("eh k s r ey")))


def test_errors_are_counted() -> None:
    truth = {"kit": phones("k ih t"), "phone": phones("f ow n")}
    assert errors(truth, lambda word: phones("k ih t")) == (3 / 6, 1 / 2)
    assert by_letter("phick's") == phones("f ih k s")
    assert 0.05 < sum(held_out(f"word{number}") for number in range(1000)) / 1000 < 0.15
