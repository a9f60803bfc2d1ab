"""This package delivers to brokers of MQTT 5, over paho-mqtt."""

from rambla_py.handlers.mqtt.handler import MqttHandler

__all__ = ["MqttHandler"]
