"""``rambla publish --from FILE`` gets SIGTERM, and ``--timeout`` is too short for what was read."""

from _command_line import publish_from_file

publish_from_file(timeout_s=0.3, rate="10/s")
