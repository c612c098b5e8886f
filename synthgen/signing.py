"""Who released it? A detached Ed25519 signature, made with a local key and checked with its public half.

    openssl genpkey -algorithm ed25519 -out key.pem        # add -aes256 for a key under a passphrase
    openssl pkey -in key.pem -pubout -out public.pem

The signature is the 64 bytes of RFC 8032, so it can be checked without synthgen:

    openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in CHECKSUMS.sha256 -sigfile CHECKSUMS.sha256.sig
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from synthgen.errors import DataError, EnvironmentProblem, UsageError

PASSPHRASE = "SYNTHGEN_SIGN_PASSPHRASE"  # noqa: S105 - the name of an environment variable
LENGTH = 64  # bytes of a signature

_MISSING = "signatures need the extra sign: pip install 'synthgen-health[sign]'"


def signer(key: str | Path) -> Callable[[bytes], bytes]:
    """What signs bytes with the private key in a PEM file; the passphrase of an encrypted one is in the environment.

    Raises:
        UsageError: no such file, not an Ed25519 private key, or its passphrase is absent or wrong.
        EnvironmentProblem: the extra `sign` is missing.

    >>> signer("no-such-key.pem")
    Traceback (most recent call last):
    synthgen.errors.UsageError: cannot read the key 'no-such-key.pem': No such file or directory
    """
    path = Path(key)
    pem = _read(path)
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise EnvironmentProblem(_MISSING) from error
    passphrase = os.environ.get(PASSPHRASE, "").encode() if b"ENCRYPTED" in pem else None
    if passphrase == b"":
        raise UsageError(f"the key {path.name!r} is encrypted: put its passphrase into the environment as {PASSPHRASE}")
    try:
        private = load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        opened = "is no private key in PEM" if passphrase is None else f"does not open with {PASSPHRASE}"
        raise UsageError(f"the key {path.name!r} {opened}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"the key {path.name!r} is not of Ed25519: openssl genpkey -algorithm ed25519 -out key.pem")
    return private.sign


def check_signature(signature: bytes, content: bytes, *, public_key: str | Path) -> None:
    """Make sure that this is the signature of this content by the owner of a public key (PEM).

    Raises:
        DataError: it is not.
        UsageError: no such file, or not an Ed25519 public key.
        EnvironmentProblem: the extra `sign` is missing.
    """
    path = Path(public_key)
    pem = _read(path)
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise EnvironmentProblem(_MISSING) from error
    try:
        public = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"the key {path.name!r} is no public key in PEM: openssl pkey -pubout makes one") from error
    if not isinstance(public, Ed25519PublicKey):
        raise UsageError(f"the key {path.name!r} is not of Ed25519")
    try:
        public.verify(signature, content)
    except InvalidSignature as error:
        raise DataError(f"the signature is not one of these checksums by the owner of {path.name!r}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the key {path.name!r}: {error.strerror}") from error
