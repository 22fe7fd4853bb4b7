"""Whether the store that runs are recorded in answers, found out within seconds and without making one."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

from tsforecast.errors import OutputError, without_password
from tsforecast.tracking import client

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def reach(uri: str, seconds: int = 5) -> str:
    """What is found at the address of a store.

    Raises
    ------
    OutputError
        It does not answer within `seconds`, or is of another version of MLflow.
    """
    file, shown, where = client.database(uri), without_password(uri), urlsplit(uri)
    if file is not None and not file.exists():
        return f"{shown}: the first run makes it"
    port = PORTS.get(where.scheme.partition("+")[0])
    if file is None and where.hostname and port:  # mlflow itself tries a database again and again, for minutes
        try:
            socket.create_connection((where.hostname, where.port or port), seconds).close()
        except OSError as error:
            what, fix = "the tracking server does not answer", "start it, or correct the address, or tracking=none"
            raise OutputError(what, where=shown, got=error, fix=fix) from error
    for name, value in (("TIMEOUT", seconds), ("MAX_RETRIES", 0)):
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", str(value))
    client.import_mlflow()
    try:
        with client.errors(shown, OSError):
            client.connect(uri).search_experiments(max_results=1)
    except OutputError as error:
        if "out-of-date" in error.what:
            error.fix = f"mlflow db upgrade {shown}"
        raise
    return f"{shown} answers"
