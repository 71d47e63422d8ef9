"""benchmarks/operators.py: what onnxruntime's profile adds up to."""

from benchmarks.operators import milliseconds_by_operator


def test_the_profile_counts_every_run_but_the_first_and_kernels_alone():
    def event(name, start, duration, operator=None):
        return {
            "name": name,
            "cat": "Node" if operator else "Session",
            "ts": start,
            "dur": duration,
            "args": {"op_name": operator},
        }

    events = [event("model_run", 0, 9000), event("a_kernel_time", 1, 8000, "Conv")]
    for start in (10_000, 20_000):
        events += [event("model_run", start, 3000), event("a_kernel_time", start + 1, 2000, "Conv")]
        events += [event("b_fence_after", start + 2, 500, "Add"), event("b_kernel_time", start + 3, 1000, "Add")]
    assert milliseconds_by_operator(events, runs=2) == {"Conv": 2.0, "Add": 1.0}
