"""Places in a storage service (S3, Google Cloud, HDFS: whatever pyarrow reads by address)."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit

MOST_BYTES = 1 << 28
"""Of a file of which nothing says how large it may be."""
CHUNK_BYTES = 1 << 23


def address_of(path: str | Path | None) -> str | None:
    """The address that a text stands for; None for a path. A Path has lost one of its slashes."""
    scheme, colon, rest = str(path).partition(":/")
    if not colon or not scheme.isalnum():
        return None
    return f"{scheme}://{'/' * (scheme == 'file')}{rest.lstrip('/')}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Place:
    """A folder in a storage service. What does not answer raises ValueError, which names it."""

    address: str
    files: Any
    path: str

    @classmethod
    def at(cls, address: str) -> Place:
        """ValueError where pyarrow cannot read such an address, or where it has a secret in it."""
        from pyarrow import ArrowInvalid
        from pyarrow.fs import FileSystem  # takes a while to import, and most places are folders

        if _holds_a_secret(address):
            raise ValueError(
                "an address must not hold a name or password: set the variables that its service "
                "reads, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        try:
            files, path = FileSystem.from_uri(address)
        except (ArrowInvalid, OSError) as error:
            raise ValueError(f"pyarrow cannot read {address}: {error}") from None
        return cls(address=address, files=files, path=path)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    def __truediv__(self, name: str) -> Place:
        address, mark, query = self.address.partition("?")
        deeper = f"{address.rstrip('/')}/{name}{mark}{query}"
        return Place(address=deeper, files=self.files, path=f"{self.path}/{name}")

    def read(self, name: str, most_bytes: int = MOST_BYTES) -> bytes:
        """The content of a file; of one that is larger than it should be, a little too much.

        FileNotFoundError where the place answers and has no such file.
        """
        try:
            with self.files.open_input_stream(f"{self.path}/{name}", compression=None) as stream:
                return stream.read(most_bytes + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ValueError(f"{self.address} does not answer: {error}") from None

    def fetch(self, name: str, path: Path) -> None:
        """A copy of a file, of any size, at `path`. FileNotFoundError where there is none."""
        try:
            with self.files.open_input_stream(f"{self.path}/{name}", compression=None) as stream:
                with path.open("wb") as copy:
                    shutil.copyfileobj(stream, copy, CHUNK_BYTES)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ValueError(f"{self.address} does not answer: {error}") from None

    def send(self, path: Path) -> None:
        """A copy of the file at `path`, under its name. OSError where it cannot be written.

        A service shows it when it is whole; only a folder of this machine shows what is under way.
        """
        if self.files.type_name == "local":
            self.files.create_dir(self.path, recursive=True)
        with path.open("rb") as content:
            with self.files.open_output_stream(f"{self.path}/{path.name}", compression=None) as out:
                shutil.copyfileobj(content, out, CHUNK_BYTES)

    def folders(self) -> list[str]:
        """The names of the folders in it, in order; none where there is no such place."""
        from pyarrow.fs import FileSelector, FileType

        try:
            found = self.files.get_file_info(FileSelector(self.path, allow_not_found=True))
        except OSError as error:
            raise ValueError(f"{self.address} does not answer: {error}") from None
        return sorted(one.base_name for one in found if one.type == FileType.Directory)

    def remove(self, name: str) -> None:
        """A folder in it, with all that it holds."""
        self.files.delete_dir(f"{self.path}/{name}")


def _holds_a_secret(address: str) -> bool:
    """A name before a password or host; Azure's addresses have the container there."""
    parts = urlsplit(address)
    named = parts.username is not None and parts.scheme not in ("abfs", "abfss")
    secrets = re.compile(r"(?i)(secret|password|token|key|signature|sig)$")
    return bool(parts.password or named or any(map(secrets.search, parse_qs(parts.query))))
