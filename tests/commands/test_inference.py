"""The network sees of an image file what it saw of the test's."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import described, encoded, form, noise, photo

from imgpipe.commands.inference import network_input
from imgpipe.data.images import decode
from imgpipe.data.packed import read_split
from imgpipe.model.crops import FITS, evaluation_square
from imgpipe.pack.pack import pack


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
@pytest.mark.parametrize("enlarge", [True, False])
def test_the_network_sees_the_pixels_that_pack_and_the_crop_give_to_the_bit(
    tmp_path: Path, channels: int, encoding: str, enlarge: bool
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # upright after a quarter turn
    files = {
        "small.png": encoded(noise(0)),
        "large.png": encoded(photo()),
        "turned.jpg": encoded(photo(1, (90, 60)), "JPEG", exif=turned),
        "clear.png": encoded(noise(2, (50, 70)).convert("RGBA")),
        "grey.png": encoded(noise(3, (60, 41)).convert("L")),
    }
    how = form(image_size=40, enlarge=enlarge, channels=channels, encoding=encoding, jpeg_quality=60)
    sizes = {name: decode(content).size for name, content in files.items()}
    rows = [{"file": name, "label": "a", "width": str(w), "height": str(h)} for name, (w, h) in sizes.items()]
    pack(rows, files.__getitem__, tmp_path, images=len(rows), classes=["a"], form=how, processes=1)
    split = read_split(tmp_path, how)
    for fit in FITS:
        description = described(form=how, size=24, fit=fit, crop_fraction=0.9)
        for i, content in enumerate(files.values()):
            expected = np.empty((24, 24, channels), np.uint8)
            evaluation_square(split.image(i), expected, fit=fit, fraction=0.9)
            assert np.array_equal(network_input(content, description), expected)
