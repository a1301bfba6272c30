"""Measured rows, kept in a CSV file as they come, so that a run that was interrupted goes on where it was."""

import csv

RATES, GAPS, LIKENESS = ("W", "KV", "A"), ("nats", "gap", "error"), ("relative_error", "spearman", "nearest")
NUMBERS = (*RATES, *GAPS, *LIKENESS)
KEY = ("setting", "method", "asked")


class Table:
    """Rows by setting, method and bits asked for; without a path nothing is kept."""

    def __init__(self, path):
        self._path, self._rows = path, {}
        if path and path.exists():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    key = (row["setting"], row["method"], int(row["asked"]))
                    self._rows[key] = {column: float(row[column]) for column in NUMBERS if row[column]}

    def row(self, key, measure):
        """The row of ``key``; its numbers by name come from ``measure()`` if they are not there."""
        if key not in self._rows:
            self._rows[key] = measure()
            if self._path:
                self._append({**dict(zip(KEY, key, strict=True)), **self._rows[key]})
        return {**dict(zip(KEY, key, strict=True)), **self._rows[key]}

    def _append(self, row):
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, (*KEY, *NUMBERS))
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)
