"""Images that are alike to the eye, and those that are not."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from samples import encoded, noise, photo
from sklearn.datasets import load_digits

from imgpipe.data.images import decode
from imgpipe.prepare import near
from imgpipe.prepare.near import NearPair, near_pairs, thumbnail
from imgpipe.prepare.units import linked


def pairs_of(images: list[Image.Image], correlation: float = 0.97) -> list[NearPair]:
    return near_pairs([thumbnail(image) for image in images], correlation=correlation)


def cropped(image: Image.Image) -> Image.Image:
    """The image without a hundredth of its width and height on each side."""
    x, y = round(image.width / 100), round(image.height / 100)
    return image.crop((x, y, image.width - x, image.height - y))


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": lambda image: decode(encoded(image, "JPEG", quality=30)),
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "quarter": lambda image: image.resize((image.width // 4, image.height // 4)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "cropped": cropped,
    "turned by a degree": lambda image: image.rotate(1, Image.Resampling.BILINEAR),
    "mirrored": ImageOps.mirror,
}


@pytest.mark.parametrize("kind", EDITS)
def test_an_edited_copy_is_near_to_its_photo_and_to_no_other(kind: str) -> None:
    photos = [photo(seed, (200, 150)) for seed in (1, 4, 5, 6, 7, 8)]
    found = pairs_of(photos + [EDITS[kind](image) for image in photos])
    assert [(pair.one, pair.other) for pair in found] == [(i, i + 6) for i in range(6)]
    assert all(pair.mirrored == (kind == "mirrored") for pair in found)


def test_the_correlation_is_that_of_numpy_over_pixels_less_each_channels_mean() -> None:
    one, other = photo(4), EDITS["cropped"](photo(4))
    small = [np.asarray(image.resize((16, 16), Image.Resampling.BOX)).astype(float) for image in (one, other)]
    expected = np.corrcoef(*((levels - levels.mean((0, 1))).ravel() for levels in small))[0, 1]
    (pair,) = pairs_of([one, other])
    assert pair.correlation == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("many", [1, 1000])
def test_the_search_finds_the_pairs_that_comparing_all_with_all_finds(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenes of noise, of which each has some noisy copies, a third of them mirrored; also where 200 are many."""
    monkeypatch.setattr(near, "MANY", many)
    random = np.random.default_rng(0)
    scenes = random.normal(128, 30, (40, 16, 16, 3))
    thumbnails, levels = [], []
    for _ in range(200):
        scene = scenes[random.integers(40)] + random.normal(0, random.uniform(1, 9), (16, 16, 3))
        pixels = (scene[:, ::-1] if random.random() < 0.33 else scene).clip(0, 255).astype(np.uint8)
        thumbnails.append(pixels.tobytes())
        levels.append(pixels.astype(float) - pixels.mean((0, 1)))
    expected = {}
    for i, j in combinations(range(200), 2):
        both = {turned: levels[i][:, ::-1] if turned else levels[i] for turned in (False, True)}
        for turned, one in both.items():
            if (correlation := np.corrcoef(one.ravel(), levels[j].ravel())[0, 1]) >= 0.97:
                expected[i, j] = (correlation, turned)
    found = near_pairs(thumbnails, correlation=0.97)
    assert {(pair.one, pair.other): pair.mirrored for pair in found} == {
        key: turned for key, (_, turned) in expected.items()
    }
    assert all(pair.correlation == pytest.approx(expected[pair.one, pair.other][0], abs=1e-5) for pair in found)
    assert len(expected) > 50


def test_two_things_on_one_ground_are_not_near() -> None:
    """Two shirts: large shapes alike, and another print on each."""
    ground = noise(1, (4, 4)).resize((160, 160), Image.Resampling.BICUBIC)
    shirts = []
    for print_of in (2, 3):
        shirt = ground.copy()
        shirt.paste(ImageEnhance.Contrast(noise(print_of, (5, 5))).enhance(0.5).resize((50, 50)), (55, 55))
        shirts.append(shirt)
    whole, detail = near._compared(
        *(np.frombuffer(thumbnail(shirt), np.uint8).reshape(1, 16, 16, 3) for shirt in shirts)
    )
    assert whole[0] > 0.9 > detail[0]
    assert pairs_of(shirts, correlation=0.9) == []


def test_what_says_little_is_near_to_nothing() -> None:
    """Constant and nearly constant images, and images smaller than a thumbnail."""
    grey = Image.new("RGB", (64, 64), (90, 90, 90))
    dusty = Image.fromarray(np.random.default_rng(0).integers(90, 92, (16, 16, 3), dtype=np.uint8))
    small = noise(0, (15, 40))
    assert pairs_of([image for image in (grey, dusty, small) for _ in range(2)]) == []
    assert len(pairs_of([noise(0, (16, 40))] * 2)) == 1


def test_images_with_little_detail_must_be_much_more_alike() -> None:
    """A word in large letters on paper, the same two pixels to the side, or recompressed; and a photo as near."""
    word = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(word).text((30, 50), "near", fill="black", font_size=30)
    moved = Image.new("RGB", (128, 128), "white")
    moved.paste(word, (2, 0))
    assert [(pair.one, pair.other) for pair in pairs_of([word, EDITS["recompressed"](word)])] == [(0, 1)]
    assert pairs_of([word, moved]) == []
    (pair,) = pairs_of([photo(1), EDITS["turned by a degree"](photo(1))])
    assert 0.99 < pair.correlation < 0.995


def test_scans_of_digits_are_not_near_to_each_other() -> None:
    """Scikit-learn's, of eight by eight pixels, and the same with pixels three times as large."""
    scans = [Image.fromarray((levels * 15.9).astype(np.uint8)) for levels in load_digits().images]
    assert pairs_of(scans) == []
    larger = [scan.resize((24, 24), Image.Resampling.NEAREST) for scan in scans]
    assert len(pairs_of(larger)) <= 10


def test_of_many_that_are_alike_all_are_linked() -> None:
    many = [photo(4).rotate(i / 400, Image.Resampling.BILINEAR) for i in range(100)]
    found = [(pair.one, pair.other) for pair in pairs_of(many)]
    assert set(linked(100, found)) == {0}
    assert len(found) <= near.NEIGHBOURS * 2 * 100


def test_of_few_images_none_is_near() -> None:
    assert pairs_of([]) == pairs_of([photo(4)]) == pairs_of([photo(4), photo(5)]) == []
