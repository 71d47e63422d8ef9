"""Tiles of large images: what they cover, and that a scene that was cut into them comes back whole."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.instance_dump import InstanceLogits, from_full_logits, full_masks, read_instances, write_instances
from data.panoptic_png import PanopticMap, describe_segments, ids_to_rgb, rgb_to_ids
from data.semantic_dump import SemanticLogits, SemanticMap
from data.targets import panoptic_to_instance_logits, panoptic_to_semantic, panoptic_to_semantic_logits
from data.taxonomy import CITYSCAPES
from fusion.settings import FusionSettings
from prediction.fused import FusedPredictor, LogitRule, MergeRule
from prediction.predictor import NetworkPredictor, Prediction
from prediction.tiles import TiledPredictor, TileSettings, plan_tiles, tiled
from runtime.files import InputError

NAMES = [c.name for c in CITYSCAPES.categories]
CLASS_OF = {".": "road", "s": "sky", "c": "car", "d": "car", "e": "car", "p": "person", "q": "person"}
SMALL = TileSettings(64, 64, overlap=32)
BLOCK = 8
"""Pixels of a letter's side in a drawn scene: two cells of stride 4."""


def draw(*rows: str) -> np.ndarray:
    """An image whose pixels say, as an RGB number, the letter that was drawn there; each letter is a segment."""
    ids = np.array([[ord(letter) for letter in row] for row in rows], dtype=np.uint32)
    return ids_to_rgb(ids.repeat(BLOCK, 0).repeat(BLOCK, 1))


def truth_of(image: np.ndarray) -> PanopticMap:
    """What a drawn image, or a part of it, shows."""
    ids = rgb_to_ids(image)
    dataset_id = {ord(letter): int(CITYSCAPES.dataset_ids[NAMES.index(name)]) for letter, name in CLASS_OF.items()}
    return PanopticMap(ids, describe_segments(ids, dataset_id.__getitem__))


class IdealModel(NetworkPredictor):
    """Sees all that a drawn image shows, and nothing else.

    Args:
        gives: parts of a Prediction; class_map: in place of semantic logits.
    """

    def __init__(self, *gives: str, class_map: bool = False):
        super().__init__(CITYSCAPES, "ideal")
        self.gives, self.class_map, self.num_runs = gives, class_map, 0

    def run(self, image_id: str, image: np.ndarray) -> Prediction:
        self.num_runs += 1
        truth, about = truth_of(image), {"image_id": image_id, "stride": 4, "producer": ""}
        semantic = panoptic_to_semantic_logits(truth, CITYSCAPES, **about)
        if self.class_map:
            semantic = SemanticMap(image_id, CITYSCAPES.name, "", panoptic_to_semantic(truth, CITYSCAPES))
        all_parts = {
            "panoptic": truth,
            "instances": panoptic_to_instance_logits(truth, CITYSCAPES, **about),
            "semantic": semantic,
        }
        return Prediction(**{name: all_parts[name] for name in self.gives})


class Scripted(NetworkPredictor):
    """Gives what a function of the tile's pixels says."""

    def __init__(self, part: str, function):
        super().__init__(CITYSCAPES, "scripted")
        self.gives, self.function = (part,), function

    def run(self, image_id: str, image: np.ndarray) -> Prediction:
        return Prediction(**{self.gives[0]: self.function(image)})


def objects(instances: InstanceLogits) -> set[tuple[int, bytes]]:
    """Class and mask of each."""
    masks = list(full_masks(instances))
    found = {(int(k), mask.tobytes()) for k, mask in zip(instances.train_ids, masks, strict=True)}
    assert len(found) == len(instances)
    return found


def kinds(panoptic: PanopticMap) -> set[tuple[int, bytes]]:
    """Class and pixels of each segment, whatever its number."""
    return {(s.category_id, (panoptic.segment_ids == s.segment_id).tobytes()) for s in panoptic.segments}


SIDES = st.integers(1, 900)
TILES = st.builds(
    lambda height, width, share: TileSettings(height * 32, width * 32, max(32, min(height, width) * 32 * share // 100)),
    st.integers(2, 9),
    st.integers(2, 9),
    st.integers(0, 50),
)


@settings(max_examples=200, deadline=None)
@given(SIDES, SIDES, TILES)
def test_tiles_of_one_size_cover_each_pixel_and_neighbours_overlap_as_asked(height, width, asked):
    plan = plan_tiles((height, width), asked)
    seen = np.zeros((height, width), dtype=bool)
    for tile in plan.tiles:
        seen[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = True
        assert (tile.height, tile.width) == (min(height, asked.height), min(width, asked.width))
        assert (tile.y % 32, tile.x % 32) == (0, 0)
        assert tile.y + tile.height < height + 32
        assert tile.x + tile.width < width + 32
    assert seen.all()
    for axis in (plan.rows, plan.columns):
        assert all(a + axis.length - b >= asked.overlap for a, b in zip(axis.starts, axis.starts[1:], strict=False))
    fits = height <= asked.height and width <= asked.width
    assert (len(plan.tiles) == 1) == fits


@settings(max_examples=100, deadline=None)
@given(SIDES, TILES, st.sampled_from((1, 4, 8, 32)))
def test_the_weights_of_all_tiles_sum_to_one_and_each_core_is_where_its_tile_is(side, asked, stride):
    axis = plan_tiles((side, side), asked).rows
    weights = axis.weights(stride)
    np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-6)
    cores = [axis.core(k) for k in range(len(axis.starts))]
    assert [core.start for core in cores] + [side] == [0] + [core.stop for core in cores]
    for k, core in enumerate(cores):
        assert axis.starts[k] <= core.start < core.stop <= axis.starts[k] + axis.length
        outside = np.delete(weights[k], np.arange(*axis.cells(k, stride).indices(weights.shape[1])))
        assert not outside.any()


def test_a_ramp_is_linear_across_the_overlap():
    # Tiles 0..64 and 32..96: the shared pixels 32..64 are 8 cells, whose middles are 1/16, 3/16, ... of the way.
    first, second = plan_tiles((96, 64), SMALL).rows.weights(4)
    way = (np.arange(8) * 2 + 1) / 16
    np.testing.assert_allclose(second, np.concatenate([np.zeros(8), way, np.ones(8)]), rtol=1e-6)
    np.testing.assert_allclose(first, second[::-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "overlap", "match"),
    [
        ("1024", 128, "height and width in pixels are needed, such as 1024x2048"),
        ("axb", 128, "height and width in pixels are needed"),
        ("1000x2048", 128, "multiples of 32 from 64 on; take 992x2048"),
        ("0x64", 32, "take 64x64"),
        ("128x256", 65, "32 to 64 pixels, half of the shorter side, are needed"),
        ("128x256", 0, "32 to 64 pixels"),
    ],
)
def test_settings_that_cannot_be_are_refused(text, overlap, match):
    with pytest.raises(InputError, match=match):
        TileSettings.parse(text, overlap)


def test_settings_are_read_from_a_text_and_change_the_fingerprint():
    model = IdealModel("panoptic")
    names = {TiledPredictor(model, TileSettings.parse(*given)).fingerprint("x") for given in (("64x96", 32), ("96x64", 32))}
    assert len(names | {model.fingerprint("x")}) == 3
    assert TileSettings.parse("1024X2048") == TileSettings(1024, 2048, 128)


def test_an_image_that_fits_is_predicted_once_and_as_it_is():
    image = draw("..cc....", "..cc.pp.")
    model = IdealModel("instances", "semantic")
    rule = LogitRule(FusionSettings(min_stuff_area=0))
    untiled = FusedPredictor(model, model, rule).predict("x", image)
    runs = model.num_runs
    in_tiles = tiled(FusedPredictor(model, model, rule), SMALL).predict("x", image)
    assert model.num_runs == runs + 1
    assert np.array_equal(in_tiles.panoptic.segment_ids, untiled.panoptic.segment_ids)
    assert in_tiles.panoptic.segments == untiled.panoptic.segments
    assert np.array_equal(in_tiles.semantic.logits, untiled.semantic.logits)
    assert [c.tobytes() for c in in_tiles.instances.crops] == [c.tobytes() for c in untiled.instances.crops]


# In letters of 8 pixels, tiles of 64 pixels are 8 letters wide, begin at 0, 4, 8, ..., and share 4 letters.
SCENES = {
    "across one seam": ("............", "...cccccc...", "...cccccc...", "............"),
    "across the corner of four tiles": (*["............"] * 3, *["..cccccccc.."] * 6, *["............"] * 3),
    "through three tiles and more": ("....................", ".cccccccccccccccccc.", "...................."),
    "two side by side at a seam": ("............", "..ccccdddd..", "..ccccdddd..", "............"),
    "two side by side along a seam": ("............", "..cccccccc..", "..dddddddd..", "............"),
    "two classes side by side": ("............", "..ccccpppp..", "..ccccpppp..", "............"),
    "inside the overlap": ("............", ".....cc.....", ".....cc.....", "............"),
    "three of one class in the overlap": ("............", "....cde.....", "....cde.....", "............"),
    "at the image's border, beyond which the last tile goes": ("ccccccccccccc", "c...........d", "ccccccccccccd"),
    "an arch whose legs a tile sees without what joins them": (
        *["............"] * 2,
        *["..cccccccc.."] * 2,
        *["..c......c.."] * 6,
    ),
}


@pytest.mark.parametrize("rows", SCENES.values(), ids=SCENES)
def test_an_ideal_model_sees_in_tiles_what_it_sees_in_the_whole(rows, tmp_path):
    image, model = draw(*rows), IdealModel("instances")
    whole, found = (p.predict("x", image).instances for p in (model, TiledPredictor(model, SMALL)))
    assert objects(found) == objects(whole)
    np.testing.assert_array_equal(found.scores, 1)
    assert {tuple(box) for box in found.boxes.tolist()} == {tuple(box) for box in whole.boxes.tolist()}
    write_instances(tmp_path, found)
    assert len(read_instances(tmp_path, "x", CITYSCAPES, image.shape[:2])) == len(whole)  # it is a dump that reads


@pytest.mark.parametrize("rows", SCENES.values(), ids=SCENES)
def test_panoptic_maps_of_tiles_join_to_the_map_of_the_whole(rows):
    image = draw(*rows)
    found = TiledPredictor(IdealModel("panoptic"), SMALL).predict("x", image).panoptic
    assert kinds(found) == kinds(truth_of(image))
    category_of = {segment.segment_id: segment.category_id for segment in found.segments}
    assert found.segments == describe_segments(found.segment_ids, category_of.__getitem__)


@pytest.mark.parametrize("class_map", [False, True])
@pytest.mark.parametrize("rule", [LogitRule(FusionSettings(min_stuff_area=0)), MergeRule()], ids=["logit", "heuristic"])
def test_fusing_joined_halves_is_fusing_the_whole(rule, class_map):
    rows = ("ssssssssssssssss", "sss..pppp..sssss", "....ppppppqq....", ".cccccccccccccc.", "..dddd...eeeeee.", "." * 16)
    image = draw(*(row for row in rows for _ in range(2)))
    model = IdealModel("instances", "semantic", class_map=class_map)
    fused = FusedPredictor(model, model, rule)
    assert kinds(tiled(fused, SMALL).predict("x", image).panoptic) == kinds(fused.predict("x", image).panoptic)


def test_two_halves_that_are_live_see_a_tile_each_once_and_one_from_files_stays_whole(tmp_path):
    image = draw(*["...cccccc..."] * 3)
    instances, semantics = IdealModel("instances"), IdealModel("semantic")
    rule = LogitRule(FusionSettings(min_stuff_area=0))
    whole = FusedPredictor(instances, semantics, rule).predict("x", image).panoptic
    predictor = tiled(FusedPredictor(instances, semantics, rule), SMALL)
    instances.num_runs = semantics.num_runs = 0
    assert kinds(predictor.predict("x", image).panoptic) == kinds(whole)
    assert instances.num_runs == semantics.num_runs == 2

    class FromFile(IdealModel):
        """Sees but whole images."""

        def run(self, image_id: str, image: np.ndarray) -> Prediction:
            assert image.shape == (24, 96, 3)
            return super().run(image_id, image)

    mixed = FusedPredictor(not_live(FromFile("instances")), semantics, rule)
    assert kinds(tiled(mixed, SMALL).predict("x", image).panoptic) == kinds(whole)
    files = not_live(IdealModel("instances", "semantic"))
    with pytest.raises(InputError, match=r"neither half is one; leave it out"):
        tiled(FusedPredictor(files, files, rule), SMALL)
    with pytest.raises(InputError, match=r"comes from files; leave it out"):
        tiled(files, SMALL)


def not_live(model: NetworkPredictor):
    """The same as a predictor that is none of a network."""

    class Stored:
        taxonomy, gives, min_score = model.taxonomy, model.gives, None
        fingerprint, predict = staticmethod(model.fingerprint), staticmethod(model.predict)

    return Stored()


def test_a_predictor_of_everything_is_fused_again_where_a_rule_is_given():
    image = draw(*["...cccccc..."] * 3)
    model = IdealModel("panoptic", "instances", "semantic", class_map=True)
    found = tiled(model, SMALL, MergeRule())
    assert isinstance(found, FusedPredictor)
    assert kinds(found.predict("x", image).panoptic) == kinds(MergeRule().fuse(*halves(model, image), CITYSCAPES))
    assert isinstance(tiled(model, SMALL), TiledPredictor)


def halves(model: IdealModel, image: np.ndarray):
    found = model.predict("x", image)
    return found.instances, found.semantic


def places(height: int, width: int) -> np.ndarray:
    """An image whose pixels say where they are: (y, x, 0)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, 0 * y], 2).astype(np.uint8)


def test_blended_logits_are_the_weighted_mean_of_the_tiles():
    logits_of = {}

    def predict(image: np.ndarray) -> SemanticLogits:
        corner = tuple(image[0, 0, :2].tolist())
        rng = np.random.default_rng(corner)
        logits_of[corner] = rng.normal(0, 8, (19, image.shape[0] // 4, image.shape[1] // 4)).astype(np.float32)
        return SemanticLogits("x", *image.shape[:2], 4, CITYSCAPES.name, "", logits_of[corner])

    # 150x250 in tiles of 96x128 that share 32: from 0 and 64, of which the latter ends beyond the image, and from 0, 64, 128.
    size = 150, 250
    found = TiledPredictor(Scripted("semantic", predict), TileSettings(96, 128, 32)).predict("x", places(*size)).semantic
    assert sorted(logits_of) == [(y, x) for y in (0, 64) for x in (0, 64, 128)]
    assert (found.height, found.width, found.stride) == (*size, 4)
    assert found.logits.shape == (19, 38, 63)

    def ramp(middle: float, start: int, length: int, starts: list[int]) -> float:
        """Down to 0 at the ends that another tile goes beyond, over what both share."""
        weight = 1.0
        for other in starts:
            if other == start - 64:
                weight *= min(1, (middle - start) / (other + length - start))
            if other == start + 64:
                weight *= min(1, (start + length - middle) / (start + length - other))
        return weight

    expected = np.zeros((19, 38, 63))
    for i in range(38):
        for j in range(63):
            y, x, total = 4 * i + 2, 4 * j + 2, 0.0
            for (top, left), logits in logits_of.items():
                if top <= y < top + 96 and left <= x < left + 128:
                    weight = ramp(y, top, 96, [0, 64]) * ramp(x, left, 128, [0, 64, 128])
                    expected[:, i, j] += weight * logits[:, i - top // 4, j - left // 4]
                    total += weight
            expected[:, i, j] /= total
    # Each of at most four sums is rounded to 11 bits of float16.
    np.testing.assert_allclose(found.logits, expected, rtol=0, atol=4 * 32 * 2**-11)


def test_each_pixel_of_a_class_map_is_of_the_tile_whose_middle_is_nearest():
    def predict(image: np.ndarray) -> SemanticMap:
        corner = image[0, 0, 0] // 32 * 4 + image[0, 0, 1] // 32
        return SemanticMap("x", CITYSCAPES.name, "", np.full(image.shape[:2], corner, np.uint8))

    found = TiledPredictor(Scripted("semantic", predict), SMALL).predict("x", places(100, 96)).semantic
    # Tiles begin at 0, 32, 64 down (the last ends beyond the image) and 0, 32 across; middles 32, 64, 96 and 32, 64.
    rows, columns = np.repeat([0, 1, 2], [48, 32, 20]), np.repeat([0, 1], [48, 48])
    np.testing.assert_array_equal(found.train_ids, rows[:, None] * 4 + columns)


CAR = NAMES.index("car")


def boxes_model(*found: tuple[int, tuple[int, int, int, int], float], gain: float = 8.0) -> Scripted:
    """Finds boxes of cars: in the tile that begins at x, pixels (y1, x1, y2, x2) of the image, with a score; stride 1."""

    def predict(image: np.ndarray) -> InstanceLogits:
        left, size = int(image[0, 0, 1]), image.shape[:2]
        here = [(box, score) for x, box, score in found if x == left]
        masks = []
        for (y1, x1, y2, x2), _ in here:
            mask = np.full(size, -gain, np.float32)
            mask[y1:y2, x1 - left : x2 - left] = gain
            masks.append(mask)
        about = {"image_id": "x", "size": size, "stride": 1, "taxonomy": CITYSCAPES, "producer": ""}
        return from_full_logits(masks, [CAR] * len(here), [score for _, score in here], **about)

    return Scripted("instances", predict)


def joined(*found: tuple[int, tuple[int, int, int, int], float]) -> list[tuple[float, tuple[int, ...]]]:
    """Score and box (x1, y1, x2, y2) of what is found in an image of 32x96 pixels, whose tiles are 0..64 and 32..96."""
    instances = TiledPredictor(boxes_model(*found), SMALL).predict("x", places(32, 96)).instances
    return [(round(float(s), 4), tuple(map(int, b))) for s, b in zip(instances.scores, instances.boxes, strict=True)]


def test_the_score_of_a_joined_object_is_the_mean_by_area():
    # 10 rows of 44 and of 48 columns.
    expected = (44 * 0.9 + 48 * 0.5) / (44 + 48)
    assert joined((0, (0, 20, 10, 64), 0.9), (32, (0, 32, 10, 80), 0.5)) == [(round(expected, 4), (20, 0, 80, 10))]


def test_objects_that_share_less_than_half_of_the_smaller_one_stay_two():
    # In 32..64 the first has 10 rows of 32 columns, the second as many, 5 or 4 rows lower down.
    assert len(joined((0, (0, 20, 10, 64), 0.9), (32, (5, 32, 15, 80), 0.9))) == 1
    assert len(joined((0, (0, 20, 10, 64), 0.9), (32, (6, 32, 16, 80), 0.9))) == 2


def test_what_only_one_tile_finds_stays_as_it_is():
    # The second ends at the border of its tile.
    assert joined((0, (0, 2, 10, 12), 0.9), (0, (12, 50, 20, 64), 0.6)) == [(0.9, (2, 0, 12, 10)), (0.6, (50, 12, 64, 20))]


def test_an_object_joins_its_other_part_and_not_the_doubtful_double_of_that():
    # The double fits exactly, and the other one with 8 of 10 rows, but its tile believes in that.
    found = joined((0, (0, 20, 10, 64), 0.9), (32, (0, 32, 8, 80), 0.8), (32, (0, 32, 10, 80), 0.1))
    assert found[0][0] == pytest.approx((440 * 0.9 + 384 * 0.8) / 824, abs=1e-4)
    assert found[1] == (pytest.approx(0.1), (32, 0, 80, 10))


def test_objects_of_two_classes_never_become_one():
    def predict(image: np.ndarray) -> InstanceLogits:
        """A car in the first tile, a person at the same place in the second."""
        left, size = int(image[0, 0, 1]), image.shape[:2]
        mask = np.full(size, -8, np.float32)
        mask[:10, 40 - left : 60 - left] = 8
        about = {"image_id": "x", "size": size, "stride": 1, "taxonomy": CITYSCAPES, "producer": ""}
        return from_full_logits([mask], [NAMES.index("person") if left else CAR], [0.9], **about)

    found = TiledPredictor(Scripted("instances", predict), SMALL).predict("x", places(32, 96)).instances
    assert sorted(found.train_ids.tolist()) == sorted([CAR, NAMES.index("person")])


def test_two_objects_of_one_tile_never_become_one_through_a_third():
    # One tile sees as one what the other tells apart: the larger part of it takes it.
    found = joined((0, (0, 20, 16, 64), 0.9), (32, (0, 32, 9, 80), 0.9), (32, (9, 32, 16, 80), 0.9))
    assert len(found) == 2


def test_where_tiles_disagree_the_nearer_one_decides():
    # Both find the object, but the second ends it at column 40, the first at 56. Their logits are equally certain, so the mask
    # ends where their weights are equal, in the middle of what they share.
    assert joined((0, (0, 20, 10, 56), 0.9), (32, (0, 32, 10, 40), 0.9)) == [(0.9, (20, 0, 48, 10))]


def test_a_prediction_that_is_not_of_the_tile_is_refused():
    def predict(image: np.ndarray) -> SemanticMap:
        return SemanticMap("x", CITYSCAPES.name, "", np.zeros((32, 96), np.uint8))

    with pytest.raises(InputError, match=r"a prediction is of 32x96, but the tile is 32x64; tiles are for live models"):
        TiledPredictor(Scripted("semantic", predict), SMALL).predict("x", places(32, 96))


@pytest.mark.parametrize(("strides", "match"), [((4, 8), "at stride 4, another at 8"), ((12, 12), "at stride 12 do not fit")])
def test_strides_that_do_not_fit_are_refused(strides, match):
    def predict(image: np.ndarray) -> SemanticLogits:
        stride = strides[int(image[0, 0, 1] > 0)]
        grid = (-(-side // stride) for side in image.shape[:2])
        return SemanticLogits("x", *image.shape[:2], stride, CITYSCAPES.name, "", np.zeros((19, *grid), np.float32))

    with pytest.raises(InputError, match=match):
        TiledPredictor(Scripted("semantic", predict), SMALL).predict("x", places(32, 96))


def test_the_memory_is_that_of_the_blended_logits_and_of_a_few_tiles():
    model = Scripted(
        "semantic",
        lambda image: SemanticLogits("x", *image.shape[:2], 4, CITYSCAPES.name, "", np.ones((19, 128, 256), np.float32)),
    )
    image = np.broadcast_to(np.uint8(0), (4096, 8192, 3))
    tracemalloc.start()
    try:
        logits = TiledPredictor(model, TileSettings(512, 1024, 128)).predict("x", image).semantic.logits
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert logits.nbytes == 19 * 1024 * 2048 * 2
    tile_bytes = 19 * 128 * 256 * 4 + 512 * 1024 * 3  # its logits and its pixels
    assert peak < logits.nbytes + 3 * tile_bytes
