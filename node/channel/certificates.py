"""TLS contexts over a node's own Ed25519 key, and the key behind the certificate of the peer that answered.

The certificate is only a carrier: nobody signs it but its own key, and no name, date or extension in it is
looked at. What counts is the key, which the TLS 1.3 handshake proves the server to hold. Only a server makes
certificates, so only a server loads the library that does.
"""

import os
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.dht import Identity
from shoal.node.channel.errors import Misbehaved

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PROTOCOL_NAME = "shoal/1"  # ALPN
MAX_CERTIFICATE_BYTES = 4_096  # an Ed25519 certificate of our own has about 230
_KEY_HEAD = bytes.fromhex("300506032b6570032100")  # RFC 8410: an Ed25519 key follows, and that is all
_VERSION_3 = bytes.fromhex("a003020102")
_INTEGER, _BIT_STRING, _SEQUENCE = 0x02, 0x03, 0x30  # DER tags
_FROM = datetime(2020, 1, 1, tzinfo=UTC)  # fixed, so that a certificate tells nothing about its owner's clock
_UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280: "no well-defined expiration date"


def server_context(identity: Identity) -> ssl.SSLContext:
    """The context a node serves with: its own key, no tickets, so that no session outlives its connection."""
    context = _bare_context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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

    This is all that a caller reads of a certificate, and a library's parser would take long to load. Lengths must have
    their shortest form. So OpenSSL, to which the server proves its key, cannot have read another one.
    """
    if certificate is None or len(certificate) > MAX_CERTIFICATE_BYTES:
        raise Misbehaved("the peer showed no certificate of reasonable size")
    try:
        signed, *_ = _contents(_only(certificate, _SEQUENCE), (_SEQUENCE, _SEQUENCE, _BIT_STRING))
        if not signed.startswith(_VERSION_3):
            raise ValueError("no version 3")
        # serial number, algorithm, issuer, validity, subject, key; extensions may follow
        *_, key = _contents(signed[len(_VERSION_3) :], (_INTEGER, *5 * (_SEQUENCE,)), may_follow=True)
    except (ValueError, IndexError) as error:
        raise Misbehaved("the peer's certificate cannot be read") from error
    if not key.startswith(_KEY_HEAD) or len(key) != len(_KEY_HEAD) + 32:
        raise Misbehaved("the peer's certificate is not over an Ed25519 key")
    return key[len(_KEY_HEAD) :]


def _only(der: bytes, tag: int) -> bytes:
    """What is in the one element that `der` is. Raises ValueError or IndexError for anything else."""
    (found,) = _contents(der, (tag,))
    return found


def _contents(der: bytes, tags: Sequence[int], *, may_follow: bool = False) -> list[bytes]:
    """What is in each of the elements that stand in a row. Raises ValueError or IndexError where they are others."""
    found = []
    for tag in tags:
        size, head = der[1], 2
        if size in (0x81, 0x82):
            head += size - 0x80
            size = int.from_bytes(der[2:head])
            if size < (0x80 if head == 3 else 0x100):
                raise ValueError("a length is longer than it need be")
        elif size >= 0x80:
            raise ValueError("a length that no certificate has here")
        if der[0] != tag or len(der) < head + size:
            raise ValueError("another element, or one cut short")
        found.append(der[head : head + size])
        der = der[head + size :]
    if der and not may_follow:
        raise ValueError("something follows")
    return found


def _bare_context(kind: int) -> ssl.SSLContext:
    context = ssl.SSLContext(kind)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([PROTOCOL_NAME])
    return context


def _load_key(context: ssl.SSLContext, key: "Ed25519PrivateKey") -> None:
    """Python takes keys from files alone: give it one under a password that never leaves this function.

    So even a crash between writing and removing leaves nothing of use behind.
    """
    password = os.urandom(32).hex().encode()
    with tempfile.TemporaryDirectory(prefix="shoal-") as folder:  # 0700
        path = Path(folder) / "key.pem"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_encrypted_key(key, password) + _self_signed(key))
        context.load_cert_chain(path, password=password)


def _encrypted_key(key: "Ed25519PrivateKey", password: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _self_signed(key: "Ed25519PrivateKey") -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shoal")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
    )
    return builder.sign(key, None).public_bytes(Encoding.PEM)
