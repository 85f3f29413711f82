import json
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checker import rows
from checker.decoder import RowDecoder
from checker.events import Row, Unreadable
from checker.tail import CHUNK, Tail, fingerprint


def line(step, **values):
    return json.dumps({"step": step, **values}).encode() + b"\n"


def look(tail):
    """One look as the daemon takes it: whether the file was rewritten, and the events."""
    return tail.rewritten(), list(tail.events())


PIECES = st.one_of(
    st.just(line(1, loss=2.0)),
    st.sampled_from([b"\n", b"  \n", b"\r\n", b"not json\n", b"\xff\xfe\n", b"\x00\x00\n", b"[1]\n", b"\xef\xbb\xbf"]),
    st.binary(max_size=30),
    st.builds(lambda size: b"x" * size, st.integers(0, 60)),
)


@given(st.lists(PIECES, max_size=20), st.data())
@settings(max_examples=300, deadline=None)
def test_events_do_not_depend_on_how_the_bytes_arrived(pieces, data):
    with pytest.MonkeyPatch.context() as monkey:  # hypothesis may leave an example by an exception
        monkey.setattr(rows, "MAX_LINE", 40)
        whole = b"".join(pieces)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
        decoder, events = RowDecoder(), []
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            events += decoder.feed(whole[start:end])
        assert events == list(RowDecoder().feed(whole))
        assert decoder.lines == whole.count(b"\n")
        assert decoder.rows == sum(isinstance(event, Row) for event in events)


def test_a_torn_line_is_held_back_until_it_is_whole(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(line(0, loss=1.0) + b'{"step": 1, "lo')
    tail = Tail(path)
    assert [event.step for event in look(tail)[1]] == [0]
    with path.open("ab") as file:
        file.write(b'ss": 0.5}\n')
    (event,) = look(tail)[1]
    assert (event.step, event.values, event.index, event.line) == (1, {"loss": 0.5}, 1, 2)
    assert look(tail) == (False, [])


def test_blank_lines_count_as_lines_and_are_no_events(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(b"\n \n" + line(7))
    (event,) = look(Tail(path))[1]
    assert (event.index, event.line) == (0, 3)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\x00\x01\n", "binary data"),
        (b'{"a": "\xff"}\n', "not UTF-8 (byte 8)"),
        (b"{'a': 1}\n", "not valid JSON"),
        (b"[]\n", "expected a JSON object, found list"),
    ],
    ids=["binary", "latin-1", "python", "list"],
)
def test_a_bad_line_becomes_one_unreadable_with_its_number(tmp_path, bad, reason):
    path = tmp_path / "m"
    path.write_bytes(line(0) + bad + line(1))
    first, second, third = look(Tail(path))[1]
    assert isinstance(second, Unreadable)
    assert second.line == 2
    assert second.reason.startswith(reason)
    assert (first.index, third.index, third.line) == (0, 1, 3)


def test_an_enormous_line_streams_by_in_bounded_memory(tmp_path):
    path = tmp_path / "m"
    with path.open("wb") as file:
        for _ in range(20):
            file.write(b"x" * CHUNK)
        file.write(b"\n" + line(1))
    tail = Tail(path)
    bad, good = look(tail)[1]
    assert bad == Unreadable(1, f"{20 * CHUNK:,} bytes long; a row may have {rows.MAX_LINE:,}")
    assert (good.step, good.line) == (1, 2)
    assert len(tail._decoder._rest) == 0


REWRITES = {
    "cut to nothing": lambda path: path.write_bytes(b""),
    "cut and begun anew": lambda path: path.write_bytes(line(5)),
    "rewritten in place, longer": lambda path: path.write_bytes(line(5) * 9),
    "rewritten in place, as long": lambda path: (path.write_bytes(line(8) * 3), os.utime(path, ns=(1, 1))),
    "replaced by rename": lambda path: ((path.parent / "n").write_bytes(line(5) * 9), (path.parent / "n").rename(path)),
}


@pytest.mark.parametrize("rewrite", REWRITES.values(), ids=REWRITES.keys())
def test_a_rewritten_file_is_read_again_from_byte_0(tmp_path, rewrite):
    path = tmp_path / "m"
    path.write_bytes(line(0) + line(1) + line(2))
    tail = Tail(path)
    assert len(look(tail)[1]) == 3
    rewrite(path)
    rewritten, events = look(tail)
    assert rewritten
    assert [event.index for event in events] == list(range(path.read_bytes().count(b"\n")))
    assert look(tail) == (False, [])


def test_a_deleted_file_is_waited_for_and_read_from_byte_0(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(line(0) * 2)
    tail = Tail(path)
    look(tail)
    path.unlink()
    assert look(tail) == (False, [])
    path.write_bytes(line(0) * 3)
    rewritten, events = look(tail)
    assert rewritten
    assert len(events) == 3


def test_a_file_that_appears_late_was_not_rewritten(tmp_path):
    tail = Tail(tmp_path / "m")
    assert look(tail) == (False, [])
    (tmp_path / "m").write_bytes(line(0))
    assert look(tail)[0] is False


ODD = {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: os.symlink("/dev/zero", path)}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD.keys())
def test_what_is_no_regular_file_is_mentioned_once_and_never_waited_for(tmp_path, make):
    path = tmp_path / "m"
    make(path)
    tail = Tail(path)
    began = time.monotonic()
    (event,) = look(tail)[1]
    assert "not a regular file" in event.reason
    assert look(tail) == (False, [])
    assert time.monotonic() - began < 1


def test_a_file_that_grows_faster_than_it_is_read_does_not_hold_the_reader_up(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(line(0))
    tail = Tail(path)
    tail.rewritten()
    stream = tail.events()
    next(stream)
    with path.open("ab") as file:
        file.write(line(1))
    assert list(stream) == []
    assert len(look(tail)[1]) == 1


def test_the_fingerprint_needs_one_whole_line_and_survives_growth(tmp_path):
    path = tmp_path / "m"
    assert fingerprint(path) == ""
    path.write_bytes(b'{"step"')
    assert fingerprint(path) == ""
    path.write_bytes(line(0))
    first = fingerprint(path)
    path.write_bytes(line(0) + line(1))
    assert fingerprint(path) == first != ""
    path.write_bytes(line(1))
    assert fingerprint(path) != first


def test_no_file_stays_open(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(line(0))
    before = len(os.listdir("/proc/self/fd"))
    tails = [Tail(path) for _ in range(50)]
    for tail in tails:
        look(tail)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("rest", "kinds"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"  ", [], id="blank"),
        pytest.param(b'{"loss": 1}', [Row], id="a whole row without a newline"),
        pytest.param(b'{"loss": 1', [Unreadable], id="a torn row"),
    ],
)
def test_the_last_line_of_a_file_at_rest_counts(rest, kinds):
    decoder = RowDecoder()
    list(decoder.feed(b'{"loss": 2}\n' + rest))
    assert [type(event) for event in decoder.finish()] == kinds
