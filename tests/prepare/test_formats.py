"""Prepared images on the disk."""

import tarfile
from pathlib import Path, PurePosixPath

import pytest
from prepare.pets import pets, read, sort_in
from samples import zip_of

from imgpipe.pack.pack import image_reader
from imgpipe.prepare.formats import FORMATS
from imgpipe.prepare.prepare import contents


@pytest.mark.parametrize("kind", FORMATS)
def test_prepared_images_are_the_source_s_bytes_in_either_format(tmp_path: Path, kind: str) -> None:
    files = pets()
    source = zip_of(tmp_path / "pets.zip", files)
    found, _ = read(source)
    images, _ = sort_in(found)
    (tmp_path / "out").mkdir()
    FORMATS[kind](tmp_path / "out", contents(source.with_suffix(".spool"), found, images))
    look_up = image_reader(tmp_path / "out")
    assert len(images) == 20
    assert [image.file for image in images] == sorted(image.file for image in images)
    for image in images:
        assert image.file == f"{image.split}/{image.label}/{PurePosixPath(image.source).name}"
        assert (image.width, image.height) == (12, 10)
        assert look_up(image.file) == files[image.source]
        assert image.bytes == len(files[image.source])
    places = {"tree": {"train", "val", "test"}, "tar": {"train.tar", "val.tar", "test.tar"}}
    assert {path.name for path in (tmp_path / "out").iterdir()} == places[kind]
    if kind == "tar":
        with tarfile.open(tmp_path / "out/train.tar") as tar:
            assert {name.split("/")[0] for name in tar.getnames()} == {"cat", "dog"}
