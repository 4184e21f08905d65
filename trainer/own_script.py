"""A user's script as the command: `main` takes the place of `python -m trainer`, with the script's own parts."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path

from trainer.command_line import SCRIPT
from trainer.parts import OWN

VERBS = ("check", "compare", "convert", "evaluate", "export", "predict", "tune")
IMPORTED = "own_parts_of_"  # how the module of a script is called that was imported for its parts


def main() -> None:
    """The command `python my_script.py key=value ...`: `python -m trainer`, with the script's own parts.

    With the name of a verb first, such as `python my_script.py predict run=DIR images=DIR`, it is that verb. Where
    another process imports the script for its parts (workers, jobs of a sweep), it does nothing.
    """
    frame = inspect.currentframe()
    caller = "" if frame is None or frame.f_back is None else str(frame.f_back.f_globals.get("__name__"))
    if caller == "__mp_main__" or caller.startswith(IMPORTED):
        return
    os.environ[SCRIPT] = _script()
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    verb = first if first in VERBS else None
    if verb is not None:
        del sys.argv[1]
    # Imported here, because Hydra is set up as they are.
    importlib.import_module("trainer.__main__" if verb is None else f"trainer.{verb}").main()


def load_parts() -> None:
    """In a process that a sweep's launcher started: register the parts of the script whose main() started the sweep."""
    script = os.environ.get(SCRIPT)
    if script is None or script == _script() or any(origin.file == script for origin in OWN.values()):
        return
    if not script.endswith(".py"):
        importlib.import_module(script)
        return
    name = f"{IMPORTED}{Path(script).stem}"
    if name in sys.modules or not os.path.isfile(script):
        return
    spec = importlib.util.spec_from_file_location(name, script)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    sys.path.append(str(Path(script).parent))  # of what it imports
    spec.loader.exec_module(module)


def _script() -> str:
    """The script that is run, as an absolute path; of `python -m package.module` that name."""
    running = sys.modules["__main__"]
    spec = getattr(running, "__spec__", None)
    if spec is not None:
        return str(spec.name.removesuffix(".__main__"))
    return os.path.abspath(getattr(running, "__file__", sys.argv[0]))
