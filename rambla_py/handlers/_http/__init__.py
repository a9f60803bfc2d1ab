"""This package is what the handlers that speak HTTP share: addresses, the client, its errors, its lanes."""
