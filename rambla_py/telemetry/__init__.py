"""This package tells the outside what happens: events go out, nothing comes in."""
