"""Connections to the coordinator: kept, given up and made again; proxies and certificates; answers that are no answers."""

import datetime
import ipaddress
import re
import socket
import ssl
import threading
from contextlib import contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedstats.crypto.identity import Identity
from fedstats.errors import MessageError, Unreachable
from fedstats.transport import http
from fedstats.transport.http import Link

TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No proxies but those of a test."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def server(*answers, context=None):
    """Says these bytes, one after every request; None hangs up. Gives (port, the heads of the requests by connection)."""
    listening, heads, left = socket.create_server(("127.0.0.1", 0)), [], list(answers)

    def talk(near):
        mine = []
        heads.append(mine)
        while left:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (more := near.recv(1)):
                    return
                head += more
            mine.append(head.decode())
            # what is left unread when the socket closes would reset the connection, and the answer would be lost with it
            length = re.search(rb"(?i)content-length: (\d+)", head)
            for _ in range(int(length[1]) if length else 0):
                near.recv(1)
            answer = left.pop(0)
            if answer is None:
                return
            near.sendall(answer)
            if left[:1] == [None]:
                left.pop(0)
                return

    def serve():
        while left:
            try:
                near, _ = listening.accept()
                with near if context is None else context.wrap_socket(near, server_side=True) as near:
                    talk(near)
            except OSError:
                continue

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1], heads
    finally:
        left.clear()
        listening.close()


def link_to(*addresses):
    return Link(Identity.generate("lyon"), "hub", addresses)


def test_a_connection_is_kept_between_requests():
    with server(TAKEN, TAKEN, TAKEN) as (port, heads):
        link = link_to(f"http://127.0.0.1:{port}/under/")
        for _ in range(3):
            link.post(b"parcel")
        link.close()
    assert [len(mine) for mine in heads] == [3] and heads[0][0].startswith("POST /under/v1/parcels HTTP/1.1\r\n")


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfine", b"SSH-2.0-OpenSSH\r\n\r\n"],
                         ids=["hangs up", "cut short", "another protocol"])
def test_an_answer_that_breaks_off_is_no_answer(answer):
    with server(answer, None) as (port, _), pytest.raises(Unreachable, match="did not answer"):
        link_to(f"http://127.0.0.1:{port}").post(b"parcel")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
                                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n"],
                         ids=["with its length", "in chunks"])
def test_an_answer_that_is_too_long_is_refused(answer, monkeypatch):
    with server(answer, None, answer, None) as (port, _):
        link_to(f"http://127.0.0.1:{port}").post(b"parcel")
        monkeypatch.setattr(http, "LONGEST_ANSWER", 3)
        with pytest.raises(MessageError, match="too long"):
            link_to(f"http://127.0.0.1:{port}").post(b"parcel")


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_the_next_address_is_tried_where_nobody_listens():
    """The first address is dead: the second answers, and is the first from now on. With none left, all are named."""
    dead = f"http://127.0.0.1:{closed_port()}"
    with server(TAKEN, TAKEN) as (port, heads):
        link = link_to(dead, f"http://127.0.0.1:{port}")
        link.post(b"parcel")
        link.post(b"parcel")
        link.close()
    assert [len(mine) for mine in heads] == [2]
    with pytest.raises(Unreachable, match=f"no coordinator can be reached at {dead}"):
        link_to(dead).post(b"parcel")


@pytest.mark.parametrize("status", ["301 Moved Permanently", "407 Proxy Authentication Required", "502 Bad Gateway"])
def test_an_answer_of_somebody_else_is_not_taken_for_the_coordinators(status):
    """A server on the way that sends us elsewhere, wants a password, or has lost the coordinator: the parcel has not been taken."""
    answer = f"HTTP/1.1 {status}\r\nLocation: https://hub.example.org/\r\nContent-Length: 0\r\n\r\n".encode()
    with server(answer) as (port, _), pytest.raises(Unreachable, match=f"answered with status {status[:3]}, not as a coordinator would"):
        link_to(f"http://127.0.0.1:{port}").post(b"parcel")


@pytest.mark.parametrize("address", ["hub.example.org:8443", "ftp://hub.example.org", "https://", "/v1", ""])
def test_an_address_that_is_none_is_named(address):
    with pytest.raises(Unreachable, match=re.escape(address or "the coordinator")):
        link_to(address).post(b"parcel")


def test_a_proxy_of_the_environment_is_used_and_left_aside_where_it_should_be(monkeypatch):
    with server(TAKEN) as (port, heads):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        link_to("http://hub.example.org:8443").post(b"parcel")
    assert heads[0][0].startswith("POST http://hub.example.org:8443/v1/parcels ")
    with server(TAKEN) as (port, _):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
        with pytest.raises(Unreachable):
            link_to(f"http://127.0.0.1:{port}").post(b"parcel")
        monkeypatch.setenv("no_proxy", "127.0.0.1,.example.org")
        link_to(f"http://127.0.0.1:{port}").post(b"parcel")


def test_a_server_without_a_trusted_certificate_is_not_talked_to(tmp_path, monkeypatch):
    """A certificate that nobody vouches for is refused; the same one, named by SSL_CERT_FILE, is accepted for its own address only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path / "hub.pem"))
    with server(TAKEN, context=context) as (port, heads):
        with pytest.raises(Unreachable):
            link_to(f"https://127.0.0.1:{port}").post(b"parcel")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "hub.pem"))
        with pytest.raises(Unreachable):
            link_to(f"https://localhost:{port}").post(b"parcel")
        link_to(f"https://127.0.0.1:{port}").post(b"parcel")
    assert sum(map(len, heads)) == 1


def certificate(path):
    """A fresh key and a certificate for 127.0.0.1 that it signed itself, in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
            .sign(key, hashes.SHA256()))
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
                     + made.public_bytes(serialization.Encoding.PEM))
    return path
