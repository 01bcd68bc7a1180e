"""Certificates of nodes, and those that no honest node shows."""

import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from shoal.dht import Identity


def certificate_of(identity: Identity) -> bytes:
    """The DER of a certificate such as nodes show."""
    key = Ed25519PrivateKey.from_private_bytes(identity.secret)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shoal")])
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, moment, moment.replace(year=2120))
    return builder.sign(key, None).public_bytes(serialization.Encoding.DER)


def certificates_with(identity: Identity, version: int) -> ssl.SSLContext:
    """A server's context whose certificate claims an X.509 version that it has not. Its signature is wrong, too."""
    key = Ed25519PrivateKey.from_private_bytes(identity.secret)
    der = bytearray(certificate_of(identity))
    at = der.index(bytes.fromhex("a003020102")) + 4
    der[at] = version
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["shoal/1"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + ssl.DER_cert_to_PEM_cert(bytes(der)).encode())
        context.load_cert_chain(path)
    return context
