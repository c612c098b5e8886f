"""The image diffusion: exact where images are Gaussian, better where they are not, same bytes, stopped and resumed."""

import numpy as np
import pytest
import torch
from PIL import Image

from synthgen.errors import DataError, EnvironmentProblem, Interrupted, UsageError
from synthgen.generators import anchor as anchors
from synthgen.generators import image_diffusion
from synthgen.generators.anchor import GaussianAnchor
from synthgen.generators.augmentation import changed, changes, kinds_of_change
from synthgen.generators.flow import FlowNetwork, FlowObjective, heun
from synthgen.generators.haar import haar, inverse_haar
from synthgen.generators.image_diffusion import ImageDiffusion
from synthgen.generators.image_pca import ImagePca
from synthgen.generators.image_presets import multiple, preset
from synthgen.generators.passes import Passes
from synthgen.image_sheet import sheet
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


def test_directions_of_little_variance_are_sampled_with_it():
    """Equal steps of Heun's method would leave a third of the variance of details."""
    images = torch.randn(20_000, 1, 2, 2, generator=Seed(1).torch()) * torch.tensor([[3.0, 0.3], [0.1, 0.05]])
    anchor = GaussianAnchor.fit(images, np.zeros(len(images), dtype=int), count=1, components=4)
    noise = torch.randn(4_000, 1, 2, 2, generator=Seed(3).torch())
    classes = torch.zeros(4_000, dtype=torch.int64)
    made = heun(lambda x, t: anchor(x, torch.full((len(x),), t), classes)[0], noise, steps=14)
    assert (made.var(0) / images.var(0)).flatten().tolist() == pytest.approx([1.0] * 4, abs=0.15)


def test_a_class_of_few_images_borrows_directions_but_not_its_mean():
    """Images of both classes hardly vary in one half; forty images of 64 numbers cannot say so alone."""
    scale = torch.cat([torch.ones(32), torch.full((32,), 0.01)]).view(1, 8, 8)
    images = torch.randn(2_000, 1, 8, 8, generator=Seed(1).torch()) * scale
    classes = np.ones(len(images), dtype=int)
    classes[:40] = 2
    images[:40, :, 0, 0] += 5
    anchor = GaussianAnchor.fit(images, classes, count=3, components=64)
    covariance = anchor.directions_2.T @ (anchor.variances_2[:, None] * anchor.directions_2)
    assert covariance.diagonal()[32:].mean() < 0.01
    assert covariance.diagonal()[:32].mean() == pytest.approx(1, abs=0.2)
    assert anchor.means[2, 0] == pytest.approx(5, abs=0.5)


def test_directions_of_a_large_matrix_are_those_of_all_eigenvectors(monkeypatch):
    scale = torch.linspace(2, -3, 144).exp()
    mixing = torch.linalg.qr(torch.randn(144, 144, generator=Seed(4).torch())).Q
    rows = torch.randn(500, 144, generator=Seed(5).torch()) * scale @ mixing
    axes, variances, rest = anchors._directions(rows, 20)
    monkeypatch.setattr(anchors, "_EXACT", 64)
    sketched = anchors._directions(rows, 20)
    torch.testing.assert_close(sketched[1], variances, rtol=1e-3, atol=0)
    assert sketched[2] == pytest.approx(rest, rel=1e-2)
    torch.testing.assert_close((axes @ sketched[0].T).abs().diagonal(), torch.ones(20), atol=1e-2, rtol=0)


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
    flow = ImageDiffusion(max_steps=200, batch=32, **QUICK).fit(train, seed=1).sample(200, seed=2)
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


def test_images_go_by_several_columns_and_bands_of_numbers():
    settings = {"max_steps": 150, "batch": 32, "condition_on": ("side", "age_years")}
    generator = ImageDiffusion(**settings, **QUICK).fit(sides(), seed=1)
    for guidance in (1.0, 1.5):
        generator.guidance, made = guidance, {}
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
    train, settings = phantom(60, seed=1), {"max_steps": 20, "augmentation": 0.5, **QUICK}
    whole = ImageDiffusion(**settings).fit(train, seed=1)
    with pytest.raises(Interrupted):
        ImageDiffusion(**settings).fit(train, seed=1, run=Run(folder=tmp_path / "run", stop=StopAt(7)))
    again = ImageDiffusion(**settings).fit(train, seed=1, run=Run(folder=tmp_path / "run", resume=True))
    for generator, name in ((whole, "a"), (again, "b")):
        generator.save(tmp_path / name)
    for name in ("manifest.json", "weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_run_with_a_folder_keeps_sheets_of_samples(tmp_path):
    """They change with the training, not the training with them."""
    train, settings = phantom(60, seed=1), {"max_steps": 50, **QUICK}
    without = ImageDiffusion(**settings).fit(train, seed=1)
    watched = ImageDiffusion(**settings).fit(train, seed=1, run=Run(folder=tmp_path))
    for name, array in without.model.tensors.items():
        np.testing.assert_array_equal(array, watched.model.tensors[name])
    files = sorted((tmp_path / "samples").iterdir())
    assert [file.name for file in files] == ["000010.png", "000050.png"]
    first, last = (np.asarray(Image.open(file)) for file in files)
    assert first.shape == last.shape == (4 * 16 + 3 * 2, 4 * 16 + 3 * 2)
    assert (first != last).any()


def test_sheets_show_volumes_and_colours():
    volume = np.zeros((5, 8, 8), dtype="float32")
    volume[2] = np.arange(64).reshape(8, 8)
    made = sheet([volume] * 3)
    assert made.shape == (18, 18)
    assert made[:8, :8].min() == 0
    assert made[:8, :8].max() == 255
    assert (np.diff(made[:8, :8].ravel().astype(int)) >= 0).all()  # the middle slice
    colours = np.full((8, 8, 3), (200, 100, 0), dtype="uint8")
    assert sheet([colours]).tolist() == colours.tolist()


def blob(*centre, sides=(32, 32), width=3.0):
    """A bright spot. Shape: -> (1, 1, *sides), from -1 to 1."""
    axes = torch.meshgrid(*[torch.arange(side) - (side - 1) / 2 for side in sides], indexing="ij")
    squared = sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True))
    return (torch.exp(-squared / width**2) * 1.6 - 0.8)[None, None]


@pytest.mark.parametrize("sides", [(32, 32), (24, 32), (16, 24, 32)])
def test_changes_move_an_image_as_they_say(sides):
    dims = len(sides)
    x = dims - 1  # the axis of columns

    def centre(image):
        weights = (image[0, 0] + 0.8).clamp(min=0)
        places = torch.meshgrid(*[torch.arange(side) - (side - 1) / 2 for side in sides], indexing="ij")
        return [float((weights * place).sum() / weights.sum()) for place in places]

    spot = blob(*[0.0] * x, 6.0, sides=sides)
    by = torch.zeros(1, kinds_of_change(dims))
    by[0, 0] = 1  # along columns, by .06 of them
    assert centre(changed(spot, by)) == pytest.approx([*[0.0] * x, 6 - 0.06 * sides[x]], abs=0.15)
    by = torch.zeros(1, kinds_of_change(dims))
    by[0, dims] = 1  # turned by .09 radians, and as far from the middle as before, however long the sides
    moved = centre(changed(spot, by))
    assert abs(moved[x - 1]) == pytest.approx(6 * np.sin(0.09), abs=0.1)
    assert moved[x] == pytest.approx(6 * np.cos(0.09), abs=0.1)
    by = torch.zeros(1, kinds_of_change(dims))
    by[0, -3] = 1
    assert centre(changed(spot, by))[x] == pytest.approx(6 / 1.06, abs=0.15)
    by = torch.zeros(1, kinds_of_change(dims))
    by[0, -1] = 1
    torch.testing.assert_close(changed(spot, by), (spot + 0.06).clamp(-1, 1))


def test_half_of_the_images_are_changed_and_the_rest_keep_every_pixel():
    images = torch.rand(400, 1, 8, 8, generator=Seed(1).torch()) * 2 - 1
    by = changes(400, 2, generator=Seed(2).torch())
    assert torch.equal(by, changes(400, 2, generator=Seed(2).torch()))
    same = (changed(images, by) == images).flatten(1).all(1)
    assert torch.equal(same, (by == 0).all(1))
    assert 150 < int(same.sum()) < 250
    assert torch.equal(changed(images, by, strength=0.0), images)


def tiny_network(*, sizes=(), bfloat16=False):
    images = gaussian_images(200).view(200, 1, 4, 4).repeat(1, 4, 1, 1)
    anchor = GaussianAnchor.fit(images, np.zeros(200, dtype=int), count=1, components=8)
    network = FlowNetwork(anchor, channels=4, widths=(16, 32), sizes=sizes, dims=2, seed=Seed(1), bfloat16=bfloat16)
    with torch.no_grad():  # the last layer begins at zero
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=Seed(2).torch()))
    return network, images


def test_the_network_is_told_of_changes_in_training_alone():
    network, images = tiny_network()
    held = torch.arange(200) < 40
    nothing, codes = torch.zeros(200, dtype=torch.int64), torch.zeros(200, 0, dtype=torch.int64)
    told = []

    def listen(_module, inputs):
        told.append(inputs[0][1])

    network.unet.class_embedding.register_forward_pre_hook(listen)
    objective = FlowObjective(images, nothing, codes, held, Seed(1), levels=1, augmentation=1.0)
    objective(network, torch.arange(20), Seed(3).torch())
    assert told[0].shape == (20, 6)
    assert (told[0] != 0).any()
    objective.evaluate(network)
    network.flow(images[:2], 0.5, nothing[:2], codes[:2], guidance=1.0)
    assert told[1:] == [None] * 3


def test_bfloat16_changes_little():
    (full, images), (low, _) = tiny_network(), tiny_network(bfloat16=True)
    t, nothing, codes = torch.full((8,), 0.5), torch.zeros(8, dtype=torch.int64), torch.zeros(8, 0, dtype=torch.int64)
    exact, rough = (network(images[:8], t, nothing, codes) for network in (full, low))
    assert torch.equal(exact[0], rough[0])  # the anchor keeps its precision
    assert rough[2].dtype == torch.float32
    error = (exact[2] - rough[2]).square().mean().sqrt() / exact[2].std()
    assert 0 < error < 0.05


def test_presets_suit_size_number_and_device():
    assert preset((32, 32), images=5_000, cuda=False).widths == (32, 64)
    larger = preset((64, 64), images=5_000, cuda=False)
    assert (larger.levels, larger.widths, larger.batch) == (1, (32, 64), 32)
    assert preset((256, 256), images=5_000, cuda=False).levels == 2
    gpu = preset((64, 64), images=5_000, cuda=True)
    assert (gpu.levels, gpu.widths, gpu.batch) == (1, (64, 128, 192), 256)
    few = preset((64, 64), images=300, cuda=True)
    assert few.batch < gpu.batch
    assert few.blocks < gpu.blocks
    for shape in ((32, 32), (64, 48), (128, 128), (256, 256), (64, 64, 64)):
        for cuda in (False, True):
            found = preset(shape, images=5_000, cuda=cuda)
            assert all(side % multiple(found.levels, found.widths) == 0 for side in shape) or shape == (64, 48)


def test_sides_suit_the_network_asked_for():
    rng = np.random.default_rng(0)
    images = ImageData.of_arrays(
        rng.integers(0, 255, (50, 24, 44)).astype("uint8"), {"patient": [*map(str, range(50))]}
    )
    made = (
        ImageDiffusion(widths=(16, 16, 16, 16), levels=1, max_steps=1, threads=1).fit(images, seed=1).sample(1, seed=2)
    )
    assert made.read(0).shape == (32, 48)  # halved four times: once by the transform, three times by the network


class ShortOfMemory:
    """Fails as a device does while it is asked for more than some rows."""

    def __init__(self, make, most):
        self.make, self.most, self.asked = make, most, []

    def __call__(self, rows):
        self.asked.append(len(rows))
        if len(rows) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self.make(rows)


def test_sampling_goes_on_in_smaller_passes_where_memory_runs_out(caplog):
    passes, make = Passes(most=16), ShortOfMemory(lambda rows: rows * 10, 5)
    assert passes(make, torch.arange(20)).tolist() == [10 * i for i in range(20)]
    assert make.asked == [16, 8, 4, 4, 4, 4, 4]
    assert "passes of 4" in caplog.text
    make.asked.clear()
    passes(make, torch.arange(8))
    assert make.asked == [4, 4]  # it has learned
    with pytest.raises(EnvironmentProblem, match="too little memory"):
        passes(ShortOfMemory(make, 0), torch.arange(3))


def test_images_are_the_same_in_smaller_passes(monkeypatch, caplog):
    generator = ImageDiffusion(max_steps=2, **QUICK).fit(phantom(60, seed=1), seed=1)
    whole = generator.sample(7, seed=2)
    flow = FlowNetwork.flow

    def short(network, x, *arguments, **named):
        if len(x) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return flow(network, x, *arguments, **named)

    monkeypatch.setattr(FlowNetwork, "flow", short)
    parts = generator.sample(7, seed=2)
    assert "passes of 1" in caplog.text
    for i in range(7):
        np.testing.assert_allclose(parts.read(i), whole.read(i), atol=1)  # grey levels of 255


def test_haar_coefficients_take_the_memory_of_the_images():
    images = torch.randn(600, 1, 16, 16, generator=Seed(1).torch())
    expected, place = haar(images.clone(), 2), images.data_ptr()
    made = image_diffusion._in_haar_space(images, 2)
    torch.testing.assert_close(made, expected)
    assert made.data_ptr() == place


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


@pytest.mark.parametrize(
    "settings", [{"widths": (20, 32)}, {"guidance": -1.0}, {"max_seconds": 0}, {"levels": 0}, {"augmentation": -1}]
)
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
