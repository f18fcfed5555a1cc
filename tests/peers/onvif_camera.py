"""An ONVIF camera of the tests: answers Probes in the loopback network, and SOAP requests over HTTP."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = ("239.255.255.250", 3702)
USER, PASSWORD = "viewer", "se#same"

_SOAP = """<?xml version="1.0" encoding="UTF-8"?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:tds="http://www.onvif.org/ver10/device/wsdl"
 xmlns:trt="http://www.onvif.org/ver10/media/wsdl" xmlns:tt="http://www.onvif.org/ver10/schema"
 xmlns:tr2="http://www.onvif.org/ver20/media/wsdl" xmlns:ter="http://www.onvif.org/ver10/error"><s:Body>{}</s:Body></s:Envelope>"""
_MATCH = """<?xml version="1.0" encoding="UTF-8"?>
<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope" xmlns:w="http://schemas.xmlsoap.org/ws/2004/08/addressing"
 xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"><e:Header><w:RelatesTo>{probe}</w:RelatesTo></e:Header>
<e:Body><d:ProbeMatches><d:ProbeMatch><w:EndpointReference><w:Address>urn:uuid:1</w:Address></w:EndpointReference>
<d:Types>dn:NetworkVideoTransmitter</d:Types><d:Scopes>onvif://www.onvif.org/type/video_encoder
onvif://www.onvif.org/name/{name} onvif://www.onvif.org/hardware/IPC%2D1</d:Scopes>
<d:XAddrs>{addresses}</d:XAddrs></d:ProbeMatch></d:ProbeMatches></e:Body></e:Envelope>"""
_NOT_AUTHORIZED = """<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>ter:NotAuthorized</s:Value>
</s:Subcode></s:Code><s:Reason><s:Text xml:lang="en">Sender not Authorized</s:Text></s:Reason></s:Fault>"""
_NOT_SUPPORTED = _NOT_AUTHORIZED.replace("NotAuthorized", "ActionNotSupported").replace(
    "not Authorized", "asks too much"
)
_NOW = """<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>Manual</tt:DateTimeType>
<tt:DaylightSavings>false</tt:DaylightSavings><tt:UTCDateTime><tt:Time><tt:Hour>1</tt:Hour><tt:Minute>2</tt:Minute>
<tt:Second>3</tt:Second></tt:Time><tt:Date><tt:Year>2001</tt:Year><tt:Month>1</tt:Month><tt:Day>1</tt:Day></tt:Date>
</tt:UTCDateTime></tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>"""
_SERVICES = """<tds:GetServicesResponse><tds:Service><tds:Namespace>http://www.onvif.org/ver10/media/wsdl</tds:Namespace>
<tds:XAddr>http://192.0.2.1:{port}/onvif/media</tds:XAddr><tds:Version><tt:Major>2</tt:Major><tt:Minor>0</tt:Minor>
</tds:Version></tds:Service></tds:GetServicesResponse>"""
_SERVICES_2 = _SERVICES.replace("ver10/media", "ver20/media")
_CAPABILITIES = """<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media>
<tt:XAddr>http://192.0.2.1:{port}/onvif/media</tt:XAddr></tt:Media></tds:Capabilities></tds:GetCapabilitiesResponse>"""
_PROFILE = """<trt:Profiles token="{token}" fixed="true"><tt:Name>{token}</tt:Name>
<tt:VideoEncoderConfiguration token="v"><tt:Name>v</tt:Name><tt:UseCount>1</tt:UseCount><tt:Encoding>H264</tt:Encoding>
<tt:Resolution><tt:Width>{width}</tt:Width><tt:Height>{height}</tt:Height></tt:Resolution><tt:Quality>1</tt:Quality>
<tt:RateControl><tt:FrameRateLimit>25</tt:FrameRateLimit><tt:EncodingInterval>1</tt:EncodingInterval>
<tt:BitrateLimit>1</tt:BitrateLimit></tt:RateControl></tt:VideoEncoderConfiguration></trt:Profiles>"""
_PROFILES = (
    "<trt:GetProfilesResponse>"
    + _PROFILE.format(token="main", width=1920, height=1080)
    + _PROFILE.format(token="sub", width=640, height=360)
    + "</trt:GetProfilesResponse>"
)
_PROFILES_2 = """<tr2:GetProfilesResponse><tr2:Profiles token="main" fixed="true"><tr2:Name>main</tr2:Name>
<tr2:Configurations><tr2:VideoSource token="s"><tt:Name>s</tt:Name></tr2:VideoSource><tr2:VideoEncoder token="v"
 GovLength="50" Profile="Main"><tt:Name>v</tt:Name><tt:UseCount>1</tt:UseCount><tt:Encoding>H265</tt:Encoding>
<tt:Resolution><tt:Width>2560</tt:Width><tt:Height>1440</tt:Height></tt:Resolution><tt:RateControl><tt:FrameRateLimit>20
</tt:FrameRateLimit><tt:BitrateLimit>1</tt:BitrateLimit></tt:RateControl><tt:Quality>1</tt:Quality></tr2:VideoEncoder>
</tr2:Configurations></tr2:Profiles></tr2:GetProfilesResponse>"""
_URI_2 = """<tr2:GetStreamUriResponse>
<tr2:Uri>rtsp://viewer:se%23same@127.0.0.1:8554/{token}?channel=1&amp;pwd=se%23same</tr2:Uri></tr2:GetStreamUriResponse>"""
_URI = """<trt:GetStreamUriResponse><trt:MediaUri><tt:Uri>rtsp://viewer:se%23same@127.0.0.1:8554/{token}?channel=1&amp;pwd=se%23same</tt:Uri>
<tt:InvalidAfterConnect>false</tt:InvalidAfterConnect><tt:InvalidAfterReboot>false</tt:InvalidAfterReboot>
<tt:Timeout>PT0S</tt:Timeout></trt:MediaUri></trt:GetStreamUriResponse>"""


class OnvifCamera:
    """Its clock is wrong by years, and it announces and names also an address at which it does not answer.

    It answers the service Media, or only Media2.
    """

    def __init__(self, name: str, port: int, *, has_services: bool = True, has_media2: bool = False) -> None:
        self.name, self.port, self.has_services, self.has_media2 = name, port, has_services, has_media2
        self.operations: list[str] = []

    def match(self, probe: str) -> bytes:
        addresses = " ".join(f"http://{host}:{self.port}/onvif/device_service" for host in ("192.0.2.1", "127.0.0.1"))
        return _MATCH.format(probe=probe, name=self.name, addresses=addresses).encode()

    def answer(self, request: str) -> tuple[int, str]:
        body = re.sub(r".*<[\w-]*:?Body[^>]*>", "", request, flags=re.DOTALL)
        operation = re.match(r"\s*<(?:[\w-]+:)?(\w+)", body)
        assert operation is not None, request
        self.operations.append(operation[1])
        if operation[1] == "GetSystemDateAndTime":
            return 200, _NOW
        if operation[1] == "GetCapabilities":
            return 200, _CAPABILITIES.format(port=self.port)
        if operation[1] == "GetServices":
            services = _SERVICES_2 if self.has_media2 else _SERVICES
            return (200, services.format(port=self.port)) if self.has_services else (400, _NOT_SUPPORTED)
        if not _is_logged_in(request):
            return 400, _NOT_AUTHORIZED
        if operation[1] == "GetProfiles":
            return 200, _PROFILES_2 if self.has_media2 else _PROFILES
        token = re.search(r"ProfileToken>(\w+)<", body)
        assert operation[1] == "GetStreamUri"
        assert token is not None
        return 200, (_URI_2 if self.has_media2 else _URI).format(token=token[1])


def _is_logged_in(request: str) -> bool:
    """WS-UsernameToken with a digest, whose time must be that of the camera."""
    parts = {
        name: found[1]
        for name in ("Username", "Password", "Nonce", "Created")
        if (found := re.search(rf":{name}(?: [^>]*)?>([^<]*)<", request))
    }
    if len(parts) < 4 or parts["Username"] != USER or not parts["Created"].startswith("2001-01-01T01:0"):
        return False
    made = base64.b64decode(parts["Nonce"]) + parts["Created"].encode() + PASSWORD.encode()
    return parts["Password"] == base64.b64encode(hashlib.sha1(made, usedforsecurity=False).digest()).decode()


@contextmanager
def onvif_camera(name: str, *, has_services: bool = True, has_media2: bool = False) -> Iterator[OnvifCamera]:
    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = self.rfile.read(int(self.headers["Content-Length"])).decode()
            code, body = camera.answer(request)
            content = _SOAP.format(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/soap+xml; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server, _group() as listening:
        camera = OnvifCamera(name, server.server_address[1], has_services=has_services, has_media2=has_media2)
        stopped = threading.Event()
        threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}),
            threading.Thread(target=_answer_probes, args=(listening, camera, stopped)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield camera
        finally:
            server.shutdown()
            stopped.set()
            for thread in threads:
                thread.join()


@contextmanager
def _group() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(GROUP)
        member = socket.inet_aton(GROUP[0]) + socket.inet_aton("127.0.0.1")
        listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        listening.settimeout(0.1)
        yield listening


def _answer_probes(listening: socket.socket, camera: OnvifCamera, stopped: threading.Event) -> None:
    while not stopped.is_set():
        with contextlib.suppress(TimeoutError):
            probe, client = listening.recvfrom(65535)
            asked = re.search(r"MessageID>([^<]+)<", probe.decode())
            if asked and "Probe</" in probe.decode() and client[0] == "127.0.0.1":
                listening.sendto(camera.match(asked[1]), client)
