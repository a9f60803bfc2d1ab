"""Runtime of an app: targets, delivery, supervision. Only this package imports pykka."""
