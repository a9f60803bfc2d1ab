"""Publishing inside a transaction of the application: the message exists if and only if it commits."""
