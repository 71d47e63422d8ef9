"""The notebook of docs/ runs from its first to its last cell on small data, and what it shows is what it wrote."""

import base64
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first_look.ipynb"
SMALL = "HEIGHT, NUM_TRAIN, NUM_VAL, EPOCHS_1, EPOCHS_2 = 128, 6, 2, 1, 1"
COMPARE = """
import numpy as np
from data.panoptic_png import read_panoptic_png
(written,) = (FOLDER / "fused/panoptic").glob(f"{val.image_id(0)}*.png")
print(np.array_equal(read_panoptic_png(written).segment_ids, panoptic.segment_ids))
"""
"""Whether the pipeline says of an image what the command wrote."""


def read() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The folder that the notebook wrote to, and cell id -> the outputs of that cell; COMPARE is the last one."""
    folder, notebook = tmp_path_factory.mktemp("first_look"), read()
    (settings,) = (k for k, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    notebook.cells.insert(settings + 1, nbformat.v4.new_code_cell(SMALL))
    notebook.cells.append(nbformat.v4.new_code_cell(COMPARE, id="compare"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRST_LOOK_FOLDER", str(folder / "results"))
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):  # else it writes to the home folder
            patch.setenv(name, str(folder / "jupyter"))
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return folder / "results" / "quick", {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def printed(outputs: list) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream")


def shown(outputs: list, kind: str) -> str:
    (data,) = (output.data[kind] for output in outputs if kind in output.get("data", {}))
    return data


def test_the_notebook_is_committed_without_outputs():
    notebook = read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}


def test_pages_that_the_notebook_links_exist():
    text = "\n".join(cell.source for cell in read().cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).is_file()] == []


@pytest.mark.everything
def test_no_cell_of_the_notebook_fails(executed):
    _, outputs = executed
    kinds = {output.output_type for cell in outputs.values() for output in cell}
    assert kinds == {"stream", "execute_result"}


@pytest.mark.everything
def test_the_notebook_shows_lines_instead_of_moving_bars_and_no_warning(executed):
    text = "".join(map(printed, executed[1].values()))
    assert "\x1b" not in text
    assert "IProgress" not in text


@pytest.mark.everything
def test_the_notebook_shows_the_scores_that_it_wrote(executed):
    folder, outputs = executed
    scores = json.loads((folder / "fused/scores.json").read_text())
    (row,) = re.findall(r"^\| All .*", shown(outputs["fuse"], "text/markdown"), re.MULTILINE)
    expected = [f"{100 * scores['All'][name]:.1f}" for name in ("pq", "sq", "rq")]
    assert row.replace(" ", "").strip("|").split("|")[1:4] == expected
    assert "with both true" in printed(outputs["fuse"])


@pytest.mark.everything
def test_the_notebook_gives_every_segment_of_the_truth_a_kind_of_error(executed):
    folder, outputs = executed
    truth = json.loads((folder / "streets/gtFine/cityscapes_panoptic_val.json").read_text())
    num_segments = sum(not s["iscrowd"] for annotation in truth["annotations"] for s in annotation["segments_info"])
    kinds = json.loads((folder / "evaluated.json").read_text())["errors"]["kinds"]
    assert sum(kind["truths"] for kind in kinds.values()) == num_segments
    assert "What costs most:" in printed(outputs["errors"])


@pytest.mark.everything
def test_the_notebook_shows_a_picture_of_each_step_and_writes_a_map_of_each_image(executed):
    folder, outputs = executed
    for cell in ("truth", "pipeline"):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown(outputs[cell], "image/png")))))
        assert picture.ndim == 3
        assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 100  # not one colour
    maps = [Image.open(path) for path in (folder / "fused/panoptic").glob("*.png")]
    assert [(picture.size, picture.mode) for picture in maps] == [((256, 128), "RGB")] * 2


@pytest.mark.everything
def test_the_pipeline_of_the_notebook_says_what_the_command_wrote(executed):
    assert printed(executed[1]["compare"]) == "True\n"


@pytest.mark.everything
def test_the_report_of_the_notebook_is_packed(executed):
    folder, _ = executed
    assert (folder / "report/index.html").is_file()
    assert (folder / "report.zip").stat().st_size > 0
