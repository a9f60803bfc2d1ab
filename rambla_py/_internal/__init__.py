"""Details shared by several packages; not public."""
