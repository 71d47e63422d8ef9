"""Logits become float16 as if they were clipped first; tests by bits tell what numpy's own tests tell."""

import numpy as np
import pytest

from data.dump_file import LARGEST_LOGIT, is_finite, to_float16

EVERY_FLOAT16 = np.arange(2**16, dtype=np.uint16).view(np.float16)
NEAR_THE_LIMIT = np.linspace(59900, 66000, 2000)
FINITE = EVERY_FLOAT16[np.isfinite(EVERY_FLOAT16)].astype(np.float64)
VALUES = np.concatenate((FINITE, NEAR_THE_LIMIT, -NEAR_THE_LIMIT, [1e30, -1e30, np.inf, -np.inf, np.nan]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_float16_cannot_hold_is_clipped_and_nan_and_infinity_stay(dtype):
    logits = EVERY_FLOAT16 if dtype == np.float16 else VALUES.astype(dtype)
    expected = np.where(np.isfinite(logits), np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT), logits).astype(np.float16)
    found = to_float16(logits)
    assert found.dtype == np.float16
    assert np.array_equal(found, expected, equal_nan=True)
    assert not np.shares_memory(found, logits)


def test_every_float16_is_finite_or_not_as_numpy_says():
    assert [is_finite(EVERY_FLOAT16[k : k + 1]) for k in range(2**16)] == np.isfinite(EVERY_FLOAT16).tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_stranger_among_many_is_found(dtype):
    values = np.zeros((7, 9), dtype)
    assert is_finite(values)
    assert is_finite(values[:0])
    values[3, 4] = -np.inf
    assert not is_finite(values)
