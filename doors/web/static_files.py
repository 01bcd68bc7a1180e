"""The files of the page, read once: nothing that is asked for can name another file of this machine."""

import re
from pathlib import Path

from shoal.doors.web.http import Headers, HttpResponse

FOLDER = Path(__file__).parent / "static"
MAX_BYTES = 2**20
INDEX = "/index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
HEADERS: Headers = (
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
    ("x-frame-options", "DENY"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
)
API_POLICY = ("content-security-policy", "default-src 'none'; frame-ancestors 'none'")
_PLAIN = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)?[A-Za-z0-9_-][A-Za-z0-9._-]*")


def load_static(folder: Path = FOLDER) -> dict[str, HttpResponse]:
    """The answer for each path of the page. Files of other types, and folders within folders, are no part of it."""
    found: dict[str, HttpResponse] = {}
    total = 0
    for file in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        kind = TYPES.get(file.suffix)
        path = f"/{file.relative_to(folder).as_posix()}"
        if kind is None or not file.is_file() or not _PLAIN.fullmatch(path):
            continue
        content = file.read_bytes()
        total += len(content)
        if total > MAX_BYTES:
            raise ValueError(f"the page has more than {MAX_BYTES} bytes")
        found[path] = HttpResponse(200, (("content-type", kind),), content)
    found["/"] = found[INDEX]
    return found


def page_policy(content_origin: str) -> tuple[str, str]:
    """What the page may load: its own files, and media and images from the content listener."""
    rules = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        f"img-src 'self' data: {content_origin}",
        f"media-src {content_origin}",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types lit-html",
    )
    return ("content-security-policy", "; ".join(rules))
