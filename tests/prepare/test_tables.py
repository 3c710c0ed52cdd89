"""Tables that say what images are: which rows are whose, what is taken from them, and what is refused."""

import csv
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from prepare.pets import labelled
from samples import encoded, noise, tar_of, zip_of

from imgpipe.common.errors import InputError
from imgpipe.prepare.layouts import PathParts
from imgpipe.prepare.params import Columns
from imgpipe.prepare.reading import Rejected, check_rejected
from imgpipe.prepare.tables import Tables, read_tables, slices


def columns(**names: Any) -> Columns:
    return Columns(**{"file": "file", "label": "label", "split": None, "group": None, **names})


def tables_of(path: Path, files: dict[str, str], name: str = "labels.csv", **names: Any) -> Tables:
    """The tables of a zip of these texts, where what is no table stands for an image."""
    contents = {source: text.encode() for source, text in files.items()}
    return read_tables(zip_of(path / "pets.zip", contents), name, columns(**names))


def named(tables: Tables) -> dict[str, tuple[str, str, str]]:
    """Label, split and group of each image."""
    parts = {source: row.named for source, row in tables.rows.items()}
    return {source: (part.label, part.split, part.group) for source, part in parts.items()}


def refusal_of(path: Path, text: str | bytes, **names: Any) -> str:
    """What is said of a table beside the images a.png and b.png, whose paths the archive begins with pets/."""
    content = text if isinstance(text, bytes) else text.encode()
    archive = zip_of(path / "pets.zip", {"pets/labels.csv": content, "pets/a.png": b"", "pets/b.png": b""})
    with pytest.raises(InputError) as refusal:
        read_tables(archive, "labels.csv", columns(**names))
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_labels_splits_and_groups_come_from_their_columns(tmp_path: Path) -> None:
    text = "patient,file,class,part\n7,a.png, a cat ,Validation\n8,b.png,dog,\n9,c.png,dog,TEST\n"
    tables = tables_of(
        tmp_path,
        {"labels.csv": text, "a.png": "", "b.png": "", "c.png": ""},
        label="class",
        split="part",
        group="patient",
    )
    assert named(tables) == {
        "a.png": ("a cat", "val", "7"),
        "b.png": ("dog", "", "8"),
        "c.png": ("dog", "test", "9"),
    }


def test_one_table_in_each_folder_names_images_from_there_and_the_folder_is_the_split(tmp_path: Path) -> None:
    """The layout of Hugging Face's ImageFolder."""
    files = {
        "pets/train/metadata.csv": "file_name,label\n1.png,cat\nmore/2.png,dog\n",
        "pets/test/metadata.csv": "file_name,label\n1.png,dog\n",
        **dict.fromkeys(["pets/train/1.png", "pets/train/more/2.png", "pets/test/1.png"], ""),
    }
    assert named(tables_of(tmp_path, files, "metadata.csv", file="file_name")) == {
        "pets/train/1.png": ("cat", "train", ""),
        "pets/train/more/2.png": ("dog", "train", ""),
        "pets/test/1.png": ("dog", "test", ""),
    }


def test_where_a_split_column_has_no_word_the_folder_does_not_speak_for_it(tmp_path: Path) -> None:
    files = {"labels.csv": "file,label,split\ntrain/a.png,cat,\n", "train/a.png": ""}
    assert named(tables_of(tmp_path, files, split="split")) == {"train/a.png": ("cat", "", "")}
    assert named(tables_of(tmp_path, files)) == {"train/a.png": ("cat", "train", "")}


@pytest.mark.parametrize(
    "cell",
    ["images/a.png", "./images/a.png", "images\\a.png", " .\\images\\a.png ", "../meta/../images/a.png",
     "../images/a.png", "pets/images/a.png"],
)  # fmt: skip
def test_a_path_may_be_written_in_many_ways(tmp_path: Path, cell: str) -> None:
    """From the table's folder, from one above it or from the archive's top, with either slash."""
    files = {"pets/meta/labels.csv": f"file,label\n{cell},cat\n", "pets/images/a.png": ""}
    assert list(tables_of(tmp_path, files).rows) == ["pets/images/a.png"]


def test_a_path_from_the_tables_own_folder_comes_before_one_from_above(tmp_path: Path) -> None:
    files = {"one/labels.csv": "file,label\na.png,cat\n", "one/a.png": "", "a.png": ""}
    assert list(tables_of(tmp_path, files).rows) == ["one/a.png"]


def test_members_of_a_tar_that_was_made_from_within_its_folder_are_found(tmp_path: Path) -> None:
    files = {"./labels.csv": b"file,label\nimages/a.png,cat\n", "./images/a.png": b""}
    tables = read_tables(tar_of(tmp_path / "pets.tar.gz", files, "gz"), "labels.csv", columns())
    assert list(tables.rows) == ["./images/a.png"]


def test_members_of_a_tar_with_backslashes_are_found(tmp_path: Path) -> None:
    files = {"labels.csv": b"file,label\nimages\\a.png,cat\n", "images\\a.png": b""}
    tables = read_tables(tar_of(tmp_path / "pets.tar", files), "labels.csv", columns())
    assert list(tables.rows) == ["images\\a.png"]


def test_a_table_may_be_named_by_its_whole_path_and_then_no_other_is_read(tmp_path: Path) -> None:
    files = {"good/labels.csv": "file,label\na.png,cat\n", "bad/labels.csv": "file,label\n", "good/a.png": ""}
    assert list(tables_of(tmp_path, files, "good/labels.csv").rows) == ["good/a.png"]


def test_quotes_byte_order_marks_windows_lines_and_blank_lines_are_read(tmp_path: Path) -> None:
    text = '\ufefffile,label,note\r\n"a,1.png","the ""cat""","two\r\nlines"\r\n\r\nb.png,dog,\r\n,,\r\n'
    tables = tables_of(tmp_path, {"labels.csv": text, "a,1.png": "", "b.png": ""})
    assert named(tables) == {"a,1.png": ('the "cat"', "", ""), "b.png": ("dog", "", "")}
    assert tables.rows["a,1.png"].other == {"note": "two\r\nlines"}
    assert tables.rows["b.png"].place == "labels.csv, line 5"


def test_other_columns_are_kept_for_the_images_that_stay_and_those_of_several_tables_united(tmp_path: Path) -> None:
    files = {
        "test/labels.csv": ",file,label,age\n0,c.png,cat,70\n",  # as pandas writes its index, without a name
        "train/labels.csv": "file,sex,label\na.png,f,cat\nb.png,,dog\n",
        **dict.fromkeys(["test/c.png", "train/a.png", "train/b.png"], ""),
    }
    tables = tables_of(tmp_path, files)
    assert slices({"test/cat/c.png": "test/c.png", "train/cat/a.png": "train/a.png"}, tables) == (
        ["file", "age", "sex"],
        [{"file": "test/cat/c.png", "age": "70", "sex": ""}, {"file": "train/cat/a.png", "age": "", "sex": "f"}],
    )


def test_without_other_columns_and_without_a_table_slices_is_a_header(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, {"labels.csv": "file,label\na.png,cat\n", "a.png": ""})
    assert slices({"train/cat/a.png": "a.png"}, tables) == (["file"], [])
    assert slices({"train/cat/a.png": "a.png"}, None) == (["file"], [])


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        tables_of(tmp_path, {"lables.csv": "", "more/notes.csv": "", "a.png": ""})
    assert str(refusal.value) == (
        "params.yaml: prepare.table is 'labels.csv', which is not in pets.zip; its tables are lables.csv or "
        "more/notes.csv; did you mean lables.csv?"
    )
    with pytest.raises(InputError, match=r"which is not in pets.zip; it has no \.csv file$"):
        tables_of(tmp_path, {"a.png": ""})


REFUSED: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "column": (
        "file,class\na.png,cat\n",
        {"label": "clas"},
        "params.yaml: prepare.columns.label is 'clas', a column that pets/labels.csv lacks; it has file, class; "
        "did you mean class?",
    ),
    "group's column": (
        "file,label\na.png,cat\n",
        {"group": "patient"},
        "params.yaml: prepare.columns.group is 'patient', a column that pets/labels.csv lacks; it has file, label",
    ),
    "nothing in it": (
        "",
        {},
        "params.yaml: prepare.columns.file is 'file', a column that pets/labels.csv lacks; it has none",
    ),
    "no rows": ("file,label\n", {}, "pets/labels.csv names no file; it must have a row for each image"),
    "two columns of a name": (
        "file,label,label\na.png,cat,dog\n",
        {},
        "pets/labels.csv has 2 columns of the name 'label'; rename one",
    ),
    "a column that slices.csv has": (
        "name,label,file\na.png,cat,1\n",
        {"file": "name"},
        "pets/labels.csv has a column 'file' that is not prepare.columns.file, and data/slices.csv has one of that "
        "name; rename it",
    ),
    "Latin letters": (
        "file,label\na.png,cat\nb.png,Säule\n".encode("latin-1"),
        {},
        "pets/labels.csv is not UTF-8 text, as line 3 shows; save it as UTF-8",
    ),
    "a quote without its end": (
        'file,label\na.png,"cat\nb.png,dog\n',
        {},
        "pets/labels.csv, line 2: the row that begins here is no CSV, unexpected end of data; mend it",
    ),
    "files that are not there": (
        "file,label\na.png,cat\nc.png,cat\nb.png,dog\nd.png,dog\n",
        {},
        "pets/labels.csv names 2 files that are not in pets.zip, first in line 3: 'c.png'; paths in it must be from "
        "its own folder or one above it",
    ),
    "no path": (
        "file,label\n ,cat\n",
        {},
        "pets/labels.csv, line 2: its file (column 'file') is empty; fill it in or take the row out",
    ),
    "no label": (
        "file,class\na.png,cat\nb.png, \n",
        {"label": "class"},
        "pets/labels.csv, line 3: its label (column 'class') is empty; fill it in or take the row out",
    ),
    "two labels": (
        "file,label\na.png,cat\nb.png,dog\n./a.png,dog\n",
        {},
        "'pets/a.png' has the label 'cat' in pets/labels.csv, line 2, and 'dog' in pets/labels.csv, line 4; "
        "make them agree",
    ),
    "two groups": (
        "file,label,patient\na.png,cat,1\na.png,cat,2\n",
        {"group": "patient"},
        "'pets/a.png' has the group '1' in pets/labels.csv, line 2, and '2' in pets/labels.csv, line 3; make them "
        "agree",
    ),
    "two of another column": (
        "file,label,age\na.png,cat,1\na.png,cat,2\n",
        {},
        "'pets/a.png' has the age '1' in pets/labels.csv, line 2, and '2' in pets/labels.csv, line 3; make them agree",
    ),
    "no split": (
        "file,label,part\na.png,cat,train\nb.png,cat,Tset\n",
        {"split": "part"},
        "pets/labels.csv, line 3: its split is 'Tset'; it must be train, training, val, valid, validation, test, "
        "testing or evaluation, or empty; did you mean test?",
    ),
    "a cell too few": (
        "file,label,age\na.png,cat,3\nb.png,dog\n",
        {},
        "pets/labels.csv, line 3: it has 2 cells, and the header 3; make them as many (a cell with a comma in it "
        "stands in quotes)",
    ),
    "a cell too many": (
        "file,label\na.png,cat, black\n",
        {},
        "pets/labels.csv, line 2: it has 3 cells, and the header 2; make them as many (a cell with a comma in it "
        "stands in quotes)",
    ),
}


@pytest.mark.parametrize(("text", "names", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(tmp_path: Path, text: str | bytes, names: dict[str, Any], message: str) -> None:
    assert refusal_of(tmp_path, text, **names) == message


def test_two_tables_that_contradict_each_other_are_refused_and_two_that_agree_are_one(tmp_path: Path) -> None:
    files = {"labels.csv": "file,label,age\none/a.png,cat,3\n", "one/a.png": ""}
    agreeing = files | {"one/labels.csv": "file,label,sex\na.png,cat,f\na.png,cat,f\n"}
    assert tables_of(tmp_path, agreeing).rows["one/a.png"].other == {"age": "3", "sex": "f"}
    with pytest.raises(InputError) as refusal:
        tables_of(tmp_path, files | {"one/labels.csv": "file,label\na.png,dog\n"})
    assert str(refusal.value) == (
        "'one/a.png' has the label 'cat' in labels.csv, line 2, and 'dog' in one/labels.csv, line 2; make them agree"
    )


def test_images_that_no_table_names_are_left_out_and_do_not_count_as_rejected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = b"file,label\nimages/0.png,cat\nnotes.txt,dog\nimages/broken.png,dog\n"
    images = {f"images/{i}.png": encoded(noise(i)) for i in range(3)}
    broken = {"images/broken.png": b"x", "images/unnamed.png": b"x", "notes.txt": b"x", "more.txt": b"x"}
    found, rejected = labelled(
        tar_of(tmp_path / "a.tar", images | broken | {"labels.csv": table}), "labels.csv", columns()
    )
    assert [(image.source, image.named) for image in found] == [("images/0.png", PathParts("cat", "", ""))]
    no_image = "its content is no image, or its start is damaged"
    assert rejected == [
        Rejected("images/1.png", "labels.csv does not name it", False),
        Rejected("images/2.png", "labels.csv does not name it", False),
        Rejected("images/broken.png", no_image, True),
        Rejected("images/unnamed.png", "labels.csv does not name it", False),
        Rejected("more.txt", "it is no image, neither by its name nor by its content", False),
        Rejected("notes.txt", no_image, True),
    ]
    assert caplog.messages == ["3 images left out: labels.csv does not name it, such as 'images/1.png'"]
    check_rejected(len(found), rejected, most=0.7, listed="data/rejected.csv")  # 2 of 3


def rows(project: Project, name: str) -> list[dict[str, str]]:
    with (project.folder / "data" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def project_with(project: Project, table: str) -> Project:
    """Twelve images in data/raw, 0.png to 11.png, and this table; grouped by its column patient."""
    (project.folder / "data/raw").mkdir(parents=True)
    files = {f"images/{i}.png": encoded(noise(i)) for i in range(12)}
    tar_of(project.folder / "data/raw/images.tar", {**files, "labels.csv": table.encode()})
    project.set(
        prepare__table="labels.csv", prepare__columns__label="code", prepare__columns__group="patient",
        prepare__split="grouped", prepare__val_fraction=0.3, prepare__test_fraction=0.3,
        prepare__class_names={1: "cat", 2: "dog"}, prepare__class_map={"pet": ["cat"], "other": "rest"},
    )  # fmt: skip
    return project


def test_the_stage_labels_groups_and_slices_by_a_table_at_the_archive_s_end(project: Project) -> None:
    """Patient 0 has images 0 and 1, and so on; those with an even number are of class 1."""
    lines = [f"images/{i}.png,{1 + i % 2},{i // 2},{20 + i}" for i in range(12)]
    project_with(project, "\n".join(["file,code,patient,age", *lines])).here("prepare")
    images = rows(project, "images.csv")
    number = {image["file"]: int(image["source"].removeprefix("images/").removesuffix(".png")) for image in images}
    assert sorted(number.values()) == list(range(12))
    assert all(image["label"] == ("pet", "other")[number[image["file"]] % 2] for image in images)
    assert all(image["group"] == str(number[image["file"]] // 2) for image in images)
    splits_of_group = [{i["split"] for i in images if i["group"] == str(group)} for group in range(6)]
    assert all(len(splits) == 1 for splits in splits_of_group)
    assert rows(project, "slices.csv") == [
        {"file": image["file"], "age": str(20 + number[image["file"]])} for image in images
    ]
    assert rows(project, "rejected.csv") == []


def test_a_refused_table_leaves_nothing_written(project: Project) -> None:
    run = project_with(project, "file,code,patient\nimages/12.png,1,1\n").run("python", "-m", "stages.prepare")
    assert run.status == 1
    assert "error: labels.csv names 1 file that is not in images.tar, first in line 2: 'images/12.png'; " in run.out
    assert sorted(path.name for path in (project.folder / "data").iterdir()) == [".gitignore", "raw", "source"]


def test_without_a_table_slices_is_written_empty(project: Project) -> None:
    project.here("download", "prepare")
    assert (project.folder / "data/slices.csv").read_text(encoding="utf-8") == "file\n"
