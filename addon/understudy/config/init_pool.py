"""``understudy init``: a first pool file from the API keys that stand in the environment, named and never copied.

Which models a vendor serves follows from the model's name only for some. So the first vendor of a dialect gets its
``default`` route, for whatever a tool may call; the others get a glob where their models have names of their own, and
the file says where to write the rest.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from understudy.codec.yaml_nodes import ConfigError
from understudy.config.pool_file import default_pool_path, load, parse
from understudy.config.secrets.sources import EnvSecret
from understudy.config.vendors import VENDORS, NotPlacedError, Vendor
from understudy.model import Pool, SecretError, Upstream

SUFFIX = re.compile(r"_?([0-9]+)|_([A-Za-z0-9_]+)")
"""What may stand behind a vendor's variable: a number, or a word such as WORK."""
NO_KEYS = frozenset({"FILE", "PATH", "URL", "BASE", "BASE_URL", "HELPER", "HELPER_TTL_MS", "CMD", "COMMAND", "NAME"})
"""Words behind a variable that say that it holds something else."""


@dataclass(frozen=True, slots=True)
class Found:
    """A variable that holds a key, and the name of the credential that it becomes."""

    vendor: Vendor
    variable: str
    name: str


def init(file: Path | None, environ: Mapping[str, str], *, add: bool = False) -> int:
    """Write a pool file and say what it holds. Never writes over one; ``add``: adds to one that is there."""
    try:
        path = (file or default_pool_path(environ)).absolute()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    if add and path.exists():
        return _add(path, environ)
    if path.exists() or path.is_symlink():
        mend = "`understudy init --add` adds new keys to it, or name another"
        print(f"understudy init: {path} is there already and stays as it is: {mend}", file=sys.stderr)
        return 1
    found, doubtful = find(environ)
    for problem in doubtful:
        print(f"understudy init: left out: {problem}", file=sys.stderr)
    if not found:
        print(_nothing(path), file=sys.stderr)
        return 1
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as written:
            written.write(pool_text(found))
    except OSError as error:
        print(f"understudy init: {path} cannot be written ({error.strerror}): name another file", file=sys.stderr)
        return 1
    print(f"{path}: written, for you alone to read. It names these variables and holds no secret:")
    for each in found:
        print(f"  {each.variable} is the credential {each.name} for {each.vendor.url}")
    return _confirm(path, environ)


def _add(path: Path, environ: Mapping[str, str]) -> int:
    """Add the keys that a pool file does not name yet; every line that is there stays as it is."""
    from understudy.dialects import DIALECTS  # here: starting the command should not load what it may not need

    try:
        pool = load(path, environ, DIALECTS)
        text = path.read_text("utf-8")
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    everything, doubtful = find(environ)
    for problem in doubtful:
        print(f"understudy init: left out: {problem}", file=sys.stderr)
    known = {repr(each.secret) for each in pool.credentials.values()}
    found = _named_anew([each for each in everything if repr(EnvSecret(each.variable, environ)) not in known], pool)
    if not found:
        print(f"{path} names every key in the environment already: nothing was added")
        return 0
    try:
        longer = added(text, found, pool)
        parse(longer, path, environ, DIALECTS)
        _replace(path.resolve(), longer)
    except (ConfigError, NotPlacedError) as error:
        print(
            f"understudy init: these keys cannot be added by a program ({error}): write them by hand", file=sys.stderr
        )
        return 1
    except OSError as error:
        print(f"understudy init: {path} cannot be written ({error.strerror})", file=sys.stderr)
        return 1
    print(f"{path}: added, and every line that was there is as it was:")
    for each in found:
        print(f"  {each.variable} is the credential {each.name} for {each.vendor.url}")
    print("Next: name the new credentials as candidates in its routes.")
    return 0


def _replace(path: Path, text: str) -> None:
    """Put a whole file in the place of another, with the permissions of that. Raises OSError."""
    descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as written:
            written.write(text)
        os.chmod(beside, path.stat().st_mode & 0o777)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def _named_anew(found: Iterable[Found], pool: Pool) -> list[Found]:
    """The same with names that are free in this pool; an upstream with the same address is used as it is called."""
    named: list[Found] = []
    renamed: dict[tuple[str, str], str] = {}
    for each in found:
        vendor = each.vendor
        there = next(
            (up for up in pool.upstreams.values() if vendor.dialect in up.dialects and _same(up, vendor.url)), None
        )
        if there is not None:
            vendor = replace(vendor, name=there.name)
        elif vendor.name in pool.upstreams:
            taken = {*pool.upstreams, *(other.vendor.name for other in named)}
            place = vendor.dialect, vendor.url
            vendor = replace(vendor, name=renamed.setdefault(place, _free_name(vendor.name, "", taken)))
        name = _free_name(each.name, "", {*pool.credentials, *(other.name for other in named)})
        named.append(Found(vendor, each.variable, name))
    return named


def _same(upstream: Upstream, url: str) -> bool:
    parts = urlsplit(url)
    return (upstream.scheme, upstream.host, upstream.base_path) == (
        parts.scheme,
        parts.hostname,
        parts.path.rstrip("/"),
    )


def added(text: str, found: Iterable[Found], pool: Pool) -> str:
    """The text of a pool file with these keys at the end of its sections. Raises NotPlacedError."""
    found = list(found)
    vendors = {each.vendor.name: each.vendor for each in found if each.vendor.name not in pool.upstreams}
    upstreams = [f"{name}: {_upstream_value(vendor)}" for name, vendor in vendors.items()]
    credentials = [f"{each.name}: {{upstream: {each.vendor.name}, secret: {{env: {each.variable}}}}}" for each in found]
    for section, lines in (("credentials", credentials), ("upstreams", upstreams)):
        text = _append(text, section, lines) if lines else text
    return text


def _append(text: str, section: str, lines: Iterable[str]) -> str:
    """Add lines at the end of a section that is written one entry a line. Raises NotPlacedError."""
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    entries = document.value if isinstance(document, yaml.MappingNode) else []
    node = next((value for key, value in entries if key.value == section), None)
    if not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
        raise NotPlacedError(f"`{section}` is not written with one entry a line")
    first, last = node.value[0][0], node.value[-1][1]
    # A block's own end mark stands where the next key begins, behind comments that belong to that.
    end = max(_last_line(last), node.value[-1][0].start_mark.line)
    rows = text.splitlines(keepends=True)
    before = rows[: end + 1]
    if before and not before[-1].endswith("\n"):
        before[-1] += "\n"
    indent = " " * first.start_mark.column
    return "".join([*before, *(f"{indent}{line}\n" for line in lines), *rows[end + 1 :]])


def _last_line(node: yaml.Node) -> int:
    """The last line that a value really stands on."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    mark: yaml.Mark = node.end_mark
    is_block = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")
    return mark.line - 1 if is_block and mark.column == 0 else mark.line


def _upstream_value(vendor: Vendor) -> str:
    version = f", api_version: {vendor.api_version}" if vendor.api_version else ""
    return f"{{dialect: {vendor.dialect}, url: {vendor.url}{version}}}"


def _confirm(path: Path, environ: Mapping[str, str]) -> int:
    """Read the file as the proxy will, so that nothing is promised that will not do."""
    from understudy.dialects import DIALECTS  # here: starting the command should not load what it may not need

    try:
        load(path, environ, DIALECTS)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        "Next: say in its `routes` which candidates may answer for which model, then run `understudy run -- COMMAND`."
    )
    return 0


def find(environ: Mapping[str, str]) -> tuple[list[Found], list[str]]:
    """The keys in the environment in the order of the vendors, and what was left out, with the reason; no values."""
    found: list[Found] = []
    doubtful: list[str] = []
    seen: dict[tuple[str, str], str] = {}
    for vendor in VENDORS:
        for variable, suffix in _variables(vendor, environ):
            try:
                secret = EnvSecret(variable, environ).reveal()
                placed = vendor.placed(variable, secret, environ)
            except (SecretError, NotPlacedError) as error:
                doubtful.append(f"{error}")
                continue
            if other := seen.get((placed.url, secret)):
                doubtful.append(f"{variable} holds the same as {other}")
                continue
            seen[placed.url, secret] = variable
            name = _free_name(vendor.name, suffix, [each.name for each in found])
            found.append(Found(_upstream(placed, name, found), variable, name))
    return found, doubtful


def _upstream(placed: Vendor, name: str, found: Iterable[Found]) -> Vendor:
    """One upstream for each address: the first has the name of its vendor, a further one that of its credential."""
    others = {each.vendor.name: each.vendor for each in found}
    for other in others.values():
        if (other.dialect, other.url) == (placed.dialect, placed.url):
            return other
    return replace(placed, name=name) if placed.name in others else placed


def _variables(vendor: Vendor, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The variables of a vendor and their suffixes in lower case: the plain one first, numbers by their size."""
    own = []
    for variable in environ:
        rest = variable.removeprefix(vendor.variable) if variable.startswith(vendor.variable) else None
        if rest == "":
            own.append((-1, "", variable))
        elif rest and (match := SUFFIX.fullmatch(rest)) and rest.lstrip("_").upper() not in NO_KEYS:
            own.append((int(match[1] or 0), (match[1] or match[2]).lower().replace("_", "-"), variable))
    for _, suffix, variable in sorted(own):
        yield variable, suffix


def _free_name(vendor: str, suffix: str, taken: Iterable[str]) -> str:
    wished = f"{vendor}-{suffix}" if suffix else vendor
    return next(name for name in (wished, *(f"{wished}-{number}" for number in range(2, 1000))) if name not in taken)


def pool_text(found: Iterable[Found]) -> str:
    """The pool file for these keys."""
    found = list(found)
    vendors = {each.vendor.name: each.vendor for each in found}
    width = max(map(len, vendors))
    longest = max(len(each.name) for each in found)
    lines = ["# Written by `understudy init`. What may stand here: docs/pool-file.md of understudy.", "upstreams:"]
    for name, vendor in vendors.items():
        lines.append(f"  {name + ':':<{width + 1}} {_upstream_value(vendor)}")
    lines.append("credentials:")
    for each in found:
        source = f"secret: {{env: {each.variable}}}"
        lines.append(f"  {each.name + ':':<{longest + 1}} {{upstream: {each.vendor.name}, {source}}}")
    lines += ["routes:", *_routes(found, vendors)]
    return "\n".join(lines) + "\n"


def _routes(found: list[Found], vendors: Mapping[str, Vendor]) -> Iterator[str]:
    names = {name: [each.name for each in found if each.vendor.name == name] for name in vendors}
    first: dict[str, str] = {}
    for vendor in vendors.values():
        first.setdefault(vendor.dialect, vendor.name)
    others = [vendor for vendor in vendors.values() if vendor.name not in first.values()]
    for vendor in others:
        for glob in vendor.globs:
            yield f'  "{glob}": [{", ".join(names[vendor.name])}]'
        if not vendor.globs:
            yield f"  # {vendor.name}: name its models, for example `MODEL: [{', '.join(names[vendor.name])}]`"
    yield "  # A model with substitutes, tried in this order. A substitute may be another model of the same dialect:"
    example = found[0]
    stand_in = next((each for each in found[1:] if each.vendor.dialect == example.vendor.dialect), example)
    yield f"  # MODEL: [{example.name}, {{credential: {stand_in.name}, model: ANOTHER-MODEL}}]"
    for giver, taker in _stand_ins([vendors[name] for name in first.values()]):
        yield f"  # {taker} takes calls to {giver} too, under the same name: if it must not, take it out of `default`."
    yield "  # Every other model that a tool asks for:"
    yield f"  default: [{', '.join(name for vendor in first.values() for name in names[vendor])}]"


def _stand_ins(vendors: list[Vendor]) -> Iterator[tuple[str, str]]:
    """Which of these take the calls of which, though they speak another dialect: (whose calls, who takes them)."""
    from understudy.dialects import DIALECTS  # here: starting the command should not load what it may not need

    for giver, taker in itertools.permutations(vendors, 2):
        if giver.dialect in DIALECTS[taker.dialect].relatives:
            yield giver.name, taker.name


def _nothing(path: Path) -> str:
    known = ", ".join(dict.fromkeys(vendor.variable for vendor in VENDORS))
    return (
        f"understudy init: no usable API key in the environment, so nothing was written to {path}: set one, and run "
        f"this again. A number or a word may follow, as in OPENAI_API_KEY_WORK. Known are {known}"
    )
