"""The proxy does what the tests that rely on it believe."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.services.ports import HOST, is_open
from tests.services.proxy import TO_CLIENT, TO_SERVER, Proxy

PATIENCE = 10.0


class Echo:
    """A server that sends back what it gets, and notes how each connection ended."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.ends: list[str] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._echo, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while chunk := connection.recv(65_536):
                    connection.sendall(chunk)
            except ConnectionResetError:
                self.ends.append("reset")
            else:
                self.ends.append("closed")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connect(proxy) as client:
        assert say(client, b"hello") == b"hello"
        yield client


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), timeout=PATIENCE)


def say(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return read(client, len(text))


def read(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (chunk := client.recv(size - len(found))):
        found += chunk
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_carries_bytes_and_ends_both_ways(
    echo: Echo, proxy: Proxy, client: socket.socket
) -> None:
    long = bytes(range(256)) * 40_000
    sending = threading.Thread(target=client.sendall, args=(long,))
    sending.start()
    assert read(client, len(long)) == long
    sending.join()
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    until(lambda: echo.ends == ["closed"] and proxy.connections == 0)


def test_a_cut_resets_both_sides(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    assert proxy.connections == 1
    assert proxy.cut() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    until(lambda: echo.ends == ["reset"])
    with connect(proxy) as another:
        assert say(another, b"again") == b"again"


def test_it_refuses_new_connections_and_keeps_the_old_one(
    proxy: Proxy, client: socket.socket
) -> None:
    proxy.refuse()
    assert not is_open(proxy.port)
    assert say(client, b"still") == b"still"
    proxy.resume()
    with connect(proxy) as another:
        assert say(another, b"again") == b"again"
    assert say(client, b"still") == b"still"


def test_it_refuses_while_clients_come_and_leaves_none_of_them_open(proxy: Proxy) -> None:
    """One that is forgotten would be closed by the garbage collector, with a warning."""
    done = threading.Event()

    def come() -> None:
        while not done.is_set():
            with suppress(OSError):
                socket.create_connection((HOST, proxy.port)).close()

    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            time.sleep(0.001)
            proxy.refuse()
            proxy.resume()
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_held_bytes_arrive_later(proxy: Proxy, client: socket.socket) -> None:
    proxy.hold(TO_CLIENT)
    client.sendall(b"one ")
    until(lambda: proxy.waiting(TO_CLIENT) == 4)
    client.sendall(b"two")
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(PATIENCE)
    proxy.resume()
    assert read(client, 7) == b"one two"
    assert proxy.waiting(TO_CLIENT) == 0


def test_held_bytes_are_lost_with_a_cut(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    """What the server was told has happened; only its answer was lost."""
    proxy.hold(TO_CLIENT)
    client.sendall(b"order")
    until(lambda: proxy.waiting(TO_CLIENT) == 5)
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert proxy.waiting(TO_CLIENT) == 0


def test_a_silent_peer_takes_everything_and_says_nothing(
    echo: Echo, proxy: Proxy, client: socket.socket
) -> None:
    proxy.drop()
    client.sendall(b"anybody there?")
    until(lambda: proxy.dropped(TO_SERVER) == 14)
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.close()
    with connect(proxy) as another:
        another.sendall(b"?")
        until(lambda: proxy.dropped(TO_SERVER) == 15)
        assert echo.ends == [], "the server hears of no end"
        proxy.resume()
        with pytest.raises(ConnectionResetError):
            another.recv(1)
    until(lambda: sorted(echo.ends) == ["reset", "reset"])
    with connect(proxy) as healthy:
        assert say(healthy, b"again") == b"again"


def test_one_direction_can_be_silent(proxy: Proxy, client: socket.socket) -> None:
    proxy.drop(TO_CLIENT)
    client.sendall(b"heard")
    until(lambda: proxy.dropped(TO_CLIENT) == 5)
    assert proxy.dropped(TO_SERVER) == 0


def test_a_slow_connection_is_slow_and_whole(proxy: Proxy, client: socket.socket) -> None:
    proxy.slow(8_000, TO_CLIENT)
    begin = time.monotonic()
    assert say(client, b"x" * 8_000) == b"x" * 8_000
    assert time.monotonic() - begin >= 0.75
    proxy.resume()
    begin = time.monotonic()
    assert say(client, b"x" * 8_000) == b"x" * 8_000
    assert time.monotonic() - begin < 0.75


def test_a_server_that_is_not_there_resets_the_client() -> None:
    """As early as that may be: sometimes before the client knows that it is connected."""
    with socket.create_server((HOST, 0)) as nobody:
        port: int = nobody.getsockname()[1]
    with Proxy(port) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)


def test_a_connection_that_has_only_just_come_is_cut_too(proxy: Proxy) -> None:
    """Its task has not begun then, and never does."""
    listener = proxy._listener  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    assert listener is not None

    async def accept_and_cut() -> int:
        proxy._accept(listener)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return await proxy._cut()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    async def look_away() -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

    proxy._call(look_away)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    with connect(proxy) as client:
        assert proxy._call(accept_and_cut) == 1  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert proxy.connections == 0


def test_leaving_ends_every_connection(echo: Echo) -> None:
    with ExitStack() as clients:
        with Proxy(echo.port) as proxy:
            for _ in range(3):
                assert say(clients.enter_context(connect(proxy)), b"here") == b"here"
        until(lambda: echo.ends == ["reset"] * 3)
    assert not is_open(proxy.port)
