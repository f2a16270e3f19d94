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


def certificate(path, days=1):
    """A fresh key and a certificate for 127.0.0.1 that it signed itself, in one file. days : until it ends."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=5)).not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
            .sign(key, hashes.SHA256()))
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
                     + made.public_bytes(serialization.Encoding.PEM))
    return path


# -- causes, in words for whoever can mend them ----------------------------------------------------------------------


@pytest.mark.parametrize(("status", "words", "final"), [
    (413, r"larger than it lets through \(6 bytes\)", True), (407, "the proxy wants a password", True),
    (404, "there is no coordinator at this path", True), (502, "the coordinator behind it does not", False),
    (503, "overloaded", False), (504, "in time", False), (429, "too many requests", False), (418, "is a proxy", True)])
def test_the_status_of_somebody_on_the_way_is_explained(status, words, final):
    """Who answered, why, and whether waiting helps; Retry-After is kept to."""
    answer = f"HTTP/1.1 {status} X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".encode()
    with server(answer) as (port, _), pytest.raises(Unreachable, match=words) as caught:
        link_to(f"http://127.0.0.1:{port}").post(b"parcel")

    assert (caught.value.final, caught.value.after) == (final, 7.0)


@pytest.mark.parametrize("after", ["", "-1", "nan", "1e9", "99999999999", "Wed, 21 Oct 2026 07:28:00 GMT", "٣"])
def test_a_retry_after_that_is_none_makes_nobody_wait_for_ever(after):
    from fedstats.transport import causes

    assert 0.0 <= causes.seconds_of(after) <= 60.0
    assert causes.seconds_of("5") == 5.0 and causes.seconds_of("900") == 60.0


def test_nobody_listens_is_told_from_no_such_name():
    with pytest.raises(Unreachable, match=r"nobody listens at http://127.0.0.1") as caught:
        link_to(f"http://127.0.0.1:{closed_port()}").post(b"parcel")
    assert caught.value.gone

    with pytest.raises(Unreachable, match=r'the name "hub.invalid" is not known here \(DNS\)') as caught:
        link_to("http://hub.invalid:8443").post(b"parcel")
    assert not caught.value.gone


def test_a_wrong_proxy_is_named_without_its_password(monkeypatch):
    """Nobody listens at the proxy: it, and not the coordinator, is what has to be mended."""
    port = closed_port()
    monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
    with pytest.raises(Unreachable, match=f"nobody listens at the proxy http://127.0.0.1:{port}") as caught:
        link_to("http://hub.example.org:8443").post(b"parcel")

    assert "no_proxy" in caught.value.hint and "secret" not in str(caught.value) + caught.value.hint


def test_a_proxy_that_refuses_to_connect_is_named(monkeypatch):
    with server(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as (port, _):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(Unreachable, match=f"the proxy http://127.0.0.1:{port} refuses") as caught:
            link_to("https://hub.example.org:8443").post(b"parcel")
    assert caught.value.final and "password" in caught.value.hint


def test_what_is_wrong_with_a_certificate_is_said(tmp_path, monkeypatch):
    """Nobody vouches for it; another name; out of date; no TLS at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path / "hub.pem"))
    with server(TAKEN, context=context) as (port, _):
        with pytest.raises(Unreachable, match=r"certificate is not trusted \(self.signed certificate\)") as caught:
            link_to(f"https://127.0.0.1:{port}").post(b"parcel")
        assert caught.value.final and "SSL_CERT_FILE" in caught.value.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "hub.pem"))
        with pytest.raises(Unreachable, match=r"not trusted \(Hostname mismatch") as caught:
            link_to(f"https://localhost:{port}").post(b"parcel")
        assert "is the address right" in caught.value.hint
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.load_cert_chain(certificate(tmp_path / "old.pem", days=-2))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "old.pem"))
    with server(TAKEN, context=old) as (port, _), pytest.raises(Unreachable, match="expired") as caught:
        link_to(f"https://127.0.0.1:{port}").post(b"parcel")
    assert "clock of this machine" in caught.value.hint


def test_a_server_without_tls_is_told_from_one_with_a_wrong_certificate():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def plain():
            near, _ = listening.accept()
            with near:
                near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                near.recv(4096)

        threading.Thread(target=plain, daemon=True).start()
        with pytest.raises(Unreachable, match="it does not speak TLS") as caught:
            link_to(f"https://127.0.0.1:{listening.getsockname()[1]}").post(b"parcel")
    assert caught.value.final and "http://" in caught.value.hint


def test_a_busy_coordinator_says_when_to_come_back():
    body = b'{"code":"unreachable","who":"hub","what":"busy","hint":""}'
    head = b"HTTP/1.1 503 X\r\nRetry-After: 3\r\nContent-Length: %d\r\n\r\n" % len(body)
    with server(head + body) as (port, _), pytest.raises(Unreachable, match="too much to do") as caught:
        link_to(f"http://127.0.0.1:{port}").post(b"parcel")

    assert (caught.value.after, caught.value.final, caught.value.who) == (3.0, False, "")
