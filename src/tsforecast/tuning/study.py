"""The study behind a search: where it is kept, what it is of, which of its trials count."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partialmethod
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tsforecast.config.compose import build, compose, explain, folders, groups
from tsforecast.errors import ConfigError, OutputError, listed, without_password
from tsforecast.files import lock
from tsforecast.tuning.space import Dimension, value

Trials = Sequence[FrozenTrial]
JOURNAL = "journal://"
# Heartbeats, the callback below and some samplers are experimental to Optuna, since 2.8.
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
AGAIN = RetryHeartbeatStaleTrialCallback(max_retry=3)  # of a trial whose process died
FIRST = 3  # trials: where all of these fail, the others are not tried
HEARTBEAT = 30  # seconds; three missed ones, and a trial of another machine is dead
APART = {"paths", "tracking", "report", "publish", "callbacks", "threads", "objective"}  # what changes no score
APART |= {"backtest.n_jobs", "backtest.executor"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A search, as every process that works on it knows it.

    Attributes
    ----------
    settings
        The keys of `hydra.sweeper`, resolved: sampler, pruner and storage are built from them in each process.
    fixed, space
        The arguments of every trial, and what varies.
    objectives, directions
        Names of scores, and `minimize` or `maximize` for each.
    folder
        Of the search; a trial has the folder of its number in it.
    command
        `train`, whose trials score validation rows, or `backtest`, whose trials score folds before the test rows.
    parent
        The tracked run that those of the trials belong to.
    begun
        The trials that there were when the command was typed.
    """

    settings: Any
    fixed: tuple[str, ...]
    space: Mapping[str, Dimension]
    objectives: tuple[str, ...]
    directions: tuple[Any, ...]
    folder: Path
    command: str = "train"
    parent: str = ""
    begun: int = 0

    def drawn(self, trial: Any) -> dict[str, Any]:
        """The value of every dimension."""
        return {key: dimension.draw(trial, key) for key, dimension in self.space.items()}

    def configured(self, drawn: Mapping[str, Any]) -> tuple[DictConfig, dict[str, str], list[str]]:
        """The configuration of a trial, the options chosen in it, and its arguments.

        Groups are composed, once for each choice of them; plain keys are set on what was composed.

        Raises
        ------
        ConfigError
            It does not compose, or a key is not there.
        """
        kinds, arguments = groups(), [*self.fixed, *(f"{key}={each}" for key, each in drawn.items())]
        composing = [k for k in drawn if k[0] in "+~" or "/" in k or "@" in k or k in kinds]
        cfg, chosen = composed(self.command, *self.fixed, *(f"{key}={drawn[key]}" for key in composing))
        try:
            for key in drawn.keys() - set(composing):
                OmegaConf.update(cfg, key, value(drawn[key]))
        except OmegaConfBaseException as error:
            raise explain(error, self.command, arguments) from error
        return cfg, chosen, arguments

    @property
    def content(self) -> dict[str, Any]:
        """What a study is of: space, objectives, and every setting that is the same in all trials, by dotted key."""
        space = {f"the space of {key}": asdict(each) for key, each in self.space.items()}
        objectives = {"objective": [*zip(self.objectives, self.directions, strict=True)]}
        cfg: Any = OmegaConf.to_container(composed(self.command, *self.fixed)[0])
        varied = tuple(f"{key.lstrip('+').replace('/', '.')}." for key in (*APART, *self.space))
        keys = pd.json_normalize(cfg).to_dict("records")[0]
        settings = {key: each for key, each in keys.items() if not f"{key}.".startswith(varied)}
        return dict(json.loads(json.dumps({**objectives, **space, **settings}, default=str)))


def composed(command: str, *arguments: str) -> tuple[DictConfig, dict[str, str]]:
    """What `compose` finds, to change at will; a process reads the files once for the same arguments."""
    cfg, chosen = _composed(command, arguments, tuple(folders()))
    return cfg.copy(), chosen


@lru_cache(maxsize=32)
def _composed(command: str, arguments: tuple[str, ...], _: tuple[Path, ...]) -> tuple[DictConfig, dict[str, str]]:
    return compose(command, arguments)


class Seeded(BaseSampler):
    """A new sampler for every trial, seeded with the number of the trial.

    A search that goes on draws what an uninterrupted one would have drawn, and no two processes draw the same.
    """

    def __init__(self, make: Any, seed: int) -> None:
        self.make = lru_cache(maxsize=1)(lambda number: make(seed=(seed + number) % 2**32))

    def _of_trial(self, method: str, study: Any, trial: Any, *others: Any) -> Any:
        return getattr(self.make(trial.number), method)(study, trial, *others)

    before_trial: Any = partialmethod(_of_trial, "before_trial")
    infer_relative_search_space: Any = partialmethod(_of_trial, "infer_relative_search_space")
    sample_relative: Any = partialmethod(_of_trial, "sample_relative")
    sample_independent: Any = partialmethod(_of_trial, "sample_independent")
    after_trial: Any = partialmethod(_of_trial, "after_trial")


def tools(settings: Any) -> dict[str, Any]:
    """The sampler and the pruner; neither is kept in a storage."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = build(settings.sampler)
    seeded = sampler if isinstance(sampler, BaseSampler) else Seeded(sampler, settings.seed)
    return {"sampler": seeded, "pruner": build(settings.pruner)}


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """What goes wrong in the storage, as an OutputError in which no password is."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError, ImportError, OSError) as error:
        cause = without_password(str(error.__cause__ or error).partition("\n")[0])
        what, got = "the storage of the study cannot be reached", f"{without_password(address)}: {cause}"
        allowed = "sqlite:///FILE, journal:///FILE, postgresql://..."
        fix = "see that it is there, has room and may be written, and that its driver is installed"
        raise OutputError(what, where="hydra.sweeper.storage", got=got, allowed=allowed, fix=fix) from error


def storage(address: str) -> Any:
    """Open a storage, inside of `reaching`; a missing file is made."""
    journal, file = address.removeprefix(JOURNAL), address.partition("sqlite:///")[2].partition("?")[0]
    if journal != address or file:
        Path(file or journal).parent.mkdir(parents=True, exist_ok=True)
    if journal != address:
        return JournalStorage(JournalFileBackend(journal))
    try:
        return _database(address, file)
    except DBAPIError:  # another process makes the tables in this very moment, or it cannot be reached
        time.sleep(1)
        return _database(address, file)


def _database(address: str, file: str) -> RDBStorage:
    made = RDBStorage(
        address,
        engine_kwargs={"connect_args": {"timeout": 60}} if file else None,  # seconds, where another one writes
        heartbeat_interval=HEARTBEAT,
        grace_period=3 * HEARTBEAT,
        heartbeat_stale_trial_callback=AGAIN,
    )
    if file:
        # Else two processes take one queued trial: sqlite locks no row between reading and writing it.
        event.listen(made.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        event.listen(made.engine, "connect", _connected)
        made.engine.dispose()
        made.engine.connect().close()
    return made


def _connected(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin as above
    connection.execute("PRAGMA journal_mode=WAL")  # one write a commit, and no reader waits
    connection.execute("PRAGMA synchronous=NORMAL")  # a commit outlives a killed process, if not a power cut


def opened(plan: Plan) -> optuna.Study:
    """The study of a plan, made where there is none.

    Raises
    ------
    ConfigError
        The storage holds a study of this name that is of something else.
    OutputError
        The storage cannot be reached.
    """
    name, now, used = plan.settings.study, plan.content, {"directions": plan.directions, **tools(plan.settings)}
    with reaching(address := plan.settings.storage):
        study = optuna.create_study(study_name=name, storage=storage(address), load_if_exists=True, **used)
        if (before := study.user_attrs.get("content")) is None:
            study.set_user_attr("content", before := now)
    if before != now:
        changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        got = listed((f"{key}: {now.get(key)}, was {before.get(key)}" for key in changed), 3)
        fix = "hydra.sweeper.study=ANOTHER_NAME begins a new one; or type what was typed before"
        raise ConfigError("the storage holds a study of another search", where=f"study {name}", got=got, fix=fix)
    return study


def tally(trials: Trials, *more: TrialState) -> int:
    """How many trials are finished, or are of these other states; those whose process died are not finished."""
    states = {TrialState.COMPLETE, TrialState.PRUNED, *more}
    return sum(each.state in states or "error" in each.user_attrs for each in trials)


def failures(trials: Trials) -> list[FrozenTrial]:
    """The trials that ended with an error."""
    return [each for each in trials if "error" in each.user_attrs]


def enough(trials: Trials, plan: Plan) -> bool:
    """Whether there are as many as there should be, or all of the first ones of this command failed."""
    new = trials[plan.begun :]
    return tally(trials, TrialState.RUNNING) >= plan.settings.n_trials or len(failures(new)) == tally(new) >= FIRST


def revive(study: optuna.Study) -> int:
    """Fail the trials of dead processes and queue them again; returns how many are still at work."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in (dead := [each for each in running if _dead(each)]):
        with suppress(ValueError):  # another process was faster
            study.tell(trial.number, state=TrialState.FAIL)
            AGAIN(study, trial)
    return len(running) - len(dead)


def _dead(trial: FrozenTrial) -> bool:
    """Whether its process, if it is of this machine, holds the log of the trial no longer."""
    host, _, place = trial.user_attrs.get("place", "").partition(":")
    if Path(place).name != str(trial.number):  # died, or is, where it takes its folder; a queued one has another's
        return datetime.now() - (trial.datetime_start or datetime.now()) > timedelta(seconds=20)
    if host != socket.gethostname():
        return False  # its heartbeat tells
    try:
        with (Path(place) / "train.log").open("a") as log:
            return lock(log) is True
    except OSError:  # the folder is gone
        return True
