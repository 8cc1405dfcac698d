"""Which routes of a pool can never be reached, because another one takes all their aliases.

``Pool.route`` asks globs in the order of their specificity and passes over routes without the dialect of the call. A
glob that is asked later and matches nothing that an earlier one does not match is dead, and so is ``default`` beside
``*``: what its owner meant by it will not happen, so a pool file that has one is refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from understudy.model import Route, is_glob, specificity

type _Gap = tuple[int, bool]
"""What stands between two literal characters of a glob: the least number of characters, and whether more may follow."""


def unreachable(routes: Iterable[Route]) -> Iterator[tuple[str, str, str]]:
    """Yield (name of the route, what is wrong, what to write instead) for each route that is never reached.

    Only globs with the same literal characters are compared. That is exact: a glob with more of them cannot match all
    that one with fewer does, and one with fewer is asked later. Several globs that only together cover another one are
    not looked for: such a file does what it says.
    """
    routes = list(routes)
    globs = sorted((route for route in routes if is_glob(route.pattern)), key=_asked, reverse=True)
    earlier: dict[str, list[tuple[Route, list[_Gap]]]] = defaultdict(list)
    for route in globs:
        literals, gaps = _parts(route.pattern)
        for other, other_gaps in earlier[literals]:
            if _within(gaps, other_gaps) and dialects(route) & dialects(other):
                what = f"`{route.pattern}` is never reached: `{other.pattern}` takes all its aliases"
                yield route.pattern, what, "remove one of the two"
                break
        earlier[literals].append((route, gaps))
    for route in routes:
        for other, other_gaps in earlier[""]:
            if route.is_default and other_gaps == [(0, True)] and dialects(route) & dialects(other):
                shared = ", ".join(sorted(spoken(route) & dialects(other) or dialects(route) & dialects(other)))
                what = f"`default` is never reached for {shared}: `{other.pattern}` takes every alias"
                yield route.pattern, what, "remove one of the two"
                break


def spoken(route: Route) -> set[str]:
    """The dialects of a route's upstreams."""
    return {dialect for choice in route.choices for dialect in choice.credential.upstream.dialects}


def dialects(route: Route) -> set[str]:
    """The dialects whose calls a route has candidates for."""
    upstreams = {choice.credential.upstream for choice in route.choices}
    return {name for upstream in upstreams for name in upstream.all_dialects}


def _asked(route: Route) -> tuple[int, ...]:
    return specificity(route.pattern)


def _parts(glob: str) -> tuple[str, list[_Gap]]:
    """The literal characters of a glob, and the gaps before, between and after them."""
    pieces = list(re.finditer(r"[^*?]", glob))
    edges = [0, *(edge for match in pieces for edge in match.span()), len(glob)]
    between = [glob[start:end] for start, end in list(pairwise(edges))[::2]]
    return "".join(match[0] for match in pieces), [(gap.count("?"), "*" in gap) for gap in between]


def _within(inner: list[_Gap], outer: list[_Gap]) -> bool:
    """Whether each gap of ``inner`` allows nothing that the same gap of ``outer`` does not allow."""
    return all(
        (least >= other_least and other_more) or (least == other_least and more == other_more)
        for (least, more), (other_least, other_more) in zip(inner, outer, strict=True)
    )
