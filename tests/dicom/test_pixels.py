"""What pixels mean: known answers for every way in which they may be stored."""

import io
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from dicom_cases import enhanced, image_object, save, volume
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from synthgen.dicom.index import index
from synthgen.dicom.pixels import DicomPixels, read_entry, read_frames
from synthgen.errors import DataError

FILES = Path(pydicom.data.__file__).parent / "test_files"
RAMP = np.arange(64, dtype="uint16").reshape(8, 8)


def read(tmp_path, pixels, **elements):
    path = save(image_object(pixels, **elements), tmp_path / "object")
    with path.open("rb") as file:
        return read_frames(file, [0])[0]


def test_hounsfield_units(tmp_path):
    image = read(tmp_path, RAMP, RescaleSlope=2, RescaleIntercept=-1024)
    np.testing.assert_array_equal(image, RAMP * 2.0 - 1024)
    assert image.dtype == np.float32


def test_unused_bits_are_masked_and_the_sign_is_kept(tmp_path):
    stored = (RAMP | 0xF000).astype("uint16")  # an overlay in the four upper bits
    image = read(tmp_path, stored, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(image, RAMP)
    negative = (-RAMP.astype("int16") & 0x0FFF).astype("uint16")
    image = read(tmp_path, negative, BitsStored=12, HighBit=11, PixelRepresentation=1)
    np.testing.assert_array_equal(image, -RAMP.astype("float32"))


def test_bits_may_lie_higher_than_they_must(tmp_path):
    np.testing.assert_array_equal(read(tmp_path, RAMP << 4, BitsStored=12, HighBit=15), RAMP)


def test_one_bit_and_float_pixels(tmp_path):
    (image,) = read_entry(index(FILES / "liver_1frame.dcm").entries[0], [0])
    assert set(np.unique(image)) <= {0.0, 1.0}
    floats = RAMP.astype("float32") / 7 - 3
    np.testing.assert_array_equal(read(tmp_path, floats), floats)


def test_padding_takes_the_lowest_value_of_the_rest(tmp_path):
    stored = RAMP.astype("int16") + 10
    stored[:2] = -2_000
    image = read(tmp_path, stored, PixelPaddingValue=-2_000)
    assert image.min() == 26
    assert (image[:2] == 26).all()
    image = read(tmp_path, stored, PixelPaddingValue=-2_000, PixelPaddingRangeLimit=40)
    assert image.min() == 41


def test_projections_are_shown_through_their_window_and_slices_are_not(tmp_path):
    window = {"WindowCenter": 32, "WindowWidth": 65}
    shown = read(tmp_path, RAMP, modality="CR", BitsStored=12, HighBit=11, **window)
    np.testing.assert_allclose(shown, ((RAMP - 31.5) / 64 + 0.5) * 4095, rtol=1e-6)  # PS3.3 C.11.2.1.2.1
    np.testing.assert_array_equal(read(tmp_path, RAMP, modality="CT", **window), RAMP)
    sigmoid = read(tmp_path, RAMP, modality="CR", BitsStored=12, HighBit=11, VOILUTFunction="SIGMOID", **window)
    assert sigmoid[4, 0] == pytest.approx(4095 / 2)


def test_monochrome1_is_inverted_after_the_window(tmp_path):
    kind = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    image = read(tmp_path, RAMP, modality="CR", **kind)
    np.testing.assert_array_equal(image, 4095.0 - RAMP)
    shown = read(tmp_path, RAMP, modality="CR", WindowCenter=16, WindowWidth=33, **kind)
    np.testing.assert_allclose(shown, 4095 - np.clip((RAMP - 15.5) / 32 + 0.5, 0, 1) * 4095, rtol=1e-6)


def test_a_voi_lut_goes_before_the_window(tmp_path):
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [64, 0, 8], np.arange(255, -1, -4, dtype="uint16").tobytes()
    image = read(tmp_path, RAMP, modality="CR", BitsStored=12, HighBit=11, VOILUTSequence=Sequence([lut]))
    np.testing.assert_allclose(image, (255 - 4.0 * RAMP) * 4095 / 255, rtol=1e-6)


def test_a_modality_lut_is_looked_up(tmp_path):
    lut = Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType = [3, 10, 16], "US"
    lut.LUTData = np.array([100, 200, 300], dtype="uint16").tobytes()
    image = read(tmp_path, RAMP, ModalityLUTSequence=Sequence([lut]))
    assert image.flatten()[[0, 10, 11, 12, 40]].tolist() == [100, 100, 200, 300, 300]


def test_each_frame_of_an_enhanced_object_has_its_own_rescale(tmp_path):
    pixels = np.stack([RAMP, RAMP, RAMP])
    path = save(enhanced(pixels, slopes=[1, 2, 3]), tmp_path / "a")
    with path.open("rb") as file:
        frames = read_frames(file, [0, 2])
    np.testing.assert_array_equal(frames, np.stack([RAMP - 1000.0, RAMP * 3.0 - 1000]))


@pytest.mark.parametrize("name", ["examples_palette.dcm", "examples_ybr_color.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_colours_become_rgb_of_eight_bits(name):
    (image,) = read_entry(index(FILES / name, accept=["secondary capture"]).entries[0], [0])
    assert (image.ndim, image.shape[-1], image.dtype) == (3, 3, np.dtype("uint8"))


def test_rgb_in_planes_and_in_pixels_are_the_same(tmp_path):
    colours = np.arange(192, dtype="uint8").reshape(8, 8, 3)
    np.testing.assert_array_equal(read(tmp_path, colours, modality="OT"), colours)


def test_a_volume_is_read_in_the_order_of_space(tmp_path):
    found = index(volume(tmp_path))
    pixels = DicomPixels(found.entries, [found.series[0].slices], volumes=True)
    assert pixels.read(0)[:, 0, 0].tolist() == [100, 200, 300, 400, 500]
    assert pixels.digest(0) == pixels.digest(0) != DicomPixels(found.entries, [((0, 0),)], volumes=False).digest(0)


def test_a_file_that_went_away_is_an_error_without_its_name(tmp_path):
    found = index(volume(tmp_path))
    pixels = DicomPixels(found.entries, [found.series[0].slices], volumes=True)
    (tmp_path / found.entries[0].name).unlink()
    with pytest.raises(DataError, match=r"^image 0 can no longer be read: may not be read$"):
        pixels.read(0)


def test_decoders_agree_with_the_bytes_of_other_transfer_syntaxes():
    plain = read_frames(io.BytesIO((FILES / "MR_small.dcm").read_bytes()), [0])[0]
    for name in (
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_bigendian.dcm",
    ):
        np.testing.assert_array_equal(read_frames(io.BytesIO((FILES / name).read_bytes()), [0])[0], plain)
