"""The link between actor and learner: frames of bytes over TCP, between two that know the same key, each call with a deadline."""

from __future__ import annotations

import hmac
import os
import secrets
import select
import socket
import struct
import threading
import time
from hashlib import sha256
from pathlib import Path

from farl.errors import UserError

_GREETING = b"farl link 1\n"
_NONCE = _MAC = 32
_FRAME = struct.Struct("<Q32s")
LARGEST = 2**30
"""bytes of a frame; a larger one is refused before it is read"""
FRAME_S = 30.0
"""seconds within which a frame that has begun must have crossed"""
GREETING_S = 5.0
"""seconds that each part of the greeting may take"""


class LinkLost(Exception):
    """The other side is gone, silent or not who it should be; the message says which."""


class WrongKey(UserError):
    """The two sides do not know the same key."""


class Channel:
    """One authenticated connection.

    Both sides prove that they know the key without showing it (a challenge each, HMAC-SHA256). Every frame then carries a code
    of its content and its place in the order, so that nobody on the way can add, change, repeat or leave out any; what is sent
    can be read on the way. One thread may receive while others send.
    """

    def __init__(self, sock: socket.socket, send_key: bytes, receive_key: bytes) -> None:
        # A socket's timeout is shared by all who use it: whoever sends has an object of their own.
        self._socket, self._writer = sock, sock.dup()
        self._send_key, self._receive_key = send_key, receive_key
        self._sent = self._received = 0
        self._sending = threading.Lock()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._writer.settimeout(FRAME_S)

    def fileno(self) -> int:
        """For select: readable once something has come."""
        return self._socket.fileno()

    def send(self, content: bytes) -> None:
        """Send one frame; raises LinkLost if it has not left within ``FRAME_S``."""
        with self._sending:
            code = _code(self._send_key, self._sent, content)
            self._sent += 1
            try:
                self._writer.sendall(_FRAME.pack(len(content), code) + content)
            except OSError as error:
                raise LinkLost(f"sending failed ({error})") from error

    def receive(self, timeout_s: float) -> bytes | None:
        """The next frame, or None if none has begun after ``timeout_s``; raises LinkLost."""
        try:
            if not select.select([self._socket], [], [], timeout_s)[0]:
                return None
        except (OSError, ValueError) as error:
            raise LinkLost(f"the connection is closed ({error})") from error
        until = time.monotonic() + FRAME_S
        size, code = _FRAME.unpack(_read(self._socket, _FRAME.size, until))
        if size > LARGEST:
            raise LinkLost(f"a frame of {size} bytes was announced; at most {LARGEST} are taken")
        content = _read(self._socket, size, until)
        if not hmac.compare_digest(code, _code(self._receive_key, self._received, content)):
            raise LinkLost("a frame was changed on the way")
        self._received += 1
        return content

    def close(self) -> None:
        self._writer.close()
        self._socket.close()


def connect(host: str, port: int, key: bytes) -> Channel:
    """Reach a listener; raises LinkLost where nobody of ours answers and WrongKey where the keys differ."""
    try:
        sock = socket.create_connection((host, port), GREETING_S)
    except OSError as error:
        raise LinkLost(f"nobody answers at {host}:{port} ({error})") from error
    try:
        until = time.monotonic() + GREETING_S
        if _read(sock, len(_GREETING), until) != _GREETING:
            raise LinkLost(f"{host}:{port} is not a learner of this version")
        theirs, ours = _read(sock, _NONCE, until), secrets.token_bytes(_NONCE)
        _write(sock, ours + _prove(key, b"connects", theirs, ours))
        if not hmac.compare_digest(_read(sock, _MAC, until), _prove(key, b"listens", theirs, ours)):
            raise WrongKey(f"{host}:{port} does not know the key of this run; give both sides the same key file")
        return Channel(sock, _prove(key, b"out", theirs, ours), _prove(key, b"back", theirs, ours))
    except BaseException:
        sock.close()
        raise


def accept(sock: socket.socket, key: bytes) -> Channel:
    """The listener's part, for a connection just made; raises LinkLost, or WrongKey after having told the other side."""
    try:
        until = time.monotonic() + GREETING_S
        ours = secrets.token_bytes(_NONCE)
        _write(sock, _GREETING + ours)
        theirs, proof = _read(sock, _NONCE, until), _read(sock, _MAC, until)
        if not hmac.compare_digest(proof, _prove(key, b"connects", ours, theirs)):
            _write(sock, bytes(_MAC))
            raise WrongKey("somebody who does not know the key tried to connect and was refused")
        _write(sock, _prove(key, b"listens", ours, theirs))
        return Channel(sock, _prove(key, b"back", ours, theirs), _prove(key, b"out", ours, theirs))
    except BaseException:
        sock.close()
        raise


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises UserError where the address cannot be had."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise UserError(f"cannot listen at {host}:{port} ({error}); choose another link.host or link.port") from error


def key_of(path: Path) -> bytes:
    """The key kept in ``path``, made if there is none; readable by its owner alone."""
    try:
        if not path.exists():
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(secrets.token_hex(32) + "\n")
        key = path.read_text().strip().encode()
    except OSError as error:
        raise UserError(f"cannot keep the link's key in {path} ({error.strerror})") from error
    if len(key) < 32:
        raise UserError(f"{path} holds no key (32 characters or more); delete it and start both sides again")
    return key


def _code(key: bytes, place: int, content: bytes) -> bytes:
    code = hmac.new(key, struct.pack("<Q", place), sha256)
    code.update(content)
    return code.digest()


def _prove(key: bytes, role: bytes, listener: bytes, connecting: bytes) -> bytes:
    return hmac.digest(key, role + listener + connecting, "sha256")


def _write(sock: socket.socket, content: bytes) -> None:
    try:
        sock.settimeout(GREETING_S)
        sock.sendall(content)
    except OSError as error:
        raise LinkLost(f"the connection broke while greeting ({error})") from error


def _read(sock: socket.socket, size: int, until: float) -> bytes:
    """Exactly ``size`` bytes before ``until``, by the monotonic clock."""
    content = bytearray(size)
    view, have = memoryview(content), 0
    while have < size:
        try:
            sock.settimeout(max(until - time.monotonic(), 1e-3))
            count = sock.recv_into(view[have:])
        except OSError as error:
            raise LinkLost(f"the connection broke ({error})") from error
        if count == 0:
            raise LinkLost("the other side has closed the connection")
        have += count
    return bytes(content)
