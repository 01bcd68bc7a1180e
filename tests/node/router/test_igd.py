"""UPnP-IGD without a network: searches, descriptions and replies as routers send them, and as nobody should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.router import RouterError
from shoal.node.router.igd import (
    MAX_DOCUMENT_BYTES,
    MAX_SERVICES,
    HttpPlace,
    SoapFault,
    WanService,
    read_description,
    read_found,
    read_reply,
    search_request,
    soap_request,
)

HOST = "192.168.1.1"
PLACE = HttpPlace(HOST, 5000, "/rootDesc.xml")
IP1, IP2 = (f"urn:schemas-upnp-org:service:WANIPConnection:{number}" for number in (1, 2))
PPP = "urn:schemas-upnp-org:service:WANPPPConnection:1"


def answer(location: str, st_field: str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1") -> bytes:
    fields = (
        "HTTP/1.1 200 OK",
        "CACHE-CONTROL: max-age=120",
        f"ST: {st_field}",
        f"Location:{location}",
        "EXT:",
        "",
        "",
    )
    return "\r\n".join(fields).encode()


def description(*services: tuple[str, str], base: str = "") -> bytes:
    listed = "".join(
        f"<service><serviceType>{kind}</serviceType><controlURL>{url}</controlURL><SCPDURL>/x</SCPDURL></service>"
        for kind, url in services
    )
    return (
        f'<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">{base}<device><deviceList><device>'
        f"<serviceList>{listed}</serviceList></device></deviceList></device></root>"
    ).encode()


def test_a_search_asks_for_one_kind() -> None:
    assert search_request("a:b") == (
        b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: a:b\r\n\r\n'
    )


def test_a_device_is_asked_where_it_answered_from() -> None:
    assert read_found(answer(f"http://{HOST}:5000/rootDesc.xml"), HOST) == PLACE
    assert read_found(answer(f"http://{HOST}/d?x=1"), HOST) == HttpPlace(HOST, 80, "/d?x=1")


@pytest.mark.parametrize(
    "location",
    [
        "http://192.168.1.9:5000/d.xml",  # another machine of the home
        "http://127.0.0.1:631/",  # this one
        "http://router.example/d.xml",  # a name could lead anywhere
        "http://192.168.1.1@127.0.0.1/",
        "https://192.168.1.1/d.xml",
        "http://192.168.1.1:0/d.xml",
        "http://192.168.1.1:99999/d.xml",
        "http://192.168.1.1:5000/d.xml\x01",
        "http://192.168.1.1:5000/" + "a" * 600,
        "http://[192.168.1.1/",
        "",
    ],
)
def test_no_answer_leads_to_another_machine(location: str) -> None:
    with pytest.raises(RouterError):
        read_found(answer(location), HOST)


def test_what_is_no_router_is_left_alone() -> None:
    with pytest.raises(RouterError, match="no router"):
        read_found(answer(f"http://{HOST}:5000/d.xml", "upnp:rootdevice"), HOST)
    with pytest.raises(RouterError, match="no answer"):
        read_found(b"NOTIFY * HTTP/1.1\r\n\r\n", HOST)


def test_the_best_services_come_first_wherever_they_stand() -> None:
    found = read_description(description((PPP, "/ppp"), (IP1, "ip1"), ("urn:x", "/x"), (IP2, "/ip2")), PLACE)
    assert found == [
        WanService(IP2, HttpPlace(HOST, 5000, "/ip2")),
        WanService(IP1, HttpPlace(HOST, 5000, "/ip1")),
        WanService(PPP, HttpPlace(HOST, 5000, "/ppp")),
    ]
    based = description((IP1, "ctl"), base=f"<URLBase>http://{HOST}:49152/igd/</URLBase>")
    assert read_description(based, PLACE) == [WanService(IP1, HttpPlace(HOST, 49152, "/igd/ctl"))]


@pytest.mark.parametrize(
    "document",
    [
        description((IP1, "http://127.0.0.1:631/admin"), (IP2, "http://10.0.0.1/")),  # requests for other machines
        description((IP1, "ctl"), base="<URLBase>http://8.8.8.8/</URLBase>"),
        description((IP1, "")),
        description(),
        b"",
        b"\xff\xfe<",
        b"<root>" * 20_000,
        b"<a>" + b" " * MAX_DOCUMENT_BYTES + b"</a>",
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b'<!DOCTYPE a [<!ENTITY x "yyyyyyyyyy"><!ENTITY z "&x;&x;&x;">]><a>&z;</a>',
    ],
)
def test_descriptions_that_are_refused(document: bytes) -> None:
    with pytest.raises(RouterError):
        read_description(document, PLACE)


def test_many_services_are_cut() -> None:
    assert len(read_description(description(*((IP1, f"/{number}") for number in range(300))), PLACE)) == MAX_SERVICES


def test_requests_and_replies() -> None:
    header, body = soap_request(IP1, "AddPortMapping", {"NewExternalPort": 4750, "NewPortMappingDescription": "a<&b"})
    assert header == f'"{IP1}#AddPortMapping"'
    assert (
        f'<u:AddPortMapping xmlns:u="{IP1}"><NewExternalPort>4750</NewExternalPort>'
        "<NewPortMappingDescription>a&lt;&amp;b</NewPortMappingDescription></u:AddPortMapping>"
    ).encode() in body
    reply = b"<s:E xmlns:s='x'><s:Body><u:GResponse xmlns:u='y'><A> 5.5.5.1 </A><B/></u:GResponse></s:Body></s:E>"
    assert read_reply(200, reply, "G") == {"A": "5.5.5.1", "B": ""}
    fault = b"<s:E xmlns:s='x'><d><UPnPError xmlns='z'><errorCode>718</errorCode></UPnPError></d></s:E>"
    with pytest.raises(SoapFault, match="taken") as caught:
        read_reply(500, fault, "G")
    assert caught.value.code == 718


@pytest.mark.parametrize(
    ("status", "document"),
    [(404, b"<a/>"), (200, b"<a/>"), (500, b"<a/>"), (500, b"<errorCode>1e9</errorCode>"), (200, b"no")],
)
def test_replies_that_make_no_sense(status: int, document: bytes) -> None:
    with pytest.raises(RouterError):
        read_reply(status, document, "G")


@given(st.binary(max_size=400) | st.text("<>/abc&;!DOCTYPE[] \"'=", max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(document: bytes) -> None:
    for read in (
        lambda: read_found(document, HOST),
        lambda: read_found(b"HTTP/1.1 200 OK\r\n" + document, HOST),
        lambda: read_description(document, PLACE),
        lambda: read_reply(200, document, "G"),
        lambda: read_reply(500, document, "G"),
    ):
        try:
            read()
        except RouterError:
            continue


@given(st.text("htp:/@[]12.68%?#é\0 ", max_size=40))
def test_whatever_url_a_device_names_it_is_asked_at_its_own_address(url: str) -> None:
    try:
        place = read_found(answer(url), HOST)
    except RouterError:
        return
    assert place.host == HOST
    assert place.path.isascii()
