"""Tables out of untrusted files: in any usual encoding, of bounded size or with bounded lines."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_service.corpora._files import opened, read_small

MAX_TABLE_BYTES = 128 << 20
MAX_LINE_BYTES = 1 << 20
PIECE_BYTES = 1 << 20


def table_lines(source: Path, path: Path) -> io.TextIOWrapper:
    """The lines of a text table, with their ends, of at most `MAX_TABLE_BYTES`.

    In UTF-8 (with or without byte order mark), UTF-16 with one, or else Latin-1. ValueError for
    UTF-16 that is none, and for a file that `read_small` refuses.
    """
    content = read_small(source, path, MAX_TABLE_BYTES)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if wide else "utf-8-sig"
    try:
        for _ in codecs.iterdecode(_pieces(content), encoding):
            pass
    except UnicodeDecodeError as error:
        if wide:
            raise ValueError(f"{path}: damaged UTF-16: {error.reason}") from None
        encoding = "latin-1"
    return io.TextIOWrapper(io.BytesIO(content), encoding, newline="")


def _pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


def table_rows(
    source: Path, path: Path, columns: Sequence[str], *, delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and trimmed cells by column of each row of a table with a header.

    ValueError where one of `columns` is missing or a row does not reach it, with file and line.
    """
    if len(delimiter) != 1:
        raise ValueError(f"delimiter '{delimiter}'; valid: one character, or tab")
    reader = csv.reader(table_lines(source, path), strict=True, delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader, [])]
        for column in columns:
            if column not in header:
                found = ", ".join(header) or "nothing"
                valid = ",".join(columns)
                raise ValueError(
                    f"{path}, line 1: column '{column}' is missing; "
                    f"found: {found[:200]}; valid header: {valid}"
                )
        places = {name: header.index(name) for name in header if name}
        reach = max(places[column] for column in columns)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) <= reach:
                raise ValueError(
                    f"{path}, line {reader.line_num}: {len(cells)} columns; "
                    f"valid: {','.join(columns)}"
                )
            row = {name: cells[at].strip() for name, at in places.items() if at < len(cells)}
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def plain_rows(source: Path, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and trimmed cells of each row of a large comma separated table, as it streams.

    Whether the first row is a header is for the caller to tell. ValueError, with file and line, for
    a row that is no such row, that goes on in the next line, or is longer than `MAX_LINE_BYTES`.
    """
    with opened(source, path) as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), start=1):
            if len(line) == MAX_LINE_BYTES:
                raise ValueError(f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes")
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                [cells] = csv.reader([line.decode("latin-1")], strict=True)
            except csv.Error as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            if any(cell.strip() for cell in cells):
                yield number, [cell.strip() for cell in cells]
