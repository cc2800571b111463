"""What Streamlit runs anew for every look and every click."""

import sys

from aiops_cli.dashboard.frame import show

show(sys.argv[1])
