"""Public datasets by name: where they are, what they must be, whom to cite."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tsforecast.errors import ConfigError, DataError, nearest

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
CATALOGUE = {
    "etth1": Entry(
        "ETTh1.csv", _ETT + "ETTh1.csv", "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
        "CC BY-ND 4.0", _INFORMER,
    ),
    "etth2": Entry(
        "ETTh2.csv", _ETT + "ETTh2.csv", "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b",
        "CC BY-ND 4.0", _INFORMER,
    ),
    "beijing_pm25": Entry(
        "beijing_pm25.csv", None, "4127f868775e31b3956522adc0ec75af8937dde6a3896e8beed3a376c6d27f1c",
        "CC BY 4.0", "Chen, Beijing PM2.5, UCI Machine Learning Repository, 2015, doi:10.24432/C5JS49",
    ),
}  # fmt: skip


def fetch(name: str, data_dir: Path) -> Path:
    """The file of a catalogue entry: in `data_dir`, else in TSFORECAST_DATA_DIR, else downloaded to `data_dir`.

    The download is checked against the digest before it takes its place; one that breaks off is gone on with.

    Raises
    ------
    ConfigError
        The catalogue has no such entry.
    DataError
        A file has another digest, or none could be had; the message says where to put it.
    """
    if name not in CATALOGUE:
        near = nearest(name, CATALOGUE)
        raise ConfigError("the catalogue has no such dataset", where="dataset", got=name,
                          allowed=", ".join(CATALOGUE), fix=f"did you mean {near}?" if near else None)  # fmt: skip
    entry = CATALOGUE[name]
    places = [data_dir]
    if extra := os.environ.get("TSFORECAST_DATA_DIR"):
        places.append(Path(extra))
    for place in places:
        file = place / entry.file
        if file.is_file():
            if (digest := sha256(file)) != entry.sha256:
                raise DataError(
                    f"this is not the {name} of the catalogue: the file was altered or cut short",
                    where=file,
                    got=f"sha256 {digest}",
                    allowed=f"sha256 {entry.sha256}",
                    fix="remove it to have it downloaded again, or read it as your own: dataset=csv dataset.path=...",
                )
            return file
    return _download(name, entry, data_dir)


def _download(name: str, entry: Entry, data_dir: Path) -> Path:
    cannot = DataError(
        f"the dataset {name} is not here and could not be downloaded",
        where=data_dir / entry.file,
        got=f"no file there{', nor in TSFORECAST_DATA_DIR' if 'TSFORECAST_DATA_DIR' in os.environ else ''}",
        fix=f"put {entry.file} (sha256 {entry.sha256[:12]}..., {entry.address or 'part of the repository'}) into "
        f"{data_dir} or into the folder TSFORECAST_DATA_DIR names; make demo needs no network",
    )
    if entry.address is None:
        raise cannot
    import pooch

    part = data_dir / f".{entry.file}.part"
    log.info("Downloading %s (%s; %s)", entry.file, entry.licence, entry.citation)
    try:
        return Path(pooch.retrieve(entry.address, known_hash=f"sha256:{entry.sha256}", fname=entry.file, path=data_dir,
                                   downloader=partial(_resume, part=part)))  # fmt: skip
    except (OSError, ValueError) as error:  # no network (requests' errors are OSErrors), no permission, wrong digest
        cannot.got = f"{type(error).__name__}: {error}"
        raise DataError(cannot.what, where=cannot.where, got=cannot.got, fix=cannot.fix) from error


def _resume(address: str, output: str, _: object, *, part: Path) -> None:
    """Download to `part`, from where an earlier attempt broke off, and hand it over whole (pooch's protocol)."""
    import requests
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(address, headers=headers, stream=True, timeout=30) as answer:
        if answer.status_code != requests.codes.requested_range_not_satisfiable:  # else it is whole already
            answer.raise_for_status()
            goes_on = answer.status_code == requests.codes.partial_content
            have *= goes_on
            total = have + int(answer.headers.get("Content-Length", 0))
            with (
                part.open("ab" if goes_on else "wb") as sink,
                tqdm(desc=part.stem[1:], total=total or None, initial=have, unit="B", unit_scale=True) as bar,
            ):
                for chunk in answer.iter_content(1 << 16):
                    bar.update(sink.write(chunk))
    part.replace(output)


def sha256(file: Path) -> str:
    """Hex digest of a file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
