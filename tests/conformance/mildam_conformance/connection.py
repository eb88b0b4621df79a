"""Server links, carriers and frames: protocol.md, sections 1 to 3."""

import os
import re
import socket
from collections import deque
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
)

from .canonical import Refused, sha256, unb64
from .primitives import RsaPrivate, same
from .session import ClientSetUp, Session

ALPN = b"mildam/1"
# A WebSocket message of another client's may not be longer.
MESSAGE_LIMIT = 65_536
SET_UP_LIMIT = 16_384
LIMIT = 8_388_608
# Only bounds failures: nothing becomes true by waiting.
PATIENCE = 90


def parse_link(text: str) -> tuple[str, int, bytes]:
    """Host, port and fingerprint."""
    match = re.fullmatch(
        r"mildam://(?:\[([0-9a-f:.]+)\]|([^\[\]:/#?@\s]+)):([0-9]{1,5})/?#([A-Za-z0-9_-]{43})",
        text.strip(),
        re.IGNORECASE,
    )
    if not match or not 1 <= int(match[3]) <= 65535:
        raise Refused("bad_link")
    return match[1] or match[2], int(match[3]), unb64(match[4], 32)


class Answered(Refused):
    """The server refused it."""


class Plain:
    binding = None

    def __init__(self, host: str, port: int, _fingerprint: bytes):
        self._socket = socket.create_connection((host, port), PATIENCE)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, limit: int) -> bytes:
        return self._socket.recv(limit)

    def close(self) -> None:
        self._socket.close()


# X509_V_ERR_...: names and dates do not count, nor that nobody else vouches for the server's key.
NOT_YET_VALID, EXPIRED, SELF_SIGNED, SELF_SIGNED_ABOVE = 9, 10, 18, 19


def accepts(fingerprint: bytes):
    """A certificate of the server's key, or one that it issued. OpenSSL asks from the top of the chain
    down, after it has checked each signature."""
    vouched = False

    def accept(_connection, certificate, error: int, depth: int, _ok) -> bool:
        nonlocal vouched
        key = certificate.to_cryptography().public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        vouched = vouched or same(sha256(spki), fingerprint)
        if error not in (0, NOT_YET_VALID, EXPIRED, SELF_SIGNED, SELF_SIGNED_ABOVE):
            return False
        return vouched and depth <= 1

    return accept


class Tls:
    alpn = ALPN

    def __init__(self, host: str, port: int, fingerprint: bytes):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_alpn_protos([self.alpn])
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, accepts(fingerprint))
        # Without Python's timeout, which would make the socket non-blocking below OpenSSL.
        self._socket = socket.create_connection((host, port))
        seconds = PATIENCE.to_bytes(8, "little") + bytes(8)
        if os.name == "posix":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        self._tls = SSL.Connection(context, self._socket)
        self._tls.set_connect_state()
        self._tls.do_handshake()
        if self._tls.get_alpn_proto_negotiated() != self.alpn:
            raise Refused("incompatible", "ALPN")
        self.binding = self._tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")

    def send(self, data: bytes) -> None:
        self._tls.sendall(data)

    def receive(self, limit: int) -> bytes:
        try:
            return self._tls.recv(limit)
        except SSL.ZeroReturnError:
            return b""

    def close(self) -> None:
        self._socket.close()


class Wss(Tls):
    """The same bytes in the binary messages of a WebSocket, inside TLS."""

    alpn = b"http/1.1"

    def __init__(self, host: str, port: int, fingerprint: bytes):
        super().__init__(host, port, fingerprint)
        self._web_socket = WSConnection(ConnectionType.CLIENT)
        self._heard = bytearray()
        asked = Request(host=f"{host}:{port}", target="/ws", subprotocols=["mildam.1"])
        super().send(self._web_socket.send(asked))
        self._hear(AcceptConnection)

    def _hear(self, awaited: type) -> None:
        """Reads until something of this kind has come, or the end."""
        while True:
            data = super().receive(65_536)
            self._web_socket.receive_data(data or None)
            found = False
            for event in self._web_socket.events():
                found = found or isinstance(event, awaited | CloseConnection)
                if isinstance(event, BytesMessage):
                    self._heard += event.data
                elif isinstance(event, Ping):
                    super().send(self._web_socket.send(event.response()))
                elif isinstance(event, RejectConnection):
                    raise Refused("incompatible", f"HTTP {event.status_code}")
            if found or not data:
                return

    def send(self, data: bytes) -> None:
        for at in range(0, len(data), MESSAGE_LIMIT):
            super().send(self._web_socket.send(BytesMessage(data[at : at + MESSAGE_LIMIT])))

    def receive(self, limit: int) -> bytes:
        if not self._heard:
            self._hear(BytesMessage)
        taken = bytes(self._heard[:limit])
        del self._heard[:limit]
        return taken


class Frames:
    def __init__(self, carrier: Plain | Tls):
        self.carrier = carrier

    def send(self, payload: bytes) -> None:
        self.carrier.send(len(payload).to_bytes(4, "big") + payload)

    def receive(self, limit: int) -> bytes:
        length = int.from_bytes(self._exactly(4), "big")
        if not 1 <= length <= limit:
            raise Refused("malformed", f"a frame of {length} bytes")
        return self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        parts, left = [], length
        while left:
            part = self.carrier.receive(min(left, 65_536))
            if not part:
                raise Refused("closed", "the server has closed the connection")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


class Connection:
    """An active session with a server. What it pushes is kept until somebody asks for it."""

    # A key of this process, never stored.
    _key: RsaPrivate | None = None

    def __init__(self, carrier: type, host: str, port: int, fingerprint: bytes):
        Connection._key = Connection._key or RsaPrivate.generate()
        self._frames = Frames(carrier(host, port, fingerprint))
        binding = self._frames.carrier.binding
        set_up = ClientSetUp(fingerprint, binding, Connection._key, os.urandom(32))
        self._frames.send(set_up.greeting(self._frames.receive(SET_UP_LIMIT)))
        self._frames.send(set_up.session_key(self._frames.receive(SET_UP_LIMIT)))
        self._session = Session(set_up.confirmation(self._frames.receive(SET_UP_LIMIT)))
        self.transcript = self._session.transcript
        self.session: str | None = None
        self._id = 0
        self._pushes: deque = deque()

    def request(self, command: str, **data: Any) -> Any:
        """The answer's data. Raises `Refused` with the server's code."""
        self._id += 1
        request = {"command": command, "id": self._id, "data": data}
        if self.session is not None:
            request["session"] = self.session
        self._frames.send(self._session.request(request))
        while True:
            clear, text = self._next()
            if clear.get("id") is None:
                self._keep(clear, text)
            elif clear["id"] == self._id:
                if clear["status"] != "success":
                    raise Answered(clear["code"], clear["message"])
                return text

    def push(self) -> tuple[str, Any]:
        """The next event and its data. Waits for it."""
        while not self._pushes:
            self._keep(*self._next())
        return self._pushes.popleft()

    def _keep(self, clear: dict, text: Any) -> None:
        if clear["status"] != "success":
            raise Refused(clear["code"], clear["message"])
        self._pushes.append((text["event"], text["data"]))

    def _next(self) -> tuple[dict, Any]:
        return self._session.answer(self._frames.receive(LIMIT))

    def close(self) -> None:
        self._frames.carrier.close()
