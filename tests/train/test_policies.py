"""TrivialAugment and RandAugment against torchvision's tables and its way to apply them."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from PIL import ImageOps
from torchvision.transforms import v2
from train.test_colours import IMAGES, NOISE, PHOTO, pil, pixels

from imgpipe.data.packed import Pixels
from imgpipe.model.randomness import Floats
from imgpipe.train import policies
from imgpipe.train.policies import (
    MOST_OPERATIONS,
    RAND_AUGMENT,
    RAND_AUGMENT_DRAWS,
    TRIVIAL_AUGMENT,
    TRIVIAL_AUGMENT_DRAWS,
    autocontrast,
    equalize,
    rand_augment,
    translate_x,
    translate_y,
    trivial_augment,
)

POLICIES = {
    "TrivialAugment": (TRIVIAL_AUGMENT, v2.TrivialAugmentWide()),
    "RandAugment": (RAND_AUGMENT, v2.RandAugment()),
}
NAMES = list(v2.RandAugment._AUGMENTATION_SPACE)


def place(name: str) -> float:
    """A random number that chooses the operation."""
    return (NAMES.index(name) + 0.5) / 14


def magnitude(name: str, argument: float, policy: str, image: Pixels) -> float:
    """What torchvision calls the magnitude of an operation, from our function's argument."""
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        return argument - 1
    if name == "Solarize":
        return argument / 255
    if name == "Posterize":
        return round(argument)
    if policy == "RandAugment" and name.startswith("Translate"):
        side: int = image.shape[1 if name == "TranslateX" else 0]
        return argument * side / 331
    return argument


@pytest.mark.parametrize("channels", [1, 3])
def test_levels_are_stretched_and_spread_as_pillow_does_however_few_there_are(channels: int) -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        low, high = sorted(random.integers(0, 256, 2).tolist())
        height, width, coarse = random.integers(1, 40, 3).tolist()
        image = (random.integers(low, high + 1, (height, width, channels)) // coarse * coarse).astype(np.uint8)
        assert np.array_equal(autocontrast(image), pixels(ImageOps.autocontrast(pil(image))))
        assert np.array_equal(equalize(image), pixels(ImageOps.equalize(pil(image))))


@pytest.mark.parametrize("move", [translate_x, translate_y])
def test_an_image_may_be_moved_out_of_sight(move: Callable[[Pixels, float], Pixels]) -> None:
    image = np.full((5, 4, 3), 9, dtype=np.uint8)
    assert [int(move(image, distance).sum()) for distance in (-60.0, -5.0, 5.0, 60.0)] == [0] * 4
    assert move(image, 3.9).any()


@pytest.mark.parametrize("size", [(32, 32), (120, 160), (331, 400)])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_tables_are_torchvision_s(policy: str, size: tuple[int, int]) -> None:
    """Theirs are float32; for RandAugment's moves, they depend on the size."""
    ours, theirs = POLICIES[policy]
    image = np.zeros((*size, 3), dtype=np.uint8)
    assert list(ours) == list(theirs._AUGMENTATION_SPACE)
    for name, (_, start, reach, either_side) in ours.items():
        magnitudes, signed = theirs._AUGMENTATION_SPACE[name]
        expected = magnitudes(31, *size)
        assert either_side == signed, name
        if expected is not None:
            arguments = [start + reach * i / 30 for i in range(31)]
            found = [magnitude(name, argument, policy, image) for argument in arguments]
            assert np.allclose(found, expected.numpy(), rtol=1e-6, atol=1e-6), name


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("policy", POLICIES)
def test_an_operation_is_bit_for_bit_torchvision_s_at_every_magnitude(policy: str, name: str, image: Pixels) -> None:
    """Torchvision is given our magnitude, as its own in float32 can fall on the other side of a whole number."""
    ours, theirs = POLICIES[policy]
    function, start, reach, either_side = ours[name]
    for side in (1, -1) if either_side else (1,):
        for i in range(31):
            argument = start + side * (reach * i / 30)
            expected = theirs._apply_image_or_video_transform(
                pil(image), name, magnitude(name, argument, policy, image), theirs.interpolation, theirs._fill
            )
            assert np.array_equal(function(image, argument), pixels(expected)), argument


# by hand: magnitude 0, 12 and 30 of TrivialAugment's operations to the one side and to the other
TRIVIAL = {
    "ShearX": ([0, 0.396, 0.99], [0, -0.396, -0.99]),
    "TranslateY": ([0, 12.8, 32], [0, -12.8, -32]),
    "Rotate": ([0, 54, 135], [0, -54, -135]),
    "Contrast": ([0, 0.396, 0.99], [0, -0.396, -0.99]),
    "Posterize": ([8, 6, 2], [8, 6, 2]),
    "Solarize": ([1, 0.6, 0], [1, 0.6, 0]),
    "Equalize": ([0, 0, 0], [0, 0, 0]),
}


@pytest.mark.parametrize("image", [PHOTO, NOISE], ids=["photo", "noise"])
@pytest.mark.parametrize(("name", "sides"), TRIVIAL.items(), ids=TRIVIAL)
def test_trivial_augment_applies_what_its_random_numbers_say(
    name: str, sides: tuple[list[float], list[float]], image: Pixels
) -> None:
    theirs = v2.TrivialAugmentWide()
    for number, expected in zip([0.7, 0.2], sides, strict=True):
        for i, value in zip([0, 12, 30], expected, strict=True):
            ours = trivial_augment(image, np.array([place(name), (i + 0.5) / 31, number]))
            changed = theirs._apply_image_or_video_transform(
                pil(image), name, value, theirs.interpolation, theirs._fill
            )
            assert np.array_equal(ours, pixels(changed)), (i, value)


@pytest.mark.parametrize("operations", range(1, MOST_OPERATIONS + 1))
@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_rand_augment_applies_one_operation_after_the_other(image: Pixels, operations: int) -> None:
    """By hand: at magnitude 10 of 30, a third of the way."""
    theirs = v2.RandAugment()
    chain = [("ShearX", 0.2, -0.1), ("Equalize", 0.9, 0), ("Rotate", 0.9, 10), ("Brightness", 0.2, -0.3)]
    row = np.array([[place(name), side] for name, side, _ in chain]).ravel()
    expected = pil(image)
    for name, _, value in chain[:operations]:
        expected = theirs._apply_image_or_video_transform(expected, name, value, theirs.interpolation, theirs._fill)
    assert np.array_equal(rand_augment(image, row, operations=operations, magnitude=10), pixels(expected))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """What is applied, by name and argument, in place of doing it."""
    calls: list[tuple[str, float]] = []

    def note(name: str, image: Pixels, argument: float) -> Pixels:
        calls.append((name, argument))
        return image

    for table in ("TRIVIAL_AUGMENT", "RAND_AUGMENT"):
        operations = getattr(policies, table)
        monkeypatch.setattr(
            policies, table, {name: (partial(note, name), *rest) for name, (_, *rest) in operations.items()}
        )
    return calls


def test_every_operation_magnitude_and_side_of_trivial_augment_is_as_likely(seen: list[tuple[str, float]]) -> None:
    for which in range(14):
        for i in range(31):
            for side in (0.499, 0.501):
                trivial_augment(PHOTO, np.array([(which + 0.5) / 14, (i + 0.5) / 31, side]))
    assert Counter(name for name, _ in seen) == dict.fromkeys(NAMES, 62)
    moves = Counter(round(argument * 30) for name, argument in seen if name == "TranslateX")
    assert moves == {0: 2, **{side * 32 * i: 1 for side in (1, -1) for i in range(1, 31)}}
    assert Counter(argument for name, argument in seen if name == "Solarize") == {255 - 8.5 * i: 2 for i in range(31)}


def test_every_operation_of_rand_augment_is_as_likely_at_every_place(seen: list[tuple[str, float]]) -> None:
    for place_in_chain in range(MOST_OPERATIONS):
        seen.clear()
        for number in np.linspace(0, 1, 1400, endpoint=False) + 1e-4:
            row = np.zeros(RAND_AUGMENT_DRAWS)
            row[2 * place_in_chain] = number
            rand_augment(PHOTO, row, operations=MOST_OPERATIONS, magnitude=9)
        assert Counter(name for name, _ in seen[place_in_chain::MOST_OPERATIONS]) == dict.fromkeys(NAMES, 100)


@pytest.mark.parametrize("numbers", [np.zeros(8), np.full(8, np.nextafter(1, 0))], ids=["lowest", "highest"])
def test_the_ends_of_the_random_numbers_are_the_ends_of_the_table(
    seen: list[tuple[str, float]], numbers: Floats
) -> None:
    trivial_augment(PHOTO, numbers)
    rand_augment(PHOTO, numbers, operations=1, magnitude=30)
    assert {name for name, _ in seen} == {NAMES[0] if numbers[0] == 0 else NAMES[-1]}


def augmented(threads: int) -> list[tuple[bytes, bytes]]:
    rows = np.random.default_rng(4).random((120, RAND_AUGMENT_DRAWS))

    def both(row: Floats) -> tuple[bytes, bytes]:
        rand = rand_augment(PHOTO, row, operations=2, magnitude=9)
        return trivial_augment(PHOTO, row[:TRIVIAL_AUGMENT_DRAWS]).tobytes(), rand.tobytes()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(both, rows))


def test_the_images_are_the_same_in_1_and_4_threads() -> None:
    assert augmented(1) == augmented(4)


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_does_not_write_to_its_image(name: str) -> None:
    for original in (PHOTO, IMAGES["grey photo"]):
        image = original.copy()
        for side in (0.2, 0.7):
            trivial_augment(image, np.array([place(name), 0.9, side]))
            rand_augment(image, np.array([place(name), side] * 4), operations=4, magnitude=30)
        assert np.array_equal(image, original)
