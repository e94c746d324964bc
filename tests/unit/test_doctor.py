"""`mien doctor`: which machines of a cluster it looks for, where it is not let in, and what of the
tracking server's certificate it trusts."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cluster import doctor, nodes, session
from cluster.config import ClusterConfig, read
from cluster.doctor import examine_cluster

ROOT = Path(__file__).parents[2]
OWN, CLOUD = ROOT / "ray_cluster.yaml", ROOT / "cluster" / "examples" / "aws_gpu.yaml"


@pytest.mark.parametrize(("file", "known"), [(OWN, read(OWN)), (CLOUD, None), (None, None)])
def test_the_machines_of_the_file_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, file: Path | None, known: ClusterConfig | None
) -> None:
    asked = []
    monkeypatch.setattr(session, "connect", nullcontext)
    monkeypatch.setattr(nodes, "examine_nodes", lambda config: asked.append(config) or [])
    assert list(examine_cluster(file)) == []
    assert asked == [known]


def test_a_cluster_that_lets_nobody_in_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def refuse() -> Iterator[None]:
        raise RuntimeError("Version mismatch: the cluster has Ray 2.59")
        yield

    monkeypatch.setattr(session, "connect", refuse)
    (check,) = examine_cluster()
    assert (check.name, check.state) == ("cluster", "fail")
    assert "Version mismatch" in check.found and "make setup" in check.mend


class Healthy(StreamRequestHandler):
    """Says to every request that all is well."""

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")


def write_certificate(certificate: Path, key: Path) -> None:
    """PEM files of an authority that has signed for 127.0.0.1, and is known to nobody."""
    own, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "private")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(address, critical=False)
        .sign(own, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A server's address, and the certificate of the authority that signed its own."""
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    write_certificate(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH", raising=False)
    with TCPServer(("127.0.0.1", 0), Healthy) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}", certificate
        server.shutdown()


def test_a_tracking_server_of_a_private_authority_answers_those_who_know_it(
    private: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, authority = private
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    check = doctor._tracking()
    assert check.state == "warn" and "MLFLOW_TRACKING_SERVER_CERT_PATH" in check.mend
    assert "certificate verify failed" in check.found
    assert "certificate verify failed" in nodes.Probe().asks_mlflow(address)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(authority))
    check = doctor._tracking()
    assert (check.state, check.found) == ("ok", f"{address}: 200")
    assert nodes.Probe().asks_mlflow(address) == ""
