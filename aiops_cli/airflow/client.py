"""The three classes needed of `airflow_client`, without the second that importing it takes.

The only place that loads that package.
"""

from __future__ import annotations

import importlib
import sys
import threading
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_PACKAGE = "airflow_client.client"
_import_lock = threading.Lock()


def load_client() -> tuple[Any, Any, Any]:
    """airflow_client's (Configuration, ApiClient, ApiException).

    Importing the package builds all its models, a second's work for three classes. So it is
    imported under stubs that keep its `__init__` from running; they and all that was loaded under
    them leave `sys.modules` again, and whoever imports the package later gets it whole.
    """
    with _import_lock:
        if _PACKAGE not in sys.modules:
            try:
                return load_under_stubs()
            except Exception:  # noqa: BLE001, S110 - whatever another layout of the package breaks
                pass  # in the shortcut, the plain import is right
        package = importlib.import_module(_PACKAGE)
        return package.Configuration, package.ApiClient, package.ApiException


def load_under_stubs() -> tuple[Any, Any, Any]:
    """The shortcut. Raises whatever a package laid out differently makes it raise."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(_PACKAGE)
    before = set(sys.modules)
    try:
        stub = ModuleType(_PACKAGE)
        stub.__path__ = list(spec.submodule_search_locations)
        sys.modules[_PACKAGE] = stub
        # api_client imports the models only to look answers' types up, which is never asked of it.
        models = ModuleType(f"{_PACKAGE}.models")
        sys.modules[models.__name__] = models
        configuration = importlib.import_module(f"{_PACKAGE}.configuration")
        client = importlib.import_module(f"{_PACKAGE}.api_client")
        return configuration.Configuration, client.ApiClient, client.ApiException
    finally:
        for name in set(sys.modules) - before:
            if name.split(".")[0] == "airflow_client":
                del sys.modules[name]
