"""Workers and pools: dispatch, retries, reconnects."""
