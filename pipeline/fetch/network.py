"""What the environment says of the network: proxies, keys, a mirror; and nothing of it in words.

Belongs here: the client that asks, its name, keys of hosts, and taking secrets out of any text that
may reach a person, a log or a file. Does not belong here: what is asked for or how an answer is
taken (``transfer.py``).

Proxies and certificates are those that other programs use: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY,
NO_PROXY, SSL_CERT_FILE. GEOCAL_MIRROR is the address of a copy of the publishers' files within
one's own network, which holds them under host and path. A mirror is given no key.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import quote, quote_plus, unquote, urlsplit

import httpx

from pipeline.errors import DownloadError
from pipeline.specs.download import Download, HostRule
from pipeline.versions import geocal_version

MIRROR_VARIABLE = "GEOCAL_MIRROR"
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
# A password of one or two characters would be hidden in every word.
_LEAST_SECRET = 3
HIDDEN = "[hidden]"
# A key goes over an open connection only where nobody can listen.
_THIS_MACHINE = ("127.0.0.1", "localhost")


class Network:
    """The way to publishers. ``environ``: the variables of this process."""

    def __init__(self, settings: Download, environ: Mapping[str, str]) -> None:
        self._settings, self._environ = settings, environ
        self._secrets = sorted(self._all_secrets(), key=len, reverse=True)
        self.mirror = environ.get(MIRROR_VARIABLE, "").rstrip("/")
        # Both write whole addresses, keys included, to their logs.
        for library in ("httpx", "httpcore"):
            logging.getLogger(library).setLevel(logging.WARNING)

    def client(self) -> httpx.Client:
        """A client of one connection per host. Raises DownloadError for a proxy that cannot be."""
        settings = self._settings
        try:
            return httpx.Client(
                headers={
                    "User-Agent": f"geocal/{geocal_version()} (python-httpx/{httpx.__version__})",
                    # The length that a publisher states is that of the file itself.
                    "Accept-Encoding": "identity",
                    "Accept": "*/*",
                },
                timeout=httpx.Timeout(settings.read_seconds, connect=settings.connect_seconds),
                limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
                follow_redirects=True,
                max_redirects=settings.redirects,
                event_hooks={"request": [self._refuse_downgrade]},
            )
        except (ValueError, TypeError, OSError, ImportError, httpx.InvalidURL) as error:
            raise DownloadError(
                f"The settings of the network cannot be used: {self.hide(str(error))}",
                where="variables of the environment: HTTPS_PROXY, HTTP_PROXY, SSL_CERT_FILE ...",
                expected="addresses such as http://proxy.example:3128, and files that exist",
                remedy="Correct the variable, or unset it",
            ) from None

    def route(self, address: str) -> str:
        """The address to ask, with mirror and key where there are; never to be shown."""
        parts = urlsplit(address)
        if self.mirror:
            query = f"?{parts.query}" if parts.query else ""
            return f"{self.mirror}/{parts.netloc}{parts.path}{query}"
        rule = self.rule(address)
        safe = parts.scheme == "https" or parts.hostname in _THIS_MACHINE
        key = self._environ.get(rule.key_variable, "").strip() if rule and safe else ""
        if not rule or not key:
            return address
        mark = "&" if parts.query else "?"
        return f"{address}{mark}{rule.key_parameter}={quote(key, safe='')}"

    def rule(self, address: str) -> HostRule | None:
        """What the host of ``address`` wants beside the request."""
        return self._settings.hosts.get(urlsplit(address).hostname or "")

    def has_key(self, address: str) -> bool:
        """Whether a key is sent along to ``address``."""
        return self.route(address) != address and not self.mirror

    def hide(self, text: str) -> str:
        """``text`` without keys and without names and passwords of proxies."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def _all_secrets(self) -> set[str]:
        found = {self._environ.get(rule.key_variable, "") for rule in self._settings.hosts.values()}
        variables = [*_PROXIES, *(name.lower() for name in _PROXIES), MIRROR_VARIABLE]
        for value in (self._environ.get(name, "") for name in variables):
            # Not urlsplit: a proxy's address may be no address at all, and still hold a password.
            user, at, _ = value.rpartition("://")[2].rpartition("@")
            found |= {user, user.partition(":")[2]} if at else set()
        spelt = {s for f in found for s in (f, unquote(f), quote(f, safe=""), quote_plus(f))}
        return {secret for secret in spelt if len(secret) >= _LEAST_SECRET}

    def _refuse_downgrade(self, request: httpx.Request) -> None:
        """A redirection from https to plain http could be anybody's answer."""
        first = request.extensions.get("asked_by", "")
        if first == "https" and request.url.scheme != "https":
            raise DownloadError(
                f"The publisher sends on to plain http at {request.url.host}",
                where="an answer over https",
                expected="https all the way",
                remedy="Download the file with a browser and look where it comes from",
            )
