"""The table of images: the same values in both forms, and nothing where writing failed."""

import csv

import pytest

from evaluation.error_kinds import ErrorKinds
from evaluation.file_scores import compare_maps
from evaluation.per_image import COLUMNS, ROWS_AT_ONCE, row_of, write_per_image


def test_both_forms_hold_the_same(tmp_path, draw):
    parquet = pytest.importorskip("pyarrow.parquet", reason="a Parquet table needs pyarrow")
    empty, scene = draw("...."), draw("aarr")
    rows = []
    for k, (truth, prediction) in enumerate([(scene, scene), (scene, draw("bbrr")), (empty, empty)]):
        found = compare_maps(k, truth, prediction)
        rows.append(row_of(k, found.matches, found.outcomes, 0.5))
    for name in ("t.csv", "t.parquet"):
        with write_per_image(tmp_path / name) as write:
            for _ in range(ROWS_AT_ONCE):  # more than are written at once
                for row in rows:
                    write(row)
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.schema.names == list(COLUMNS)
    columns = table.to_pydict()
    with (tmp_path / "t.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == table.num_rows == 3 * ROWS_AT_ONCE
    for name in COLUMNS:
        assert [row[name] for row in listed] == ["" if value is None else str(value) for value in columns[name]]
    assert columns["pq"][:3] == [1.0, 1.0, None]


def test_a_table_that_was_not_finished_is_not_there(tmp_path, draw, toy):
    assert ErrorKinds(toy).findings() == []
    with pytest.raises(ZeroDivisionError), write_per_image(tmp_path / "t.csv") as write:
        write([1 / 0])
    assert list(tmp_path.iterdir()) == []
