"""Prediction on a cluster, by Ray Data: read, stage 1, stage 2, fuse and write, each with workers of its own.

    range -> CheckpointFilter -> read -> Stage(instances) -> Stage(semantics) -> finish [-> pack] -> write_parquet

    settings.py   what a job is told        manifest.py   the table of its images   places.py    files, here or far away
    reading.py    pixels, or what is done   stages.py     networks and fusion       outputs.py   PNGs, tars, records
    execution.py  all that is Ray's         joining.py    records to panoptic.json  job.py       from start to end

A row is an image; what passes between the stages lies in Ray's object store. A panoptic PNG is the one that a single process
would write, producer and all, and so is panoptic.json. Beside them the run folder has
  jobs/DIGEST/checkpoint    Ray's own: which rows are written; believed only where the output is there (execution.py)
  jobs/DIGEST/records       what became of each image, as Parquet, of which the driver makes panoptic.json
  failures.jsonl            the images that were left out, and why
DIGEST stands for the images, the form of the output and the predictor's fingerprint.
"""

from prediction.cluster.job import predict_on_cluster
from prediction.cluster.manifest import find_manifest, read_manifest, write_manifest
from prediction.cluster.settings import ClusterModel, ClusterSettings

__all__ = ["ClusterModel", "ClusterSettings", "find_manifest", "predict_on_cluster", "read_manifest", "write_manifest"]
