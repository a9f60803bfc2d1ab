"""One target: mailbox, admission, batching, state, counters, completion."""
