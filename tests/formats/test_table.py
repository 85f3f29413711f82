"""Tables: what spreadsheets, loggers and people make of `a,b,c`."""

import csv
import math

import pytest

from checker.events import Row, Unreadable
from checker.formats import csvlog, keras, lightning, spinningup, ultralytics
from checker.formats.format import PLAIN, Reading
from checker.formats.table import names_in


def read(data, format_=csvlog.FORMAT, reading=PLAIN):
    return list(format_.decoder(reading).feed(data))


NO_TABLES = {
    "nothing": b"",
    "prose": b"We train, step by step, a model.\nIt has an epoch, and a loss.\n",
    "json": b'{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n',
    "one column": b"epoch\n1\n2\n",
    "no names": b"1,2,3\n4,5,6\n",
    "a name is missing": b"epoch,,loss\n1,2,3\n2,3,4\n",
    "a name comes twice": b"epoch,loss,loss\n1,2,3\n2,3,4\n",
    "a number among the names": b"epoch,2020\n1,2\n2,3\n",
    "texts": b"step,word\none,apple\ntwo,pear\nthree,plum\n",
    "more cells than names": b"step,loss\n1,2,3\n2,3,4\n3,4,5\n",
    "binary": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR,step,",
    "a lone carriage return": b'a,step\rb,"c\n1,2\n',
    "an enormous cell": b"step," + b"x" * 200_000,
    "no counter": b"name,size\n1,2\n3,4\n",
}


@pytest.mark.parametrize("head", NO_TABLES.values(), ids=NO_TABLES.keys())
def test_what_is_no_table_with_a_counter_is_none(head):
    for format_ in (csvlog.FORMAT, keras.FORMAT, lightning.FORMAT, spinningup.FORMAT, ultralytics.FORMAT):
        assert not format_.recognises(head)


ROWS = {
    "plain": b"step,loss\n1,2.5\n",
    "no newline before the names": b"\nstep,loss\n1,2.5\n",
    "spaces for the eye": b"   step ,    loss\n      1 ,     2.5\n",
    "quotes": b'"step","loss"\n"1","2.5"\n',
    "tabs": b"step\tloss\n1\t2.5\n",
    "semicolons": b"step;loss\n1;2.5\n",
    "written on Windows": b"step,loss\r\n1,2.5\r\n",
    "saved by a spreadsheet": b"\xef\xbb\xbfstep,loss\n1,2.5\n",
    "empty cells": b"step,late,loss\n1,,2.5\n",
    "fewer cells": b"step,loss,late\n1,2.5\n",
    "a text": b"step,loss,device\n1,2.5,cpu\n",
    "begun again": b"step,loss\nstep,loss\n1,2.5\n",
    "begun again with more": b"step,loss\nstep,loss,late\n1,2.5,\n",
    "capital letters": b"Step,loss\n1,2.5\n",
}


@pytest.mark.parametrize("data", ROWS.values(), ids=ROWS.keys())
def test_the_same_row_in_many_hands(data):
    assert csvlog.FORMAT.recognises(data)
    (row,) = read(data)
    assert (row.index, row.step, row.values) == (0, 1, {"loss": 2.5})


@pytest.mark.parametrize(
    ("cell", "value"),
    [("nan", math.nan), ("NaN", math.nan), ("-nan", math.nan), ("inf", math.inf), ("-Infinity", -math.inf)],
)
def test_numbers_that_are_none(cell, value):
    (row,) = read(f"step,loss\n1,{cell}\n".encode())
    assert row.values["loss"] == value or (math.isnan(value) and math.isnan(row.values["loss"]))


def test_an_enormous_number_is_infinite():
    (row,) = read(b"step,loss\n1," + b"9" * 5000 + b"\n")
    assert row.values["loss"] == math.inf


BAD = {
    "too many cells": (b"1,2,3\n", "3 cells, where the first line names 2 columns"),
    "not UTF-8": (b"1,\xff\n", "not UTF-8 (byte 3)"),
    "an enormous cell": (b"1," + b"x" * 200_000 + b"\n", "no line of a table (field larger than field limit (131072))"),
}


@pytest.fixture(autouse=True)
def _usual_limit():
    """The longest cell is a setting of the whole process, which other programs change."""
    before = csv.field_size_limit(131_072)
    yield
    csv.field_size_limit(before)


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD.keys())
def test_a_line_that_is_no_row_is_told_and_costs_no_other(line, reason):
    first, bad, last = read(b"step,loss\n1,2\n" + line + b"2,1\n")
    assert bad == Unreadable(3, reason)
    assert (first.index, last.index, last.line) == (0, 1, 4)


def test_a_header_that_grows():
    data = b"step,loss\n1,2\nstep,loss,late\n2,1,5\n"
    assert [row.values for row in read(data)] == [{"loss": 2}, {"loss": 1, "late": 5}]


def test_spinning_up():
    """As its EpochLogger writes it; it cannot be installed any more, so this is by hand."""
    data = (
        b"Epoch\tAverageEpRet\tStdEpRet\tLossPi\tLossV\tTotalEnvInteracts\tTime\n"
        b"0\t20.7\t10.2\t-0.01\t250.1\t4000\t3.5\n1\t31.4\t15.0\t-0.02\t270.4\t8000\t7.1\n"
    )
    assert spinningup.FORMAT.recognises(data)
    first, last = read(data, spinningup.FORMAT)
    assert (first.epoch, last.step, last.elapsed) == (0, 8000, 7.1)
    assert last.values.keys() == {"AverageEpRet", "StdEpRet", "LossPi", "LossV"}


def test_columns_mean_what_a_person_says():
    reading = Reading(columns={"crit": "train_loss", "it": "step", "junk": "none"})
    (row,) = read(b"it,crit,junk\n7,2.5,1\n", reading=reading)
    assert (row.step, row.values) == (7, {"train_loss": 2.5})


def test_rows_are_rows():
    assert all(isinstance(row, Row) for row in read(b"step,loss\n1,2\n2,3\n"))
    assert names_in(b"step,loss\n1,2\n") == ["step", "loss"]
