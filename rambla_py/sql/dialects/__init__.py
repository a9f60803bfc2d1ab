"""The built-in dialects; the registry imports each with its driver when a URL needs it."""
