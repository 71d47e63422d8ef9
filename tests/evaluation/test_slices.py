"""PQ by the columns of a table that a user wrote."""

import sys

import pytest

from evaluation.panoptic_quality import PanopticQuality, match_segments
from evaluation.slices import NO_VALUE, format_slices, read_image_table, slice_images
from runtime.files import InputError


@pytest.fixture
def table_of(tmp_path):
    """Reads a table that is written first."""

    def read(text: str, name: str = "images.csv", encoding: str = "utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return read_image_table(path)

    return read


def without_names(*image_ids) -> dict:
    return dict.fromkeys(image_ids, ())


def test_each_slice_has_the_pq_of_its_images_alone(toy, draw, table_of):
    table = table_of("image,weather\na,rain\nb,sun\nc,rain\n")
    matches = {
        "a": match_segments(draw("rrraa"), draw("rrrra")),
        "b": match_segments(draw("ssaa"), draw("ssaa")),
        "c": match_segments(draw("aabb"), draw("aaaa")),
    }
    slices = slice_images(table, without_names("a", "b", "c"), toy)
    for image_id, image in matches.items():
        slices.add(image_id, image)
    rain, sun = PanopticQuality(), PanopticQuality()
    for image_id, quality in (("a", rain), ("b", sun), ("c", rain)):
        quality.add_matches(matches[image_id])
    scores = slices.scores()["weather"]
    assert scores == {"rain": {"num_images": 2} | rain.scores(toy), "sun": {"num_images": 1} | sun.scores(toy)}
    assert scores["sun"]["All"]["pq"] == 1.0


def test_images_of_the_truth_without_a_value_stand_apart_and_are_counted(toy, table_of):
    table = table_of("image,weather,light\na,rain,\nb,,day\n")
    slices = slice_images(table, without_names("a", "b", "c"), toy)
    assert slices.values["weather"] == {"a": "rain", "b": NO_VALUE, "c": NO_VALUE}
    assert slices.values["light"] == {"a": NO_VALUE, "b": "day", "c": NO_VALUE}
    assert slices.notes == (f"{table.path}: 1 image of the truth has no line, counted under '(none)': c",)


def test_images_that_the_truth_lacks_are_left_out_and_counted(toy, table_of):
    table = table_of("image,weather\na,rain\nx,sun\ny,sun\n")
    slices = slice_images(table, without_names("a"), toy)
    assert slices.values == {"weather": {"a": "rain"}}
    assert slices.notes == (f"{table.path}: 2 images are not in the truth and left out: x, y",)


@pytest.mark.parametrize("name", ["139", "000000000139", "000000000139.jpg", "val/000000000139.jpg"])
def test_a_number_in_the_truth_is_found_by_the_names_that_it_has_in_a_table(toy, table_of, name):
    slices = slice_images(table_of(f"image,weather\n{name},rain\n"), {139: ("000000000139.jpg",), 140: ()}, toy)
    assert slices.values["weather"][139] == "rain"


def test_many_numbers_are_cut_into_quarters_that_are_named_by_their_limits(toy, table_of):
    speeds = [0, 0, 0, 0, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]  # 13 different; the first quarter are the zeros
    table = table_of("image,speed\n" + "".join(f"{k},{speed}\n" for k, speed in enumerate(speeds)))
    slices = slice_images(table, without_names(*range(16)), toy)
    assert slices.names["speed"] == ("0", "1.5 to 4", "5 to 8", "9 to 12", NO_VALUE)
    assert [slices.values["speed"][k] for k in (3, 4, 7, 8, 15)] == ["0", "1.5 to 4", "1.5 to 4", "5 to 8", "9 to 12"]


def test_only_the_images_of_the_truth_decide_the_limits(toy, table_of):
    table = table_of("image,speed\n" + "".join(f"{k},{k}\n" for k in range(100)))
    assert slice_images(table, without_names(*range(12)), toy).names["speed"][:4] == ("0 to 2", "3 to 5", "6 to 8", "9 to 11")


def test_few_numbers_are_slices_of_their_own_in_their_order(toy, table_of):
    table = table_of("image,lanes\na,10\nb,2\nc,2.0\nd,-1\n")
    slices = slice_images(table, without_names("a", "b", "c", "d"), toy)
    assert slices.names["lanes"] == ("-1", "2", "10", NO_VALUE)
    assert slices.values["lanes"]["b"] == slices.values["lanes"]["c"] == "2"


def test_digits_behind_a_zero_and_words_are_no_numbers(toy, table_of):
    lines = "".join(f"{k},{k:04d},{'none' if k else 5}\n" for k in range(12))
    slices = slice_images(table_of("image,sequence,rain\n" + lines), without_names(*range(12)), toy)
    assert slices.names["sequence"][:2] == ("0000", "0001")
    assert slices.names["rain"] == ("5", "none", NO_VALUE)


def test_a_column_of_many_texts_is_left_out_unless_it_is_asked_for(toy, table_of):
    table = table_of("image,url,weather\n" + "".join(f"{k},http://{k},sun\n" for k in range(101)))
    images = without_names(*range(101))
    slices = slice_images(table, images, toy)
    assert list(slices.values) == ["weather"]
    assert slices.notes == (
        f"{table.path}: column 'url' has 101 different texts, but slices are made of at most 100; it is left out",
    )
    with pytest.raises(InputError, match="column 'url' has 101 different texts"):
        slice_images(table, images, toy, wanted=["url"])
    assert list(slice_images(table, images, toy, wanted=["weather"]).values) == ["weather"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables_of_spreadsheets_are_read(table_of, delimiter, encoding):
    lines = [["", "image", " weather "], ["0", "a", '"rain, wind; hail"'], ["1", "b", "größer"]]
    table = table_of("\r\n".join(delimiter.join(line) for line in lines) + "\r\n\r\n", encoding=encoding)
    assert table.images == ("a", "b")
    assert list(table.columns) == ["weather"]  # not pandas' index
    assert table.columns["weather"] == ("rain, wind; hail", "größer")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'image'; the file is empty"),
        ("name,weather\na,rain\n", "no column 'image'; its columns are name, weather"),
        ("image\na\n", "only the column 'image'"),
        ("image,weather\n", "a header, but no line below it"),
        ("image,weather,weather\na,b,c\n", "column 'weather' occurs twice"),
        ("image,weather\na,rain,wind\n", "line 2 has 3 values, but the header has 2"),
        ('image,weather\na,"rain\n', "is no CSV"),
    ],
)
def test_tables_that_do_not_fit_are_refused(table_of, text, message):
    with pytest.raises(InputError, match=message):
        table_of(text)


def test_files_that_are_no_tables_are_refused(table_of, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_image_table(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="is no UTF-8 text"):
        table_of("image,weather\na,größer\n", encoding="latin-1")


def test_images_that_cannot_be_told_are_refused(toy, table_of):
    with pytest.raises(InputError, match=r"none of its images \(a\) is in the truth, which has b, c"):
        slice_images(table_of("image,weather\na,rain\n"), without_names("b", "c"), toy)
    with pytest.raises(InputError, match=r"lines 'a' and 'a\.png' are of image 'a'; keep one line an image"):
        slice_images(table_of("image,weather\na,rain\na.png,sun\n"), without_names("a"), toy)
    with pytest.raises(InputError, match="'a' could be x/a, y/a; give names that tell them apart"):
        slice_images(table_of("image,weather\na,rain\n"), without_names("x/a", "y/a"), toy)
    with pytest.raises(InputError, match="no column 'light'; its columns are weather"):
        slice_images(table_of("image,weather\na,rain\n"), without_names("a"), toy, wanted=["light"])
    slices = slice_images(table_of("image,weather\na,rain\n"), without_names("a"), toy)
    with pytest.raises(InputError, match="image 'b' is none of those that were sliced"):
        slices.add("b", None)


def test_parquet_without_pyarrow_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"Parquet needs pyarrow; `pip install pyarrow`, or save the table as CSV"):
        read_image_table(tmp_path / "images.parquet")


def test_parquet_reads_as_the_csv_of_the_same_table(tmp_path, table_of):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"image": [1, 2], "speed": [1.5, None]}), tmp_path / "images.parquet")
    table, as_csv = read_image_table(tmp_path / "images.parquet"), table_of("image,speed\n1,1.5\n2,\n")
    assert (table.images, table.columns) == (as_csv.images, as_csv.columns)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="is no readable Parquet file"):
        read_image_table(tmp_path / "broken.parquet")


def test_slices_as_a_table(toy, draw, table_of):
    slices = slice_images(table_of("image,weather\na,rain\nb,sun\n"), without_names("a", "b"), toy)
    slices.add("a", match_segments(draw("rrra"), draw("rrra")))
    slices.add("b", match_segments(draw("rrr."), draw("rrs.")))
    # Of the sun's road two of three pixels are found, and sky is invented.
    assert format_slices(slices.scores()).splitlines() == [
        "weather             All Things  Stuff  images",
        "  rain           100.00 100.00 100.00       1",
        "  sun             33.33    n/a  33.33       1",
    ]
