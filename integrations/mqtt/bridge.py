"""One connection to a broker for both directions: paho's thread reads it, the caller's publishes."""

from __future__ import annotations

import _thread
import json
import signal
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from entgldb.client.database import Change
from entgldb.integrations.mqtt.incoming import MalformedError, Writer
from entgldb.integrations.mqtt.outgoing import WINDOW, Outgoing
from entgldb.integrations.mqtt.routes import In, Out
from entgldb.integrations.place import Place
from entgldb.messages.errors import EntglError, InvalidError
from entgldb.messages.secret import Secret

CLUSTER: Final = "entgldb-cluster"
"""The user property that says which cluster has published a message."""
SESSION_SECONDS: Final = 7 * 86_400
"""So long a broker keeps what comes while the bridge is away."""
KEEPALIVE_SECONDS: Final = 30
RECONNECT_SECONDS_MAX: Final = 60
AGAIN_SECONDS: Final = 1.0
"""Between two attempts to write what the node did not take."""


@dataclass(frozen=True)
class Broker:
    """Where a broker is, and who comes."""

    host: str
    port: int
    client_id: str
    tls: ssl.SSLContext | None = None
    username: str = ""
    password: Callable[[], Secret] | None = None


class Bridge:
    """Carries both directions until it is closed."""

    def __init__(
        self,
        broker: Broker,
        outs: Sequence[Out],
        ins: Sequence[In],
        writer: Writer,
        place: Place,
        cluster: str,
        tell: Callable[[str], None],
    ) -> None:
        self._outs, self._ins, self._writer, self._place = outs, ins, writer, place
        self._cluster, self._tell = cluster, tell
        self._outgoing = Outgoing(place)
        self._ends = threading.Event()
        self._fault: BaseException | None = None
        """The reason for which the connection's thread has interrupted the caller's."""
        # acknowledged by hand: after the commit. The broker holds back what is beyond the window
        made = Client(
            CallbackAPIVersion.VERSION2,
            broker.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        made.max_inflight_messages_set(WINDOW)
        made.reconnect_delay_set(1, RECONNECT_SECONDS_MAX)
        if broker.username:
            made.username_pw_set(broker.username, broker.password().text() if broker.password else None)
        if broker.tls is not None:
            made.tls_set_context(broker.tls)
        lost = f"no way to {broker.host}:{broker.port}; it is dialled again"
        made.on_connect, made.on_disconnect = self._fenced(self._connected), self._fenced(self._disconnected)
        made.on_connect_fail = self._fenced(lambda *_: tell(lost))
        made.on_publish, made.on_message = self._fenced(self._acknowledged), self._fenced(self._take)
        asked = _properties(PacketTypes.CONNECT)
        asked.SessionExpiryInterval, asked.ReceiveMaximum = SESSION_SECONDS, WINDOW
        made.connect_async(broker.host, broker.port, KEEPALIVE_SECONDS, clean_start=False, properties=asked)
        made.loop_start()
        self._client = made

    def run(self, feed: Iterable[Change]) -> None:
        """Carry both directions until a signal; the place in ``feed`` is kept as the broker acknowledges.

        Raises KeyboardInterrupt for a signal, and whatever a callback met. SIGTERM raises KeyboardInterrupt:
        the caller has seen to that.
        """
        try:
            self._publish(feed)
            while not self._ends.wait(AGAIN_SECONDS):
                pass
        except KeyboardInterrupt:
            if self._fault is not None:
                raise self._fault from None
            raise

    def _publish(self, feed: Iterable[Change]) -> None:
        for change in feed:
            # in steps, so that a signal is heard
            while not self._outgoing.room(AGAIN_SECONDS):
                pass
            numbers = [number for out in self._outs if (number := self._send(out, change)) is not None]
            for number in numbers[:-1]:
                self._outgoing.sent("", number)
            self._outgoing.sent(change.token, numbers[-1] if numbers else None)

    def close(self) -> None:
        """Take leave of the broker, which keeps the session."""
        self._ends.set()
        self._client.disconnect()
        self._client.loop_stop()

    def _send(self, out: Out, change: Change) -> int | None:
        document = change.document
        if change.collection != out.collection or not (
            document is None or out.takes is None or out.takes(document)
        ):
            return None
        try:
            topic = out.topic.of(change.key)
        except InvalidError as fault:
            self._count("refused", change.key, fault.text)
            return None
        if not out.retain and self._writer.came_from(change) == topic:
            self._place.counts["echoes-left-out"] += 1
            return None
        body = b"" if document is None else json.dumps(document, ensure_ascii=False).encode()
        whose = _properties(PacketTypes.PUBLISH)
        whose.UserProperty = (CLUSTER, self._cluster)
        self._place.counts["published"] += 1
        return self._client.publish(topic, body, qos=1, retain=out.retain, properties=whose).mid

    # --- called by the thread of the connection -------------------------------------------------

    def _connected(self, client: Client, data: Any, flags: Any, code: ReasonCode, more: Any) -> None:
        if code.is_failure:
            self._tell(f"the broker refuses: {code}")
            return
        self._tell("connected to the broker")
        for route in self._ins:
            # 1: the retained once, for a new subscription; 2: never. An own message would only come back
            kept = 1 if route.retained else 2
            options = SubscribeOptions(qos=1, noLocal=True, retainHandling=kept)
            client.subscribe(route.topic.subscription, options=options)

    def _disconnected(self, client: Client, data: Any, flags: Any, code: ReasonCode, more: Any) -> None:
        if not self._ends.is_set():
            self._tell(f"no connection to the broker: {code}; it is dialled again")

    def _acknowledged(self, client: Client, data: Any, number: int, code: ReasonCode, more: Any) -> None:
        if code.is_failure:
            self._count("refused-by-broker", f"message {number}", str(code))
        self._outgoing.acknowledged(number)

    def _fenced(self, work: Callable[..., None]) -> Callable[..., None]:
        """A callback whose fault ends the bridge: paho's thread would end alone, and without a word."""

        def fenced(*told: Any) -> None:
            try:
                if self._fault is None:
                    work(*told)
            except BaseException as fault:  # noqa: BLE001 -- it is raised where the caller's thread is
                self._fault = fault
                # not SIGINT: a shell that starts it in the background has it ignored
                _thread.interrupt_main(signal.SIGTERM)

        return fenced

    def _take(self, client: Client, data: Any, message: MQTTMessage) -> None:
        """Acknowledge what is written or never will be. The broker waits meanwhile, as far as it goes."""
        said = getattr(message.properties, "UserProperty", None) or ()
        clusters = [value for name, value in said if name == CLUSTER]
        waits = False
        while not self._ends.is_set():
            try:
                self._place.counts[self._writer.take(message.topic, bytes(message.payload), clusters)] += 1
            except MalformedError as fault:
                self._count("refused", message.topic, str(fault))
            except EntglError as fault:
                if not waits:
                    self._tell(f"{message.topic}: {fault.text}; it is tried until it is written")
                waits = True
                self._ends.wait(AGAIN_SECONDS)
                continue
            client.ack(message.mid, message.qos)
            return

    def _count(self, what: str, place: str, why: str) -> None:
        self._place.counts[what] += 1
        self._tell(f"{what}: {place!r:.200}: {why:.200}")


def _properties(kind: int) -> Any:
    """An empty set of them; paho gives it no types."""
    return Properties(kind)  # type: ignore[no-untyped-call]  # paho's constructor has none
