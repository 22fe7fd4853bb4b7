"""One engine and its adapters: the only package that imports bentoml, fastapi and uvicorn; it needs the serve extra."""
