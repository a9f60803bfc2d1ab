"""What the handlers over HTTP share: addresses, the client, errors, the request pool."""
