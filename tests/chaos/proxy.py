"""A TCP proxy that can cut its connections in the middle of an answer."""

import random
import selectors
import socket
import threading


class Proxy:
    """Passes bytes between workers and Redis, on a port of its own, until `stop()`."""

    def __init__(self, port, seed):
        self._target = port
        self._random = random.Random(seed)
        self._pairs = {}
        self._lock = threading.Lock()
        self._condemned = set()
        self._stopping = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self, share=0.5):
        """Cut that share of the connections, each in the middle of its next answer; return how many."""
        with self._lock:
            answers = [server for server, (_, is_answer) in self._pairs.items() if is_answer]
            chosen = [line for line in answers if self._random.random() < share]
            self._condemned.update(chosen)
            return len(chosen)

    def stop(self):
        self._stopping = True
        self._thread.join()
        for line in list(self._pairs):
            line.close()
        self._listener.close()
        self._selector.close()

    def _run(self):
        while not self._stopping:
            for key, _ in self._selector.select(timeout=0.2):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._pairs:
                    self._pass(key.fileobj)

    def _accept(self):
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=2)
        except OSError:
            client.close()
            return
        for line in (client, server):
            line.settimeout(5)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(line, selectors.EVENT_READ)
        with self._lock:
            self._pairs |= {client: (server, False), server: (client, True)}

    def _pass(self, line):
        other, is_answer = self._pairs[line]
        try:
            data = line.recv(65536)
            if is_answer and line in self._condemned and data:
                other.sendall(data[: len(data) // 2])
                data = b""
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        self._close(line, other)

    def _close(self, *lines):
        with self._lock:
            for line in lines:
                self._pairs.pop(line, None)
                self._condemned.discard(line)
        for line in lines:
            self._selector.unregister(line)
            line.close()
