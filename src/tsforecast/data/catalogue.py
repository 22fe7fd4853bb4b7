"""Public datasets by name: where they are, what they must be, whom to cite."""

from __future__ import annotations

import hashlib
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


_ETT = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/"
_INFORMER = "Zhou et al., Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting, AAAI 2021"
_BEIJING = "Chen, Beijing PM2.5, UCI Machine Learning Repository, 2015, doi:10.24432/C5JS49"
_SHA256 = {
    "ETTh1.csv": "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    "ETTh2.csv": "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b",
    "beijing_pm25.csv": "4127f868775e31b3956522adc0ec75af8937dde6a3896e8beed3a376c6d27f1c",
}
CATALOGUE = {
    "etth1": Entry("ETTh1.csv", _ETT + "ETTh1.csv", _SHA256["ETTh1.csv"], "CC BY-ND 4.0", _INFORMER),
    "etth2": Entry("ETTh2.csv", _ETT + "ETTh2.csv", _SHA256["ETTh2.csv"], "CC BY-ND 4.0", _INFORMER),
    "beijing_pm25": Entry("beijing_pm25.csv", None, _SHA256["beijing_pm25.csv"], "CC BY 4.0", _BEIJING),
}


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
            what, got = (
                f"this is not the {name} of the catalogue: the file was altered or cut short",
                f"sha256 {digest}",
            )
            fix = "remove it to have it downloaded again, or read it as your own: dataset=wide dataset.path=..."
            raise DataError(what, where=file, got=got, allowed=f"sha256 {entry.sha256}", fix=fix)
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
