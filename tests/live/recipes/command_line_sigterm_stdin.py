"""``rambla publish -`` gets SIGTERM while its standard input is silent."""

from _command_line import publish_from_stdin

publish_from_stdin(timeout_s=20, rate="20/s")
