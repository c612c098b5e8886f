"""The image GAN: losses against closed forms, changes, conditions, same bytes, and what no Gaussian can make."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from synthgen.errors import DataError, Interrupted, SynthgenError, UsageError
from synthgen.generators.anchor import GaussianAnchor
from synthgen.generators.image_fitting import Material
from synthgen.generators.image_gan import ImageGan
from synthgen.generators.image_gan_networks import ImageCritic, drawn
from synthgen.generators.image_gan_objective import (
    Features,
    ImageGanObjective,
    Law,
    augmented,
    penalty,
    relativistic,
)
from synthgen.generators.image_pca import ImagePca
from synthgen.generators.image_records import ImageColumn, ImageRecords
from synthgen.generators.training import Training
from synthgen.images import ImageData
from synthgen.phantom import phantom
from synthgen.protocols import Generator, Run
from synthgen.rng import Seed
from synthgen.testing import check_image_generator

QUICK = {"size": 16, "widths": (16, 32), "threads": 1}


def test_keeps_the_contract():
    assert isinstance(ImageGan(), Generator)
    check_image_generator(ImageGan(max_steps=6, **QUICK))


class Linear(nn.Module):
    """A critic whose gradient is known: the mean of images times weights, times a number of the code."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return (images * self.weight).flatten(1).sum(1) * codes[:, 0]


@pytest.fixture
def linear() -> Linear:
    return Linear(torch.randn(1, 4, 4, generator=Seed(1).torch()))


def test_the_penalty_of_a_linear_critic(linear):
    """|w|^2 of each image, times the square of its code; and its gradient by w is twice w."""
    images, codes = torch.randn(3, 1, 4, 4, generator=Seed(2).torch()), torch.tensor([[1], [2], [0]])
    found = penalty(linear, images, codes)
    torch.testing.assert_close(found, 5 * linear.weight.square().sum())
    found.backward()
    torch.testing.assert_close(linear.weight.grad, 10 * linear.weight.detach())


def test_each_player_gets_the_gradient_of_its_own_loss(linear):
    real, made = torch.randn(2, 5, 1, 4, 4, generator=Seed(3).torch())
    codes = torch.ones(5, 1, dtype=torch.int64)
    made = made.clone().requires_grad_()
    relativistic(linear, real, made, codes).backward()
    of_maker, of_critic = made.grad, linear.weight.grad

    weight, other = linear.weight.detach().clone().requires_grad_(), made.detach().clone().requires_grad_()
    margin = ((real - other) * weight).flatten(1).sum(1)
    (expected,) = torch.autograd.grad(softplus(-margin).mean(), weight, retain_graph=True)
    torch.testing.assert_close(of_critic, expected)
    (expected,) = torch.autograd.grad(softplus(margin).mean(), other)
    torch.testing.assert_close(of_maker, expected)


@pytest.mark.parametrize("shape", [(64, 1, 8, 12), (64, 3, 4, 8, 8)])
def test_changes_pass_gradients_and_never_mirror(shape):
    images = torch.zeros(shape)
    images[..., : shape[-1] // 4] = 1  # the left is bright
    images.requires_grad_()
    seen = augmented(images, Seed(4).torch(), 1.0)
    assert seen.shape == images.shape
    assert not torch.equal(seen, images)
    left, right = seen.detach().flatten(1, -2)[:, :, 0].mean(1), seen.detach().flatten(1, -2)[:, :, -1].mean(1)
    assert (left > right).float().mean() > 0.95  # a piece may be cut out of the bright side
    seen.sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
    assert augmented(images, Seed(4).torch(), 0.0) is images
    few = augmented(images, Seed(4).torch(), 0.1).detach()
    same = (few == images.detach()).flatten(1).all(1).float().mean()
    assert 0.4 < same < 0.95  # most images stay as they are


def test_draws_have_mean_and_covariance_of_their_class():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(20_000, 16)) @ (rng.normal(size=(16, 16)) * 0.3) + 0.5).float()
    anchor = GaussianAnchor.fit(images.view(-1, 1, 4, 4), np.zeros(20_000, dtype=int), count=1, components=16)
    noise = torch.randn(20_000, 1, 4, 4, generator=Seed(5).torch())
    made = drawn(anchor, noise, torch.zeros(20_000, dtype=torch.int64)).flatten(1)
    torch.testing.assert_close(made.mean(0), images.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(made.T), torch.cov(images.T), atol=0.1, rtol=0)


def test_the_distance_of_two_normal_laws():
    """With diagonal covariances it is |m1 - m2|^2 + sum (s1 - s2)^2."""
    one = Law(torch.tensor([0.0, 1.0]).double(), torch.diag(torch.tensor([4.0, 9.0]).double()))
    two = Law(torch.tensor([2.0, 1.0]).double(), torch.diag(torch.tensor([1.0, 1.0]).double()))
    assert float(one.distance(two)) == pytest.approx(4 + 1 + 4)
    assert float(one.distance(one)) == pytest.approx(0, abs=1e-9)


def test_the_distance_sees_collapse_and_blur():
    images = torch.randn(600, 1, 16, 16, generator=Seed(6).torch())
    features = Features(images[:300], Seed(7))
    real = Law.of(features(images[:300]))
    fresh = float(Law.of(features(images[300:])).distance(real))
    collapsed = float(Law.of(features(images[300:301].expand(300, -1, -1, -1))).distance(real))
    blurred = float(Law.of(features(0.9 * images[300:])).distance(real))
    assert collapsed > 3 * fresh
    assert blurred > 3 * fresh


def test_the_critic_is_told_what_an_image_goes_by():
    critic = ImageCritic(shape=(4, 8, 8), levels=1, widths=(8, 16), blocks=1, sizes=(3, 2))
    images = torch.randn(4, 1, 16, 16, generator=Seed(8).torch())
    codes = torch.tensor([[0, 0], [1, 0], [2, 0], [2, 1]])
    scores = critic(images[:1].expand(4, -1, -1, -1), codes)
    assert len(scores.unique()) == 4


class Source(nn.Module):
    """A maker that gives images that were made before."""

    noise_shape = (2,)

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.images = images

    def forward(self, noise: torch.Tensor, classes: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return self.images[: len(noise)]


@pytest.fixture
def objective() -> ImageGanObjective:
    images, held = torch.randn(240, 1, 8, 8, generator=Seed(9).torch()).clamp(-1, 1), torch.arange(240) < 60
    classes, codes = torch.zeros(240, dtype=torch.int64), torch.ones(240, 1, dtype=torch.int64)
    return ImageGanObjective(images, classes, codes, held, Seed(10), penalty=2.0, annealed=0.1, augment=0.5)


def test_copies_and_lost_modes_raise_an_alarm(objective):
    honest = objective.alarms(Source(torch.randn(60, 1, 8, 8, generator=Seed(11).torch()).clamp(-1, 1)))
    assert honest["diversity"] == pytest.approx(1, abs=0.05)
    assert honest["nearness"] == pytest.approx(1, abs=0.05)
    assert objective.alarms(Source(objective.images[objective.slices[1]]))["nearness"] < 0.1
    assert objective.alarms(Source(objective.images[:1].expand(60, -1, -1, -1)))["diversity"] < 0.1
    validation, train = objective.evaluate(SimpleNamespace(maker=Source(objective.images[objective.slices[1]])))
    assert (float(train), float(validation) > 1) == (pytest.approx(0, abs=1e-6), True)


def test_warnings_are_words():
    fine = {"diversity": 1.0, "nearness": 1.0}
    outcome = Training(10, 10, 0, 1.0, 1.0, 1.0, 0.5, False, (), ())
    assert "nothing was learned" in ImageGan()._warnings(outcome, fine)[0]
    learned = dataclasses.replace(outcome, best_step=5)
    assert ImageGan()._warnings(learned, fine) == []
    assert "mode collapse" in ImageGan()._warnings(learned, {**fine, "diversity": 0.3})[0]
    assert "memorisation" in ImageGan()._warnings(learned, {**fine, "nearness": 0.5})[0]


def test_each_step_moves_both_players_and_the_penalty_goes_down(objective):
    generator = ImageGan(widths=(8, 16))._resolved(8)
    records = ImageRecords(None, (ImageColumn("side", ("left", "right"), ()),), ((),))
    material = Material(
        objective.images, np.zeros(240, dtype=int), np.ones((240, 1), dtype=int), torch.arange(240) < 60
    )
    players = generator._started(material, records, Seed(12))
    found = []
    for share in (0.0, 0.5, 1.0):
        objective.schedule(share)
        players.zero_grad()
        loss = objective(players, torch.arange(16), Seed(13).torch())
        loss.backward()
        found.append(float(loss.detach()))
        for network in (players.maker, players.critic):
            assert max(float(p.grad.abs().max()) for p in network.parameters() if p.grad is not None) > 0
    assert objective.penalty == pytest.approx(0.2)
    assert found[0] > found[1] > found[2]  # the same batch: only the penalty is another


@pytest.mark.filterwarnings("ignore:overflow")
def test_divergence_is_an_error():
    with pytest.raises(SynthgenError, match="diverged"):
        ImageGan(max_steps=40, learning_rate=1e20, **QUICK).fit(phantom(60, seed=1), seed=1)


def corners(n=600):
    """A bright square in one of the four corners: no Gaussian has such images."""
    rng = np.random.default_rng(0)
    images = rng.normal(20, 5, (n, 8, 8))
    for i, corner in enumerate(rng.integers(0, 4, n)):
        row, column = 4 * (corner // 2), 4 * (corner % 2)
        images[i, row : row + 4, column : column + 4] += 200
    return ImageData.of_arrays(images.clip(0, 255).astype("uint8"), {"patient": [str(i) for i in range(n)]})


def bright_corners(images):
    """Which corners are bright and whether the others are dark. Shape: -> (images, 4) boolean, (images,) boolean."""
    pixels = np.stack([images.read(i) for i in range(len(images))]).astype(float)
    means = pixels.reshape(-1, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(-1, 4)
    bright = means > 140
    return bright, (bright.sum(1) == 1) & ((means < 90).sum(1) == 3)


def test_it_learns_what_no_gaussian_can():
    train = corners()
    assert bright_corners(train)[1].all()
    made = ImageGan(max_steps=600, learning_rate=2e-3, **{**QUICK, "size": 8}).fit(train, seed=1).sample(200, seed=2)
    baseline = ImagePca().fit(train, seed=1).sample(200, seed=2)
    bright, single = bright_corners(made)
    assert bright_corners(baseline)[1].mean() < 0.4
    assert single.mean() > 0.6
    assert bright[single].mean(0).min() > 0.08  # all four: no mode is lost


def brightness(n=600):
    """A number and a level that show: the brightness of the image, and of its left half."""
    rng = np.random.default_rng(0)
    side, age = rng.choice(["left", "right"], n), rng.integers(20, 90, n)
    images = rng.normal(20, 5, (n, 8, 8)) + age[:, None, None]
    images[side == "left", :, :4] += 120
    images[side == "right", :, 4:] += 120
    records = {"patient": [str(i) for i in range(n)], "side": side, "age_years": age}
    return ImageData.of_arrays(images.clip(0, 255).astype("uint8"), records)


@pytest.mark.parametrize(("start", "steps"), [("gaussian", 50), ("latent", 200)])
def test_images_go_by_several_columns_and_bands_of_numbers(start, steps):
    settings = {"max_steps": steps, "condition_on": ("side", "age_years"), "start": start}
    generator = ImageGan(**settings, **{**QUICK, "size": 8}).fit(brightness(), seed=1)
    made = {}
    for side in ("left", "right"):
        for age in (25, 85):
            images = generator.sample(20, seed=2, where={"side": side, "age_years": age})
            made[side, age] = np.stack([images.read(i) for i in range(20)]).astype(float)
    for age in (25, 85):
        assert made["left", age][:, :, :4].mean() > made["left", age][:, :, 4:].mean() + 80
        assert made["right", age][:, :, 4:].mean() > made["right", age][:, :, :4].mean() + 80
    for side, dark in (("left", np.s_[:, :, 4:]), ("right", np.s_[:, :, :4])):
        assert made[side, 85][dark].mean() > made[side, 25][dark].mean() + 25


class StopAt:
    def __init__(self, step):
        self.step, self.asked = step, 0

    def __call__(self):
        self.asked += 1
        return self.asked > self.step


def test_stopped_and_resumed_gives_the_same_bytes(tmp_path):
    train, settings = phantom(60, seed=1), {"max_steps": 20, **QUICK}
    whole = ImageGan(**settings).fit(train, seed=1)
    with pytest.raises(Interrupted):
        ImageGan(**settings).fit(train, seed=1, run=Run(folder=tmp_path / "run", stop=StopAt(7)))
    with pytest.raises(DataError, match="penalty"):
        ImageGan(**settings, penalty=7.0).fit(train, seed=1, run=Run(folder=tmp_path / "run", resume=True))
    again = ImageGan(**settings).fit(train, seed=1, run=Run(folder=tmp_path / "run", resume=True))
    for generator, name in ((whole, "a"), (again, "b")):
        generator.save(tmp_path / name)
    for name in ("manifest.json", "weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_volumes_and_colours():
    rng = np.random.default_rng(0)
    volumes = rng.normal(0, 100, (50, 8, 8, 8)).astype("float32")
    people = {"patient": [str(i) for i in range(50)], "modality": ["CT"] * 50, "slice_spacing_mm": [2.0] * 50}
    for start in ("gaussian", "latent"):
        settings = {"max_steps": 3, "widths": (16, 32), "threads": 1, "start": start}
        made = ImageGan(**settings).fit(ImageData.of_arrays(volumes, people), seed=1).sample(2, seed=2)
        assert made.read(0).shape == (8, 8, 8)
        colours = rng.integers(0, 255, (50, 16, 24, 3)).astype("uint8")
        train = ImageData.of_arrays(colours, {"patient": [str(i) for i in range(50)]})
        made = ImageGan(**settings).fit(train, seed=1).sample(2, seed=2)
        assert (made.read(0).shape, made.read(0).dtype) == ((16, 24, 3), np.dtype("uint8"))


def test_the_penalty_of_each_size_is_that_of_the_paper():
    found = [ImageGan()._resolved(side).penalty for side in (32, 64, 256)]
    assert found == pytest.approx([0.23, 2, 147], rel=0.02)
    assert ImageGan(penalty=0.0)._resolved(64).penalty == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"widths": ()},
        {"widths": (0,)},
        {"penalty": -1.0},
        {"augment": 1.5},
        {"annealed": 0.0},
        {"max_seconds": 0},
        {"levels": 4},
    ],
)
def test_settings_are_checked(settings):
    with pytest.raises(UsageError):
        ImageGan(**settings)


def test_altered_models_are_refused_and_the_critic_stays_behind(tmp_path):
    from safetensors import safe_open

    generator = ImageGan(max_steps=2, **QUICK).fit(phantom(60, seed=1), seed=1)
    generator.save(tmp_path)
    with safe_open(tmp_path / "weights.safetensors", "np") as file:
        assert not any("critic" in name or "score" in name for name in file.keys())  # noqa: SIM118
    assert ImageGan.load(tmp_path) == generator
    weights = bytearray((tmp_path / "weights.safetensors").read_bytes())
    weights[-5] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(bytes(weights))
    with pytest.raises(DataError):
        ImageGan.load(tmp_path)
