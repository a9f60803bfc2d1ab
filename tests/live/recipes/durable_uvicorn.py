"""uvicorn with two workers; the application does not stop its app."""

import os

from _servers import uvicorn

os.environ["RECIPE_DURABLE"] = "1"
uvicorn("_asgi:application")
