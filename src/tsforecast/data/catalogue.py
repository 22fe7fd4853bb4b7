"""Public datasets by name: where they are, what they must be, whom to cite."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from tsforecast.errors import DataError, one_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One dataset: file name, address (None: shipped with the repository), sha256, licence and citation."""

    file: str
    address: str | None
    sha256: str
    licence: str
    citation: str


_FILE = Path(__file__).with_name("catalogue.json")
CATALOGUE = {name: Entry(**facts) for name, facts in json.loads(_FILE.read_text(encoding="utf-8")).items()}


def fetch(name: str, data_dir: Path) -> Path:
    """The file of a catalogue entry: in `data_dir`, else in TSFORECAST_DATA_DIR, else downloaded to `data_dir`.

    The download is checked against the digest before it takes its place.

    Raises
    ------
    ConfigError
        The catalogue has no such entry.
    DataError
        A file has another digest, or none could be had; the message says where to put it.
    """
    one_of("dataset", name, CATALOGUE)
    entry = CATALOGUE[name]
    extra = os.environ.get("TSFORECAST_DATA_DIR")
    for file in (Path(place) / entry.file for place in (data_dir, extra) if place):
        if file.is_file() and (digest := sha256(file)) != entry.sha256:
            what = f"this is not the {name} of the catalogue: the file was altered or cut short"
            fix = "remove it to have it downloaded again, or read it as your own: dataset=wide dataset.path=..."
            raise DataError(what, where=file, got=f"sha256 {digest}", allowed=f"sha256 {entry.sha256}", fix=fix)
        if file.is_file():
            return file
    try:
        return _download(entry, data_dir)
    except (OSError, ValueError) as error:  # no network (requests' errors are OSErrors), no permission, wrong digest
        source = f"{entry.file} (sha256 {entry.sha256[:12]}..., {entry.address or 'part of the repository'})"
        fix = f"put {source} into {data_dir} or into the folder TSFORECAST_DATA_DIR names; make demo needs no network"
        what, got = f"the dataset {name} is not here and could not be downloaded", f"{type(error).__name__}: {error}"
        raise DataError(what, where=data_dir / entry.file, got=got, fix=fix) from error


def _download(entry: Entry, data_dir: Path) -> Path:
    import pooch

    if entry.address is None:
        raise FileNotFoundError("it is part of the repository, and has no address")
    log.info("Downloading %s (%s; %s)", entry.file, entry.licence, entry.citation)
    known = f"sha256:{entry.sha256}"
    return Path(pooch.retrieve(entry.address, known, entry.file, data_dir, downloader=pooch.HTTPDownloader(True)))


def sha256(file: Path) -> str:
    """Hex digest of a file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
