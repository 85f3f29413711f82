"""Any other table with a column that counts steps or epochs."""

from __future__ import annotations

from checker.formats.table import COUNTERS, table

FORMAT = table(
    "table",
    "any CSV or TSV with a step or epoch column",
    ("*.csv", "*.tsv", "*.log", "*.txt"),
    lambda names: any(name.lower() in COUNTERS for name in names),
    places={name: place for place in ("epoch", "step") for name in (place.capitalize(), place.upper())},
)
