"""Wire audio: base64 in all its spellings, halves of samples, and G.711 against its definition."""

from __future__ import annotations

import base64
import importlib
import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rillvox.errors import AudioError, ConfigError
from rillvox.streaming.dialects.pcm import AudioFormat, PcmDecoder, decode_base64


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=300))
def test_base64_is_read_in_every_spelling(data):
    plain = base64.b64encode(data).decode()
    url = base64.urlsafe_b64encode(data).decode()
    for text in (plain, url, plain.rstrip("="), url.rstrip("="), base64.encodebytes(data).decode()):
        assert decode_base64(text, 300) == data


@pytest.mark.parametrize(
    "text", ["A", "AAAAA", "AA=A", "=AAA", "A$AA", "$$$$AAAA", "AÄAA", "AA\x00A", "AAA\u00adA"]
)
def test_what_is_no_base64_is_refused(text):
    with pytest.raises(AudioError, match="not base64"):
        decode_base64(text, 100)


def test_too_much_audio_is_refused_before_it_is_decoded():
    assert len(decode_base64("A" * 400, 300)) == 300
    with pytest.raises(AudioError, match="longer than 300 bytes"):
        decode_base64("A" * 404, 300)
    with pytest.raises(AudioError, match="longer than 300 bytes"):
        decode_base64("$" * 10_000, 300)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=100), st.lists(st.integers(0, 100), max_size=6))
def test_samples_do_not_depend_on_the_cuts(data, cuts):
    decoder = PcmDecoder(AudioFormat("s16le", 16000))
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [decoder.push(data[a:b]) for a, b in itertools.pairwise(bounds)]
    whole = np.frombuffer(data[: len(data) // 2 * 2], "<i2") / 32768
    np.testing.assert_array_equal(np.concatenate(chunks), whole.astype(np.float32))


def test_a_reset_drops_half_a_sample():
    decoder = PcmDecoder(AudioFormat())
    decoder.push(b"\x01")
    decoder.reset()
    assert decoder.push(b"\x00\x40").tolist() == [0.5]


def test_samples_are_float32_between_minus_one_and_one():
    ends = PcmDecoder(AudioFormat()).push(np.array([-32768, 0, 32767], "<i2").tobytes())
    assert ends.dtype == np.float32
    assert ends.tolist() == [-1.0, 0.0, 32767 / 32768]


def g711(encoding):
    return PcmDecoder(AudioFormat(encoding, 8000)).push(bytes(range(256))) * 32768


def test_g711_values_are_those_of_the_recommendation():
    # ITU-T G.711, tables 1 and 2, scaled to 16 bits: the ends, around zero, and one of the middle.
    mulaw, alaw = g711("mulaw"), g711("alaw")
    assert [mulaw[code] for code in (0x00, 0x80, 0x7F, 0xFF, 0x8F)] == [-32124, 32124, 0, 0, 16764]
    assert [alaw[code] for code in (0x2A, 0xAA, 0x55, 0xD5, 0x80)] == [-32256, 32256, -8, 8, 5504]


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_g711_agrees_with_audioop_where_python_still_has_it(encoding):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            audioop = importlib.import_module("audioop")
        except ImportError:
            pytest.skip("this Python has no audioop")
    decode = audioop.ulaw2lin if encoding == "mulaw" else audioop.alaw2lin
    expected = np.frombuffer(decode(bytes(range(256)), 2), "<i2")
    np.testing.assert_array_equal(g711(encoding), expected)


def test_a_rate_outside_all_sense_is_refused():
    with pytest.raises(ConfigError, match="rate"):
        AudioFormat("s16le", 0)
