"""Event files and W&B's files: records in frames, torn, glued, filled with zeros, too long."""

import itertools
import struct

import pytest
from event_files import event, field, frame
from hypothesis import given, settings
from hypothesis import strategies as st

from checker.events import Row, Unreadable
from checker.formats import tensorboard, wandb
from checker.formats.format import PLAIN


def events(*pieces):
    decoder = tensorboard.EventDecoder(PLAIN)
    return [one for piece in pieces for one in decoder.feed(piece)], decoder


def test_a_record_that_is_not_whole_waits():
    data = event(1, loss=2.0) + event(2, loss=1.5)
    found, decoder = events(data[:-1])
    assert [row.step for row in found] == [1]
    assert decoder.unfinished
    assert [row.step for row in decoder.feed(data[-1:])] == [2]
    assert not decoder.unfinished


def test_the_torn_record_of_a_writer_that_died_is_told_at_the_end():
    _, decoder = events(event(1, loss=2.0)[:-9])
    (bad,) = decoder.finish()
    assert bad.reason.startswith("the file ends in an unfinished record")


def test_a_picture_is_passed_over_without_being_kept(monkeypatch):
    monkeypatch.setattr(tensorboard, "MAX_RECORD", 100)
    found, decoder = events(event(1, loss=2.0) + frame(b"\0" * 5000)[:50])
    assert len(decoder._rest) < 100
    found += [*decoder.feed(frame(b"\0" * 5000)[50:] + event(2, loss=1.0))]
    assert [row.step for row in found] == [1, 2]


def test_garbage_where_a_length_should_be_is_told_once_and_ends_the_file():
    found, decoder = events(event(1, loss=2.0), b"\xff" * 40, event(2, loss=1.0))
    assert [type(one) for one in found] == [Row, Unreadable]
    assert "damaged" in found[1].reason
    assert decoder.unfinished < 100


def test_zeros_at_the_end_of_a_file_say_nothing():
    found, _ = events(event(1, loss=2.0), b"\0" * 1000)
    assert [row.step for row in found] == [1]


@pytest.mark.parametrize("name", ["step", "timestamp", "global_step"])
def test_a_scalar_may_be_called_as_a_place_is(name):
    ((row,), _) = events(event(7, **{name: 3.0}))
    assert (row.step, row.at) == (7, 1.7e9)


def test_an_epoch_that_is_logged_as_a_scalar_is_the_epoch():
    ((row,), _) = events(event(7, epoch=3.0))
    assert (row.epoch, row.values) == (3, {})


# ------------------------------------------------------------------------------------------------------------- W&B


def item(name, text):
    keys = b"".join(field(2, part.encode()) for part in name.split("/"))
    return field(1, keys + field(16, text.encode()))


def history(**values):
    return field(2, b"".join(item(name, text) for name, text in values.items()))


def blocks(*records):
    """Records as they stand in a file: cut where a block of 32 KiB ends."""
    data = bytearray(b":W&B\xbf\xbe\x00")
    for record in records:
        rest, first = record, True
        while rest or first:
            left = 32768 - len(data) % 32768
            if left < 7:
                data += b"\0" * left
                left = 32768
            piece, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if not rest else 2) if first else (4 if not rest else 3)
            data += struct.pack("<IHB", 0, len(piece), kind) + piece
            first = False
    return bytes(data)


def wandb_rows(data):
    decoder = wandb.RunDecoder(PLAIN)
    return list(decoder.feed(data)), decoder


@pytest.mark.parametrize("size", [10, 32700, 32754, 32755, 32760, 32761, 32762, 40_000, 100_000])
def test_a_record_across_the_border_of_a_block(size):
    data = blocks(field(4, b"x" * size), history(_step="3", loss="0.5"), history(_step="4", loss="NaN"))
    found, decoder = wandb_rows(data)
    assert [(row.step, row.values.keys()) for row in found] == [(3, {"loss"}), (4, {"loss"})]
    assert not decoder.unfinished


def test_a_run_that_failed_has_not_come_to_its_end():
    (end,), _ = wandb_rows(blocks(field(18, field(1, 0))))
    assert end.event == "training_end"
    assert wandb_rows(blocks(field(18, field(1, 1))))[0] == []


def test_a_long_record_is_told_and_not_kept(monkeypatch):
    monkeypatch.setattr(wandb, "MAX_RECORD", 50_000)
    data = blocks(field(4, b"x" * 200_000), history(_step="3", loss="0.5"))
    found, decoder = wandb_rows(data)
    assert [type(one) for one in found] == [Unreadable, Row]
    assert len(decoder._record) == 0


def test_pieces_without_a_beginning_are_not_collected():
    piece = struct.pack("<IHB", 0, 1000, 3) + b"x" * 1000
    data = b":W&B\0\0\0" + piece * 30
    found, decoder = wandb_rows(data)
    assert found == []
    assert len(decoder._record) == 0


def test_what_is_no_record_is_told():
    (bad,), _ = wandb_rows(blocks(b"\xff\xff\xff"))
    assert bad.reason.startswith("not a record of W&B")


# ---------------------------------------------------------------------------------------------------------- any bytes


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
@settings(max_examples=200, deadline=None)
@pytest.mark.parametrize("decoder", [tensorboard.EventDecoder, wandb.RunDecoder], ids=["tensorboard", "wandb"])
def test_any_bytes_in_any_pieces_say_the_same(decoder, data, cuts):
    for head in (b"", blocks(history(_step="3", loss="1")), event(1, loss=1.0) + frame(data[:40])):
        whole = head + data
        one, other = decoder(PLAIN), decoder(PLAIN)
        places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
        told = [found for start, end in itertools.pairwise(places) for found in one.feed(whole[start:end])]
        assert repr(told) == repr([*other.feed(whole)])
        assert repr([*one.finish()]) == repr([*other.finish()])
        assert (one.lines, one.rows) == (other.lines, other.rows)
