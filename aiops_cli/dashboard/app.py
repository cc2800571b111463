"""What Streamlit serves: the pages, behind the guard."""

import json
import sys
from pathlib import Path

from starlette.middleware import Middleware
from streamlit.starlette import App

from aiops_cli.dashboard.guard import Guard

app = App(
    Path(__file__).with_name("script.py"),
    middleware=[Middleware(Guard, public_host=json.loads(sys.argv[1])["public_host"])],
)
