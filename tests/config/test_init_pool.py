"""A first pool file: what is found, that it can be used, and that no secret gets anywhere."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.cli import command_line
from understudy.config import init_pool, pool_file
from understudy.config.vendors import VENDORS
from understudy.dialects import DIALECTS

KEY = "sk-found-0123456789abcdef"


def written(environ: dict[str, str]) -> str:
    """The pool file for an environment."""
    return init_pool.pool_text(init_pool.find(environ)[0])


def test_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {
        "HOME": str(tmp_path),
        "ANTHROPIC_API_KEY": KEY + "1",
        "OPENAI_API_KEY_WORK": KEY + "2",
        "OPENAI_API_KEY": KEY + "3",
        "GROQ_API_KEY": KEY + "4",
        "DEEPSEEK_API_KEY": KEY + "5",
    }
    assert init_pool.init(None, environ) == 0
    path = tmp_path / ".config" / "understudy" / "pool.yaml"
    assert (
        path.read_text()
        == """\
# Written by `understudy init`. What may stand here: docs/pool-file.md of understudy.
upstreams:
  openai:    {dialect: openai, url: https://api.openai.com/v1}
  anthropic: {dialect: anthropic, url: https://api.anthropic.com}
  deepseek:  {dialect: openai, url: https://api.deepseek.com}
  groq:      {dialect: openai, url: https://api.groq.com/openai/v1}
credentials:
  openai:      {upstream: openai, secret: {env: OPENAI_API_KEY}}
  openai-work: {upstream: openai, secret: {env: OPENAI_API_KEY_WORK}}
  anthropic:   {upstream: anthropic, secret: {env: ANTHROPIC_API_KEY}}
  deepseek:    {upstream: deepseek, secret: {env: DEEPSEEK_API_KEY}}
  groq:        {upstream: groq, secret: {env: GROQ_API_KEY}}
routes:
  "deepseek-*": [deepseek]
  # groq: name its models, for example `MODEL: [groq]`
  # A model with substitutes, tried in this order. A substitute may be another model of the same dialect:
  # MODEL: [openai, {credential: openai-work, model: ANOTHER-MODEL}]
  # Every other model that a tool asks for:
  default: [openai, openai-work, anthropic]
"""
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    out, err = capsys.readouterr()
    assert f"{path}: written" in out
    assert "OPENAI_API_KEY_WORK is the credential openai-work for https://api.openai.com/v1" in out
    assert "Next: say in its `routes` which candidates may answer" in out
    assert err == ""
    assert KEY not in out + err + path.read_text()


@pytest.mark.parametrize("there", ["file", "link"])
def test_it_never_writes_over_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text("mine") if there == "file" else path.symlink_to(tmp_path / "nowhere")
    assert init_pool.init(path, {"OPENAI_API_KEY": KEY}) == 1
    assert "is there already" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["pool.yaml"]
    assert there == "link" or path.read_text() == "mine"


def test_with_nothing_found_it_says_what_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"HOME": str(tmp_path), "OPENAI_API_KEY": " ", "OPENAI_API_KEY_FILE": KEY, "MY_KEY": KEY}
    assert init_pool.init(None, environ) == 1
    out, err = capsys.readouterr()
    assert "OPENAI_API_KEY' is empty" in err
    assert "Known are OPENAI_API_KEY, ANTHROPIC_API_KEY" in err
    assert KEY not in out + err
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert init_pool.init(tmp_path / "file" / "pool.yaml", {"OPENAI_API_KEY": KEY}) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_without_a_home_folder_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", ".")
    assert init_pool.init(None, {"OPENAI_API_KEY": KEY}) == 1
    assert "set HOME, or name a pool file" in capsys.readouterr().err


def test_a_folder_that_others_can_write_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The proxy would refuse the file there."""
    tmp_path.chmod(0o777)
    assert init_pool.init(tmp_path / "pool.yaml", {"OPENAI_API_KEY": KEY}) == 1
    assert "chmod go-w" in capsys.readouterr().err


def test_numbers_words_and_doubles() -> None:
    environ = {
        "OPENAI_API_KEY_10": "k10", "OPENAI_API_KEY_2": "k2", "OPENAI_API_KEY1": "k1", "OPENAI_API_KEY_MY_HOME": "home",
        "OPENAI_API_KEY_1": "other", "OPENAI_API_KEY_BASE_URL": "no", "OPENAI_API_KEYS": "no", "OPENAI_API_KEY_": "no",
        "GEMINI_API_KEY": "same", "GOOGLE_API_KEY": "same", "GOOGLE_API_KEY_2": "more",
    }  # fmt: skip
    found, doubtful = init_pool.find(environ)
    assert [(each.variable, each.name) for each in found] == [
        ("OPENAI_API_KEY_MY_HOME", "openai-my-home"),
        ("OPENAI_API_KEY1", "openai-1"),
        ("OPENAI_API_KEY_1", "openai-1-2"),
        ("OPENAI_API_KEY_2", "openai-2"),
        ("OPENAI_API_KEY_10", "openai-10"),
        ("GEMINI_API_KEY", "gemini"),
        ("GOOGLE_API_KEY_2", "gemini-2"),
    ]
    assert doubtful == ["GOOGLE_API_KEY holds the same as GEMINI_API_KEY"]


ENDPOINT = "https://mine.openai.azure.com"
PLACES = {"AZURE_OPENAI_ENDPOINT": ENDPOINT, "AWS_REGION": "eu-west-1"}
"""Where the vendors are whose address differs from customer to customer."""


@pytest.mark.parametrize(
    ("environ", "upstream"),
    [
        ({"CO_API_KEY": KEY}, "cohere: {dialect: cohere, url: https://api.cohere.com}"),
        ({"COHERE_API_KEY": KEY}, "cohere: {dialect: cohere, url: https://api.cohere.com}"),
        ({"OLLAMA_API_KEY": KEY}, "ollama: {dialect: ollama, url: https://ollama.com}"),
        ({"ANTHROPIC_AUTH_TOKEN": "sk-ant-oat01-x"}, "anthropic: {dialect: anthropic, url: https://api.anthropic.com}"),
        (
            {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": ENDPOINT + "/"},
            f"azure-openai: {{dialect: azure-openai, url: {ENDPOINT}/openai/v1}}",
        ),
        (
            {"AZURE_OPENAI_API_KEY_2": KEY, "AZURE_OPENAI_ENDPOINT": ENDPOINT, "OPENAI_API_VERSION": "2024-10-21"},
            f"azure-openai: {{dialect: azure-openai, url: {ENDPOINT}, api_version: 2024-10-21}}",
        ),
        (
            {
                "AZURE_OPENAI_API_KEY": KEY,
                "AZURE_OPENAI_ENDPOINT": ENDPOINT + "/openai/v1/",
                "AZURE_OPENAI_API_VERSION": "2025-04-01-preview",
                "OPENAI_API_VERSION": "2024-10-21",
            },
            f"azure-openai: {{dialect: azure-openai, url: {ENDPOINT}, api_version: 2025-04-01-preview}}",
        ),
        (
            {"AWS_BEARER_TOKEN_BEDROCK": KEY, "AWS_DEFAULT_REGION": "us-east-1"},
            "bedrock: {dialect: bedrock, url: https://bedrock-runtime.us-east-1.amazonaws.com}",
        ),
        (
            {"AWS_BEARER_TOKEN_BEDROCK": KEY, "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"},
            "bedrock: {dialect: bedrock, url: https://bedrock-runtime.eu-west-1.amazonaws.com}",
        ),
    ],
)
def test_a_vendor_alone_makes_a_file_that_passes_the_check(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environ: dict[str, str],
    upstream: str,
) -> None:
    """Each variable names its upstream, the secret is only named, and the proxy would take the file without a word."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "pool.yaml"
    assert init_pool.init(path, environ) == 0
    text = path.read_text()
    assert f"upstreams:\n  {upstream}\ncredentials:\n" in text
    assert f"secret: {{env: {next(iter(environ))}}}" in text
    out, err = capsys.readouterr()
    assert (next(iter(environ.values())) in out + err + text, err) == (False, "")
    assert command_line.main(["check", str(path)]) == 0
    assert "warning" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        (
            {"AZURE_OPENAI_API_KEY_WORK": KEY},
            "AZURE_OPENAI_API_KEY_WORK, because AZURE_OPENAI_ENDPOINT is not set: "
            "set it to that of the resource, such as https://NAME.openai.azure.com",
        ),
        (
            {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": f"https://me:{KEY}@x.example"},
            "AZURE_OPENAI_API_KEY, because AZURE_OPENAI_ENDPOINT is no https address: "
            "set it to one such as https://NAME.openai.azure.com",
        ),
        (
            {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": ENDPOINT, "OPENAI_API_VERSION": KEY},
            "AZURE_OPENAI_API_KEY, because OPENAI_API_VERSION is no version: "
            "set it to one such as 2024-10-21, or unset it",
        ),
        (
            {"AWS_BEARER_TOKEN_BEDROCK": KEY, "AWS_REGION": " "},
            "AWS_BEARER_TOKEN_BEDROCK, because neither AWS_REGION nor AWS_DEFAULT_REGION is set: "
            "set one to a region such as us-east-1",
        ),
        (
            {"AWS_BEARER_TOKEN_BEDROCK": KEY, "AWS_REGION": f"us-east-1.evil.example/{KEY}"},
            "AWS_BEARER_TOKEN_BEDROCK, because AWS_REGION is no region: set it to one such as us-east-1",
        ),
        (
            {"ANTHROPIC_AUTH_TOKEN": KEY},
            "ANTHROPIC_AUTH_TOKEN holds neither sk-ant-oat... nor sk-ant-api..., so it is no credential of anthropic: "
            "a gateway's belongs to an upstream of its own, with the gateway's url: add both to the pool file",
        ),
    ],
)
def test_what_is_left_out_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], environ: dict[str, str], reason: str
) -> None:
    """With what to set; the others are written."""
    path = tmp_path / "pool.yaml"
    assert init_pool.init(path, environ) == 1
    err = capsys.readouterr().err
    assert f"understudy init: left out: {reason}\n" in err
    assert f"no usable API key in the environment, so nothing was written to {path}" in err
    assert init_pool.init(path, {**environ, "OPENAI_API_KEY": "other"}) == 0
    out, err = capsys.readouterr()
    assert err == f"understudy init: left out: {reason}\n"
    assert KEY not in out + err + path.read_text()


@pytest.mark.parametrize(
    ("written", "url"),
    [
        (ENDPOINT, f"{ENDPOINT}/openai/v1"),
        (f" {ENDPOINT}/openai/ ", f"{ENDPOINT}/openai/v1"),
        (f"{ENDPOINT}/openai/v1", f"{ENDPOINT}/openai/v1"),
        (f"{ENDPOINT}/v1/", f"{ENDPOINT}/openai/v1"),
        (f"{ENDPOINT}/openai/deployments/a/chat/completions?api-version=1", f"{ENDPOINT}/openai/v1"),
        ("https://x.services.ai.azure.com/api/projects/p", "https://x.services.ai.azure.com/api/projects/p/openai/v1"),
        ("https://gateway.corp:8443/openai-team", "https://gateway.corp:8443/openai-team/openai/v1"),
        ("http://gateway.corp", None),
        ("mine.openai.azure.com", None),
        ("https://", None),
        ("https://[", None),
        ("https://a:b", None),
        ("https://a/{b", None),
        ("https://a/../b", None),
        ("https://a//b", None),
    ],
)
def test_the_address_of_a_resource_of_azure(written: str, url: str | None) -> None:
    """Whichever of the urls that Azure shows was copied; nothing that a pool file could not hold."""
    found, doubtful = init_pool.find({"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": written})
    assert [each.vendor.url for each in found] == ([url] if url else [])
    assert len(doubtful) == (not url)


@pytest.mark.parametrize("version", ["", "v1", "preview", "latest"])
def test_a_version_without_a_date_means_the_v1_path(version: str) -> None:
    environ = {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": ENDPOINT, "OPENAI_API_VERSION": version}
    [found] = init_pool.find(environ)[0]
    assert (found.vendor.url, found.vendor.api_version) == (f"{ENDPOINT}/openai/v1", "")


def test_a_key_with_an_endpoint_of_its_own_goes_there() -> None:
    """The same suffix belongs together; two keys for one resource share an upstream, one key twice is a double."""
    environ = {
        "AZURE_OPENAI_API_KEY": "k1", "AZURE_OPENAI_API_KEY_2": "k2", "AZURE_OPENAI_API_KEY_3": "k1",
        "AZURE_OPENAI_API_KEY_WORK": "k1", "AZURE_OPENAI_ENDPOINT": ENDPOINT,
        "AZURE_OPENAI_ENDPOINT_WORK": "https://work.openai.azure.com",
    }  # fmt: skip
    found, doubtful = init_pool.find(environ)
    assert {each.name: (each.vendor.name, each.vendor.url) for each in found} == {
        "azure-openai": ("azure-openai", f"{ENDPOINT}/openai/v1"),
        "azure-openai-2": ("azure-openai", f"{ENDPOINT}/openai/v1"),
        "azure-openai-work": ("azure-openai-work", "https://work.openai.azure.com/openai/v1"),
    }
    assert doubtful == ["AZURE_OPENAI_API_KEY_3 holds the same as AZURE_OPENAI_API_KEY"]
    pool = pool_file.parse(init_pool.pool_text(found), Path("/pool.yaml"), environ, DIALECTS)
    assert set(pool.upstreams) == {"azure-openai", "azure-openai-work"}
    assert [choice.credential.name for choice in pool.routes["default"].choices] == ["azure-openai", "azure-openai-2"]


def test_relatives_in_the_default_route_are_told() -> None:
    """One may stand in for the other, which the owner may not want for all models."""
    environ = {"OPENAI_API_KEY": "a", "AZURE_OPENAI_API_KEY": "b", "ANTHROPIC_API_KEY": "c", **PLACES}
    text = written({**environ, "AWS_BEARER_TOKEN_BEDROCK": "d"})
    told = [line.strip(" #").partition(", ")[0] for line in text.splitlines() if "take it out of" in line]
    assert told == [
        "azure-openai takes calls to openai too",
        "bedrock takes calls to anthropic too",
        "openai takes calls to azure-openai too",
    ]
    assert "default: [openai, anthropic, azure-openai, bedrock]" in text


@pytest.mark.parametrize(
    ("secret", "headers"),
    [
        ("sk-ant-oat01-x", {"authorization": "Bearer sk-ant-oat01-x"}),
        ("sk-ant-api03-x", {"x-api-key": "sk-ant-api03-x"}),
        ("token-of-a-gateway", None),
    ],
)
def test_a_token_for_anthropic_goes_out_as_the_vendor_takes_it(secret: str, headers: dict[str, str] | None) -> None:
    """The header follows from how the secret begins; one that would go out in another form is left out."""
    found, _ = init_pool.find({"ANTHROPIC_AUTH_TOKEN": secret})
    sent = [dict(DIALECTS[each.vendor.dialect].credential_headers(secret)) for each in found]
    assert sent == ([headers] if headers else [])


names = st.sampled_from([vendor.variable for vendor in VENDORS])
suffixes = st.sampled_from(["", "_1", "2", "_WORK", "_a_b", "_FILE", "é", "_no", "_null", "_1e5"])
values = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)
values |= values.map("sk-ant-oat01-{}".format)
addresses = st.text(st.characters(codec="ascii")) | st.from_regex(r"https://[a-z0-9./:?#_-]{1,30}", fullmatch=True)
versions = st.sampled_from(["2024-10-21", "2025-04-01-preview", "v1", "2024", "1e3", "{}", " "])
places = st.fixed_dictionaries(
    {},
    optional={
        "AZURE_OPENAI_ENDPOINT": st.just(ENDPOINT) | addresses,
        "AZURE_OPENAI_ENDPOINT_WORK": st.just(f"{ENDPOINT}:8443") | addresses,
        "OPENAI_API_VERSION": versions,
        "AWS_REGION": st.sampled_from(["eu-west-1", "", "us", "x y"]),
    },
)


@given(st.dictionaries(st.builds(str.__add__, names, suffixes), values, min_size=1), places)
def test_whatever_it_writes_can_be_used(keys: dict[str, str], places: dict[str, str]) -> None:
    """Every set of variables makes a pool that has no problem, and in which every credential of a vendor is used."""
    environ = {**keys, **places}
    found, _ = init_pool.find(environ)
    if found:
        text = init_pool.pool_text(found)
        pool = pool_file.parse(text, Path("/pool.yaml"), environ, DIALECTS)
        assert set(pool.credentials) == {each.name for each in found}
        assert {each.vendor.dialect for each in found} == {each.dialect for each in pool.upstreams.values()}


def test_every_vendor_is_of_a_known_dialect() -> None:
    environ = {each.variable: (each.begins[0] if each.begins else "") + each.variable for each in VENDORS} | PLACES
    pool = pool_file.parse(written(environ), Path("/pool.yaml"), environ, DIALECTS)
    assert len(pool.credentials) == len(VENDORS)
    assert {choice.credential.name for choice in pool.routes["grok-*"].choices} == {"xai"}


# -- more keys for a file that is there ------------------------------------------------------------------------------

WRITTEN = """\
# Our pool.
upstreams:
    openai: {dialect: openai, url: https://api.openai.com/v1}   # the company's account
    gemini:
        dialect: openai
        url: https://gateway.example/gemini/v1
# Who pays.
credentials:
    mine: {upstream: openai, secret: {env: OPENAI_API_KEY}}
    gate:
        upstream: gemini
        secret: {env: GATE}

routes:   # in this order
    gpt-5: [mine]
    default: [mine, gate]
"""


def adding(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], **keys: str) -> tuple[int, str, str]:
    """What `init --add` makes of a file, its exit status, and what it says."""
    path = tmp_path / "pool.yaml"
    path.touch(mode=0o600)
    path.write_text(text)
    status = init_pool.init(path, {"OPENAI_API_KEY": "sk-1", "GATE": "sk-2", **keys}, add=True)
    said = capsys.readouterr()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["pool.yaml"]
    assert not [key for key in keys.values() if key in path.read_text() + said.out + said.err]
    return status, path.read_text(), said.out + said.err


def test_new_keys_are_added_and_every_line_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the end of their sections, as the file is indented; a taken name is not taken twice."""
    keys = {"OPENAI_API_KEY_WORK": "sk-work-0123", "GEMINI_API_KEY": "AIza-0123", "GEMINI_API_KEY_2": "AIza-0124"}
    keys |= {"GROQ_API_KEY": "gsk-0125"}
    status, text, said = adding(tmp_path, WRITTEN, capsys, **keys)
    new = [line for line in text.splitlines() if line not in WRITTEN.splitlines()]
    assert [line for line in text.splitlines() if line not in new] == WRITTEN.splitlines()
    assert new == [
        "    gemini-2: {dialect: gemini, url: https://generativelanguage.googleapis.com}",
        "    groq: {dialect: openai, url: https://api.groq.com/openai/v1}",
        "    openai-work: {upstream: openai, secret: {env: OPENAI_API_KEY_WORK}}",
        "    gemini: {upstream: gemini-2, secret: {env: GEMINI_API_KEY}}",
        "    gemini-2: {upstream: gemini-2, secret: {env: GEMINI_API_KEY_2}}",
        "    groq: {upstream: groq, secret: {env: GROQ_API_KEY}}",
    ]
    assert (
        text.splitlines().index(new[0])
        == WRITTEN.splitlines().index("        url: https://gateway.example/gemini/v1") + 1
    )
    assert status == 0
    assert "added, and every line that was there is as it was:" in said
    assert "OPENAI_API_KEY_WORK is the credential openai-work" in said
    assert "Next: name the new credentials as candidates in its routes." in said
    assert adding(tmp_path, text, capsys, **keys) == (
        0,
        text,
        f"{tmp_path}/pool.yaml names every key in the environment already: nothing was added\n",
    )


BLOCK = "mine:\n    upstream: openai\n    secret:\n      env: "
ENDS = {
    "one entry, and no line break behind it": "mine: {upstream: openai, secret: {env: OPENAI_API_KEY}}",
    "an entry that repeats another": "first: &a {upstream: openai, secret: {env: OPENAI_API_KEY}}\n  mine: *a\n",
    "a text over several lines": "mine: {upstream: openai, secret: {env:\n    OPENAI_API_KEY}}\n",
    "a block of text": f"{BLOCK}>-\n        OPENAI_API_KEY\n",
    "a block of text, and no line break": f"{BLOCK}|-\n        OPENAI_API_KEY",
    "a block of text, and a comment": f"{BLOCK}|-\n        OPENAI_API_KEY\n# End\n",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_new_keys_stand_behind_the_last_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str], end: str) -> None:
    """However that is written."""
    before = "routes: {default: [mine]}\nupstreams:\n  openai: {dialect: openai, url: https://api.openai.com/v1}\n"
    before += f"credentials:\n  {end}"
    status, text, said = adding(tmp_path, before, capsys, OPENAI_API_KEY_WORK="sk-work-0123")
    entry, comment, rest = before.partition("# End")
    new = "  openai-work: {upstream: openai, secret: {env: OPENAI_API_KEY_WORK}}\n"
    assert text == f"{entry.rstrip()}\n{new}{comment}{rest}", said
    assert status == 0


def test_what_is_left_out_of_what_is_added_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = {"OPENAI_API_KEY_WORK": "sk-work-0123", "OPENAI_API_KEY_HOME": "sk-work-0123"}
    status, _, said = adding(tmp_path, WRITTEN, capsys, **keys)
    assert status == 0
    assert "understudy init: left out: OPENAI_API_KEY_WORK holds the same as OPENAI_API_KEY_HOME\n" in said


def test_a_file_that_is_added_to_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text(WRITTEN)
    path.chmod(0o640)
    assert init_pool.init(path, {"OPENAI_API_KEY": "sk-1", "GATE": "sk-2", "XAI_API_KEY": "sk-3"}, add=True) == 0
    assert "XAI_API_KEY" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_that_cannot_be_replaced_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is left beside it."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    status, text, said = adding(tmp_path, WRITTEN, capsys, XAI_API_KEY="sk-xai-0123")
    assert (status, text) == (1, WRITTEN)
    assert said == f"understudy init: {tmp_path}/pool.yaml cannot be written (No space left on device)\n"


@pytest.mark.parametrize(
    "text",
    [
        "upstreams: {openai: {dialect: openai, url: https://api.openai.com/v1}}\n"
        "credentials: {mine: {upstream: openai, secret: {env: OPENAI_API_KEY}}}\nroutes: {default: [mine]}\n",
        "upstreams:\n  openai: {dialect: opnai, url: https://api.openai.com/v1}\n",
        "upstreams: {openai: {dialect: openai, url: https://api.openai.com/v1}}\ncredentials:\n"
        "  one: {upstream: openai, secret: &s {env: GATE}}\n  two:\n    upstream: openai\n    secret: *s\n"
        "routes: {default: [one, two]}\n",
    ],
    ids=["one line", "broken", "an alias in the last entry"],
)
def test_a_file_that_cannot_be_added_to_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """And is told why."""
    status, after, said = adding(tmp_path, text, capsys, OPENAI_API_KEY_WORK="sk-work-0123")
    assert (status, after) == (1, text)
    assert "these keys cannot be added by a program" in said or ":2: unknown dialect" in said
