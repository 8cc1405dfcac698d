"""How wide a refusal of a credential is: whether other models still answer on it (docs/architecture.md, section 5a).

A reply that speaks of the whole credential takes out only its candidate while another upstream model answered on that
credential within ten minutes; a second model that is refused in that time widens it. Bounded; time is handed in.
"""

from __future__ import annotations

from collections import OrderedDict

WINDOW = 600.0
"""Seconds for which an answer or a refusal counts."""
CREDENTIALS = 10_000
"""Credentials that are remembered: those that were heard of last."""
MODELS = 64
"""Upstream models that are remembered for a credential; the one that was heard of least recently is forgotten."""

type Owner = tuple[str, int]
"""A credential's name and how often it has changed."""


class Answers:
    """When each credential last answered, and refused as a whole, by upstream model."""

    def __init__(self) -> None:
        self._heard: OrderedDict[Owner, dict[str, tuple[float | None, float | None]]] = OrderedDict()

    def answered(self, owner: Owner, model: str, now: float) -> None:
        """A generating call was answered."""
        heard = self._of(owner)
        heard[model] = (now, heard.pop(model, (None, None))[1])
        if len(heard) > MODELS:
            _forget_oldest(heard)

    def refused(self, owner: Owner, model: str, now: float) -> None:
        """A reply spoke of the whole credential."""
        heard = self._of(owner)
        heard[model] = (heard.pop(model, (None, None))[0], now)
        if len(heard) > MODELS:
            _forget_oldest(heard)

    def answered_since(self, owner: Owner, since: float, model: str | None = None) -> bool:
        """Whether this model, or any, has answered on the credential at this time or later."""
        heard = self._heard.get(owner, {})
        times = heard.values() if model is None else [heard.get(model, (None, None))]
        return bool([at for at, _ in times if at is not None and at >= since])

    def is_whole(self, owner: Owner, model: str, now: float, besides: Answers | None = None) -> bool:
        """Whether a refusal of this model, that speaks of the whole credential, is to be believed.

        Not while another model's answer is newer than every other model's refusal: it speaks against it.
        ``besides``: who else has heard of the credential.
        """
        heard = [*self._heard.get(owner, {}).items(), *(besides._heard.get(owner, {}).items() if besides else ())]
        others = [times for other, times in heard if other != model]
        answer = max((at for at, _ in others if at is not None and abs(now - at) <= WINDOW), default=None)
        refusal = max((at for _, at in others if at is not None and abs(now - at) <= WINDOW), default=None)
        return answer is None or (refusal is not None and refusal >= answer)

    def _of(self, owner: Owner) -> dict[str, tuple[float | None, float | None]]:
        heard = self._heard.get(owner)
        if heard is None:
            heard = self._heard[owner] = {}
            if len(self._heard) > CREDENTIALS:
                self._heard.popitem(last=False)
        else:
            self._heard.move_to_end(owner)
        return heard


def _forget_oldest(heard: dict[str, tuple[float | None, float | None]]) -> None:
    del heard[next(iter(heard))]
