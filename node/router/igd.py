"""UPnP-IGD, sans I/O: the search (SSDP), a router's description, and its requests (SOAP).

Anything in the home may answer a search. So a device is asked at its own address only, whatever its description says:
else it could have us send requests to other machines, or to this one.
"""

import re
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from shoal.node.router.values import RouterError, RouterRefused
from shoal.values import dataclass

GROUP = ("239.255.255.250", 1900)  # where devices listen for searches
MAX_DATAGRAM_BYTES = 2048
MAX_DOCUMENT_BYTES = 65_536  # of a description; common ones have 5,000
MAX_URL_CHARS = 512
MAX_SERVICES = 4  # of one device that are tried
MAX_VALUE_CHARS = 256

SERVICES = (  # that map ports, the best first
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
SEARCHED = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    *SERVICES[1:],
)

NO_SUCH_ENTRY = 714
CONFLICTS = frozenset({718, 724, 727, 728, 729, 732})  # the outer port is taken, or not to be had
ONLY_PERMANENT = 725  # a router that knows no leases

_REASONS = {
    401: "it does not map ports",
    402: "it did not understand the request",
    501: "it failed",
    606: "it does not allow this machine to map ports",
    715: "it does not map a port for all senders",
    716: "it does not allow that outer port",
    718: "the outer port is taken",
    725: "it knows no leases",
}


@dataclass(frozen=True, slots=True)
class HttpPlace:
    """Where an HTTP request goes: always an IPv4 address, never a name."""

    host: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class WanService:
    """A service of a router that maps ports."""

    kind: str
    place: HttpPlace


class SoapFault(RouterRefused):
    """The router said no, with a number of UPnP."""

    def __init__(self, code: int) -> None:
        super().__init__(_REASONS.get(code, f"it gives the reason {code}"))
        self.code = code


# -- the search ----------------------------------------------------------------------------------------


def search_request(target: str) -> bytes:
    """The datagram that asks for devices of a kind, which answer within a second."""
    lines = ("M-SEARCH * HTTP/1.1", "HOST: 239.255.255.250:1900", 'MAN: "ssdp:discover"', "MX: 1", f"ST: {target}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def read_found(datagram: bytes, source: str) -> HttpPlace:
    """Where the device that sent this answer describes itself.

    :raises RouterError: it is no answer to a search of ours, or names another host than its sender.
    """
    head, *lines = datagram[:MAX_DATAGRAM_BYTES].decode("latin-1").split("\r\n")
    if not re.fullmatch(r"HTTP/1\.[01] 200( .*)?", head):
        raise RouterError("it sent no answer to the search")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    if fields.get("st") not in SEARCHED:
        raise RouterError("it is no router")
    return _place(fields.get("location", ""), source)


def _place(url: str, host: str) -> HttpPlace:
    """The place of a URL, which has to be on `host`."""
    try:
        parts = urlsplit(url)
        port = 80 if parts.port is None else parts.port
    except ValueError as error:
        raise RouterError("it names a URL that is none") from error
    if len(url) > MAX_URL_CHARS or parts.scheme != "http" or not port or "@" in parts.netloc:
        raise RouterError("it names a URL that is none")
    if parts.hostname != host:
        raise RouterError("it names a URL on another machine")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not re.fullmatch(r"/[!-~]*", path):
        raise RouterError("it names a URL that is none")
    return HttpPlace(host, port, path)


# -- the description -----------------------------------------------------------------------------------


def read_description(document: bytes, place: HttpPlace) -> list[WanService]:
    """The services in a description that map ports, the best first; `place` is where the document came from.

    :raises RouterError: it is malformed, or there is none.
    """
    root = _parsed(document)
    base = next((each.text or "" for each in root.iter() if _name(each) == "URLBase"), "").strip()
    here = base or f"http://{place.host}:{place.port}{place.path}"
    found: list[WanService] = []
    for element in root.iter():
        if _name(element) != "service":
            continue
        fields = {_name(child): (child.text or "").strip() for child in element}
        kind, control = fields.get("serviceType", ""), fields.get("controlURL", "")
        if kind not in SERVICES or not control:
            continue
        try:
            found.append(WanService(kind, _place(_joined(here, control), place.host)))
        except RouterError:
            continue
    if not found:
        raise RouterError("it has no service that maps ports")
    return sorted(found, key=lambda each: SERVICES.index(each.kind))[:MAX_SERVICES]


def _joined(base: str, relative: str) -> str:
    try:
        return urljoin(base, relative)
    except ValueError as error:
        raise RouterError("it names a URL that is none") from error


# -- requests ------------------------------------------------------------------------------------------


def soap_request(kind: str, action: str, arguments: Mapping[str, str | int]) -> tuple[str, bytes]:
    """The SOAPAction header and the body of a request."""
    inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in arguments.items())
    body = (
        '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{kind}">{inner}</u:{action}></s:Body></s:Envelope>\r\n'
    )
    return f'"{kind}#{action}"', body.encode()


def read_reply(status: int, document: bytes, action: str) -> dict[str, str]:
    """The values in a router's reply.

    :raises SoapFault: the router said no.
    :raises RouterError: it is malformed.
    """
    if status not in (200, 500):
        raise RouterError(f"it answered with HTTP status {status}")
    root = _parsed(document)
    if status == 200:
        for element in root.iter():
            if _name(element) == f"{action}Response":
                return {_name(child): (child.text or "").strip()[:MAX_VALUE_CHARS] for child in element}
        raise RouterError("it answered something else")
    code = next((each.text or "" for each in root.iter() if _name(each) == "errorCode"), "").strip()
    if not re.fullmatch(r"[0-9]{1,5}", code):
        raise RouterError("it failed without a reason")
    raise SoapFault(int(code))


def _parsed(document: bytes) -> ElementTree.Element:
    """XML without a document type: entities that grow are defined there."""
    if len(document) > MAX_DOCUMENT_BYTES:
        raise RouterError(f"it sent a document of more than {MAX_DOCUMENT_BYTES} bytes")
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        parser.feed(document)
        root: ElementTree.Element = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise RouterError("it sent a document that is malformed") from error
    return root


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses documents that define entities."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise RouterError("it sent a document with a document type")


def _name(element: ElementTree.Element) -> str:
    """A tag without its namespace, with which routers are careless."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
