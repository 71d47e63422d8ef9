"""Files that once crashed or misled a reader, each named by what it is: they are read right now, or refused in one line."""

from pathlib import Path

import pytest

from tests.fuzz.campaign import Limits, judge, warm_up
from tests.fuzz.targets import TARGETS

FILES = sorted((Path(__file__).parent / "corpus").glob("*/*"))


@pytest.fixture(scope="module", autouse=True)
def _warm_up():
    warm_up(TARGETS)


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])
def test_is_read_right_or_refused(path):
    verdict = judge(TARGETS[path.parent.name], [path.read_bytes()], Limits(memory_gb=2, case_seconds=20))
    assert not verdict.is_finding, f"{verdict.fault}\n{verdict.detail}"
