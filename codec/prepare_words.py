"""What a Whisper's decoder makes of every clip, for semantic codes that are to know words.

Voxtral Codec (arXiv 2603.25551) section 3: a frozen Whisper writes down what it hears; the states of its last
decoder layer are what the codes must give, and its cross attention says which frames a token is about. No
transcript and no aligner is needed. Where the paper is silent this follows the word times of openai/whisper:
z-scores over tokens, a median over seven frames, the mean over its alignment heads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from ..audio import Audio
from ..errors import CheckpointError, ConfigError
from ..training.sounds import RATE, STEP, Sounds
from ..training.sounds_words import FRAME, write_words

HEARING = 16000  # Hz
MEDIAN = 7  # frames of 20 ms
PER_FRAME = FRAME // STEP  # frames of the Whisper in one of the codec
FAINT = 1e-9  # far below any attention: a frame has 1/1500 of it on average


def prepare_words(sounds: Path, whisper: Path, say: Callable[[str], None] = print) -> None:
    """Write the words of every clip beside the clips.

    Raises:
        ConfigError: no sounds, or no `transformers`.
        CheckpointError: no Whisper.
    """
    clips = Sounds(sounds)
    scribe = Scribe(whisper)
    words: list[tuple[NDArray[np.float16], NDArray[np.float16]]] = []
    for number, clip in enumerate(clips.clips):
        if number % 200 == 0:
            say(f"{number} of {len(clips.clips)} clips")
        words.append(scribe.hear(clips.samples(clip)))
    write_words(sounds, clips.clips, words)
    silent = sum(not len(hidden) for hidden, _ in words)
    tokens = sum(len(hidden) for hidden, _ in words)
    say(f"{tokens} tokens of {len(words)} clips; {silent} clips without any")


class Scribe:
    """A frozen Whisper that tells its states and where it looked.

    Args:
        folder: config.json, weights and, for a published model, generation_config.json, as `transformers`
            writes them.

    Raises:
        ConfigError: no `transformers`.
        CheckpointError: no Whisper.
    """

    def __init__(self, folder: Path) -> None:
        self.model, self.features = load(folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = self.model.to(device).eval()
        config, habits = self.model.config, self.model.generation_config
        self.window = int(config.max_source_positions)  # frames of 20 ms that it hears at once: 30 s
        self.heads = alignment_heads(config, habits)
        self.start = int(config.decoder_start_token_id)
        end = habits.eos_token_id if habits.eos_token_id is not None else config.eos_token_id
        self.end = int(np.ravel(end)[0])  # some folders list several, the end of the text first
        self.untimed: int | None = getattr(habits, "no_timestamps_token_id", None)
        spoken: Mapping[str, int] = getattr(habits, "lang_to_id", None) or {}
        self.languages = torch.tensor(sorted(spoken.values()), device=device)
        tasks: Mapping[str, int] = getattr(habits, "task_to_id", None) or {}
        self.task = tasks.get("transcribe")
        self.banned = torch.zeros(2, int(config.vocab_size), device=device)  # of later tokens, of the first
        self.banned[:, list(habits.suppress_tokens or ())] = -torch.inf
        self.banned[1, list(habits.begin_suppress_tokens or ())] = -torch.inf
        if self.untimed is not None:
            self.banned[:, self.untimed :] = -torch.inf  # it and, behind it, the times

    @torch.no_grad()
    def hear(self, wave: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """States [tokens, width] and weights [tokens, frames of 80 ms] of a clip at 24 kHz.

        A state is that from which the token was chosen, behind the decoder's last norm, where no channel is
        so loud that a cosine would hear nothing else. Of a long clip the first 30 s are heard.
        """
        wave = wave[: self.window * STEP]
        frames = min(self.window // PER_FRAME, -(-len(wave) // FRAME))
        heard = Audio(wave, RATE).resample(HEARING).samples
        most = self.window * HEARING // 50
        given = self.features(heard, sampling_rate=HEARING, max_length=most, return_tensors="pt")
        features: Tensor = given["input_features"].to(self.banned.device)
        encoded: Tensor = self.model.model.encoder(features).last_hidden_state
        prompt = self.prompt(encoded)
        written = self.write(encoded, prompt)
        found = self.decode(encoded, [*prompt, *written, self.end], output_attentions=True, use_cache=False)
        asked = slice(len(prompt) - 1, len(prompt) - 1 + len(written))
        attention = torch.stack([found.cross_attentions[layer][0, head] for layer, head in self.heads])
        weights = align(attention[..., : frames * PER_FRAME])[asked]
        return _half(found.last_hidden_state[0, asked]), _half(weights)

    def prompt(self, encoded: Tensor) -> list[int]:
        """What a transcript without times begins with, in the language that the Whisper takes it for."""
        prompt = [self.start]
        if len(self.languages):
            scores = self.scores(self.decode(encoded, prompt, use_cache=False))
            prompt.append(int(self.languages[scores[self.languages].argmax()]))
            prompt += [] if self.task is None else [self.task]
        return prompt if self.untimed is None else [*prompt, self.untimed]

    def write(self, encoded: Tensor, prompt: Sequence[int]) -> list[int]:
        """The likeliest token each time, up to the end.

        None at all where no end comes within half of the decoder's places, as much as openai/whisper writes
        at once: such a transcript goes round in circles and is about nothing.
        """
        most = int(self.model.config.max_target_positions) // 2 - len(prompt)
        written: list[int] = []
        given, past = list(prompt), None
        while len(written) < most:
            found = self.decode(encoded, given, past_key_values=past, use_cache=True)
            past = found.past_key_values
            token = int((self.scores(found) + self.banned[int(not written)]).argmax())
            if token == self.end:
                return written
            written.append(token)
            given = [token]
        return []

    def decode(self, encoded: Tensor, tokens: Sequence[int], **options: Any) -> Any:
        """One call of the decoder with `tokens`."""
        ids = torch.tensor([list(tokens)], device=encoded.device)
        return self.model.model.decoder(input_ids=ids, encoder_hidden_states=encoded, **options)

    def scores(self, found: Any) -> Tensor:
        """[vocabulary] of what comes after the last token of a call."""
        return self.model.proj_out(found.last_hidden_state[0, -1])


def align(attention: Tensor) -> Tensor:
    """Which frames each token is about.

    Args:
        attention: [heads, tokens, frames of 20 ms], of the sound without its padding, a multiple of 4 frames.

    Returns:
        [tokens, frames of 80 ms]; rows have no sum of their own and may be negative.
    """
    # As if the softmax had been over the sound alone, which is how openai/whisper takes it.
    attention = attention / attention.sum(-1, keepdim=True).clamp(min=FAINT)
    deviation, mean = torch.std_mean(attention, dim=1, keepdim=True, correction=0)
    scored = (attention - mean) / deviation.clamp(min=FAINT)
    padded = F.pad(scored, (MEDIAN // 2, MEDIAN // 2), mode="reflect")
    smooth = padded.unfold(-1, MEDIAN, 1).median(-1).values.mean(0)
    return F.interpolate(smooth[None], size=smooth.shape[-1] // PER_FRAME, mode="linear")[0]


def alignment_heads(config: Any, habits: Any) -> list[tuple[int, int]]:
    """(layer, head) of those that follow the sound: the model's own list, or all of the upper half."""
    listed: Sequence[Sequence[int]] | None = getattr(habits, "alignment_heads", None)
    if listed:
        return [(int(layer), int(head)) for layer, head in listed]
    layers, heads = int(config.decoder_layers), int(config.decoder_attention_heads)
    return [(layer, head) for layer in range(layers // 2, layers) for head in range(heads)]


def load(folder: Path) -> tuple[Any, Any]:
    """The model and its front end."""
    try:
        library: Any = import_module("transformers")
    except ImportError as error:
        raise ConfigError("the words of a Whisper need `pip install 'rillvox[train]'`") from error
    if model_type(folder) != "whisper":
        raise CheckpointError(
            f"{folder}: no Whisper here; expected a folder of `transformers`, whose config.json says "
            '"model_type": "whisper"'
        )
    try:
        # Only the eager way tells its weights; and what is saved in half precision is computed in full.
        model, report = library.WhisperForConditionalGeneration.from_pretrained(
            folder,
            local_files_only=True,
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{folder}: this Whisper cannot be read: {reason}") from error
    # The library would draw them at random.
    if report["missing_keys"]:
        raise CheckpointError(f"{folder}: weights are missing, such as {min(report['missing_keys'])}")
    kind_of: Any = library.WhisperFeatureExtractor
    try:
        features = kind_of.from_pretrained(folder, local_files_only=True)
    except OSError:
        features = None
    if features is None or features.feature_size != model.config.num_mel_bins:
        features = kind_of(feature_size=model.config.num_mel_bins)
    return model, features


def model_type(folder: Path) -> str | None:
    """What a folder's config.json says that it is."""
    try:
        config: Any = json.loads((folder / "config.json").read_text())
        return config["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _half(x: Tensor) -> NDArray[np.float16]:
    return x.half().cpu().numpy()
