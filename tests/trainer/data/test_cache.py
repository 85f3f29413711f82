import os
import threading
import time

import pytest

from trainer.data import cache


def maker(calls, content=b"12345678"):
    def make(folder):
        calls.append(folder)
        (folder / "numbers").write_bytes(content)

    return make


def test_what_was_made_is_made_once(own_cache):
    calls = []
    one, two = (cache.kept("index", {"path": "a"}, maker(calls)) for _ in range(2))
    assert (one, len(calls)) == (two, 1)
    assert one.parent == own_cache
    assert cache.kept("index", {"path": "b"}, maker(calls)) != one


@pytest.mark.parametrize("damage", ["cut", "gone", "no-sizes", "not-json"])
def test_what_is_damaged_is_made_again(damage):
    calls = []
    folder = cache.kept("index", {}, maker(calls))
    if damage == "cut":
        os.truncate(folder / "numbers", 3)
    elif damage == "not-json":
        (folder / "sizes.json").write_text("[")
    else:
        (folder / ("numbers" if damage == "gone" else "sizes.json")).unlink()
    assert (cache.kept("index", {}, maker(calls)) / "numbers").read_bytes() == b"12345678"
    assert len(calls) == 2


def test_what_fails_leaves_nothing(own_cache):
    def fail(folder):
        (folder / "half").write_bytes(b"1")
        raise ValueError("malformed")

    with pytest.raises(ValueError, match="malformed"):
        cache.kept("index", {}, fail)
    assert [path for path in own_cache.iterdir() if path.suffix != ".lock"] == []


def test_where_the_cache_cannot_be_written_a_temporary_folder_does(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = cache.kept("index", {}, maker([]))
    assert (folder / "numbers").read_bytes() == b"12345678"
    assert not folder.is_relative_to(tmp_path / "file")


def test_a_second_one_waits_for_the_first():
    calls = []

    def slow(folder):
        calls.append(folder)
        time.sleep(0.2)

    threads = [threading.Thread(target=cache.kept, args=("index", {}, slow)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_what_nobody_asks_for_goes():
    old = cache.kept("index", {"old": 1}, maker([]))
    os.utime(old, (0, 0))
    cache.kept("index", {}, maker([]))
    assert not old.exists()
