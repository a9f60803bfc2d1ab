"""This package runs the deliveries: mailboxes, workers, pools and their supervision; only it knows pykka."""
