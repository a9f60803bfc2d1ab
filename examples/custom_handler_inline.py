"""A handler of one's own, configured by a mapping: no file, no package."""

from typing import Any

import rambla_py as rambla


class Shout(rambla.Handler):
    """Prints each message in capitals, and takes no empty ones."""

    guarantee = "at least once, in the order of one worker"

    def handle_publish(self, message: rambla.Delivery, options: Any, state: Any) -> int:
        """Print one message; the result is how many characters it has."""
        if not message.payload:
            raise rambla.PermanentError("there is nothing to shout")
        text = str(message.payload).upper()
        print(f"{state.channel}: {text}")
        return len(text)


CONFIG = {"shout": {"handler": Shout, "channels": {"news": {"lazy": False}}}}


def main() -> None:
    """Publish one message that can be delivered, and one that cannot."""
    with rambla.Rambla(CONFIG) as app:
        print("characters:", app.publish("news", "it works").result(timeout_s=5))
        outcome = app.publish("news", "").outcomes(timeout_s=5)[0]
        print(f"{outcome.status}: {outcome.error}")


if __name__ == "__main__":
    main()
