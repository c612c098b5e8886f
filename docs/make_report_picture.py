"""Write docs/report.png, the first screen of a report.

Run it:  python docs/make_report_picture.py synthgen-demo/table/audit/report.html

Needs a Chromium on the PATH (Debian: chromium).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--hide-scrollbars",
)

report = Path(sys.argv[1]).resolve()
picture = Path(__file__).with_name("report.png").resolve()
with tempfile.TemporaryDirectory() as profile:
    command = ["chromium", *OPTIONS, f"--user-data-dir={profile}", "--window-size=1240,1000", f"--screenshot={picture}"]
    subprocess.run([*command, report.as_uri()], check=True, capture_output=True)
