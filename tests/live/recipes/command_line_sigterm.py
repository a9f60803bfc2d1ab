"""``rambla publish --from FILE`` gets SIGTERM in the midst of the file."""

from _command_line import publish_from_file

publish_from_file(timeout_s=20, rate="100/s")
