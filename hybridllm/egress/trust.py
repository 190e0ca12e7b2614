"""Whom to trust over TLS."""

from __future__ import annotations

import ssl

from hybridllm.errors import BadRequest

__all__ = ["tls_context"]


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """A context that checks certificates and host names against a file, or else the public authorities of ``certifi``.

    Args:
        ca_file: The operator's file.

    Raises:
        BadRequest: The file cannot be read.
    """
    import certifi

    # Made by hand, since `ssl.create_default_context` writes session keys to the file that SSLKEYLOGFILE names and trusts
    # what SSL_CERT_FILE and SSL_CERT_DIR name. This one checks certificates and host names too (Python's documentation,
    # "SSLContext", PROTOCOL_TLS_CLIENT).
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # said here, so that no OPENSSL_CONF can lower it
    try:
        context.load_verify_locations(cafile=ca_file or certifi.where())
    except (OSError, ssl.SSLError):
        raise BadRequest(
            f"remote.ca_file cannot be read: {ca_file!r}.",
            "Give a PEM file with certificates.",
            field="remote.ca_file",
        ) from None
    return context
