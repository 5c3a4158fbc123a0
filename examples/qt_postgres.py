"""Fill a table in a Qt window from PostgreSQL, row by row, while the window stays alive.

    python examples/qt_postgres.py [--dsn postgresql://user@host/database] [QUERY]

asyncpg is written for asyncio; the window's loop is Qt's. The rows come through a cursor, so a
query that takes minutes shows what it has, can be stopped, and never freezes the window.

Needs asyncpg, PyQt6, ae-guests and a screen.
"""

from __future__ import annotations

__all__ = ("Window",)

import argparse
import sys
from typing import Any

from PyQt6.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

import ae_core as ae
from ae_core.console import printable, run
from ae_guests import async_slot

QUERY = """SELECT n, to_char(now(), 'HH24:MI:SS') AS at, md5(n::text) AS hash
FROM generate_series(1, 200) AS n, LATERAL (SELECT pg_sleep(0.01 + 0 * n)) AS slow"""


class Window(QWidget):
    """A table, and two buttons to fill it and to stop."""

    def __init__(self, dsn: str, query: str) -> None:
        super().__init__()
        self.dsn = dsn
        self.query = query
        self.filling: ae.CondVar[None] | None = None
        self.setWindowTitle("asyncpg inside Qt")
        self.resize(560, 420)
        self.table = QTableWidget()
        self.label = QLabel("nothing asked yet")
        start, stop = QPushButton("Ask"), QPushButton("Stop")
        start.clicked.connect(self.ask)
        stop.clicked.connect(self.stop)
        buttons = QHBoxLayout()
        for widget in (start, stop, self.label):
            buttons.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.addWidget(self.table)
        layout.addLayout(buttons)

    def ask(self) -> None:
        """Begin, unless a query is under way."""
        if self.filling is None or self.filling.ready:
            self.filling = self.fill()

    def stop(self) -> None:
        """End the query; the rows that have come stay."""
        if self.filling is not None:
            self.filling.cancel()

    @async_slot
    async def fill(self) -> None:
        """Ask, and show each row as it comes."""
        import asyncpg

        self.table.setRowCount(0)
        try:
            connection = await asyncpg.connect(self.dsn, timeout=10)
        except (OSError, asyncpg.PostgresError) as error:
            self.label.setText(printable(str(error)))
            return
        try:
            async with connection.transaction():
                async for row in connection.cursor(self.query, prefetch=1):
                    self.show_row(row)
            self.label.setText(f"{self.table.rowCount()} rows")
        except asyncpg.PostgresError as error:
            self.label.setText(printable(str(error)))
        finally:
            connection.terminate()

    def show_row(self, row: Any) -> None:
        """Add a row to the table."""
        if not self.table.columnCount():
            self.table.setColumnCount(len(row))
            self.table.setHorizontalHeaderLabels(list(row.keys()))
        line = self.table.rowCount()
        self.table.insertRow(line)
        for column, value in enumerate(row.values()):
            self.table.setItem(line, column, QTableWidgetItem(str(value)))
        self.table.scrollToBottom()
        self.label.setText(f"{line + 1} rows and counting")


def main() -> int:
    """Open the window."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dsn", default="postgresql:///postgres")
    parser.add_argument("query", nargs="?", default=QUERY, metavar="QUERY")
    options = parser.parse_args()
    app = QApplication(sys.argv[:1])
    window = Window(options.dsn, options.query)
    window.show()
    window.ask()
    return int(app.exec())


if __name__ == "__main__":
    run("qt_postgres", main)
