"""The errors of a download; `FetchUnreachable` alone says that trying again may help."""

from __future__ import annotations


class FetchError(Exception):
    """A download that returned no file.

    Messages name the URL's scheme, host and path, never its query, which may hold a signature.
    """


class FetchRefused(FetchError):
    """The URL must not be fetched, or the server's answer is not a file."""


class FetchTooLarge(FetchError):
    """The file is larger than allowed."""


class FetchUnreachable(FetchError):
    """The server did not answer completely in time, or answered that it is busy or failing."""
