"""What is not typed as it stands: what is not run, and why; what stands for a name; what makes a command tiny."""

import re
from dataclasses import dataclass

PLACEHOLDERS = {"B": "1", "W": "1", "N": "2", "F": "labelme", "FORMAT": "labelme", "SERVER": "coco-panoptic"}
"""Words of commands in sentences and docstrings -> a value that the option takes."""

OTHER_PROGRAMS = {
    "cd": "goes to a folder",
    "export": "sets a variable",
    ".": "activates the environment, which is on the PATH of the runs",
    "make": "a target of Makefile, which is looked for",
    "pip": "installs; its extras are looked for in pyproject.toml",
    "git": "needs the repository's address",
    "docker": "needs Docker",
    "ros2": "needs ROS 2",
    "ray": "starts a cluster",
    "srun": "needs SLURM",
    "sbatch": "needs SLURM",
    "tensorboard": "serves until it is stopped",
    "uv": "installs",
    "touch": "marks an environment as whole for make",
}
"""Programs that are no scripts of this project -> what of them is looked at, or why nothing is."""


@dataclass(frozen=True)
class Rule:
    """Something about the commands in whose text a pattern is found."""

    pattern: str
    value: str
    reason: str

    def fits(self, text: str) -> bool:
        """Whether it is about a command."""
        return re.search(self.pattern, text) is not None


PAGES_NOT_RUN = {"docs/setup.md": "makes environments: minutes, gigabytes and the network"}
"""Page -> why no test types what it says."""

NOT_RUN = {
    r"^(\S*python\S* -m )?(pip|uv) ": "installs packages: minutes, gigabytes and the network",
    r"^make (setup|iabn|runtime|docs)\b": "installs packages: minutes, gigabytes and the network",
    r"^make (test|lint)": "would run the tests inside of a test",
    r"^make demo": "has been run for all pages, with the small data set",
    r"^\S*python\S* -m (pytest|mkdocs|http)|^pytest": "would run the tests inside of a test, or serve",
    r"^(git|docker|ros2|ray|srun|sbatch|tensorboard) ": "needs another program, see OTHER_PROGRAMS",
    r"^\. |^source ": "activates the environment, which is on the PATH of the runs",
    r"--live": "needs a camera",
    r"benchmark\.py|-m benchmarks\.|scripts/compare\.py": "measures for minutes to hours",
}
"""Pattern of a line -> why no test types it."""

REFUSED = (
    Rule(r"--download \S", r"cannot be fetched", "the tests have no network; tests/scripts/test_import_weights.py has a server"),
    Rule(r"\b(hf|torchvision):", r"hf:|torchvision:", "weights of libraries come over the network, which the tests do not have"),
)
"""What is run up to one line of an error, that the value is found in."""

MAY_FIND = (
    Rule(r"check_labels\.py", r"wrote \S*problems\.json", "exit code 1 says that there are findings, as small data sets have"),
)
"""What may end with exit code 1 if it has printed the value."""

STAND_INS = (
    Rule(r"/path/to/", "the_users/", "data sets of these names, drawn"),
    Rule(r"/data/(?=cityscapes)", "the_users/", "the same"),
    Rule(r"/shared/", "outputs/shared/", "a folder that can be written to"),
    Rule(r"(?<=[ =])FOLDER\b", "images", "a folder of images"),
    Rule(
        r"--stuff (floor wall|floor|sky road)(?= )",
        "--stuff road",
        "the little exports of tests/label_exports.py have a road and cars",
    ),
    Rule(r"--things car person(?= )", "--things car", "the same"),
    Rule(r'"car, auto, .*?" --stuff "road, route" sky', '"car, auto" --stuff "road, route"', "the same"),
    Rule(r"(?<=--checkpoint )C(?= .*coco)", "the_users/coco.ckpt", "a network of COCO's classes"),
    Rule(r"(?<=--checkpoint )C\b", "the_users/cityscapes.ckpt", "a network of Cityscapes' classes"),
)
"""What stands in a page for what the user has, and what the test has there."""

CROPS = "--data.augmentation.crop_height 128 --data.augmentation.crop_width 256"
SHORT = "--epochs 1 --data.batch_size 2 --accumulate 1 --workers 0"
STEPS = (
    "--trainer.max_steps 2 --trainer.val_check_interval 2 --trainer.limit_val_batches 1 "
    "--data.batch_size 2 --accumulate 1 --workers 0"
)
SIDES = (
    "--data.augmentation.shorter_sides [128,160] --data.augmentation.longer_side 256 "
    "--data.input_size.shorter_side 128 --data.input_size.longer_side 256"
)
R50 = (
    "model.backbone.frozen_stages=-1 model.backbone.norm_eval=False model.mask_head.num_grids=[16,12,12,8,6] "
    "train_dataloader.dataset.times=1 train_dataloader.num_workers=0 "
    "train_dataloader.dataset.dataset.pipeline.2.scale=[(256,112),(256,128)] "
    "val_dataloader.dataset.pipeline.1.scale=(256,128) test_dataloader.dataset.pipeline.1.scale=(256,128)"
)
TINY = (
    Rule(
        r"solov2/train\.py.*cityscapes_r50", f"--epochs 1 --weights none --cfg-options {R50}", "the data set has 128x256 pixels"
    ),
    Rule(r"solov2/train\.py.*(photos|streets_(512|256))", "--epochs 1", "60 and 12 epochs teach nothing more here"),
    Rule(r"efficientps/train_net\.py.*cityscapes_b5", f"{SHORT} {CROPS}", "the data set has 128x256 pixels, and four images"),
    Rule(r"efficientps/train_net\.py.*photos", SHORT, "48 epochs teach nothing more here"),
    Rule(r"panoptic_fpn/train\.py.*cityscapes_r", f"{STEPS} {CROPS}", "65,000 steps"),
    Rule(r"panoptic_fpn/train\.py.*coco_r", f"{STEPS} {SIDES}", "90,000 steps of 800x1333"),
    Rule(r"panoptic_fpn/train\.py.*photos", SHORT, "64 epochs teach nothing more here"),
    Rule(r"panoptic_fpn/train\.py", SHORT, "13 epochs teach nothing more here"),
    Rule(r"pan_secb/train\.py.*cityscapes_fine", f"{SHORT} {CROPS}", "250 epochs"),
    Rule(r"pan_secb/train\.py.*cityscapes", f"{SHORT} --data.crops_per_epoch 4 {CROPS}", "200 epochs of 3000 crops"),
    Rule(r"pan_secb/train\.py", "--epochs 1 --data.crops_per_epoch 8", "2000 crops an epoch"),
    Rule(r"pan_secb/forward_time\.py", "--sizes 128x256 --seconds 0", "times of large images take minutes"),
    Rule(r"draw_streets\.py.*--num-train", "--num-train 3 --num-val 2", "hundreds of images of 1024x2048"),
    Rule(r"draw_streets\.py.*--sequence", "--sequence 4 --height 128 --width 256", "thirty frames"),
    Rule(r"draw_snapshots\.py", "--num-train 3 --num-val 2", "sixty images"),
    Rule(r"tests/fuzz/run\.py.*--cases", "--cases 200", "hours"),
    Rule(r"tests/kills/run\.py.*--kills", "--kills 2 --jobs fuse", "hours"),
    Rule(
        r"predict_cluster\.py.*--stage1-actors",
        "--stage1-actors 1 --stage2-actors 1",
        "each actor takes a core and loads both models",
    ),
)
"""What is added to a command's arguments, where the last of two counts; the first rule that fits."""
