"""Where onnxruntime spends the time of an exported network: milliseconds an image by operator, from its own profiler."""

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from prediction.exported.model_folder import ModelFolder


def time_operators(folder: ModelFolder, size: tuple[int, int], threads: int, runs: int = 5) -> Counter[str]:
    """Operator -> milliseconds an image, of random pixels; the first of the runs is not counted.

    Args:
        folder: the exported model. size: (height, width) of the input, in multiples of the network's.
        threads: that compute one image. runs: that are counted.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = threads, True
    rng = np.random.default_rng(0)
    inputs = {"image": rng.standard_normal((1, 3, *size), dtype=np.float32), "size": np.array(size, np.int64)}
    with TemporaryDirectory() as scratch:
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = onnxruntime.InferenceSession(folder.model, options, providers=["CPUExecutionProvider"])
        taken = {value.name: inputs[value.name] for value in session.get_inputs()}
        for _ in range(runs + 1):
            session.run(folder.outputs, taken)
        events = json.loads(Path(session.end_profiling()).read_text())
    return milliseconds_by_operator(events, runs)


def milliseconds_by_operator(events: list[dict], runs: int) -> Counter[str]:
    """Sums of a profile's events, in order of time.

    Args:
        events: as onnxruntime writes them, in microseconds: of runs + 1 runs, the first of which is left out.
    """
    starts = sorted(event["ts"] for event in events if event["name"] == "model_run")
    found: Counter[str] = Counter()
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= starts[-runs]:
            found[event["args"]["op_name"]] += event["dur"] / 1000 / runs
    return Counter(dict(found.most_common()))
