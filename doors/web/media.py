"""What a browser may show of a file, by its name. All else is downloaded: it could be a page with a script."""

DOWNLOAD = "application/octet-stream"
_TYPES = {
    "video/mp4": ("mp4", "m4v"),
    "video/webm": ("webm",),
    "video/ogg": ("ogv",),
    "video/quicktime": ("mov",),
    "video/x-matroska": ("mkv",),
    "video/x-msvideo": ("avi",),
    "video/mpeg": ("mpg", "mpeg"),
    "video/mp2t": ("ts", "m2ts"),
    "audio/mpeg": ("mp3",),
    "audio/mp4": ("m4a", "m4b"),
    "audio/aac": ("aac",),
    "audio/ogg": ("ogg", "oga", "opus"),
    "audio/flac": ("flac",),
    "audio/wav": ("wav",),
    "image/jpeg": ("jpg", "jpeg"),
    "image/png": ("png",),
    "image/gif": ("gif",),
    "image/webp": ("webp",),
    "image/avif": ("avif",),
    "image/bmp": ("bmp",),
}
_BY_SUFFIX = {suffix: media_type for media_type, suffixes in _TYPES.items() for suffix in suffixes}


def media_type(name: str | None) -> str:
    """The type of an audio, a video or an image made of dots; DOWNLOAD for everything else."""
    stem, dot, suffix = (name or "").rpartition(".")
    return _BY_SUFFIX.get(suffix.lower(), DOWNLOAD) if stem and dot else DOWNLOAD
