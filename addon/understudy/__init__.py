"""understudy: a mitmproxy addon that lets another credential or model answer when the first one cannot.

The packages are floors, listed from bottom to top: each imports from those above it in this list only, and from their
faces (``tests/test_floors.py`` reads the list). A floor's docstring says what it decides and where to begin reading.

    codec        bytes in, values out: encodings, JSON edits, frames, YAML with lines, masks
    model        what the owner has, and what is said of a reply, as frozen values
    dialects     wire formats
    requests     which requests are calls, what they ask for, how they are rewritten
    replies      what came back: unwrapped errors, hints, holding
    sockets      WebSockets on which calls are made: messages, lanes, frames
    config       the pool file, and where secrets come from
    rules        the rule language, rule files, and the judgement of a reply
    limits       what good replies say of a credential's limits, and what is left of them
    suspensions  the cache of what is out of rotation, its ladder, the state on disk
    failover     the decision machine: whom to ask, what a reply costs, when to stop
    drill        failures on purpose: what a target answers then, and what became of the calls
    shared       several processes with one pool: what one has learnt holds for the others
    proxy        the only floor that knows mitmproxy's internals
    inspection   what people and machines see of calls
    flows        saved flows and HARs, read in bounded memory and masked
    authoring    from a saved reply to a rule
    whatif       recorded calls through the current pool and rules
    control      asking a running proxy: socket, commands, page
    demo         the demonstration
    cli          the command ``understudy``

At the root stand ``addon`` (hooks), ``options``, ``main`` (the script for ``mitmdump -s``) and ``reply`` (a name that
Python rules of earlier releases import).
"""

__version__ = "0.1.0"
