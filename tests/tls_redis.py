"""A Redis behind TLS and a password, as hosted ones are: Debian's redis-server, since the embedded one has no TLS."""

import contextlib
import socket
import subprocess
import threading


def _openssl(*arguments, folder):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def authority(folder, name):
    """Make a certificate authority and return its file."""
    subject = ("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2", "-nodes")
    _openssl("req", "-x509", "-newkey", "rsa:2048", *subject, folder=folder)
    return folder / f"{name}.crt"


@contextlib.contextmanager
def tls_redis(folder, password, more=()):
    """Run one with a certificate for localhost, and yield the variables by which it is reached.

    Args:
        folder: where its files lie.
        password: of the default user.
        more: further options of its command line, words each.
    """
    mine = authority(folder, "mine")
    request = ("-keyout", "server.key", "-out", "server.csr", "-nodes", "-subj", "/CN=localhost")
    _openssl("req", "-newkey", "rsa:2048", *request, folder=folder)
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    signed = ("-CA", "mine.crt", "-CAkey", "mine.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    _openssl("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signed, folder=folder)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    options = {
        "port": 0,
        "tls-port": port,
        "bind": "127.0.0.1",
        "tls-cert-file": "server.crt",
        "tls-key-file": "server.key",
        "tls-ca-cert-file": "mine.crt",
        "tls-auth-clients": "no",
        "requirepass": password,
        "save": "",
        "dir": folder,
    }
    command = ["redis-server", *(str(word) for name, value in options.items() for word in (f"--{name}", value)), *more]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "Ready to accept connections" in line:
            break
    reader = threading.Thread(target=process.stdout.read)
    reader.start()
    try:
        yield {"REDIS_URL": f"rediss://localhost:{port}/0", "REDIS_PASSWORD": password, "REDIS_CA_CERTS": str(mine)}
    finally:
        process.terminate()
        process.wait()
        reader.join()
        process.stdout.close()
