"""Listener: a subscriber in its own process that records when each result arrives.

`python listener.py PORT ARRIVALS` prints a line once the broker has accepted the subscription, and appends lines to
ARRIVALS: seq, nanoseconds since 1970.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage


def main(port: str, arrivals: str) -> None:
    descriptor = os.open(arrivals, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def subscribe(client: Client, *_: object) -> None:
        client.subscribe("edge-agent/test/cameras/+/result", qos=1)

    def note(_client: Client, _userdata: object, message: MQTTMessage) -> None:
        arrived_ns = time.time_ns()
        os.write(descriptor, f"{json.loads(message.payload)['seq']} {arrived_ns}\n".encode())

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = subscribe
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    client.on_message = note
    client.connect("127.0.0.1", int(port))
    client.loop_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
