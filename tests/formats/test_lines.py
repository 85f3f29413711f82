"""What consists of lines: any bytes in any pieces, and JSON lines under other names."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checker.events import Row
from checker.formats import csvlog, jsonlog, text
from checker.formats.format import PLAIN, Reading
from checker.formats.roll import FORMATS


def read(format_, *rows, reading=PLAIN):
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    assert format_.recognises(data)
    return list(format_.decoder(reading).feed(data))


def test_detectron2():
    """As its JSONWriter appends them; it is on no package index, so this is by hand."""
    (row,) = read(jsonlog.DETECTRON2, {"data_time": 0.3, "iteration": 19, "lr": 5e-6, "total_loss": 2.1})
    assert (row.step, row.values) == (19, {"data_time": 0.3, "lr": 5e-6, "total_loss": 2.1})


def test_a_validation_of_mmengine_has_no_step():
    rows = read(
        jsonlog.MMENGINE,
        {"data_time": 0.1, "loss": 1.0, "time": 0.2, "epoch": 1, "iter": 8, "step": 8},
        {"accuracy": 0.5, "data_time": 0.1, "time": 0.2, "step": 1},
    )
    assert [(row.step, row.at) for row in rows] == [(8, None), (None, None)]


def test_json_lines_whose_columns_a_person_names():
    reading = Reading(columns={"it": "step", "crit": "train_loss"})
    (row,) = jsonlog.LINES.decoder(reading).feed(b'{"it": 3, "crit": 0.5}\n')
    assert (row.step, row.values) == (3, {"train_loss": 0.5})


NOT_ROWS = {
    "a config": {"lr": 0.1, "epochs": 10},
    "a data set": {"text": "hello", "label": 1},
    "a chat": {"messages": [{"role": "user"}], "step": 1},
    "a list": [1, 2],
}


@pytest.mark.parametrize("row", NOT_ROWS.values(), ids=NOT_ROWS.keys())
def test_other_json_lines_are_no_log(row):
    data = json.dumps(row).encode() + b"\n"
    assert not any(format_.recognises(data) for format_ in FORMATS)


@given(st.binary(max_size=500))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_of_some_format_or_none(data):
    for format_ in FORMATS:
        assert format_.recognises(data) in (True, False)


DECODERS = {
    "table": (csvlog.FORMAT.decoder, b"step,loss\n1,2\n"),
    "text": (text.TextDecoder, b"iter 1: loss 3.0\n"),
    "mmengine": (jsonlog.MMENGINE.decoder, b'{"iter": 1, "step": 1, "loss": 2}\n'),
}
PIECES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([
        b"\n", b"\r\n", b"3,4\n", b"step,loss\n", b"step,loss,late\n", b'"', b"iter 2: loss nan\n", b"Epoch 3\n",
        b"loss: 1.0 step 3\n", b'{"step": 2, "loss": NaN}\n', b"\xef\xbb\xbf", b"\0", b"\r", b"1,2,3\n",
    ]),
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(st.integers(0, 300), max_size=6))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize(("make", "head"), DECODERS.values(), ids=DECODERS.keys())
def test_events_do_not_depend_on_how_the_bytes_arrived(make, head, data, cuts):
    whole = head + data
    one, other = make(PLAIN), make(PLAIN)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    told = [found for start, end in itertools.pairwise(places) for found in one.feed(whole[start:end])]
    assert repr(told) == repr([*other.feed(whole)])
    assert repr([*one.finish()]) == repr([*other.finish()])
    rows = [found for found in told if isinstance(found, Row)]
    assert [row.index for row in rows] == list(range(len(rows)))
