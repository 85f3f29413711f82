import math
import re
import xml.etree.ElementTree as ET

import pytest
from by_hand import NAN, case_of, falling, finding

from checker.history import History
from checker.report import curve

SVG = "{http://www.w3.org/2000/svg}"

SHAPES = {
    "no row at all": [],
    "one value": [2.0],
    "two values": [2.0, 1.0],
    "one value, many times": [2.0] * 50,
    "NaN only": [NAN] * 20,
    "ends in NaN": [*falling(100), NAN, NAN],
    "negative": [-x for x in falling(200)],
    "runs to minus infinity": [-(10.0**i) for i in range(300)],
    "through zero": [1.0 - i / 50 for i in range(200)],
    "all zero": [0.0] * 30,
    "huge": [10.0**i for i in range(0, 308, 2)],
    "tiny": [10.0**-i for i in range(0, 320, 2)],
    "largest and smallest": [1.7e308, -1.7e308] * 100,
    "infinite": [math.inf] * 20,
    "long": falling(20_000, jitter=0.01),
}


def numbers_in(text):
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", text)]


@pytest.mark.parametrize("losses", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_gives_valid_xml_inside_the_frame(losses):
    case = case_of(losses)
    picture = curve.svg(case.history, case.findings)
    root = ET.fromstring(picture)
    for line in root.iter(f"{SVG}polyline"):
        for x, y in (pair.split(",") for pair in line.get("points").split()):
            assert curve.LEFT <= float(x) <= curve.RIGHT
            assert curve.TOP <= float(y) <= curve.BOTTOM
    assert not re.search(r"\b(nan|inf)\b", picture.split("</style>")[1])


def test_the_same_run_gives_the_same_picture():
    assert curve.svg(case_of(falling(500)).history, []) == curve.svg(case_of(falling(500)).history, [])


def test_a_finding_marks_its_onset_and_where_it_was_called():
    case = case_of(falling(1001, jitter=0.01))
    root = ET.fromstring(curve.svg(case.history, [finding("divergence", first_step=250, step=500)]))
    onset = next(line for line in root.iter(f"{SVG}line") if "onset" in line.get("class"))
    called = next(path for path in root.iter(f"{SVG}path") if "called" in path.get("class"))
    width = curve.RIGHT - curve.LEFT
    assert float(onset.get("x1")) == pytest.approx(curve.LEFT + width / 4, abs=5)
    assert numbers_in(called.get("d"))[0] == pytest.approx(curve.LEFT + width / 2, abs=5)
    assert any(text.text == "divergence 250, called 500" for text in root.iter(f"{SVG}text"))


def test_a_healthy_run_has_no_mark():
    assert 'class="onset' not in curve.svg(case_of(falling(100)).history, [])


def test_validation_loss_is_drawn_when_it_was_logged():
    losses = falling(200)
    case = case_of(losses, val_loss=[loss + 0.1 if i % 20 == 0 else None for i, loss in enumerate(losses)])
    picture = curve.svg(case.history, [])
    assert picture.count("<polyline") == 2
    assert "val loss" in picture


def test_the_run_goes_on_behind_its_last_finite_loss():
    case = case_of([*falling(100), *[NAN] * 100])
    picture = curve.svg(case.history, case.findings)
    assert "last step 199" in picture
    last = numbers_in(re.search(r'points="([^"]*)"', picture)[1])[-2]
    assert last < (curve.LEFT + curve.RIGHT) / 2 + 5


def test_a_long_tail_of_nan_does_not_squeeze_the_curve():
    case = case_of([*falling(20), *[NAN] * 4000])
    picture = curve.svg(case.history, case.findings)
    assert "last step 4019 →" in picture
    last = numbers_in(re.search(r'points="([^"]*)"', picture)[1])[-2]
    assert last > (curve.LEFT + curve.RIGHT) / 2


@pytest.mark.parametrize(
    ("losses", "log"),
    [
        ([100.0, 10.0, 1.0], True),
        ([9.0, 3.0, 1.0], False),
        ([100.0, 1.0, 0.0], False),
        ([100.0, 1.0, -1.0], False),
    ],
    ids=["positive and wide", "positive and narrow", "zero", "negative"],
)
def test_the_axis_is_logarithmic_only_where_that_is_possible_and_useful(losses, log):
    case = case_of(losses)
    lines = [curve.Line("train loss", "train", curve._points(case.history.train, by_row=False))]
    assert curve._axes(lines, 3)[1].log is log


def test_steps_that_start_again_every_epoch_are_replaced_by_rows():
    history = History()
    for row in range(60):
        history.train.add(1.0, row, row % 20)
    history.index = history.step = 59
    assert "last row 59" in curve.svg(history, [])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.9, 4.2, [1, 2, 3, 4]), (-3, 3, [-2, 0, 2]), (5, 5, [5])],
)
def test_ticks_are_round(low, high, expected):
    assert curve.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.9, 30, [1, 2, 5, 10, 20]),
        (0.5, 2e4, [1, 10, 100, 1000, 10000]),
        (1e-10, 1e10, [1e-10, 1e-6, 1e-2, 1e2, 1e6, 1e10]),
    ],
)
def test_log_ticks_are_thinned_out_or_filled_in(low, high, expected):
    assert curve.log_ticks(low, high) == pytest.approx(expected)


def test_both_colour_schemes_are_there():
    assert "prefers-color-scheme:dark" in curve.svg(case_of([1.0]).history, [])
