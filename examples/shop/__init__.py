"""A small shop on Starlette that tracks what it does, and shows it on a page."""
