"""The same work on many recorded runs, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def spread(
    work: Callable[..., Result], *columns: Sequence[Any], jobs: int | None, tell: Callable[[], None]
) -> list[Result]:
    """`work` on every row of `columns`, in their order; `tell` is called after each."""
    done = []
    with ProcessPoolExecutor(jobs or os.cpu_count()) as pool:
        chunk = max(1, min(16, len(columns[0]) // 64))
        for result in pool.map(work, *columns, chunksize=chunk):
            done.append(result)
            tell()
    return done
