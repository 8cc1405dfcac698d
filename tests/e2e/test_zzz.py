from .stage import CHAT
from .behaviours import json_reply
def test_zzz(perform):
    stage = perform()
    stage.main.on("x", CHAT.answers())
    r = stage.call(CHAT, "", body=b'{"model": "pair-\\ud800x"}')
    print(r.body)
    print(stage.proxy.log_text())
    raise SystemExit
