"""Contract tests: connection tables and options."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rambla_py.config import declared, json_schema, load_config
from rambla_py.config.struct_fields import fields_of, is_struct
from rambla_py.errors import ConfigError, OptionError
from rambla_py.handler import Handler
from rambla_py.registry import find_handler, handler_names, register_handler
from rambla_py.testing.contract_case import HandlerCase
from rambla_py.testing.harness import CHANNEL, SERVICE

__all__ = ["TableTests"]


class TableTests(HandlerCase):
    """Of what is configured: refused by name where it is wrong, and known to the schema."""

    def test_an_unknown_option_is_refused_by_name(self) -> None:
        """A misspelled option is refused before anything is accepted, with the nearest name."""
        with self.trial() as trial:
            if self.handler_class().Options is dict:
                assert trial.publish(self.payload(1), retriess=1).status == "ok"
                return
            for name in ["retries", *declared(self.handler_class())]:
                with pytest.raises(OptionError) as caught:
                    trial.app.publish(CHANNEL, self.payload(1), **{f"{name}{name[-1]}": 1})
                self._check_words(caught.value, repr(f"{name}{name[-1]}"), f"did you mean {name!r}")
            assert trial.audit().accepted == 0

    def test_an_option_of_the_wrong_type_is_refused(self) -> None:
        """A value that an option does not take is refused before anything is accepted."""
        with self.trial() as trial:
            wrong = object()
            for name in ["retries", *_choosy(self.handler_class())]:
                with pytest.raises(OptionError) as caught:
                    trial.app.publish(CHANNEL, self.payload(1), **{name: wrong})
                self._check_words(caught.value, repr(name))
            assert trial.audit().accepted == 0

    def test_a_misspelled_key_of_the_tables_is_refused(self) -> None:
        """A configuration with an unknown key is refused, with the path to it."""
        wrong = self.table({**self.connection(), "no_such_key": 1}, {"no_such_setting": 1})
        with pytest.raises(ConfigError) as caught:
            load_config(wrong)
        paths = {problem.path for problem in caught.value.problems}
        assert f"{SERVICE}.channels.{CHANNEL}.no_such_setting" in paths
        if self.handler_class().Connection not in (dict, None, Any):
            assert f"{SERVICE}.connections.main.no_such_key" in paths

    def test_a_connection_of_the_wrong_type_is_refused(self) -> None:
        """The error names every key of the connection's table that has a wrong value."""
        shape = self.handler_class().Connection
        fields = fields_of(shape) if is_struct(shape) else ()
        for name in [field.key for field in fields if not _is_any(field.type)]:
            with pytest.raises(ConfigError) as caught:
                load_config(self.table({**self.connection(), name: object()}, {}))
            paths = {problem.path for problem in caught.value.problems}
            assert f"{SERVICE}.connections.main.{name}" in paths

    def test_the_tables_have_a_schema(self) -> None:
        """``rambla schema`` knows the handler's own connection and options."""
        kind = self.handler_class()
        name = next((name for name in handler_names() if _is_named(name, kind)), f"contract_{kind.__name__}")
        register_handler(name, kind)
        schema = json_schema()
        assert json.dumps(schema)
        assert set(declared(kind)) <= set(schema["$defs"][f"{name}.options"].get("properties", {}))
        assert schema["$defs"][f"{name}.connection"]["type"] == "object"

    def test_the_guarantee_is_stated(self) -> None:
        """The class states its guarantee, in its docstring and in the plan."""
        kind = self.handler_class()
        assert kind.guarantee != Handler.guarantee, "say what is guaranteed: guarantee = '...'"
        assert kind.__doc__, "the class has no docstring"
        assert kind.__doc__ != Handler.__doc__, "the docstring is that of Handler"
        assert kind.guarantee in str(self.trial().app.plan)

    def _check_words(self, error: OptionError, *words: str) -> None:
        """Check that an error names service, channel and option."""
        for word in (SERVICE, CHANNEL, *words):
            assert word in str(error), f"{word} is missing in: {error}"


def _is_named(name: str, kind: type[Handler]) -> bool:
    try:
        return find_handler(name) is kind
    except Exception:  # a handler of another package that cannot be imported is not this one
        return False


def _choosy(kind: type[Handler]) -> list[str]:
    """Return the options that do not take every value."""
    return [name for name, option in declared(kind).items() if option.per_channel or not _is_any(option.type)]


def _is_any(kind: Any) -> bool:
    return Any in (kind, getattr(kind, "__origin__", None))  # as Annotated[Any, ...] has it
