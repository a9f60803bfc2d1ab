"""uvicorn with two workers; the app is an ``async with`` in the application's lifespan."""

from _servers import uvicorn

uvicorn("_asgi_lifespan:application")
