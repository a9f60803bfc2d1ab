"""Delivery to MQTT 5 brokers, over paho-mqtt."""

from rambla_py.handlers.mqtt.handler import MqttHandler

__all__ = ["MqttHandler"]
