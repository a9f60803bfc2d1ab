"""What the author of a handler should do when a test of the contract suite fails."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Final

__all__ = ["ADVICE", "advice_for"]

_CONFIRM = "Return from handle_publish only after the backend has confirmed the message"
_LOSS = (
    "Raise ConnectionLostError when nothing was sent, UnknownOutcomeError when the message may have arrived"
)
_CONNECT = "connect() raises ConnectionLostError when the server cannot be reached, within a time limit"
_ACCESS = "connect() raises AccessError when the server refuses the credentials or the certificate is wrong"
_SECRET = "Leave the password and the URL's user info out of every error; give secrets the type Secret"
_QUOTED = (
    "Keep what the backend quotes of a message out of the error's text; pass it as detail= (DeliveryError)"
)
_FREED = "Keep no message, delivery or exception in the handler or its driver once it has an outcome"
_OPTIONS = "Declare every option in Options, a msgspec.Struct with forbid_unknown_fields=True"
_SETTINGS = "Declare every key of its table in Connection, a msgspec.Struct with forbid_unknown_fields=True"
_ONE = (
    "Report a refused message by itself: raise PermanentError, or settle that delivery, not the whole batch"
)
_BODY = "Send message.body(), or set takes = 'object' and refuse with PermanentError what cannot be sent"

_SOCKETS = "Close the socket in close(), and in connect() when it fails half-way"

ADVICE: Final = {
    "test_one_message_is_delivered": "Return None, a result or Ok from handle_publish, and raise nothing",
    "test_a_delivered_message_has_arrived": f"{_CONFIRM}; send message.id along",
    "test_the_result_is_the_handlers": "Return the result, or write is_result() if it is not None",
    "test_a_thousand_messages_have_an_outcome_each_in_order": "Answer for every delivery of a batch",
    "test_a_thousand_messages_arrive_once": f"{_CONFIRM}, and send nothing twice",
    "test_messages_published_one_by_one_are_delivered": _CONFIRM,
    "test_two_workers_share_the_messages": "Keep connections in state, not on the class",
    "test_keyed_messages_are_delivered": "Settle every delivery: the next one of its key waits for it",
    "test_a_wrong_password_is_reported_once": _ACCESS,
    "test_a_certificate_of_another_name_is_reported_once": _ACCESS,
    "test_ping_says_that_the_password_is_wrong": _ACCESS,
    "test_ping_says_that_the_certificate_is_of_another_name": _ACCESS,
    "test_a_password_never_shows": _SECRET,
    "test_no_error_shows_a_secret": _SECRET,
    "test_the_data_of_a_refused_message_never_shows": _QUOTED,
    "test_a_refused_message_is_freed": _FREED,
    "test_an_unserializable_message_is_freed": _FREED,
    "test_a_message_that_expires_is_freed": _FREED,
    "test_a_message_that_is_never_answered_is_freed": f"{_FREED}; give each request a time limit",
    "test_a_loss_in_mid_batch_loses_no_message": _LOSS,
    "test_a_loss_is_reported_where_unknown_is_not_retried": _LOSS,
    "test_messages_flow_again_after_a_loss": f"{_LOSS}; connect() must work again after close()",
    "test_a_server_that_dies_in_mid_batch_loses_no_message": _LOSS,
    "test_a_server_that_falls_silent_holds_nothing_up": "Give each request a time limit",
    "test_a_payload_arrives_unchanged_or_is_fatal_at_once": _BODY,
    "test_an_unserializable_payload_is_refused_at_once": _BODY,
    "test_an_unserializable_payload_harms_no_other": _ONE,
    "test_a_reused_payload_arrives_with_the_values_of_each_call": _BODY,
    "test_the_captured_payload_is_never_changed": "Copy a payload before changing it",
    "test_an_event_arrives_whole": _BODY,
    "test_the_attributes_of_an_event_arrive_as_headers_or_are_refused": "Send message.headers",
    "test_one_poison_message_in_a_thousand_fails_alone": _ONE,
    "test_a_payload_over_the_limit_is_fatal_alone": "Raise PayloadTooLargeError for it alone",
    "test_a_callable_is_given_source_destination_and_options": "Return the live object from destination()",
    "test_a_callable_that_raises_fails_alone": _ONE,
    "test_ping_finds_the_server": "ping() makes a round trip and raises nothing",
    "test_closing_twice_does_no_harm": "close() returns at once for a connection that is closed",
    "test_a_stop_while_idle_is_quick": "close() does not wait for the server",
    "test_messages_to_an_unreachable_server_wait_and_expire": _CONNECT,
    "test_an_app_without_its_server_stops_in_time": _CONNECT,
    "test_ping_says_that_a_server_is_unreachable": _CONNECT,
    "test_a_server_that_never_answers_holds_nothing_up": _CONNECT,
    "test_a_ping_of_a_server_that_never_answers_ends": "ping() gives up within the connection's time limit",
    "test_an_unknown_option_is_refused_by_name": _OPTIONS,
    "test_an_option_of_the_wrong_type_is_refused": f"{_OPTIONS}, and give each its type",
    "test_a_misspelled_key_of_the_tables_is_refused": _SETTINGS,
    "test_a_connection_of_the_wrong_type_is_refused": f"{_SETTINGS}, and give each its type",
    "test_the_tables_have_a_schema": f"{_SETTINGS}; describe each key with Meta(description=...)",
    "test_a_lone_surrogate_is_permanent_wherever_it_occurs": _BODY,
    "test_a_connect_that_is_refused_leaves_no_socket": _SOCKETS,
    "test_a_connection_that_is_cut_leaves_no_socket": _SOCKETS,
    "test_a_login_that_is_refused_leaves_no_socket": _SOCKETS,
    "test_a_server_that_falls_silent_leaves_no_socket": _SOCKETS,
    "test_a_stop_during_a_connect_leaves_no_socket": _SOCKETS,
    "test_the_stop_leaves_no_socket": _SOCKETS,
    "test_the_guarantee_is_stated": "Write a docstring, and set guarantee to what the handler promises",
}


def advice_for(suite: type, name: str) -> Iterator[str]:
    """Yield three lines for a failed test of a contract suite; none for a test that is the author's own."""
    test = getattr(suite, name, None)
    if name not in ADVICE or test is None:
        return
    flag = getattr(test, "_rambla_flag", None)
    yield f"expected: {(inspect.getdoc(test) or name).splitlines()[0]}"
    yield f"to do:    {ADVICE[name]}."
    if flag is None:
        yield "see:      docs/testing.md, 'Test a handler of your own'"
    else:
        yield f"or:       {flag} = False in {suite.__name__} if the backend has none (docs/testing.md)"
