"""Configuration: from TOML to a checked, frozen ``Config``."""

from rambla_py.config.json_schema import json_schema
from rambla_py.config.loading import load_config
from rambla_py.config.options import (
    MergedOptions,
    OptionField,
    accepts,
    declared,
    merge_message,
    option_names,
)
from rambla_py.config.schema import ChannelConfig, ChannelSettings, Config, RamblaSettings, ServiceConfig

__all__ = [
    "ChannelConfig",
    "ChannelSettings",
    "Config",
    "MergedOptions",
    "OptionField",
    "RamblaSettings",
    "ServiceConfig",
    "accepts",
    "declared",
    "json_schema",
    "load_config",
    "merge_message",
    "option_names",
]
