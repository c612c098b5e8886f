"""Does a release tell of every change, and a signature of who released it?"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from release_cases import objects, passed, table

from synthgen.cli import main
from synthgen.errors import DataError, EnvironmentProblem, UsageError
from synthgen.folders import sha256_of
from synthgen.phantom import phantom
from synthgen.releasing import CHECKSUMS, SIGNATURE, release, verify
from synthgen.signing import LENGTH, PASSPHRASE, signer

WORDS = "correct horse"


def keys(folder, name, private=None, *, passphrase=None):
    """The two PEM files of a key, as openssl writes them."""
    private = private or Ed25519PrivateKey.generate()
    closed = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    paths = folder / f"{name}.pem", folder / f"{name}.public.pem"
    paths[0].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, closed))
    paths[1].write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return paths


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return keys(tmp_path_factory.mktemp("keys"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return keys(tmp_path_factory.mktemp("keys"), "theirs")


@pytest.fixture(scope="module", params=["table", "pictures", "objects"])
def released(request, ours, tmp_path_factory):
    """A signed release of each form."""
    folder = tmp_path_factory.mktemp("signed")
    made = {
        "table": table,
        "pictures": lambda: phantom(3, seed=3, size=32),
        "objects": lambda: objects(folder / "made"),
    }
    data = made[request.param]()
    return release(passed(data), data, folder / "release", sign_key=ours[0])


@pytest.fixture
def signed(ours, tmp_path):
    """A signed release of a table that a test may change."""
    data = table()
    return release(passed(data), data, tmp_path / "release", sign_key=ours[0])


@contextlib.contextmanager
def changed(path):
    """Whatever a test does to a file, it is undone."""
    whole = path.read_bytes()
    try:
        yield whole
    finally:
        path.write_bytes(whole)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_signed_release_verifies_with_and_without_the_public_key(released, ours):
    verify(released)
    verify(released, public_key=ours[1])
    assert len((released / SIGNATURE).read_bytes()) == LENGTH


def test_a_flipped_byte_is_found_in_every_file(released, ours):
    paths = files(released)
    assert {CHECKSUMS, SIGNATURE} < {path.name for path in paths}
    for path in paths:
        with changed(path) as whole:
            for place in {0, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
                path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
                with pytest.raises(DataError):
                    verify(released, public_key=ours[1])
    verify(released, public_key=ours[1])


def test_without_the_public_key_only_a_flipped_signature_goes_unseen(released):
    for path in files(released):
        with changed(path) as whole:
            path.write_bytes(whole[:9] + bytes([whole[9] ^ 1]) + whole[10:])
            if path.name == SIGNATURE:
                verify(released)
            else:
                with pytest.raises(DataError):
                    verify(released)


def test_a_removed_and_a_renamed_file_are_found_whichever_it_is(released, ours):
    for path in files(released):
        aside, renamed = released.with_name("aside"), path.with_name(path.name + ".bak")
        for elsewhere in (aside, renamed):
            path.rename(elsewhere)
            with pytest.raises(DataError):
                verify(released, public_key=ours[1])
            elsewhere.rename(path)
    verify(released, public_key=ours[1])


def test_an_added_file_is_found_wherever_it_is(released):
    images = [released / "images"] if (released / "images").is_dir() else []
    for place in (released, *images, released / "new"):
        place.mkdir(exist_ok=True)
        added = place / "000000.png"
        added.write_bytes(b"")
        with pytest.raises(DataError, match=r"holds .*000000"):
            verify(released)
        added.unlink()
        added.symlink_to(released.parent)
        with pytest.raises(DataError, match=r"holds .*000000"):
            verify(released)
        added.unlink()
    (released / "new").rmdir()
    verify(released)


def test_who_writes_the_checksums_again_is_found_by_the_signature(signed, ours):
    (signed / "data.csv").write_text("id,age\n1,2\n")
    text = "".join(f"{sha256_of(p)}  {p.name}\n" for p in files(signed) if p.name not in (CHECKSUMS, SIGNATURE))
    (signed / CHECKSUMS).write_text(text)
    verify(signed)  # checksums alone tell of accidents
    with pytest.raises(DataError, match=r"signature is not one of these checksums.*'ours.public.pem'"):
        verify(signed, public_key=ours[1])


def test_another_key_and_no_signature_are_found(signed, ours, theirs):
    with pytest.raises(DataError, match="signature is not one of"):
        verify(signed, public_key=theirs[1])
    (signed / SIGNATURE).write_bytes(b"x" * 65)
    with pytest.raises(DataError, match=r"is no signature: it has 65 bytes"):
        verify(signed)
    (signed / SIGNATURE).unlink()
    verify(signed)
    with pytest.raises(DataError, match=r"'release' is not signed"):
        verify(signed, public_key=ours[1])


def test_openssl_agrees(ours, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on this machine")

    def call(*arguments):
        return subprocess.run([openssl, *arguments], capture_output=True, text=True, cwd=tmp_path).returncode

    assert call("genpkey", "-algorithm", "ed25519", "-out", "key.pem") == 0
    assert call("pkey", "-in", "key.pem", "-pubout", "-out", "public.pem") == 0
    data = table()
    folder = release(passed(data), data, tmp_path / "out", sign_key=tmp_path / "key.pem")
    verify(folder, public_key=tmp_path / "public.pem")
    signature = ("-rawin", "-in", folder / CHECKSUMS, "-sigfile", folder / SIGNATURE)
    assert call("pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", *signature) == 0
    assert call("pkeyutl", "-verify", "-pubin", "-inkey", ours[1], *signature) != 0


def test_an_encrypted_key_needs_its_passphrase_from_the_environment(tmp_path, monkeypatch):
    path = keys(tmp_path, "closed", passphrase=WORDS)[0]
    monkeypatch.delenv(PASSPHRASE, raising=False)
    with pytest.raises(UsageError, match=rf"'closed.pem' is encrypted: .*{PASSPHRASE}"):
        signer(path)
    monkeypatch.setenv(PASSPHRASE, "wrong")
    with pytest.raises(UsageError, match=rf"'closed.pem' does not open with {PASSPHRASE}"):
        signer(path)
    monkeypatch.setenv(PASSPHRASE, WORDS)
    assert len(signer(path)(b"x")) == LENGTH
    monkeypatch.setenv(PASSPHRASE, "not needed")
    assert len(signer(keys(tmp_path, "open")[0])(b"x")) == LENGTH


def test_a_key_that_cannot_be_used_is_named_before_anything_is_written(ours, tmp_path):
    data = table()
    other = keys(tmp_path, "curve", generate_private_key(SECP256R1()))
    (tmp_path / "text.pem").write_text("no key")
    wrong = {tmp_path / "absent.pem": "cannot read", tmp_path / "text.pem": "no private key", ours[1]: "no private key"}
    for path, words in {**wrong, other[0]: "not of Ed25519"}.items():
        with pytest.raises(UsageError, match=words) as raised:
            release(passed(data), data, tmp_path / "out", sign_key=path)
        assert str(tmp_path) not in str(raised.value)
    assert not (tmp_path / "out").exists()
    folder = release(passed(data), data, tmp_path / "out", sign_key=ours[0])
    for path, words in {ours[0]: "no public key", other[1]: "not of Ed25519", tmp_path / "no": "cannot read"}.items():
        with pytest.raises(UsageError, match=words):
            verify(folder, public_key=path)


def test_a_missing_extra_is_said(signed, ours, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    data = table()
    with pytest.raises(EnvironmentProblem, match="extra sign"):
        release(passed(data), data, tmp_path / "other", sign_key=ours[0])
    with pytest.raises(EnvironmentProblem, match="extra sign"):
        verify(signed, public_key=ours[1])
    verify(signed)


def test_the_key_does_not_leave_the_house(released, ours):
    secret = ours[0].read_bytes().splitlines()[1]
    assert all(secret not in path.read_bytes() for path in files(released))


def test_the_command_line_signs_and_verifies(ours, theirs, tmp_path, capsys):
    data = table()
    passed(data).save(tmp_path / "audit")
    data.frame.to_parquet(tmp_path / "made.parquet")

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        return stopped.value.code, "".join(capsys.readouterr())

    made = ("release", tmp_path / "audit", "--data", tmp_path / "made.parquet", "-o", tmp_path / "out")
    assert run(*made, "--sign-key", tmp_path / "absent.pem")[0] == 2
    assert not Path(tmp_path / "out").exists()
    assert run(*made, "--sign-key", ours[0])[0] == 0
    code, said = run("verify", tmp_path / "out", "--public-key", ours[1])
    assert (code, "signature is by" in said) == (0, True)
    code, said = run("verify", tmp_path / "out")
    assert (code, "not checked" in said) == (0, True)
    code, said = run("verify", tmp_path / "out", "--public-key", theirs[1])
    assert (code, "signature is not one of" in said) == (5, True)
