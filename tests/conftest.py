"""What several tests share: where the data is, and every option found in conf/."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


class Silent:
    """A server that takes connections and never answers: whoever asks waits for as long as is waited for an answer."""

    def __enter__(self) -> Silent:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.socket.setblocking(False)
        self.place = f"127.0.0.1:{self.socket.getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def asked(self) -> int:
        """How often it was connected to since it was asked this."""
        times = 0
        with suppress(BlockingIOError):
            while True:
                self.socket.accept()[0].close()
                times += 1
        return times


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait until it does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def pytest_configure() -> None:
    """Small models are fastest, and bit-reproducible across machines' loads, with one thread."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background of a shell
    # What train puts into the model store during a test is not to lie in the user's own.
    os.environ["BENTOML_HOME"] = tempfile.mkdtemp(prefix="tsforecast-bentoml-")


def pytest_unconfigure() -> None:
    """Nothing is left behind."""
    shutil.rmtree(os.environ["BENTOML_HOME"])


@pytest.fixture(scope="session")
def ett_dir() -> Path:
    """The folder with ETTh1.csv and ETTh2.csv."""
    place = Path(os.environ.get("TSFORECAST_DATA_DIR", ROOT / "data"))
    if not (place / "ETTh1.csv").is_file():
        pytest.fail(f"ETTh1.csv is not in {place}: set TSFORECAST_DATA_DIR to the folder that holds it")
    return place


@pytest.fixture(scope="session")
def tracking_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database in which nothing is recorded yet, to be copied: making one takes seconds."""
    from tsforecast.tracking.store import Store

    file = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    with Store(f"sqlite:///{file}").asked():
        pass
    return file


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each sleep from now on: how long somebody is waited for, however slow the machine is."""
    seconds, sleep = list[float](), time.sleep

    def counted(each: float) -> None:
        seconds.append(each)
        sleep(each)

    monkeypatch.setattr(time, "sleep", counted)
    return seconds


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that refuses whoever connects, and that no other process can take."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[Silent]:
    with Silent() as made:
        yield made


@pytest.fixture(autouse=True)
def own_logger(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server of an earlier test did to the package's logger, in this process, is not seen outside of servers."""
    if "serving" not in str(request.path):
        ours = logging.getLogger("tsforecast")
        monkeypatch.setattr(ours, "propagate", True)
        monkeypatch.setattr(ours, "handlers", [])
        monkeypatch.setattr(ours, "level", logging.NOTSET)
        logging.root.manager._clear_cache()  # type: ignore[attr-defined]
