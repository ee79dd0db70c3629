"""paho-mqtt against a broker: every QoS, retained messages, a will, a persistent session, and in
MQTT 5 the properties.

    python exchange.py 127.0.0.1 1883 tcp 4
    python exchange.py 127.0.0.1 8083 websockets 5

Prints a line for each part that went well, and ends with 1 at the first that did not.
"""

import queue
import sys
import traceback

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

HOST, PORT, TRANSPORT, LEVEL = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
IS_V5 = LEVEL == 5
SPACE = f"paho/{LEVEL}/{TRANSPORT}"
DEADLINE_S = 20  # only a failure waits so long


class Client:
    """One connection; what comes is put into queues, for whoever waits for it."""

    def __init__(self, name, clean=True, expiry_s=0, will=None):
        v5 = {} if IS_V5 else {"clean_session": clean}
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=f"{SPACE.replace('/', '-')}-{name}" if name else "",
            protocol=LEVEL,
            transport=TRANSPORT,
            **v5,
        )
        self.client.username_pw_set("paho")
        self.connacks, self.subacks, self.messages, self.closed = (queue.Queue() for _ in range(4))
        self.client.on_connect = lambda _c, _u, flags, reason, properties: self.connacks.put(
            (flags, reason, properties)
        )
        self.client.on_subscribe = lambda _c, _u, _mid, reasons, _p: self.subacks.put(reasons)
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_disconnect = lambda _c, _u, _f, reason, _p: self.closed.put(reason)
        if will:
            self.client.will_set(will[0], will[1], qos=1)
        options = {}
        if IS_V5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry_s
            options = {"clean_start": clean, "properties": properties}
        self.client.connect(HOST, PORT, **options)
        self.client.loop_start()
        flags, reason, self.properties = self.connacks.get(timeout=DEADLINE_S)
        assert reason == 0, reason
        self.session_present = flags.session_present

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        reasons = self.subacks.get(timeout=DEADLINE_S)
        assert [reason.value for reason in reasons] == [qos], reasons

    def publish(self, topic, text, qos, retain=False, properties=None):
        published = self.client.publish(topic, text, qos, retain, properties)
        published.wait_for_publish(DEADLINE_S)
        assert published.is_published(), topic

    def next(self):
        return self.messages.get(timeout=DEADLINE_S)

    def disconnect(self):
        self.client.disconnect()
        self.closed.get(timeout=DEADLINE_S)
        self.client.loop_stop()

    def vanish(self):
        """Closes the connection without a DISCONNECT, and does not come back."""
        self.client.loop_stop()
        self.client.socket().close()


def every_qos():
    receiver, sender = Client("receiver"), Client("sender")
    for qos in range(3):
        receiver.subscribe(f"{SPACE}/qos/{qos}", qos)
    for qos in range(3):
        for limit in range(3):
            sender.publish(f"{SPACE}/qos/{limit}", f"sent at {qos}", qos)
            message = receiver.next()
            assert message.topic == f"{SPACE}/qos/{limit}", message.topic
            assert message.payload == f"sent at {qos}".encode(), message.payload
            assert message.qos == min(qos, limit), message.qos
    receiver.disconnect()
    sender.disconnect()


def retained():
    topic, sender = f"{SPACE}/retained", Client("retainer")
    sender.publish(topic, "kept", 1, retain=True)
    receiver = Client("late")
    receiver.subscribe(topic, 1)
    message = receiver.next()
    assert (message.payload, message.retain) == (b"kept", True), message.payload
    sender.publish(topic, "", 1, retain=True)
    assert not receiver.next().retain
    later = Client("later")
    later.subscribe(topic, 1)
    sender.publish(topic, "live", 1)
    assert later.next().payload == b"live"


def will():
    receiver = Client("heir")
    receiver.subscribe(f"{SPACE}/will", 1)
    Client("mortal", will=(f"{SPACE}/will", "gone")).vanish()
    assert receiver.next().payload == b"gone"
    Client("polite", will=(f"{SPACE}/will", "never")).disconnect()
    receiver.publish(f"{SPACE}/will", "after", 1)
    assert receiver.next().payload == b"after"


def persistent_session():
    receiver = Client("absent", clean=False, expiry_s=3600)
    assert not receiver.session_present
    receiver.subscribe(f"{SPACE}/absent/#", 2)
    receiver.disconnect()
    sender = Client("patient")
    for qos in (1, 1, 2, 2):
        sender.publish(f"{SPACE}/absent/{qos}", f"at {qos}", qos)
    receiver = Client("absent", clean=False, expiry_s=3600)
    assert receiver.session_present
    for qos in (1, 1, 2, 2):
        message = receiver.next()
        got = (message.topic, message.payload, message.qos)
        assert got == (f"{SPACE}/absent/{qos}", f"at {qos}".encode(), qos), got
    receiver.disconnect()
    Client("absent", clean=True).disconnect()
    assert not Client("absent", clean=False, expiry_s=3600).session_present


def message_properties():
    receiver, sender = Client("reader"), Client("writer")
    subscription = Properties(PacketTypes.SUBSCRIBE)
    subscription.SubscriptionIdentifier = 77
    receiver.client.subscribe(
        f"{SPACE}/properties", options=SubscribeOptions(qos=1), properties=subscription
    )
    receiver.subacks.get(timeout=DEADLINE_S)
    properties = Properties(PacketTypes.PUBLISH)
    properties.PayloadFormatIndicator = 1
    properties.MessageExpiryInterval = 600
    properties.ResponseTopic = f"{SPACE}/answers"
    properties.CorrelationData = b"\x01\x02\xff"
    properties.UserProperty = [("colour", "blue"), ("size", "1"), ("size", "2")]
    properties.ContentType = "text/plain"
    sender.publish(f"{SPACE}/properties", "look", 1, properties=properties)
    got = receiver.next().properties
    assert got.PayloadFormatIndicator == 1
    assert 500 < got.MessageExpiryInterval <= 600, got.MessageExpiryInterval
    assert got.ResponseTopic == f"{SPACE}/answers"
    assert got.CorrelationData == b"\x01\x02\xff"
    assert got.UserProperty[:3] == properties.UserProperty, got.UserProperty
    assert got.ContentType == "text/plain"
    assert got.SubscriptionIdentifier == [77], got.SubscriptionIdentifier


def assigned_client_identifier():
    assert Client("").properties.AssignedClientIdentifier


PARTS = [every_qos, retained, will, persistent_session]
if IS_V5:
    PARTS += [message_properties, assigned_client_identifier]

status = 0
for part in PARTS:
    try:
        part()
        print(f"ok: {part.__name__.replace('_', ' ')}", flush=True)
    except Exception:  # whatever it is, it is shown, and the test fails
        traceback.print_exc()
        status = 1
        break
sys.exit(status)
