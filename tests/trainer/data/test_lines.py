import csv
import io
import json
import zlib
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import lines as module
from trainer.data.fields import JsonFields
from trainer.data.lines import Lines, Malformed, csv_records, csv_row, json_records
from trainer.spec.data import Records

FIELDS = JsonFields(Records(kind="jsonl", path="x", text="text"), "")


def rows_of(content, delimiter=","):
    lines = Lines(io.BytesIO(content))
    found = list(csv_records(lines, delimiter))
    assert lines.sha256 == sha256(content).hexdigest()
    assert places_fit(found, content)
    return found


def objects_of(content):
    lines = Lines(io.BytesIO(content))
    found = list(json_records(lines))
    assert lines.sha256 == sha256(content).hexdigest()
    assert places_fit(found, content)
    return found


def places_fit(found, content):
    return all(zlib.crc32(content[one.offset : one.offset + one.length]) == one.crc for one in found if not one.fault)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
MARK = st.sampled_from([b"", b"\xef\xbb\xbf"])
BREAK = st.sampled_from(["\n", "\r\n"])


@settings(deadline=None)
@given(
    objects=st.lists(st.dictionaries(st.text(), VALUES, max_size=3) | st.none(), max_size=8),
    mark=MARK,
    end=BREAK,
    ascii_only=st.booleans(),
    closed=st.booleans(),
)
def test_what_json_writes_is_read_line_by_line(objects, mark, end, ascii_only, closed):
    texts = ["" if item is None else json.dumps(item, ensure_ascii=ascii_only) for item in objects]
    content = mark + (end.join(texts) + (end if closed else "")).encode()
    found = objects_of(content)
    expected = [item for item in objects if item is not None]
    assert [FIELDS.parsed(one.record) for one in found if one.record is not None] == expected
    for one in found:
        if one.record is not None:
            assert FIELDS.parsed(content[one.offset : one.offset + one.length]) in expected


@settings(deadline=None)
@given(line=st.binary(max_size=40))
def test_a_line_is_an_object_exactly_where_json_says_so(line):
    try:
        expected = json.loads(line.decode())
        expected = expected if isinstance(expected, dict) else None
    except ValueError:
        expected = None
    try:
        found = FIELDS.parsed(line)
    except Malformed:
        found = None
    assert found == expected


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=4), max_size=8),
    mark=MARK,
    end=BREAK,
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    closed=st.booleans(),
)
def test_what_csv_writes_is_read_row_by_row(rows, mark, end, delimiter, quoting, closed):
    if any("\r" in field for row in rows for field in row):
        quoting = csv.QUOTE_ALL  # the writer leaves a carriage return bare that the reader refuses
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    content = mark + (text.getvalue() if closed else text.getvalue().removesuffix(end)).encode()
    found = rows_of(content, delimiter)
    assert [one.record for one in found] == rows
    for one in found:
        assert csv_row(content[one.offset : one.offset + one.length], delimiter) == one.record


@settings(deadline=None, max_examples=300)
@given(content=st.text(st.sampled_from('ab",\n\r 1'), max_size=30))
def test_any_csv_is_read_to_its_end_and_what_is_good_is_what_csv_reads(content):
    found = rows_of(content.encode())
    good = [one.record for one in found if not one.fault and one.record is not None]
    try:
        expected = [row for row in csv.reader(io.StringIO(content, newline="\n"), strict=True) if row]
    except csv.Error:
        assert any(one.fault for one in found)
    else:
        assert good == expected
        assert not any(one.fault for one in found)
    assert all(one.line == 1 + content.encode()[: one.offset].count(b"\n") for one in found)


def test_behind_a_quote_that_is_never_closed_the_next_line_is_read():
    found = rows_of(b'a,b\n1,"2\n3,4\n5,6\n')
    assert [(one.line, one.record, one.fault) for one in found] == [
        (1, ["a", "b"], ""),
        (2, [], "opens a quote that is never closed"),
        (3, ["3", "4"], ""),
        (4, ["5", "6"], ""),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'1,"2"3\n', "has text behind a closing quote"),
        (b"1,2\r3\n", "has a carriage return outside of quotes"),
        (b"1,\xff\n", "is not UTF-8 (byte 3 of the line is 0xff)"),
    ],
    ids=["behind-quote", "carriage-return", "latin-1"],
)
def test_a_bad_row_costs_no_other(line, said):
    found = rows_of(b"1,2\n" + line + b"3,4\n")
    assert [one.fault for one in found] == ["", said, ""]
    assert found[2].record == ["3", "4"]


def test_a_line_without_end_is_passed_over_and_not_kept(monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 10)
    found = objects_of(b'{"a": 1}\n' + b"x" * 3_000_000 + b'\n{"a": 2}\n')
    assert [(one.line, one.length, bool(one.fault)) for one in found] == [
        (1, 9, False),
        (2, 3_000_001, True),
        (3, 9, False),
    ]


def test_a_long_field_is_no_fault():
    assert rows_of(b"a\n" + b"x" * 3_000_000 + b"\n")[1].record == ["x" * 3_000_000]


def test_nul_bytes_are_characters_like_others():
    assert rows_of(b"a\0b,2\n")[0].record == ["a\0b", "2"]
