"""The one table of what a check of labels can find: name, level, meaning, effect on a score, remedy.

What is said of cityscapesscripts' evaluator holds for panopticapi's, which counts by the same rules;
tests/scripts/test_check_labels.py asks the former.
"""

from dataclasses import dataclass

BROKEN, SUSPICIOUS = "broken", "suspicious"
LEVELS = (BROKEN, SUSPICIOUS)


@dataclass(frozen=True)
class Kind:
    """What can be found. effect: what it does to a score. remedy: what to do, an imperative."""

    level: str
    definition: str
    effect: str
    remedy: str


OFFICIAL = "cityscapesscripts' panoptic evaluator"
REFUSED = "Refused here in one line"
KINDS: dict[str, Kind] = {
    # The files as a whole.
    "json-unreadable": Kind(
        BROKEN,
        "the panoptic JSON of another split, or of the prediction, is missing, no JSON, or has no list `annotations`",
        "Nothing that it holds was checked; a training or a score that needs it stops.",
        "write that JSON again with the tool that made it",
    ),
    "entry-malformed": Kind(
        BROKEN,
        "an entry of `images`, `annotations`, `categories` or `segments_info` is no object, or lacks a field that is needed",
        f"{REFUSED}, but for an entry of `images`, which is passed over; {OFFICIAL} stops with an exception where the field is "
        "read.",
        "write the JSON again; docs/custom_data.md shows a whole one",
    ),
    "categories-missing": Kind(
        BROKEN,
        "the JSON has no `categories`, so that nobody knows what the category ids mean",
        f"{OFFICIAL} stops with a KeyError; scripts/evaluate.py takes Cityscapes' ids or train ids unless --taxonomy says else, "
        "and refuses others.",
        "add `categories` with id, name and isthing",
    ),
    "category-repeated": Kind(
        BROKEN,
        "two `categories` share an id or a name",
        f"{REFUSED}. {OFFICIAL} keeps the last entry of an id: if the two differ in `isthing`, the class is scored in the wrong "
        "group; of a name it keeps both, which are then two classes.",
        "give each class its own id and name",
    ),
    "isthing-missing": Kind(
        BROKEN,
        "a category has no `isthing`, or another value than 0 or 1",
        f"{REFUSED}, but takes the texts 0, 1, true and false. {OFFICIAL} stops with a KeyError where it is missing, and counts "
        "any other value than 1, the text '1' too, as stuff.",
        "write `isthing` as the number 0 or 1",
    ),
    "train-ids-as-ids": Kind(
        BROKEN,
        "Cityscapes' train ids (0..18) stand where its ids (7..33) are meant, in `category_id` or in a label image",
        "Segments are scored as other classes or as none: a road with category 0 never meets a road with category 7, and "
        "train id 13 (car) is read as id 13 (fence). PQ of most classes falls to 0.",
        "map train ids back to ids, or list the train ids in `categories` (createPanopticImgs --use-train-id does)",
    ),
    "images-missing": Kind(
        BROKEN,
        "a JSON of the COCO layout has no list `images`",
        "The data set cannot be opened here, since images are found by it. Evaluators of two JSON files do not read it.",
        "add `images` with id and file_name of each image",
    ),
    "image-repeated": Kind(
        BROKEN,
        "an image id occurs twice in `images` or in `annotations`",
        f"Twice in `annotations`: refused here in one line; {OFFICIAL} scores such a truth twice, and of a prediction keeps "
        "the last one. Twice in `images`: the last one's file is taken here.",
        "keep one entry an image",
    ),
    "png-shared": Kind(
        BROKEN,
        "two annotations name one PNG",
        "At most one of both images is compared with its own truth; the other's segments are wrong or absent in that PNG.",
        "name each image's own PNG",
    ),
    "picture-shared": Kind(
        BROKEN,
        "two entries of `images` name one file",
        "The data set cannot be opened here. A score would count what one image shows for two.",
        "name each image's own file",
    ),
    "path-outside": Kind(
        BROKEN,
        "a file_name leaves its folder (absolute, or with ..) or cannot be a file's name",
        "Refused here in one line where the file would be opened. Other tools read whatever lies there.",
        "write file names relative to the folder",
    ),
    "image-unlisted": Kind(
        BROKEN,
        "an annotation's image is not in `images`",
        "A data set of the COCO layout cannot be opened here. Evaluators of two JSON files score the image all the same.",
        "add the image to `images`",
    ),
    "annotation-missing": Kind(
        BROKEN,
        "an entry of `images` has no annotation",
        "A data set of the COCO layout cannot be opened here. Evaluators of two JSON files go by `annotations`: the image is "
        "scored nowhere, so that a failure on it costs nothing.",
        "annotate the image, or remove it from `images`",
    ),
    "names-differ": Kind(
        BROKEN,
        "a category id has one name in the truth and another in the prediction",
        f"scripts/evaluate.py refuses the prediction. {OFFICIAL} goes by the ids and never looks: classes are compared with "
        "others.",
        "give the prediction the ids of the truth, or a class map (--prediction-classes of scripts/evaluate.py)",
    ),
    "prediction-missing": Kind(
        BROKEN,
        "an image of the truth has no prediction",
        f"scripts/evaluate.py refuses the prediction and {OFFICIAL} stops: no score at all.",
        "predict every image of the split",
    ),
    # A PNG.
    "png-missing": Kind(
        BROKEN,
        "the file of a panoptic PNG, or of a label image, is not there",
        "No score: every evaluator stops at it.",
        "copy the missing files, or remove their annotations",
    ),
    "png-unreadable": Kind(
        BROKEN,
        "a PNG is truncated, damaged or no image",
        "No score: every evaluator stops at it.",
        "copy the file again",
    ),
    "png-mode": Kind(
        BROKEN,
        "a panoptic PNG is not 8-bit RGB (palette, grey, 16 bits, alpha) or no PNG, or a label image is not grey",
        f"Segment ids are r + 256 g + 65536 b. From a palette or grey no ids come: refused here, an exception in {OFFICIAL}. "
        "Of 16 bits Pillow keeps 8, and JPEG changes values: other ids, refused here. Alpha is ignored by both, but whoever "
        "draws the PNG on a background gets other ids.",
        "write the PNG as 8-bit RGB with id = r + 256 g + 65536 b",
    ),
    "channels-swapped": Kind(
        BROKEN,
        "PNG and JSON name the same ids if red and blue change places (OpenCV writes BGR)",
        f"{REFUSED}. {OFFICIAL} finds none of a truth's segments in its PNG, so that all are missed, and stops at such a "
        "prediction.",
        "write red first",
    ),
    "size-disagrees": Kind(
        BROKEN,
        "picture, PNG, the height and width in `images`, and the prediction are not all of one size",
        "Truth and prediction of two sizes cannot be compared: every evaluator stops. Where only `images` is wrong no PQ "
        "changes, but tools that believe it draw and crop wrongly.",
        "use the PNG of the same image, upright as its EXIF orientation says",
    ),
    # The segments of an image.
    "segment-repeated": Kind(
        BROKEN,
        "a segment id is listed twice in an image",
        f"{REFUSED}. {OFFICIAL} keeps the last entry, so that a class or a crowd flag is lost.",
        "give each segment its own id, in JSON and PNG",
    ),
    "id-out-of-range": Kind(
        BROKEN,
        "a segment id is negative, above 16777215 (24 bits), or no whole number",
        f"{REFUSED}. No pixel can hold it, so that {OFFICIAL} counts the segment as missed whatever is predicted.",
        "number the segments of an image from 1",
    ),
    "id-zero": Kind(
        BROKEN,
        "a truth lists a segment with id 0, which in the PNG is void",
        f"{REFUSED}. {OFFICIAL} counts the pixels as a segment and also as void, which it takes out of the union: IoU is wrong.",
        "number the segments from 1",
    ),
    "id-unlisted": Kind(
        BROKEN,
        "the PNG holds an id that the JSON does not list",
        f"{REFUSED}. In {OFFICIAL} such pixels of a truth are neither a segment nor void, so that a prediction on them counts "
        "as invented; at such a prediction it stops.",
        "list the segment, or make its pixels 0",
    ),
    "id-undrawn": Kind(
        BROKEN,
        "the JSON lists a segment of which the PNG has no pixel",
        f"{REFUSED}. {OFFICIAL} counts such a truth as missed, whatever is predicted, and stops at such a prediction.",
        "remove the entry, or write the PNG again",
    ),
    "category-unknown": Kind(
        BROKEN,
        "a segment's category is not in `categories`",
        f"{REFUSED}. In {OFFICIAL} a truth of such a class enters no mean, so that its misses are free, and at such a "
        "prediction it stops.",
        "add the class to `categories`, or correct the category id",
    ),
    "iscrowd-missing": Kind(
        BROKEN,
        "a truth's segment has no `iscrowd`, or another value than 0 or 1",
        f"Here a missing flag is taken as 0, the texts 0, 1, true and false as what they say, and others are refused. {OFFICIAL} "
        "stops with a KeyError where it is missing, and takes any other value than 1, the text '1' too, for no crowd.",
        "write `iscrowd` as the number 0 or 1",
    ),
    "area-wrong": Kind(
        BROKEN,
        "a truth's `area` is not the number of its pixels in the PNG",
        f"PQ here counts areas from the PNG, so nothing changes. {OFFICIAL} and panopticapi believe the JSON: IoU is too high "
        "where the area is too small, even above 1 or negative, and too low where it is too large.",
        "count the areas from the PNGs again",
    ),
    "box-as-corners": Kind(
        BROKEN,
        "`bbox` is (x1, y1, x2, y2), but (x, y, width, height) is the form",
        "No PQ reads boxes, and this project counts them from the PNG. Trainers that read this `bbox` learn boxes that reach "
        "too far to the right and down.",
        "write bbox as x, y, width, height",
    ),
    "box-wrong": Kind(
        BROKEN,
        "a truth's `bbox` differs from the box around its pixels by more than one pixel at a side, or is no box",
        "No PQ reads boxes, and this project counts them from the PNG. Trainers that read this `bbox` learn wrong boxes. One "
        "that is no four numbers is refused here.",
        "count the boxes from the PNGs again",
    ),
    "crowd-of-stuff": Kind(
        BROKEN,
        "`iscrowd` is 1 at a segment of a stuff class",
        "A crowd is neither matched nor missed: the segment is left out of the score, and predictions of its class on it are "
        "forgiven instead of matched.",
        "set `iscrowd` to 0 for stuff",
    ),
    "stuff-repeated": Kind(
        BROKEN,
        "an image has several segments of one stuff class",
        "Each counts as a truth of its own. A model says one segment a stuff class, so that at most one of them is matched "
        "and the others are missed, or none if the largest is not more than half of all.",
        "join the segments of a stuff class to one, or make the class a thing",
    ),
    # Pictures and the layout.
    "picture-missing": Kind(
        BROKEN,
        "a label has no picture",
        "The data set cannot be opened here (COCO layout), or the label is never used (Cityscapes layout). Evaluators of two "
        "JSON files do not notice.",
        "add the picture, or remove the label",
    ),
    "label-missing": Kind(
        BROKEN,
        "a picture has no label, in a split where others have one",
        "Cityscapes layout: a training stops at it, and a score leaves the image out. COCO layout: the picture is never used.",
        "label the picture, or remove it",
    ),
    "picture-unreadable": Kind(
        BROKEN,
        "a picture is truncated, damaged or no image",
        "A model leaves it out or stops, and then there is no score.",
        "copy the picture again",
    ),
    "picture-repeated": Kind(
        BROKEN,
        "two images of a split are the same file, byte for byte",
        "What it shows counts twice in every score; in a training it weighs twice.",
        "keep one of them",
    ),
    "picture-in-two-splits": Kind(
        BROKEN,
        "an image of this split is also in the other one, byte for byte",
        "A model has learned what it is scored on: the score of val is too high.",
        "remove it from one of the splits",
    ),
    "class-untrained": Kind(
        BROKEN,
        "a class occurs in the validation split, but never in the training split",
        "A model trained on this split cannot find it: its PQ is 0, and it is a class of the mean like any other.",
        "move images with the class to the training split, or map it to another class (--truth-classes)",
    ),
    # The Cityscapes layout.
    "labels-disagree": Kind(
        BROKEN,
        "gtFine_labelIds.png and gtFine_instanceIds.png of an image name different classes (id // 1000 of an instance)",
        "PQ goes by the instance ids, mean IoU in cityscapesscripts by the label ids: they score different truths.",
        "make both again from polygons.json (cityscapesscripts' json2labelImg and json2instanceImg)",
    ),
    "panoptic-disagrees": Kind(
        BROKEN,
        "the panoptic PNG is not what createPanopticImgs makes of gtFine_instanceIds.png",
        "A training here learns from the instance ids, and evaluators of JSON files score by the PNG: a right prediction is "
        "counted as wrong.",
        "make the panoptic files again: scripts/prepare_cityscapes.py, or createPanopticImgs",
    ),
    "label-id-unknown": Kind(
        BROKEN,
        "a label image holds an id that Cityscapes' table does not have",
        "In instanceIds: the image is refused here, and createPanopticImgs stops with a KeyError. In labelIds: neither reads "
        "them, but pixel scores of cityscapesscripts do.",
        "correct the id, or make the label image again from polygons.json",
    ),
    # What only looks wrong.
    "area-missing": Kind(
        SUSPICIOUS,
        "a truth's segments have no `area`",
        f"Nothing here, where areas are counted from the PNG; {OFFICIAL} stops with a KeyError when a prediction of the class "
        "meets it.",
        "add `area` if other tools are to read the file",
    ),
    "stuff-with-number": Kind(
        SUSPICIOUS,
        "a stuff segment has an id like those of things, category id * 1000 + k, in a file whose things are numbered so",
        "Alone it changes no score: the class is what the JSON says. It often means that the class was annotated as objects, or "
        "`isthing` is wrong; then the class is scored in the wrong group.",
        "look whether the class should be a thing",
    ),
    "class-unvalidated": Kind(
        SUSPICIOUS,
        "a class occurs in the training split, but never in the validation split",
        "Its PQ is not measured: it enters the mean only if a model invents it, and then with 0.",
        "move images with the class to the validation split",
    ),
    "class-once": Kind(
        SUSPICIOUS,
        "a class has one segment in the whole split",
        "PQ of the class hangs on one segment, found or not, and weighs as much in the mean as that of any other class.",
        "check that it is no mistake; add images with the class",
    ),
    "near-duplicate": Kind(
        SUSPICIOUS,
        "a picture of this split and one of the other look the same: dHash (64 bits) differs in at most 3, thumbnails (16x16, "
        "grey) by at most 6 of 255 on average",
        "A model has learned nearly what it is scored on: the score of val is too high.",
        "remove it from one of the splits",
    ),
    "all-void": Kind(
        SUSPICIOUS,
        "an image has no pixel with a class",
        "It has nothing to find, and forgives everything: it cannot change a score.",
        "annotate the image, or remove it",
    ),
    "much-void": Kind(
        SUSPICIOUS,
        "more than 30 % of the image is void, and more than the third quartile of the split plus three times the distance "
        "between the quartiles (20 images are needed)",
        "Predictions that lie mostly on void are neither right nor wrong: the image tells less than others.",
        "look whether a part of the image was forgotten",
    ),
    "covers-image": Kind(
        SUSPICIOUS,
        "one segment covers more than 98 % of the image",
        "The score of the image says nothing but whether this one class was found.",
        "look whether the other segments were lost",
    ),
    "sliver": Kind(
        SUSPICIOUS,
        "a thing of at most 4 pixels, or a segment of at least 25 pixels in which no 2x2 pixels fit: the rest of an outline",
        "Each counts like any other segment: a model misses it, and the class's PQ falls with every one.",
        "remove what is no object, or give its pixels to the segment that it is the edge of",
    ),
    "holes": Kind(
        SUSPICIOUS,
        "void that a thing encloses makes up more than 5 % of it, and at least 100 pixels of a 1024x2048 image",
        "The void is taken out of the union, so IoU hardly changes; a training learns the hole. Often a part was forgotten.",
        "look whether something in the hole was forgotten",
    ),
    "far-pieces": Kind(
        SUSPICIOUS,
        "a piece of a thing (of 30 pixels or more), of at least 15 % of its area, is farther from its largest piece than 1.5 "
        "times the longer side of that one's box, and less than half of the line between them lies on other things or void, "
        "which could hide the rest",
        "Two objects under one id are one truth: a model that finds both is right with one at most, and invents the other.",
        "look whether it is several objects under one id",
    ),
    "compact-crowd": Kind(
        SUSPICIOUS,
        "a crowd is one piece of 50 pixels or more that fills at least 75 % of its box and is smaller than 64x64 pixels of a "
        "1024x2048 image: perhaps one object",
        "A crowd is neither found nor missed: if it is one object, a model that finds it gets nothing for it.",
        "set `iscrowd` to 0 where it is one object",
    ),
    "area-outlier": Kind(
        SUSPICIOUS,
        "the logarithm of a segment's share of its image lies three times the distance between the quartiles of its class "
        "outside of them (things; 30 segments of the class are needed)",
        "None by itself. It is often a wrong class, several objects under one id, or a remnant.",
        "look at the segment's class and outline",
    ),
    # What a prediction contradicts; the rules are in evaluation/label_disagreements.py.
    "class-disputed": Kind(
        SUSPICIOUS,
        "a confident prediction of another class has IoU above 0.5 with a segment of the truth",
        "Costs a missed and an invented segment, whoever is right.",
        "look at the class; the first ones are the most confident",
    ),
    "number-disputed": Kind(
        SUSPICIOUS,
        "confident predictions say that one thing of the truth is several, or several are one",
        "Costs at least one missed or invented segment, whoever is right.",
        "look whether objects were joined or cut",
    ),
    "object-disputed": Kind(
        SUSPICIOUS,
        "a confident thing is predicted where the truth has no object that it could be",
        "Counts as invented. If the object is there, the truth has forgotten it.",
        "look whether an object was forgotten",
    ),
    "void-disputed": Kind(
        SUSPICIOUS,
        "a confident thing is predicted mostly on void",
        "None: it is forgiven. If the object is there, the truth has forgotten it, and finding it earns nothing.",
        "look whether an object was forgotten",
    ),
    "object-unseen": Kind(
        SUSPICIOUS,
        "a large segment of the truth (96x96 pixels of a 1024x2048 image or more) has no prediction of its class with IoU of 0.1 "
        "or more, though the prediction finds more than half of such segments of the class",
        "Counts as missed. If it is not there, the truth has invented it.",
        "look whether the segment is what it says",
    ),
}
"""Name -> kind, the broken ones first; within a level in the order in which one would mend them."""
