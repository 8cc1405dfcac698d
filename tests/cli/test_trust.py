"""The CA bundles: what a tool trusted before stays trusted, the proxy's CA is added, and nothing else gets in."""

from __future__ import annotations

import stat
from pathlib import Path

import certifi
import pytest

from understudy.cli import launch, trust


def pem(name: str) -> bytes:
    """Something that looks like a certificate."""
    return b"-----BEGIN CERTIFICATE-----\n" + name.encode() + b"\n-----END CERTIFICATE-----\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bundles").mkdir()
    return tmp_path / "bundles"


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(pem("PROXY"))
    return path


def test_each_variable_keeps_what_it_pointed_to(ca: Path, folder: Path, tmp_path: Path) -> None:
    environ = {}
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE"):
        (tmp_path / name).write_bytes(pem(name))
        environ[name] = str(tmp_path / name)
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "0.pem").write_bytes(pem("FROM_DIR"))
    environ["SSL_CERT_DIR"] = f"{tmp_path / 'nowhere'}:{tmp_path / 'dir'}"
    chosen = {name: Path(path).read_bytes() for name, path in trust.bundles(ca, environ, folder).items()}
    first = pem("SSL_CERT_FILE") + pem("FROM_DIR") + pem("PROXY")
    assert chosen == {
        "SSL_CERT_FILE": first,
        "REQUESTS_CA_BUNDLE": pem("REQUESTS_CA_BUNDLE") + pem("PROXY"),
        "CURL_CA_BUNDLE": first,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": first,
        "AWS_CA_BUNDLE": pem("AWS_CA_BUNDLE") + pem("PROXY"),
        "NODE_EXTRA_CA_CERTS": pem("NODE_EXTRA_CA_CERTS") + pem("PROXY"),
    }


def test_without_variables_the_systems_roots_are_kept(ca: Path, folder: Path) -> None:
    chosen = trust.bundles(ca, {"SSL_CERT_FILE": "/nowhere"}, folder)
    roots = trust.certificates(Path(chosen["SSL_CERT_FILE"]).read_bytes())
    assert len(roots) > 20
    assert roots[-1] == pem("PROXY")
    assert Path(chosen["NODE_EXTRA_CA_CERTS"]).read_bytes() == pem("PROXY")


def test_roots_are_found_without_a_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "SYSTEM", ())
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: _NoPaths)
    assert len(trust.system_roots()) > 20


class _NoPaths:
    openssl_cafile = openssl_capath = "/nowhere"


def test_a_private_key_never_gets_into_a_bundle(ca: Path, folder: Path) -> None:
    """mitmproxy keeps its key and its certificate in one file, and people point variables at it."""
    ca.write_bytes(b"-----BEGIN PRIVATE KEY-----\nKEY\n-----END PRIVATE KEY-----\n# note\n" + pem("PROXY"))
    chosen = trust.bundles(ca, {"SSL_CERT_FILE": str(ca)}, folder)
    assert {Path(path).read_bytes() for path in chosen.values()} == {pem("PROXY")}


def test_line_ends_and_cut_files(tmp_path: Path) -> None:
    text = pem("A").replace(b"\n", b"\r\n") + b"junk" + pem("B")[:-5]
    assert trust.certificates(text) == [pem("A")]


def test_bundles_are_private_and_not_written_twice_over(ca: Path, folder: Path) -> None:
    """The same content has the same name, so a tool that runs keeps the file that it knows."""
    before = trust.bundles(ca, {}, folder)
    assert trust.bundles(ca, {}, folder) == before
    assert len(list(folder.iterdir())) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_ca_without_a_certificate_is_refused(ca: Path, folder: Path) -> None:
    ca.write_text("nothing")
    with pytest.raises(OSError, match="no certificate"):
        trust.bundles(ca, {}, folder)


def test_upstreams_are_trusted_as_the_system_does(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway of a company is reached: certifi's roots, the system's, and those that the variables name."""
    known, system, own = (tmp_path / name for name in ("certifi", "system", "own"))
    for path in (known, system, own):
        path.write_bytes(pem(path.name))
    monkeypatch.setattr(certifi, "where", lambda: str(known))
    monkeypatch.setattr(trust, "SYSTEM", (str(system),))
    made = trust.upstream_roots({"SSL_CERT_FILE": str(own)}, folder)
    assert Path(made).read_bytes() == pem("certifi") + pem("system") + pem("own")
    assert Path(trust.upstream_roots({}, folder)).read_bytes() == pem("certifi") + pem("system")
    system.write_bytes(pem("certifi"))
    assert trust.upstream_roots({}, folder) == ""


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["--set", "ssl_verify_upstream_trusted_ca=/x"], ""),
        (["--set=ssl_verify_upstream_trusted_confdir=/x"], ""),
        ([], "ssl_verify_upstream_trusted_ca: /x\n"),
        ([], ""),
    ],
    ids=["file", "folder", "config.yaml", "nothing"],
)
def test_whom_the_user_trusts_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], settings: str
) -> None:
    (tmp_path / "config.yaml").write_text(settings)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(trust, "upstream_roots", lambda environ, folder: "/made")
    made = launch._roots([*arguments, "--set", f"confdir={tmp_path}"])
    assert made == ([] if arguments or settings else ["--set", "ssl_verify_upstream_trusted_ca=/made"])
