"""TLS contexts over a node's own Ed25519 key, and the key behind the certificate of the peer that answered.

The certificate is only a carrier: nobody signs it but its own key, and no name, date or extension in it is
looked at. What counts is the key, which the TLS 1.3 handshake proves the server to hold.
"""

import os
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from shoal.dht import Identity
from shoal.node.channel.errors import Misbehaved

PROTOCOL_NAME = "shoal/1"  # ALPN
MAX_CERTIFICATE_BYTES = 4_096  # an Ed25519 certificate of our own has about 230
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shoal")])
_FROM = datetime(2020, 1, 1, tzinfo=UTC)  # fixed, so that a certificate tells nothing about its owner's clock
_UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280: "no well-defined expiration date"


def server_context(identity: Identity) -> ssl.SSLContext:
    """The context a node serves with: its own key, no tickets, so that no session outlives its connection."""
    context = _bare_context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    _load_key(context, Ed25519PrivateKey.from_private_bytes(identity.secret))
    return context


def client_context() -> ssl.SSLContext:
    """The context for calls: no certificate of the caller's own, none refused before its key is known."""
    context = _bare_context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def certificate_key(certificate: bytes | None) -> bytes:
    """The 32-byte Ed25519 key of a DER certificate. Raises Misbehaved when there is none, or of another kind.

    The parser is a library's, and the bytes are a stranger's: an X.509 version that does not exist raises an error of
    its own, which is no ValueError. Whatever it raises is about this certificate.
    """
    if certificate is None or len(certificate) > MAX_CERTIFICATE_BYTES:
        raise Misbehaved("the peer showed no certificate of reasonable size")
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except Exception as error:
        raise Misbehaved(f"the peer's certificate cannot be read ({type(error).__name__})") from error
    if not isinstance(key, Ed25519PublicKey):
        raise Misbehaved("the peer's certificate is not over an Ed25519 key")
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _bare_context(kind: int) -> ssl.SSLContext:
    context = ssl.SSLContext(kind)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([PROTOCOL_NAME])
    return context


def _load_key(context: ssl.SSLContext, key: Ed25519PrivateKey) -> None:
    """Python takes keys from files alone: give it one under a password that never leaves this function.

    So even a crash between writing and removing leaves nothing of use behind.
    """
    password = os.urandom(32).hex().encode()
    with tempfile.TemporaryDirectory(prefix="shoal-") as folder:  # 0700
        path = Path(folder) / "key.pem"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_encrypted_key(key, password) + _self_signed(key))
        context.load_cert_chain(path, password=password)


def _encrypted_key(key: Ed25519PrivateKey, password: bytes) -> bytes:
    encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _self_signed(key: Ed25519PrivateKey) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
    )
    return builder.sign(key, None).public_bytes(serialization.Encoding.PEM)
