from __future__ import annotations

import pytest
from curves import curve, experiment, only, play, rows, tick, told

SILENT = [
    pytest.param({"train": "2.0-0.01x50"}, id="finite"),
    pytest.param({"train": "2.0-0.01x50 1e300 1.5x20"}, id="huge but finite"),
    pytest.param({"train": "2.0-0.01x50", "grad": "inf inf inf 1.0x48"}, id="a scaler searching for its scale"),
    pytest.param({"train": "2.0x3 _ 1.9x3 _ 1.8x3"}, id="a value missing now and then"),
]

KILLS = [
    pytest.param({"train": "2.0-0.01x20 nan"}, 21, 21, id="the first NaN of a train loss"),
    pytest.param({"train": "2.0-0.01x20 nan", "grad": "1.0x20 nan"}, 21, 21, id="NaN in loss and gradient"),
    pytest.param({"train": "2.0-0.01x20 inf inf inf"}, 23, 21, id="infinity, three times"),
    pytest.param({"train": "2.0-0.01x20 nan nan nan", "grad": "1.0x30"}, 23, 21, id="finite gradient: three"),
    pytest.param({"train": "2.0x9 nan 2.0x9 nan nan nan"}, 10, 10, id="no second chance without doubt"),
    pytest.param({"train": "2.0-0.01x40", "val": "2.0x5 nan nan nan"}, 8, 6, id="validation only: three evaluations"),
    pytest.param({"train": "nan " * 30}, 11, 0, id="never finite"),
]


@pytest.mark.parametrize("series", SILENT)
def test_silent(series):
    assert told(play(rows(**series)), "nonfinite") == []


@pytest.mark.parametrize(("series", "row", "onset"), KILLS)
def test_kills(series, row, onset):
    case = play(rows(**series))
    assert (case.kill.rule, case.kill.row, case.kill.first_row) == ("nonfinite", row, onset)


def test_infinity_at_the_start_is_only_reported():
    assert told(play(rows(train="inf " * 8 + "2.0-0.01x50"))) == [("nonfinite", "alert")]


def test_null_where_a_number_always_stood_is_a_hidden_nan():
    events = rows(train="2.0-0.01x20")
    nulls = [row._replace(index=21 + i, step=21 + i, values={"train_loss": None}) for i, row in enumerate(events[:3])]
    assert play([*events, *nulls]).kill.row == 23


def test_null_in_a_sparse_table_is_nothing():
    events = [
        row._replace(values={"train_loss": row.values["train_loss"] if i % 3 else None, "val_loss": None})
        for i, row in enumerate(rows(train="2.0-0.01x60"))
    ]
    assert told(play(events)) == []


def test_a_doubtful_nan_that_is_the_last_word_counts():
    events = rows(train="2.0-0.01x20 nan", grad="1.0x25")[:22]
    assert play(events).kill is None
    assert play([*events, tick(2e9, final=True)]).kill.rule == "nonfinite"


def test_the_doubt_is_told():
    case = play(rows(train="2.0-0.01x20 nan", grad="1.0x21"), experiment())
    assert "gradient norm in the same row is finite" in only(case, "nonfinite")[0].against[0]


@pytest.mark.parametrize(
    ("other", "found"),
    [("0.5x30", []), ("0.5x20 nan 0.5x9", []), ("nan " * 40, []), ("0.5x20 " + "nan " * 10, [("nonfinite", "info")])],
    ids=["finite", "undefined for a moment", "never defined", "turns NaN and stays so"],
)
def test_a_metric_that_plays_no_role_is_mentioned_once_it_stays_nan(other, found):
    values = curve(other)
    events = [row._replace(values={**row.values, "cls_loss": values[row.index]}) for row in rows(train="2.0x30")]
    assert [(one.rule, str(one.severity)) for one in play(events).findings] == found
