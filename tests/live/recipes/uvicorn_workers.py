"""uvicorn with two workers; the application does not stop its app."""

from _servers import uvicorn

uvicorn("_asgi:application")
