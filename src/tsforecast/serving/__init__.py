"""One engine and its adapters: the only package that imports bentoml, fastapi and uvicorn; it needs the serve extra."""

import os

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")  # before bentoml is imported; only this value stops its telemetry
