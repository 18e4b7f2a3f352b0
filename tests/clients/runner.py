"""What the clients in Python share: a list of behaviours, each run and told in one line.

`only=WORD` in the arguments runs those whose name has the word; D2K_CLIENTS_TRACE shows where one failed, and how long each took."""

import os
import sys
import time
import traceback

found = []


def behaviour(name):
    def add(function):
        found.append((name, function))
        return function

    return add


def until(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def same(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


def run(after=lambda: None):
    """Runs the behaviours, and `after` behind each; how many have failed."""
    only = [word.removeprefix("only=") for word in sys.argv[1:] if word.startswith("only=")]
    traced, failed = "D2K_CLIENTS_TRACE" in os.environ, 0
    for name, function in found:
        if only and not any(word in name for word in only):
            continue
        begin = time.monotonic()
        try:
            function()
            print(f"ok - {name}", flush=True)
        except Exception as error:
            failed += 1
            frames = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(frames) if frame.name == "_"), 0)
            words = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"not ok - {name}: line {line}: {words[:900]}", flush=True)
            if traced:
                traceback.print_exc()
        if traced:
            print(f"# {time.monotonic() - begin:.2f} s", flush=True)
        after()
    return failed
