"""Ways to a semantic code, the balance of gradients, recipes, and what training leaves to hear and see."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("lightning_fabric")
pytest.importorskip("vector_quantize_pytorch")

from pathlib import Path

from tiny_codec import made

from rillvox.codec.balance import Balancer
from rillvox.codec.dumps import dump
from rillvox.codec.quantizer import SemanticCodebook
from rillvox.codec.semantics import FSQ_LEVELS, FixedCodes, LearnedCodes, TeacherCodes, grid, squares, unused
from rillvox.codec.tasks import RECIPES
from rillvox.codec.train import recipe_of
from rillvox.errors import ConfigError
from rillvox.training.sounds import Sound, Sounds, write_sounds

DIM = 16


def book(entries: torch.Tensor) -> SemanticCodebook:
    made_ = SemanticCodebook(*entries.shape)
    made_.embedding_sum.copy_(entries)
    return made_


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_decoder_is_given_the_teachers_code_or_the_guess() -> None:
    entries = drawn(0, 12, DIM)
    way = TeacherCodes(book(entries), entries, 0.5, 0.5)
    z = entries[torch.tensor([[1, 2], [3, 4]])] + 0.01
    ids = torch.tensor([[5, -1], [6, 7]])
    named = way(z, book(entries), ids, torch.tensor([0.1, 0.9]))
    assert torch.equal(named.given, entries[torch.tensor([[5, 2], [3, 4]])])


def test_a_committed_latent_passes_in_half_the_items_and_its_gradient_always() -> None:
    entries = drawn(0, 12, DIM)
    z = drawn(1, 2, 3, DIM).requires_grad_()
    named = FixedCodes(0.1)(z, book(entries), torch.zeros(2, 3), torch.tensor([0.1, 0.9]))
    nearest = squares(z.detach(), entries).argmin(-1)
    torch.testing.assert_close(named.given[0], entries[nearest[0]])
    torch.testing.assert_close(named.given[1], z[1])
    named.given.sum().backward()
    torch.testing.assert_close(z.grad, torch.ones_like(z))


def test_short_entries_take_all_of_a_fixed_codebook_unless_all_are_to_be_used() -> None:
    entries = drawn(0, 64, DIM) * torch.linspace(0.2, 2, 64)[:, None]
    own = book(entries)
    used: dict[float, float] = {}
    for usage in (0.0, 1.0):
        way = FixedCodes(0.1, usage)
        z = (0.05 * drawn(1, 8, 16, DIM)).requires_grad_()
        optimizer = torch.optim.Adam([z], lr=0.05)
        for _ in range(60):
            named = way(z, own, torch.zeros(8, 16), torch.rand(8))
            optimizer.zero_grad()
            named.loss.backward()
            optimizer.step()
        used[usage] = float(named.figures["batch_perplexity"])
    assert used[0.0] < 4
    assert used[1.0] > 16


def test_entries_used_alike_lose_nothing_and_one_for_all_the_most() -> None:
    entries = 20 * drawn(0, 12, DIM)
    variance = float(entries.var(0).sum())
    alike = unused(squares(entries[None], entries) * 100, variance)
    assert float(alike) == pytest.approx(0, abs=1e-4)
    one = unused(squares(entries[None, :1].expand(1, 12, DIM), entries) * 100, variance)
    assert float(one) == pytest.approx(np.log(12), abs=1e-4)


def test_the_fsq_grid_is_scalar_quantisation_in_disguise() -> None:
    entries = grid(DIM, torch.Generator().manual_seed(0))
    assert entries.shape == (8192, DIM)
    # The nearest entry is the nearest level along each direction, as an FSQ would have it.
    directions = torch.linalg.qr(drawn(0, DIM, 5))[0]
    z = drawn(2, 200, DIM)
    along = z @ directions
    steps = [torch.linspace(-1, 1, levels) for levels in FSQ_LEVELS]
    digits = [(along[:, k, None] - axis).abs().argmin(1) for k, axis in enumerate(steps)]
    expected = digits[0]
    for digit, levels in zip(digits[1:], FSQ_LEVELS[1:], strict=True):
        expected = expected * levels + digit
    assert torch.equal(squares(z, entries).argmin(1), expected)


def test_learned_entries_collapse_unless_they_are_revived() -> None:
    # Latents in a far corner: random entries are never nearest but for one or two.
    used: dict[bool, float] = {}
    for revive in (True, False):
        torch.manual_seed(0)
        way = LearnedCodes(32, DIM, 0.1, revive=revive).train()
        own = book(torch.zeros(32, DIM))
        for step in range(40):
            z = 5 + drawn(step, 4, 32, DIM)
            named = way(z, own, torch.zeros(4, 32), torch.rand(4))
        used[revive] = float(named.figures["batch_perplexity"])
        torch.testing.assert_close(own.entries(), way.quantize.codebook)
    assert used[True] > 16
    assert used[False] < 8


def test_the_balance_makes_weights_shares_whatever_the_units() -> None:
    wave = drawn(0, 2, 100).requires_grad_()
    target = drawn(1, 2, 100)
    terms = {"small": 1e-4 * (wave - target).square().mean(), "large": 1e4 * wave.abs().mean()}
    balancer = Balancer(("small", "large"))
    loss = balancer(wave, terms, {"small": 3.0, "large": 1.0})
    value = 3 * terms["small"] + terms["large"]
    assert float(loss.detach()) == pytest.approx(float(value.detach()), rel=1e-5)
    loss.backward()
    one, other = ((wave - target).detach(), wave.detach().sign())
    expected = 0.75 * one / one.norm() + 0.25 * other / other.norm()
    torch.testing.assert_close(wave.grad, expected, atol=1e-5, rtol=1e-4)


def test_a_term_without_weight_or_gradient_takes_no_share() -> None:
    wave = drawn(0, 1, 50).requires_grad_()
    terms = {"a": wave.square().mean(), "b": wave.abs().mean(), "c": wave.sum() * 0.0}
    Balancer(("a", "b", "c"))(wave, terms, {"a": 1.0, "b": 0.0, "c": 1.0}).backward()
    gradient = wave.grad
    assert gradient is not None
    torch.testing.assert_close(gradient / gradient.norm(), (wave / wave.norm()).detach())


def test_what_is_off_changes_nothing_in_a_recipe() -> None:
    for stage, recipe in RECIPES.items():
        assert recipe_of(stage) == recipe
        assert not recipe.balance
    assert recipe_of("reconstruct", semantic="fsq").semantic == "fsq"
    assert recipe_of("reconstruct", critics="512,64").critics == (512, 64)
    with pytest.raises(ConfigError, match="--semantic must be"):
        recipe_of("reconstruct", semantic="magic")
    for bad in ("12,a", "8", ""):
        with pytest.raises(ConfigError, match="--critics must be"):
            recipe_of("reconstruct", critics=bad)
    with pytest.raises(ConfigError, match="frozen decoder"):
        recipe_of("encoder", semantic="fsq")


def test_training_leaves_something_to_hear_and_see(tmp_path: Path) -> None:
    wave = (drawn(0, 19200).numpy() * 3000).astype(np.int16)
    clips = [Sound("a/b", "human_dev", "s", 24000, 0, 19200), Sound("c", "tones", "s", 24000, 0, 19200)]
    write_sounds(tmp_path / "s", clips, wave, np.zeros(40, np.int16), drawn(0, 4, DIM))
    dump(made("spectral").model, Sounds(tmp_path / "s"), tmp_path / "heard")
    found, rate = soundfile.read(tmp_path / "heard" / "a_b.wav")
    assert (rate, len(found)) == (24000, 19200)
    assert {path.name for path in (tmp_path / "heard").iterdir()} <= {"a_b.wav", "a_b.png"}
    assert (tmp_path / "heard" / "a_b.png").read_bytes()[:4] == b"\x89PNG"
