"""What several tests share: where the data is, and every option found in conf/."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


def pytest_configure() -> None:
    """Small models are fastest, and bit-reproducible across machines' loads, with one thread."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
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


@pytest.fixture(autouse=True)
def own_logger(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server of an earlier test did to the package's logger, in this process, is not seen outside of servers."""
    if "serving" not in str(request.path):
        ours = logging.getLogger("tsforecast")
        monkeypatch.setattr(ours, "propagate", True)
        monkeypatch.setattr(ours, "handlers", [])
        monkeypatch.setattr(ours, "level", logging.NOTSET)
        logging.root.manager._clear_cache()  # type: ignore[attr-defined]
