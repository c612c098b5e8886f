"""The image diffusion: exact where images are Gaussian, better where they are not, same bytes, stopped and resumed."""

import numpy as np
import pytest
import torch

from synthgen.errors import DataError, Interrupted, UsageError
from synthgen.generators.anchor import GaussianAnchor
from synthgen.generators.flow import heun
from synthgen.generators.haar import haar, inverse_haar
from synthgen.generators.image_diffusion import ImageDiffusion
from synthgen.generators.image_pca import ImagePca
from synthgen.images import ImageData
from synthgen.phantom import phantom
from synthgen.protocols import Run
from synthgen.rng import Seed

QUICK = {"size": 16, "widths": (16, 32), "threads": 1}


@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (2, 1, 8, 4, 16)])
@pytest.mark.parametrize("levels", [1, 2])
def test_haar_is_orthonormal_and_loses_nothing(shape, levels):
    images = torch.randn(shape, generator=Seed(1).torch())
    made = haar(images, levels)
    dims = len(shape) - 2
    assert made.shape[1] == shape[1] * 2 ** (dims * levels)
    torch.testing.assert_close(made.square().sum(), images.square().sum())
    torch.testing.assert_close(inverse_haar(made, levels), images)
    flat = haar(torch.ones(1, 1, *shape[2:]), levels)
    assert flat[0, 0].unique().tolist() == pytest.approx([2 ** (dims * levels / 2)])
    assert flat[0, 1:].abs().max() == 0  # coarse first, all others differences


def gaussian_images(n=20_000):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(16, 16)) * 0.3
    return torch.from_numpy(rng.normal(size=(n, 16)) @ mixing + 0.5).float().view(n, 1, 4, 4)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_anchor_is_the_conditional_mean(t):
    """The velocity is the best linear prediction of x0 - e from x, and what is left has the variance it says."""
    images = gaussian_images()
    anchor = GaussianAnchor.fit(images, np.zeros(len(images), dtype=int), count=1, components=16)
    noise = torch.randn(images.shape, generator=Seed(2).torch())
    x = (1 - t) * images + t * noise
    velocity, left = anchor(x, torch.full((len(x),), t), torch.zeros(len(x), dtype=torch.int64))
    rest = (images - noise - velocity).flatten(1)
    assert rest.mean(0).abs().max() < 0.05
    inputs = x.flatten(1) - x.flatten(1).mean(0)
    assert (inputs.T @ rest / len(x)).abs().max() < 0.05  # nothing linear is left
    assert rest.square().mean().sqrt() == pytest.approx(float(left[0]), rel=0.02)


def test_with_nothing_learned_the_flow_gives_the_gaussian():
    images = gaussian_images()
    anchor = GaussianAnchor.fit(images, np.zeros(len(images), dtype=int), count=1, components=16)
    noise = torch.randn(4_000, 1, 4, 4, generator=Seed(3).torch())
    classes = torch.zeros(4_000, dtype=torch.int64)
    made = heun(lambda x, t: anchor(x, torch.full((len(x),), t), classes)[0], noise, steps=30).flatten(1)
    real = images.flatten(1)
    torch.testing.assert_close(made.mean(0), real.mean(0), atol=0.06, rtol=0)
    torch.testing.assert_close(torch.cov(made.T), torch.cov(real.T), atol=0.15, rtol=0)


def corners(n=600):
    """A bright square in one of the four corners: no Gaussian has such images."""
    rng = np.random.default_rng(0)
    images = rng.normal(20, 5, (n, 16, 16))
    for i, corner in enumerate(rng.integers(0, 4, n)):
        row, column = 8 * (corner // 2), 8 * (corner % 2)
        images[i, row : row + 8, column : column + 8] += 200
    return ImageData.of_arrays(images.clip(0, 255).astype("uint8"), {"patient": [str(i) for i in range(n)]})


def one_corner(images):
    """The share of images with one bright corner and three dark ones."""
    pixels = np.stack([images.read(i) for i in range(len(images))]).astype(float)
    bright = pixels.reshape(-1, 2, 8, 2, 8).mean(axis=(2, 4)).reshape(-1, 4)
    return float(((bright > 140).sum(1) + (bright < 90).sum(1) == 4)[(bright > 140).sum(1) == 1].sum() / len(bright))


def test_it_learns_what_no_gaussian_can():
    train = corners()
    assert one_corner(train) == 1
    flow = ImageDiffusion(max_steps=400, batch=32, **QUICK).fit(train, seed=1).sample(200, seed=2)
    baseline = ImagePca().fit(train, seed=1).sample(200, seed=2)
    assert one_corner(baseline) < 0.4
    assert one_corner(flow) > 0.75


def sides(n=800):
    """Two columns that show: the brighter half, and a number that is the brightness of the other."""
    rng = np.random.default_rng(0)
    side, age = rng.choice(["left", "right"], n), rng.integers(20, 90, n)
    images = rng.normal(20, 5, (n, 16, 16)) + age[:, None, None]
    images[side == "left", :, :8] += 120
    images[side == "right", :, 8:] += 120
    records = {"patient": [str(i) for i in range(n)], "side": side, "age_years": age}
    return ImageData.of_arrays(images.clip(0, 255).astype("uint8"), records)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_images_go_by_several_columns_and_bands_of_numbers(guidance):
    settings = {"max_steps": 200, "batch": 32, "condition_on": ("side", "age_years"), "guidance": guidance}
    generator = ImageDiffusion(**settings, **QUICK).fit(sides(), seed=1)
    made = {}
    for side in ("left", "right"):
        for age in (25, 85):
            images = generator.sample(20, seed=2, where={"side": side, "age_years": age})
            made[side, age] = np.stack([images.read(i) for i in range(20)]).astype(float)
    for age in (25, 85):
        assert made["left", age][:, :, :8].mean() > made["left", age][:, :, 8:].mean() + 80
        assert made["right", age][:, :, 8:].mean() > made["right", age][:, :, :8].mean() + 80
    for side, dark in (("left", np.s_[:, :, 8:]), ("right", np.s_[:, :, :8])):
        assert made[side, 85][dark].mean() > made[side, 25][dark].mean() + 25


class StopAt:
    def __init__(self, step):
        self.step, self.asked = step, 0

    def __call__(self):
        self.asked += 1
        return self.asked > self.step


def test_stopped_and_resumed_gives_the_same_bytes(tmp_path):
    train, settings = phantom(60, seed=1), {"max_steps": 20, **QUICK}
    whole = ImageDiffusion(**settings).fit(train, seed=1)
    with pytest.raises(Interrupted):
        ImageDiffusion(**settings).fit(train, seed=1, run=Run(folder=tmp_path / "run", stop=StopAt(7)))
    again = ImageDiffusion(**settings).fit(train, seed=1, run=Run(folder=tmp_path / "run", resume=True))
    for generator, name in ((whole, "a"), (again, "b")):
        generator.save(tmp_path / name)
    for name in ("manifest.json", "weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_volumes_and_colours():
    rng = np.random.default_rng(0)
    volumes = rng.normal(0, 100, (50, 8, 8, 8)).astype("float32")
    people = {"patient": [str(i) for i in range(50)], "modality": ["CT"] * 50, "slice_spacing_mm": [2.0] * 50}
    settings = {"max_steps": 3, "widths": (16, 32), "threads": 1}
    made = ImageDiffusion(**settings).fit(ImageData.of_arrays(volumes, people), seed=1).sample(2, seed=2)
    assert made.read(0).shape == (8, 8, 8)
    colours = rng.integers(0, 255, (50, 16, 16, 3)).astype("uint8")
    train = ImageData.of_arrays(colours, {"patient": [str(i) for i in range(50)]})
    made = ImageDiffusion(**settings).fit(train, seed=1).sample(2, seed=2)
    assert (made.read(0).shape, made.read(0).dtype) == ((16, 16, 3), np.dtype("uint8"))


@pytest.mark.parametrize("settings", [{"widths": (20, 32)}, {"guidance": -1.0}, {"max_seconds": 0}, {"levels": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(UsageError):
        ImageDiffusion(**settings)


def test_altered_models_are_refused(tmp_path):
    ImageDiffusion(max_steps=2, **QUICK).fit(phantom(60, seed=1), seed=1).save(tmp_path)
    weights = bytearray((tmp_path / "weights.safetensors").read_bytes())
    weights[-5] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(bytes(weights))
    with pytest.raises(DataError):
        ImageDiffusion.load(tmp_path)
