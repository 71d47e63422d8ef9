"""The result viewer in a real browser, opened from disk: what it shows is what was measured, and nothing leaves the disk."""

import base64
import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from data.panoptic_png import PanopticMap, describe_segments
from data.taxonomy import COCO_PANOPTIC, Category, Taxonomy
from evaluation.error_kinds import ErrorKinds
from evaluation.file_scores import compare_maps
from evaluation.panoptic_quality import PanopticQuality
from evaluation.render import ERROR_COLORS, error_map, segment_colors
from evaluation.report import Table
from evaluation.viewer import Finding, Problem, Summary, ViewedRun, open_viewer
from tests.evaluation.conftest import TOY, draw_scene

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = '<img src=x onerror="window.hit=1">'
TRUTH = draw_scene("ssssssssss", "ssppssssaa", "rrpprrrraa", "rrrrbbrrrr")
"""A sky, a road, a person (4 pixels), two cars (4 and 2 pixels)."""
PERSON_MISSED = draw_scene("ssssssssss", "ssssssssaa", "rrrrrrrraa", "rrrrbbrrrr")
CAR_AS_PERSON = draw_scene("ssssssssss", "ssppssssqq", "rrpprrrrqq", "rrrrbbrrrr")


# --- the folder -----------------------------------------------------------------------------------------------------------


def write_folder(folder, images, run_names=("fusion",), taxonomy=TOY, title="A title", picture=True, findings=None, **more):
    """Write a viewer's folder.

    Args:
        images: {id: (truth, prediction of each run)}; None where a run has none.
        picture: whether each image has one, plain grey.
        findings: {id: what the label doctor found}.
        more: of the summary: facts, tables, problems.
    """
    pictures, kinds = {}, [ErrorKinds(taxonomy) for _ in run_names]
    for k, (image_id, (truth, *_)) in enumerate(images.items()):
        if picture:
            pictures[image_id] = folder.parent / f"{k}.png"
            Image.new("RGB", truth.segment_ids.shape[::-1], (128, 128, 128)).save(pictures[image_id])
    with open_viewer(folder, taxonomy, list(images), pictures) as viewer:
        for image_id, (truth, *predictions) in images.items():
            comparisons = [p and compare_maps(image_id, truth, p) for p in predictions]
            for counted, found in zip(kinds, comparisons, strict=True):
                if found is not None:
                    counted.add(found.outcomes, found.matches, found.num_pixels)
            viewer.add(viewer.write_image(image_id, truth, comparisons, (findings or {}).get(image_id, ())))
        runs = [ViewedRun(name, k.quality.scores(taxonomy), k) for name, k in zip(run_names, kinds, strict=True)]
        viewer.finish(Summary(title, runs=runs, **more))
    return folder


def blobs(seed, shape=(60, 90)):
    """A map of all classes of TOY with void and a crowd, in random rectangles."""
    generator = np.random.default_rng(seed)
    ids = np.full(shape, 7, dtype=np.uint32)
    for segment_id in (23, 24000, 24001, 26000, 26001, 26, 0, 24002, 0):
        top, left = generator.integers(0, shape[0] - 12), generator.integers(0, shape[1] - 20)
        ids[top : top + generator.integers(6, 30), left : left + generator.integers(8, 50)] = segment_id
    return PanopticMap(ids, describe_segments(ids, lambda i: i if i < 1000 else i // 1000, lambda i: i == 26 and seed == 0))


# --- the browser ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which drives the browser")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser):
    """Opens a folder, and in the end refuses whatever the console said and every request that left the disk."""
    pages, faults = [], []

    def open_page(folder, address="", lenient=False, script=None, **options):
        page = browser.new_page(viewport=options.pop("viewport", {"width": 1280, "height": 900}), **options)
        page.set_default_timeout(20_000)
        pages.append(page)
        if not lenient:
            page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else faults.append(f"request {r.url}"))
        if script:
            page.add_init_script(script)
        page.goto(f"{folder.as_uri()}/index.html{address}")
        if not lenient:
            page.wait_for_selector("#stage[data-image]:not([data-image=''])", state="attached")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not faults


@pytest.fixture(scope="module")
def one_run(tmp_path_factory):
    """Image "good" is all right; in "missed" the person is missed; in "person" a car is taken for one."""
    images = {"a/good": (TRUTH, TRUTH), "a/missed": (TRUTH, PERSON_MISSED), "b/person": (TRUTH, CAR_AS_PERSON)}
    return write_folder(tmp_path_factory.mktemp("one") / "viewer", images)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    images = {"same": (TRUTH, TRUTH, TRUTH), "mended": (TRUTH, PERSON_MISSED, CAR_AS_PERSON)}
    return write_folder(tmp_path_factory.mktemp("two") / "viewer", images, ("first", "second"))


def column(page, key="id"):
    """The cells of a column of the table of images, from the top."""
    keys = page.locator("#table .header .cell").evaluate_all("cells => cells.map(c => c.dataset.key)")
    texts = page.locator("#table .row").evaluate_all("rows => rows.map(r => [...r.children].map(c => c.textContent))")
    return [row[keys.index(key)] for row in texts]


def go_to_image(page, image_id):
    page.evaluate("image => viewer.set({image, view: 'image'})", image_id)
    until(page, "image => document.getElementById('stage').dataset.image === image", image_id)
    settle(page)


def until(page, condition, value=None):
    """Wait for a condition; Playwright's own waiting needs eval, which the page refuses."""
    end = time.monotonic() + 20
    while not page.evaluate(condition, value):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def settle(page):
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def place_of(page, panel, x, y, size=(4, 10)):
    """Where the pixel (x, y) of the whole image lies on the page."""
    box = page.locator(f"[data-panel={panel}] .view").bounding_box()
    scale = min(box["width"] / size[1], box["height"] / size[0])
    left, top = (box["width"] - size[1] * scale) / 2, (box["height"] - size[0] * scale) / 2
    return box["x"] + left + (x + 0.5) * scale, box["y"] + top + (y + 0.5) * scale


def painted(page, panel):
    """The panel's canvas, (H, W, 4)."""
    find = "name => document.querySelector(`figure[data-panel=${name}] canvas`).toDataURL()"
    return np.array(Image.open(io.BytesIO(base64.b64decode(page.evaluate(find, panel).split(",")[1]))).convert("RGBA"))


def color_at(page, panel, x, y):
    box, (left, top) = page.locator(f"[data-panel={panel}] .view").bounding_box(), place_of(page, panel, x, y)
    return painted(page, panel)[round(top - box["y"]), round(left - box["x"])].tolist()


# --- what it shows --------------------------------------------------------------------------------------------------------


def test_the_start_shows_the_score_what_costs_most_and_the_image_of_median_quality(show, one_run):
    page, quality = show(one_run), PanopticQuality()
    matches = {
        name: quality.add(TRUTH, guess) for name, guess in (("good", TRUTH), ("missed", PERSON_MISSED), ("person", CAR_AS_PERSON))
    }
    scores = quality.scores(TOY)
    assert page.locator(".big strong").text_content() == f"{100 * scores['All']['pq']:.1f}"
    rows = page.locator(".score tbody tr").evaluate_all("rows => rows.map(r => [...r.children].map(c => c.textContent.trim()))")
    for name, pq, sq, rq, n in rows:
        assert [pq, sq, rq, n] == [f"{100 * scores[name][key]:.1f}" for key in ("pq", "sq", "rq")] + [str(scores[name]["n"])]
    assert page.locator(".findings li").all_text_contents() == page.evaluate("viewer.run.runs[0].findings")
    assert matches["missed"].pq < matches["person"].pq < matches["good"].pq
    assert page.locator("#stage").get_attribute("data-image") == "b/person"
    per_class = dict(
        page.locator("#classes tbody tr").evaluate_all(
            "r => r.map(x => [x.querySelector('button').textContent, x.cells[1].textContent])"
        )
    )
    assert per_class == {name: f"{100 * entry['pq']:.1f}" for name, entry in scores["per_class"].items()}


def test_images_are_sorted_by_click_and_by_key_the_worst_first_unless_asked(show, one_run):
    page = show(one_run)
    assert column(page) == ["a/missed", "b/person", "a/good"]
    page.click("#table [data-key=id] button")
    assert column(page) == ["a/good", "a/missed", "b/person"]
    page.keyboard.press("Enter")  # the header keeps the focus
    assert column(page) == ["b/person", "a/missed", "a/good"]
    assert page.locator("#table [data-key=id]").get_attribute("aria-sort") == "descending"
    page.click("#table [data-key=fn] button")
    assert column(page, "fn") == ["1", "1", "0"]


def test_filters_leave_the_images_that_they_name(show, one_run):
    page = show(one_run)
    page.fill("#search", "A/")
    assert column(page) == ["a/missed", "a/good"]
    assert page.locator("#filters .count").text_content() == "2 of 3 images"
    page.click("#no-filters")
    page.select_option("[aria-label='Kind of error']", label="missed")
    assert (column(page), column(page, "kind")) == (["a/missed"], ["1"])
    page.select_option("[aria-label='Kind of error']", label="All kinds")
    page.select_option("[aria-label=Class]", label="car")
    # Of two cars one is found where the other was taken for a person: 1 / (1 + 1/2).
    assert column(page, "pq0") == ["66.7", "100.0", "100.0"]
    page.click("#no-filters")
    page.fill("[aria-label='PQ from']", "99")
    page.press("[aria-label='PQ from']", "Enter")
    assert column(page) == ["a/good"]


def test_a_class_and_a_kind_of_the_overview_filter_the_images(show, one_run):
    page = show(one_run)
    page.click(".bar:has-text('wrong class')")
    assert column(page) == ["b/person"]
    page.fill("[aria-label='Search classes']", "ROA")
    assert page.locator("#classes tbody tr").count() == 1
    page.click("#classes tbody button")
    assert page.locator("[aria-label=Class]").input_value() == "0"
    assert len(column(page)) == 3


def test_of_two_runs_changed_images_are_found_and_the_difference_is_shown(show, two_runs):
    page = show(two_runs)
    first, second = (PanopticQuality().add(TRUTH, guess).pq for guess in (PERSON_MISSED, CAR_AS_PERSON))
    expected = f"{100 * (second - first):+.1f}".replace("-", "\u2212")
    assert dict(zip(column(page), column(page, "difference"), strict=True)) == {"mended": expected, "same": "0.0"}
    page.check("text=changed only")
    assert column(page) == ["mended"]


@pytest.mark.parametrize(("size", "bits"), [((40, 60), 8), ((20, 20), 16)])
def test_maps_are_decoded_exactly(show, tmp_path, size, bits):
    ids = (
        np.random.default_rng(0)
        .permutation(np.arange(size[0] * size[1]) % (6 if bits == 8 else 400))
        .reshape(size)
        .astype(np.uint32)
    )
    ids[ids > 0] += 24000
    scene = PanopticMap(ids, describe_segments(ids, lambda _: 24))
    page = show(write_folder(tmp_path / "v", {"x": (scene, scene)}))
    decoded = page.evaluate("viewer.readScene('000000').then(s => [Array.from(s.truth.map), s.truth.map.BYTES_PER_ELEMENT])")
    present = np.unique(ids[ids > 0])
    np.testing.assert_array_equal(np.array(decoded[0]).reshape(size), np.where(ids > 0, np.searchsorted(present, ids) + 1, 0))
    assert decoded[1] == bits // 8


def test_the_difference_is_that_of_the_rendered_error_map(show, tmp_path):
    pairs = {str(k): (blobs(0), blobs(k)) for k in range(1, 4)}
    page, colors = show(write_folder(tmp_path / "v", pairs)), np.array(list(ERROR_COLORS.values()))
    seen = set()
    for k, (truth, guess) in enumerate(pairs.values()):
        codes = page.evaluate("file => viewer.readScene(file).then(s => Array.from(viewer.errorCodes(s, 0)))", f"{k:06d}")
        shown, rendered = colors[np.array(codes).reshape(truth.segment_ids.shape)], error_map(truth, guess, TOY)
        is_border = (rendered == (33, 37, 41)).all(-1)
        np.testing.assert_array_equal(shown[~is_border], rendered[~is_border])
        seen |= set(np.array(codes)[~is_border.ravel()])
    assert seen == set(range(len(ERROR_COLORS)))
    assert page.evaluate("viewer.VERDICTS.map(v => [v.name, v.color])") == [[k, list(v)] for k, v in ERROR_COLORS.items()]


def test_what_changed_tells_gained_lost_and_newly_invented_apart(show, tmp_path):
    truth = draw_scene("ssssss", "rppaar", "rppaar", "rrrrrr")
    lost_car = draw_scene("ssssss", "rpprrr", "rpprrr", "rrrrrr")
    lost_person = draw_scene("ssbbss", "rrraar", "rrraar", "rrrrrr")  # and a car in the sky
    page = show(write_folder(tmp_path / "v", {"x": (truth, lost_car, lost_person)}, ("A", "B")))
    names = page.evaluate("viewer.readScene('000000').then(s => Array.from(viewer.changeCodes(s), c => viewer.CHANGES[c].name))")
    letters = {"found by both": ".", "found by A only": "A", "found by B only": "B", "invented by B only": "+"}
    shown = "".join(letters[name] for name in names)
    assert [shown[k : k + 6] for k in (0, 6, 12, 18)] == ["..++..", ".AABB.", ".AABB.", "......"]


def test_panels_are_painted_in_the_segments_colours_and_filters_dim_the_others(show, tmp_path):
    page = show(write_folder(tmp_path / "v", {"x": (TRUTH, PERSON_MISSED)}, picture=False), "#view=image&outlines=false")
    settle(page)
    assert page.locator("figure[data-panel=image]").is_hidden()
    person = next(k for k, s in enumerate(TRUTH.segments) if s.segment_id == 24000)
    colors = segment_colors(TRUTH.segments, TOY).tolist()
    assert color_at(page, "truth", 2, 1) == [*colors[person], 255]
    assert color_at(page, "truth", 0, 0) == [*colors[[s.segment_id for s in TRUTH.segments].index(23)], 255]
    assert color_at(page, "difference", 2, 1) == [*ERROR_COLORS["wrong class"], 255]
    page.select_option("[aria-label='Kind of error']", label="missed")
    settle(page)
    assert color_at(page, "truth", 2, 1) == [*colors[person], 255]
    red, green, blue, _ = color_at(page, "truth", 0, 0)
    assert red == green == blue < 80


def test_pointing_names_the_segments_of_both_sides_and_marks_them_in_every_panel(show, one_run):
    page = show(one_run, "#view=image&image=b/person")
    settle(page)
    before = {name: painted(page, name) for name in ("image", "truth", "a", "difference")}
    page.mouse.move(*place_of(page, "truth", 8, 1))
    settle(page)
    lines = page.locator("#status .line").all_text_contents()
    assert "car#260004 px · wrong class, IoU 1.00" in lines[0]
    assert "this pixel: wrong class" in lines[0]
    assert "person#240014 px · wrong class, IoU 1.00" in lines[1]
    assert all((painted(page, name) != pixels).any() for name, pixels in before.items())
    page.mouse.move(2, 2)
    settle(page)
    assert all((painted(page, name) == pixels).all() for name, pixels in before.items())


def test_the_list_of_segments_puts_errors_first_and_a_click_zooms_to_one(show, one_run):
    page = show(one_run, "#view=image&image=a/missed")
    assert page.locator("#segments h3").all_text_contents() == ["missed1", "found4"]
    page.click("#segments .segment >> nth=0")
    state = page.evaluate("viewer.state")
    assert state["zoom"] > 1
    assert abs(state["x"] - 3 / 10) < 0.11  # the person's middle, or as near as the image's edge allows
    assert "missed" in page.locator("#status").text_content()
    page.focus("#segments .segment >> nth=1")
    assert page.locator("#segments .segment >> nth=1").text_content().split("#")[0] in page.locator("#status").text_content()


def test_the_wheel_zooms_all_panels_and_the_pixel_under_the_pointer_stays(show, one_run):
    page = show(one_run, "#view=image&outlines=false&image=a/good")
    spot = place_of(page, "truth", 8, 1)
    page.mouse.move(*spot)
    text = page.locator("#status .line").first.text_content()
    page.mouse.wheel(0, -400)
    page.mouse.move(spot[0] + 1, spot[1])
    settle(page)
    assert page.evaluate("viewer.state.zoom") > 1.2
    assert page.locator("#status .line").first.text_content() == text
    np.testing.assert_array_equal(painted(page, "truth"), painted(page, "a"))
    transforms = page.locator("#panels img").evaluate_all("images => images.map(i => i.style.transform)")
    assert len(set(transforms)) == 1
    page.keyboard.press("0")
    assert page.evaluate("viewer.state.zoom") == 1
    page.mouse.dblclick(*spot)
    assert page.evaluate("viewer.state.zoom") == 2
    before = page.evaluate("viewer.state.x")
    page.mouse.down()
    page.mouse.move(spot[0] + 60, spot[1], steps=3)
    page.mouse.up()
    assert page.evaluate("viewer.state.x") < before


def test_keys_do_what_the_help_says(show, two_runs):
    page = show(two_runs, "#view=image")
    first, second = column(page)
    go_to_image(page, first)
    for key, expected in (("j", second), ("k", first), ("ArrowRight", second), ("ArrowLeft", first)):
        page.keyboard.press(key)
        until(page, "image => document.getElementById('stage').dataset.image === image", expected)
    page.keyboard.press("4")
    visible = "figures => figures.filter(f => !f.hidden).map(f => f.dataset.panel)"
    assert page.locator("figure").evaluate_all(visible) == ["a"]
    page.keyboard.press("c")
    assert page.locator("figure").evaluate_all(visible) == ["b"]
    assert page.evaluate("viewer.state.run") == 1
    page.keyboard.press("o")
    assert page.evaluate("viewer.state.outlines") is False
    page.keyboard.press("+")
    assert page.evaluate("viewer.state.zoom") == 1.5
    page.keyboard.press("/")
    page.keyboard.type("j+c?")  # in a field they are letters
    assert page.input_value("#search") == "j+c?"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()


def test_a_link_restores_the_state_and_back_undoes_a_step(show, two_runs):
    page = show(two_runs)
    page.select_option("[aria-label='Kind of error']", label="found")
    go_to_image(page, "mended")
    page.keyboard.press("5")
    page.keyboard.press("+")
    page.keyboard.press("o")
    page.click("#table [data-key=fp] button")
    until(page, "location.hash.includes('zoom')")
    state, address = page.evaluate("viewer.state"), page.url.split("index.html")[1]
    other = show(two_runs, address)
    assert other.evaluate("viewer.state") == state
    assert (state["image"], state["panel"], state["zoom"], state["sort"]) == ("mended", "b", 1.5, "fp")
    assert column(other) == column(page)
    page.go_back()
    until(page, "viewer.state.sort === ''")
    page.go_back()
    until(page, "viewer.state.outlines")
    page.go_back()
    until(page, "viewer.state.panel === ''")
    page.go_forward()
    until(page, "viewer.state.panel === 'b'")


def test_a_link_to_what_the_result_has_not_shows_the_start(show, one_run):
    page = show(one_run, "#run=7&cls=99&kind=-4&zoom=nan&panel=b&image=nowhere&view=x&opacity=9&__proto__=1")
    assert page.evaluate("[viewer.state.run, viewer.state.cls, viewer.state.kind, viewer.state.zoom]") == [0, -1, -1, 1]
    assert page.locator("#stage").get_attribute("data-image") == "b/person"


def test_text_of_the_data_never_becomes_markup(show, tmp_path):
    classes = tuple(Category(f"{c.name} {HOSTILE}", c.dataset_id, c.is_thing, c.color) for c in TOY.categories)
    finding = Finding(0, HOSTILE, "truth", (7,), (0, 0, 2, 2))
    page = show(
        write_folder(
            tmp_path / "v",
            {HOSTILE: (TRUTH, PERSON_MISSED)},
            (HOSTILE,),
            Taxonomy("toy", classes),
            HOSTILE,
            facts={HOSTILE: HOSTILE},
            problems=[Problem("broken", HOSTILE, 1, HOSTILE, HOSTILE)],
            tables=[Table(HOSTILE, (HOSTILE,), ((HOSTILE,),), HOSTILE, HOSTILE)],
            findings={HOSTILE: [finding]},
        )
    )
    page.mouse.move(*place_of(page, "truth", 2, 1))
    assert column(page) == [HOSTILE]
    assert page.title() == HOSTILE
    assert page.locator("h1").text_content() == HOSTILE
    assert HOSTILE in page.locator(".facts").text_content()
    assert f"person {HOSTILE}" in page.locator("#status").text_content()
    assert page.evaluate("[document.querySelectorAll('[onerror], #main img:not(.view img)').length, window.hit]") == [0, None]


def test_the_page_refuses_inline_code_and_the_network(show, one_run):
    page = show(one_run, lenient=True)
    page.wait_for_selector("#stage[data-image='b/person']", state="attached")
    refused = page.evaluate(
        """html => new Promise(done => {
            const found = new Set();
            document.addEventListener("securitypolicyviolation", (event) => {
                found.add(event.effectiveDirective);
                if (found.size === 4) done([...found].sort());
            });
            document.createElement("div").innerHTML = html;
            document.body.append(Object.assign(document.createElement("script"), {textContent: "window.hit = 2"}));
            new Image().src = "https://example.invalid/x.png";
            fetch("https://example.invalid/").catch(() => {});
            setTimeout(() => done([...found].sort()), 1500);
        })""",
        HOSTILE,
    )
    assert refused == ["connect-src", "img-src", "script-src-attr", "script-src-elem"]
    assert page.evaluate("window.hit") is None


@pytest.mark.parametrize("view", ["overview", "list", "image"])
def test_on_a_phone_nothing_scrolls_sideways_and_tabs_choose_the_panel(show, two_runs, view):
    page = show(two_runs, f"#view={view}", viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    if view == "image":
        assert page.locator("figure:visible").count() == 1
        page.tap(".tabs [data-panel=truth]")
        assert page.locator("figure:visible").get_attribute("data-panel") == "truth"
        page.touchscreen.tap(*place_of(page, "truth", 2, 1, (4, 10)))
        assert "person" in page.locator("#status").text_content()


def test_dark_follows_the_system_until_the_switch_is_used(show, one_run):
    page = show(one_run, color_scheme="dark")
    lightness = "() => Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert page.evaluate(lightness) < 50
    page.click("#theme")
    assert page.evaluate(lightness) > 200
    page.reload()
    assert page.evaluate(lightness) > 200


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / "data/run.js").unlink(), "data/run.js is missing"),
        (lambda folder: (folder / "data/000000.js").unlink(), "data/000000.js is missing"),
        (lambda folder: (folder / "data/000000.js").write_text("viewer.loadImage('000000', {"), "data/000000.js is missing or"),
        (lambda folder: (folder / "data/run.js").write_text("viewer.loadRun({format: 2})"), "format 2"),
    ],
    ids=["no run", "no image", "cut image", "other format"],
)
def test_what_is_missing_is_said_plainly(show, tmp_path, harm, words):
    folder = write_folder(tmp_path / "v", {"x": (TRUTH, TRUTH)})
    harm(folder)
    page = show(folder, lenient=True)
    until(page, "words => document.getElementById('message').textContent.includes(words)", words)
    assert page.locator("#message").is_visible()


def test_an_old_browser_is_told_what_it_lacks(show, one_run):
    page = show(one_run, lenient=True, script="delete window.DecompressionStream")
    until(page, "document.getElementById('message').textContent.includes('DecompressionStream')")


def test_without_a_prediction_the_labels_and_their_problems_are_shown(show, tmp_path):
    problems = [
        Problem("suspicious", "sliver", 1, "Thin.", "Hard to find."),
        Problem("broken", "area wrong", 1, "Area.", "None here."),
    ]
    finding = Finding(1, "segment 26001", "truth", (26001,), (4, 3, 2, 1))
    images = {"fine": (TRUTH,), "bad": (TRUTH,)}
    page = show(write_folder(tmp_path / "v", images, (), problems=problems, findings={"bad": [finding]}))
    visible = "figures => figures.filter(f => !f.hidden).map(f => f.dataset.panel)"
    assert page.locator("figure").evaluate_all(visible) == ["image", "truth"]
    assert page.locator("#table .header .cell").evaluate_all("c => c.map(x => x.dataset.key)") == ["id", "problems"]
    assert page.locator(".level").all_text_contents()[:2] == ["broken", "suspicious"]
    assert page.locator("#stage").get_attribute("data-image") == "bad"
    settle(page)
    assert (painted(page, "image")[..., 3] > 0).any()  # the box
    page.click("text=show 1 image")
    assert column(page) == ["bad"]


def test_labels_stand_before_the_scores_and_an_image_without_a_prediction_is_listed(show, tmp_path):
    problems = [Problem("broken", "prediction-missing", 1, "Missing.", "No score.")]
    images = {"both": (TRUTH, PERSON_MISSED), "alone": (TRUTH, None)}
    findings = {"alone": [Finding(0, "has none", "prediction")]}
    page = show(write_folder(tmp_path / "v", images, problems=problems, findings=findings))
    assert page.locator("#hero .problems").count() == 1
    assert page.locator("#details .score").count() == 1
    assert column(page) == ["both", "alone"]
    assert column(page, "pq0")[1] == "n/a"
    page.click("text=show 1 image")
    assert column(page) == ["alone"]
    go_to_image(page, "alone")
    assert (painted(page, "truth")[..., 3] > 0).any()


def test_133_classes_are_listed_searched_and_filtered(show, tmp_path):
    ids = np.arange(1, 134, dtype=np.uint32).reshape(7, 19)
    dataset_ids = COCO_PANOPTIC.dataset_ids.tolist()
    truth = PanopticMap(ids, describe_segments(ids, lambda i: dataset_ids[i - 1]))
    page = show(write_folder(tmp_path / "v", {"all": (truth, truth)}, taxonomy=COCO_PANOPTIC))
    assert page.locator("#classes tbody tr").count() == 133
    page.fill("[aria-label='Search classes']", "zebra")
    assert page.locator("#classes tbody tr").count() == 1
    page.click("#classes tbody tr button")
    assert column(page, "tp") == ["1"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_many_images_need_few_rows_and_the_last_is_reached(show, tmp_path):
    page = show(write_folder(tmp_path / "v", {f"image {k:04d}": (TRUTH,) for k in range(200)}, (), picture=False))
    assert page.locator("#table .row").count() < 60
    page.focus("#table .scroller")
    page.keyboard.press("End")
    page.wait_for_selector("#table .row[aria-selected=true]:has-text('image 0199')")
    page.wait_for_selector("#stage[data-image='image 0199']")
    assert page.locator("head script[src^='data/0']").count() == 0  # read files are let go
