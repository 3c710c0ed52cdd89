"""HEIC and AVIF, as phones and browsers have them, to the pixels that were written."""

import io
import sys
from typing import Any

import numpy as np
import pytest
from conftest import Project
from PIL import Image
from samples import encoded, photo

from imgpipe.common.errors import InputError
from imgpipe.data.archives import is_image
from imgpipe.data.images import decode, eight_bits, is_heic
from imgpipe.data.packed import Form, read_split

pi_heif = pytest.importorskip("pi_heif")
pillow_heif = pytest.importorskip("pillow_heif")


def written(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as HEIC or AVIF of quality 95; Pillow knows pillow-heif no longer than that."""
    buffer = io.BytesIO()
    if kind == "AVIF":
        image.save(buffer, kind, quality=95, **options)
    else:
        pillow_heif.from_pillow(image).save(buffer, quality=95, **options)
    return buffer.getvalue()


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    levels = [np.asarray(eight_bits(image, 3)).astype(float) for image in (one, other)]
    return float(np.abs(levels[0] - levels[1]).mean())


def is_near(one: Image.Image, other: Image.Image) -> bool:
    """Whether they differ no more than JPEG of Pillow's usual quality, 75, changes the one that was written."""
    return difference(one, other) <= difference(decode(encoded(other, "JPEG", quality=75)), other)


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_a_photo_is_read_as_it_was_written(kind: str) -> None:
    content = written(photo(), kind)
    assert is_image("photo", content[:12])
    assert is_near(decode(content), photo())
    assert not is_near(decode(content), photo(2))


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_a_rotated_one_stands_upright(kind: str) -> None:
    """The phone lay on its side; 6 says: turn clockwise to see it upright. Neither not at all nor twice."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = written(photo(), kind, exif=exif.tobytes())
    assert is_near(decode(content), photo().transpose(Image.Transpose.ROTATE_270))


@pytest.mark.parametrize("bits", [10, 12])
def test_more_than_eight_bits_become_eight(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    deep = np.asarray(photo()).astype(np.uint16) * 257
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", photo().size, deep.tobytes()).save(buffer, quality=95)
    assert pillow_heif.open_heif(buffer.getvalue(), convert_hdr_to_8bit=False).info["bit_depth"] == bits
    assert is_near(decode(buffer.getvalue()), photo())


def test_transparent_pixels_are_white() -> None:
    clear = decode(written(Image.new("RGBA", (64, 64), (255, 0, 0, 0)), "HEIC"))
    assert np.asarray(eight_bits(clear, 3)).min() >= 252


def test_the_words_at_the_start_tell_heic_from_avif() -> None:
    def start(*brands: bytes) -> bytes:
        return (16 + 4 * (len(brands) - 1)).to_bytes(4, "big") + b"ftyp" + brands[0] + b"\0" * 4 + b"".join(brands[1:])

    assert is_heic(start(b"heic", b"mif1"))
    assert is_heic(start(b"mif1", b"mif1", b"heix"))
    assert not is_heic(start(b"mif1", b"avif"))
    assert not is_heic(start(b"mif1") + b"heic")  # behind the end of the words
    assert not is_heic(start(b"avif", b"mif1", b"heic"))
    assert not is_heic(start(b"isom", b"heic"))
    assert not is_heic(b"heic")


def test_half_a_file_is_damaged() -> None:
    content = written(photo(), "HEIC")
    with pytest.raises(InputError, match=r"^it"):
        decode(content[: len(content) // 2])


def test_without_pi_heif_a_heic_is_named_with_the_remedy_and_avif_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)  # as if it were not installed
    with pytest.raises(InputError) as refusal:
        decode(written(photo(), "HEIC"))
    assert str(refusal.value) == "it is HEIC, which needs the package pi-heif: pip install 'imgpipe[heic]'"
    assert is_near(decode(written(photo(), "AVIF")), photo())


def test_a_folder_of_them_is_packed_to_the_pixels_that_were_written(project: Project) -> None:
    """Through the real stages; a file's number says which photo it is."""
    for i in range(30):
        kind, suffix = (("HEIC", ".heic"), ("AVIF", ".avif"), ("HEIC", ""))[i % 3]
        path = project.folder / "phone" / "ab"[i % 2] / f"{i}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written(photo(i, (64, 64)), kind))
    project.set(download__location="phone", pack__image_size=64, pack__channels=3)
    project.here("download", "prepare", "pack")
    seen = []
    for split in ("train", "val", "test"):
        form = Form(image_size=64, enlarge=True, channels=3, encoding="raw", jpeg_quality=95, levels=1)
        packed = read_split(project.folder / "data/packed" / split, form)
        for i, file in enumerate(packed.files):
            number = file.rpartition("/")[2].partition(".")[0]
            seen.append(number)
            assert is_near(Image.fromarray(packed.image(i)), photo(int(number), (64, 64)))
    assert sorted(seen, key=int) == [str(i) for i in range(30)]
    assert (project.folder / "data/rejected.csv").read_text(encoding="utf-8") == "source,reason,picture\n"
